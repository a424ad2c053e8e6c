"""A database that is slow at the moments that matter: before and after it gives a snapshot, and in telling what has
committed.

So transactions come between the position of a client and the snapshot of its data, and between that and the position
read with it; and the stream is behind what snapshots see. All that happens too seldom by itself to be tested.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random
from typing import Any
from unittest.mock import patch

import psycopg

from leyden.postgres.reading import snapshots
from leyden.postgres.reading.snapshots import Snapshot, Snapshots
from leyden.postgres.replication.wal_stream import WalStream

#: What tells the position that goes with a snapshot.
POSITION = "pg_current_wal_insert_lsn()"
assert POSITION in inspect.getsource(snapshots)


@contextmanager
def slow_database(random: Random, longest: float) -> Iterator[None]:
    """Every snapshot, and every part of the stream, comes up to ``longest`` seconds late."""
    open_at_once, wait_no_longer = Snapshots.open, WalStream.wait
    execute_at_once = psycopg.AsyncConnection.execute

    @asynccontextmanager
    async def open_late(source: Snapshots) -> AsyncIterator[Snapshot]:
        await asyncio.sleep(random.uniform(0, longest))
        async with open_at_once(source) as snapshot:
            yield snapshot

    async def wait_longer(stream: WalStream, seconds: float) -> bool:
        there_is_something = await wait_no_longer(stream, seconds)
        await asyncio.sleep(random.uniform(0, longest))
        return there_is_something

    async def execute_late(conn: psycopg.AsyncConnection[Any], query: Any, *arguments: Any, **more: Any) -> Any:
        if POSITION in str(query):
            await asyncio.sleep(random.uniform(0, longest))
        return await execute_at_once(conn, query, *arguments, **more)

    with (
        patch.object(Snapshots, "open", open_late),
        patch.object(WalStream, "wait", wait_longer),
        patch.object(psycopg.AsyncConnection, "execute", execute_late),
    ):
        yield
