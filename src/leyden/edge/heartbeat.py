"""Whether a client that is silent is still there."""

from __future__ import annotations

import asyncio

from leyden.edge.endings import ConnectionEnded
from leyden.edge.websocket.socket import Socket
from leyden.edge.writing import Guard

#: An idle client is pinged after this time; one that does not answer within the same time again is dropped (seconds).
PING_INTERVAL = 20.0

#: Shortest time between two looks at how long the client has been silent (seconds).
TICK = 1.0


class Heartbeat:
    """Looks when the client may have been silent for too long, and pings it then. Without a task: most are not."""

    __slots__ = ("_guard", "_loop", "_next_look", "_pinging", "_socket")

    def __init__(self, socket: Socket, guard: Guard) -> None:
        self._socket = socket
        self._guard: Guard | None = guard
        self._loop = asyncio.get_running_loop()
        self._next_look: asyncio.TimerHandle | None = None
        self._pinging: asyncio.Task[None] | None = None

    def look(self) -> None:
        remaining = PING_INTERVAL - self._socket.silence
        if remaining > 0:
            self._next_look = self._loop.call_later(max(remaining, TICK), self.look)
        elif self._guard is not None:
            self._pinging = asyncio.create_task(self._guard(self._ping))

    async def _ping(self) -> None:
        if not await self._socket.alive(PING_INTERVAL):
            raise ConnectionEnded(1011, "Client not responding to pings")
        self._next_look = self._loop.call_later(TICK, self.look)

    def end(self) -> asyncio.Task[None] | None:
        """Looks no more. Returns the ping that is under way, for the caller to cancel."""
        self._guard = None  # it belongs to the connection, which would stay in memory with it
        if self._next_look is not None:
            self._next_look.cancel()
        pinging, self._pinging = self._pinging, None
        return pinging
