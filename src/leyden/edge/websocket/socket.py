"""One small interface to a WebSocket, with two implementations.

ASGI has no ping, no way to see a full buffer without waiting, and frames each message anew for each client. Under
uvicorn we therefore bring our own protocol class (``server.py``) that offers itself through the ASGI scope; under any
other ASGI server :class:`AsgiSocket` does the same with what ASGI has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

#: Bytes waiting for a client above which nothing more is produced for it until they are gone.
HIGH_WATER_BYTES = 1 << 20

#: Without pings, how long to wait for a client to have handled what was sent (seconds). See :meth:`AsgiSocket.ping`.
PORTABLE_PAUSE = 0.05

#: Name under which a server offers a :class:`Socket` in ``scope["extensions"]``.
EXTENSION = "leyden.socket"


def server_frame(payload: bytes) -> bytes:
    """``payload`` as one unfragmented, unmasked binary frame (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        header = bytes((0x82, size))
    elif size < 1 << 16:
        header = b"\x82\x7e" + size.to_bytes(2, "big")
    else:
        header = b"\x82\x7f" + size.to_bytes(8, "big")
    return header + payload


class Packet:
    """Messages that are sent together, to any number of clients: framed once, the same bytes for all."""

    __slots__ = ("payloads", "wire")

    def __init__(self, payloads: Iterable[bytes]) -> None:
        self.payloads = tuple(payloads)
        self.wire = b"".join(map(server_frame, self.payloads))


class Socket(Protocol):
    """The sending half of a WebSocket connection."""

    def send(self, packet: Packet) -> bool:
        """Queues ``packet``. False when the connection is gone or holds more than it should: stop producing."""

    @property
    def buffered(self) -> int:
        """Bytes accepted but not yet taken by the network."""

    async def drain(self) -> None:
        """Returns when producing may go on, or the connection is gone."""

    async def ping(self, timeout: float) -> bool:  # noqa: ASYNC109 - a bound, not a cancellation
        """Whether the client has handled everything sent so far, as its PONG proves; False after ``timeout``."""

    def take_at_once(self, take: Callable[[bytes], bool]) -> None:
        """From now on ``take`` is offered each short message that arrives whole, if all before it were taken. What it
        does not take, it returns ``False``, is received as usual."""

    def limit_messages(self, size: int) -> None:
        """Refuses, by their announced length, incoming messages above ``size`` bytes."""

    @property
    def silence(self) -> float:
        """Seconds since anything, down to a part of a frame, came from the client; 0 while it waits to be read."""

    async def alive(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Pings, and tells whether the client gave any sign of life within ``timeout``."""

    def abort(self) -> None:
        """Drops the connection, and with it whatever was not sent yet."""

    def abort_in(self, seconds: float) -> None:
        """Drops it after so long, unless it is gone by then."""


class AsgiSocket:
    """A socket over plain ASGI, for foreign servers: a queue and the task that empties it."""

    def __init__(self, send: Callable[[MutableMapping[str, Any]], Awaitable[None]]) -> None:
        self._send = send
        self._queue: asyncio.Queue[Packet] = asyncio.Queue()
        self._buffered = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._flushed = asyncio.Event()
        self._flushed.set()
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            while True:
                packet = await self._queue.get()
                for payload in packet.payloads:
                    await self._send({"type": "websocket.send", "bytes": payload})
                self._buffered -= len(packet.wire)
                if self._buffered <= HIGH_WATER_BYTES:
                    self._writable.set()
                if self._queue.empty():
                    self._flushed.set()
        except Exception:  # each server raises a type of its own when the client is gone, which the reader hears too
            return
        finally:
            self._writable.set()
            self._flushed.set()

    def send(self, packet: Packet) -> bool:
        if self._task.done():
            return False
        self._buffered += len(packet.wire)
        self._flushed.clear()
        self._queue.put_nowait(packet)
        if self._buffered > HIGH_WATER_BYTES:
            self._writable.clear()
            return False
        return True

    @property
    def buffered(self) -> int:
        return self._buffered

    async def drain(self) -> None:
        await self._writable.wait()

    async def flush(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Whether everything queued was handed to the server within ``timeout``, or the client is gone."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._flushed.wait()
        return self._flushed.is_set()

    async def ping(self, timeout: float) -> bool:  # noqa: ASYNC109
        # ASGI cannot ping. A pause is enough on the way that matters: that the client's event loop handles the
        # answer to its call before the data that follows.
        if not await self.flush(timeout):
            return False
        await asyncio.sleep(PORTABLE_PAUSE)
        return True

    def take_at_once(self, take: Callable[[bytes], bool]) -> None:
        pass  # ASGI hands messages over to whoever awaits them

    def limit_messages(self, size: int) -> None:
        pass  # the foreign server's own setting holds

    @property
    def silence(self) -> float:
        return 0.0  # not to be seen through ASGI: the foreign server's own pings find dead clients

    async def alive(self, timeout: float) -> bool:  # noqa: ASYNC109
        return True

    def abort(self) -> None:
        self._task.cancel()

    def abort_in(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.abort)

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
