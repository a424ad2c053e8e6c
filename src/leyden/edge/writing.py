"""The writing for one connection: its uploads, in the name of whom it was let in as, for as long as that holds.

It outlives the connection until everything received is written. Whether something may still be written is asked before
each attempt and once a second, because a token can expire or be revoked while Postgres is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from leyden.edge.access.sessions import Session
from leyden.edge.core import Core
from leyden.edge.uploads import UploadQueue
from leyden.model import Author, Upload
from leyden.postgres.writing.writer import Outcome

#: How often it is asked whether what let the connection in holds still (seconds).
TICK = 1.0

#: By how much each refusal in a row makes a client's next upload wait longer, and how long it waits at most (seconds).
#: A refusal costs two transactions, and who does nothing else must not cost others much.
REFUSAL_PAUSE = 0.01
LONGEST_PAUSE = 0.1

#: Runs a job, and ends the connection when it fails. Waits for nothing else: its task ends with the job.
Guard = Callable[[Callable[[], Coroutine[Any, Any, None]]], Coroutine[Any, Any, None]]


class _OverError(Exception):
    """What let the connection in holds no longer, so that nothing is written for it."""


class _LateError(Exception):
    """An upload is written after its connection has ended, and so proves nothing of what its author has heard: who may
    be back, and have missed other echoes."""


class Writing:
    """Uploads go in by :meth:`put`; :meth:`finish` must be called when no more come."""

    def __init__(self, core: Core, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._core = core
        self._sleep = sleep
        self._queue = UploadQueue(self._write)
        self._session: Session | None = None
        self._guard: Guard | None = None
        #: Works off the queue; ends when it is empty, and another one begins with the next upload.
        self._task: asyncio.Task[None] | None = None
        self._refusals = 0
        self._finishing = False
        #: Whether what waits is given up: its author is sending it again, or may not write any more.
        self.abandoned = False

    @property
    def empty(self) -> bool:
        """Whether nothing waits or is being written."""
        return self._queue.empty

    def start(self, session: Session, guard: Guard) -> None:
        """Begin to write for ``session``."""
        self._session, self._guard = session, guard

    async def put(self, upload: Upload) -> None:
        """Adds ``upload``; waits while there is no room for it."""
        if self._guard is None:
            raise RuntimeError("nobody has been let in to write")
        await self._queue.put(upload)
        if self._queue.waiting and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._guard(self._queue.run))
            self._remember(self._task)

    def give_up(self) -> None:
        """What waits is not written when :meth:`finish` comes: its author is sending it again."""
        self.abandoned = True

    def stop(self) -> None:
        """Nothing more is written, not even what is under way."""
        self.abandoned = True
        self._queue.abandon()
        if self._task is not None:
            self._task.cancel()

    def finish(self) -> None:
        """No more will come. What was received is written, unless it was given up."""
        self._finishing = True
        self._guard = None  # it belongs to the connection, which would stay in memory with it
        if self.abandoned:
            self._queue.abandon()
        else:
            self._queue.finish()
        if self._task is not None and not self._task.done():
            self._remember(asyncio.create_task(self._mind(self._task)))

    def _remember(self, task: asyncio.Task[None]) -> None:
        self._core.writes.add(task)
        task.add_done_callback(self._core.writes.discard)

    async def _write(self, upload: Upload) -> None:
        try:
            outcome = await self._apply(upload)
        except _OverError:
            self.stop()
            return
        self._refusals = self._refusals + 1 if outcome is Outcome.REFUSED else 0
        if self._refusals > 1 and not self._finishing:
            await self._sleep(min(REFUSAL_PAUSE * (self._refusals - 1), LONGEST_PAUSE))

    async def _apply(self, upload: Upload) -> Outcome:
        def author() -> Author:
            if self._finishing and upload.echo_missed:
                raise _LateError
            return self._author()

        try:
            return await self._core.writer.apply(upload, author)
        except _LateError:
            return await self._core.writer.apply(replace(upload, echo_missed=False), self._author)

    def _author(self) -> Author:
        """In whose name something is written at this moment. Raises :class:`_OverError` when nothing may be."""
        # the clock may be ahead of the tick that ends sessions
        self._core.sessions.expire()
        session = self._session
        if session is None or self._is_over(session):
            raise _OverError
        return self._core.authors.of(session.identity)

    def _is_over(self, session: Session) -> bool:
        """Whether what let the connection in has ended, be the connection open or not."""
        now = self._core.clock()
        return now >= session.deadline or (
            self._core.authenticator.revocations.matching(session.identity, now) is not None
        )

    async def _mind(self, task: asyncio.Task[None]) -> None:
        """The connection is gone, and with it who would be told that its session is over."""
        while not (await asyncio.wait({task}, timeout=TICK))[0]:
            if self._session is None or self._is_over(self._session):
                self.stop()
