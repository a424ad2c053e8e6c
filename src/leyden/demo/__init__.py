"""The demo: a shared to-do list in the browser, its table, and the endpoints that hand out tokens.

For trying Leyden on one machine. Everything a real application would do itself, its log-in foremost, is done here in
the simplest possible way.
"""

from __future__ import annotations

import json
import random
import shlex
import time
from collections import deque
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leyden.auth import ALGORITHMS, generate_key, load_private_key, mint_token
from leyden.edge.admission import HandshakeRefused, require_loopback
from leyden.postgres import sessions
from leyden.service import Service

TOKEN_SECONDS = 3600

#: Largest body of a request for a token.
_BODY_BYTES = 4_096

_NAMES = (
    "Ada",
    "Blaise",
    "Carl",
    "Dorothy",
    "Emmy",
    "Fourier",
    "Grace",
    "Hedy",
    "Isaac",
    "Joan",
    "Kurt",
    "Lise",
)

#: The page runs WebAssembly and talks to this origin, nothing else.
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self' ws://localhost:* ws://127.0.0.1:*; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def page_directory() -> Path:
    """Where the built page lies; it is bundled at set-up time."""
    return Path(str(files("leyden.demo"))) / "page"


async def create_table(service: Service) -> None:
    """Creates and electrifies the demo's table, unless it is there already."""
    script = (files("leyden.demo") / "schema.sql").read_text("utf-8")
    async with await sessions.connect(service.dsn, autocommit=True) as conn:
        cursor = await conn.execute("SELECT to_regclass('public.todos') IS NULL")
        row = await cursor.fetchone()
        if row is not None and row[0]:
            async with conn.transaction():
                await conn.execute(script.encode("utf-8"))


#: Makes a token of claims.
Mint = Callable[[dict[str, object]], str]


def new_keys() -> tuple[str, Mint]:
    """A fresh ES256 key pair: the public half as PEM, and the function that signs with the private one."""
    algorithm = ALGORITHMS["ES256"]
    pair = generate_key(algorithm.name)
    if pair.private_pem is None or pair.public_pem is None:
        raise RuntimeError("ES256 keys come in pairs")
    key = load_private_key(pair.private_pem.encode("ascii"), algorithm)
    return pair.public_pem, lambda claims: mint_token(claims, algorithm=algorithm, key=key)


def _with_policy(app: ASGIApp) -> ASGIApp:
    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", _POLICY.encode("ascii")),
                    (b"cache-control", b"no-cache"),
                ]
            await send(message)

        await app(scope, receive, with_header)

    return guarded


Endpoint = Callable[[Request], Awaitable[Response]]


def _for_this_machine(endpoint: Endpoint) -> Endpoint:
    """Tokens are handed out to whoever asks, so no foreign page may ask (docs/authentication-rules.md)."""

    async def guarded(request: Request) -> Response:
        try:
            require_loopback(request.scope["headers"])
        except HandshakeRefused as refusal:
            return Response(refusal.body, refusal.status)
        return await endpoint(request)

    return guarded


async def _name_in(request: Request) -> str:
    """The member ``name`` of the request's JSON body, empty when there is none."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_BYTES:
            return ""
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    name = members.get("name") if isinstance(members, dict) else None
    return name if isinstance(name, str) else ""


class DemoEndpoints:
    """What the page asks the server for, besides the sync itself."""

    def __init__(self, service: Service, mint: Mint) -> None:
        self._service = service
        self._mint = mint
        #: Names given lately: their tabs may not be connected yet.
        self._given: deque[str] = deque(maxlen=len(_NAMES) // 2)

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/demo/session", _for_this_machine(self.session), methods=["POST"]),
            Route("/demo/people", _for_this_machine(self.people), methods=["GET"]),
            Mount("/", app=_with_policy(StaticFiles(directory=page_directory(), html=True))),
        ]

    async def session(self, request: Request) -> Response:
        """Stands in for an application's log-in: whoever asks gets a token."""
        name = await _name_in(request)
        user = name.strip()[:40].strip() or self._free_name()
        now = int(time.time())
        claims = {"sub": user, "iat": now, "exp": now + TOKEN_SECONDS}
        return JSONResponse(
            {
                "token": self._mint(claims),
                "user": user,
                "psql": psql_line(self._service),
                "expires_at": now + TOKEN_SECONDS,
            }
        )

    def _free_name(self) -> str:
        """A name that nobody connected has, as long as there is one."""
        taken = {connection.user_id for connection in self._service.connections} | set(self._given)
        name = random.choice([name for name in _NAMES if name not in taken] or _NAMES)  # noqa: S311 - no secret
        self._given.append(name)
        return name

    async def people(self, request: Request) -> Response:
        now = time.time()
        return JSONResponse(
            {
                "people": [
                    {
                        "user": connection.user_id,
                        "client_id": connection.client_id,
                        "connected_seconds": int(now - connection.connected_at),
                    }
                    for connection in self._service.connections
                ]
            }
        )


def psql_line(service: Service) -> str:
    """The command line that opens ``psql`` on the demo's database."""
    if service.embedded is not None:
        return shlex.join(service.embedded.psql_command())
    return 'psql "$DATABASE_URL"'
