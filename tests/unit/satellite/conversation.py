"""A session in plain values: what arrives, what it wants done, and the world that it looks at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from leyden.model import (
    Checkpoint,
    ClientRecord,
    Column,
    CreateTable,
    Locale,
    Migration,
    ReadingRights,
    ShapeRecord,
    SubscriptionRecord,
    Suspension,
    Table,
)
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.actions import Close, Output, SeekCheckpoint, Send
from leyden.satellite.frames import encode
from leyden.satellite.positions import Positions
from leyden.satellite.rows import pack
from leyden.satellite.session import Session
from leyden.shapes.questions import Question
from leyden.shapes.rights import Rules, rules_for

COLUMNS = (Column("id", "text", True), Column("n", "int4", False))
ITEMS, NOTES = (Table(number, name, COLUMNS, ("id",), "p") for number, name in ((1, "items"), (2, "notes")))
M1, M2 = (Migration(version, 7, 1, (CreateTable(ITEMS),)) for version in ("20240101", "20240102"))
S1, S2, R1, R2 = (str(UUID(int=number)) for number in range(1, 5))
ERROR = pb.SatErrorResp
START_ERROR = pb.SatInStartReplicationResp.ReplicationError
SUBS_ERROR = pb.SatSubsResp.SatSubsError


@dataclass
class FakeWorld:
    instance_id: str = "leyden-1"
    positions: Positions = field(default_factory=lambda: Positions("e"))
    tables: dict[str, Table] = field(default_factory=lambda: {"items": ITEMS, "notes": NOTES})
    migrations: Sequence[Migration] = (M1, M2)
    locale: Locale = Locale(order_is_bytes=True)  # noqa: RUF009 - immutable
    head: int = 100
    floor: int = 50
    suspended: dict[str, Suspension] = field(default_factory=dict)
    reopened: dict[str, int] = field(default_factory=dict)

    def reopened_since(self, position: int) -> set[str]:
        return {name for name, at in self.reopened.items() if at > position}

    rights: Mapping[int, ReadingRights] | None = None
    #: From where on questions are answered, by the name of the table.
    answered: dict[str, int] = field(default_factory=dict)

    def are_answered_since(self, questions: Iterable[Question], position: int) -> bool:
        return all(self.answered.get(one.table.name, position + 1) <= position for one in questions)

    def holds(self, position: int) -> bool:
        return self.floor <= position <= self.head

    def rules(self, role: str | None) -> Rules:
        return rules_for({"reader": self.rights or {}}, role, None, self.locale)


RECORD = ClientRecord("client-1", "user-1", b"\0\0\0\x05", (SubscriptionRecord(S1, (ShapeRecord("items"),)),))


class Client:
    """The other side of a session: keeps the outputs of each step."""

    def __init__(self, record: ClientRecord = RECORD, **world: Any) -> None:
        self.world = FakeWorld(**world)
        self.session = Session(self.world)
        self.record = record
        self.calls = 0

    def send(self, message: Message) -> list[Output]:
        return self.session.receive(encode(message))

    def call(self, method: str, request: Message | bytes) -> list[Output]:
        self.calls += 1
        body = request if isinstance(request, bytes) else request.SerializeToString()
        return self.send(pb.SatRpcRequest(method=method, request_id=self.calls, message=body))

    def authenticate(self, client_id: str = "client-1", token: str = "token") -> list[Output]:
        return self.call("authenticate", pb.SatAuthReq(id=client_id, token=token))

    def start(self, **fields: Any) -> list[Output]:
        return self.call("startReplication", pb.SatInStartReplicationReq(**fields))

    def subscribe(self, subscription_id: str, *shapes: pb.SatShapeReq) -> list[Output]:
        return self.call("subscribe", pb.SatSubsReq(subscription_id=subscription_id, shape_requests=shapes))

    def unsubscribe(self, *ids: str) -> list[Output]:
        return self.call("unsubscribe", pb.SatUnsubsReq(subscription_ids=ids))


def authenticated(**world: Any) -> Client:
    client = Client(**world)
    client.authenticate()
    client.session.authenticated(client.record, {})
    return client


def with_claims(**claims: object) -> Client:
    """A fresh client that streams, let in with a token of these claims."""
    client = Client()
    client.authenticate()
    client.session.authenticated(RECORD, claims)
    client.start()
    return client


def streaming(uploading: bool = False, **start: Any) -> Client:
    client = authenticated()
    client.start(**start)
    if uploading:
        assert client.send(pb.SatRpcResponse(method="startReplication", request_id=0, message=b"")) == []
    return client


def shape(table: str, request_id: str = R1, where: str = "") -> pb.SatShapeReq:
    select = pb.SatShapeDef.Select(tablename=table, where=where)
    return pb.SatShapeReq(request_id=request_id, shape_definition=pb.SatShapeDef(selects=[select]))


def answer(output: Output, kind: type[Message]) -> Any:
    """The message of a successful RPC answer, which is on the wire even when it is empty."""
    assert isinstance(output, Send)
    response = output.message
    assert isinstance(response, pb.SatRpcResponse)
    assert response.WhichOneof("result") == "message"
    return kind.FromString(response.message)


def rpc_failure(outputs: list[Output]) -> tuple[int, int]:
    """Error code of the RPC answer, and code of the close after it."""
    send, close = outputs
    assert isinstance(send, Send)
    assert isinstance(send.message, pb.SatRpcResponse)
    assert send.message.WhichOneof("result") == "error"
    assert isinstance(close, Close)
    return send.message.error.error_type, close.code


def failure(outputs: list[Output]) -> tuple[int, int]:
    """Code of the top-level error, and code of the close after it."""
    send, close = outputs[-2:]
    assert isinstance(send, Send)
    assert isinstance(send.message, pb.SatErrorResp)
    assert isinstance(close, Close)
    return send.message.error_type, close.code


CHECKPOINT = Checkpoint(40, 7)


def seeking(lsn: bytes = b"e-49", *ids: str, record: ClientRecord = RECORD) -> Client:
    """A client whose position the log does not hold any more."""
    client = Client(record)
    client.authenticate()
    client.session.authenticated(client.record, {})
    assert client.start(lsn=lsn, subscription_ids=ids) == [SeekCheckpoint(49)]
    return client


RELATION = pb.SatRelation(
    schema_name="public",
    table_name="items",
    columns=[pb.SatRelationColumn(name="id"), pb.SatRelationColumn(name="n", is_nullable=True)],
)


def upload(*values: bytes | None) -> pb.SatOpLog:
    insert = pb.SatOpInsert(row_data=pack(values))
    begin = pb.SatOpBegin(lsn=b"\0\0\0\x06", commit_timestamp=9)
    ops = [pb.SatTransOp(begin=begin), pb.SatTransOp(insert=insert), pb.SatTransOp(commit=pb.SatOpCommit())]
    return pb.SatOpLog(ops=ops)
