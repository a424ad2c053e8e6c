"""What a running service sends to clients that read as a database role."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from websockets.exceptions import ConnectionClosed

from integration.test_writing_access import configured
from leyden.postgres.replication.wal_stream import WalStream
from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import decode
from speaker import SUBSCRIPTION, Running, Speaker, serving, token

SCHEMA = """
CREATE TABLE users (id text PRIMARY KEY, name text, phone text);
CREATE TABLE docs (id text PRIMARY KEY, author text REFERENCES users, owner text, body text);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON docs FOR SELECT USING (owner = current_setting('request.jwt.claims', true)::jsonb ->> 'sub');
GRANT SELECT ON users, docs TO {role};
INSERT INTO users VALUES ('u', 'Uma', '123');
INSERT INTO docs VALUES ('1', 'u', 'alice', 'a'), ('2', 'u', 'bob', 'b');
"""


class Place:
    def __init__(self, conn: psycopg.Connection[Any], role: str) -> None:
        self.conn = conn
        self.role = role

    def execute(self, statement: str) -> None:
        self.conn.execute(sql.SQL(statement).format(role=sql.Identifier(self.role)))  # type: ignore[arg-type]


@contextmanager
def placed(database: str, schema: str, *tables: str) -> Iterator[Place]:
    with psycopg.connect(database, autocommit=True) as conn:
        place = Place(conn, f"reader_{conn.info.dbname}")
        place.execute("CREATE ROLE {role} NOLOGIN")
        place.execute(schema)
        for table in tables:
            place.execute(f"CALL electric.electrify('{table}')")
        yield place
        place.execute("DROP OWNED BY {role} CASCADE")
        place.execute("DROP ROLE {role}")


@pytest.fixture
def place(database: str) -> Iterator[Place]:
    with placed(database, SCHEMA, "users", "docs") as place:
        yield place


@pytest.fixture
async def running(database: str, place: Place) -> AsyncIterator[Running]:
    async with serving(configured(database, AUTH_DB_ROLE=place.role)) as running:
        yield running


@asynccontextmanager
async def client(running: Running, user: str = "alice", **claims: object) -> AsyncIterator[Speaker]:
    async with running.speaker() as speaker:
        await speaker.authenticate(token(user, **claims), f"device-of-{user}")
        await speaker.start()
        yield speaker


async def refusal(speaker: Speaker, table: str, where: str = "") -> str:
    shape = pb.SatShapeDef(selects=[pb.SatShapeDef.Select(tablename=table, where=where)])
    request = pb.SatSubsReq(
        subscription_id=SUBSCRIPTION, shape_requests=[pb.SatShapeReq(request_id="1", shape_definition=shape)]
    )
    answer = pb.SatSubsResp.FromString((await speaker.call(rpc.SUBSCRIBE, request)).message)
    return str(answer.err.shape_request_error[0].message)


async def heard(speaker: Speaker, within: float = 1.5) -> list[tuple[str, list[str | None]]]:
    """What is sent to the client until nothing comes for so long: the kind of each operation, and its row."""
    found = []
    with contextlib.suppress(TimeoutError, ConnectionClosed):
        while True:
            payload = await asyncio.wait_for(speaker.websocket.recv(), within)
            assert isinstance(payload, bytes)
            message = decode(payload)
            for op in message.ops if isinstance(message, pb.SatOpLog) else ():
                match op.WhichOneof("op"):
                    case "insert":
                        found.append(("insert", values(op.insert.row_data)))
                    case "update":
                        found.append(("update", values(op.update.row_data)))
                    case "delete":
                        found.append(("delete", values(op.delete.old_row_data)))
                    case "gone":
                        found.append(("gone", values(op.gone.pk_data)[:1]))
    return found


def values(row: pb.SatOpRow) -> list[str | None]:
    bits = "".join(f"{byte:08b}" for byte in row.nulls_bitmask)
    return [None if bits[place] == "1" else value.decode() for place, value in enumerate(row.values)]


async def test_first_rows_and_changes_are_those_that_the_policy_lets_through(running: Running, place: Place) -> None:
    async with client(running) as alice, client(running, "bob") as bob:
        assert sorted(await alice.subscribe("docs")) == ["1", "u"]
        assert sorted(await bob.subscribe("docs")) == ["2", "u"]
        place.execute("INSERT INTO docs VALUES ('3', NULL, 'alice', 'c')")
        place.execute("UPDATE docs SET owner = 'bob' WHERE id = '1'")
        place.execute("UPDATE docs SET body = 'of bob' WHERE id = '2'")
        place.execute("INSERT INTO docs VALUES ('4', NULL, NULL, 'of nobody')")
        assert await heard(alice) == [("insert", ["3", None, "alice", "c"]), ("gone", ["1"]), ("gone", ["u"])]
        assert await heard(bob) == [
            ("insert", ["1", "u", "bob", "a"]),
            ("update", ["2", "u", "bob", "of bob"]),
        ]


async def test_a_filter_of_the_client_only_narrows(running: Running) -> None:
    async with client(running) as alice:
        assert sorted(await alice.subscribe("docs", "this.owner = 'bob' OR true")) == ["1", "u"]
        assert await alice.subscribe("docs", "this.owner = 'bob'", number=2) == []


async def test_without_a_policy_nothing_is_sent(running: Running, place: Place) -> None:
    place.execute("DROP POLICY own ON docs")
    await asyncio.sleep(1.5)
    async with client(running) as alice:
        assert await alice.subscribe("docs") == []
        place.execute("INSERT INTO docs VALUES ('3', NULL, 'alice', 'c')")
        assert await heard(alice) == []


async def test_a_referenced_row_that_may_not_be_read_does_not_come_along(running: Running, place: Place) -> None:
    place.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")
    await asyncio.sleep(1.5)
    async with client(running) as alice:
        assert await alice.subscribe("docs") == ["1"]
        assert await alice.subscribe("users", number=2) == []
        place.execute("UPDATE users SET name = 'Ulf'")
        assert await heard(alice) == []
    place.execute("REVOKE SELECT ON users FROM {role}")
    await asyncio.sleep(1.5)
    async with client(running, "bob") as bob:
        assert await bob.subscribe("docs") == ["2"]
        place.execute("UPDATE users SET name = 'Ute'")
        assert await heard(bob) == []


async def test_a_table_that_may_not_be_read_is_refused(running: Running, place: Place) -> None:
    place.execute("REVOKE SELECT ON docs FROM {role}")
    await asyncio.sleep(1.5)
    async with client(running) as alice:
        assert await refusal(alice, "docs") == "Permission denied for table docs"


async def test_a_policy_that_cannot_be_followed_is_asked_of_postgres(running: Running, place: Place) -> None:
    place.execute("CREATE POLICY late ON docs FOR SELECT USING (now() > '2020-01-01' AND body = 'b')")
    await asyncio.sleep(1.5)
    async with client(running) as alice:
        assert sorted(await alice.subscribe("docs")) == ["1", "2", "u"]
        place.execute("UPDATE docs SET body = 'c'")
        assert await heard(alice) == [("gone", ["2"]), ("update", ["1", "u", "alice", "c"])]


@pytest.mark.parametrize(
    "change",
    [
        "DROP POLICY own ON docs",
        "ALTER POLICY own ON docs USING (owner = 'bob')",
        "CREATE POLICY less ON docs AS RESTRICTIVE USING (body <> 'a')",
        "REVOKE SELECT ON docs FROM {role}",
        "REVOKE SELECT ON docs FROM {role}; GRANT SELECT (id, author, owner) ON docs TO {role}",
        "ALTER TABLE docs DISABLE ROW LEVEL SECURITY",
    ],
)
async def test_whoever_may_read_otherwise_now_is_cut_off_at_once(running: Running, place: Place, change: str) -> None:
    async with client(running) as alice:
        await alice.subscribe("docs")
        lsn = alice.lsn
        place.execute(change)
        began = time.monotonic()
        assert (await alice.closed())[0] == 1012
        assert time.monotonic() - began < 2
    async with running.speaker() as alice:
        await alice.authenticate(token("alice"), "device-of-alice")
        request = pb.SatInStartReplicationReq(lsn=lsn, subscription_ids=[SUBSCRIPTION])
        answer = await alice.call(rpc.START_REPLICATION, request)
        error = pb.SatInStartReplicationResp.FromString(answer.message).err
        assert error.code == pb.SatInStartReplicationResp.ReplicationError.SUBSCRIPTION_NOT_FOUND


async def test_whoever_sees_the_same_as_before_stays(running: Running, place: Place) -> None:
    async with client(running) as alice:
        await alice.subscribe("docs")
        place.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")
        place.execute("CREATE POLICY everybody ON users USING (true)")
        place.execute("CREATE POLICY own2 ON docs FOR UPDATE USING (false)")
        await asyncio.sleep(1.5)
        place.execute("UPDATE docs SET body = 'still'")
        assert ("update", ["1", "u", "alice", "still"]) in await heard(alice)


async def test_a_member_of_a_role_loses_what_its_membership_gave(running: Running, place: Place) -> None:
    team = f"team_{place.conn.info.dbname}"
    place.execute(f'CREATE ROLE "{team}" NOLOGIN')
    try:
        place.execute(f'CREATE POLICY team ON docs FOR SELECT TO "{team}" USING (true)')
        place.execute(f'GRANT "{team}" TO {{role}}')
        await asyncio.sleep(1.5)
        async with client(running) as alice:
            assert sorted(await alice.subscribe("docs")) == ["1", "2", "u"]
            place.execute(f'REVOKE "{team}" FROM {{role}}')
            assert (await alice.closed(2))[0] == 1012
    finally:
        place.execute(f'DROP OWNED BY "{team}" CASCADE; DROP ROLE "{team}"')


async def test_a_renewed_token_with_other_claims_that_a_policy_uses_ends_the_connection(
    running: Running, place: Place
) -> None:
    place.execute("ALTER POLICY own ON docs USING (body = current_setting('request.jwt.claims', true)::jsonb ->> 'b')")
    await asyncio.sleep(1.5)
    async with client(running, b="a") as alice:
        assert sorted(await alice.subscribe("docs")) == ["1", "u"]
        await alice.authenticate(token("alice", b="b"), "device-of-alice")
        assert (await alice.closed())[0] == 1012


async def test_a_renewed_token_with_other_claims_ends_the_connection_though_it_was_sent_all_rows(
    running: Running, place: Place
) -> None:
    is_admin = "current_setting('request.jwt.claims', true)::jsonb ->> 'level' = 'admin'"
    place.execute(f"CREATE POLICY admin ON docs FOR SELECT USING ({is_admin})")
    await asyncio.sleep(1.5)
    async with client(running, level="admin") as alice:
        assert sorted(await alice.subscribe("docs")) == ["1", "2", "u"]
        await alice.authenticate(token("alice", level="user"), "device-of-alice")
        place.execute("INSERT INTO docs VALUES ('3', NULL, 'bob', 'secret')")
        assert (await alice.closed())[0] == 1012
    async with client(running) as alice:
        assert sorted(await alice.subscribe("docs")) == ["1", "u"]


async def test_nothing_is_sent_while_the_rights_are_not_certain(running: Running, place: Place) -> None:
    async with client(running) as alice:
        await alice.subscribe("docs")
        with place.conn.transaction():
            # so that the policies cannot be read
            place.execute("LOCK TABLE leyden.tables IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(2.5)
            with psycopg.connect(running.service.dsn, autocommit=True) as other:
                other.execute("INSERT INTO docs VALUES ('3', NULL, 'alice', 'c')")
            assert await heard(alice) == []
        assert await heard(alice) == [("insert", ["3", None, "alice", "c"])]


async def test_columns_that_may_not_be_read_are_null(running: Running, place: Place) -> None:
    place.execute("REVOKE SELECT ON users FROM {role}; GRANT SELECT (id, name) ON users TO {role}")
    await asyncio.sleep(1.5)
    async with client(running) as alice:
        assert await refusal(alice, "users", "this.phone = '123'") == (
            "Permission denied for column phone of table users"
        )
        shape = pb.SatShapeDef(selects=[pb.SatShapeDef.Select(tablename="users")])
        request = pb.SatShapeReq(request_id="1", shape_definition=shape)
        await alice.call(rpc.SUBSCRIBE, pb.SatSubsReq(subscription_id=SUBSCRIPTION, shape_requests=[request]))
        assert await heard(alice) == [("insert", ["u", "Uma", None])]
        place.execute("UPDATE users SET phone = '456'")
        place.execute("ALTER TABLE users ADD COLUMN mail text")
        place.execute("INSERT INTO users VALUES ('v', 'Veit', '789', 'veit@example.com')")
        place.execute("DELETE FROM users WHERE id = 'v'")
        assert await heard(alice) == [
            ("update", ["u", "Uma", None]),
            ("insert", ["v", "Veit", None, None]),
            ("delete", ["v", "Veit", None, None]),
        ]
        await alice.subscribe("docs", number=2)
        place.execute("UPDATE users SET phone = '0'")
        assert await heard(alice) == [("update", ["u", "Uma", None, None])]


async def test_a_row_is_not_brought_along_by_a_column_that_may_not_be_read(running: Running, place: Place) -> None:
    place.execute("REVOKE SELECT ON docs FROM {role}; GRANT SELECT (id, owner, body) ON docs TO {role}")
    await asyncio.sleep(1.5)
    async with client(running) as alice:
        assert await alice.subscribe("docs") == ["1"]


MEMBERS = """
CREATE TABLE members (id text PRIMARY KEY, author text, person text);
GRANT SELECT ON members TO {role};
ALTER POLICY own ON docs USING (EXISTS (
    SELECT 1 FROM members m WHERE m.author = docs.author
    AND m.person = current_setting('request.jwt.claims', true)::jsonb ->> 'sub'));
"""


async def test_a_policy_that_looks_at_another_table_moves_rows_in_and_out(running: Running, place: Place) -> None:
    place.execute(MEMBERS)
    await asyncio.sleep(1.5)
    async with client(running) as alice:
        # The table that it looks at is not electrified: Postgres is asked until it is.
        assert await alice.subscribe("docs") == []
        place.execute("CALL electric.electrify('members')")
        assert (await alice.closed())[0] == 1012
    async with client(running) as alice:
        assert await alice.subscribe("docs") == []
        place.execute("INSERT INTO members VALUES ('x', 'u', 'bob')")
        place.execute("INSERT INTO members VALUES ('m', 'u', 'alice')")
        arrived = [("insert", ["u", "Uma", "123"]), ("insert", ["1", "u", "alice", "a"])]
        assert await heard(alice) == [*arrived, ("insert", ["2", "u", "bob", "b"])]
        place.execute("UPDATE docs SET body = 'c' WHERE id = '2'")
        place.execute("UPDATE docs SET author = NULL WHERE id = '2'")
        assert await heard(alice) == [("update", ["2", "u", "bob", "c"]), ("gone", ["2"])]
        lsn = alice.lsn
    place.execute("DELETE FROM members WHERE id = 'm'")
    async with running.speaker() as alice:
        await alice.authenticate(token("alice"), "device-of-alice")
        await alice.start(lsn=lsn, subscription_ids=[SUBSCRIPTION])
        assert await heard(alice) == [
            *arrived,
            ("insert", ["2", "u", "bob", "b"]),
            ("update", ["2", "u", "bob", "c"]),
            ("gone", ["2"]),
            ("gone", ["1"]),
            ("gone", ["u"]),
        ]


async def test_a_change_of_the_tables_own_row_and_of_what_decides_about_it_in_one_transaction(
    running: Running, place: Place
) -> None:
    place.execute(MEMBERS)
    place.execute("CALL electric.electrify('members')")
    await asyncio.sleep(1.5)
    async with client(running) as alice:
        assert await alice.subscribe("docs") == []
        place.execute(
            "BEGIN; INSERT INTO members VALUES ('m', 'v', 'alice'); INSERT INTO users VALUES ('v', 'Veit');"
            "INSERT INTO docs VALUES ('9', 'v', NULL, 'new'); COMMIT"
        )
        assert await heard(alice) == [("insert", ["v", "Veit", None]), ("insert", ["9", "v", None, "new"])]
        place.execute("BEGIN; UPDATE docs SET body = 'newer' WHERE id = '9'; DELETE FROM members; COMMIT")
        assert await heard(alice) == [("gone", ["9"]), ("gone", ["v"])]


@pytest.mark.parametrize("ddl", ["ALTER POLICY own ON docs USING (false)", "REVOKE SELECT ON docs FROM {role}"])
async def test_nothing_that_was_written_after_a_change_of_rights_is_sent_by_the_rights_before(
    running: Running, place: Place, ddl: str
) -> None:
    async with client(running) as alice:
        await alice.subscribe("docs")
        place.execute(f"BEGIN; {ddl}; INSERT INTO docs VALUES ('8', NULL, 'alice', 'secret'); COMMIT")
        place.execute("INSERT INTO docs VALUES ('9', NULL, 'alice', 'secret')")
        assert await heard(alice) == []
        assert (await alice.closed(2))[0] == 1012


@pytest.mark.parametrize("ddl", ["DROP SCHEMA helpers CASCADE", "DROP ROUTINE helpers.mine(text) CASCADE"])
async def test_nothing_that_was_written_with_the_end_of_what_a_policy_calls_is_sent(
    running: Running, place: Place, ddl: str
) -> None:
    place.execute(
        "CREATE SCHEMA helpers; GRANT USAGE ON SCHEMA helpers TO PUBLIC;"
        "CREATE FUNCTION helpers.mine(text) RETURNS boolean LANGUAGE sql AS $$SELECT $1 = 'team'$$;"
        "CREATE POLICY team ON docs USING (helpers.mine(owner))"
    )
    await asyncio.sleep(1.5)
    async with client(running) as alice:
        await alice.subscribe("docs")
        place.execute(f"BEGIN; {ddl}; INSERT INTO docs VALUES ('8', NULL, 'team', 'secret'); COMMIT")
        assert await heard(alice) == []
        assert (await alice.closed(2))[0] == 1012


async def test_first_rows_that_were_written_after_a_change_of_rights_are_not_selected_by_the_rights_before(
    running: Running, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client(running) as alice:
        wait = WalStream.wait

        async def wait_longer(stream: WalStream, seconds: float) -> bool:
            there_is_something = await wait(stream, seconds)
            await asyncio.sleep(0.3)
            return there_is_something

        # The stream is late in telling of the change; snapshots see it at once.
        monkeypatch.setattr(WalStream, "wait", wait_longer)
        place.execute("UPDATE users SET phone = '1'")  # from here on
        await asyncio.sleep(0.5)
        place.execute(
            "BEGIN; ALTER TABLE users ENABLE ROW LEVEL SECURITY; INSERT INTO users VALUES ('v', 'Veit', '456'); COMMIT"
        )
        shape = pb.SatShapeDef(selects=[pb.SatShapeDef.Select(tablename="users")])
        request = pb.SatShapeReq(request_id="1", shape_definition=shape)
        await alice.call(rpc.SUBSCRIBE, pb.SatSubsReq(subscription_id=SUBSCRIPTION, shape_requests=[request]))
        assert ("insert", ["v", "Veit", "456"]) not in await heard(alice)
