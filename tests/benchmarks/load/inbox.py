"""What a message means for a client: understood once, for all that get the same bytes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import encode
from raw_websocket import client_frame

#: Messages that are remembered: clients that are behind get older ones than others.
REMEMBERED = 4_096


@dataclass(frozen=True, slots=True)
class Came:
    """A ``SatOpLog``."""

    #: A frame for each transaction that ends in it.
    acknowledgements: tuple[bytes, ...]


class Inbox:
    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Came] = OrderedDict()

    @property
    def newest(self) -> bytes:
        """The message that was understood last."""
        return next(reversed(self._known))

    @property
    def newest_acknowledgement(self) -> bytes:
        return self._known[self.newest].acknowledgements[-1]

    def understand(self, payload: bytes) -> Came:
        """What the ``SatOpLog`` in ``payload`` brings."""
        came = self._known.get(payload)
        if came is None:
            came = self._known[payload] = _understood(payload)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return came


def _understood(payload: bytes) -> Came:
    acknowledgements = []
    transaction = 0
    for op in pb.SatOpLog.FromString(payload[1:]).ops:
        if op.HasField("begin"):
            transaction = op.begin.transaction_id
        elif op.HasField("commit"):
            ack = pb.SatOpLogAck(
                ack_timestamp=op.commit.commit_timestamp, lsn=op.commit.lsn, transaction_id=transaction
            )
            acknowledgements.append(client_frame(encode(ack)))
    return Came(tuple(acknowledgements))
