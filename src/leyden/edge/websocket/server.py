"""uvicorn with protocol classes of ours.

The WebSocket class adds to uvicorn's own exactly what ASGI lacks: pings whose PONG can be waited for, sight of the
send buffer, a limit on incoming messages that can change after authentication, writing bytes that are framed already,
and a short way for short messages. The HTTP class adds the limits that uvicorn leaves out: on the size of a request's
head and on the time it may take to arrive. It also answers upgrades that are refused, before a WebSocket is made of
them. In front of it stands a class that closes connections of those who open too many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, cast
from urllib.parse import unquote

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from leyden.edge.admission import Doorkeeper, HandshakeRefused
from leyden.edge.websocket.short_frames import FrameBoundary, short_message
from leyden.edge.websocket.socket import EXTENSION, HIGH_WATER_BYTES, Packet

#: Connections that may wait to be accepted, as far as the system lets them (``net.core.somaxconn``).
BACKLOG = 4096

#: Before authentication a message holds one token (at most 16 KiB) and little else.
UNAUTHENTICATED_MESSAGE_BYTES = 24 * 1024

#: Largest head of an HTTP request: its first line and its headers.
REQUEST_HEAD_BYTES = 32 * 1024

#: Time for the head of an HTTP request to arrive (seconds).
REQUEST_HEAD_DEADLINE = 10.0

#: Headers of an upgrade request, as in the parser for WebSockets.
UPGRADE_HEADERS = 128

#: How long the answer to somebody beyond his limits is held back (seconds), and for how many at a time.
HELD_BACK_FOR = 1.0
HELD_BACK_ANSWERS = 1_000

#: Bytes for one client above which they do not wait for the end of the loop's turn.
WRITTEN_AT_ONCE_BYTES = 64 * 1024

#: Fragments of one message. The stock client sends none; empty ones would pass any limit on bytes.
MESSAGE_FRAGMENTS = 1_024

#: After our close frame, time for the client to take what was sent and to answer (seconds).
CLOSE_PATIENCE = 10.0


class DirectSocket:
    """:class:`leyden.edge.websocket.socket.Socket` on the protocol object itself."""

    def __init__(self, protocol: SatelliteServerProtocol) -> None:
        self._protocol = protocol
        self._pings: dict[bytes, asyncio.Future[bool]] = {}
        self._ping_number = 0
        #: Accepted, and written at the end of the loop's turn.
        self._unwritten: list[bytes] = []
        self._unwritten_bytes = 0

    def send(self, packet: Packet) -> bool:
        # One write for all that one turn of the loop has for a client: under load that is several transactions, and
        # a write costs more than everything else that is done for one client.
        protocol = self._protocol
        if not protocol.sending:
            return False
        if not self._unwritten:
            protocol.loop.call_soon(self.write)
        self._unwritten.append(packet.wire)
        self._unwritten_bytes += len(packet.wire)
        if self._unwritten_bytes >= WRITTEN_AT_ONCE_BYTES:
            self.write()
        return self.buffered <= HIGH_WATER_BYTES

    def write(self) -> None:
        """Writes what was accepted. To be called before anything else is written."""
        unwritten = self._unwritten
        if not unwritten:
            return
        if self._protocol.sending:
            self._protocol.transport.write(unwritten[0] if len(unwritten) == 1 else b"".join(unwritten))
        unwritten.clear()
        self._unwritten_bytes = 0

    @property
    def buffered(self) -> int:
        return self._unwritten_bytes + self._protocol.transport.get_write_buffer_size()

    async def drain(self) -> None:
        await self._protocol.writable.wait()

    async def ping(self, timeout: float) -> bool:  # noqa: ASYNC109
        protocol = self._protocol
        if not protocol.sending:
            return False
        self._ping_number += 1
        payload = self._ping_number.to_bytes(8, "big")
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._pings[payload] = answered
        self.write()
        protocol.conn.send_ping(payload)
        protocol.transport.write(b"".join(protocol.conn.data_to_send()))
        try:
            # not `wait_for`: a cancellation that comes together with the answer must not be lost
            async with asyncio.timeout(timeout):
                return await answered
        except TimeoutError:
            return False
        finally:
            self._pings.pop(payload, None)

    def ponged(self, payload: bytes) -> None:
        answered = self._pings.get(payload)
        if answered is not None and not answered.done():
            answered.set_result(True)

    def take_at_once(self, take: Callable[[bytes], bool]) -> None:
        self._protocol.take = take

    def limit_messages(self, size: int) -> None:
        self._protocol.conn.max_message_size = size

    @property
    def silence(self) -> float:
        protocol = self._protocol
        return 0.0 if protocol.read_paused else protocol.loop.time() - protocol.heard_at

    async def alive(self, timeout: float) -> bool:  # noqa: ASYNC109
        protocol = self._protocol
        heard_at, buffered = protocol.heard_at, self.buffered
        if await self.ping(timeout):
            return True
        # Over a slow link the ping waits behind data, or its answer behind an upload: both are seen to move.
        return protocol.read_paused or protocol.heard_at > heard_at or self.buffered < buffered

    def abort(self) -> None:
        self._protocol.transport.abort()

    def abort_in(self, seconds: float) -> None:
        self._protocol.abort_in(seconds)


def _take_nothing(payload: bytes) -> bool:
    return False


class SatelliteServerProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, offering a :class:`DirectSocket` to the application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.direct = DirectSocket(self)
        self._aborting: asyncio.TimerHandle | None = None
        #: Whether the application has done with the connection.
        self._served = False
        #: Is offered a short message before it is queued: whether it takes it.
        self.take: Callable[[bytes], bool] = _take_nothing
        self._boundary = FrameBoundary()
        #: When anything came from the client (the loop's time).
        self.heard_at = self.loop.time()
        # It would write whole frames, and so tokens, into the log of a process that logs at level debug.
        self.conn.debug = False

    @property
    def sending(self) -> bool:
        """Whether what is written may still reach the client."""
        return not (self.disconnected or self.close_sent or self.transport.is_closing())

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        if self.handshake_initiated:
            data = data[self._taken(data) :]
            if not data:
                return
            self._boundary.follow(data)
        self.direct.write()  # the parser may answer
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # the request's head did not please the parser, which answers some of those and forgets the others
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def _taken(self, data: bytes) -> int:
        """How much of ``data``, from its beginning, were short messages that somebody has taken."""
        if self.frames or not (self._boundary.reached and self.sending and self.conn.state is State.OPEN):
            return 0
        taken = 0
        # Reading pauses while a message waits to be received: none may overtake it.
        while not self.read_paused:
            found = short_message(data, taken)
            if found is None or not self.take(found[0]):
                break
            taken = found[1]
        return taken

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            self.direct.limit_messages(UNAUTHENTICATED_MESSAGE_BYTES)
            cast(dict[str, Any], scope["extensions"])[EXTENSION] = self.direct

    def shutdown(self) -> None:
        """The server stops: 1001 (going away) makes the client reconnect, here or elsewhere."""
        if not self.handshake_complete or self.close_sent:
            super().shutdown()
            return
        self.direct.write()
        self.stop_keepalive()
        if self.conn.state is State.OPEN:  # else it has said goodbye itself, and been answered
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1001})
            self.conn.send_close(1001)
            self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close()

    async def send(self, message: Any) -> None:
        await self.writable.wait()
        self.direct.write()
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            # else it would take each refusal for a fault of the application, and write a line into the log
            self.handshake_complete = True
        if message["type"] == "websocket.close":
            # closing alone waits until the client has taken everything, which a stuck one never does
            self.abort_in(CLOSE_PATIENCE)

    def abort_in(self, seconds: float) -> None:
        """Drops the connection after so long; a later call counts in place of an earlier one."""
        if self._aborting is not None:
            self._aborting.cancel()
        self._aborting = None if self.disconnected else self.loop.call_later(seconds, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._aborting is not None:
            self._aborting.cancel()  # it would keep all that belongs to the connection in memory
            self._aborting = None
        self.take = _take_nothing
        super().connection_lost(exc)
        self._let_go()

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self._served = True
        self._let_go()

    def _let_go(self) -> None:
        """Undoes the circles in which all that belongs to the connection refers to itself, once nobody needs it: the
        garbage collector comes by rarely, and 20 KiB would wait for it."""
        if self.disconnected and self._served:
            self.scope.clear()  # type: ignore[attr-defined]
            del self.direct
            self.conn.parser.close()

    def handle_pong(self, event: Frame) -> None:
        self.direct.ponged(bytes(event.data))

    def handle_ping(self) -> None:
        answer = b"".join(self.conn.data_to_send())
        # a client that pings without ever reading the answers must not fill the memory with them
        if self.writable.is_set():
            self.transport.write(answer)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MESSAGE_FRAGMENTS:
            self.conn.fail(1009, "too many fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)


class Threshold(asyncio.Protocol):
    """A new connection, until it is decided whether it is read at all; ``protocol`` then makes what reads it."""

    def __init__(self, may_be_read: Callable[[str], bool], protocol: Callable[[], asyncio.Protocol]) -> None:
        self._may_be_read = may_be_read
        self._protocol = protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple) and not self._may_be_read(peer[0]):
            cast(asyncio.Transport, transport).abort()
            return
        protocol = self._protocol()
        cast(asyncio.Transport, transport).set_protocol(protocol)
        protocol.connection_made(transport)


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits on a request's head.

    A refused upgrade costs it a third of what it costs as a WebSocket of the application: the request is not parsed
    once more, and neither a protocol object nor a task is made.
    """

    def __init__(
        self, *args: Any, doorkeeper: Doorkeeper | None = None, waiting: set[Any] | None = None, **kwargs: Any
    ) -> None:
        """``waiting`` are the refused whose answer is held back, shared by all connections of a server."""
        super().__init__(*args, **kwargs)
        self._doorkeeper = doorkeeper
        self._waiting: set[Any] = set() if waiting is None else waiting
        self._answer: asyncio.TimerHandle | None = None

    def handle_websocket_upgrade(self) -> None:
        # with more headers the parser refuses it, and looking at all of them would cost more than that
        if self._doorkeeper is not None and len(self.headers) <= UPGRADE_HEADERS:
            path = unquote(self.url.partition(b"?")[0].decode("latin-1"))  # as the router will see it
            refusal = self._doorkeeper(path, self.client[0] if self.client else "", self.headers)
            if refusal is not None:
                self._refuse(_response(refusal, self.server_state.default_headers), held_back=refusal.limit is not None)
                return
        super().handle_websocket_upgrade()
        # Another protocol has taken over, and the two refer to each other.
        self.parser = None  # type: ignore[assignment]

    def _refuse(self, response: bytes, *, held_back: bool) -> None:
        """Answers and closes; somebody who asks too often gets his answer late, so that he does not ask at once again.
        A flood from a few sockets is as slow as its answers."""
        if held_back and len(self._waiting) < HELD_BACK_ANSWERS:
            self._waiting.add(self)
            self.transport.pause_reading()
            self._answer = self.loop.call_later(HELD_BACK_FOR, partial(self._refuse, response, held_back=False))
            return
        self._waiting.discard(self)
        self.transport.write(response)
        self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_bytes = 0
        self._head_deadline: asyncio.TimerHandle | None = None
        self._await_head()

    def _await_head(self) -> None:
        self._head_bytes = 0
        if self._head_deadline is None:
            self._head_deadline = self.loop.call_later(REQUEST_HEAD_DEADLINE, self.transport.abort)

    def _head_arrived(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        self._waiting.discard(self)
        if self._answer is not None:
            self._answer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle = self.cycle
        if cycle is not None and cycle.response_complete and self.timeout_keep_alive_task is None:
            self._await_head()  # what is left of a request that has been answered, and no deadline runs
        # after the parser, which would otherwise be blamed for a head that ends within `data`
        if self._head_deadline is not None:
            self._head_bytes += len(data)
            if self._head_bytes > REQUEST_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("Request head too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._head_arrived()
        super().on_headers_complete()


def _response(refusal: HandshakeRefused, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    body = refusal.body.encode("utf-8")
    headers = [
        *default_headers,
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    if refusal.retry_after is not None:
        headers.append((b"retry-after", b"%d" % refusal.retry_after))
    lines = [STATUS_LINE[refusal.status], *(b"%b: %b\r\n" % header for header in headers), b"\r\n", body]
    return b"".join(lines)


def _at_the_threshold(may_be_read: Callable[[str], bool], http: Any, **of_the_server: Any) -> Threshold:
    return Threshold(may_be_read, partial(http, **of_the_server))


def uvicorn_config(app: Any, host: str, port: int) -> uvicorn.Config:
    """The server's settings: no compression (it costs more than it saves here), no access log, pings by us."""
    # an application mounted in another is not asked: which path leads to it is not known here
    state = getattr(app, "state", None)
    doorkeeper, may_be_read = getattr(state, "doorkeeper", None), getattr(state, "may_be_read", None)
    http: Any = partial(BoundedHttpProtocol, doorkeeper=doorkeeper, waiting=set())
    if may_be_read is not None:
        http = partial(_at_the_threshold, may_be_read, http)
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=http,
        backlog=BACKLOG,
        ws=SatelliteServerProtocol,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        ws_max_size=UNAUTHENTICATED_MESSAGE_BYTES,
        log_config=None,
        access_log=False,
        # whose word on addresses is taken is AUTH_TRUSTED_PROXIES' to say: by default it would be everybody's on this
        # machine
        proxy_headers=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=10,
    )
