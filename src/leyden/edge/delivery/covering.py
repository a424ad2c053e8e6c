"""Snapshots that see at least what a client was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from leyden.edge.delivery.fanout import FanOut
from leyden.postgres.reading.snapshots import Snapshot, Snapshots

#: Pauses between attempts (seconds).
SNAPSHOT_PAUSES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class SnapshotTooOld(Exception):
    """Postgres did not make visible in time what it had already committed."""


@asynccontextmanager
async def covering(snapshots: Snapshots, fanout: FanOut, position: int) -> AsyncIterator[Snapshot]:
    """A snapshot that sees every transaction up to ``position``. Raises :class:`SnapshotTooOld`."""
    for pause in SNAPSHOT_PAUSES:
        await asyncio.sleep(pause)
        async with snapshots.open() as snapshot:
            if fanout.is_seen_by(snapshot.point, position):
                yield snapshot
                return
    raise SnapshotTooOld
