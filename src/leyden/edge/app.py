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

from leyden.edge.connection import Connection, ConnectionEnded, Core, disconnected
from leyden.edge.http import Endpoints, Status, not_found
from leyden.edge.socket import EXTENSION, AsgiSocket, Socket
from leyden.events import ClientConnected

_PREFIX = "electric."
_VERSION = re.compile(r"electric\.([0-9]{1,6})\.([0-9]{1,6})(?:[.+-][0-9A-Za-z.+-]*)?")
_MAX_SUFFIX_BYTES = 20
OLDEST_VERSION = (0, 10)
NEWEST_VERSION = (0, 12)


class Served(Status, Protocol):
    """What the application serves."""

    @property
    def core(self) -> Core | None:
        """The parts that connections need; ``None`` while not ready or no longer accepting."""


class HandshakeRefused(Exception):
    """The upgrade is refused with this status and body."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(body)
        self.status = status
        self.body = body


def choose_subprotocol(offered: list[str]) -> str:
    """The subprotocol to answer with: the newest one offered that we speak (satellite-protocol.md §1.2).

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
        await websocket.send_denial_response(Response(refusal.body, refusal.status))
    else:
        await websocket.close(1008, refusal.body[:120])


class SatelliteEndpoint:
    """``/ws``: the handshake, then one :class:`Connection`."""

    def __init__(self, served: Served) -> None:
        self._served = served

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        core = self._served.core
        try:
            subprotocol = choose_subprotocol(list(scope.get("subprotocols", [])))
            if core is None:
                raise HandshakeRefused(503, f"Postgres connection is not ready: {self._served.reason}")
        except HandshakeRefused as refusal:
            await _refuse(websocket, refusal)
            return
        await websocket.accept(subprotocol)
        direct = cast("Socket | None", scope.get("extensions", {}).get(EXTENSION))
        portable = AsgiSocket(send) if direct is None else None
        connection = Connection(core, cast("Socket", direct or portable))
        client = scope.get("client")
        core.emit(ClientConnected(connection.number, client[0] if client else "unknown", subprotocol))
        try:
            ended = await connection.serve(lambda: _next_message(websocket))
        finally:
            if portable is not None:
                await portable.flush()
                await portable.aclose()
        core.emit(disconnected(connection, ended))
        await _close(websocket, ended)


async def _next_message(websocket: WebSocket) -> bytes | None:
    event = await websocket.receive()
    if event["type"] != "websocket.receive":
        return None
    payload = event.get("bytes")
    if payload is None:
        raise ConnectionEnded(1003, "binary messages only", "a text message")
    return cast(bytes, payload)


async def _close(websocket: WebSocket, ended: ConnectionEnded) -> None:
    # the client may be gone already, for which each server raises a type of its own
    with contextlib.suppress(Exception):
        await websocket.close(ended.code, ended.reason)


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

    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    routes: list[BaseRoute] = [
        WebSocketRoute("/ws", endpoint),
        WebSocketRoute("/ws/{rest:path}", endpoint),
        Route("/ws", bad_request, methods=methods),
        Route("/ws/{rest:path}", bad_request, methods=methods),
        *Endpoints(served).routes(),
        *(extra_routes or []),
        Route("/{rest:path}", fallback, methods=methods),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


async def close_all(core: Core, patience: float = 5.0) -> None:
    """Asks every connection to end with 1001 (going away); waits for them, and for the writes under way."""
    for connection in tuple(core.open):
        connection.end(1001, detail="the service is stopping")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await core.idle()
