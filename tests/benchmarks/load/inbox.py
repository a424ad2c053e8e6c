"""What a message means for a client: understood once, for all that get the same bytes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import encode
from raw_websocket import client_frame

#: Messages that are remembered: clients that are behind get older ones than others.
REMEMBERED = 4_096

#: The first value of a row, which is its key, and all its values; none when the row is to go.
Operation = tuple[bytes, tuple[bytes, ...] | None]


@dataclass(frozen=True, slots=True)
class Commit:
    """The end of a transaction."""

    lsn: bytes
    origin: str
    #: As a frame.
    acknowledgement: bytes


@dataclass(frozen=True, slots=True)
class Came:
    """A ``SatOpLog``: what it does to rows, and the transactions that end in it."""

    operations: tuple[Operation, ...]
    commits: tuple[Commit, ...]


class Inbox:
    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Came] = OrderedDict()

    @property
    def newest(self) -> bytes:
        """The message that was understood last."""
        return next(reversed(self._known))

    @property
    def newest_acknowledgement(self) -> bytes:
        return self._known[self.newest].commits[-1].acknowledgement

    def understand(self, payload: bytes) -> Came:
        """What the ``SatOpLog`` in ``payload`` brings."""
        came = self._known.get(payload)
        if came is None:
            came = self._known[payload] = understood(payload)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return came


def understood(payload: bytes) -> Came:
    operations: list[Operation] = []
    commits: list[Commit] = []
    begin = pb.SatOpBegin()
    for op in pb.SatOpLog.FromString(payload[1:]).ops:
        match op.WhichOneof("op"):
            case "begin":
                begin = op.begin
            case "insert":
                operations.append(_written(op.insert.row_data))
            case "update":
                operations.append(_written(op.update.row_data))
            case "delete":
                operations.append((op.delete.old_row_data.values[0], None))
            case "gone":
                operations.append((op.gone.pk_data.values[0], None))
            case "commit":
                commits.append(_committed(begin, op.commit))
    return Came(tuple(operations), tuple(commits))


def _written(row: pb.SatOpRow) -> Operation:
    values = tuple(row.values)
    return values[0], values


def _committed(begin: pb.SatOpBegin, commit: pb.SatOpCommit) -> Commit:
    acknowledgement = pb.SatOpLogAck(
        ack_timestamp=commit.commit_timestamp, lsn=commit.lsn, transaction_id=begin.transaction_id
    )
    return Commit(commit.lsn, begin.origin, client_frame(encode(acknowledgement)))
