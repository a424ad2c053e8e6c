"""Whole conversations in plain values: what arrives, what the session wants done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from leyden.model import (
    AddColumns,
    Checkpoint,
    ClientRecord,
    Column,
    CreateTable,
    ForeignKey,
    IncludeRecord,
    Locale,
    Migration,
    Policy,
    ReadingRights,
    ShapeRecord,
    SubscriptionRecord,
    Suspension,
    Table,
)
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite import subscriptions
from leyden.satellite.actions import (
    Acknowledge,
    Authenticate,
    Close,
    Deliver,
    DropSubscriptions,
    ForgetSubscriptions,
    KeepSubscriptions,
    LookAgain,
    MissEchoes,
    Output,
    Refused,
    Repair,
    SeekCheckpoint,
    Send,
    StartStream,
    StopStream,
    Withdraw,
    Write,
)
from leyden.satellite.frames import encode
from leyden.satellite.migrations import Dialect
from leyden.satellite.positions import Positions
from leyden.satellite.rows import pack
from leyden.satellite.session import Session
from leyden.shapes.groups import Group
from leyden.shapes.questions import Question
from leyden.shapes.request import Shape
from leyden.shapes.rights import Rules, rules_for
from leyden.shapes.view import View
from views import group, whole

FRAMES = Path(__file__).parents[2] / "fixtures" / "recordings" / "client-frames.json"
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


# ---- authentication ----------------------------------------------------------------------------------------------


def test_authentication_asks_for_a_verdict_and_answers() -> None:
    client = Client()
    assert client.authenticate() == [Authenticate("client-1", "token", 1)]
    assert client.session.client is None

    (output,) = client.session.authenticated(RECORD, {})
    assert answer(output, pb.SatAuthResp).id == "leyden-1"
    assert client.session.client == RECORD


def test_an_answer_repeats_method_and_request_id() -> None:
    client = Client()
    client.calls = 40
    client.authenticate()
    (output,) = client.session.authenticated(RECORD, {})

    assert isinstance(output, Send)
    assert isinstance(output.message, pb.SatRpcResponse)
    assert (output.message.method, output.message.request_id) == ("authenticate", 41)


@pytest.mark.parametrize(
    ("client_id", "token"),
    [
        ("", "token"),
        ("c", ""),
        ("a@b", "token"),
        ("x" * 65, "token"),
        ("ä" * 33, "token"),
        ("a\nb", "token"),
        ("postgres_1", "token"),
    ],
)
def test_an_unusable_id_or_an_empty_token_is_refused(client_id: str, token: str) -> None:
    refused, *outputs = Client().authenticate(client_id, token)
    assert isinstance(refused, Refused)
    assert (refused.client_id, refused.code.startswith("token_" if not token else "client_id_")) == (client_id, True)
    assert rpc_failure(outputs) == (ERROR.INVALID_REQUEST, 1007)


def test_a_bad_token_is_refused_inside_the_answer() -> None:
    client = Client()
    client.authenticate()
    outputs = client.session.refused("bad_signature", None)

    assert rpc_failure(outputs) == (ERROR.AUTH_REQUIRED, 1007)
    assert isinstance(outputs[0], Send)
    assert isinstance(outputs[0].message, pb.SatRpcResponse)
    assert outputs[0].message.error.SerializeToString() == b"\x08\x01"
    assert client.authenticate() == []  # the conversation is over


@pytest.mark.parametrize("method", ["startReplication", "stopReplication", "subscribe", "unsubscribe", "nonsense"])
def test_nothing_can_be_called_before_authentication(method: str) -> None:
    assert rpc_failure(Client().call(method, b"")) == (ERROR.AUTH_REQUIRED, 1007)


@pytest.mark.parametrize(
    "message",
    [
        pb.SatRelation(schema_name="public", table_name="items"),
        pb.SatOpLog(),
        pb.SatOpLogAck(lsn=b"e-60"),
        pb.SatRpcResponse(method="startReplication", message=b""),
        pb.SatSubsDataEnd(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_nothing_is_looked_at_before_authentication(message: Message) -> None:
    assert failure(Client().send(message)) == (ERROR.AUTH_REQUIRED, 1007)


def test_a_verdict_after_the_end_changes_nothing() -> None:
    client = Client()
    client.authenticate()
    assert rpc_failure(client.authenticate()) == (ERROR.INVALID_REQUEST, 1007)

    assert client.session.authenticated(RECORD, {}) == []
    assert client.session.refused("x", None) == []
    assert client.session.client is None


# ---- renewal and expiry ------------------------------------------------------------------------------------------


def test_a_renewal_of_the_same_user_continues() -> None:
    client = streaming()
    assert client.authenticate(token="new") == [Authenticate("client-1", "new", 3)]

    (output,) = client.session.authenticated(RECORD, {})
    answer(output, pb.SatAuthResp)
    assert client.session.streaming


def test_a_renewal_for_another_user_client_or_with_a_bad_token_ends_the_conversation() -> None:
    other_user = streaming()
    other_user.authenticate()
    outputs = other_user.session.authenticated(replace(RECORD, user_id="user-2"), {})
    assert rpc_failure(outputs) == (ERROR.INVALID_REQUEST, 1007)

    assert rpc_failure(streaming().authenticate("client-2")[1:]) == (ERROR.INVALID_REQUEST, 1007)
    assert rpc_failure(streaming().authenticate(token="")[1:]) == (ERROR.INVALID_REQUEST, 1007)

    bad_token = streaming()
    bad_token.authenticate()
    assert rpc_failure(bad_token.session.refused("expired", None)) == (ERROR.INVALID_REQUEST, 1007)


def test_expiry_while_streaming_closes_with_the_reason_that_the_client_knows() -> None:
    client = streaming()
    (close,) = client.session.expired()

    assert isinstance(close, Close)
    assert (close.code, close.reason) == (4000, "JWT-expired")
    assert client.start() == []


def test_expiry_before_replication_is_told_at_the_next_call() -> None:
    client = authenticated()
    assert client.session.expired() == []

    assert rpc_failure(client.start()) == (ERROR.AUTH_REQUIRED, 1007)


def test_expiry_after_replication_was_stopped_ends_uploads() -> None:
    client = streaming(uploading=True)
    client.call("stopReplication", b"")
    assert client.session.expired() == []

    assert failure(client.send(pb.SatOpLog())) == (ERROR.AUTH_REQUIRED, 1007)


def test_a_renewal_after_expiry_makes_calls_possible_again() -> None:
    client = authenticated()
    client.session.expired()
    client.authenticate()
    client.session.authenticated(RECORD, {})
    client.start()

    assert client.session.streaming


# ---- startReplication --------------------------------------------------------------------------------------------


def test_a_fresh_start_forgets_answers_asks_for_uploads_and_sends_the_migrations() -> None:
    forget, send, upload, stream = authenticated().start(sql_dialect=pb.SatInStartReplicationReq.SQLITE)

    assert forget == ForgetSubscriptions()
    assert answer(send, pb.SatInStartReplicationResp) == pb.SatInStartReplicationResp(unacked_window_size=30)
    assert isinstance(upload, Send)
    assert isinstance(upload.message, pb.SatRpcRequest)
    assert (upload.message.method, upload.message.request_id) == ("startReplication", 0)
    # all that it has not heard of: it has missed what came before
    assert pb.SatInStartReplicationReq.FromString(upload.message.message).lsn == b""
    assert stream == StartStream(None, View(), Dialect.SQLITE, "")


def test_a_fresh_start_gets_the_migrations_that_it_lacks_in_its_dialect() -> None:
    dialect = pb.SatInStartReplicationReq.POSTGRES
    *_, stream = authenticated().start(schema_version="20240101", sql_dialect=dialect)

    assert stream == StartStream(None, View(), Dialect.POSTGRESQL, "20240101")


def test_a_resumed_client_continues_with_its_subscriptions() -> None:
    keep, send, upload, stream = authenticated().start(lsn=b"e-60", subscription_ids=[S1])

    assert keep == KeepSubscriptions((S1,), 60)
    assert not answer(send, pb.SatInStartReplicationResp).HasField("err")
    assert isinstance(upload, Send)
    assert isinstance(upload.message, pb.SatRpcRequest)
    assert pb.SatInStartReplicationReq.FromString(upload.message.message).lsn == b"\0\0\0\x05"
    assert stream == StartStream(60, whole(ITEMS), Dialect.SQLITE)


def test_a_client_cut_off_between_its_first_migrations_gets_the_missing_ones() -> None:
    *_, stream = authenticated().start(lsn=b"e-60-20240101")

    assert stream == StartStream(60, View(), Dialect.SQLITE, "20240101")


def test_a_subscription_that_is_not_listed_is_void() -> None:
    keep, *_, stream = authenticated().start(lsn=b"e-60")

    assert keep == KeepSubscriptions((), 60)
    assert stream == StartStream(60, View(), Dialect.SQLITE)


@pytest.mark.parametrize(
    ("position", "told", "held"),
    [
        (60, 9, whole(ITEMS)),
        (61, 0, whole(ITEMS)),
        (61, 6, whole(ITEMS)),
        (61, 7, View()),
        (61, 8, View()),
        (62, 0, View()),
    ],
)
def test_a_cancelled_subscription_is_listed_and_holds_rows_until_the_client_was_told_to_drop_them(
    position: int, told: int, held: View
) -> None:
    cancelled = replace(*RECORD.subscriptions, cancelled_at=61, cancellation=7)
    client = Client(replace(RECORD, subscriptions=(cancelled,)))
    client.authenticate()
    client.session.authenticated(client.record, {})
    lsn = b"e-%d.%d" % (position, told) if told else b"e-%d" % position
    keep, *_, stream = client.start(lsn=lsn, subscription_ids=[S1])

    assert keep == KeepSubscriptions((S1,), position, told)
    assert stream == StartStream(position, held, Dialect.SQLITE, cancellation=told)
    assert client.unsubscribe(S1)[1] == Withdraw((S1,), held.parts)


@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        ({"schema_version": "1"}, START_ERROR.UNKNOWN_SCHEMA_VSN, 'Unknown schema version: "1"'),
        (
            {"subscription_ids": [S1]},
            START_ERROR.INVALID_POSITION,
            "Cannot resume subscriptions for a first-time client",
        ),
        ({"lsn": b"27440072"}, START_ERROR.INVALID_POSITION, "Could not validate start replication request"),
        ({"lsn": b"f-60"}, START_ERROR.BEHIND_WINDOW, "The position belongs to another history of the database"),
        ({"lsn": b"e-101"}, START_ERROR.BEHIND_WINDOW, "Cannot catch up to the server's current state"),
        (
            {"lsn": b"e-60", "subscription_ids": [S1, S2]},
            START_ERROR.SUBSCRIPTION_NOT_FOUND,
            f"Unknown subscription: {S2}",
        ),
        (
            {"lsn": b"e-60", "subscription_ids": ["x" * 129]},
            START_ERROR.SUBSCRIPTION_NOT_FOUND,
            "Unknown subscription: " + "x" * 126 + "...",
        ),
    ],
)
def test_a_start_that_is_refused_is_a_successful_answer_with_an_error(
    call: dict[str, Any], code: int, message: str
) -> None:
    client = authenticated()
    *_, send, close = client.start(**call)

    error = answer(send, pb.SatInStartReplicationResp).err
    assert (error.code, error.message) == (code, message)
    assert isinstance(close, Close)
    assert close.code == 1007
    assert not client.session.streaming


def test_what_a_client_lists_that_has_to_begin_afresh_is_forgotten_before_it_hears_of_it() -> None:
    """It has all the data, and would be told to let go of a delivery that it does not know any more."""
    drop, send, _ = of_both().start(lsn=b"e-101", subscription_ids=[S1, S2])

    assert drop == DropSubscriptions((S1, S2))
    assert answer(send, pb.SatInStartReplicationResp).err.code == START_ERROR.BEHIND_WINDOW


def test_what_a_client_lists_is_kept_when_only_its_schema_is_not_known_yet() -> None:
    outputs = of_both().start(lsn=b"e-60", subscription_ids=[S1, S2], schema_version="20990101")

    assert answer(outputs[0], pb.SatInStartReplicationResp).err.code == START_ERROR.UNKNOWN_SCHEMA_VSN


@given(st.binary(min_size=1, max_size=40))
def test_malformed_lsn_is_never_the_answer(lsn: bytes) -> None:
    client = authenticated()
    outputs = client.start(lsn=lsn)
    if isinstance(outputs[0], SeekCheckpoint):
        outputs = client.session.checkpoint_found(None)
    response = next(answer(o, pb.SatInStartReplicationResp) for o in outputs if isinstance(o, Send))

    assert response.err.code != START_ERROR.MALFORMED_LSN


# ---- tables that are not what clients were told -------------------------------------------------------------------

WHY = Suspension("column a is missing", "add it")
BOTH = ClientRecord(
    "client-1",
    "user-1",
    b"",
    (
        SubscriptionRecord(S1, (ShapeRecord("items"),)),
        SubscriptionRecord(S2, (ShapeRecord("notes", includes=(IncludeRecord(("n",), ShapeRecord("items")),)),)),
    ),
)


def of_both(**world: Any) -> Client:
    client = Client(BOTH, **world)
    client.authenticate()
    client.session.authenticated(BOTH, {})
    return client


def test_who_comes_back_to_a_suspended_table_keeps_the_subscription_and_gets_nothing_for_it() -> None:
    client = of_both(tables={"notes": NOTES}, suspended={"items": WHY})
    *_, stream = client.start(lsn=b"e-60", subscription_ids=[S1, S2])

    assert stream == StartStream(60, View(), Dialect.SQLITE)
    assert client.session.tables == {"items", "notes"}


def test_a_suspended_table_is_refused_to_new_subscribers_with_the_reason() -> None:
    client = authenticated(tables={"notes": NOTES}, suspended={"items": WHY})
    client.start()
    assert client.subscribe(S1, shape("items")) == [LookAgain(rights=False)]
    (send,) = client.session.looked_again()
    (error,) = answer(send, pb.SatSubsResp).err.shape_request_error

    assert error.code == SUBS_ERROR.ShapeReqError.TABLE_NOT_FOUND
    assert error.message == "Table items is suspended: column a is missing"
    assert isinstance(client.subscribe(S1, shape("notes"))[-1], Deliver)


@pytest.mark.parametrize("subscription", [S1, S2])
def test_who_missed_what_happened_to_a_suspended_table_starts_afresh(subscription: str) -> None:
    _, send, close = of_both(reopened={"items": 61}).start(lsn=b"e-60", subscription_ids=[subscription])

    assert answer(send, pb.SatInStartReplicationResp).err.code == START_ERROR.SUBSCRIPTION_NOT_FOUND
    assert isinstance(close, Close)
    *_, stream = authenticated(reopened={"items": 60, "notes": 99}).start(lsn=b"e-60", subscription_ids=[S1])
    assert stream == StartStream(60, whole(ITEMS), Dialect.SQLITE)


# ---- from before the log -----------------------------------------------------------------------------------------

CHECKPOINT = Checkpoint(40, 7)


def seeking(lsn: bytes = b"e-49", *ids: str, record: ClientRecord = RECORD) -> Client:
    """A client whose position the log does not hold any more."""
    client = Client(record)
    client.authenticate()
    client.session.authenticated(client.record, {})
    assert client.start(lsn=lsn, subscription_ids=ids) == [SeekCheckpoint(49)]
    return client


def test_a_client_from_before_the_log_is_repaired_and_sends_all_that_it_waits_for() -> None:
    keep, miss, send, upload, stream = seeking(b"e-49", S1).session.checkpoint_found(CHECKPOINT)

    assert (keep, miss) == (KeepSubscriptions((S1,), 49), MissEchoes())
    assert not answer(send, pb.SatInStartReplicationResp).HasField("err")
    assert isinstance(upload, Send)
    assert isinstance(upload.message, pb.SatRpcRequest)
    assert pb.SatInStartReplicationReq.FromString(upload.message.message).lsn == b""
    repair = Repair(b"e-49", 49, None, CHECKPOINT, "user-1")
    assert stream == StartStream(49, whole(ITEMS), Dialect.SQLITE, repair=repair)


def test_a_repair_goes_by_the_very_bytes_of_the_position() -> None:
    *_, stream = seeking(b"e-0049-20240101").session.checkpoint_found(CHECKPOINT)

    assert isinstance(stream, StartStream)
    assert stream.repair == Repair(b"e-0049-20240101", 49, "20240101", CHECKPOINT, "user-1")


@pytest.mark.parametrize("checkpoint", [None, replace(CHECKPOINT, reenabled_since=frozenset({ITEMS.id}))])
def test_a_client_of_whom_it_is_not_known_what_it_lacks_is_behind(checkpoint: Checkpoint | None) -> None:
    client = seeking(b"e-49", S1)
    _, send, close = client.session.checkpoint_found(checkpoint)

    assert answer(send, pb.SatInStartReplicationResp).err.code == START_ERROR.BEHIND_WINDOW
    assert isinstance(close, Close)
    assert client.send(pb.SatOpLog()) == []


@pytest.mark.parametrize(("default", "xid", "told"), [("bob", 7, False), (None, 7, True), ("bob", 6, True)])
def test_rows_that_got_an_owner_without_being_written_cannot_be_told(
    default: str | None, xid: int, *, told: bool
) -> None:
    owner = Column("electric_user_id", "text", False, default=default)
    table = replace(ITEMS, columns=(*COLUMNS, owner))
    migration = Migration("20240103", xid, 1, (AddColumns(table, ("electric_user_id",)),))
    client = Client(tables={"items": table, "notes": NOTES}, migrations=(M1, M2, migration))
    client.authenticate()
    client.session.authenticated(RECORD, {})
    client.start(lsn=b"e-49", subscription_ids=[S1])
    outputs = client.session.checkpoint_found(CHECKPOINT)

    assert isinstance(outputs[-1], StartStream if told else Close)


def test_a_table_that_was_given_up_for_a_while_is_no_matter_to_who_does_not_see_it() -> None:
    checkpoint = replace(CHECKPOINT, reenabled_since=frozenset({NOTES.id}))
    *_, stream = seeking(b"e-49", S1).session.checkpoint_found(checkpoint)

    assert isinstance(stream, StartStream)


def test_before_anything_is_looked_up_the_subscriptions_must_be_known() -> None:
    _, send, _ = authenticated().start(lsn=b"e-49", subscription_ids=[S2])

    assert answer(send, pb.SatInStartReplicationResp).err.code == START_ERROR.SUBSCRIPTION_NOT_FOUND


@pytest.mark.parametrize(("cancelled_at", "held"), [(48, View()), (49, whole(ITEMS)), (60, whole(ITEMS))])
def test_a_subscription_given_up_before_a_repair_is_of_the_time_of_the_position(cancelled_at: int, held: View) -> None:
    cancelled = replace(*RECORD.subscriptions, cancelled_at=cancelled_at, cancellation=1)
    record = replace(RECORD, subscriptions=(cancelled,))
    keep, *_, stream = seeking(b"e-49", S1, record=record).session.checkpoint_found(CHECKPOINT)

    assert keep == KeepSubscriptions((S1,), 49)
    assert isinstance(stream, StartStream)
    assert stream.view == held


def test_a_token_that_expires_while_a_checkpoint_is_sought_ends_it() -> None:
    client = seeking()
    client.session.expired()

    assert rpc_failure(client.session.checkpoint_found(CHECKPOINT)) == (ERROR.AUTH_REQUIRED, 1007)
    assert not client.session.streaming


def test_nothing_starts_twice_while_a_checkpoint_is_sought() -> None:
    client = seeking()

    assert rpc_failure(client.start()) == (ERROR.INVALID_REQUEST, 1007)
    assert client.session.checkpoint_found(CHECKPOINT) == []


def test_replication_starts_once() -> None:
    assert rpc_failure(streaming().start()) == (ERROR.INVALID_REQUEST, 1007)


def test_replication_can_be_stopped_and_started_again_without_a_second_call_for_uploads() -> None:
    client = streaming(uploading=True)
    stop, send = client.call("stopReplication", b"")
    assert stop == StopStream()
    answer(send, pb.SatInStopReplicationResp)
    assert not client.session.streaming

    assert [type(output) for output in client.start()] == [ForgetSubscriptions, Send, StartStream]
    client.send(RELATION)
    (write,) = client.send(upload(b"a", None))
    assert isinstance(write, Write)
    assert not write.upload.echo_missed  # on its next connection it is asked for all


def test_stopping_what_does_not_run_is_refused() -> None:
    assert rpc_failure(authenticated().call("stopReplication", b"")) == (ERROR.INVALID_REQUEST, 1007)


# ---- malformed calls and messages --------------------------------------------------------------------------------


def test_an_unknown_method_and_an_undecodable_call_are_refused() -> None:
    assert rpc_failure(authenticated().call("Subscribe", b"")) == (ERROR.INVALID_REQUEST, 1007)
    assert rpc_failure(authenticated().call("subscribe", b"\xff")) == (ERROR.INVALID_REQUEST, 1007)


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\x01", b"\x15\xff"])
def test_what_is_no_message_is_answered_as_ever(payload: bytes) -> None:
    send, close = Session(FakeWorld()).receive(payload)

    assert isinstance(send, Send)
    assert encode(send.message) == b"\x00"
    assert isinstance(close, Close)
    assert (close.code, close.reason) == (1007, "Message not formatted according to Electric protocol")


def test_an_error_of_the_client_ends_the_conversation_quietly() -> None:
    (close,) = streaming().send(pb.SatErrorResp())

    assert isinstance(close, Close)
    assert close.code == 1000


@pytest.mark.parametrize("message", [pb.SatSubsDataBegin(), pb.SatSubsDataError(), pb.SatUnsubsDataEnd()])
def test_a_message_that_only_servers_send_is_refused(message: Message) -> None:
    assert failure(streaming().send(message)) == (ERROR.INVALID_REQUEST, 1007)


# ---- acknowledgements --------------------------------------------------------------------------------------------


def test_an_acknowledgement_is_passed_on() -> None:
    assert streaming().send(pb.SatOpLogAck(lsn=b"e-60", transaction_id=7)) == [Acknowledge(60)]
    assert authenticated().send(pb.SatOpLogAck(lsn=b"e-60")) == []


@pytest.mark.parametrize("lsn", [b"", b"60", b"f-60"])
def test_an_acknowledgement_of_nothing_of_ours_is_refused(lsn: bytes) -> None:
    assert failure(streaming().send(pb.SatOpLogAck(lsn=lsn))) == (ERROR.INVALID_REQUEST, 1007)


def test_an_acknowledgement_can_be_taken_at_once() -> None:
    assert streaming().session.acknowledged(encode(pb.SatOpLogAck(lsn=b"e-60", transaction_id=7))) == 60


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        encode(pb.SatOpLogAck(lsn=b"f-60")),
        encode(pb.SatOpLogAck(lsn=b"60")),
        encode(pb.SatOpLogAck(lsn=b"e-60"))[:-1],
        encode(pb.SatRpcRequest(method="stopReplication", request_id=9)),
    ],
)
def test_anything_else_is_left_to_be_received(payload: bytes) -> None:
    session = streaming().session
    assert session.acknowledged(payload) is None
    assert session.streaming


def test_nothing_is_acknowledged_at_once_before_the_stream_starts_or_after_the_token_expired() -> None:
    ack = encode(pb.SatOpLogAck(lsn=b"e-60"))
    assert authenticated().session.acknowledged(ack) is None
    expired = streaming()
    expired.session.expired()
    assert expired.session.acknowledged(ack) is None


# ---- subscribe ---------------------------------------------------------------------------------------------------


def test_a_subscription_is_answered_before_it_is_delivered() -> None:
    send, deliver = streaming().subscribe(S1, shape("items"), shape("notes", R2))

    assert answer(send, pb.SatSubsResp) == pb.SatSubsResp(subscription_id=S1)
    assert deliver == Deliver(
        SubscriptionRecord(S1, (ShapeRecord("items"), ShapeRecord("notes")), asked_by=3),
        (Shape(R1, Group(ITEMS), ShapeRecord("items")), Shape(R2, Group(NOTES), ShapeRecord("notes"))),
    )


@pytest.mark.parametrize(
    ("subscription_id", "shapes", "message"),
    [
        ("x" * 129, [shape("items")], "ID too long"),
        (S2, [], "Subscription must include at least one shape request"),
        (S2.upper().replace("0", "A"), [shape("items")], "Subscription ID should be a valid UUID"),
        (S2, [shape("items"), shape("notes")], "Duplicated request ids are not allowed"),
        (S2, [shape("items", str(n)) for n in range(101)], "A subscription has at most 100 shape requests"),
    ],
)
def test_a_subscription_that_is_refused_leaves_the_connection_open(
    subscription_id: str, shapes: list[pb.SatShapeReq], message: str
) -> None:
    client = streaming()
    (send,) = client.subscribe(subscription_id, *shapes)
    response = answer(send, pb.SatSubsResp)

    assert (response.err.code, response.err.message) == (SUBS_ERROR.SHAPE_REQUEST_ERROR, message)
    assert response.subscription_id == subscription_id[:128]
    assert len(client.subscribe(S2, shape("items"))) == 2


def test_the_filters_of_a_client_are_bounded_in_all() -> None:
    client = streaming()
    long = "this.n = 1 OR " * 2_000 + "this.n = 2"
    half = f"this.n = 1 -- {'x' * 40_000}"
    for subscription_id, where, accepted in (
        (S2, half, True),
        (S1, half, False),
        (S1, long, False),
        (S1, "this.n = 3", True),
    ):
        response = answer(client.subscribe(subscription_id, shape("items", where=where))[0], pb.SatSubsResp)
        assert response.HasField("err") != accepted
        if where is half and not accepted:
            assert response.err.message == "The filters of a client have at most 65536 bytes in all"
    client.unsubscribe(S2)
    assert len(client.subscribe(S2, shape("items", where=half))) == 2


def test_an_id_in_use_is_refused() -> None:
    client = streaming()
    client.subscribe(S1, shape("items"))
    (send,) = client.subscribe(S1, shape("notes"))
    error = answer(send, pb.SatSubsResp).err

    assert error.code == SUBS_ERROR.SUBSCRIPTION_ID_ALREADY_EXISTS
    assert error.message.startswith("Cannot establish multiple subscriptions with the same ID.")


def test_every_bad_shape_is_named() -> None:
    empty = pb.SatShapeReq(request_id="r3")
    filtered = shape("notes", R2, where="this.m = 1")
    client = streaming()
    assert client.subscribe(S1, shape("secrets"), filtered, empty, shape("items", "r4")) == [LookAgain(rights=False)]
    (send,) = client.session.looked_again()
    error = answer(send, pb.SatSubsResp).err

    assert error.message == "Could not establish a subscription due to errors on requests"
    codes = SUBS_ERROR.ShapeReqError
    assert [(one.request_id, one.code) for one in error.shape_request_error] == [
        (R1, codes.TABLE_NOT_FOUND),
        (R2, codes.INVALID_WHERE_CLAUSE),
        ("r3", codes.EMPTY_SHAPE_DEFINITION),
    ]


def test_subscriptions_need_a_stream() -> None:
    assert rpc_failure(authenticated().subscribe(S1, shape("items"))) == (ERROR.INVALID_REQUEST, 1007)
    assert rpc_failure(authenticated().unsubscribe(S1)) == (ERROR.INVALID_REQUEST, 1007)


# ---- unsubscribe -------------------------------------------------------------------------------------------------


def test_unsubscribing_withdraws_the_tables_that_nothing_holds() -> None:
    client = streaming(lsn=b"e-60", subscription_ids=[S1])
    client.subscribe(S2, shape("items"), shape("notes", R2))

    send, withdraw = client.unsubscribe(S2)
    assert isinstance(send, Send)
    assert encode(send.message)[-2:] == b"\x1a\x00"  # an empty answer is there all the same
    assert withdraw == Withdraw((S2,), frozenset({Group(NOTES)}))
    assert client.unsubscribe(S1)[1] == Withdraw((S1,), frozenset({Group(ITEMS)}))


def test_unknown_ids_are_withdrawn_all_the_same() -> None:
    client = streaming()
    client.subscribe(S1, shape("items"))

    assert client.unsubscribe(S2)[1] == Withdraw((S2,), frozenset())
    assert client.unsubscribe(S1)[1] == Withdraw((S1,), frozenset({Group(ITEMS)}))
    assert client.unsubscribe(S1)[1] == Withdraw((S1,), frozenset())


def test_a_filter_is_a_group_of_its_own_for_the_claims_of_the_client() -> None:
    client = with_claims(n=7)
    where = "this.n::text = auth.claims ->> 'n'"
    _, deliver = client.subscribe(S1, shape("items", where=where), shape("items", R2))

    assert isinstance(deliver, Deliver)
    assert [one.part for one in deliver.shapes] == [group(ITEMS, "this.n::text = '7'"), Group(ITEMS)]
    assert deliver.subscription.shapes[0].where == where
    assert client.unsubscribe(S1)[1] == Withdraw((S1,), frozenset(one.part for one in deliver.shapes))


def test_a_renewal_with_other_claims_ends_a_connection_whose_filters_use_them() -> None:
    for where, renewed, outputs in (
        ("this.n::text = auth.claims ->> 'n'", {"n": 7, "other": 1}, [Send]),
        ("this.n::text = auth.claims ->> 'n'", {"n": 8}, [Send, Close]),
        ("this.n::text = auth.claims ->> 'n'", {}, [Send, Close]),
        ("this.n = 7", {"n": 8}, [Send]),
    ):
        client = with_claims(n=7)
        client.subscribe(S1, shape("items", where=where))
        client.authenticate()
        assert [type(output) for output in client.session.authenticated(RECORD, renewed)] == outputs


def test_a_client_that_comes_back_with_other_claims_is_told_that_its_subscription_is_unknown() -> None:
    first = with_claims(n=7)
    where = "this.n::text = auth.claims ->> 'n'"
    _, deliver = first.subscribe(S1, shape("items", where=where))
    assert isinstance(deliver, Deliver)
    for claims, view in (({"n": 7}, View([deliver.shapes[0].part])), ({"n": 8}, None)):
        client = Client(replace(RECORD, subscriptions=(deliver.subscription,)))
        client.authenticate()
        client.session.authenticated(client.record, claims)
        outputs = client.start(lsn=b"e-60", subscription_ids=[S1])
        if view is None:
            assert answer(outputs[-2], pb.SatInStartReplicationResp).err.code == START_ERROR.SUBSCRIPTION_NOT_FOUND
        else:
            assert outputs[-1] == StartStream(60, view, Dialect.SQLITE)


def test_an_id_that_was_withdrawn_can_be_used_again() -> None:
    client = streaming()
    client.subscribe(S1, shape("items"))
    client.unsubscribe(S1)

    assert len(client.subscribe(S1, shape("items"))) == 2


# ---- uploads -----------------------------------------------------------------------------------------------------

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


def test_an_upload_is_written() -> None:
    client = streaming(uploading=True)
    assert client.send(RELATION) == []
    (write,) = client.send(upload(b"a", None))

    assert isinstance(write, Write)
    assert (write.upload.client_id, write.upload.user_id, write.upload.lsn) == ("client-1", "user-1", b"\0\0\0\x06")


def test_what_a_repaired_client_uploads_may_have_been_uploaded_before() -> None:
    repaired, resumed = seeking(), streaming(lsn=b"e-60")
    repaired.session.checkpoint_found(CHECKPOINT)
    for client, missed in ((repaired, True), (resumed, False)):
        client.send(pb.SatRpcResponse(method="startReplication", request_id=0, message=b""))
        client.send(RELATION)
        (write,) = client.send(upload(b"a", None))
        assert isinstance(write, Write)
        assert write.upload.echo_missed is missed


@pytest.mark.parametrize("lsn", [b"", b"e-60"], ids=["afresh", "resumed"])
def test_a_client_that_was_cut_off_before_it_sent_what_it_waits_for_is_asked_for_it_again(lsn: bytes) -> None:
    client = Client(replace(RECORD, echo_missed=True))
    client.authenticate()
    client.session.authenticated(client.record, {})
    outputs = client.start(lsn=lsn)
    (call,) = [one.message for one in outputs if isinstance(one, Send) and isinstance(one.message, pb.SatRpcRequest)]

    assert pb.SatInStartReplicationReq.FromString(call.message).lsn == b""
    client.send(pb.SatRpcResponse(method="startReplication", request_id=0, message=b""))
    client.send(RELATION)
    (write,) = client.send(upload(b"a", None))
    assert isinstance(write, Write)
    assert write.upload.echo_missed


def test_a_repaired_client_has_missed_echoes_also_of_what_is_still_being_written() -> None:
    client = Client(replace(RECORD, upload_lsn=b"", echo_missed=True))
    client.authenticate()
    client.session.authenticated(client.record, {})
    client.start(lsn=b"e-49")

    assert MissEchoes() in client.session.checkpoint_found(CHECKPOINT)


def test_what_comes_before_uploading_was_agreed_is_ignored() -> None:
    client = streaming()

    assert client.send(RELATION) == []
    assert client.send(upload(b"a", None)) == []


def test_a_bad_upload_keeps_what_came_before_it_and_ends_the_conversation() -> None:
    client = streaming(uploading=True)
    client.send(RELATION)
    both = pb.SatOpLog(ops=[*upload(b"a", None).ops, *upload(b"a").ops])
    outputs = client.send(both)

    assert isinstance(outputs[0], Write)
    assert failure(outputs) == (ERROR.INVALID_REQUEST, 1007)
    assert isinstance(outputs[1], Send)
    assert isinstance(outputs[1].message, pb.SatErrorResp)
    assert outputs[1].message.message == "unexpected error"
    assert outputs[1].message.lsn == b"\0\0\0\x06"
    assert isinstance(outputs[2], Close)
    assert outputs[2].detail == "invalid upload"  # the log holds no value
    assert client.send(upload(b"a", None)) == []


def test_an_upload_that_cannot_be_applied_is_handed_on_with_its_flaw() -> None:
    client = streaming(uploading=True)
    client.send(RELATION)
    first, second = client.send(pb.SatOpLog(ops=[*upload(b"a", b"x").ops, *upload(b"a", b"1").ops]))

    assert isinstance(first, Write)
    assert first.upload.flaw is not None
    assert isinstance(second, Write)
    assert second.upload.flaw is None


def test_a_table_that_clients_have_from_an_earlier_time_can_be_announced() -> None:
    client = authenticated(tables={"items": ITEMS}, migrations=(M1, replace(M2, changes=(CreateTable(NOTES),))))
    client.start()
    client.send(pb.SatRpcResponse(method="startReplication", request_id=0, message=b""))

    assert client.send(pb.SatRelation(schema_name="public", table_name="notes", columns=RELATION.columns)) == []
    (write,) = client.send(upload(b"a", b"1"))
    assert isinstance(write, Write)
    assert write.upload.flaw is not None
    assert write.upload.flaw.sqlstate == "42P01"


def test_a_relation_of_an_unknown_table_is_refused() -> None:
    client = streaming(uploading=True)

    assert failure(client.send(pb.SatRelation(schema_name="public", table_name="x"))) == (ERROR.INVALID_REQUEST, 1007)


@pytest.mark.parametrize(
    "response",
    [
        pb.SatRpcResponse(method="startReplication", request_id=1, message=b""),
        pb.SatRpcResponse(method="subscribe", request_id=0, message=b""),
        pb.SatRpcResponse(method="startReplication", error=ERROR(error_type=ERROR.REPLICATION_FAILED)),
    ],
    ids=["other id", "other method", "error"],
)
def test_an_answer_that_does_not_start_uploads_is_refused(response: pb.SatRpcResponse) -> None:
    assert failure(streaming().send(response)) == (ERROR.INVALID_REQUEST, 1007)


# ---- the stock client --------------------------------------------------------------------------------------------


def test_the_recorded_first_connection_of_the_stock_client_is_served() -> None:
    frames = [bytes.fromhex(frame["hex"]) for frame in json.loads(FRAMES.read_text())[:4]]
    session = Session(FakeWorld(migrations=(replace(M1, version="20240101000000_100"),)))

    (verify,) = session.receive(frames[0])
    assert isinstance(verify, Authenticate)
    session.authenticated(replace(RECORD, client_id=verify.client_id), {})
    *_, stream = session.receive(frames[1])
    assert stream == StartStream(None, View(), Dialect.SQLITE, "20240101000000_100")
    (send,) = session.receive(frames[3])  # a filter on a column that is not there
    errors = answer(send, pb.SatSubsResp).err.shape_request_error
    assert [error.code for error in errors] == [SUBS_ERROR.ShapeReqError.INVALID_WHERE_CLAUSE]


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_arbitrary_bytes_never_raise(payloads: list[bytes]) -> None:
    client = streaming(uploading=True)
    for payload in payloads:
        client.session.receive(payload)


@given(st.sampled_from([9, 10, 21, 22, 23]), st.binary(max_size=40))
def test_arbitrary_bodies_never_raise(number: int, body: bytes) -> None:
    streaming(uploading=True).session.receive(bytes((number,)) + body)


# ---- database roles ----------------------------------------------------------------------------------------------

OWN = ReadingRights(policies=(Policy("own", True, "(id = current_setting('request.jwt.claim.sub'::text))"),))


def reading(
    rights: ReadingRights, *subscribed: str, claims: Mapping[str, Any] | None = None, **world: Any
) -> tuple[Client, FakeWorld]:
    """A client that reads as the role ``reader`` and has subscriptions."""
    client = Client(rights={ITEMS.id: rights, NOTES.id: ReadingRights()}, **world)
    client.authenticate()
    client.session.authenticated(RECORD, claims or {}, role="reader")
    client.start()
    for number, table in enumerate(subscribed):
        send, *_ = client.subscribe(str(UUID(int=100 + number)), shape(table))
        assert not answer(send, pb.SatSubsResp).HasField("err")
    return client, client.world


def test_what_is_delivered_is_what_the_role_may_read() -> None:
    client, _ = reading(OWN)
    _, deliver = client.subscribe(S1, shape("items"))
    assert isinstance(deliver, Deliver)
    (one,) = deliver.shapes
    assert one.part == group(ITEMS, "this.id = 'user-1'")


def test_a_table_that_the_role_may_not_read_is_refused() -> None:
    client, world = reading(OWN)
    world.rights = {}
    assert client.subscribe(S1, shape("items")) == [LookAgain(rights=True)]
    (send,) = client.session.looked_again()
    (error,) = answer(send, pb.SatSubsResp).err.shape_request_error
    assert error.message == "Permission denied for table items"


def test_what_was_granted_a_moment_ago_may_be_read() -> None:
    client, world = reading(OWN)
    world.rights = {}
    assert client.subscribe(S1, shape("items")) == [LookAgain(rights=True)]
    world.rights = {ITEMS.id: OWN}
    send, deliver = client.session.looked_again()
    assert not answer(send, pb.SatSubsResp).HasField("err")
    assert isinstance(deliver, Deliver)
    assert client.session.looked_again() == []  # asked for once


def test_a_look_after_the_end_is_of_no_use() -> None:
    client, world = reading(OWN)
    world.rights = {}
    client.subscribe(S1, shape("items"))
    client.send(pb.SatErrorResp())
    assert client.session.looked_again() == []


def test_when_rights_change_those_who_read_the_same_stay() -> None:
    client, world = reading(OWN, "notes")
    world.rights = {NOTES.id: ReadingRights()}
    assert client.session.rights_changed() == []
    assert client.session.streaming


@pytest.mark.parametrize("rights", [{}, {ITEMS.id: ReadingRights()}, {ITEMS.id: ReadingRights(policies=())}])
def test_when_rights_change_those_who_read_other_rows_are_closed(rights: dict[int, ReadingRights]) -> None:
    client, world = reading(OWN, "items")
    world.rights = rights
    (close,) = client.session.rights_changed()
    assert close == Close(1012, detail="what its database role may read has changed")
    assert client.session.rights_changed() == []
    assert client.send(pb.SatOpLogAck()) == []


def test_row_level_security_switched_on_is_noticed_though_no_claims_were_used() -> None:
    client, world = reading(ReadingRights(), "items")
    world.rights = {ITEMS.id: OWN}
    assert len(client.session.rights_changed()) == 1


@pytest.mark.parametrize(("role", "closes"), [("reader", False), ("other", True)])
def test_a_renewed_token_with_another_role_is_judged_anew(role: str, closes: bool) -> None:
    client, _ = reading(ReadingRights(), "items")
    client.authenticate()
    outputs = client.session.authenticated(RECORD, {}, role=role)
    assert (Close(1012, detail="the claims that a subscription depends on have changed") in outputs) is closes


ADMIN = "(((current_setting('request.jwt.claims'::text, true))::jsonb ->> 'level'::text) = 'admin'::text)"
OWN_OR_ALL = replace(OWN, policies=(*(OWN.policies or ()), Policy("admin", True, ADMIN)))
REFERRING = replace(NOTES, foreign_keys=(ForeignKey("notes_id_fkey", ("id",), "items", ("id",)),))


@pytest.mark.parametrize("table", ["items", "notes"])
@pytest.mark.parametrize(
    ("before", "after", "closes"),
    [
        ({"level": "admin"}, {"level": "user"}, True),
        ({"level": "admin"}, {}, True),
        ({"level": "admin"}, {"level": "admin", "other": 1}, False),
        ({"level": "user"}, {"level": "admin"}, True),
        ({"level": "user"}, {"level": "guest"}, False),
    ],
)
def test_a_renewed_token_is_judged_anew_though_policies_let_all_rows_through(
    table: str, before: dict[str, Any], after: dict[str, Any], closes: bool
) -> None:
    tables = {"items": ITEMS, "notes": REFERRING}  # notes bring items along
    client, _ = reading(OWN_OR_ALL, table, claims=before, tables=tables)
    client.authenticate()
    outputs = client.session.authenticated(RECORD, after, role="reader")
    assert [type(output) for output in outputs] == ([Send, Close] if closes else [Send])


@pytest.mark.parametrize(("rights", "times"), [(ReadingRights(), 0), (OWN_OR_ALL, 1)])
def test_a_renewed_token_costs_nothing_where_there_are_no_policies(
    rights: ReadingRights, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = reading(rights, "items", "notes", claims={"level": "admin"})
    understood = Mock(wraps=subscriptions.resumed)
    monkeypatch.setattr(subscriptions, "resumed", understood)
    client.authenticate()
    client.session.authenticated(RECORD, {"level": "admin", "other": 1}, role="reader")
    assert understood.call_count == times
