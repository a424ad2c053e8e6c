"""uvicorn with a WebSocket protocol class of ours that writes ready-made frames.

The class adds to uvicorn's own exactly what ASGI lacks: pings whose PONG can be waited for, sight of the send buffer,
a limit on incoming messages that can change after authentication, and writing bytes that are framed already.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from leyden.edge.socket import EXTENSION, HIGH_WATER_BYTES, Packet

#: Before authentication a message holds one token (at most 16 KiB) and little else.
UNAUTHENTICATED_MESSAGE_BYTES = 24 * 1024


class DirectSocket:
    """:class:`leyden.edge.socket.Socket` on the protocol object itself."""

    def __init__(self, protocol: SatelliteServerProtocol) -> None:
        self._protocol = protocol
        self._pings: dict[bytes, asyncio.Future[bool]] = {}
        self._ping_number = 0

    def send(self, packet: Packet) -> bool:
        protocol = self._protocol
        if protocol.disconnected or protocol.close_sent:
            return False
        protocol.transport.write(packet.wire)
        return protocol.transport.get_write_buffer_size() <= HIGH_WATER_BYTES

    @property
    def buffered(self) -> int:
        return self._protocol.transport.get_write_buffer_size()

    async def drain(self) -> None:
        await self._protocol.writable.wait()

    async def ping(self, timeout: float) -> bool:  # noqa: ASYNC109
        protocol = self._protocol
        if protocol.disconnected or protocol.close_sent:
            return False
        self._ping_number += 1
        payload = self._ping_number.to_bytes(8, "big")
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._pings[payload] = answered
        protocol.conn.send_ping(payload)
        protocol.transport.write(b"".join(protocol.conn.data_to_send()))
        try:
            return await asyncio.wait_for(answered, timeout)
        except TimeoutError:
            return False
        finally:
            self._pings.pop(payload, None)

    def ponged(self, payload: bytes) -> None:
        answered = self._pings.get(payload)
        if answered is not None and not answered.done():
            answered.set_result(True)

    def limit_messages(self, size: int) -> None:
        self._protocol.conn.max_message_size = size


class SatelliteServerProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, offering a :class:`DirectSocket` to the application."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            self.direct = DirectSocket(self)
            self.direct.limit_messages(UNAUTHENTICATED_MESSAGE_BYTES)
            cast(dict[str, Any], scope["extensions"])[EXTENSION] = self.direct

    def shutdown(self) -> None:
        """The server stops: 1001 (going away) makes the client reconnect, here or elsewhere."""
        if self.handshake_complete and not self.close_sent:
            self.stop_keepalive()
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1001})
            self.conn.send_close(1001)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
        else:
            super().shutdown()

    def handle_pong(self, event: Frame) -> None:
        self.direct.ponged(bytes(event.data))


def uvicorn_config(app: Any, host: str, port: int) -> uvicorn.Config:
    """The server's settings: no compression (it costs more than it saves here), no access log, pings by us."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        ws=SatelliteServerProtocol,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        ws_max_size=UNAUTHENTICATED_MESSAGE_BYTES,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=10,
    )
