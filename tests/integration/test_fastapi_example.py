"""examples/fastapi beside a real service: from the login to the token, its renewal, and what a logout ends."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import time
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import uvicorn

import secrecy
from integration.test_admin import MADE, serving
from interop.service import database_url
from leyden.administration import Administration
from leyden.auth import generate_key
from leyden.config import load_settings
from leyden.edge.admin.app import admin_server_config, create_admin_app
from leyden.edge.websocket.server import uvicorn_config
from leyden.events import Event, SessionEnded, TokenRenewed, UnexpectedError
from leyden.service import Service, service_app
from speaker import Speaker

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi" / "app.py"

AUDIENCE = "example"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fastapi_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Running:
    def __init__(self, settings: Any, app_url: str, sync_url: str, events: list[Event]) -> None:
        self.settings = settings
        self.app_url = app_url
        self.sync_url = sync_url
        self.events = events

    def browser(self) -> httpx.AsyncClient:
        """With cookies of its own."""
        return httpx.AsyncClient(base_url=self.app_url)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
async def running(database: str, example: ModuleType) -> AsyncIterator[Running]:
    key, (credential, secret) = generate_key("ES256"), MADE["revoke"]
    assert key.private_pem is not None
    assert key.public_pem is not None
    settings = load_settings(
        {
            "AUTH_JWT_ALG": "ES256",
            "AUTH_JWT_KEY": key.public_pem,
            "AUTH_JWT_AUD": AUDIENCE,
            "DATABASE_URL": database_url(database),
            "DATABASE_REQUIRE_SSL": "false",
        }
    )
    events: list[Event] = []
    service = Service(settings, events.append)
    admin = create_admin_app(Administration(service), [credential], loopback_only=True)
    async with (
        serving(uvicorn_config(service_app(service), "127.0.0.1", 0)) as port,
        serving(admin_server_config(admin, "127.0.0.1", 0)) as admin_port,
    ):
        app_settings = example.Settings(
            private_key=key.private_pem.encode(),
            audience=AUDIENCE,
            admin_url=f"http://127.0.0.1:{admin_port}",
            admin_secret=secret,
            secure_cookie=False,
        )
        async with serving(uvicorn.Config(example.create_app(app_settings), log_config=None)) as app_port:
            await service.ready_event.wait()
            yield Running(app_settings, f"http://127.0.0.1:{app_port}", f"ws://localhost:{port}/ws", events)
    secrecy.note("events", repr(events))
    assert [event for event in events if isinstance(event, UnexpectedError)] == []


async def log_in(browser: httpx.AsyncClient, user: str = "alice", password: str = "wonderland") -> httpx.Response:
    return await browser.post("/login", json={"user": user, "password": password})


async def new_token(browser: httpx.AsyncClient) -> str:
    answer = await browser.post("/api/token")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    text: str = answer.json()["token"]
    return text


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


async def test_without_a_login_there_is_no_token(running: Running) -> None:
    async with running.browser() as browser:
        assert (await browser.post("/api/token")).status_code == 401
        assert (await browser.post("/logout")).status_code == 401
        browser.cookies.set("session", "made-up")
        assert (await browser.post("/api/token")).status_code == 401
        for user, password in (("alice", "Wonderland"), ("bob", "wonderland"), ("nobody", "wonderland"), ("alice", "")):
            assert (await log_in(browser, user, password)).status_code == 401
        assert (await browser.get("/api/token")).status_code == 405


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(running: Running, example: ModuleType) -> None:
    async with running.browser() as browser:
        cookie = (await log_in(browser)).headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "secure" not in cookie
    # unless told otherwise it is for HTTPS alone
    over_https = example.create_app(replace(running.settings, secure_cookie=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(over_https), base_url="https://app.example") as browser:
        assert "secure" in (await log_in(browser)).headers["set-cookie"].lower()


async def test_a_login_gives_a_token_that_connects_and_is_renewed_on_the_connection(running: Running) -> None:
    async with running.browser() as browser, Speaker.connected(running.sync_url) as speaker:
        assert (await log_in(browser)).status_code == 204
        first = await new_token(browser)
        claims = claims_of(first)
        assert (claims["sub"], claims["aud"], claims["exp"] - claims["iat"]) == ("alice", AUDIENCE, 300)
        assert claims["iat"] == pytest.approx(time.time(), abs=3)
        assert (await speaker.authenticate(first)).WhichOneof("result") == "message"
        await speaker.start()

        second = await new_token(browser)
        assert claims_of(second)["jti"] != claims["jti"]
        assert (await speaker.authenticate(second)).WhichOneof("result") == "message"
    (renewed,) = running.of(TokenRenewed)
    assert renewed.credentials.jti == claims_of(second)["jti"]


async def test_a_logout_ends_the_users_connections_and_tokens_and_nobody_elses(running: Running) -> None:
    async with running.browser() as laptop, running.browser() as phone, running.browser() as bobs:
        await log_in(laptop)
        await log_in(phone)
        await log_in(bobs, "bob", "can we fix it")
        old = await new_token(laptop)
        async with (
            Speaker.connected(running.sync_url) as on_laptop,
            Speaker.connected(running.sync_url) as on_phone,
            Speaker.connected(running.sync_url) as bob,
        ):
            await on_laptop.authenticate(old, "laptop")
            await on_phone.authenticate(await new_token(phone), "phone")
            await bob.authenticate(await new_token(bobs), "bobs")
            for speaker in (on_laptop, on_phone, bob):
                await speaker.start()
            assert (await laptop.post("/logout")).status_code == 204
            assert await on_laptop.closed(4) == await on_phone.closed(4) == (4000, "JWT-expired")
            with pytest.raises(TimeoutError):
                await bob.closed(0.5)
        assert {ended.cause for ended in running.of(SessionEnded)} == {"revoked"}
        for browser in (laptop, phone):
            assert (await browser.post("/api/token")).status_code == 401
        async with Speaker.connected(running.sync_url) as speaker:
            assert (await speaker.authenticate(old, "laptop")).error.message == "revoked"

        # in the very second of the logout as well
        await log_in(laptop)
        fresh = await new_token(laptop)
        assert claims_of(fresh)["iat"] > claims_of(old)["iat"]
        async with Speaker.connected(running.sync_url) as speaker:
            assert (await speaker.authenticate(fresh, "laptop")).WhichOneof("result") == "message"


async def test_a_login_right_after_a_logout_is_good_at_once(running: Running) -> None:
    async with running.browser() as browser:
        await log_in(browser)
        await asyncio.sleep(1 - time.time() % 1)  # to the start of a second, so that all of it happens within one
        old = await new_token(browser)
        assert (await browser.post("/logout")).status_code == 204
        await log_in(browser)
        fresh = await new_token(browser)
        async with Speaker.connected(running.sync_url) as speaker:
            assert (await speaker.authenticate(fresh)).WhichOneof("result") == "message"
        async with Speaker.connected(running.sync_url) as speaker:
            assert (await speaker.authenticate(old, "device-b")).error.message == "revoked"


async def test_when_leyden_cannot_be_told_the_session_ends_all_the_same(
    running: Running, example: ModuleType, unused_tcp_port: int
) -> None:
    alone = example.create_app(replace(running.settings, admin_url=f"http://127.0.0.1:{unused_tcp_port}"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(alone), base_url="http://app.example") as browser:
        await log_in(browser)
        answer = await browser.post("/logout")
        assert (answer.status_code, "5 minutes" in answer.text) == (503, True)
        assert (await browser.post("/api/token")).status_code == 401
