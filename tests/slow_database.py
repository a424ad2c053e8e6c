"""A database that is slow at the moments that matter: before it gives a snapshot, and in telling what has committed.

So transactions come between the position of a client and the snapshot of its data, and the stream is behind what
snapshots see. On a machine that does nothing else both happen too seldom to be tested.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random
from unittest.mock import patch

from leyden.postgres.snapshots import Snapshot, Snapshots
from leyden.postgres.wal_stream import WalStream


@contextmanager
def slow_database(random: Random, longest: float) -> Iterator[None]:
    """Every snapshot, and every part of the stream, comes up to ``longest`` seconds late."""
    open_at_once, wait_no_longer = Snapshots.open, WalStream.wait

    @asynccontextmanager
    async def open_late(snapshots: Snapshots) -> AsyncIterator[Snapshot]:
        await asyncio.sleep(random.uniform(0, longest))
        async with open_at_once(snapshots) as snapshot:
            yield snapshot

    async def wait_longer(stream: WalStream, seconds: float) -> bool:
        there_is_something = await wait_no_longer(stream, seconds)
        await asyncio.sleep(random.uniform(0, longest))
        return there_is_something

    with patch.object(Snapshots, "open", open_late), patch.object(WalStream, "wait", wait_longer):
        yield
