"""Forgets the state of rows that were deleted long ago.

What is kept of a deleted row, its last version among it, decides about writes of clients that had not heard of the
deletion. It is kept for as long as a client may be away; afterwards such a write is like one to a row that never
existed. Owns the time of that and its pace; what a state means is not known here.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import psycopg
from psycopg_pool import AsyncConnectionPool

from leyden.events import DatabaseUnavailable, Emit, TombstonesForgotten

Pool = AsyncConnectionPool[psycopg.AsyncConnection[Any]]

#: Seconds between two passes.
INTERVAL: Final = 6 * 3600.0

#: Pages of the table (8 kB each) that one statement looks at: what it finds it locks until its commit.
PAGES_AT_ONCE: Final = 1000

# By physical place, because there is no index to find them by: one on the tags would have to be maintained at every
# write of a row. A state that is written meanwhile is a living one or a fresh one, which the condition spares.
_DELETE: Final = (
    "DELETE FROM leyden.row_state WHERE ctid >= %s::tid AND ctid < %s::tid"
    " AND tags = '{}' AND touched < pg_catalog.now() - pg_catalog.make_interval(secs => %s)"
)


async def collect_tombstones(pool: Pool, *, older_than: float) -> int:
    """Forget the rows deleted more than ``older_than`` seconds ago, in one pass over the table; how many they were.

    Raises :class:`psycopg.Error`.
    """
    forgotten = 0
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT pg_catalog.pg_relation_size('leyden.row_state')"
            " / pg_catalog.current_setting('block_size')::pg_catalog.int8"
        )
        row = await cursor.fetchone()
    for first in range(0, 0 if row is None else int(row[0]), PAGES_AT_ONCE):
        async with pool.connection() as conn:
            place = [f"({first},0)", f"({first + PAGES_AT_ONCE},0)"]
            forgotten += (await conn.execute(_DELETE, [*place, older_than])).rowcount
    return forgotten


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
