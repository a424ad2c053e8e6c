"""Forgets the state of rows that were deleted long ago.

What is kept of a deleted row, its last version among it, decides about writes of clients that had not heard of the
deletion, and tells clients that come back which rows to drop. It is kept for as long as a client may be away;
afterwards such a write is like one to a row that never existed, and such a client starts afresh. What rows were tied to
before goes the same way. Owns the time of that and its pace; what a state means is not known here.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from leyden.events import DatabaseUnavailable, Emit, TombstonesForgotten
from leyden.postgres import checkpoints

Pool = AsyncConnectionPool[psycopg.AsyncConnection[Any]]

#: Seconds between two passes.
INTERVAL: Final = 6 * 3600.0

#: Pages of the table (8 kB each) that one statement looks at: what it finds it locks until its commit.
PAGES_AT_ONCE: Final = 1000

# By physical place, because there is no index to find them by: one on the tags would have to be maintained at every
# write of a row. A state that is written meanwhile is a living one or a fresh one, which the conditions spare.
_PLACE: Final = sql.SQL("ctid >= {first}::tid AND ctid < {end}::tid")
_TOMBSTONES: Final = sql.SQL(
    "DELETE FROM leyden.row_state AS s WHERE {place} AND s.tags = '{{}}'"
    " AND s.touched < pg_catalog.now() - pg_catalog.make_interval(secs => {older_than}) AND ({expendable})"
)
_TIES: Final = sql.SQL("DELETE FROM leyden.former_ties AS s WHERE {place} AND ({expendable})")


async def collect_tombstones(pool: Pool, *, older_than: float) -> int:
    """Forget the rows deleted more than ``older_than`` seconds ago, in one pass over the table; how many they were.

    What a client may need that is told to come back is spared, whenever it was. Raises :class:`psycopg.Error`.
    """
    async with pool.connection() as conn:
        needed_from = await checkpoints.forget_older(conn, older_than)
    expendable: sql.Composable = sql.SQL("true")
    if needed_from is not None:
        expendable = sql.SQL("NOT ({})").format(checkpoints.written_since("s", needed_from))
    values = {"older_than": sql.Literal(older_than), "expendable": expendable}
    if needed_from is not None:
        await _delete_by_place(pool, "leyden.former_ties", _TIES, values)
    return await _delete_by_place(pool, "leyden.row_state", _TOMBSTONES, values)


async def _delete_by_place(pool: Pool, table: str, delete: sql.SQL, values: dict[str, sql.Composable]) -> int:
    deleted = 0
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT pg_catalog.pg_relation_size(%s::pg_catalog.regclass)"
            " / pg_catalog.current_setting('block_size')::pg_catalog.int8",
            [table],
        )
        row = await cursor.fetchone()
    for first in range(0, 0 if row is None else int(row[0]), PAGES_AT_ONCE):
        place = _PLACE.format(first=sql.Literal(f"({first},0)"), end=sql.Literal(f"({first + PAGES_AT_ONCE},0)"))
        async with pool.connection() as conn:
            deleted += (await conn.execute(delete.format(place=place, **values))).rowcount
    return deleted


async def forget_tombstones(pool: Pool, emit: Emit, *, older_than: float) -> None:
    """A pass now and another every :data:`INTERVAL`, until cancelled. One that fails is left to the next."""
    while True:
        try:
            forgotten = await collect_tombstones(pool, older_than=older_than)
        except psycopg.Error as error:
            state = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
            emit(DatabaseUnavailable(f"rows deleted long ago could not be forgotten{state}", INTERVAL))
        else:
            if forgotten:
                emit(TombstonesForgotten(forgotten))
        await asyncio.sleep(INTERVAL)
