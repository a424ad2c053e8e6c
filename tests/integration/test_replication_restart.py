"""What survives: a lost connection, a restart of the service, a slot that somebody took away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from leyden import events
from leyden.log.memory import MemoryLog
from leyden.model import AddColumns, Insert, Transaction
from leyden.postgres.replication.publication import slot_name
from leyden.postgres.replication.reader import Replication, Timing
from leyden.postgres.replication.slot import REMEMBERED_VERSIONS, PassedVersion, claim, remember
from leyden.postgres.replication.wal_stream import System
from leyden.postgres.sessions import connect

FAST = Timing(status=0.05, heartbeat=0.1, shortest_retry=0.05, longest_retry=0.2)


class Reader:
    def __init__(self, dsn: str, *, wal_window: int = 1 << 30, timing: Timing = FAST) -> None:
        self.log = MemoryLog(1 << 24)
        self.noticed: list[events.Event] = []
        self.epochs: list[str] = []
        self.replication = Replication(
            dsn,
            self.log,
            self.noticed.append,
            wal_window=wal_window,
            on_epoch=self.epochs.append,
            timing=timing,
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Reader:
        self._task = asyncio.create_task(self.replication.run())
        await until(self.replication.caught_up.is_set)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def held(self) -> list[Transaction]:
        return list(self.log.after(self.log.floor))

    def titles(self) -> list[bytes | None]:
        return [c.row[1] for one in self.held() for c in one.changes if isinstance(c, Insert)]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  conditions of many kinds, most without an event
            await asyncio.sleep(0.005)


@pytest.fixture
async def conn(database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await connect(database, autocommit=True) as conn:
        await conn.execute("CREATE TABLE items (id int4 PRIMARY KEY, title text)")
        await conn.execute("CALL electric.electrify('items')")
        yield conn


def slot_of(conn: psycopg.AsyncConnection[Any]) -> str:
    return slot_name(conn.info.dbname)


async def confirmed_position(conn: psycopg.AsyncConnection[Any]) -> int:
    cursor = await conn.execute(
        "SELECT confirmed_flush_lsn - '0/0'::pg_lsn FROM pg_replication_slots WHERE slot_name = %s",
        [slot_of(conn)],
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def confirmed_beyond(conn: psycopg.AsyncConnection[Any], position: int) -> None:
    async with asyncio.timeout(20):
        while await confirmed_position(conn) < position:  # noqa: ASYNC110  the database has no event for it
            await asyncio.sleep(0.01)


async def status_updates(conn: psycopg.AsyncConnection[Any], count: int) -> None:
    """Waits until the reader has sent ``count`` more status updates; each comes with a chance to confirm."""
    seen: set[object] = set()
    async with asyncio.timeout(20):
        while len(seen) <= count:
            cursor = await conn.execute(
                "SELECT r.reply_time FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid"
                " WHERE s.slot_name = %s",
                [slot_of(conn)],
            )
            seen.update(await cursor.fetchall())
            await asyncio.sleep(0.01)


async def drop_slot(conn: psycopg.AsyncConnection[Any]) -> None:
    """Drop the slot whether or not it is in use; a reader may come back in between."""
    while True:
        await conn.execute(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = %s",
            [slot_of(conn)],
        )
        with contextlib.suppress(psycopg.errors.ObjectInUse):
            await conn.execute("SELECT pg_drop_replication_slot(%s)", [slot_of(conn)])
            return


async def insert(conn: psycopg.AsyncConnection[Any], *ids: int) -> None:
    for one in ids:
        await conn.execute("INSERT INTO items VALUES (%s, %s)", [one, f"t{one}"])


async def write_wal(conn: psycopg.AsyncConnection[Any], megabytes: int) -> None:
    """WAL that concerns nobody."""
    for _ in range(megabytes):
        await conn.execute("SELECT pg_logical_emit_message(true, 'noise', repeat('x', 1048576))")


async def test_a_restart_reads_the_held_window_again(database: str, conn: psycopg.AsyncConnection[Any]) -> None:
    async with Reader(database) as first:
        await insert(conn, 1, 2)
        await conn.execute("ALTER TABLE items ADD COLUMN note text")
        await insert(conn, 3)
        await until(lambda: len(first.held()) == 4)
    await insert(conn, 4)
    async with Reader(database) as second:
        held = second.held()
        assert second.replication.epoch == first.replication.epoch
        assert second.log.floor == first.log.floor
        assert [one.position for one in held[:4]] == [one.position for one in first.held()]
        assert [one.xid for one in held[:4]] == [one.xid for one in first.held()]
        assert second.titles() == [b"t1", b"t2", b"t3", b"t4"]
        # The rows of before come as they came then: whoever gets them has not seen the migration.
        assert [one.changes for one in held[:4]] == [one.changes for one in first.held()]
        inserted = held[0].changes[0]
        assert isinstance(inserted, Insert)
        assert inserted.row == (b"1", b"t1")
        assert held[2].migration is not None
        assert isinstance(held[2].migration.changes[0], AddColumns)
        assert [one.version for one in second.replication.migrations] == [
            one.version for one in first.replication.migrations
        ]
        assert not second.replication.stopped
        assert not any(isinstance(event, events.MigrationSeen) for event in second.noticed)


async def test_rows_before_the_alter_table_of_their_own_transaction_come_with_the_new_column(
    database: str, conn: psycopg.AsyncConnection[Any]
) -> None:
    async with Reader(database) as first:
        async with conn.transaction():
            await insert(conn, 1)
            await conn.execute("ALTER TABLE items ADD COLUMN note text")
            await conn.execute("INSERT INTO items VALUES (2, 't2', 'n2')")
        await until(first.held)
    async with Reader(database) as second:
        (before,), (after,) = first.held(), second.held()
        assert before == after
        assert [c.row for c in after.changes if isinstance(c, Insert)] == [(b"1", b"t1", None), (b"2", b"t2", b"n2")]


async def test_a_table_given_up_is_forgotten_at_once_and_known_again_when_it_comes_back(
    database: str, conn: psycopg.AsyncConnection[Any]
) -> None:
    async with Reader(database) as reader:
        (table_id,) = reader.replication.tables
        await conn.execute("SELECT leyden.disable('items')")
        await until(lambda: not reader.replication.tables)
        await insert(conn, 1)
        await conn.execute("CALL electric.electrify('items')")
        await until(lambda: reader.replication.tables)
        await insert(conn, 2)
        await until(lambda: reader.titles() == [b"t2"])
    async with Reader(database) as reader:
        assert reader.replication.tables.keys() == {table_id}
        assert reader.titles() == [b"t2"]
        assert not reader.replication.stopped
        await conn.execute("SELECT leyden.disable('items')")
        await until(lambda: not reader.replication.tables)
    async with Reader(database) as reader:
        assert not reader.replication.tables


async def test_a_terminated_connection_is_made_again_and_nothing_is_lost_or_doubled(
    database: str, conn: psycopg.AsyncConnection[Any]
) -> None:
    async with Reader(database) as reader:
        await insert(conn, 1)
        await until(lambda: reader.held())
        await conn.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s",
            [slot_of(conn)],
        )
        await until(lambda: not reader.replication.caught_up.is_set())
        assert reader.replication.status
        await insert(conn, 2)
        await until(reader.replication.caught_up.is_set)
        assert reader.replication.status == ""
        assert reader.titles() == [b"t1", b"t2"]
        kinds = [type(event) for event in reader.noticed]
        assert kinds[-3:] == [
            events.ReplicationInterrupted,
            events.ReplicationStarted,
            events.ReplicationCaughtUp,
        ]
        assert reader.epochs == []


async def test_the_slot_waits_at_the_floor_while_the_log_holds_transactions(
    database: str, conn: psycopg.AsyncConnection[Any]
) -> None:
    async with Reader(database) as reader:
        await insert(conn, 1)
        await until(lambda: reader.held())
        await write_wal(conn, 3)
        await until(lambda: reader.replication.position > reader.log.head + (3 << 20))
        await status_updates(conn, 4)
        assert await confirmed_position(conn) <= reader.log.floor
        assert len(reader.held()) == 1


async def test_an_empty_log_lets_the_slot_go_on_while_its_floor_stays(
    database: str, conn: psycopg.AsyncConnection[Any]
) -> None:
    async with Reader(database) as first:
        floor = first.log.floor
        before = await confirmed_position(conn)
        await write_wal(conn, 3)
        await confirmed_beyond(conn, before + (2 << 20))
        assert first.log.floor == floor
    async with Reader(database) as second:
        assert second.log.floor == floor
        assert second.replication.epoch == first.replication.epoch
        assert second.log.holds(floor)
        await insert(conn, 1)
        await until(lambda: second.held())


async def test_transactions_beyond_the_wal_window_are_forgotten_and_stay_forgotten(
    database: str, conn: psycopg.AsyncConnection[Any]
) -> None:
    async with Reader(database, wal_window=2 << 20) as first:
        await insert(conn, 1)
        await until(lambda: first.held())
        position = first.log.head
        await write_wal(conn, 4)
        await until(lambda: not first.held())
        assert first.log.floor == first.log.head == position
        await confirmed_beyond(conn, position)
    async with Reader(database, wal_window=2 << 20) as second:
        assert (second.log.floor, second.log.head) == (position, position)
        assert second.replication.epoch == first.replication.epoch


async def leave_the_window(reader: Reader, conn: psycopg.AsyncConnection[Any]) -> None:
    """What the log holds is forgotten, and a row comes after it."""
    position = reader.log.head
    await write_wal(conn, 4)
    await until(lambda: not reader.held())
    await confirmed_beyond(conn, position)
    await insert(conn, 1)
    await until(lambda: reader.titles() == [b"t1"])
    await status_updates(conn, 2)


async def test_a_column_older_than_the_window_does_not_stop_its_table_after_a_restart(
    database: str, conn: psycopg.AsyncConnection[Any]
) -> None:
    async with Reader(database, wal_window=2 << 20) as first:
        await conn.execute("ALTER TABLE items ADD COLUMN note text")
        await until(lambda: first.held())
        await leave_the_window(first, conn)
    async with Reader(database, wal_window=2 << 20) as second:
        assert second.titles() == [b"t1"]
        assert second.held()[0].changes == first.held()[0].changes
        assert second.replication.stopped == {}


async def test_a_version_that_came_before_the_connection_was_lost_is_remembered(
    database: str, conn: psycopg.AsyncConnection[Any]
) -> None:
    async with Reader(database, wal_window=2 << 20) as first:
        await conn.execute("ALTER TABLE items ADD COLUMN note text")
        await until(lambda: first.held())
        await conn.execute(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = %s",
            [slot_of(conn)],
        )
        await until(lambda: sum(isinstance(one, events.ReplicationCaughtUp) for one in first.noticed) == 2)
        await leave_the_window(first, conn)
    async with Reader(database, wal_window=2 << 20) as second:
        assert second.held()[0].changes == first.held()[0].changes
        assert second.replication.stopped == {}


@pytest.mark.parametrize("versions", [1, REMEMBERED_VERSIONS + 5])
async def test_what_is_behind_the_floor_is_known_however_much_is_ahead(
    conn: psycopg.AsyncConnection[Any], versions: int
) -> None:
    slot, system = slot_of(conn), System("1", 1, conn.info.dbname)
    await claim(conn, slot, system)
    ahead = [PassedVersion(100 + number, f"3{number:04}") for number in range(versions)]
    passed = [PassedVersion(1, "1"), PassedVersion(2, "2"), *ahead]
    await remember(conn, floor=50, confirmed=2**60, passed=passed)
    await conn.execute(
        "UPDATE leyden.meta SET value = value || '{\"floor\": 50}' WHERE key = 'log_floor'"  # as it was
    )
    assert (await claim(conn, slot, system)).version == "2"


async def test_a_lost_slot_begins_a_new_epoch(database: str, conn: psycopg.AsyncConnection[Any]) -> None:
    async with Reader(database) as first:
        await insert(conn, 1)
        await until(lambda: first.held())
    await drop_slot(conn)
    await insert(conn, 2)
    async with Reader(database) as second:
        assert second.replication.epoch != first.replication.epoch
        assert not second.held()
        assert not second.log.holds(first.log.head)


async def test_a_slot_recreated_by_somebody_else_begins_a_new_epoch(
    database: str, conn: psycopg.AsyncConnection[Any]
) -> None:
    async with Reader(database) as first:
        pass
    await drop_slot(conn)
    await insert(conn, 1)
    await conn.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot_of(conn)])
    async with Reader(database) as second:
        assert second.replication.epoch != first.replication.epoch


async def test_a_slot_lost_while_running_begins_a_new_epoch_and_says_so(
    database: str, conn: psycopg.AsyncConnection[Any]
) -> None:
    # Slow to come back, so that the slot can be dropped meanwhile.
    async with Reader(database, timing=Timing(shortest_retry=0.5)) as reader:
        await insert(conn, 1)
        await until(reader.held)
        old_epoch, old_head = reader.replication.epoch, reader.log.head
        await drop_slot(conn)
        await until(lambda: reader.epochs)
        await until(reader.replication.caught_up.is_set)
        assert reader.epochs == [reader.replication.epoch]
        assert reader.replication.epoch != old_epoch
        assert not reader.log.holds(old_head)
        await insert(conn, 2)
        await until(lambda: reader.titles() == [b"t2"])


async def test_a_second_reader_waits_and_says_why(database: str, conn: psycopg.AsyncConnection[Any]) -> None:
    async with Reader(database) as first:
        second = Reader(database)
        task = asyncio.create_task(second.replication.run())
        await until(lambda: any(isinstance(e, events.ReplicationInterrupted) for e in second.noticed))
        assert "active" in second.replication.status
        assert first.replication.caught_up.is_set()
        await first.__aexit__()
        await until(second.replication.caught_up.is_set)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("other", [{"timeline": 2}, {"identifier": "1"}], ids=["timeline", "system"])
async def test_the_same_slot_on_another_timeline_or_system_begins_a_new_epoch(
    conn: psycopg.AsyncConnection[Any], other: dict[str, Any]
) -> None:
    """As on a standby that Postgres has kept the slot on, and that has taken over."""
    slot, system = slot_of(conn), System("7", 1, conn.info.dbname)
    first = await claim(conn, slot, system)
    assert (await claim(conn, slot, system)).epoch == first.epoch
    position = await confirmed_position(conn)
    second = await claim(conn, slot, replace(system, **other))
    assert second.fresh
    assert second.epoch != first.epoch
    assert second.floor > position
    assert (await claim(conn, slot, replace(system, **other))).epoch == second.epoch
