"""A WebSocket within one process, with a network that can be slow, stop, and break off anywhere.

The server's end is a :class:`leyden.edge.websocket.socket.Socket`. What the server sends is handed over one message at
a time, in turns of the event loop, so everything else can happen in between. A connection that is cut loses what was on
its way; one that the server closes does not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from leyden.edge.websocket.socket import HIGH_WATER_BYTES, Packet

#: Bytes on their way above which the server is told that there are too many. Small, so that it happens.
ROOM = 4_096


class Client(Protocol):
    """Who is at the other end."""

    def hand_over(self, payload: bytes) -> None:
        """The server's next message."""

    def pinged(self) -> None:
        """The server's ping has come; the answer is sent by itself."""

    def disconnected(self) -> None:
        """The connection is lost, or the server has closed it."""


class _Close:
    """The server's last word."""


class MemorySocket:
    """The connection of ``client``."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._way_down: deque[bytes | asyncio.Future[bool] | _Close] = deque()
        self._bytes = 0
        self._way_up: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._take: Callable[[bytes], bool] = lambda payload: False
        self._writable = asyncio.Event()
        self._writable.set()
        self._scheduled = False
        self.is_stalled = False
        #: Whether nothing comes through any more.
        self.is_cut = False
        self._cut_after: int | None = None

    # ---- the server's end ----------------------------------------------------------------------------------------

    def send(self, packet: Packet) -> bool:
        if self.is_cut:
            return False
        self._way_down.extend(packet.payloads)
        self._bytes += sum(map(len, packet.payloads))
        self._settle()
        return self._writable.is_set()

    @property
    def buffered(self) -> int:
        return 0 if self._writable.is_set() else HIGH_WATER_BYTES + 1

    async def drain(self) -> None:
        await self._writable.wait()

    def take_at_once(self, take: Callable[[bytes], bool]) -> None:
        self._take = take

    async def ping(self, timeout: float) -> bool:  # noqa: ASYNC109
        if self.is_cut:
            return False
        answered: asyncio.Future[bool] = self._loop.create_future()
        self._way_down.append(answered)
        self._settle()
        try:
            async with asyncio.timeout(timeout):
                return await answered
        except TimeoutError:
            return False

    def limit_messages(self, size: int) -> None: ...

    @property
    def silence(self) -> float:
        return 0.0

    async def alive(self, timeout: float) -> bool:  # noqa: ASYNC109
        return True

    def abort(self) -> None:
        self.cut()

    def abort_in(self, seconds: float) -> None: ...

    async def receive(self) -> bytes | None:
        """The client's next message; ``None`` when it has gone."""
        return await self._way_up.get()

    def close(self) -> None:
        """The server has closed the connection. What it sent before still arrives."""
        if not self.is_cut:
            self._way_down.append(_Close())
            self._settle()

    # ---- the client's end ----------------------------------------------------------------------------------------

    def transmit(self, payload: bytes) -> None:
        if not self.is_cut and not (self._way_up.empty() and self._take(payload)):
            self._way_up.put_nowait(payload)

    # ---- the network ---------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether nothing is on its way to the client."""
        return not self._way_down

    def stall(self, stalled: bool) -> None:
        """Holds back what is on its way to the client, or lets it through again."""
        self.is_stalled = stalled
        self._settle()

    def cut(self, *, unnoticed: bool = False) -> None:
        """Breaks the connection off. ``unnoticed`` by the server, which goes on as if nothing had happened."""
        if self.is_cut:
            return
        self.is_cut = True
        self._way_down.clear()
        self._bytes = 0
        self._writable.set()
        if not unnoticed:
            self._way_up.put_nowait(None)
        self._client.disconnected()

    def cut_after(self, messages: int) -> None:
        """Breaks the connection off when so many more messages have been handed over."""
        self._cut_after = messages
        if not messages:
            self.cut()

    def _settle(self) -> None:
        if self._bytes > ROOM:
            self._writable.clear()
        else:
            self._writable.set()
        if self._way_down and not self.is_stalled and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._hand_over_next)

    def _hand_over_next(self) -> None:
        self._scheduled = False
        if self.is_stalled or not self._way_down:
            return
        item = self._way_down.popleft()
        if isinstance(item, bytes):
            self._bytes -= len(item)
            self._client.hand_over(item)
            if self._cut_after is not None:
                self.cut_after(self._cut_after - 1)
        elif isinstance(item, _Close):
            self.cut()
        else:
            self._client.pinged()
            if not item.done():
                item.set_result(True)
        self._settle()
