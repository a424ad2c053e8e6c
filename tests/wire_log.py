"""What the service has sent to whom, and when: every row on every connection, whether it arrived or not."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from leyden.edge.websocket.socket import Packet
from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import decode
from memory_socket import Client, MemorySocket
from random_shapes import Key, Value
from simulated_client_decoding import Relations
from simulated_client_inbound import order_of

ReaderT = TypeVar("ReaderT")


@dataclass(frozen=True)
class SentRow(Generic[ReaderT]):
    """A row as ``reader`` was sent it, new or former, at a time of ``time.time``.

    ``xid`` is that of the transaction that it came with, if any. ``acknowledged`` is the position in the WAL that the
    client had acknowledged last, or begun at; ``None`` for a client without one, which has been connected since
    ``connected_at``.
    """

    client_id: str
    reader: ReaderT
    table: str
    key: Key
    image: Mapping[str, Value]
    occasion: str
    xid: int | None
    acknowledged: int | None
    connected_at: float
    at: float


class WireLog(Generic[ReaderT]):
    """``readers`` are whom tokens stand for."""

    def __init__(self, readers: Mapping[str, ReaderT]) -> None:
        self.readers = readers
        self._sent: list[SentRow[ReaderT]] = []
        #: Transactions by the position that clients know them by.
        self.transactions: dict[int, int] = {}

    def add(self, row: SentRow[ReaderT]) -> None:
        self._sent.append(row)

    def taken(self) -> list[SentRow[ReaderT]]:
        """All that was sent since this was asked last."""
        sent, self._sent = self._sent, []
        return sent


class RecordingSocket(MemorySocket, Generic[ReaderT]):
    """Writes down what passes."""

    def __init__(self, client_id: str, client: Client, log: WireLog[ReaderT]) -> None:
        super().__init__(client)
        self._client_id = client_id
        self._log = log
        self._relations = Relations()
        self._tokens: deque[str] = deque()
        self._reader: ReaderT | None = None
        self._acknowledged: int | None = None
        self._connected_at = time.time()
        self._occasion = ""
        self._xid: int | None = None

    def transmit(self, payload: bytes) -> None:
        if not self.is_cut:
            self._heard(decode(payload))
        super().transmit(payload)

    def send(self, packet: Packet) -> bool:
        if not self.is_cut:
            for payload in packet.payloads:
                self._said(decode(payload))
        return super().send(packet)

    def _heard(self, message: Message) -> None:
        match message:
            case pb.SatOpLogAck():
                self._acknowledged = _wal(message.lsn)
            case pb.SatRpcRequest(method=rpc.AUTHENTICATE):
                self._tokens.append(pb.SatAuthReq.FromString(message.message).token)
            case pb.SatRpcRequest(method=rpc.START_REPLICATION):
                lsn = pb.SatInStartReplicationReq.FromString(message.message).lsn
                self._acknowledged = _wal(lsn) if lsn else None

    def _said(self, message: Message) -> None:
        match message:
            case pb.SatRpcResponse(method=rpc.AUTHENTICATE):
                token = self._tokens.popleft()
                if not message.HasField("error"):
                    self._reader = self._log.readers[token]
            case pb.SatRelation():
                self._relations.announce(message)
            case pb.SatSubsDataBegin():
                self._occasion, self._xid = f"initial data at {message.lsn.decode()}", None
            case pb.SatOpLog():
                for op in message.ops:
                    self._wrote(op)

    def _wrote(self, op: pb.SatTransOp) -> None:
        match op.WhichOneof("op"):
            case "begin":
                self._xid = self._log.transactions[_wal(op.begin.lsn)] = op.begin.transaction_id
                self._occasion = f"transaction {self._xid} at {op.begin.lsn.decode()}"
            case "insert" | "update" | "delete":
                assert self._reader is not None
                operation = self._relations.operation(op)
                for image in self._images(operation.old, operation.new):
                    self._log.add(
                        SentRow(
                            self._client_id,
                            self._reader,
                            operation.relation.table,
                            tuple(image[name] for name in operation.relation.key),
                            image,
                            f"{operation.kind}, {self._occasion}",
                            self._xid,
                            self._acknowledged,
                            self._connected_at,
                            time.time(),
                        )
                    )

    @staticmethod
    def _images(*images: Mapping[str, Value] | None) -> Iterator[Mapping[str, Value]]:
        return (image for image in images if image is not None)


def _wal(lsn: bytes) -> int:
    return order_of(lsn)[0]
