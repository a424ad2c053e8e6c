"""The call to start: from nothing, from a position, from before the log."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.model import (
    AddColumns,
    Checkpoint,
    ClientRecord,
    Column,
    IncludeRecord,
    Migration,
    ShapeRecord,
    SubscriptionRecord,
    Suspension,
)
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.actions import (
    Close,
    Deliver,
    DropSubscriptions,
    ForgetSubscriptions,
    KeepSubscriptions,
    LookAgain,
    MissEchoes,
    Repair,
    SeekCheckpoint,
    Send,
    StartStream,
    StopStream,
    Withdraw,
    Write,
)
from leyden.satellite.migrations import Dialect
from leyden.shapes.view import View
from unit.satellite.conversation import (
    CHECKPOINT,
    COLUMNS,
    ERROR,
    ITEMS,
    M1,
    M2,
    NOTES,
    RECORD,
    RELATION,
    S1,
    S2,
    START_ERROR,
    SUBS_ERROR,
    Client,
    answer,
    authenticated,
    rpc_failure,
    seeking,
    shape,
    streaming,
    upload,
)
from views import whole

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
    assert client.subscribe(S1, shape("items")) == [LookAgain(tables=True, rights=False)]
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
