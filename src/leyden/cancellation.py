"""Ending tasks for certain.

A cancellation can get lost: ``asyncio.wait_for`` of Python 3.11, with which psycopg waits too, returns its result when
the two come at the same moment. The task then goes on, and whoever waits for its end waits for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

#: Time for a cancelled task to leave things in order before it is cancelled once more (seconds).
PATIENCE = 5.0


async def cancel(*tasks: asyncio.Future[Any], patience: float | None = None) -> None:
    """Cancels ``tasks``, again every ``patience`` seconds, until all of them have ended, with whatever outcome."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=PATIENCE if patience is None else patience)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, or asyncio would report it as never retrieved
