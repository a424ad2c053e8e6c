"""Checkpoints: how far back the rows written after a position can be told, and what is kept for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from leyden.log.memory import MemoryLog
from leyden.postgres import checkpoints
from leyden.postgres.checkpoints import Checkpoints, written_since
from leyden.postgres.replication.reader import Replication, Timing
from leyden.postgres.sessions import connect, session_conninfo
from leyden.postgres.tombstones import collect_tombstones

DAY = 86_400
FAST = Timing(status=0.02, nudge=0.02, checkpoint=0.0)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        session_conninfo(database), min_size=1, max_size=4, open=False, kwargs={"autocommit": True}
    )
    async with pool:
        yield pool


@pytest.fixture
async def conn(database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await connect(database, autocommit=True) as conn:
        await conn.execute("CREATE TABLE items (id int4 PRIMARY KEY, electric_user_id text)")
        await conn.execute("CALL electric.electrify('items')")
        yield conn


@asynccontextmanager
async def reading(dsn: str, timing: Timing = FAST) -> AsyncIterator[Replication]:
    replication = Replication(dsn, MemoryLog(1 << 24), lambda event: None, wal_window=1 << 30, timing=timing)
    task = asyncio.create_task(replication.run())
    try:
        async with asyncio.timeout(20):
            await replication.caught_up.wait()
        yield replication
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def values(conn: psycopg.AsyncConnection[Any], query: sql.Composed | LiteralString) -> list[Any]:
    return [row[0] for row in await (await conn.execute(query)).fetchall()]


async def written_keys(conn: psycopg.AsyncConnection[Any], xid: int) -> set[str]:
    query = sql.SQL("SELECT s.pk FROM leyden.row_state AS s WHERE {}").format(written_since("s", xid))
    return set(await values(conn, query))


async def new_checkpoints(conn: psycopg.AsyncConnection[Any], known: int = 1) -> list[int]:
    """The positions of those after the first ``known``, once there are any."""
    query = sql.SQL("SELECT position FROM leyden.checkpoints ORDER BY 1 OFFSET {}").format(sql.Literal(known))
    async with asyncio.timeout(20):
        while not (found := await values(conn, query)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


async def test_a_history_begins_with_a_checkpoint_before_everything_in_it(
    database: str, conn: psycopg.AsyncConnection[Any], pool: AsyncConnectionPool[Any]
) -> None:
    await conn.execute("INSERT INTO items VALUES (1)")
    async with reading(database, Timing()) as replication:
        floor = replication.position
        (begun_at,) = await values(conn, "SELECT position FROM leyden.checkpoints")
        assert begun_at <= floor
        assert await Checkpoints(pool).find(begun_at - 1) is None
        found = await Checkpoints(pool).find(begun_at)
        assert found is not None
        assert found.position == begun_at
        await conn.execute("INSERT INTO items VALUES (2)")
        assert await written_keys(conn, found.xid) == {'["2"]'}


async def test_what_was_written_after_a_checkpoint_is_told_from_what_was_before(
    database: str, conn: psycopg.AsyncConnection[Any], pool: AsyncConnectionPool[Any]
) -> None:
    async with reading(database) as replication, await connect(database) as slow:
        await conn.execute("INSERT INTO items SELECT generate_series(1, 3)")
        # Its first step may have been taken while that transaction was running, which then counts as one of after it.
        await new_checkpoints(conn)
        # Begun before the next checkpoint, committed after it.
        await slow.execute("INSERT INTO items VALUES (4); SAVEPOINT s; INSERT INTO items VALUES (5)")
        await conn.execute("INSERT INTO items VALUES (6)")
        (position,) = await new_checkpoints(conn, known=2)
        assert position == replication._log.head
        await slow.commit()
        await conn.execute("UPDATE items SET electric_user_id = 'me' WHERE id = 2; DELETE FROM items WHERE id = 3")
        found = await Checkpoints(pool).find(position)
        assert found is not None
        assert found.position == position
        told = await written_keys(conn, found.xid)
        assert told - {'["6"]'} == {f'["{key}"]' for key in (2, 3, 4, 5)}


async def test_an_idle_stream_is_not_marked_again(database: str, conn: psycopg.AsyncConnection[Any]) -> None:
    async with reading(database):
        await conn.execute("INSERT INTO items VALUES (1)")
        await new_checkpoints(conn)
        (before,) = await values(conn, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        await asyncio.sleep(0.2)
        (after,) = await values(conn, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        assert after == before


async def test_a_table_electrified_again_after_a_checkpoint_is_named(
    conn: psycopg.AsyncConnection[Any], pool: AsyncConnectionPool[Any]
) -> None:
    await checkpoints.store(conn, 10, await checkpoints.oldest_running(conn))
    await conn.execute("CREATE TABLE first (id int4 PRIMARY KEY); CALL electric.electrify('first')")
    (items,) = await values(conn, "SELECT 'items'::regclass::int8")
    found = await Checkpoints(pool).find(10)
    assert found is not None
    assert found.reenabled_since == frozenset()
    await conn.execute("ALTER TABLE items ADD COLUMN note text")
    assert await Checkpoints(pool).find(10) == found
    await conn.execute("SELECT leyden.disable('items'); CALL electric.electrify('items')")
    again = await Checkpoints(pool).find(10)
    assert again is not None
    assert again.reenabled_since == {items}


async def test_ids_too_far_apart_to_be_compared_tell_nothing(
    conn: psycopg.AsyncConnection[Any], pool: AsyncConnectionPool[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_COMPARABLE_IDS", 100)
    now = await checkpoints.oldest_running(conn)
    await checkpoints.store(conn, 10, now - 100)
    await checkpoints.store(conn, 20, now)
    assert await Checkpoints(pool).find(10) is None
    assert await Checkpoints(pool).find(20) is not None


@pytest.mark.parametrize(
    ("own", "since", "written"),
    [(100, 100, True), (99, 100, False), (3, 2**32 + 3, True), (2**32 - 1, 2**32 + 3, False), (3, 2**32 - 9, True)],
)
async def test_ids_are_compared_across_the_turn_of_their_lower_half(
    conn: psycopg.AsyncConnection[Any], own: int, since: int, *, written: bool
) -> None:
    query = sql.SQL("SELECT {} FROM (SELECT {}::text::xid AS xmin) AS s").format(
        written_since("s", since), sql.Literal(str(own))
    )
    assert await values(conn, query) == [written]


async def test_old_checkpoints_are_thinned_out_and_the_first_of_an_interval_remains(
    conn: psycopg.AsyncConnection[Any],
) -> None:
    await conn.execute(
        "INSERT INTO leyden.checkpoints SELECT n, '3', '2020-01-01'::timestamptz + n * interval '1 minute'"
        " FROM generate_series(0, 29) AS n"
    )
    await conn.execute("INSERT INTO leyden.checkpoints SELECT 100 + n, '3' FROM generate_series(0, 2) AS n")
    await checkpoints.store(conn, 200, 3)
    assert await values(conn, "SELECT position FROM leyden.checkpoints ORDER BY 1") == [0, 10, 20, 100, 101, 102, 200]


async def aged(conn: psycopg.AsyncConnection[Any], days: float) -> None:
    """As if everything up to now had happened so long ago; rows keep their ids."""
    await conn.execute("UPDATE leyden.checkpoints SET taken_at = taken_at - make_interval(secs => %s)", [days * DAY])


async def checkpoint(conn: psycopg.AsyncConnection[Any], position: int) -> None:
    await checkpoints.store(conn, position, await checkpoints.oldest_running(conn))


async def delete_long_ago(conn: psycopg.AsyncConnection[Any], key: int) -> None:
    """Deletes a row whose state says that it was long ago, as that of a transaction which has run for long does."""
    await conn.execute("DELETE FROM items WHERE id = %s", [key])
    await conn.execute(
        "UPDATE leyden.row_state SET touched = touched - interval '10 days' WHERE pk = %s", [f'["{key}"]']
    )


async def test_nothing_is_forgotten_that_a_client_may_need_that_is_told_to_come_back(
    conn: psycopg.AsyncConnection[Any], pool: AsyncConnectionPool[Any]
) -> None:
    await conn.execute("INSERT INTO items SELECT generate_series(1, 4), 'me'")
    await checkpoint(conn, 10)
    await delete_long_ago(conn, 1)
    await aged(conn, 1)
    await checkpoint(conn, 20)
    await aged(conn, 5)
    # After the last checkpoint that is old enough, and yet it says that it is older.
    await delete_long_ago(conn, 2)
    await checkpoint(conn, 30)
    await delete_long_ago(conn, 3)
    assert await collect_tombstones(pool, older_than=3 * DAY) == 1
    assert await Checkpoints(pool).find(19) is None
    found = await Checkpoints(pool).find(20)
    assert found is not None
    assert await written_keys(conn, found.xid) == {'["2"]', '["3"]'}
    assert await values(conn, "SELECT pk FROM leyden.former_ties ORDER BY 1") == ['["2"]', '["3"]']


async def test_without_a_checkpoint_old_enough_everything_since_the_oldest_one_is_kept(
    conn: psycopg.AsyncConnection[Any], pool: AsyncConnectionPool[Any]
) -> None:
    await conn.execute("INSERT INTO items SELECT generate_series(1, 2), 'me'")
    await delete_long_ago(conn, 1)
    await checkpoint(conn, 10)
    await delete_long_ago(conn, 2)
    assert await collect_tombstones(pool, older_than=3 * DAY) == 1
    found = await Checkpoints(pool).find(10)
    assert found is not None
    assert await written_keys(conn, found.xid) == {'["2"]'}
