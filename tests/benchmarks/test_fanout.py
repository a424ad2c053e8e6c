"""What a transaction costs per client of one shape, beside the bare cost of writing the same bytes."""

from __future__ import annotations

import socket
import time
from statistics import median

import pytest

from leyden.edge.fanout import FanOut, Subscriber
from leyden.edge.socket import Packet
from leyden.log.memory import MemoryLog
from leyden.model import Column, Insert, Table, Transaction
from leyden.satellite.encoding import Encoder
from leyden.satellite.migrations import Dialect
from leyden.satellite.positions import Positions
from leyden.shapes.sight import Sight
from views import whole

TABLE = Table(1, "items", (Column("id", "text", True), Column("content", "text", False)), ("id",), "items_pkey")
TRANSACTIONS = 20  # below the window of unacknowledged transactions


class Pipe:
    """A socket that really writes: one end of a socket pair, the other of which is emptied between rounds."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)

    def send(self, packet: Packet) -> bool:
        self.near.send(packet.wire)
        return True

    @property
    def buffered(self) -> int:
        return 0

    async def drain(self) -> None: ...

    async def ping(self, timeout: float) -> bool:  # noqa: ASYNC109
        return True

    def limit_messages(self, size: int) -> None: ...

    def empty(self) -> None:
        try:
            while self.far.recv(1 << 20):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        self.near.close()
        self.far.close()


def transaction(position: int) -> Transaction:
    change = Insert(TABLE, (str(position).encode(), b"x" * 200), ("postgres_1@1",))
    return Transaction(position, position, 1_800_000_000_000, None, (change,))


@pytest.mark.parametrize("clients", [100, 500])
def test_fan_out_of_one_shape(clients: int) -> None:
    pipes = [Pipe() for _ in range(clients)]
    try:
        ours, bare = [], []
        for number in range(7):
            log = MemoryLog(1 << 28)
            fanout = FanOut(log, Encoder(Positions("epoch")))
            for i, pipe in enumerate(pipes):
                fanout.join(Subscriber(f"c{i}", pipe, Dialect.SQLITE, whole(TABLE), 0, lambda reason: None))
            batch = [transaction(number * TRANSACTIONS + i + 1) for i in range(TRANSACTIONS)]
            started = time.process_time()
            for one in batch:
                log.append(one, 300)
            ours.append(time.process_time() - started)
            for pipe in pipes:
                pipe.empty()
            wire = Packet(Encoder(Positions("epoch")).transaction(Sight(batch[0]), whole(TABLE), Dialect.SQLITE)).wire
            started = time.process_time()
            for _ in range(TRANSACTIONS):
                for pipe in pipes:
                    pipe.near.send(wire)
            bare.append(time.process_time() - started)
            for pipe in pipes:
                pipe.empty()
        per_client = median(ours) / TRANSACTIONS / clients * 1e6
        print(f"\n{clients:>5} clients: {per_client:.2f} µs CPU each, {median(ours) / median(bare):.2f} of a bare send")
        assert per_client > 0
    finally:
        for pipe in pipes:
            pipe.close()
