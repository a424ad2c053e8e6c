"""The admin API by plain ASGI calls: who gets in, what is refused, and what each call tells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import psycopg
import pytest
from starlette.applications import Starlette

from leyden.edge.admin import app as admin_app
from leyden.edge.admin import requests
from leyden.edge.admin.administered import NewRevocation, RevocationInfo, ServiceStatus, SessionInfo
from leyden.edge.admin.app import create_admin_app
from leyden.edge.admin.credentials import Scope, new_credential
from leyden.events import AdminActed, AdminDenied, Event, RateLimited, UnexpectedError

METRICS = b"leyden_ready 1.0\n"
SESSION = SessionInfo(
    1, "alice", "device-a", "203.0.113.7", None, "agent\u202e", 1.0, None, "ES256", None, "thumb", None, 2.0, 5.0
)
STATUS = ServiceStatus("0.1.0", "i", "secure", False, "waiting", 7, 2, 1)
CALLS: dict[Scope, tuple[str, str, Any]] = {
    "metrics": ("GET", "/metrics", None),
    "status": ("GET", "/api/admin/status", None),
    "sessions": ("POST", "/api/admin/sessions/disconnect", {"user": "alice"}),
    "revoke": ("GET", "/api/admin/revocations", None),
}


class Store:
    def __init__(self) -> None:
        self.kept: dict[int, RevocationInfo] = {}
        self.fails: Exception | None = None
        self.hangs = False

    async def _answer(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails

    async def add(self, revocation: NewRevocation) -> RevocationInfo:
        await self._answer()
        number = len(self.kept) + 1
        expires_at = revocation.expires_at or 4_000
        self.kept[number] = RevocationInfo(
            number, revocation.kind, revocation.value, revocation.issued_before, expires_at
        )
        return self.kept[number]

    async def remove(self, id: int) -> bool:
        await self._answer()
        return self.kept.pop(id, None) is not None

    async def list(self) -> Sequence[RevocationInfo]:
        await self._answer()
        return list(self.kept.values())


class Fake:
    """A service with one session."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.status = STATUS
        self.sessions: Sequence[SessionInfo] = [SESSION]
        self.store = Store()
        self.revocations: Store | None = self.store
        self.disconnected: list[str] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def disconnect(self, user_id: str) -> int:
        self.disconnected.append(user_id)
        return 2

    def metrics_text(self) -> bytes:
        return METRICS


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


MADE = {scope: new_credential(scope, [scope]) for scope in CALLS}
BEARER = {scope: {"authorization": f"Bearer {secret}"} for scope, (_, secret) in MADE.items()}
WRONG = {"authorization": f"Bearer {new_credential('x', ['status'])[1]}"}


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def client_of(app: Starlette, host: str = "localhost:5134", address: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=(address, 4711))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")


def app_of(fake: Fake, clock: Clock, *, loopback_only: bool = True) -> Starlette:
    credentials = [credential for credential, _ in MADE.values()]
    return create_admin_app(fake, credentials, loopback_only=loopback_only, clock=clock)


@pytest.fixture
async def client(fake: Fake, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app_of(fake, clock)) as client:
        yield client


def error(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal, which is always JSON with a sentence."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    content = answer.json()
    assert content.keys() == {"code", "message"}
    assert content["message"].endswith(".")
    return answer.status_code, content["code"]


# ---- who gets in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", CALLS)
@pytest.mark.parametrize("wanted", CALLS)
async def test_a_credential_does_what_its_scopes_say_and_no_more(
    client: httpx.AsyncClient, fake: Fake, held: Scope, wanted: Scope
) -> None:
    method, path, body = CALLS[wanted]
    answer = await client.request(method, path, json=body, headers=BEARER[held])
    if held == wanted:
        assert answer.status_code == 200
        assert [type(event) for event in fake.events] == [AdminActed]
    else:
        assert error(answer) == (403, "scope_missing")
        assert fake.events == [AdminDenied("127.0.0.1", "scope", held)]
        assert fake.disconnected == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer  "},
        {"authorization": "Basic b3BzOnNlY3JldA=="},
        {"authorization": MADE["status"][1]},
        {"authorization": f"Bearer {MADE['status'][0].digest.hex()}"},
        {"authorization": f"Bearer {MADE['status'][1]}x"},
        {"authorization": f"Bearer {MADE['status'][1].upper()}"},
        WRONG,
    ],
    ids=["none", "empty", "no secret", "blanks", "basic", "bare", "the hash", "longer", "other case", "unknown"],
)
@pytest.mark.parametrize("path", ["/api/admin/status", "/nowhere"])
async def test_without_a_known_secret_nothing_is_told(
    client: httpx.AsyncClient, fake: Fake, headers: dict[str, str], path: str
) -> None:
    answer = await client.get(path, headers=headers)
    assert error(answer) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert fake.events == [AdminDenied("127.0.0.1", "credential")]


async def test_two_secrets_are_none(client: httpx.AsyncClient) -> None:
    headers = [("authorization", value["authorization"]) for value in (BEARER["status"], BEARER["status"])]
    assert error(await client.get("/api/admin/status", headers=headers)) == (401, "unauthorized")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://localhost:5134"},
        {"origin": "null"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-origin"},
    ],
)
async def test_no_page_may_call_it(client: httpx.AsyncClient, fake: Fake, headers: dict[str, str]) -> None:
    answer = await client.get("/api/admin/status", headers=headers | BEARER["status"])
    assert error(answer) == (403, "browser_refused")
    assert "access-control-allow-origin" not in answer.headers
    preflight = await client.options("/api/admin/status", headers=headers)
    assert error(preflight) == (403, "browser_refused")
    assert fake.events == [AdminDenied("127.0.0.1", "origin")] * 2


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5134", "127.0.0.1.evil.example"])
async def test_on_this_machine_it_has_a_name_of_this_machine(fake: Fake, clock: Clock, host: str) -> None:
    async with client_of(app_of(fake, clock), host) as client:
        answer = await client.get("/api/admin/status", headers=BEARER["status"])
    assert error(answer) == (403, "host_refused")
    assert fake.events == [AdminDenied("127.0.0.1", "host")]


async def test_elsewhere_it_may_have_any_name(fake: Fake, clock: Clock) -> None:
    async with client_of(app_of(fake, clock, loopback_only=False), "sync.example") as client:
        assert (await client.get("/api/admin/status", headers=BEARER["status"])).status_code == 200


async def test_who_guesses_is_not_judged_any_more(client: httpx.AsyncClient, fake: Fake, clock: Clock) -> None:
    for _ in range(10):
        assert error(await client.get("/metrics", headers=WRONG)) == (401, "unauthorized")
    fake.events.clear()
    for headers in (WRONG, BEARER["metrics"]):
        answer = await client.get("/metrics", headers=headers)
        assert error(answer) == (429, "rate_limited")
        assert answer.headers["retry-after"] == "6"
    assert fake.events == [RateLimited("127.0.0.1", "admin")] * 2
    clock.now += 6
    assert (await client.get("/metrics", headers=BEARER["metrics"])).status_code == 200


async def test_one_address_does_not_lock_out_another(fake: Fake, clock: Clock) -> None:
    app = app_of(fake, clock, loopback_only=False)
    async with client_of(app, address="203.0.113.7") as guesser, client_of(app, address="203.0.113.8") as admin:
        for _ in range(11):
            answer = await guesser.get("/metrics", headers={**WRONG, "x-forwarded-for": "203.0.113.9"})
        assert answer.status_code == 429
        assert (await admin.get("/metrics", headers=BEARER["metrics"])).status_code == 200


async def test_neither_pages_nor_calls_without_a_secret_use_up_what_may_be_guessed(client: httpx.AsyncClient) -> None:
    for _ in range(30):
        await client.get("/metrics")
        await client.get("/metrics", headers={**WRONG, "origin": "https://evil.example"})
        await client.get("/metrics", headers={**WRONG, "host": "evil.example"})
        await client.get("/api/admin/status", headers=BEARER["metrics"])
    assert (await client.get("/metrics", headers=BEARER["metrics"])).status_code == 200


async def test_a_websocket_is_refused(fake: Fake, clock: Clock) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", BEARER["status"]["authorization"].encode()), (b"host", b"localhost")]
    scope = {"type": "websocket", "path": "/api/admin/status", "headers": headers, "client": ("127.0.0.1", 1)}
    await app_of(fake, clock)(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


# ---- what it answers ------------------------------------------------------------------------------------------------


async def test_answers(client: httpx.AsyncClient, fake: Fake) -> None:
    metrics = await client.get("/metrics", headers=BEARER["metrics"])
    assert metrics.content == METRICS
    assert metrics.headers["content-type"].startswith("text/plain; version=")
    assert metrics.headers["cache-control"] == "no-store"
    assert (await client.get("/api/admin/status", headers=BEARER["status"])).json() == {
        "version": "0.1.0",
        "instance_id": "i",
        "mode": "secure",
        "ready": False,
        "waiting_for": "waiting",
        "position": 7,
        "connections": 2,
        "sessions": 1,
    }
    sessions = await client.get("/api/admin/sessions", headers=BEARER["sessions"])
    assert sessions.content.isascii()
    (session,) = sessions.json()["sessions"]
    assert session["user_agent"] == "agent\u202e"
    assert {name: session[name] for name in ("connection", "user_id", "client_id", "key_thumbprint", "ends_at")} == {
        "connection": 1,
        "user_id": "alice",
        "client_id": "device-a",
        "key_thumbprint": "thumb",
        "ends_at": 5.0,
    }
    ended = await client.post("/api/admin/sessions/disconnect", json={"user": "a\nb"}, headers=BEARER["sessions"])
    assert ended.json() == {"disconnected": 2}
    assert fake.disconnected == ["a\nb"]
    assert fake.events == [
        AdminActed("metrics", "127.0.0.1", "metrics.read"),
        AdminActed("status", "127.0.0.1", "status.read"),
        AdminActed("sessions", "127.0.0.1", "sessions.list"),
        AdminActed("sessions", "127.0.0.1", "sessions.disconnect", "a\nb"),
    ]


async def test_revocations_come_and_go(client: httpx.AsyncClient, fake: Fake) -> None:
    path, headers = "/api/admin/revocations", BEARER["revoke"]
    wanted = {"kind": "user", "value": "alice", "issued_before": 1_000, "expires_at": 9_000}
    added = await client.post(path, json=wanted, headers=headers)
    assert (added.status_code, added.json()) == (201, {"id": 1, **wanted})
    assert (await client.post(path, json={"kind": "jti", "value": "t"}, headers=headers)).json()["expires_at"] == 4_000
    listed = await client.get(path, headers=headers)
    assert [revocation["id"] for revocation in listed.json()["revocations"]] == [1, 2]
    assert (await client.delete(f"{path}/1", headers=headers)).status_code == 204
    assert error(await client.delete(f"{path}/1", headers=headers)) == (404, "revocation_unknown")
    assert error(await client.delete(f"{path}/{2**63}", headers=headers)) == (404, "revocation_unknown")
    assert [event for event in fake.events if not (isinstance(event, AdminActed) and "list" in event.action)] == [
        AdminActed("revoke", "127.0.0.1", "revocations.add", "user alice"),
        AdminActed("revoke", "127.0.0.1", "revocations.add", "jti t"),
        AdminActed("revoke", "127.0.0.1", "revocations.remove", "1"),
        AdminDenied("127.0.0.1", "request", "revoke"),
        AdminDenied("127.0.0.1", "request", "revoke"),
    ]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "kind_invalid"),
        ({"kind": "everybody"}, "kind_invalid"),
        ({"kind": ["user"], "value": "a"}, "kind_invalid"),
        ({"kind": "user"}, "value_invalid"),
        ({"kind": "user", "value": ""}, "value_invalid"),
        ({"kind": "user", "value": 1}, "value_invalid"),
        ({"kind": "user", "value": "a\0"}, "value_invalid"),
        ({"kind": "user", "value": "a" * 1_025}, "value_invalid"),
        ({"kind": "all", "value": "a", "issued_before": 1}, "value_invalid"),
        ({"kind": "all"}, "issued_before_invalid"),
        ({"kind": "jti", "value": "t", "issued_before": 1}, "issued_before_invalid"),
        ({"kind": "user", "value": "a", "issued_before": True}, "issued_before_invalid"),
        ({"kind": "user", "value": "a", "issued_before": 1.5}, "issued_before_invalid"),
        ({"kind": "user", "value": "a", "issued_before": -1}, "issued_before_invalid"),
        ({"kind": "user", "value": "a", "expires_at": 253_402_300_800}, "expires_at_invalid"),
        ({"kind": "user", "value": "a", "expires_at": "soon"}, "expires_at_invalid"),
        ({"kind": "user", "value": "a", "until": 1}, "body_invalid"),
    ],
)
async def test_a_revocation_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, fake: Fake, body: dict[str, Any], code: str
) -> None:
    answer = await client.post("/api/admin/revocations", json=body, headers=BEARER["revoke"])
    assert error(answer) == (400, code)
    assert fake.store.kept == {}
    assert fake.events == [AdminDenied("127.0.0.1", "request", "revoke")]


@pytest.mark.parametrize("failure", [psycopg.OperationalError("password=s3cret"), "hangs", "no store"], ids=str)
async def test_without_the_database_revocations_are_unavailable(
    client: httpx.AsyncClient, fake: Fake, failure: Exception | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_app, "DATABASE_DEADLINE", 0.01)
    if isinstance(failure, Exception):
        fake.store.fails = failure
    elif failure == "hangs":
        fake.store.hangs = True
    else:
        fake.revocations = None
    for method, path in (("GET", "/api/admin/revocations"), ("DELETE", "/api/admin/revocations/1")):
        answer = await client.request(method, path, headers=BEARER["revoke"])
        assert error(answer) == (503, "unavailable")
        assert "s3cret" not in answer.text
    assert fake.events == [AdminDenied("127.0.0.1", "unavailable", "revoke")] * 2


async def test_a_defect_is_answered_and_told_without_its_text(client: httpx.AsyncClient, fake: Fake) -> None:
    fake.store.fails = ValueError("s3cret")
    answer = await client.get("/api/admin/revocations", headers=BEARER["revoke"])
    assert error(answer) == (500, "internal")
    assert [type(event) for event in fake.events] == [UnexpectedError, AdminDenied]
    assert "s3cret" not in answer.text + repr(fake.events)


# ---- requests -------------------------------------------------------------------------------------------------------


async def disconnect(client: httpx.AsyncClient, content: Any, media_type: str = "application/json") -> httpx.Response:
    headers = {**BEARER["sessions"], "content-type": media_type}
    return await client.post("/api/admin/sessions/disconnect", content=content, headers=headers)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "body_invalid"),
        (b'["alice"]', "body_invalid"),
        (b'{"user":"alice","user":"bob"}', "body_invalid"),
        (b'{"user":"alice","force":true}', "body_invalid"),
        (b'\xef\xbb\xbf{"user":"alice"}', "body_invalid"),
        (b'{"user":"\\ud800"}', "body_invalid"),
        (b'{"user":NaN}', "body_invalid"),
        (b'{"user":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "body_invalid"),
        (b'{"user":1}', "user_invalid"),
        (b'{"user":""}', "user_invalid"),
        (b"{}", "user_invalid"),
    ],
)
async def test_a_body_is_one_strict_object_with_the_right_members(
    client: httpx.AsyncClient, fake: Fake, content: bytes, code: str
) -> None:
    assert error(await disconnect(client, content)) == (400, code)
    assert fake.disconnected == []


async def test_a_body_is_declared_as_json(client: httpx.AsyncClient, fake: Fake) -> None:
    for media_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert error(await disconnect(client, b'{"user":"alice"}', media_type)) == (415, "content_type")
    assert (await disconnect(client, b'{"user":"alice"}', "Application/JSON; charset=utf-8")).status_code == 200


async def test_a_body_has_a_size(client: httpx.AsyncClient, fake: Fake) -> None:
    def padded(size: int) -> bytes:
        return json.dumps({"user": "x"}).encode().ljust(size)

    async def chunks(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 1_000):
            yield b" " * 1_000

    assert (await disconnect(client, padded(requests.BODY_BYTES))).status_code == 200
    assert error(await disconnect(client, padded(requests.BODY_BYTES + 1))) == (413, "body_too_large")
    answer = await disconnect(client, chunks(200_000))
    assert error(answer) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"


async def test_a_body_arrives_in_time(client: httpx.AsyncClient, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "BODY_DEADLINE", 0.01)

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    assert error(await disconnect(client, never())) == (408, "body_timeout")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", (404, "not_found")),
        ("GET", "/metrics/", (404, "not_found")),
        ("GET", "/api/admin/revocations/x", (404, "not_found")),
        ("DELETE", "/api/admin/revocations/-1", (404, "not_found")),
        ("GET", "/ws", (404, "not_found")),
        ("POST", "/metrics", (405, "method_not_allowed")),
        ("GET", "/api/admin/sessions/disconnect", (405, "method_not_allowed")),
    ],
)
async def test_other_calls_are_answered_in_the_same_form(
    client: httpx.AsyncClient, fake: Fake, method: str, path: str, expected: tuple[int, str]
) -> None:
    answer = await client.request(method, path, headers=BEARER["status"])
    assert error(answer) == expected
    assert ("allow" in answer.headers) is (answer.status_code == 405)
    assert fake.events == [AdminDenied("127.0.0.1", "request", "status")]
