"""A client's own writes: each inserts one row, and is kept until its echo comes."""

from __future__ import annotations

import time
import uuid
from collections import deque

from benchmarks.load.client import LoadClient
from leyden.satellite import satellite_pb2 as pb

#: As a client numbers its relations: as it likes.
_RELATION = 1

_COLUMNS = [
    pb.SatRelationColumn(name="id", type="UUID", primaryKey=True, is_nullable=False),
    pb.SatRelationColumn(name="user_id", type="TEXT", is_nullable=True),
    pb.SatRelationColumn(name="content", type="TEXT", is_nullable=True),
]


class Outbox:
    """Writes into a table with the columns of ``items``. It outlives connections: what was not echoed is sent again
    when the service says how far it has come."""

    def __init__(self, table: str) -> None:
        self._announcement = pb.SatRelation(
            schema_name="public", table_name=table, relation_id=_RELATION, columns=_COLUMNS
        )
        self._number = 0
        self._waiting: deque[tuple[int, float, pb.SatOpLog]] = deque()
        self._client: LoadClient | None = None
        #: From sending an upload for the first time to its echo (seconds).
        self.delays: list[float] = []

    @property
    def under_way(self) -> int:
        return len(self._waiting)

    def resume(self, client: LoadClient, lsn: bytes) -> None:
        """The service has everything up to ``lsn``, and takes what follows from ``client``."""
        self._client = client
        reached = int.from_bytes(lsn, "big")
        client.send(self._announcement, *(log for number, _, log in self._waiting if number > reached))

    def interrupt(self) -> None:
        self._client = None

    def write(self, user: str, content: bytes) -> None:
        self._number += 1
        row = pb.SatOpRow(nulls_bitmask=b"\0", values=[str(uuid.uuid4()).encode(), user.encode(), content])
        begin = pb.SatOpBegin(lsn=self._number.to_bytes(4, "big"), commit_timestamp=int(time.time() * 1000))
        ops = [
            pb.SatTransOp(begin=begin),
            pb.SatTransOp(insert=pb.SatOpInsert(relation_id=_RELATION, row_data=row)),
            pb.SatTransOp(commit=pb.SatOpCommit()),
        ]
        log = pb.SatOpLog(ops=ops)
        self._waiting.append((self._number, time.monotonic(), log))
        if self._client is not None:
            self._client.send(log)

    def echoed(self, transactions: int) -> None:
        """So many of the oldest came back."""
        now = time.monotonic()
        for _ in range(min(transactions, len(self._waiting))):
            self.delays.append(now - self._waiting.popleft()[1])


class Uploads:
    """Keeps so many uploads of a client under way."""

    def __init__(self, client: LoadClient, table: str, under_way: int, content: bytes) -> None:
        self._content = content
        self._goes_on = True
        self.outbox = Outbox(table)
        self.outbox.resume(client, b"")
        client.on_echoes = self._echoed
        for _ in range(under_way):
            self._write()

    def end(self) -> None:
        """Nothing more is written."""
        self._goes_on = False

    def _echoed(self, transactions: int) -> None:
        self.outbox.echoed(transactions)
        for _ in range(transactions if self._goes_on else 0):
            self._write()

    def _write(self) -> None:
        self.outbox.write("client", self._content)
