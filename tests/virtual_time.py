"""A clock that only a test moves, so that hours pass in milliseconds.

time = VirtualTime()
source = issued_keys(..., now=time.now, sleep=time.sleep)
await time.advance(3600)
"""

from __future__ import annotations

import asyncio
import heapq
import itertools

_TURNS = 25
"""Turns of the event loop in which everything that a change sets off has happened."""


class VirtualTime:
    """Seconds of a monotonic clock, and sleeping by it."""

    def __init__(self, start: float = 1_000_000.0) -> None:
        self._now = start
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._sleepers, (self._now + seconds, next(self._numbers), wake))
            await wake

    async def advance(self, seconds: float = 0.0) -> None:
        """Let so much time pass, waking each sleeper at its moment."""
        end = self._now + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            moment, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():
                self._now = max(self._now, moment)
                wake.set_result(None)
                await self._settle()
        self._now = end
        await self._settle()

    async def _settle(self) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
