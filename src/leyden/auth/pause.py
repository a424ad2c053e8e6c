"""Waiting that can end early.

Owns the race between an event and a timer. The timer's sleep is the caller's, so that tests need not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

Clock = Callable[[], float]
"""Seconds of a clock that never goes back."""

Sleep = Callable[[float], Coroutine[Any, Any, None]]


async def until(event: asyncio.Future[Any], seconds: float, sleep: Sleep) -> None:
    """Wait for `event`, but no longer than `seconds`. The event itself is left alone, whatever happens."""
    timer = asyncio.ensure_future(sleep(seconds))
    try:
        await asyncio.wait((event, timer), return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
