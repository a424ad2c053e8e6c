"""Admission over real sockets: floods of silent and refused clients, and a good one among them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from joserfc.jwk import OctKey
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.asyncio.client import connect

from interop.service import database_url
from leyden.auth import ALGORITHMS, mint_token
from leyden.config import load_settings
from leyden.edge.websocket.server import uvicorn_config
from leyden.events import Event, HandshakeDenied, ProxyNotTrusted, RateLimited, UnexpectedError
from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import decode, encode
from leyden.service import Service, service_app

SECRET = "k7!" * 30
Wrap = Callable[[Starlette], Any]

#: An upgrade without manners: no library's connection object, so that there may be a thousand of them.
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: electric.0.12\r\n{more}\r\n"
)


class Client:
    """One socket, and what came out of it so far."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}

    async def head(self) -> None:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    async def closed(self) -> int:
        """The code of the close frame."""
        frame = await asyncio.wait_for(self.reader.readexactly(4), 10)
        assert frame[0] == 0x88
        return int.from_bytes(frame[2:4], "big")

    def close(self) -> None:
        self._writer.transport.abort()


class Running:
    def __init__(self, service: Service, events: list[Event], port: int) -> None:
        self.service = service
        self.events = events
        self.port = port

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def upgrade(
        self, address: str = "127.0.0.1", *, host: str = "localhost", more: str = "", path: str = "/ws"
    ) -> Client:
        """An upgrade request from ``address``, with its answer read."""
        streams = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0))
        client = Client(*streams)
        streams[1].write(UPGRADE.format(path=path, host=host, more=more).encode())
        await client.head()
        return client

    async def authenticates(self, token: str, client: str = "device-a") -> bool:
        """Whether a client of a usual library gets in with ``token``."""
        url = f"ws://localhost:{self.port}/ws"
        async with connect(url, subprotocols=["electric.0.12"], compression=None, ping_interval=None) as websocket:
            request = pb.SatAuthReq(id=client, token=token).SerializeToString()
            await websocket.send(encode(pb.SatRpcRequest(method=rpc.AUTHENTICATE, request_id=1, message=request)))
            answer = decode(await asyncio.wait_for(websocket.recv(), 10))  # type: ignore[arg-type]
            assert isinstance(answer, pb.SatRpcResponse)
            return answer.WhichOneof("result") == "message"


@asynccontextmanager
async def serving(database: str, wrap: Wrap = lambda app: app, **env: str) -> AsyncIterator[Running]:
    settings = load_settings(
        {
            "DATABASE_URL": database_url(database),
            "DATABASE_REQUIRE_SSL": "false",
            "AUTH_JWT_ALG": "HS256",
            "AUTH_JWT_KEY": SECRET,
            **env,
        }
    )
    events: list[Event] = []
    service = Service(settings, events.append)
    server = uvicorn.Server(uvicorn_config(wrap(service_app(service)), "127.0.0.1", 0))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    listener = socket.create_server(("127.0.0.1", 0), backlog=2_048)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.wait_for(service.ready_event.wait(), 20)
        yield Running(service, events, listener.getsockname()[1])
    finally:
        server.should_exit = True
        await asyncio.wait_for(running, 20)
    assert [event for event in events if isinstance(event, UnexpectedError)] == []


@pytest.fixture
async def running(database: str) -> AsyncIterator[Running]:
    async with serving(database) as running:
        yield running


def token() -> str:
    now = int(time.time())
    content = {"sub": "alice", "iat": now - 60, "exp": now + 600}
    return mint_token(content, algorithm=ALGORITHMS["HS256"], key=OctKey.import_key(SECRET.encode()))


async def test_a_thousand_silent_sockets_do_not_shut_out_a_good_client(running: Running) -> None:
    addresses = [f"127.0.1.{number}" for number in range(1, 56)]
    silent = [await running.upgrade(address) for _ in range(20) for address in addresses]
    try:
        assert len(silent) == 1_100
        assert {client.status for client in silent} == {101}
        # those that waited longest had to go, so that the others found a place
        for client in silent[:100]:
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(client.reader.read(), 10) == b""  # without a word
        assert len(running.of(RateLimited)) == 100

        began = time.monotonic()
        assert await running.authenticates(token())
        assert time.monotonic() - began < 2
        assert {event.address for event in running.of(RateLimited)} <= set(addresses)
        assert not running.of(ProxyNotTrusted)
    finally:
        for client in silent:
            client.close()


async def test_one_address_cannot_take_many_places(running: Running) -> None:
    clients = [await running.upgrade("127.0.0.9") for _ in range(25)]
    assert [client.status for client in clients] == [101] * 20 + [429] * 5
    assert clients[-1].headers["retry-after"] == "5"
    other = await running.upgrade("127.0.0.10")
    assert other.status == 101
    for client in (*clients, other):
        client.close()


async def test_an_evicted_client_that_does_not_answer_is_dropped_soon(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leyden.edge.app.STRANGERS_CLOSE_PATIENCE", 0.1)
    monkeypatch.setattr("leyden.edge.connection.AUTHENTICATION_DEADLINE", 0.1)
    client = await running.upgrade()
    assert await client.closed() == 1008
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(client.reader.read(), 5) == b""
    client.close()


async def test_behind_a_trusted_proxy_each_client_has_places_of_his_own(database: str) -> None:
    async with serving(database, AUTH_TRUSTED_PROXIES="127.0.0.0/8") as running:
        one = "X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n"
        clients = [await running.upgrade(host="sync.example", more=one) for _ in range(21)]
        assert [client.status for client in clients] == [101] * 20 + [429]
        other = await running.upgrade(host="sync.example", more="Forwarded: for=203.0.113.8\r\n")
        assert other.status == 101
        assert {event.address for event in running.of(RateLimited)} == {"203.0.113.7"}
        for client in (*clients, other):
            client.close()


async def test_a_proxy_that_nobody_named_is_told_of_and_its_word_not_taken(running: Running) -> None:
    """uvicorn alone would take everybody's word on this machine."""
    clients = [
        await running.upgrade(host="sync.example", more=f"X-Forwarded-For: 203.0.113.{number}\r\n")
        for number in range(25)
    ]
    assert {client.status for client in clients} == {101}
    assert [event.address for event in running.of(ProxyNotTrusted)] == ["127.0.0.1"]
    for client in clients:
        client.close()


def _alone(app: Starlette) -> Any:
    return app


def _mounted(app: Starlette) -> Starlette:
    return Starlette(routes=[Mount("/sync", app)], lifespan=lambda _: app.router.lifespan_context(app))


@pytest.mark.parametrize(("wrap", "path"), [(_alone, "/ws"), (_mounted, "/sync/ws")], ids=["alone", "mounted"])
async def test_refusals_before_and_within_the_application_are_alike_and_write_no_log(
    database: str, wrap: Wrap, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(database, wrap, AUTH_ALLOWED_ORIGINS="https://app.example") as running:
        with caplog.at_level(logging.WARNING):
            refused = await running.upgrade(more="Origin: https://evil.example\r\n", path=path)
            body = await asyncio.wait_for(refused.reader.read(), 5)  # the server ends the connection
        assert (refused.status, body) == (403, b"Origin is not allowed")
        assert refused.headers["content-type"] == "text/plain; charset=utf-8"
        assert refused.headers["content-length"] == str(len(body))
        assert "date" in refused.headers
        assert caplog.records == []
        assert [event.peer.origin for event in running.of(HandshakeDenied)] == ["https://evil.example"]
        refused.close()
        allowed = await running.upgrade(more="Origin: https://App.example:443\r\n", path=path)
        assert allowed.status == 101
        allowed.close()
