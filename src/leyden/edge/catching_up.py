"""Catching up with Postgres once for all who want it at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg

from leyden.cancellation import cancel


class CatchingUp:
    """Runs ``catch_up``, which returns once the log holds everything that had committed when it began.

    Whoever calls while it runs takes the next run, which all share that call until it begins. One that is cancelled
    takes nothing away from the others.
    """

    def __init__(self, catch_up: Callable[[], Awaitable[None]]) -> None:
        self._catch_up = catch_up
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        """Raises what ``catch_up`` raises, and :class:`psycopg.OperationalError` when this has ended."""
        run = self._next
        if run is None:
            run = self._next = asyncio.create_task(self._run(self._running))
            run.add_done_callback(_look_at)
        await asyncio.wait((run,))
        if run.cancelled():
            raise psycopg.OperationalError("the database is not read any more")
        run.result()

    def cancel(self) -> None:
        """Nobody is to be waited for any more."""
        for run in self._runs:
            run.cancel()

    async def end(self) -> None:
        """The same, and returns when nothing runs any more."""
        await cancel(*self._runs)

    @property
    def _runs(self) -> list[asyncio.Task[None]]:
        return [run for run in (self._next, self._running) if run is not None]

    async def _run(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait((before,))
        self._running, self._next = self._next, None
        try:
            await self._catch_up()
        finally:
            self._running = None


def _look_at(run: asyncio.Task[None]) -> None:
    """Nobody may have waited for it to the end; asyncio would report its error then."""
    if not run.cancelled():
        run.exception()
