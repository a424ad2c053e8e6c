"""The ASGI application: routes, the WebSocket handshake, and the bridge from ASGI events to a connection."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import islice
from typing import Any, Protocol, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive as AsgiReceive
from starlette.types import Scope, Send
from starlette.websockets import WebSocket

from leyden.cancellation import cancel
from leyden.edge.admission import RETRY_AFTER, Admission, AdmissionPolicy, Caller, Guest, HandshakeRefused
from leyden.edge.admission.headers import Headers, values_of
from leyden.edge.connection import Connection, disconnected
from leyden.edge.core import Core
from leyden.edge.endings import ConnectionEnded
from leyden.edge.http import Endpoints, Status, not_found
from leyden.edge.websocket.socket import EXTENSION, AsgiSocket, Socket
from leyden.events import ClientConnected, Emit, HandshakeDenied, RateLimited

_PREFIX = "electric."
_VERSION = re.compile(r"electric\.([0-9]{1,6})\.([0-9]{1,6})(?:[.+-][0-9A-Za-z.+-]*)?")
_MAX_SUFFIX_BYTES = 20
#: Subprotocols that are looked at. The stock client offers one.
_MAX_OFFERED = 32
OLDEST_VERSION = (0, 10)
NEWEST_VERSION = (0, 12)

#: Close code with which the server itself ends a connection whose message is too long (RFC 6455 §7.4.1).
MESSAGE_TOO_BIG = 1009

#: Ends that a stranger is to blame for: a refused token, a broken protocol, a text or an overlong message.
FAULTS = frozenset({1003, 1007, MESSAGE_TOO_BIG})

#: Time for a client to take the last messages and the close frame before it is dropped (seconds).
CLOSE_PATIENCE = 5.0

#: The same for one that never authenticated, from the close frame on: nobody counts him any more.
STRANGERS_CLOSE_PATIENCE = 2.0


class Served(Status, Protocol):
    """What the application serves."""

    @property
    def core(self) -> Core | None:
        """The parts that connections need; ``None`` while not ready or no longer accepting."""

    @property
    def admission(self) -> AdmissionPolicy: ...

    @property
    def emit(self) -> Emit: ...


def _is_ours(path: str) -> bool:
    """Whether it is the endpoint's."""
    return path == "/ws" or path.startswith("/ws/")


def choose_subprotocol(offered: Iterable[str]) -> str:
    """The subprotocol to answer with: the newest one offered that we speak (docs/protocol.md).

    Raises:
        HandshakeRefused: none offered, or none in the range.
    """
    versions: dict[tuple[int, int], str] = {}
    for name in islice(offered, _MAX_OFFERED):
        match = _VERSION.fullmatch(name)
        if match is not None and len(name) - len(_PREFIX) < _MAX_SUFFIX_BYTES:
            versions[int(match[1]), int(match[2])] = name
    if not versions:
        raise HandshakeRefused(400, "Missing satellite websocket subprotocol")
    supported = [version for version in versions if OLDEST_VERSION <= version <= NEWEST_VERSION]
    if not supported:
        major, minor = max(versions)
        oldest, newest = (".".join(map(str, (*version, 0))) for version in (OLDEST_VERSION, NEWEST_VERSION))
        raise HandshakeRefused(
            400,
            f"Cannot connect satellite version {major}.{minor}.0: this server requires >= {oldest} and <= {newest}",
        )
    # echoed as offered: a client that offered a subprotocol fails the handshake when it gets another one, or none
    return versions[max(supported)]


async def _refuse(websocket: WebSocket, refusal: HandshakeRefused) -> None:
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        headers = None if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
        await websocket.send_denial_response(Response(refusal.body, refusal.status, headers))
    else:
        await websocket.close(1008, refusal.body[:120])


class SatelliteEndpoint:
    """``/ws``: the handshake, then one :class:`Connection`."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.admission = Admission(served.admission, served.emit)

    def refusal(self, path: str, client: str, headers: Headers) -> HandshakeRefused | None:
        """The refusal of an upgrade, if it is one of ``/ws`` and to be refused: for a server that can ask before it
        has made a WebSocket of the request, which is most of the work. Whoever is not refused here is judged again.
        """
        if not _is_ours(path):
            return None
        caller = self.admission.caller(client, headers)
        offered = [name.strip() for line in values_of(headers, b"sec-websocket-protocol") for name in line.split(",")]
        try:
            self._judge(client, caller, headers, offered)
        except HandshakeRefused as refusal:
            self._tell(caller, refusal)
            return refusal
        return None

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: Send) -> None:
        client, headers = scope.get("client"), scope["headers"]
        peer = str(client[0]) if client else ""
        caller = self.admission.caller(peer, headers)
        try:
            subprotocol = self._judge(peer, caller, headers, scope.get("subprotocols", ()))
            with self.admission.enter(caller) as guest:
                await receive()  # that there is somebody
                await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
                await self._converse(scope, receive, send, guest, subprotocol)
        except HandshakeRefused as refusal:
            self._tell(caller, refusal)
            await _refuse(WebSocket(scope, receive, send), refusal)

    def _judge(self, peer: str, caller: Caller, headers: Headers, offered: Iterable[str]) -> str:
        """The subprotocol to speak. Asks first what needs the least memory of earlier callers.

        Raises:
            HandshakeRefused: whatever the reason.
        """
        self.admission.require_permitted(peer, headers)
        subprotocol = choose_subprotocol(offered)
        if self._served.core is None:
            reason = f"Postgres connection is not ready: {self._served.reason}"
            raise HandshakeRefused(503, reason, retry_after=RETRY_AFTER)
        self.admission.require_room(caller)
        return subprotocol

    def _tell(self, caller: Caller, refusal: HandshakeRefused) -> None:
        if refusal.limit is None:
            self._served.emit(HandshakeDenied(caller.peer, refusal.status, refusal.body))
        else:
            self._served.emit(RateLimited(caller.peer.address, refusal.limit))

    async def _converse(self, scope: Scope, receive: AsgiReceive, send: Send, guest: Guest, subprotocol: str) -> None:
        direct = cast("Socket | None", scope.get("extensions", {}).get(EXTENSION))
        portable = AsgiSocket(send) if direct is None else None
        socket = cast("Socket", direct or portable)
        try:
            # asked again, because accepting took its time
            core = self._served.core
            if core is None:
                ended = ConnectionEnded(1012, detail="the service became unavailable")
            else:
                connection = Connection(core, socket, guest.peer, guest)
                # without a word: he said nothing himself, and waiting for his goodbye would keep what it costs
                guest.when_evicted(partial(_evict, connection, socket))
                core.emit(ClientConnected(connection.number, guest.peer, subprotocol))
                ended = await connection.serve(partial(_next_message, receive))
                core.emit(disconnected(connection, ended))
                if not guest.is_authenticated and ended.code in FAULTS:
                    guest.failed()
            if portable is not None:
                await portable.flush(CLOSE_PATIENCE)
        finally:
            if portable is not None:
                await portable.aclose()
        await _close(send, socket, ended)
        if not guest.is_authenticated:
            socket.abort_in(STRANGERS_CLOSE_PATIENCE)


def _evict(connection: Connection, socket: Socket) -> None:
    connection.end(1013, detail="did not authenticate while others waited")
    socket.abort()


async def _next_message(receive: AsgiReceive) -> bytes | None:
    event = await receive()
    if event["type"] != "websocket.receive":
        if event.get("code") == MESSAGE_TOO_BIG:
            raise ConnectionEnded(MESSAGE_TOO_BIG, detail="a message above the limit")
        return None
    payload = event.get("bytes")
    if payload is None:
        raise ConnectionEnded(1003, "binary messages only", "a text message")
    return cast(bytes, payload)


async def _close(send: Send, socket: Socket, ended: ConnectionEnded) -> None:
    try:
        async with asyncio.timeout(CLOSE_PATIENCE):
            await send({"type": "websocket.close", "code": ended.code, "reason": ended.reason})
    except Exception:
        # it takes nothing any more; or it is gone already, for which each server raises a type of its own
        socket.abort()


class _Application(Starlette):
    """Starlette, except for connections: it would leave its calls and objects, about 3 KiB, waiting for as long as each
    of them lives.
    """

    def __init__(self, endpoint: SatelliteEndpoint, **of_starlette: Any) -> None:
        super().__init__(**of_starlette)
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: Send) -> None:
        # Mounted in another application, or with somebody's middleware around it, it leaves the routing to Starlette.
        is_plain = not scope.get("root_path") and not self.user_middleware
        if scope["type"] == "websocket" and is_plain and _is_ours(scope["path"]):
            await self._endpoint(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(
    served: Served,
    *,
    lifespan: Callable[[Any], AbstractAsyncContextManager[None]] | None = None,
    extra_routes: list[BaseRoute] | None = None,
) -> Starlette:
    """The application for ``served``; ``extra_routes`` come before the final 404."""
    endpoint = SatelliteEndpoint(served)

    async def bad_request(request: Request) -> Response:
        return Response("Bad request", 400)

    async def fallback(request: Request) -> Response:
        return not_found()

    async def no_such_socket(websocket: WebSocket) -> None:
        await _refuse(websocket, HandshakeRefused(404, "Not found"))

    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    routes: list[BaseRoute] = [
        WebSocketRoute("/ws", endpoint),
        WebSocketRoute("/ws/{rest:path}", endpoint),
        Route("/ws", bad_request, methods=methods),
        Route("/ws/{rest:path}", bad_request, methods=methods),
        *Endpoints(served).routes(),
        *(extra_routes or []),
        Route("/{rest:path}", fallback, methods=methods),
        WebSocketRoute("/{rest:path}", no_such_socket),
    ]
    app = _Application(endpoint, routes=routes, lifespan=lifespan)
    app.state.doorkeeper = endpoint.refusal
    app.state.may_be_read = endpoint.admission.arrivals.may_be_read
    return app


async def close_all(core: Core, patience: float = 5.0) -> None:
    """Asks every connection to end with 1001 (going away); waits for them, and for the writes under way.

    What is not written after ``patience`` (seconds) is given up: the clients send it again.
    """
    for connection in tuple(core.open):
        connection.end(1001, detail="the service is stopping")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await core.idle()
    await cancel(*core.writes)
