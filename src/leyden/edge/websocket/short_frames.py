"""Short messages read straight from the bytes that arrive (RFC 6455 §5.2), and where frames begin among them.

Under load a client sends one acknowledgement for each transaction, and the parser of ``websockets``, which can do all
that the RFC asks for, takes longer for it than everything else together (docs/performance.md). So a short message that
has arrived whole does without. Everything else stays the parser's, down to the last byte.
"""

from __future__ import annotations

try:
    from websockets.speedups import apply_mask
except ImportError:  # not compiled for this platform
    from websockets.utils import apply_mask

#: A final frame with binary data; nothing reserved is set.
_FINAL_BINARY = 0x82

_MASKED = 0x80
_KEY_BYTES = 4

#: Payloads up to this size have their length in the second byte.
_SHORT_BYTES = 125

_HEAD_BYTES = 2 + _KEY_BYTES


def short_message(data: bytes, start: int = 0) -> tuple[bytes, int] | None:
    """The message at ``start`` and where it ends, if it is whole: binary, masked, in one frame of up to 125 bytes.

    Only where a frame begins, and no fragmented message is under way, does this mean anything.
    """
    body = start + _HEAD_BYTES
    if len(data) < body or data[start] != _FINAL_BINARY:
        return None
    size = data[start + 1] - _MASKED
    end = body + size
    if not 0 <= size <= _SHORT_BYTES or len(data) < end:
        return None
    return apply_mask(data[body:end], data[body - _KEY_BYTES : body]), end


class FrameBoundary:
    """Whether what a parser was given so far ends where a frame ends. It sees all that the parser sees."""

    __slots__ = ("_head", "_missing")

    def __init__(self) -> None:
        #: What there is of a frame that does not tell its length yet.
        self._head = b""
        #: Bytes of a frame that are still to come.
        self._missing = 0

    @property
    def reached(self) -> bool:
        return not (self._missing or self._head)

    def follow(self, data: bytes) -> None:
        """The parser is given ``data``."""
        if self._head:
            data, self._head = self._head + data, b""
        start = self._missing
        while start < len(data):
            size = _frame_size(data, start)
            if size is None:
                self._head = data[start:]
                break
            start += size
        self._missing = max(0, start - len(data))


def _frame_size(data: bytes, start: int) -> int | None:
    """Bytes of the frame that begins at ``start``, its head included. ``None`` when that cannot be told yet."""
    if len(data) < start + 2:
        return None
    length = data[start + 1] & 0x7F
    key = _KEY_BYTES if data[start + 1] & _MASKED else 0
    extension = {126: 2, 127: 8}.get(length, 0)
    if len(data) < start + 2 + extension:
        return None
    if extension:
        length = int.from_bytes(data[start + 2 : start + 2 + extension], "big")
    return 2 + extension + key + length
