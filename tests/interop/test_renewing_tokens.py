"""The lines of docs/renewing-tokens.md, run as an app would: stock client, token endpoint, time that passes."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psycopg
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interop.client import Driver
from interop.conftest import Factory, ServiceFactory
from interop.service import Leyden
from interop.tables import create_items, id_of, open_client
from interop.test_authentication import Issuer

PAGE = Path(__file__).parents[2] / "docs" / "renewing-tokens.md"
HELPER, USE = re.findall(r"^```js\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)

#: Shorter than any real token, and long enough that 80 % of it is more than the 5 s between two renewals.
LIFETIME = 7


class TokenEndpoint:
    """``POST /api/token`` of some app's back end."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.lifetime = LIFETIME
        #: What is told of the lifetime, where that is not the truth.
        self.told: int | None = None
        self.status = 200
        #: When it was asked (Unix seconds).
        self.asked: list[float] = []
        self.url = ""

    async def answer(self, request: Request) -> Response:
        self.asked.append(time.time())
        if self.status != 200:
            return Response(status_code=self.status)
        token = self.issuer.token("alice", lifetime=self.lifetime)
        return JSONResponse({"token": token, "expires_in": self.told or self.lifetime})


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenEndpoint]:
    endpoint = TokenEndpoint(Issuer("ES256"))
    app = Starlette(routes=[Route("/api/token", endpoint.answer, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    listener = socket.create_server(("127.0.0.1", 0))
    endpoint.url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/token"
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield endpoint
    server.should_exit = True
    await asyncio.wait_for(serving, 20)


@pytest.fixture
async def signed_in(endpoint: TokenEndpoint, driver: Factory, tmp_path: Path) -> Callable[[Leyden], Awaitable[Driver]]:
    """``await signed_in(service)`` -> the client "a", kept signed in by the page's lines."""
    page = tmp_path / "page.mjs"
    use = USE.replace("'/api/token'", repr(endpoint.url))
    assert use != USE
    page.write_text(
        f"{HELPER}\nglobalThis.location = {{ assign() {{}} }}\nexport async function start(electric) {{\n{use}}}\n"
    )

    async def start(service: Leyden) -> Driver:
        client = await driver()
        with psycopg.connect(service.dsn, autocommit=True) as conn:
            create_items(conn, 2)
        await open_client(client, service, "a")
        await client("app", client="a", module=str(page), name="start")
        await client("sync", client="a", table="items", wait=True)
        return client

    return start


async def assert_in_step(client: Driver, service: Leyden, number: int) -> None:
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute("INSERT INTO items VALUES (%s, 'new', %s)", [id_of(number), number])
    await client("waitRow", client="a", sql=f"SELECT * FROM items WHERE n = {number}")


def sockets(client: Driver) -> int:
    return len([event for event in client.events if event["event"] == "socketOpen"])


def test_they_are_ten_lines() -> None:
    assert len(HELPER.splitlines()) <= 10


async def test_a_token_is_renewed_after_four_fifths_of_its_life_on_the_same_connection(
    endpoint: TokenEndpoint, signed_in: Callable[[Leyden], Awaitable[Driver]], leyden: ServiceFactory
) -> None:
    service = await leyden(**endpoint.issuer.env, AUTH_JWT_LEEWAY="0")
    client = await signed_in(service)
    await asyncio.sleep(LIFETIME + 2)
    first, second = endpoint.asked
    assert second - first == pytest.approx(0.8 * LIFETIME, abs=0.5)
    assert len(await client("wire", client="a", type="SatAuthReq", dir="sent")) == 2
    assert sockets(client) == 1
    await assert_in_step(client, service, 3)


async def test_it_connects_again_at_once_when_the_connection_ended_with_its_token(
    endpoint: TokenEndpoint, signed_in: Callable[[Leyden], Awaitable[Driver]], leyden: ServiceFactory
) -> None:
    endpoint.lifetime, endpoint.told = 3, 600  # as if the device had slept: no timer of the page goes off
    service = await leyden(**endpoint.issuer.env, AUTH_JWT_LEEWAY="0")
    client = await signed_in(service)
    endpoint.lifetime = 600
    gone = await client.wait_for_event(event="connectivity", status="disconnected", timeout=8)
    assert gone["reason"]["codeName"] == "AUTH_EXPIRED"
    await client.wait_for_event(event="connectivity", status="connected", after=client.events.index(gone), timeout=4)
    assert (len(endpoint.asked), sockets(client)) == (2, 2)
    await assert_in_step(client, service, 3)


async def test_while_there_is_no_token_it_asks_again_after_a_while(
    endpoint: TokenEndpoint, signed_in: Callable[[Leyden], Awaitable[Driver]], leyden: ServiceFactory
) -> None:
    endpoint.lifetime = 2
    service = await leyden(**endpoint.issuer.env, AUTH_JWT_LEEWAY="0")
    client = await signed_in(service)
    endpoint.status = 503
    await client.wait_for_event(event="connectivity", status="disconnected", timeout=5)
    await asyncio.sleep(6)
    assert not (await client("status", client="a"))["isConnected"]
    assert 2 <= len(endpoint.asked) <= 5
    before = len(client.events)
    endpoint.status, endpoint.lifetime = 200, 600
    await client.wait_for_event(event="connectivity", status="connected", after=before, timeout=7)
    await assert_in_step(client, service, 3)


async def test_it_connects_again_when_the_token_expired_while_the_service_was_away(
    endpoint: TokenEndpoint, signed_in: Callable[[Leyden], Awaitable[Driver]], leyden: ServiceFactory
) -> None:
    endpoint.lifetime, endpoint.told = 3, 600
    service = await leyden(**endpoint.issuer.env, AUTH_JWT_LEEWAY="0")
    client = await signed_in(service)
    port = int(service.url.rpartition(":")[2])
    await service.stop()
    await asyncio.sleep(3)
    endpoint.lifetime = 600
    before = len(client.events)
    service = await leyden(port=port, **endpoint.issuer.env, AUTH_JWT_LEEWAY="0")
    await client.wait_for_event(event="connectivity", status="connected", after=before, timeout=30)
    assert len(endpoint.asked) == 2
    refused = [e["reason"] for e in client.events if e["event"] == "connectivity" and e["status"] == "disconnected"]
    assert refused[-1]["details"]["message"] == "expired"
    await assert_in_step(client, service, 3)
