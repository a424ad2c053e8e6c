"""Server positions: the opaque bytes that a client stores and returns to say how far it has come.

A position is a WAL position of one particular history of the database. The *epoch* names that history (system,
timeline and slot), so that a position from a restored, replaced or failed-over database is noticed rather than
silently continued. The client only stores and returns the bytes (docs/protocol.md); they must not be empty.

A client that starts afresh is brought to one WAL position by several migrations. Until it has the last of them its
position also names the *version* reached, or nothing would tell how many are missing when it is cut off in between.

A GONE batch does not change the WAL position at which a client is, but what it holds there. So the position that comes
with it, and with all that is not a transaction from then on, also numbers the *cancellation* answered last.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from leyden.memo import Memo

_EPOCH = re.compile(r"[0-9a-z]{1,32}")
_POSITION = re.compile(rb"([0-9a-z]{1,32})-([0-9]{1,20})(?:-([0-9_]{1,128})|\.([0-9]{1,19}))?")
_MAX_LSN = 2**64 - 1
_MAX_BIGINT = 2**63 - 1


class InvalidPosition(Exception):
    """The bytes are no position of ours (for instance one of the old service)."""


class ForeignPosition(Exception):
    """A well-formed position of another history of the database."""


class Position(NamedTuple):
    """How far a client has come: the WAL position (64 bit), the number of the cancellation that it was told of last if
    that was after the transaction at this position (else 0), and the version if it lacks further migrations."""

    wal: int
    cancellation: int = 0
    version: str | None = None


class Positions:
    """Writes and reads the positions of one epoch (lower-case letters and digits)."""

    def __init__(self, epoch: str) -> None:
        if not _EPOCH.fullmatch(epoch):
            raise ValueError(f"an epoch is 1 to 32 lower-case letters and digits, not {epoch!r}")
        self.epoch = epoch
        self._prefix = epoch.encode("ascii") + b"-"
        #: Whoever gets a transaction acknowledges the same position.
        self._decoded = Memo(self._decode)

    def encode(self, position: int, *, version: str | None = None, cancellation: int = 0) -> bytes:
        """``version`` is that of the last migration, for a client that lacks others of before ``position``; it has no
        subscriptions yet and so no cancellations."""
        suffix = f"-{version}" if version is not None else f".{cancellation}" if cancellation else ""
        return self._prefix + f"{position}{suffix}".encode("ascii")

    def decode(self, lsn: bytes) -> Position:
        """
        Raises:
            InvalidPosition: not a position of this service.
            ForeignPosition: a position of another epoch.
        """
        return self._decoded[lsn]

    def _decode(self, lsn: bytes) -> Position:
        match = _POSITION.fullmatch(lsn)
        if match is None or int(match[2]) > _MAX_LSN or int(match[4] or 0) > _MAX_BIGINT:
            raise InvalidPosition
        if match[1] != self._prefix[:-1]:
            raise ForeignPosition
        version = match[3]
        return Position(int(match[2]), int(match[4] or 0), None if version is None else version.decode("ascii"))
