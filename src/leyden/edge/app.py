"""The ASGI application: routes, the WebSocket handshake, and the bridge from ASGI events to a connection."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive as AsgiReceive
from starlette.types import Scope, Send
from starlette.websockets import WebSocket

from leyden.auth import AuthSettings
from leyden.edge.admission import RETRY_AFTER, HandshakeRefused, Lobby, Place, require_loopback
from leyden.edge.connection import Connection, ConnectionEnded, Core, disconnected
from leyden.edge.http import Endpoints, Status, not_found
from leyden.edge.socket import EXTENSION, AsgiSocket, Socket
from leyden.events import ClientConnected, Emit, HandshakeDenied, Peer

_PREFIX = "electric."
_VERSION = re.compile(r"electric\.([0-9]{1,6})\.([0-9]{1,6})(?:[.+-][0-9A-Za-z.+-]*)?")
_MAX_SUFFIX_BYTES = 20
OLDEST_VERSION = (0, 10)
NEWEST_VERSION = (0, 12)

#: Close code with which the server itself ends a connection whose message is too long (RFC 6455 §7.4.1).
MESSAGE_TOO_BIG = 1009

#: Time for a client to take the last messages and the close frame before it is dropped (seconds).
CLOSE_PATIENCE = 5.0


class Served(Status, Protocol):
    """What the application serves."""

    @property
    def core(self) -> Core | None:
        """The parts that connections need; ``None`` while not ready or no longer accepting."""

    @property
    def auth(self) -> AuthSettings: ...

    @property
    def emit(self) -> Emit: ...


def choose_subprotocol(offered: list[str]) -> str:
    """The subprotocol to answer with: the newest one offered that we speak (docs/protocol.md).

    Raises:
        HandshakeRefused: none offered, or none in the range.
    """
    versions: dict[tuple[int, int], str] = {}
    for name in offered:
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
        headers = {"retry-after": str(RETRY_AFTER)} if refusal.status in (429, 503) else None
        await websocket.send_denial_response(Response(refusal.body, refusal.status, headers))
    else:
        await websocket.close(1008, refusal.body[:120])


class SatelliteEndpoint:
    """``/ws``: the handshake, then one :class:`Connection`."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._lobby = Lobby()

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        peer = _peer(scope)
        try:
            self._admit(scope)
            subprotocol = choose_subprotocol(list(scope.get("subprotocols", [])))
            if self._served.core is None:
                raise HandshakeRefused(503, f"Postgres connection is not ready: {self._served.reason}")
            with self._lobby.place(peer.address) as place:
                await websocket.accept(subprotocol)
                await self._converse(websocket, send, place, peer, subprotocol)
        except HandshakeRefused as refusal:
            self._served.emit(HandshakeDenied(peer, refusal.status, refusal.body))
            await _refuse(websocket, refusal)

    def _admit(self, scope: Scope) -> None:
        auth = self._served.auth
        if auth.insecure and not auth.insecure_public:
            require_loopback(scope["headers"])

    async def _converse(self, websocket: WebSocket, send: Send, place: Place, peer: Peer, subprotocol: str) -> None:
        scope = websocket.scope
        direct = cast("Socket | None", scope.get("extensions", {}).get(EXTENSION))
        portable = AsgiSocket(send) if direct is None else None
        socket = cast("Socket", direct or portable)
        try:
            # asked again, because accepting took its time
            core = self._served.core
            if core is None:
                ended = ConnectionEnded(1012, detail="the service became unavailable")
            else:
                connection = Connection(core, socket, peer, place.give_up)
                core.emit(ClientConnected(connection.number, peer, subprotocol))
                ended = await connection.serve(lambda: _next_message(websocket))
                core.emit(disconnected(connection, ended))
            if portable is not None:
                await portable.flush(CLOSE_PATIENCE)
        finally:
            if portable is not None:
                await portable.aclose()
        await _close(websocket, socket, ended)


def _peer(scope: Scope) -> Peer:
    client = scope.get("client")
    headers = dict(scope["headers"])
    origin, agent = (headers.get(name) for name in (b"origin", b"user-agent"))
    return Peer(
        address=str(client[0]) if client else "",
        origin=None if origin is None else origin.decode("latin-1"),
        user_agent=None if agent is None else agent.decode("latin-1"),
    )


async def _next_message(websocket: WebSocket) -> bytes | None:
    event = await websocket.receive()
    if event["type"] != "websocket.receive":
        if event.get("code") == MESSAGE_TOO_BIG:
            raise ConnectionEnded(MESSAGE_TOO_BIG, detail="a message above the limit")
        return None
    payload = event.get("bytes")
    if payload is None:
        raise ConnectionEnded(1003, "binary messages only", "a text message")
    return cast(bytes, payload)


async def _close(websocket: WebSocket, socket: Socket, ended: ConnectionEnded) -> None:
    try:
        async with asyncio.timeout(CLOSE_PATIENCE):
            await websocket.close(ended.code, ended.reason)
    except Exception:
        # it takes nothing any more; or it is gone already, for which each server raises a type of its own
        socket.abort()


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
    return Starlette(routes=routes, lifespan=lifespan)


async def close_all(core: Core, patience: float = 5.0) -> None:
    """Asks every connection to end with 1001 (going away); waits for them, and for the writes under way.

    What is not written after ``patience`` (seconds) is given up: the clients send it again.
    """
    for connection in tuple(core.open):
        connection.end(1001, detail="the service is stopping")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await core.idle()
    for writing in tuple(core.writes):
        writing.cancel()
    if core.writes:
        await asyncio.wait(tuple(core.writes))
