"""A client's own writes: each inserts one row, and comes back as its echo."""

from __future__ import annotations

import time
import uuid
from collections import deque

from benchmarks.load.client import LoadClient
from leyden.satellite import satellite_pb2 as pb

#: As the server sends its own tables: numbers of the client's choice.
_RELATION = 1

_COLUMNS = [
    pb.SatRelationColumn(name="id", type="UUID", primaryKey=True, is_nullable=False),
    pb.SatRelationColumn(name="user_id", type="TEXT", is_nullable=True),
    pb.SatRelationColumn(name="content", type="TEXT", is_nullable=True),
]


class Uploads:
    """Keeps so many uploads of a client under way, into a table like ``items``. The client must have no subscriptions:
    every transaction that comes is taken for an echo."""

    def __init__(self, client: LoadClient, table: str, under_way: int, content: str) -> None:
        self._client = client
        self._content = content.encode()
        self._sent: deque[float] = deque()
        self._number = 0
        self._goes_on = True
        #: From sending an upload to its echo (seconds).
        self.delays: list[float] = []
        relation = pb.SatRelation(schema_name="public", table_name=table, relation_id=_RELATION, columns=_COLUMNS)
        client.send(relation)
        client.on_transactions = self._echoed
        for _ in range(under_way):
            self._send()

    def end(self) -> None:
        """Nothing more is sent."""
        self._goes_on = False

    @property
    def under_way(self) -> int:
        return len(self._sent)

    def _echoed(self, client: LoadClient, transactions: int) -> None:
        now = time.monotonic()
        for _ in range(transactions):
            self.delays.append(now - self._sent.popleft())
            if self._goes_on:
                self._send()

    def _send(self) -> None:
        self._number += 1
        values = [str(uuid.uuid4()).encode(), b"client", self._content]
        row = pb.SatOpRow(nulls_bitmask=b"\0", values=values)
        begin = pb.SatOpBegin(lsn=self._number.to_bytes(4, "big"), commit_timestamp=int(time.time() * 1000))
        ops = [
            pb.SatTransOp(begin=begin),
            pb.SatTransOp(insert=pb.SatOpInsert(relation_id=_RELATION, row_data=row)),
            pb.SatTransOp(commit=pb.SatOpCommit()),
        ]
        self._sent.append(time.monotonic())
        self._client.send(pb.SatOpLog(ops=ops))
