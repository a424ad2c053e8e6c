"""The portable socket over plain ASGI: order, back-pressure, and clients that stop taking. Pings over our own."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from leyden.edge.websocket.server import DirectSocket
from leyden.edge.websocket.socket import HIGH_WATER_BYTES, AsgiSocket, Packet, server_frame


class Server:
    """A foreign ASGI server's ``send``; it takes nothing while ``open`` is cleared."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()
        self.gone = False

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self.open.wait()
        if self.gone:
            raise OSError
        self.sent.append(message["bytes"])


@pytest.mark.parametrize(
    ("size", "header"),
    [(0, b"\x82\x00"), (125, b"\x82\x7d"), (126, b"\x82\x7e\x00\x7e"), (65536, b"\x82\x7f\0\0\0\0\0\1\0\0")],
)
def test_a_payload_becomes_one_unmasked_binary_frame(size: int, header: bytes) -> None:
    assert server_frame(bytes(size)) == header + bytes(size)


async def test_messages_arrive_whole_and_in_order() -> None:
    server = Server()
    socket = AsgiSocket(server.send)
    assert socket.send(Packet([b"a", b"b"]))
    assert socket.send(Packet([b"c"]))
    assert await socket.flush(1.0)
    assert server.sent == [b"a", b"b", b"c"]
    assert socket.buffered == 0
    await socket.aclose()


async def test_a_full_socket_says_stop_and_drains_when_the_server_takes_again() -> None:
    server = Server()
    server.open.clear()
    socket = AsgiSocket(server.send)
    assert not socket.send(Packet([bytes(HIGH_WATER_BYTES)]))
    draining = asyncio.create_task(socket.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    server.open.set()
    await asyncio.wait_for(draining, 1)
    await socket.aclose()


async def test_a_client_that_takes_nothing_holds_up_neither_a_ping_nor_the_end() -> None:
    server = Server()
    server.open.clear()
    socket = AsgiSocket(server.send)
    socket.send(Packet([b"a"]))
    assert not await socket.ping(0.001)
    assert not await socket.flush(0.001)
    await asyncio.wait_for(socket.aclose(), 1)


async def test_nothing_waits_for_a_client_that_is_gone() -> None:
    server = Server()
    server.gone = True
    socket = AsgiSocket(server.send)
    socket.send(Packet([bytes(HIGH_WATER_BYTES + 1)]))
    await asyncio.wait_for(socket.drain(), 1)
    assert await socket.flush(1.0)
    assert not socket.send(Packet([b"a"]))
    await socket.aclose()


async def test_a_cancellation_that_comes_together_with_the_pong_is_not_lost() -> None:
    pinged: list[bytes] = []
    protocol = SimpleNamespace(
        sending=True,
        conn=SimpleNamespace(send_ping=pinged.append, data_to_send=lambda: []),
        transport=SimpleNamespace(write=lambda _: None),
    )
    socket = DirectSocket(cast(Any, protocol))
    pinging = asyncio.create_task(socket.ping(5))
    await asyncio.sleep(0)
    socket.ponged(pinged[0])
    pinging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pinging
