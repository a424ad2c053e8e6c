"""What the stock client has of one connection: what is arriving, and what it has acknowledged of it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from leyden.satellite import satellite_pb2 as pb
from simulated_client_decoding import Operation, Relations, Violation, require

_LSN = re.compile(rb"([0-9a-z]+)-([0-9]+)(?:-([0-9_]+)|\.([0-9]+))?")


@dataclass
class Delivery:
    """Initial data that is arriving."""

    id: str
    lsn: bytes
    missing: set[str]
    shape: str | None = None
    operations: list[pb.SatTransOp] = field(default_factory=list)


@dataclass
class Transaction:
    begin: pb.SatOpBegin
    operations: list[Operation] = field(default_factory=list)
    migrations: list[pb.SatOpMigrate] = field(default_factory=list)


@dataclass
class Seen:
    """What was applied since the last transaction, for acknowledgements."""

    subscriptions: list[str] = field(default_factory=list)
    additional: list[int] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


class Inbound:
    """What the client knows of one connection."""

    def __init__(self, last_lsn: bytes) -> None:
        self.relations = Relations()
        self.transaction: Transaction | None = None
        self.additional: list[Operation] | None = None
        self.gone_ids: list[str] | None = None
        self.gone: list[Operation] = []
        self.window = 30
        self.last_lsn = last_lsn
        self.last_id: int | None = None
        self._acknowledged_id: int | None = None
        self._unacknowledged = 0
        self.seen = Seen()
        #: Where the stream has come to.
        self._begun = self._reached = order_of(last_lsn) if last_lsn else (0, 0, "")

    def reach(self, lsn: bytes, *, again: bool) -> None:
        """The stream has come to ``lsn``; ``again`` it may name the position of before. That at which the connection
        began may come as often as is necessary to bring the client up to date."""
        require(lsn, "an empty position")
        order = order_of(lsn)
        stays = order == self._reached and (again or order == self._begun)
        require(order > self._reached or stays, f"from position {self._reached} to {order}")
        self._reached = order

    def applied(self, begin: pb.SatOpBegin) -> None:
        """A transaction was applied."""
        self.last_lsn = begin.lsn
        self.last_id = begin.transaction_id
        self._unacknowledged += 1
        self.seen = Seen()

    def acknowledgement(self, *, at_once: bool) -> pb.SatOpLogAck | None:
        """What is due now: none before the first transaction and none twice, ``at_once`` after data that is none, and
        from seven tenths of the window on after each transaction, as the count begins anew with the connection only."""
        if self.last_id is None or self.last_id == self._acknowledged_id:
            return None
        if not at_once and self._unacknowledged < self.window * 7 // 10:
            return None
        self._acknowledged_id = self.last_id
        return pb.SatOpLogAck(
            ack_timestamp=int(time.time() * 1000),
            lsn=self.last_lsn,
            transaction_id=self.last_id,
            subscription_ids=self.seen.subscriptions,
            additional_data_source_ids=self.seen.additional,
            gone_subscription_ids=self.seen.gone,
        )


def order_of(lsn: bytes) -> tuple[int, int, str]:
    """Of two positions the later one is the greater."""
    match = _LSN.fullmatch(lsn)
    if match is None:
        raise Violation(f"a position that is none: {lsn!r}")
    return int(match[2]), int(match[4] or 0), "~" if match[3] is None else match[3].decode()
