"""Server positions: the opaque bytes that a client stores and returns to say how far it has come.

A position is a WAL position of one particular history of the database. The *epoch* names that history (system,
timeline and slot), so that a position from a restored, replaced or failed-over database is noticed rather than
silently continued. The client only stores and returns the bytes (docs/protocol.md); they must not be empty.
"""

from __future__ import annotations

import re

_POSITION = re.compile(rb"([0-9a-z]{1,32})-([0-9]{1,20})")
_MAX_LSN = 2**64 - 1


class InvalidPosition(Exception):
    """The bytes are no position of ours (for instance one of the old service)."""


class ForeignPosition(Exception):
    """A well-formed position of another history of the database."""


class Positions:
    """Writes and reads the positions of one epoch (lower-case letters and digits)."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self._prefix = epoch.encode("ascii") + b"-"
        if not _POSITION.fullmatch(self._prefix + b"0"):
            raise ValueError(f"an epoch is 1 to 32 lower-case letters and digits, not {epoch!r}")

    def encode(self, position: int) -> bytes:
        return self._prefix + str(position).encode("ascii")

    def decode(self, lsn: bytes) -> int:
        """The WAL position (64 bit).

        Raises:
            InvalidPosition: not a position of this service.
            ForeignPosition: a position of another epoch.
        """
        match = _POSITION.fullmatch(lsn)
        if match is None or int(match[2]) > _MAX_LSN:
            raise InvalidPosition
        if match[1] != self._prefix[:-1]:
            raise ForeignPosition
        return int(match[2])
