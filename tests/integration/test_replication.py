"""What is committed in Postgres arrives in the log: every kind of change, its author, time, tags and order."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from leyden import events
from leyden.model import EPOCH_TAG, AddColumns, CreateTable, Delete, Insert, Update
from leyden.postgres.sessions import connect
from stream_reader import Reader

ITEMS = "CREATE TABLE items (id int8 PRIMARY KEY, title text, done bool)"


@pytest.fixture
async def conn(database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await connect(database, autocommit=True) as conn:
        yield conn


@pytest.fixture
async def reader(database: str, conn: psycopg.AsyncConnection[Any]) -> AsyncIterator[Reader]:
    """A reader with the electrified table ``items``; its log holds the one transaction that announced it."""
    async with Reader.running(database) as reader:
        async with conn.transaction():
            await conn.execute(ITEMS)
            await conn.execute("CALL electric.electrify('items')")
        await reader.next()
        yield reader


async def test_electrifying_a_table_arrives_as_a_migration(reader: Reader) -> None:
    (announced,) = reader.log.after(reader.log.floor)
    assert announced.migration is not None
    (change,) = announced.migration.changes
    assert isinstance(change, CreateTable)
    assert change.table == reader.table("items")
    assert reader.replication.migrations == [announced.migration]
    assert events.MigrationSeen(announced.migration.version) in reader.noticed


async def test_insert_update_and_delete_arrive_with_the_tags_postgres_gave(
    reader: Reader, conn: psycopg.AsyncConnection[Any]
) -> None:
    table = reader.table("items")
    await conn.execute("INSERT INTO items VALUES (1, 'one', NULL)")
    inserted = await reader.next()
    await conn.execute("UPDATE items SET done = true")
    updated = await reader.next()
    await conn.execute("DELETE FROM items")
    deleted = await reader.next()

    (insert,) = inserted.changes
    assert isinstance(insert, Insert)
    assert (insert.table, insert.row) == (table, (b"1", b"one", None))
    (tag,) = insert.tags
    assert tag == f"postgres_1@{tag.partition('@')[2]}"
    assert inserted.origin is None
    assert inserted.committed_at_ms >= int(tag.partition("@")[2])
    assert abs(inserted.committed_at_ms - time.time() * 1000) < 60_000

    (update,) = updated.changes
    assert isinstance(update, Update)
    assert (update.old, update.new) == ((b"1", b"one", None), (b"1", b"one", b"t"))
    assert update.tags != insert.tags
    assert deleted.changes == (Delete(table, (b"1", b"one", b"t")),)
    assert inserted.position < updated.position < deleted.position
    assert inserted.xid < updated.xid < deleted.xid


async def test_changes_of_one_transaction_keep_their_order(reader: Reader, conn: psycopg.AsyncConnection[Any]) -> None:
    async with conn.transaction():
        await conn.execute("INSERT INTO items VALUES (1, 'a')")
        await conn.execute("DELETE FROM items")
        await conn.execute("INSERT INTO items VALUES (1, 'b')")
        await conn.execute("UPDATE items SET title = 'c'")
        await conn.execute("UPDATE items SET title = 'd'")
    changes = (await reader.next()).changes
    assert [type(change) for change in changes] == [Insert, Delete, Insert, Update, Update]
    last = changes[-1]
    assert isinstance(last, Update)
    assert last.new == (b"1", b"d", None)


async def test_a_changed_primary_key_arrives_as_delete_and_insert(
    reader: Reader, conn: psycopg.AsyncConnection[Any]
) -> None:
    table = reader.table("items")
    await conn.execute("INSERT INTO items VALUES (1, 'a')")
    await reader.next()
    await conn.execute("UPDATE items SET id = 2")
    delete, insert = (await reader.next()).changes
    assert delete == Delete(table, (b"1", b"a", None))
    assert isinstance(insert, Insert)
    assert insert.row == (b"2", b"a", None)
    assert insert.tags != (EPOCH_TAG,)


async def test_truncate_arrives_as_the_deletion_of_every_row(
    reader: Reader, conn: psycopg.AsyncConnection[Any]
) -> None:
    table = reader.table("items")
    await conn.execute("INSERT INTO items VALUES (1, 'a'), (2, 'b')")
    await reader.next()
    async with conn.transaction():
        await conn.execute("INSERT INTO items VALUES (3, 'c')")
        await conn.execute("TRUNCATE items")
        await conn.execute("INSERT INTO items VALUES (2, 'again')")
    changes = (await reader.next()).changes
    deleted = [change.old for change in changes if isinstance(change, Delete)]
    assert sorted(deleted) == [(b"1", b"a", None), (b"2", b"b", None), (b"3", b"c", None)]
    assert isinstance(changes[0], Insert)
    assert isinstance(changes[-1], Insert)
    assert changes[-1].row == (b"2", b"again", None)
    assert all(change.table == table for change in changes)


async def test_a_large_value_that_was_not_touched_is_complete_in_the_new_row(
    reader: Reader, conn: psycopg.AsyncConnection[Any]
) -> None:
    await conn.execute("INSERT INTO items SELECT 1, string_agg(md5(n::text), '') FROM generate_series(1, 3200) AS n")
    (insert,) = (await reader.next()).changes
    await conn.execute("UPDATE items SET done = true")
    (update,) = (await reader.next()).changes
    assert isinstance(insert, Insert)
    assert isinstance(update, Update)
    assert insert.row[1] is not None
    assert len(insert.row[1]) == 102_400
    assert update.old[1] == update.new[1] == insert.row[1]


async def test_values_have_the_text_form_of_the_service_whatever_the_database_prefers(
    database: str, conn: psycopg.AsyncConnection[Any]
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    await conn.execute(f"ALTER DATABASE \"{name}\" SET DateStyle = 'German'")
    await conn.execute(f"ALTER DATABASE \"{name}\" SET TimeZone = 'Asia/Tokyo'")
    await conn.execute(f"ALTER DATABASE \"{name}\" SET bytea_output = 'escape'")
    await conn.execute("CREATE TABLE forms (id int4 PRIMARY KEY, at timestamptz, day date, f float8)")
    await conn.execute("CALL electric.electrify('forms')")
    async with Reader.running(database) as reader:
        await conn.execute("INSERT INTO forms VALUES (1, '2024-02-01 10:00:00.5+00', '2024-02-01', 0.1)")
        (insert,) = (await reader.next()).changes
        assert isinstance(insert, Insert)
        assert insert.row == (b"1", b"2024-02-01 10:00:00.5+00", b"2024-02-01", b"0.1")


async def test_every_type_that_can_be_electrified_is_recognised(
    reader: Reader, conn: psycopg.AsyncConnection[Any]
) -> None:
    await conn.execute("CREATE TYPE colour AS ENUM ('red', 'green')")
    await conn.execute(
        "CREATE TABLE kinds (id uuid PRIMARY KEY, e colour, s int2, i int4, l int8, r float4, f float8, b bool,"
        " t text, v varchar, j jsonb, d date, m time, n timestamp, z timestamptz, y bytea)"
    )
    await conn.execute("CALL electric.electrify('kinds')")
    assert (await reader.next()).migration is not None
    await conn.execute("INSERT INTO kinds (id, e, v) VALUES ('b73e14f6-8f0f-4f5c-8a58-3f6ccdc6b6a1', 'red', 'x')")
    (insert,) = (await reader.next()).changes
    assert isinstance(insert, Insert)
    assert insert.table == reader.table("kinds")
    assert [value for value in insert.row if value] == [b"b73e14f6-8f0f-4f5c-8a58-3f6ccdc6b6a1", b"red", b"x"]


async def test_a_transaction_rolled_back_in_part_arrives_without_that_part(
    reader: Reader, conn: psycopg.AsyncConnection[Any]
) -> None:
    async with conn.transaction():
        await conn.execute("INSERT INTO items VALUES (1, 'kept')")
        await conn.execute("SAVEPOINT before")
        await conn.execute("INSERT INTO items VALUES (2, 'lost')")
        await conn.execute("ROLLBACK TO SAVEPOINT before")
    (insert,) = (await reader.next()).changes
    assert isinstance(insert, Insert)
    assert insert.row == (b"1", b"kept", None)


async def test_waiting_to_reach_the_present_ends_when_the_log_has_it(
    reader: Reader, conn: psycopg.AsyncConnection[Any]
) -> None:
    await conn.execute("INSERT INTO items SELECT n, 'x' FROM generate_series(1, 500) AS n")
    async with asyncio.timeout(20):
        await reader.replication.reach(await reader.replication.mark(conn))
    assert len((await reader.next()).changes) == 500


async def test_an_added_column_is_known_from_its_migration_on(
    reader: Reader, conn: psycopg.AsyncConnection[Any]
) -> None:
    async with conn.transaction():
        await conn.execute("INSERT INTO items VALUES (1, 'before')")
        await conn.execute("ALTER TABLE items ADD COLUMN note text")
        await conn.execute("INSERT INTO items VALUES (2, 'after', true, 'n')")
    transaction = await reader.next()
    table = reader.table("items")
    assert [column.name for column in table.columns] == ["id", "title", "done", "note"]
    assert transaction.migration is not None
    assert transaction.migration.changes == (AddColumns(table, ("note",)),)
    before, after = transaction.changes
    assert isinstance(before, Insert)
    assert isinstance(after, Insert)
    assert before.row == (b"1", b"before", None, None)
    assert after.row == (b"2", b"after", b"t", b"n")
    assert not reader.replication.stopped


async def test_rows_older_than_a_column_have_its_default(reader: Reader, conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.execute("INSERT INTO items VALUES (1, 'old')")
    await reader.next()
    async with conn.transaction():
        await conn.execute("INSERT INTO items VALUES (2, 'same transaction')")
        await conn.execute("ALTER TABLE items ADD COLUMN n int4 NOT NULL DEFAULT 7, ADD COLUMN t text DEFAULT 'é'")
        await conn.execute("ALTER TABLE items ALTER COLUMN n DROP DEFAULT")
        await conn.execute("INSERT INTO items VALUES (3, 'new', NULL, 8, NULL)")
    transaction = await reader.next()
    assert [column.default for column in reader.table("items").columns] == [None, None, None, "7", "é"]
    assert [change.row for change in transaction.changes if isinstance(change, Insert)] == [
        (b"2", b"same transaction", None, b"7", "é".encode()),
        (b"3", b"new", None, b"8", None),
    ]
    await conn.execute("UPDATE items SET done = true WHERE id = 1")
    (update,) = (await reader.next()).changes
    assert isinstance(update, Update)
    assert update.old == (b"1", b"old", None, b"7", "é".encode())
    assert update.new == (b"1", b"old", b"t", b"7", "é".encode())


async def test_rows_written_before_the_table_was_electrified_are_not_sent(
    reader: Reader, conn: psycopg.AsyncConnection[Any]
) -> None:
    async with conn.transaction():
        await conn.execute("CREATE TABLE notes (id int4 PRIMARY KEY)")
        await conn.execute("CREATE TABLE others (id int4 PRIMARY KEY)")
        await conn.execute("INSERT INTO notes VALUES (1)")
        await conn.execute("CALL electric.electrify('notes')")
        await conn.execute("CALL electric.electrify('others')")
        await conn.execute("INSERT INTO notes VALUES (2)")
    transaction = await reader.next()
    assert transaction.migration is not None
    assert [type(change) for change in transaction.migration.changes] == [CreateTable, CreateTable]
    (insert,) = transaction.changes
    assert isinstance(insert, Insert)
    assert insert.row == (b"2",)


async def test_the_message_of_a_clients_transaction_gives_author_time_and_corrections(
    reader: Reader, conn: psycopg.AsyncConnection[Any]
) -> None:
    table = reader.table("items")
    corrections = [
        {"table": table.id, "key": ["7"], "row": ["7", "true title", None], "tags": ["a@1", "b@2"]},
        {"table": table.id, "key": ["8"], "row": None, "tags": []},
    ]
    announcement = json.dumps({"client": "c-1", "ms": 1234, "corrections": corrections})
    async with conn.transaction():
        await conn.execute("SELECT leyden.announce(%s)", [announcement])
        await conn.execute("INSERT INTO items VALUES (1, 'a')")
    transaction = await reader.next()
    assert (transaction.origin, transaction.committed_at_ms) == ("c-1", 1234)
    assert len(transaction.changes) == 1
    first, second = transaction.corrections
    assert (first.table, first.key, first.row) == (table, (b"7",), (b"7", b"true title", None))
    assert first.tags == ("a@1", "b@2")
    assert second.row is None


async def test_an_empty_upload_arrives_and_other_messages_do_not(
    reader: Reader, conn: psycopg.AsyncConnection[Any]
) -> None:
    await conn.execute("SELECT pg_logical_emit_message(true, 'leyden.heartbeat', '')")
    await conn.execute("SELECT pg_logical_emit_message(true, 'somebody else', 'x')")
    await conn.execute("SELECT leyden.announce('not ours')")
    await conn.execute('SELECT leyden.announce(\'{"client":"c","ms":5}\')')
    transaction = await reader.next()
    assert (transaction.origin, transaction.committed_at_ms, transaction.changes) == ("c", 5, ())


async def test_no_other_role_can_pass_a_transaction_off_as_a_clients(
    reader: Reader, conn: psycopg.AsyncConnection[Any], database: str
) -> None:
    """It would make the client drop its pending changes, and could hand it rows that are nowhere in Postgres."""
    stranger = sql.Identifier(f"stranger of {conn.info.dbname}")
    await conn.execute(sql.SQL("CREATE ROLE {0} LOGIN; GRANT INSERT ON items TO {0}").format(stranger))
    lie = json.dumps({"client": "c-1", "ms": 5, "corrections": []})
    try:
        own = make_conninfo(database, user=f"stranger of {conn.info.dbname}")
        async with await psycopg.AsyncConnection.connect(own) as theirs:
            for prefix in ("leyden.tx", "leyden.tx ", "leyden.tx 00000000-0000-4000-8000-000000000000"):
                await theirs.execute("SELECT pg_logical_emit_message(true, %s, %s)", [prefix, lie])
            await theirs.execute("INSERT INTO items VALUES (1, 'theirs')")
            await theirs.commit()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await theirs.execute("SELECT leyden.announce(%s)", [lie])
    finally:
        await conn.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(stranger))
    transaction = await reader.next()
    assert transaction.origin is None
    assert transaction.committed_at_ms > 5
    assert len(transaction.changes) == 1


async def test_a_table_whose_columns_changed_behind_our_back_is_stopped(
    reader: Reader, conn: psycopg.AsyncConnection[Any]
) -> None:
    await conn.execute("SET event_triggers = off")
    await conn.execute("ALTER TABLE items RENAME COLUMN title TO heading")
    await conn.execute("ALTER TABLE items DISABLE TRIGGER leyden_write")
    await conn.execute("INSERT INTO items VALUES (1, 'a')")
    await conn.execute('SELECT leyden.announce(\'{"client":"c","ms":5}\')')
    assert (await reader.next()).changes == ()
    (told,) = [event for event in reader.noticed if isinstance(event, events.TableSuspended)][:1]
    assert (told.table, told.reason) == ("items", "column title is missing")
    assert list(reader.replication.stopped) == [reader.table("items").id]


@pytest.mark.alone
async def test_a_large_transaction_leaves_the_loop_to_others(
    reader: Reader, conn: psycopg.AsyncConnection[Any]
) -> None:
    longest = 0.0

    async def watch() -> None:
        """In CPU time: who else uses the machine is not what is asked."""
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - before)

    # As the service does when it is ready: what all tests have in memory takes long to look through.
    gc.collect()
    gc.freeze()
    try:
        watching = asyncio.create_task(watch())
        await conn.execute("INSERT INTO items SELECT n, 'row ' || n FROM generate_series(1, 20000) AS n")
        transaction = await reader.next()
        watching.cancel()
    finally:
        gc.unfreeze()
    assert len(transaction.changes) == 20_000
    assert all(change.tags != (EPOCH_TAG,) for change in transaction.changes if isinstance(change, Insert))
    assert longest < 0.2
