"""Policies that Leyden does not understand: what they let through is asked of Postgres, for each reader."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from integration.test_reading_access import Place, client, heard, placed
from integration.test_writing_access import configured
from leyden.edge.delivery.asking import LOOK_INTERVAL
from leyden.events import QuestionAnswered, QuestionFailed
from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from speaker import SUBSCRIPTION, Running, Speaker, serving, token, until

START_ERROR = pb.SatInStartReplicationResp.ReplicationError

SCHEMA = """
CREATE TABLE docs (id text PRIMARY KEY, owner text, project text, body text);
CREATE TABLE members (id text PRIMARY KEY, project text, person text);
CREATE TABLE bans (person text);
CREATE FUNCTION claim(name text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN RETURN current_setting('request.jwt.claims', true)::jsonb ->> name; END $$;
CREATE FUNCTION belongs(whose text, claims jsonb) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF whose = 'raise' THEN RAISE EXCEPTION 'no'; END IF;
    RETURN whose = claims ->> 'sub';
END $$;
CREATE FUNCTION is_member(what text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN RETURN EXISTS (SELECT FROM public.members WHERE project = what AND person = public.claim('sub')); END $$;
CREATE FUNCTION is_free() RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN RETURN NOT EXISTS (SELECT FROM public.bans WHERE person = public.claim('sub')); END $$;
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON docs FOR SELECT
    USING (belongs(owner, current_setting('request.jwt.claims', true)::jsonb));
GRANT SELECT ON docs, members, bans TO {role};
INSERT INTO docs VALUES ('1', 'alice', 'p', 'a'), ('2', 'bob', 'p', 'b');
"""

MEMBERS = "ALTER POLICY own ON docs USING (is_member(project))"
FREE = "ALTER POLICY own ON docs USING (owner = claim('sub') AND is_free())"


@pytest.fixture
def place(database: str) -> Iterator[Place]:
    with placed(database, SCHEMA, "docs", "members") as place:
        yield place


@pytest.fixture
async def running(database: str, place: Place) -> AsyncIterator[Running]:
    async with serving(configured(database, AUTH_DB_ROLE=place.role)) as running:
        yield running


async def settled(running: Running) -> None:
    """Returns once all questions are answered for what was written so far."""
    core = running.service.core
    assert core is not None
    await core.catch_up()
    questions = core.fanout.questions
    await until(lambda: questions.first_unanswered(questions.known) is None)


async def test_first_rows_and_changes_are_those_that_postgres_lets_through(running: Running, place: Place) -> None:
    async with client(running) as alice, client(running, "bob") as bob:
        assert await alice.subscribe("docs") == ["1"]
        assert await bob.subscribe("docs") == ["2"]
        for statement in (
            "INSERT INTO docs VALUES ('3', 'alice', NULL, 'c')",
            "UPDATE docs SET owner = 'bob' WHERE id = '1'",
            "UPDATE docs SET body = 'of bob' WHERE id = '2'",
            "INSERT INTO docs VALUES ('4', NULL, NULL, 'of nobody')",
            "DELETE FROM docs WHERE id = '3'",
        ):
            place.execute(statement)
            await settled(running)
        assert await heard(alice) == [
            ("insert", ["3", "alice", None, "c"]),
            ("gone", ["1"]),
            ("delete", ["3", "alice", None, "c"]),
        ]
        assert await heard(bob) == [
            ("insert", ["1", "bob", "p", "a"]),
            ("update", ["2", "bob", "p", "of bob"]),
        ]


async def test_a_filter_of_the_client_only_narrows(running: Running) -> None:
    async with client(running) as alice:
        assert await alice.subscribe("docs", "this.owner = 'bob' OR this.body = 'a'") == ["1"]
        assert await alice.subscribe("docs", "this.owner = 'bob'", number=2) == []


async def test_a_version_that_its_reader_may_not_see_is_not_sent_though_the_next_one_may_be(
    running: Running, place: Place
) -> None:
    async with client(running) as alice:
        assert await alice.subscribe("docs") == ["1"]
        with psycopg.connect(running.service.dsn, autocommit=True) as conn:
            for number in range(20):
                conn.execute("UPDATE docs SET owner = 'bob', body = 'secret' WHERE id = '1'")
                conn.execute("UPDATE docs SET owner = 'alice', body = %s WHERE id = '1'", [str(number)])
        found = await heard(alice)
        assert found[-1] in (("insert", ["1", "alice", "p", "19"]), ("update", ["1", "alice", "p", "19"]))
        assert not any("secret" in row for _, row in found)


async def test_rows_move_when_a_table_changes_that_the_policies_look_at(running: Running, place: Place) -> None:
    place.execute(MEMBERS)
    await asyncio.sleep(1.5)
    async with client(running) as alice:
        assert await alice.subscribe("docs") == []
        place.execute("INSERT INTO members VALUES ('m', 'p', 'alice')")
        assert sorted(await heard(alice)) == [("insert", ["1", "alice", "p", "a"]), ("insert", ["2", "bob", "p", "b"])]
        place.execute("UPDATE docs SET project = 'q' WHERE id = '2'")
        await settled(running)
        place.execute("DELETE FROM members")
        assert await heard(alice) == [("gone", ["2"]), ("gone", ["1"])]


async def test_rows_move_a_little_later_when_what_changes_is_not_electrified(running: Running, place: Place) -> None:
    place.execute(FREE)
    await asyncio.sleep(1.5)
    async with client(running) as alice:
        assert await alice.subscribe("docs") == ["1"]
        place.execute("INSERT INTO bans VALUES ('alice')")
        assert await heard(alice, LOOK_INTERVAL + 2) == [("gone", ["1"])]
        place.execute("DELETE FROM bans")
        assert await heard(alice, LOOK_INTERVAL + 2) == [("insert", ["1", "alice", "p", "a"])]


async def test_of_what_a_policy_fails_for_nothing_is_sent(running: Running, place: Place) -> None:
    async with client(running) as alice:
        assert await alice.subscribe("docs") == ["1"]
        place.execute("UPDATE docs SET owner = 'raise' WHERE id = '1'")
        await settled(running)
        place.execute("INSERT INTO docs VALUES ('3', 'alice', NULL, 'c')")
        assert await heard(alice) == [("gone", ["1"]), ("insert", ["3", "alice", None, "c"])]
        assert [(one.table, one.role, one.sqlstate) for one in running.of(QuestionFailed)] == [
            ("docs", place.role, "P0001")
        ]


async def test_where_a_policy_fails_for_all_rows_the_subscription_is_empty(running: Running, place: Place) -> None:
    place.execute("UPDATE docs SET owner = 'raise'")
    async with client(running) as alice:
        assert await alice.subscribe("docs") == []
        place.execute("UPDATE docs SET owner = 'alice' WHERE id = '1'")
        assert await heard(alice) == [("insert", ["1", "alice", "p", "a"])]


LEVEL = "(current_setting('request.jwt.claims')::jsonb ->> 'level')::int"
OWN = "owner = current_setting('request.jwt.claims')::jsonb ->> 'sub'"


@pytest.mark.parametrize(
    ("condition", "is_refused"),
    [
        (f"current_setting('request.jwt.claims')::jsonb ->> 'kind' = 'staff' AND {LEVEL} > 3", False),
        (f"length(body) < {LEVEL}", True),
    ],
)
async def test_whether_a_claim_makes_policies_fail_is_for_postgres_to_say(
    running: Running, place: Place, condition: str, is_refused: bool
) -> None:
    """They are understood, and looked at without Postgres for whom they do not fail."""
    place.execute(f"ALTER POLICY own ON docs USING ({OWN})")
    place.execute(f"CREATE POLICY level ON docs FOR SELECT USING ({condition})")
    await asyncio.sleep(1.5)
    async with (
        client(running, level="none", kind="user") as alice,
        client(running, "bob", level=4, kind="staff") as bob,
    ):
        assert await alice.subscribe("docs") == ([] if is_refused else ["1"])
        assert sorted(await bob.subscribe("docs")) == ["1", "2"]
        assert asked(running) == 1
        place.execute("INSERT INTO docs VALUES ('3', 'alice', NULL, 'c')")
        assert await heard(alice) == ([] if is_refused else [("insert", ["3", "alice", None, "c"])])
        assert await heard(bob) == [("insert", ["3", "alice", None, "c"])]
        assert {one.sqlstate for one in running.of(QuestionFailed)} == ({"22P02"} if is_refused else set())


def asked(running: Running) -> int:
    """How often Postgres was asked because somebody came or something was written."""
    return sum(one.kind != "look" for one in running.of(QuestionAnswered))


async def test_equal_readers_are_asked_for_once(running: Running, place: Place) -> None:
    async with client(running, iat=int(time.time())) as alice, running.speaker() as tablet:
        await tablet.authenticate(token("alice", jti="other"), "tablet-of-alice")
        await tablet.start()
        for one in (alice, tablet):
            assert await one.subscribe("docs") == ["1"]
        assert asked(running) == 1
        place.execute("UPDATE docs SET body = 'new' WHERE id = '1'")
        for one in (alice, tablet):
            assert await heard(one) == [("update", ["1", "alice", "p", "new"])]
        assert asked(running) == 2


async def test_others_are_not_held_up(running: Running, place: Place) -> None:
    place.execute("ALTER POLICY own ON docs USING (pg_sleep(body::float) IS NOT NULL AND owner = claim('sub'))")
    place.execute("UPDATE docs SET body = '0'")
    place.execute("CREATE POLICY everything ON members USING (true)")
    await asyncio.sleep(1.5)
    async with client(running) as alice, client(running, "bob") as bob:
        assert await alice.subscribe("docs") == ["1"]
        assert await bob.subscribe("members") == []
        with psycopg.connect(running.service.dsn) as conn:
            conn.execute("UPDATE docs SET body = '2' WHERE id = '1'")
            conn.execute("INSERT INTO members VALUES ('m', 'p', 'alice')")
        began = time.monotonic()
        assert (await heard(bob, 1))[0] == ("insert", ["m", "p", "alice"])
        assert time.monotonic() - began < 1.9
        assert asked(running) == 1
        assert await heard(alice, 4) == [("update", ["1", "alice", "p", "2"])]


async def test_a_renewed_token_with_other_claims_ends_the_connection(running: Running, place: Place) -> None:
    async with client(running, b="a") as alice:
        assert await alice.subscribe("docs") == ["1"]
        await alice.authenticate(token("alice", b="b"), "device-of-alice")
        assert (await alice.closed())[0] == 1012


async def test_a_policy_or_a_function_that_is_another_one_now_ends_the_connection(
    running: Running, place: Place
) -> None:
    for change in (
        "ALTER POLICY own ON docs USING (is_member(owner))",
        "CREATE OR REPLACE FUNCTION is_member(what text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END'",
    ):
        async with client(running) as alice:
            await alice.subscribe("docs")
            place.execute(change)
            assert (await alice.closed())[0] == 1012


async def answer_to(speaker: Speaker) -> int:
    """The error with which going on with its subscription is answered; 0 for none."""
    await speaker.authenticate(token("alice"), "device-of-alice")
    request = pb.SatInStartReplicationReq(lsn=speaker.lsn, subscription_ids=[SUBSCRIPTION])
    answer = await speaker.call(rpc.START_REPLICATION, request)
    return int(pb.SatInStartReplicationResp.FromString(answer.message).err.code)


async def test_who_comes_back_soon_goes_on(running: Running, place: Place) -> None:
    async with client(running) as alice:
        await alice.subscribe("docs")
    place.execute("UPDATE docs SET owner = 'bob' WHERE id = '1'")
    place.execute("UPDATE docs SET owner = 'alice' WHERE id = '2'")
    async with running.speaker() as again:
        again.lsn = alice.lsn
        assert await answer_to(again) == 0
        assert await heard(again) == [("gone", ["1"]), ("insert", ["2", "alice", "p", "b"])]


async def test_after_a_restart_a_client_starts_afresh(database: str, place: Place) -> None:
    config = configured(database, AUTH_DB_ROLE=place.role)
    async with serving(config) as running, client(running) as alice:
        assert await alice.subscribe("docs") == ["1"]
    place.execute("UPDATE docs SET owner = 'alice' WHERE id = '2'")
    async with serving(config) as running:
        async with running.speaker() as again:
            again.lsn = alice.lsn
            assert await answer_to(again) == START_ERROR.SUBSCRIPTION_NOT_FOUND
        async with client(running) as alice:
            assert sorted(await alice.subscribe("docs")) == ["1", "2"]
