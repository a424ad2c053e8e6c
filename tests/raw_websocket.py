"""The client's side of a WebSocket as bytes, for load programs: cheaper than any library, and able to break rules."""

from __future__ import annotations

from collections.abc import Iterator

_BINARY, _CLOSE, _PING, _PONG = 0x82, 0x88, 0x89, 0x8A

_UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: electric.0.12\r\n{further}\r\n"
)


def upgrade_request(port: int, **headers: str) -> bytes:
    """``headers`` are further ones, with ``_`` for ``-``."""
    further = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return _UPGRADE.format(port=port, further=further).encode()


def client_frame(payload: bytes, first: int = _BINARY) -> bytes:
    """One frame, binary unless ``first`` says otherwise, masked with zeros (RFC 6455 §5.3)."""
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((first, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0xFF)) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def pong(payload: bytes) -> bytes:
    return client_frame(payload, _PONG)


class FrameReader:
    """Takes a server's frames, which are not masked and here never fragmented, out of what a socket brings."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def frames(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The first byte and the payload of each frame that ends in ``data``."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, size = 0, len(data)
        while size - at >= 2:
            length = data[at + 1]
            start = at + 2
            if length == 126:
                start = at + 4
                length = int.from_bytes(data[at + 2 : start], "big")
            elif length == 127:
                start = at + 10
                length = int.from_bytes(data[at + 2 : start], "big")
            end = start + length
            if end > size or start > size:
                break
            yield data[at], data[start:end]
            at = end
        if at < size:
            self._rest = data[at:]


def is_binary(first: int) -> bool:
    return first == _BINARY


def is_ping(first: int) -> bool:
    return first == _PING


def is_close(first: int) -> bool:
    return first == _CLOSE
