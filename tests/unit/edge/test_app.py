"""The handshake, by plain ASGI calls: who is refused before a WebSocket exists, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from leyden.auth import ALGORITHMS, AuthSettings, KeyRing, load_keys
from leyden.edge.admission import UNAUTHENTICATED_PER_ADDRESS, HandshakeRefused, Lobby, is_loopback_host
from leyden.edge.app import choose_subprotocol, create_app
from leyden.events import Event, HandshakeDenied
from leyden.model import Migration

INSECURE = AuthSettings("insecure")
SECURE = AuthSettings("secure", (ALGORITHMS["HS256"],), KeyRing(load_keys("k7!" * 30, ALGORITHMS["HS256"])))
PUBLIC = AuthSettings("insecure", insecure_public=True)


class Unready:
    """A service that waits for Postgres: whoever is let in gets as far as the 503."""

    def __init__(self, auth: AuthSettings) -> None:
        self.auth = auth
        self.events: list[Event] = []
        self.ready = False
        self.reason = "waiting"
        self.core = None
        self.migrations: Sequence[Migration] = ()

    def emit(self, event: Event) -> None:
        self.events.append(event)


async def handshake(served: Unready, *headers: tuple[str, str], subprotocol: str = "electric.0.12") -> tuple[int, str]:
    """Status and body of the refusal."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": "/ws",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "subprotocols": [subprotocol],
        "client": ("203.0.113.7", 4711),
        "extensions": {"websocket.http.response": {}},
        "state": {},
    }
    await create_app(served)(scope, receive, send)
    assert sent[0]["type"] == "websocket.http.response.start"
    return sent[0]["status"], sent[1]["body"].decode()


LOCAL = ("host", "localhost:5133")


@pytest.mark.parametrize(
    "headers",
    [
        [LOCAL],
        [("host", "127.0.0.1:5133")],
        [("host", "[::1]:5133")],
        [LOCAL, ("origin", "http://localhost:3000")],
        [LOCAL, ("origin", "https://127.0.0.1")],
    ],
)
async def test_insecure_mode_serves_this_machine(headers: list[tuple[str, str]]) -> None:
    assert await handshake(Unready(INSECURE), *headers) == (503, "Postgres connection is not ready: waiting")


@pytest.mark.parametrize(
    "headers",
    [
        [LOCAL, ("origin", "https://evil.example")],
        [LOCAL, ("origin", "null")],
        [LOCAL, ("origin", "http://localhost.evil.example")],
        [LOCAL, ("origin", "http://localhost@evil.example")],
        [LOCAL, ("origin", "http://localhost"), ("origin", "http://evil.example")],
        [("host", "evil.example:5133")],
        [("host", "evil.example:5133"), ("origin", "http://evil.example:5133")],
        [LOCAL, ("host", "evil.example")],
        [],
    ],
)
async def test_insecure_mode_refuses_foreign_pages_and_names(headers: list[tuple[str, str]]) -> None:
    served = Unready(INSECURE)
    status, _ = await handshake(served, *headers)
    assert status == 403
    assert [type(event) for event in served.events] == [HandshakeDenied]


@pytest.mark.parametrize("auth", [SECURE, PUBLIC], ids=["secure", "knowingly public"])
async def test_elsewhere_any_origin_may_come(auth: AuthSettings) -> None:
    status, _ = await handshake(Unready(auth), ("host", "sync.example"), ("origin", "https://app.example"))
    assert status == 503


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "app.localhost", "127.8.8.8", "[::1]"])
def test_loopback_hosts(host: str) -> None:
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host", ["", "localhost:x", "a@localhost", "localhost/x", "localhost#x", "0.0.0.0", "10.0.0.1", "[::1", "::1\n"]
)
def test_hosts_that_only_look_like_it(host: str) -> None:
    assert not is_loopback_host(host)


async def test_a_client_that_offers_no_version_is_refused() -> None:
    status, body = await handshake(Unready(SECURE), LOCAL, subprotocol="chat")
    assert (status, body) == (400, "Missing satellite websocket subprotocol")


async def test_a_version_outside_the_range_is_named() -> None:
    status, body = await handshake(Unready(SECURE), LOCAL, subprotocol="electric.1.4")
    assert status == 400
    assert body == "Cannot connect satellite version 1.4.0: this server requires >= 0.10.0 and <= 0.12.0"


def test_the_newest_version_offered_is_answered_as_offered() -> None:
    assert choose_subprotocol(["chat", "electric.0.11", "electric.0.12", "electric.0.13"]) == "electric.0.12"


# ---- the lobby ------------------------------------------------------------------------------------------------------


Fill = Callable[[Lobby, str, int], None]


@pytest.fixture
def fill() -> Iterator[Fill]:
    """``fill(lobby, address, number)`` takes places and keeps them until the test ends."""
    with ExitStack() as held:

        def take(lobby: Lobby, address: str, number: int) -> None:
            for _ in range(number):
                held.enter_context(lobby.place(address))

        yield take


def test_an_address_has_so_many_unauthenticated_connections(fill: Fill) -> None:
    lobby = Lobby()
    fill(lobby, "203.0.113.7", UNAUTHENTICATED_PER_ADDRESS)
    with pytest.raises(HandshakeRefused) as caught, lobby.place("203.0.113.7"):
        pass
    assert caught.value.status == 429
    with lobby.place("203.0.113.8"):
        pass


def test_an_ipv6_network_counts_as_one_address_and_a_mapped_address_as_itself(fill: Fill) -> None:
    lobby = Lobby(per_address=1)
    fill(lobby, "2001:db8::1", 1)
    fill(lobby, "::ffff:203.0.113.7", 1)
    for taken in ("2001:db8::2", "203.0.113.7"):
        with pytest.raises(HandshakeRefused), lobby.place(taken):
            pass
    with lobby.place("2001:db8:0:1::1"):
        pass


def test_a_process_has_so_many_whatever_their_address(fill: Fill) -> None:
    lobby = Lobby(in_all=3)
    fill(lobby, "127.0.0.1", 3)
    with pytest.raises(HandshakeRefused) as caught, lobby.place("203.0.113.7"):
        pass
    assert caught.value.status == 503


def test_a_place_is_given_up_once_and_for_good() -> None:
    lobby = Lobby(per_address=1)
    with lobby.place("203.0.113.7") as place:
        place.give_up()
        assert lobby.waiting == 0
        with lobby.place("203.0.113.7"):
            place.give_up()
            assert lobby.waiting == 1
    assert lobby.waiting == 0


async def test_a_refused_handshake_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    await handshake(Unready(INSECURE), ("host", "evil.example"))
    assert asyncio.all_tasks() == before
