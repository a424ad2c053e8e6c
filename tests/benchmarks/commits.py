"""Somebody who commits small transactions at a steady rate; a program: ``Child.running("benchmarks.commits")``."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from psycopg import sql

from benchmarks.child import answering
from benchmarks.stage import Session


class Program:
    def __init__(self) -> None:
        self._bulk: asyncio.Task[None] | None = None

    async def run(self, dsn: str, rate: float, seconds: float, sessions: int = 1) -> list[float]:
        """When the ``COMMIT`` of each transaction was sent (the monotonic clock), in that order. Who falls behind makes
        up for it. Before them each session commits one that is not among these."""
        async with AsyncExitStack() as stack:
            those = [await stack.enter_async_context(Session.open(dsn)) for _ in range(sessions)]
            for session in those:
                await session.commit()  # what is prepared at first is prepared now
            started = time.monotonic()

            async def work(at: int, session: Session) -> list[float]:
                commits = []
                for number in range(at, round(rate * seconds), sessions):
                    await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
                    commits.append(await session.commit())
                return commits

            done = await asyncio.gather(*(work(at, session) for at, session in enumerate(those)))
            return sorted(commit for commits in done for commit in commits)

    async def start_bulk(self, dsn: str, table: str, rate: float, size: int) -> None:
        """From now on a row of ``size`` bytes of text goes into ``table`` so many times a second."""
        self._bulk = asyncio.create_task(self._run_bulk(dsn, table, rate, size))

    async def _run_bulk(self, dsn: str, table: str, rate: float, size: int) -> None:
        insert = sql.SQL("INSERT INTO {} VALUES (gen_random_uuid(), 'bulk', repeat('x', %s))").format(
            sql.Identifier(table)
        )
        async with Session.open(dsn) as session:
            while True:
                await session.conn.execute(insert, [size])
                await asyncio.sleep(1 / rate)


if __name__ == "__main__":
    answering(Program)
