"""The handshake, by plain ASGI calls: who is refused before a WebSocket exists, in which order, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from leyden.edge.admission import FAILURES, AdmissionPolicy, Doorkeeper, HandshakeRefused
from leyden.edge.admission.lobby import UNAUTHENTICATED_PER_ADDRESS
from leyden.edge.app import SatelliteEndpoint, choose_subprotocol, create_app
from leyden.edge.connection import Core
from leyden.events import Event, HandshakeDenied, RateLimited
from leyden.model import Migration

ANYBODY = AdmissionPolicy()
CLIENT = "203.0.113.7"
NAMED = ("host", "sync.example")
EVIL = ("origin", "https://evil.example")


class Served:
    """A service that waits for Postgres, or seems not to."""

    def __init__(self, policy: AdmissionPolicy = ANYBODY, *, ready: bool = False) -> None:
        self.admission = policy
        self.events: list[Event] = []
        self.ready = ready
        self.reason = "waiting"
        self.core = cast(Core, object()) if ready else None
        self.migrations: Sequence[Migration] = ()

    def emit(self, event: Event) -> None:
        self.events.append(event)


class Answer:
    """What an application answered to an upgrade request."""

    def __init__(self, messages: list[Any]) -> None:
        start, body = messages
        self.status: int = start["status"]
        self.body: str = body["body"].decode()
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}


async def handshake(
    app: Any,
    *headers: tuple[str, str],
    subprotocol: str = "electric.0.12",
    denial: bool = True,
    path: str = "/ws",
) -> list[Any]:
    """The messages that ``app`` sends; ``denial`` is whether the server can send HTTP responses for it."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": path,
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "subprotocols": [subprotocol],
        "client": (CLIENT, 4711),
        "extensions": {"websocket.http.response": {}} if denial else {},
        "state": {},
    }
    await app(scope, receive, send)
    return sent


async def refused(served: Served, *headers: tuple[str, str], subprotocol: str = "electric.0.12") -> Answer:
    return Answer(await handshake(create_app(served), *headers, subprotocol=subprotocol))


def doorkeeper(app: Starlette) -> Doorkeeper:
    return cast(Doorkeeper, app.state.doorkeeper)


# ---- the reasons, in their order ------------------------------------------------------------------------------------


async def test_a_foreign_origin_is_refused_whatever_else_is_wrong() -> None:
    served = Served(AdmissionPolicy(allowed_origins=frozenset({"https://app.example"})))
    answer = await refused(served, NAMED, EVIL, subprotocol="chat")
    assert (answer.status, answer.body) == (403, "Origin is not allowed")
    (denied,) = served.events
    assert isinstance(denied, HandshakeDenied)
    assert (denied.peer.address, denied.peer.origin, denied.status) == (CLIENT, EVIL[1], 403)


async def test_insecure_mode_refuses_foreign_names() -> None:
    answer = await refused(Served(AdmissionPolicy(loopback_only=True)), NAMED)
    assert (answer.status, answer.body) == (403, "Host is not a loopback name")


async def test_a_client_that_offers_no_version_is_refused() -> None:
    answer = await refused(Served(), NAMED, subprotocol="chat")
    assert (answer.status, answer.body) == (400, "Missing satellite websocket subprotocol")


async def test_a_version_outside_the_range_is_named() -> None:
    answer = await refused(Served(), NAMED, subprotocol="electric.1.4")
    assert answer.status == 400
    assert answer.body == "Cannot connect satellite version 1.4.0: this server requires >= 0.10.0 and <= 0.12.0"


async def test_while_not_ready_clients_are_told_to_come_back() -> None:
    answer = await refused(Served(), NAMED, EVIL)
    assert (answer.status, answer.body) == (503, "Postgres connection is not ready: waiting")
    assert answer.headers["retry-after"] == "5"


async def test_whoever_failed_too_often_is_told_when_to_come_back() -> None:
    served = Served(ready=True)
    endpoint = SatelliteEndpoint(served)
    caller = endpoint.admission.caller(CLIENT, [])
    for _ in range(FAILURES.at_once):
        endpoint.admission.failures.take(caller.network)
    answer = Answer(await handshake(endpoint, NAMED))
    assert (answer.status, answer.body, answer.headers["retry-after"]) == (429, "Too many requests", "6")
    assert served.events == [RateLimited(CLIENT, "failures")]


async def test_whoever_has_too_many_connections_waiting_is_told_to_come_back() -> None:
    served = Served(ready=True)
    endpoint = SatelliteEndpoint(served)
    with ExitStack() as held:
        for _ in range(UNAUTHENTICATED_PER_ADDRESS):
            held.enter_context(endpoint.admission.enter(endpoint.admission.caller(CLIENT, [])))
        answer = Answer(await handshake(endpoint, NAMED))
        assert (answer.status, answer.headers["retry-after"]) == (429, "5")
        assert served.events == [RateLimited(CLIENT, "unauthenticated")]


async def test_a_server_that_cannot_send_a_response_closes() -> None:
    (closed,) = await handshake(create_app(Served()), NAMED, denial=False)
    assert (closed["type"], closed["code"]) == ("websocket.close", 1008)


async def test_middleware_that_was_put_around_the_application_sees_connections_as_well() -> None:
    seen: list[str] = []

    class Middleware:
        def __init__(self, app: Any) -> None:
            self._app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["path"])
            await self._app(scope, receive, send)

    app = create_app(Served())
    app.add_middleware(Middleware)
    assert Answer(await handshake(app, NAMED)).status == 503
    assert seen == ["/ws"]


async def test_an_application_mounted_in_another_finds_its_endpoint() -> None:
    outer = Starlette(routes=[Mount("/ws", create_app(Served()))])
    assert Answer(await handshake(outer, NAMED, path="/ws/ws")).status == 503
    assert Answer(await handshake(outer, NAMED, path="/ws/other")).status == 404


async def test_a_refused_handshake_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    await refused(Served(AdmissionPolicy(loopback_only=True)), NAMED)
    assert asyncio.all_tasks() == before


# ---- asked beforehand -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ws", "/ws/", "/ws/legacy"])
def test_the_doorkeeper_refuses_what_the_application_would_and_tells_of_it(path: str) -> None:
    served = Served(AdmissionPolicy(allowed_origins=frozenset({"https://app.example"})))
    headers = [(b"host", b"sync.example"), (b"origin", b"https://evil.example")]
    refusal = doorkeeper(create_app(served))(path, CLIENT, headers)
    assert refusal is not None
    assert refusal.status == 403
    assert [type(event) for event in served.events] == [HandshakeDenied]


@pytest.mark.parametrize("path", ["/", "/wsx", "/other/ws", "/%77s"])
def test_the_doorkeeper_knows_one_door(path: str) -> None:
    served = Served()
    assert doorkeeper(create_app(served))(path, CLIENT, [(b"host", b"sync.example")]) is None
    assert served.events == []


@pytest.mark.parametrize(
    "lines", [[b"electric.0.12"], [b"chat, electric.0.11 ,electric.0.99"], [b"chat", b"electric.0.12"]]
)
def test_the_doorkeeper_lets_pass_whom_the_application_would_let_in(lines: list[bytes]) -> None:
    served = Served(ready=True)
    headers = [(b"host", b"sync.example"), *((b"sec-websocket-protocol", line) for line in lines)]
    for _ in range(2 * UNAUTHENTICATED_PER_ADDRESS):
        assert doorkeeper(create_app(served))("/ws", CLIENT, headers) is None
    assert served.events == []


# ---- subprotocols ---------------------------------------------------------------------------------------------------


def test_the_newest_version_offered_is_answered_as_offered() -> None:
    assert choose_subprotocol(["chat", "electric.0.11", "electric.0.12", "electric.0.13"]) == "electric.0.12"


def test_an_endless_offer_is_not_read_to_its_end() -> None:
    with pytest.raises(HandshakeRefused):
        choose_subprotocol(["chat"] * 10_000 + ["electric.0.12"])
