"""The admin API beside a real service: live sessions, metrics of what happened, and both servers of one process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from joserfc.jwk import OctKey
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

import secrecy
from interop.service import Leyden, database_url
from leyden.administration import Administration
from leyden.auth import ALGORITHMS, mint_token
from leyden.config import load_settings
from leyden.edge import connection as edge_connection
from leyden.edge.admin.app import admin_server_config, create_admin_app
from leyden.edge.admin.credentials import SCOPES, Credential, Scope, new_credential
from leyden.edge.websocket.server import uvicorn_config
from leyden.events import (
    AdminActed,
    AdminDenied,
    ClientDisconnected,
    ClientRefused,
    Event,
    RevocationRemoved,
    SessionEnded,
    UnexpectedError,
)
from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import decode, encode
from leyden.service import Service, service_app

SECRET = "k7!" * 30
HS256 = ALGORITHMS["HS256"]
SECURE = {"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY": SECRET}

MADE: dict[Scope, tuple[Credential, str]] = {scope: new_credential(scope, [scope]) for scope in SCOPES}
TOKENS_FILE = "\n".join(credential.line for credential, _ in MADE.values())


def bearer(scope: Scope) -> dict[str, str]:
    return {"authorization": f"Bearer {MADE[scope][1]}"}


def token(user: str = "alice", lifetime: int = 600) -> str:
    now = int(time.time())
    claims = {"sub": user, "iat": now - 60, "exp": now + lifetime, "jti": f"jti-{user}"}
    return mint_token(claims, algorithm=HS256, key=OctKey.import_key(SECRET.encode()))


@asynccontextmanager
async def authenticated(url: str, user: str, client: str, presented: str = "") -> AsyncIterator[ClientConnection]:
    """A connection on which ``presented`` (a good token by default) was sent, whatever became of it."""
    async with connect(url, subprotocols=["electric.0.12"], compression=None) as websocket:  # type: ignore[list-item]
        request = pb.SatAuthReq(id=client, token=presented or token(user)).SerializeToString()
        await websocket.send(encode(pb.SatRpcRequest(method=rpc.AUTHENTICATE, request_id=1, message=request)))
        answer = await asyncio.wait_for(websocket.recv(), 10)
        assert isinstance(answer, bytes)
        decode(answer)
        yield websocket


async def closed(websocket: ClientConnection) -> tuple[int | None, str | None]:
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(5):
            while True:
                await websocket.recv()
    return websocket.close_code, websocket.close_reason


class Running:
    def __init__(self, service: Service, events: list[Event], url: str, admin: httpx.AsyncClient) -> None:
        self.service = service
        self.events = events
        self.url = url
        self.admin = admin

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def sessions(self) -> list[dict[str, Any]]:
        answer = await self.admin.get("/api/admin/sessions", headers=bearer("sessions"))
        found: list[dict[str, Any]] = answer.json()["sessions"]
        return found

    async def disconnect(self, user: str) -> int:
        answer = await self.admin.post(
            "/api/admin/sessions/disconnect", json={"user": user}, headers=bearer("sessions")
        )
        number: int = answer.json()["disconnected"]
        return number

    async def metric(self, name: str, **labels: str) -> float | None:
        answer = await self.admin.get("/metrics", headers=bearer("metrics"))
        families = text_string_to_metric_families(answer.text)
        values = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }
        return values.get((name, tuple(sorted(labels.items()))))


@asynccontextmanager
async def serving(config: uvicorn.Config) -> AsyncIterator[int]:
    """The port of a server in this process."""
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    listener = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 20)


@pytest.fixture
async def running(database: str) -> AsyncIterator[Running]:
    settings = load_settings(
        {**SECURE, "DATABASE_URL": database_url(database), "DATABASE_REQUIRE_SSL": "false", "AUTH_JWT_LEEWAY": "0"}
    )
    events: list[Event] = []
    service = Service(settings, events.append)
    admin = create_admin_app(
        Administration(service), [credential for credential, _ in MADE.values()], loopback_only=True
    )
    async with (
        serving(uvicorn_config(service_app(service), "127.0.0.1", 0)) as port,
        serving(admin_server_config(admin, "127.0.0.1", 0)) as admin_port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{admin_port}") as client,
    ):
        await asyncio.wait_for(service.ready_event.wait(), 20)
        yield Running(service, events, f"ws://localhost:{port}/ws", client)
        secrecy.note("events", repr(events))
        secrecy.note("metrics", service.metrics.text().decode())
    assert [event for event in events if isinstance(event, UnexpectedError)] == []


# ---- in one process -------------------------------------------------------------------------------------------------


async def test_sessions_are_listed_with_what_is_known_of_them(running: Running) -> None:
    assert await running.sessions() == []
    before = time.time()
    async with authenticated(running.url, "alice", "device-a"), authenticated(running.url, "bob", "device-b"):
        alice, bob = await running.sessions()
        thumbprint = running.service.settings.auth.ring.keys[0].thumbprint
        assert alice["connected_at"] == pytest.approx(before, abs=10)
        assert alice["ends_at"] == alice["expires_at"] + 1
        assert {key: alice[key] for key in alice.keys() - {"connected_at", "expires_at", "ends_at"}} == {
            "connection": 1,
            "user_id": "alice",
            "client_id": "device-a",
            "address": "127.0.0.1",
            "origin": None,
            "user_agent": alice["user_agent"],
            "issuer": None,
            "algorithm": "HS256",
            "kid": None,
            "key_thumbprint": thumbprint,
            "jti": "jti-alice",
        }
        assert (bob["user_id"], bob["connection"]) == ("bob", 2)


async def test_disconnect_ends_all_connections_of_one_user_at_once(running: Running) -> None:
    async with (
        authenticated(running.url, "alice", "device-a") as first,
        authenticated(running.url, "alice", "device-b") as second,
        authenticated(running.url, "bob", "device-c") as other,
    ):
        assert await running.disconnect("alice") == 2
        assert await closed(first) == await closed(second) == (1008, "")
        assert [session["user_id"] for session in await running.sessions()] == ["bob"]
        assert await running.disconnect("alice") == 0
        await asyncio.wait_for(await other.ping(), 5)
        # it is no ban: the token is as good as before
        async with authenticated(running.url, "alice", "device-a"):
            assert {session["user_id"] for session in await running.sessions()} == {"alice", "bob"}
    reasons = [event.reason for event in running.of(ClientDisconnected)]
    assert reasons.count("disconnected by an administrator") == 2
    assert AdminActed("sessions", "127.0.0.1", "sessions.disconnect", "alice") in running.events


async def test_a_token_of_a_user_is_no_credential(running: Running) -> None:
    for path in ("/metrics", "/api/admin/status", "/api/admin/sessions", "/api/admin/revocations"):
        answer = await running.admin.get(path, headers={"authorization": f"Bearer {token()}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert running.of(AdminDenied) == [AdminDenied("127.0.0.1", "credential")] * 4
    assert running.of(AdminActed) == []


async def test_the_admin_api_is_not_on_the_port_of_clients(running: Running) -> None:
    async with httpx.AsyncClient(base_url=running.url.replace("ws:", "http:").removesuffix("/ws")) as clients:
        for path in ("/metrics", "/api/admin/status", "/api/admin/sessions"):
            assert (await clients.get(path, headers=bearer("status"))).status_code == 404
    for path in ("/ws", "/api/status", "/health/live"):
        assert (await running.admin.get(path, headers=bearer("status"))).status_code == 404


async def test_metrics_tell_what_happened(running: Running) -> None:
    async with authenticated(running.url, "alice", "device-a"):
        async with authenticated(running.url, "mallory", "device-m", token("mallory")[:-4] + "AAAA") as refused:
            assert (await closed(refused))[0] == 1007
        assert await running.metric("leyden_auth_total", outcome="accepted", reason="none") == 1
        assert await running.metric("leyden_auth_total", outcome="refused", reason="signature_invalid") == 1
        assert await running.metric("leyden_sessions_by_deadline", remaining="under_15m") == 1
        assert await running.metric("leyden_connections") == 1
        assert await running.metric("leyden_ready") == 1
        assert await running.metric("leyden_insecure_mode") == 0
        assert (await running.metric("leyden_replication_position") or 0) > 0
        text = (await running.admin.get("/metrics", headers=bearer("metrics"))).text
        assert "alice" not in text
        assert "device" not in text
    assert await running.metric("leyden_connections_closed_total", code="1007") == 1


async def test_status_tells_whether_clients_can_connect(running: Running) -> None:
    status = (await running.admin.get("/api/admin/status", headers=bearer("status"))).json()
    assert (status["ready"], status["waiting_for"], status["mode"], status["sessions"]) == (True, None, "secure", 0)
    assert status["position"] > 0


async def test_a_revocation_ends_connections_and_shuts_out_until_it_is_taken_back(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_connection, "EXPIRED_GRACE", 0.2)
    async with (
        authenticated(running.url, "alice", "device-a") as alice,
        authenticated(running.url, "bob", "device-b") as bob,
    ):
        added = await running.admin.post(
            "/api/admin/revocations", headers=bearer("revoke"), json={"kind": "user", "value": "alice"}
        )
        assert added.status_code == 201
        # never 4000 before replication has started: the client would take it for a crash
        assert (await closed(alice))[0] == 1008
        await asyncio.wait_for(await bob.ping(), 5)
    async with authenticated(running.url, "alice", "device-a") as again:
        assert (await closed(again))[0] == 1007
    listed = (await running.admin.get("/api/admin/revocations", headers=bearer("revoke"))).json()
    assert [(entry["kind"], entry["value"]) for entry in listed["revocations"]] == [("user", "alice")]
    number = listed["revocations"][0]["id"]
    assert (await running.admin.delete(f"/api/admin/revocations/{number}", headers=bearer("revoke"))).status_code < 300
    async with asyncio.timeout(5):
        while running.of(RevocationRemoved) == []:  # noqa: ASYNC110 - looked at from outside
            await asyncio.sleep(0.02)
    async with authenticated(running.url, "alice", "device-a"):
        assert [session["user_id"] for session in await running.sessions()] == ["alice"]
    assert [(event.client_id, event.cause) for event in running.of(SessionEnded)] == [("device-a", "revoked")]
    assert [event.code for event in running.of(ClientRefused)] == ["revoked"]


async def test_a_forwarded_address_is_not_believed(running: Running) -> None:
    headers = {"authorization": f"Bearer {'x' * 43}", "x-forwarded-for": "203.0.113.9"}
    await running.admin.get("/metrics", headers=headers)
    assert running.of(AdminDenied) == [AdminDenied("127.0.0.1", "credential")]


async def test_an_upgrade_and_an_endless_head_get_nowhere(running: Running) -> None:
    headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-key": "x" * 24}
    assert (await running.admin.get("/ws", headers=headers)).status_code == 401
    reader, writer = await asyncio.open_connection("127.0.0.1", running.admin.base_url.port)
    writer.write(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 100_000)
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400")
    writer.close()


# ---- the command ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def started(database: str, directory: Path, env: Mapping[str, str] = SECURE) -> AsyncIterator[tuple[Leyden, str]]:
    """``leyden start`` with the admin API, and the API's URL."""
    tokens = directory / "admin-tokens"
    tokens.write_text(TOKENS_FILE)
    tokens.chmod(0o600)
    admin = {"ADMIN_TOKENS_FILE": str(tokens), "LEYDEN_ADMIN_PORT": "0", "LOG_LEVEL": "info"}
    service = await Leyden.start("start", database=database, log=directory / "log", env={**env, **admin})
    try:
        assert service.process.stdout is not None
        line = (await asyncio.wait_for(service.process.stdout.readline(), 10)).decode()
        match = re.fullmatch(r"leyden admin API on (http://127\.0\.0\.1:[0-9]+)\n", line)
        assert match is not None, line
        yield service, match[1]
    finally:
        assert await service.stop() == 0


async def leyden(*arguments: str, **env: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "leyden", *arguments),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def audit(service: Leyden) -> list[dict[str, Any]]:
    return [json.loads(line) for line in service.log.splitlines() if line.startswith("{")]


def refusals(service: Leyden) -> int:
    """How many were told, one by one or summed."""
    return sum(r.get("total", 1) for r in audit(service) if r["event"] in ("admin.denied", "auth.summed"))


async def test_commands_see_and_end_sessions_of_a_running_service(database: str, tmp_path: Path) -> None:
    async with started(database, tmp_path) as (service, url):
        env = {"LEYDEN_ADMIN_URL": url, "LEYDEN_ADMIN_TOKEN": MADE["sessions"][1]}
        clients = service.url.replace("http:", "ws:") + "/ws"
        assert await leyden("sessions", "list", **env) == (0, "", "Nobody is connected.\n")
        async with authenticated(clients, "alice", "device-a") as websocket:
            status, table, _ = await leyden("sessions", "list", **env)
            assert status == 0
            assert [row.split()[:3] for row in table.splitlines()] == [
                ["USER", "CLIENT", "ADDRESS"],
                ["alice", "device-a", "127.0.0.1"],
            ]
            status, lines, _ = await leyden("sessions", "list", "--json", **env)
            assert [json.loads(line)["user_id"] for line in lines.splitlines()] == ["alice"]
            status, told, _ = await leyden("sessions", "disconnect", "alice", **env)
            assert (status, told) == (0, "Connections of alice ended: 1\n")
            assert await closed(websocket) == (1008, "")
        wrong = {**env, "LEYDEN_ADMIN_TOKEN": MADE["metrics"][1]}
        status, _, complaint = await leyden("sessions", "list", **wrong)
        assert status == 1
        assert "lacks the scope sessions" in complaint
    records = audit(service)
    assert [record["event"] for record in records] == [
        "admin.login",
        "admin.action",
        "auth.accepted",
        "admin.action",
        "admin.action",
        "admin.action",
        "admin.denied",
    ]
    assert {key: records[5][key] for key in ("action", "target", "name")} == {
        "action": "sessions.disconnect",
        "target": "alice",
        "name": "sessions",
    }
    assert "client authenticated" not in service.log
    for _, secret in MADE.values():
        assert secret not in service.log
        assert secret.removeprefix("leyden_admin_") not in service.log


async def test_a_flood_of_refusals_is_summed_and_the_sum_is_told_when_it_stops(database: str, tmp_path: Path) -> None:
    # insecure mode answers fastest, and the same limit holds
    async with started(database, tmp_path, {"AUTH_MODE": "insecure"}) as (service, url):
        async with httpx.AsyncClient(base_url=url, headers=bearer("status")) as client:
            for _ in range(150):
                assert (await client.get("/metrics")).status_code == 403
        async with asyncio.timeout(10):
            while refusals(service) < 150:  # noqa: ASYNC110 - looked at from outside
                await asyncio.sleep(0.05)
    records = audit(service)
    assert records[0]["event"] == "mode.insecure"
    summed = [record for record in records if record["event"] == "auth.summed"]
    assert sum(record["counts"]["admin.denied"]["scope"] for record in summed) == 150 - len(
        [record for record in records if record["event"] == "admin.denied"]
    )


async def test_a_port_that_is_taken_is_named(database: str, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(TOKENS_FILE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, out, err = await leyden(
            *("start", "--port", "0"),
            **SECURE,
            DATABASE_URL=database_url(database),
            ADMIN_TOKENS_FILE=str(tmp_path / "tokens"),
            LEYDEN_ADMIN_PORT=str(taken.getsockname()[1]),
        )
    assert (status, out) == (1, "")
    assert err.startswith("LEYDEN_ADMIN_PORT: 127.0.0.1 port")
