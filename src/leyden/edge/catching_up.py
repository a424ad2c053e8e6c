"""Catching up with Postgres once for all who want it at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg

from leyden.cancellation import cancel

_ENDED = "the database is not read any more"


class _Run:
    """``waiting`` is the number of those who wait for it."""

    task: asyncio.Task[None]
    waiting = 0


class CatchingUp:
    """Runs ``catch_up``, which returns once the log holds everything that had committed when it began.

    Whoever calls while it runs takes the next run, which all share that call until it begins. One that is cancelled
    takes nothing away from the others; a run that nobody waits for any more is cancelled.
    """

    def __init__(self, catch_up: Callable[[], Awaitable[None]]) -> None:
        self._catch_up = catch_up
        self._running: _Run | None = None
        self._next: _Run | None = None
        self._has_ended = False

    async def __call__(self) -> None:
        """Raises what ``catch_up`` raises, and :class:`psycopg.OperationalError` when this has ended."""
        if self._has_ended:
            raise psycopg.OperationalError(_ENDED)
        if self._next is None:
            self._next = _Run()
            self._next.task = asyncio.create_task(self._run(self._next, self._running))
        run = self._next
        run.waiting += 1
        try:
            await asyncio.wait((run.task,))
        finally:
            run.waiting -= 1
            if not run.waiting and not run.task.done():
                run.task.cancel()
                if self._next is run:
                    self._next = None
        if run.task.cancelled():
            raise psycopg.OperationalError(_ENDED)
        try:
            run.task.result()
        finally:
            del run  # the error refers to this frame: who waited would stay in memory

    async def end(self) -> None:
        """Ends what runs, for good."""
        self.cancel()
        await cancel(*(run.task for run in (self._next, self._running) if run is not None))

    def cancel(self) -> None:
        """The same, without waiting for it."""
        self._has_ended = True
        for run in (self._next, self._running):
            if run is not None:
                run.task.cancel()

    async def _run(self, run: _Run, before: _Run | None) -> None:
        if before is not None:
            await asyncio.wait((before.task,))
        self._running, self._next = run, None
        del run, before  # an error refers to this frame: runs that fail would stay in memory, and all before them
        try:
            await self._catch_up()
        finally:
            self._running = None
