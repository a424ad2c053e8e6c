"""One conversation of a client at a time.

What an ended connection still has under way may write down what its client had come to. The next connection of that
client waits for it: otherwise this would be written behind its back, and be taken for its own the time after.
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Turns:
    """By client, who has its turn. Anybody may claim to be a client, so a turn is taken only with a verified token."""

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def take(self, client_id: str) -> asyncio.Lock:
        """Returns once the connections before have ended. The turn lasts until what is returned is released."""
        turn = self._turns.get(client_id)
        if turn is None:
            turn = self._turns[client_id] = asyncio.Lock()
        await turn.acquire()
        return turn
