"""The WebSocket protocol of the server: short messages are taken straight from the bytes, where a frame begins and none
overtakes another; and what happens when the server stops."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn import Config
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from leyden.edge.websocket.server import SatelliteServerProtocol
from leyden.edge.websocket.short_frames import FrameBoundary, short_message

REQUEST = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

#: What messages begin with that are taken at once.
ACK = b"\x17"


def wire(frame: Frame) -> bytes:
    return frame.serialize(mask=True)


def binary(payload: bytes, *, fin: bool = True) -> Frame:
    return Frame(Opcode.BINARY, payload, fin)


sizes = st.one_of(st.integers(0, 130), st.sampled_from([125, 126, 127, 65_535, 65_536]))
payloads = st.builds(lambda kind, size: kind + bytes(size), st.sampled_from([ACK, b"\x09"]), sizes) | st.just(b"")
#: One message of the client: a frame, or several.
messages = st.one_of(
    payloads.map(lambda payload: [binary(payload)]),
    payloads.map(
        lambda payload: [binary(payload, fin=False), Frame(Opcode.PING, b"ping"), Frame(Opcode.CONT, b"rest", True)]
    ),
    st.just([Frame(Opcode.PING, b"are you there")]),
    st.just([Frame(Opcode.PONG, b"yes")]),
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if start < end]


cuts = st.lists(st.integers(0, 1 << 20), max_size=8)


@given(st.lists(messages, max_size=6), cuts)
def test_the_boundary_is_reached_where_a_frame_ends_and_nowhere_else(told: list[list[Frame]], cuts: list[int]) -> None:
    frames = [wire(frame) for message in told for frame in message]
    ends = {sum(map(len, frames[:count])) for count in range(len(frames) + 1)}
    boundary, given = FrameBoundary(), 0
    for piece in pieces(b"".join(frames), cuts):
        boundary.follow(piece)
        given += len(piece)
        assert boundary.reached == (given in ends)


@given(payloads.filter(lambda payload: len(payload) <= 125), st.binary(max_size=9), st.binary(max_size=9))
def test_a_short_message_is_what_was_sent(payload: bytes, before: bytes, after: bytes) -> None:
    frame = wire(binary(payload))
    assert short_message(before + frame + after, len(before)) == (payload, len(before) + len(frame))
    for missing in range(1, len(frame) + 1):
        assert short_message(before + frame[:-missing], len(before)) is None


@pytest.mark.parametrize(
    "frame",
    [
        binary(bytes(126)),
        binary(b"a", fin=False),
        Frame(Opcode.TEXT, b"a", True),
        Frame(Opcode.CONT, b"a", True),
        Frame(Opcode.PING, b"a", True),
        Frame(Opcode.CLOSE, b"", True),
    ],
    ids=["longer", "first of several", "text", "one more of several", "ping", "close"],
)
def test_everything_else_is_none(frame: Frame) -> None:
    assert short_message(wire(frame)) is None


def test_nothing_that_breaks_the_protocol_is_a_message() -> None:
    with_a_reserved_bit = bytes([0xC2]) + wire(binary(b"a"))[1:]
    assert short_message(with_a_reserved_bit) is None
    assert short_message(binary(b"not masked").serialize(mask=False)) is None


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = asyncio.Event()
        self.reading.set()

    def write(self, data: Any) -> None:
        self.written += data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading.clear()

    def resume_reading(self) -> None:
        self.reading.set()

    def close(self) -> None:
        pass


class Server:
    """The protocol with an application that takes acknowledgements at once and receives everything else."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        config = Config(
            self._application, interface="asgi3", ws=SatelliteServerProtocol, log_config=None, ws_ping_interval=None
        )
        config.load()
        self.transport = Transport()
        self.protocol = SatelliteServerProtocol(config, ServerState(), {})
        self.protocol.connection_made(self.transport)
        self.protocol.take = self._take

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        scope["extensions"]["leyden.socket"].limit_messages(1 << 20)
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            self.heard.append(("received", event["bytes"]))

    def _take(self, payload: bytes) -> bool:
        if payload.startswith(ACK):
            self.heard.append(("taken", payload))
            return True
        return False

    async def hear(self, *chunks: bytes, stays: bool = False) -> None:
        """The client sends ``chunks``, and goes unless it ``stays``."""
        async with asyncio.timeout(5):
            for chunk in (REQUEST, *chunks):
                await self.transport.reading.wait()
                self.protocol.data_received(chunk)
                while not self.protocol.handshake_complete:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            if stays:
                return
            self.protocol.connection_lost(None)
            await asyncio.gather(*self.protocol.tasks)


@given(st.lists(messages, max_size=8), cuts)
def test_however_the_bytes_arrive_each_message_is_heard_once_and_in_order(
    told: list[list[Frame]], cuts: list[int]
) -> None:
    async def run() -> list[tuple[str, bytes]]:
        server = Server()
        await server.hear(*pieces(b"".join(wire(frame) for message in told for frame in message), cuts))
        return server.heard

    heard = asyncio.run(run())
    sent = [
        b"".join(bytes(frame.data) for frame in message if frame.opcode in (Opcode.BINARY, Opcode.CONT))
        for message in told
        if message[0].opcode is Opcode.BINARY
    ]
    assert [payload for _, payload in heard] == sent
    assert all(payload.startswith(ACK) and len(payload) <= 125 for how, payload in heard if how == "taken")


async def test_acknowledgements_that_arrive_together_are_all_taken() -> None:
    server = Server()
    acks = [ACK + os.urandom(20) for _ in range(15)]
    await server.hear(b"".join(wire(binary(ack)) for ack in acks))
    assert server.heard == [("taken", ack) for ack in acks]


async def test_none_is_taken_in_the_middle_of_a_fragmented_message() -> None:
    """A violation of the protocol, which the parser answers."""
    server = Server()
    await server.hear(wire(binary(b"\x09begun", fin=False)), wire(binary(ACK)))
    assert server.heard == []
    assert b"\x88" in server.transport.written  # a close frame


async def test_none_is_taken_from_within_a_longer_frame() -> None:
    """Where reading was cut says nothing about where a frame begins."""
    inner = wire(binary(ACK + b"not sent by itself"))
    whole = wire(binary(b"\x09" + bytes(len(inner) * 2)))
    at = len(whole) - len(inner)
    server = Server()
    await server.hear(whole[:at], inner)  # the mask makes something else of it, but its length fits
    assert [how for how, _ in server.heard] == ["received"]


async def test_the_server_stops_while_a_client_that_says_goodbye_is_still_there() -> None:
    """It was answered, and does not read: its connection stays for a moment."""
    server = Server()
    await server.hear(wire(Frame(Opcode.CLOSE, b"\x03\xe8", True)), stays=True)
    assert server.protocol.conn.state is State.CLOSING
    server.protocol.shutdown()  # of all connections in turn: one that raises would keep the others from being told
