"""What Postgres refuses, what is retried, and what is applied only once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from leyden import events
from leyden.model import ClientInsert, ClientUpdate, Flaw
from leyden.postgres.clients import ClientBelongsToOther, ClientStore
from leyden.postgres.sessions import session_conninfo
from leyden.postgres.writing import rejections
from leyden.postgres.writing.writer import Outcome

CLIENT = "11111111-1111-4111-8111-111111111111"
FUTURE = 5_000_000_000_000


@pytest.fixture
async def shop(world: Any) -> Any:
    await world.electrify(
        "CREATE TABLE customer (id text PRIMARY KEY, name text NOT NULL, email text)",
        "CREATE TABLE sale (n int PRIMARY KEY, customer_id text NOT NULL REFERENCES customer)",
    )
    await world.sql("INSERT INTO customer VALUES ('a', 'Ann', 'ann@example.org')")
    return world


async def refused(world: Any) -> list[tuple[Any, ...]]:
    return await world.sql("SELECT client_id, lsn, sqlstate, message, ops FROM leyden.rejected ORDER BY id")


async def lsn(world: Any) -> bytes:
    ((stored,),) = await world.sql("SELECT lsn FROM leyden.client_uploads WHERE client_id = %s", CLIENT)
    return bytes(stored)


async def test_a_refused_upload_leaves_nothing_behind_but_its_record(shop: Any) -> None:
    outcome = await shop.apply(
        shop.insert("customer", id="b", name="Bob"), shop.insert("sale", n="1", customer_id="nobody"), lsn=4
    )
    assert outcome is Outcome.REFUSED
    assert len(await shop.rows("customer")) == 1
    assert await shop.tags("customer", "b") is None
    ((client, at, sqlstate, message, ops),) = await refused(shop)
    assert (client, bytes(at), sqlstate) == (CLIENT, b"\0\0\0\4", "23503")
    assert "sale_customer_id_fkey" in message
    assert "nobody" not in message
    assert ops[1] == {"op": "insert", "table": "sale", "row": {"n": "1", "customer_id": "nobody"}, "observed": []}
    assert shop.events == [events.UploadRefused(CLIENT, "23503")]


async def test_a_row_that_comes_while_an_upload_is_refused_is_part_of_the_truth(shop: Any) -> None:
    await shop.watch()
    async with shop.pool.connection() as another:
        await another.execute("INSERT INTO customer VALUES ('ghost', 'Here', NULL)")
        upload = (
            shop.delete("customer", {"id": "ghost", "name": "G", "email": None}),
            shop.insert("sale", n="1", customer_id="nobody"),
        )
        refusal = asyncio.create_task(shop.apply(*upload, ms=1))
        await shop.blocked()
        await another.commit()
        assert await refusal is Outcome.REFUSED
    (corrections,) = [one["corrections"] for one in await shop.stream() if isinstance(one, dict)]
    assert [one["row"] for one in corrections if one["key"] == ["ghost"]] == [["ghost", "Here", None]]


@pytest.mark.parametrize("once_there", [False, True])
async def test_a_row_that_comes_while_it_is_looked_for_is_found(shop: Any, *, once_there: bool) -> None:
    if once_there:
        await shop.sql("INSERT INTO customer VALUES ('new', '', NULL)")
        await shop.sql("DELETE FROM customer WHERE id = 'new'")
    change = shop.delete("customer", {"id": "new", "name": "", "email": None})
    async with shop.pool.connection() as teller, shop.pool.connection() as another:
        await another.execute("INSERT INTO customer VALUES ('new', 'Here', NULL)")
        telling = asyncio.create_task(rejections._corrections(teller, [change]))
        await shop.blocked()
        await another.commit()
        (told,) = await telling
    assert told["row"] == ["new", "Here", None]


@pytest.mark.parametrize("once_there", [False, True])
async def test_no_row_comes_between_the_truth_and_its_commit(shop: Any, *, once_there: bool) -> None:
    if once_there:
        await shop.sql("INSERT INTO customer VALUES ('new', '', NULL)")
        await shop.sql("DELETE FROM customer WHERE id = 'new'")
    change = shop.delete("customer", {"id": "new", "name": "", "email": None})
    async with shop.pool.connection() as teller, shop.pool.connection() as another:
        async with teller.transaction():
            (told,) = await rejections._corrections(teller, [change])
            insertion = asyncio.create_task(another.execute("INSERT INTO customer VALUES ('new', '', NULL)"))
            await shop.blocked()
        await insertion
    assert told["row"] is None
    assert len(await shop.tags("customer", "new")) == 1


async def test_a_refused_upload_counts_as_done_and_the_next_one_is_applied(shop: Any) -> None:
    refused_once = shop.insert("sale", n="1", customer_id="nobody")
    assert await shop.apply(refused_once, lsn=4) is Outcome.REFUSED
    assert await lsn(shop) == b"\0\0\0\4"
    assert await shop.apply(refused_once, lsn=4) is Outcome.ALREADY_APPLIED
    assert await shop.apply(shop.insert("sale", n="1", customer_id="a"), lsn=5) is Outcome.APPLIED
    assert len(await refused(shop)) == 1


async def test_the_author_of_a_refused_upload_is_sent_the_truth(shop: Any) -> None:
    await shop.sql("INSERT INTO sale VALUES (7, 'a')")
    (tag,) = await shop.tags("sale", "7")
    await shop.watch()
    await shop.apply(
        shop.insert("sale", n="8", customer_id="a"),
        shop.update("sale", {"n": "7", "customer_id": "a"}, customer_id="nobody"),
        shop.delete("customer", {"id": "ghost", "name": "G", "email": None}),
        ms=FUTURE,
    )
    customer, sale = shop.tables["customer"].id, shop.tables["sale"].id
    seen = await shop.stream()
    assert seen == [
        "B",
        *("I", "D", "I", "D"),  # for a moment, in place of the states of what is not there
        {
            "client": CLIENT,
            "ms": FUTURE,
            "corrections": [
                {"table": customer, "key": ["ghost"], "row": None, "tags": []},
                {"table": sale, "key": ["8"], "row": None, "tags": []},
                {"table": sale, "key": ["7"], "row": ["7", "a"], "tags": [tag]},
            ],
        },
        "C",
    ]


@pytest.mark.parametrize(
    ("row", "sqlstate"),
    [
        ({"id": "b", "name": None}, "23502"),
        ({"id": None, "name": "B"}, "23502"),
        ({"id": "b", "name": "\0"}, "22021"),
    ],
)
async def test_constraints_and_broken_text_refuse(shop: Any, row: dict[str, str | None], sqlstate: str) -> None:
    assert await shop.apply(shop.insert("customer", **row)) is Outcome.REFUSED
    ((_, _, state, message, _),) = await refused(shop)
    assert state == sqlstate
    assert "ann@example.org" not in message


async def test_values_that_are_no_text_or_no_value_of_their_type_refuse(shop: Any) -> None:
    tables = shop.tables
    bad = [
        ClientInsert(tables["customer"], {"id": b"b", "name": b"\xff"}, frozenset({"\0"})),
        ClientInsert(tables["customer"], {"id": b"\xff", "name": b"x"}, frozenset()),
        ClientInsert(tables["sale"], {"n": b"secret", "customer_id": b"a"}, frozenset()),
        ClientInsert(tables["sale"], {"n": b"9999999999999", "customer_id": b"a"}, frozenset()),
        ClientUpdate(tables["sale"], {"n": b"1", "customer_id": b"a"}, {"n": b"2", "customer_id": b"a"}, frozenset()),
    ]
    await shop.watch()
    for change in bad:
        assert await shop.apply(change, shop.insert("sale", n="1", customer_id="a")) is Outcome.REFUSED
    records = await refused(shop)
    assert [record[2] for record in records][2:] == ["22P02", "22003", "23000"]
    assert records[0][4][0]["row"]["name"] == {"base64": "/w=="}
    assert not any("secret" in record[3] for record in records)
    sale = shop.tables["sale"].id
    corrections = [entry["corrections"] for entry in await shop.stream() if isinstance(entry, dict)]
    assert {"table": sale, "key": ["secret"], "row": None, "tags": []} in corrections[2]
    assert {"table": sale, "key": ["1"], "row": None, "tags": []} in corrections[2]
    assert {correction["key"][0] for correction in corrections[4]} == {"1", "2"}


async def test_an_upload_with_a_flaw_is_refused_in_its_turn(shop: Any) -> None:
    await shop.watch()
    flawed = shop.upload(shop.update("customer", {"id": "a", "name": "Ann", "email": "x"}, name="Eve"), lsn=4)
    flaw = Flaw("22000", "column name of table customer: a value that is no text")
    assert await shop.write(replace(flawed, flaw=flaw)) is Outcome.REFUSED
    assert await shop.write(replace(flawed, flaw=flaw)) is Outcome.ALREADY_APPLIED
    assert await lsn(shop) == b"\0\0\0\4"
    ((_, _, sqlstate, message, _),) = await refused(shop)
    assert (sqlstate, message) == (flaw.sqlstate, flaw.message)
    first, *_ = [entry for entry in await shop.stream() if isinstance(entry, dict)]
    assert [one["row"] for one in first["corrections"]] == [["a", "Ann", "ann@example.org"]]


async def test_an_applications_trigger_may_refuse(shop: Any) -> None:
    await shop.sql(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'closed on Sundays'; END $$"
    )
    await shop.sql("CREATE TRIGGER no BEFORE INSERT ON sale FOR EACH ROW EXECUTE FUNCTION no()")
    assert await shop.apply(shop.insert("sale", n="1", customer_id="a")) is Outcome.REFUSED
    assert [(record[2], record[3]) for record in await refused(shop)] == [("P0001", "closed on Sundays")]


async def test_a_write_that_a_trigger_swallows_is_refused(shop: Any) -> None:
    await shop.sql("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$")
    await shop.sql("CREATE TRIGGER no BEFORE INSERT ON sale FOR EACH ROW EXECUTE FUNCTION no()")
    assert await shop.apply(shop.insert("sale", n="1", customer_id="a")) is Outcome.REFUSED
    assert await shop.tags("sale", "1") is None


async def test_a_constraint_deferred_to_the_commit_refuses(world: Any) -> None:
    await world.electrify(
        "CREATE TABLE node (id text PRIMARY KEY, next text REFERENCES node DEFERRABLE INITIALLY DEFERRED)"
    )
    assert await world.apply(world.insert("node", id="a", next="b")) is Outcome.REFUSED
    assert await world.rows("node") == []
    both = (world.insert("node", id="a", next="b"), world.insert("node", id="b", next="a"))
    assert await world.apply(*both) is Outcome.APPLIED


async def test_a_table_that_is_gone_refuses_without_corrections_for_it(shop: Any) -> None:
    change = shop.insert("sale", n="1", customer_id="a")
    await shop.sql("SELECT leyden.disable('sale')")
    await shop.sql("DROP TABLE sale")
    assert await shop.apply(change, shop.insert("customer", id="b", name="B")) is Outcome.REFUSED
    assert [record[2] for record in await refused(shop)] == ["42P01"]


async def test_an_upload_is_applied_once(shop: Any) -> None:
    first = shop.upload(shop.insert("customer", id="b", name="B"), lsn=3)
    assert await shop.write(first) is Outcome.APPLIED
    await shop.sql("DELETE FROM customer WHERE id = 'b'")
    await shop.watch()
    assert await shop.write(first) is Outcome.ALREADY_APPLIED
    assert await shop.apply(shop.insert("customer", id="b", name="B"), lsn=2) is Outcome.ALREADY_APPLIED
    assert len(await shop.rows("customer")) == 1
    assert await shop.stream() == []
    assert shop.events == [events.UploadApplied(CLIENT, 1)]


async def test_a_client_that_counts_from_the_beginning_again_is_heard(shop: Any) -> None:
    await shop.apply(shop.insert("customer", id="b", name="B"), lsn=3, ms=100)
    await shop.apply(shop.insert("customer", id="c", name="C"), lsn=4, ms=90)
    # what was applied before stays applied once, also what a clock that was set back made look later
    assert await shop.apply(shop.insert("customer", id="x", name="X"), lsn=3, ms=100) is Outcome.ALREADY_APPLIED
    # but its database is new now
    assert await shop.apply(shop.insert("customer", id="d", name="D"), lsn=1, ms=101) is Outcome.APPLIED
    assert await shop.apply(shop.insert("customer", id="e", name="E"), lsn=2, ms=102) is Outcome.APPLIED
    assert await shop.apply(shop.insert("customer", id="x", name="X"), lsn=1, ms=101) is Outcome.ALREADY_APPLIED
    assert [row[0] for row in await shop.rows("customer")] == ["a", "b", "c", "d", "e"]


async def test_an_author_who_has_missed_the_echo_gets_it_again_with_the_rows_of_now(shop: Any) -> None:
    upload = shop.upload(
        shop.insert("customer", id="b", name="B"), shop.insert("customer", id="c", name="C"), lsn=3, ms=7
    )
    await shop.write(upload)
    await shop.sql("DELETE FROM customer WHERE id = 'b'")
    await shop.sql("UPDATE customer SET name = 'by Postgres' WHERE id = 'c'")
    before = await shop.sql("SELECT xmin, * FROM customer"), await shop.sql("SELECT xmin, * FROM leyden.row_state")
    await shop.watch()
    assert await shop.write(replace(upload, echo_missed=True)) is Outcome.ALREADY_APPLIED
    tags = await shop.tags("customer", "c")
    table = shop.tables["customer"].id
    corrections = [
        {"table": table, "key": ["b"], "row": None, "tags": []},
        {"table": table, "key": ["c"], "row": ["c", "by Postgres", None], "tags": tags},
    ]
    assert await shop.stream() == ["B", {"client": CLIENT, "ms": 7, "corrections": corrections}, "C"]
    assert (
        await shop.sql("SELECT xmin, * FROM customer"),
        await shop.sql("SELECT xmin, * FROM leyden.row_state"),
    ) == before
    assert await lsn(shop) == b"\0\0\0\3"


async def test_echoes_are_missed_until_the_last_upload_is_sent_again_or_a_later_one(shop: Any) -> None:
    store = ClientStore(shop.pool)
    uploads = [shop.upload(shop.insert("sale", n=str(n), customer_id="a"), lsn=n, ms=n) for n in (1, 2, 3)]
    for upload in uploads[:2]:
        assert await shop.write(upload) is Outcome.APPLIED

    async def missed() -> bool:
        return (await store.bind(CLIENT, "user")).echo_missed

    assert not await missed()
    await store.miss_echoes(CLIENT)
    again = [replace(upload, echo_missed=True) for upload in uploads]
    assert await shop.write(again[0]) is Outcome.ALREADY_APPLIED
    assert await missed()
    assert await shop.write(again[1]) is Outcome.ALREADY_APPLIED
    assert not await missed()
    await store.miss_echoes(CLIENT)
    assert await shop.write(again[2]) is Outcome.APPLIED
    assert not await missed()
    await store.forget(CLIENT)
    assert await missed()


async def test_an_upload_of_an_earlier_connection_does_not_prove_that_echoes_were_heard(shop: Any) -> None:
    store = ClientStore(shop.pool)
    first, second = (shop.upload(shop.insert("sale", n=str(n), customer_id="a"), lsn=n, ms=n) for n in (1, 2))
    assert await shop.write(first) is Outcome.APPLIED
    await store.miss_echoes(CLIENT)
    assert await shop.write(second) is Outcome.APPLIED  # was not sent on a connection that asked for all
    assert (await store.bind(CLIENT, "user")).echo_missed


async def test_an_author_who_has_missed_that_an_upload_was_refused_is_put_right_again(shop: Any) -> None:
    upload = shop.upload(shop.insert("sale", n="1", customer_id="nobody"), lsn=4, ms=7)
    assert await shop.write(upload) is Outcome.REFUSED
    await shop.watch()
    assert await shop.write(replace(upload, echo_missed=True)) is Outcome.ALREADY_APPLIED
    corrections = [{"table": shop.tables["sale"].id, "key": ["1"], "row": None, "tags": []}]
    assert await shop.stream() == ["B", "I", "D", {"client": CLIENT, "ms": 7, "corrections": corrections}, "C"]
    assert len(await refused(shop)) == 1


async def test_nobody_else_is_told_of_an_upload(shop: Any) -> None:
    upload = shop.upload(shop.insert("customer", id="b", name="B"), lsn=3)
    await shop.write(upload)
    await shop.watch()
    with pytest.raises(ClientBelongsToOther):
        await shop.write(replace(upload, user_id="other", echo_missed=True))
    assert await shop.stream() == []


async def test_an_upload_under_another_users_client_id_has_no_effect(shop: Any) -> None:
    await ClientStore(shop.pool).bind(CLIENT, "somebody else")
    with pytest.raises(ClientBelongsToOther):
        await shop.apply(shop.insert("customer", id="b", name="B"))
    assert len(await shop.rows("customer")) == 1
    assert await lsn(shop) == b""


@pytest.mark.parametrize("client", ["", "postgres_1", "a@b"])
async def test_a_client_id_that_cannot_be_an_origin_is_a_mistake_of_the_caller(shop: Any, client: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a tag"):
        await shop.apply(client=client)


async def test_an_empty_upload_is_echoed(shop: Any) -> None:
    await shop.watch()
    assert await shop.apply(ms=5) is Outcome.APPLIED
    assert await shop.stream() == ["B", {"client": CLIENT, "ms": 5, "corrections": []}, "C"]


async def test_an_insert_that_races_with_postgres_is_resolved_against_its_row(shop: Any, database: str) -> None:
    async with await psycopg.AsyncConnection.connect(session_conninfo(database)) as application:
        await application.execute("INSERT INTO customer VALUES ('b', 'by Postgres')")
        upload = asyncio.create_task(shop.apply(shop.insert("customer", id="b", name="by client"), ms=FUTURE))
        await shop.blocked()
        await application.commit()
        assert await upload is Outcome.APPLIED
    assert ("b", "by client", None) in await shop.rows("customer")
    tags = await shop.tags("customer", "b")
    assert len(tags) == 2
    assert f"{CLIENT}@{FUTURE}" in tags
    assert await refused(shop) == []


@pytest.mark.parametrize(("lost", "outcome"), [(4, Outcome.APPLIED), (1000, Outcome.REFUSED)])
async def test_the_race_for_a_key_may_be_lost_a_few_times(shop: Any, lost: int, outcome: Outcome) -> None:
    """Where rows come and go quickly it happens again and again, and is no reason to refuse."""
    await shop.sql("CREATE SEQUENCE attempt")
    await shop.sql(
        "CREATE FUNCTION race() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF nextval('attempt') <= {lost} THEN RAISE unique_violation; END IF; RETURN NEW; END $$"
    )
    await shop.sql("CREATE TRIGGER race BEFORE INSERT ON customer FOR EACH ROW EXECUTE FUNCTION race()")
    assert await shop.apply(shop.insert("customer", id="b", name="B")) is outcome
    assert [sqlstate for _, _, sqlstate, _, _ in await refused(shop)] == ["23505"] * (outcome is Outcome.REFUSED)


async def test_an_update_waits_for_postgres_and_sees_its_outcome(shop: Any, database: str) -> None:
    async with await psycopg.AsyncConnection.connect(session_conninfo(database)) as application:
        await application.execute("UPDATE customer SET email = NULL")
        old = {"id": "a", "name": "Ann", "email": "ann@example.org"}
        upload = asyncio.create_task(shop.apply(shop.update("customer", old, name="Anna"), ms=FUTURE))
        await shop.blocked()
        await application.commit()
        assert await upload is Outcome.APPLIED
    assert await shop.rows("customer") == [("a", "Anna", None)]


async def test_a_table_that_is_being_given_up_takes_no_write_of_later(shop: Any, database: str) -> None:
    async with await psycopg.AsyncConnection.connect(session_conninfo(database)) as application:
        await application.execute("SELECT leyden.disable('sale')")
        upload = asyncio.create_task(shop.apply(shop.insert("sale", n="1", customer_id="a")))
        await shop.blocked()
        await application.commit()
        assert await upload is Outcome.REFUSED
    assert await shop.rows("sale") == []
    ((_, _, sqlstate, message, _),) = await refused(shop)
    assert (sqlstate, message) == ("42P01", "table sale is not shared with clients any more")


async def test_a_table_that_is_suspended_takes_no_write(shop: Any) -> None:
    await shop.sql("UPDATE leyden.tables SET suspended = '{\"reason\": \"it is odd\"}' WHERE table_name = 'sale'")
    upload = shop.insert("customer", id="b", name="Bob"), shop.insert("sale", n="1", customer_id="b")
    assert await shop.apply(*upload) is Outcome.REFUSED
    assert await shop.apply(shop.insert("customer", id="c", name="Cy")) is Outcome.APPLIED
    assert [row[0] for row in await shop.rows("customer")] == ["a", "c"]
    ((_, _, sqlstate, message, _),) = await refused(shop)
    assert (sqlstate, message) == ("55000", "table sale is suspended: it is odd")


async def test_a_deadlock_with_the_application_is_retried(shop: Any, database: str) -> None:
    await shop.sql("INSERT INTO customer VALUES ('b', 'Bob')")
    async with await psycopg.AsyncConnection.connect(session_conninfo(database)) as application:
        # The application must not be the one that is chosen to give way.
        await application.execute("SET deadlock_timeout = '1min'")
        await application.execute("UPDATE customer SET name = name WHERE id = 'b'")
        old = {"id": "a", "name": "Ann"}
        upload = asyncio.create_task(
            shop.apply(
                shop.update("customer", old, name="Anna"), shop.update("customer", {"id": "b", "name": "Bob"}, name="B")
            )
        )
        await shop.blocked()
        await application.execute("UPDATE customer SET name = name WHERE id = 'a'")
        await application.commit()
        assert await upload is Outcome.APPLIED
    assert [row[1] for row in await shop.rows("customer")] == ["Anna", "B"]
    assert shop.naps == [0.02]


async def test_a_lost_connection_is_retried_with_the_same_effect(shop: Any, database: str) -> None:
    async with await psycopg.AsyncConnection.connect(session_conninfo(database)) as application:
        await application.execute("UPDATE customer SET name = name")
        upload = asyncio.create_task(shop.apply(shop.update("customer", {"id": "a", "name": "Ann"}, name="Anna")))
        await shop.blocked()
        await shop.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        await asyncio.wait_for(shop.napped.wait(), 5)
        await application.commit()
        assert await upload is Outcome.APPLIED
    assert (await shop.rows("customer"))[0][1] == "Anna"
    assert isinstance(shop.events[0], events.DatabaseUnavailable)


async def test_clients_can_be_applied_side_by_side(items: Any) -> None:
    clients = [f"client{number}" for number in range(8)]

    async def work(client: str) -> list[Outcome]:
        outcomes = []
        for number in range(1, 6):
            old = {"id": "Z", "content": None, "content_b": None}
            changes = [items.insert("items", id=f"{client}-{number}"), items.update("items", old, content=client)]
            if client > "client4":
                changes.reverse()
            outcomes.append(await items.apply(*changes, client=client, ms=number, lsn=number))
        return outcomes

    await items.sql("INSERT INTO items VALUES ('Z')")
    outcomes = await asyncio.gather(*map(work, clients))
    assert {outcome for some in outcomes for outcome in some} == {Outcome.APPLIED}
    assert len(await items.rows("items")) == 41
    assert len(await items.tags("items", "Z")) == 41
