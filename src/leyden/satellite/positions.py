"""Server positions: the opaque bytes that a client stores and returns to say how far it has come.

A position is a WAL position of one particular history of the database. The *epoch* names that history (system,
timeline and slot), so that a position from a restored, replaced or failed-over database is noticed rather than
silently continued. The client only stores and returns the bytes (docs/protocol.md); they must not be empty.

A client that starts afresh is brought to one WAL position by several migrations. Until it has the last of them its
position also names the *version* reached, or nothing would tell how many are missing when it is cut off in between.
"""

from __future__ import annotations

import re

_EPOCH = re.compile(r"[0-9a-z]{1,32}")
_POSITION = re.compile(rb"([0-9a-z]{1,32})-([0-9]{1,20})(?:-([0-9_]{1,128}))?")
_MAX_LSN = 2**64 - 1


class InvalidPosition(Exception):
    """The bytes are no position of ours (for instance one of the old service)."""


class ForeignPosition(Exception):
    """A well-formed position of another history of the database."""


class Positions:
    """Writes and reads the positions of one epoch (lower-case letters and digits)."""

    def __init__(self, epoch: str) -> None:
        if not _EPOCH.fullmatch(epoch):
            raise ValueError(f"an epoch is 1 to 32 lower-case letters and digits, not {epoch!r}")
        self.epoch = epoch
        self._prefix = epoch.encode("ascii") + b"-"

    def encode(self, position: int, version: str | None = None) -> bytes:
        """``version`` is that of the last migration, for a client that lacks others of before ``position``."""
        suffix = "" if version is None else f"-{version}"
        return self._prefix + f"{position}{suffix}".encode("ascii")

    def decode(self, lsn: bytes) -> tuple[int, str | None]:
        """The WAL position (64 bit), and the version if it names one.

        Raises:
            InvalidPosition: not a position of this service.
            ForeignPosition: a position of another epoch.
        """
        match = _POSITION.fullmatch(lsn)
        if match is None or int(match[2]) > _MAX_LSN:
            raise InvalidPosition
        if match[1] != self._prefix[:-1]:
            raise ForeignPosition
        version = match[3]
        return int(match[2]), None if version is None else version.decode("ascii")
