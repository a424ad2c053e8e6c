"""Tables that are altered where no event trigger sees it: suspended before anything wrong is delivered, and taken up
again when they are what clients know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest

from leyden.events import ReplicationInterrupted, TableSuspended, TableTakenUp
from leyden.model import Insert, Suspension
from stream_reader import Reader

Conn = psycopg.AsyncConnection[Any]


@pytest.fixture
async def conn(unguarded_database: str) -> AsyncIterator[Conn]:
    async with await psycopg.AsyncConnection.connect(unguarded_database, autocommit=True) as connection:
        await connection.execute("""
            CREATE TYPE mood AS ENUM ('sad', 'happy');
            CREATE TABLE items (id text PRIMARY KEY, title text, n int4, m mood);
            CREATE TABLE others (id text PRIMARY KEY);
            CALL electric.electrify('items');
            CALL electric.electrify('others');
        """)
        yield connection


@pytest.fixture
async def reader(unguarded_database: str, conn: Conn) -> AsyncIterator[Reader]:
    async with Reader.running(unguarded_database) as running:
        yield running


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - simpler than a subscription
            await asyncio.sleep(0.01)


def suspension(reader: Reader, name: str = "items") -> Suspension | None:
    return reader.replication.suspended.get(name)


async def suspended(reader: Reader, reason: str) -> Suspension:
    """The suspension of ``items`` once it is for ``reason``."""

    def found() -> bool:
        one = suspension(reader)
        return one is not None and reason in one.reason

    await until(found)
    one = suspension(reader)
    assert one is not None
    return one


def rows(reader: Reader, name: str = "items") -> list[tuple[bytes | None, ...]]:
    """Those inserted into ``name``, of all that the log has."""
    log = reader.log
    changes = [change for transaction in log.after(log.floor) for change in transaction.changes]
    return [change.row for change in changes if isinstance(change, Insert) and change.table.name == name]


DEPARTURES = [
    ("ALTER TABLE items RENAME COLUMN title TO heading", "column title is dropped, renamed or in another place"),
    ("ALTER TABLE items DROP COLUMN n", "column n is dropped, renamed or in another place"),
    ("ALTER TABLE items ALTER COLUMN n TYPE int8", "column n has type int8 now, it was int4"),
    ("ALTER TABLE items ALTER COLUMN title TYPE varchar(5)", "column title has type varchar"),
    ("ALTER TABLE items ADD COLUMN note text", "column note was added, and clients were not told"),
    ("ALTER TABLE items DROP COLUMN m, ADD COLUMN m mood", "column m was dropped and made anew"),
    ("ALTER TABLE items ALTER COLUMN n SET NOT NULL", "column n was nullable"),
    ("ALTER TABLE items ADD CHECK (n > 0)", "it has the CHECK constraint"),
    ("ALTER TABLE items DROP CONSTRAINT items_pkey", "it has no primary key"),
    ("ALTER TABLE items DROP COLUMN id", "column id is dropped"),
    ("ALTER TABLE items RENAME TO things", "the table is now called things"),
    ("ALTER TYPE mood ADD VALUE 'angry'", "the labels of enum mood changed"),
    ("ALTER TABLE items REPLICA IDENTITY DEFAULT", "its replica identity is not FULL"),
    ("ALTER PUBLICATION leyden DROP TABLE items", "it is not in the publication"),
    ("DROP TABLE items", "it was dropped"),
]


@pytest.mark.parametrize(("ddl", "reason"), DEPARTURES)
async def test_a_table_that_is_altered_is_suspended_though_nobody_writes_to_it(
    reader: Reader, conn: Conn, ddl: str, reason: str
) -> None:
    await conn.execute(ddl.encode())
    one = await suspended(reader, reason)
    assert one.remedy
    assert TableSuspended("items", one.reason, one.remedy) in reader.noticed
    await conn.execute("INSERT INTO others VALUES ('1')")
    await until(lambda: rows(reader, "others"))
    assert suspension(reader, "others") is None


async def mark(conn: Conn) -> str:
    row = await (await conn.execute("SELECT leyden.catalog_mark()")).fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize("ddl", [ddl for ddl, _ in DEPARTURES])
async def test_where_the_catalog_is_as_it_was_nothing_can_have_strayed(conn: Conn, ddl: str) -> None:
    before = await mark(conn)
    await conn.execute("INSERT INTO items SELECT i, i, i FROM generate_series(1, 1000) i")
    await conn.execute("DELETE FROM items WHERE id > '5'")
    for statement in ("ANALYZE", "VACUUM items", "CREATE TABLE more (id int)"):
        await conn.execute(statement)
    assert await mark(conn) == before
    await conn.execute(ddl.encode())
    assert await mark(conn) != before


@pytest.mark.parametrize(
    ("ddl", "row"),
    [
        ("ALTER TABLE items RENAME COLUMN title TO heading", "('2', 'b', 1)"),
        ("ALTER TABLE items ADD COLUMN note text", "('2', 'b', 1)"),
        ("ALTER TABLE items ALTER COLUMN n TYPE text", "('2', 'b', 'many')"),
        ("ALTER TABLE items RENAME TO things; CREATE VIEW items AS SELECT * FROM things", "('2', 'b', 1)"),
    ],
)
async def test_not_one_row_is_delivered_that_does_not_fit(reader: Reader, conn: Conn, ddl: str, row: str) -> None:
    await conn.execute("INSERT INTO items VALUES ('1', 'a')")
    for statement in (*ddl.split(";"), f"INSERT INTO items VALUES {row}", "INSERT INTO others VALUES ('1')"):
        await conn.execute(statement.encode())
    await until(lambda: rows(reader, "others"))
    assert suspension(reader) is not None
    assert rows(reader) == [(b"1", b"a", None, None)]


@pytest.mark.parametrize(
    "ddl",
    ["ALTER TABLE items DROP COLUMN n", "ALTER TABLE items DROP COLUMN id", "ALTER TABLE items DROP COLUMN title"],
)
async def test_the_application_can_go_on_writing_to_a_suspended_table(reader: Reader, conn: Conn, ddl: str) -> None:
    await conn.execute(ddl.encode())
    await suspended(reader, "is dropped")
    await conn.execute("INSERT INTO items DEFAULT VALUES" if "id" in ddl else "INSERT INTO items VALUES ('1')")
    await conn.execute("UPDATE items SET m = 'sad'")
    await conn.execute("DELETE FROM items")


async def test_a_table_that_is_as_it_was_again_is_taken_up_by_itself(reader: Reader, conn: Conn) -> None:
    before = reader.log.head
    await conn.execute("ALTER TABLE items RENAME COLUMN title TO heading")
    await conn.execute("INSERT INTO items VALUES ('1', 'missed')")
    await suspended(reader, "column title")
    await conn.execute("ALTER TABLE items RENAME COLUMN heading TO title")
    await until(lambda: suspension(reader) is None)
    assert TableTakenUp("items") in reader.noticed
    assert reader.replication.reopened_since(before) == {"items"}
    assert reader.replication.reopened_since(reader.log.head) == frozenset()
    await conn.execute("INSERT INTO items VALUES ('2', 'seen')")
    await until(lambda: rows(reader))
    assert rows(reader) == [(b"2", b"seen", None, None)]


@pytest.mark.parametrize("noticed", [True, False], ids=["once it was suspended", "before anybody looked"])
async def test_an_added_column_is_recorded_by_electrifying_again(reader: Reader, conn: Conn, noticed: bool) -> None:
    await conn.execute("ALTER TABLE items ADD COLUMN note text")
    await conn.execute("INSERT INTO items (id, note) VALUES ('1', 'missed')")
    if noticed:
        one = await suspended(reader, "column note")
        await until(lambda: "records it" in str(suspension(reader)))
        one = await suspended(reader, "column note")
        assert one.remedy == "CALL electric.electrify('items') records it"
    await conn.execute("CALL electric.electrify('items')")
    await until(lambda: reader.replication.reopened_since(0) and suspension(reader) is None)
    assert [column.name for column in reader.table("items").columns] == ["id", "title", "n", "m", "note"]
    await conn.execute("INSERT INTO items (id, note) VALUES ('2', 'seen')")
    await until(lambda: rows(reader))
    assert rows(reader) == [(b"2", None, None, None, b"seen")]


async def test_a_column_recorded_in_its_own_transaction_suspends_nothing(reader: Reader, conn: Conn) -> None:
    """As the status recommends to migrations."""
    async with conn.transaction():
        await conn.execute("INSERT INTO items (id) VALUES ('1')")
        await conn.execute("ALTER TABLE items ADD COLUMN note text")
        await conn.execute("INSERT INTO items (id, note) VALUES ('2', 'b')")
        await conn.execute("CALL electric.electrify('items')")
    await conn.execute("INSERT INTO items (id, note) VALUES ('3', 'c')")
    await until(lambda: len(rows(reader)) == 3)
    assert [row[4] for row in rows(reader)] == [None, b"b", b"c"]
    assert not [event for event in reader.noticed if isinstance(event, TableSuspended)]


@pytest.mark.parametrize("ended", [False, True], ids=["still suspended", "taken up while nobody watched"])
async def test_a_restart_finds_the_same_again(unguarded_database: str, conn: Conn, ended: bool) -> None:
    async with Reader.running(unguarded_database) as first:
        before = first.log.head
        await conn.execute("INSERT INTO items VALUES ('1', 'a')")
        await conn.execute("ALTER TABLE items RENAME COLUMN title TO heading")
        await suspended(first, "column title")
        await conn.execute("INSERT INTO items VALUES ('2', 'missed')")
    if ended:
        await conn.execute("ALTER TABLE items RENAME COLUMN heading TO title")
    async with Reader.running(unguarded_database) as second:
        if not ended:
            await suspended(second, "column title")
            await conn.execute("ALTER TABLE items RENAME COLUMN heading TO title")
        await until(lambda: suspension(second) is None)
        await conn.execute("INSERT INTO items VALUES ('3', 'c')")
        await until(lambda: (b"3", b"c", None, None) in rows(second))
        assert (b"2", b"missed", None, None) not in rows(second)
        assert second.replication.reopened_since(before) == {"items"}


async def test_a_table_altered_while_nobody_watched_is_suspended_before_anything_is_read(
    unguarded_database: str, conn: Conn
) -> None:
    async with Reader.running(unguarded_database):
        pass
    await conn.execute("ALTER TABLE items DROP COLUMN m, ADD COLUMN m mood; INSERT INTO items VALUES ('1', 'a')")
    async with Reader.running(unguarded_database) as reader:
        assert suspension(reader) is not None
        assert rows(reader) == []


async def test_a_table_that_was_dropped_can_be_given_up(reader: Reader, conn: Conn) -> None:
    await conn.execute("DROP TABLE items")
    one = await suspended(reader, "it was dropped")
    await conn.execute(one.remedy.removesuffix(" gives it up").encode())
    await until(lambda: len(reader.replication.tables) == 1)
    assert not reader.replication.stopped
    await conn.execute("CREATE TABLE items (id text PRIMARY KEY, title text, n int4, m mood)")
    await conn.execute("CALL electric.electrify('items')")
    await conn.execute("INSERT INTO items VALUES ('1', 'a')")
    await until(lambda: rows(reader))


async def test_an_alter_table_that_takes_its_time_holds_nothing_up(reader: Reader, conn: Conn) -> None:
    async with await psycopg.AsyncConnection.connect(conn.info.dsn) as other:
        await other.execute("ALTER TABLE items ADD COLUMN note text DEFAULT 'x'")
        await conn.execute("ALTER TABLE others RENAME COLUMN id TO name")
        await until(lambda: suspension(reader, "others") is not None)
        await other.commit()
    await suspended(reader, "column note")


async def test_a_table_that_cannot_be_taken_up_is_in_nobodys_way(reader: Reader, conn: Conn) -> None:
    await conn.execute("ALTER TABLE items RENAME COLUMN title TO heading")
    await suspended(reader, "column title")
    await conn.execute("""
        CREATE OR REPLACE FUNCTION leyden.take_up(relation regclass) RETURNS void LANGUAGE plpgsql
        AS $$ BEGIN RAISE EXCEPTION 'something unforeseen'; END $$
    """)
    await conn.execute("ALTER TABLE items RENAME COLUMN heading TO title")
    await suspended(reader, "it cannot be taken up again")
    await conn.execute("INSERT INTO others VALUES ('1')")
    await until(lambda: rows(reader, "others"))
    assert not [event for event in reader.noticed if isinstance(event, ReplicationInterrupted)]


async def test_a_guarded_database_is_left_alone(database: str) -> None:
    async with (
        Reader.running(database) as reader,
        await psycopg.AsyncConnection.connect(database, autocommit=True) as conn,
    ):
        await conn.execute("CREATE TABLE items (id text PRIMARY KEY); CALL electric.electrify('items')")
        await conn.execute("INSERT INTO items VALUES ('1')")
        await conn.execute("ALTER TABLE items ADD COLUMN note text")
        await conn.execute("INSERT INTO items VALUES ('2', 'b')")
        await until(lambda: len(rows(reader)) == 2)
        await asyncio.sleep(0.5)  # for an inspection that something made due
        assert not [event for event in reader.noticed if isinstance(event, TableSuspended)]
        assert reader.replication.reopened_since(0) == frozenset()
        assert reader.replication.inspection.guarded
