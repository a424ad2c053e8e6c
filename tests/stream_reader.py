"""A running reader of the replication stream, for tests that look at what arrives in the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from leyden import events
from leyden.log.memory import MemoryLog
from leyden.model import Table, Transaction
from leyden.postgres.replication.reader import Replication


@dataclass
class Reader:
    """A running reader, its log, and what it noticed."""

    replication: Replication
    log: MemoryLog
    noticed: list[events.Event]
    task: asyncio.Task[None]
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    taken: int = 0

    @classmethod
    @asynccontextmanager
    async def running(cls, dsn: str, wal_window: int = 1 << 30) -> AsyncIterator[Self]:
        """A reader that has caught up with the present; it ends with the context."""
        log = MemoryLog(1 << 24)
        noticed: list[events.Event] = []
        replication = Replication(dsn, log, noticed.append, wal_window=wal_window)
        reader = cls(replication, log, noticed, asyncio.create_task(replication.run()))
        log.subscribe(lambda _: reader.arrived.set())
        try:
            async with asyncio.timeout(20):
                await replication.caught_up.wait()
            reader.taken = log.floor
            yield reader
        finally:
            reader.task.cancel()
            await asyncio.gather(reader.task, return_exceptions=True)

    async def next(self) -> Transaction:
        """The first transaction not returned by an earlier call, once the log has it."""
        async with asyncio.timeout(20):
            while not (found := self.log.after(self.taken, limit=1)):
                self.arrived.clear()
                await self.arrived.wait()
        self.taken = found[0].position
        return found[0]

    def table(self, name: str) -> Table:
        return next(table for table in self.replication.tables.values() if table.name == name)
