"""Clients that were cut off in the midst of a delivery, in plain values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from leyden.model import Checkpoint, ClientRecord, ShapeRecord, SubscriptionRecord
from leyden.satellite import rescue
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.actions import (
    Close,
    Deliver,
    DropSubscriptions,
    ForgetSubscriptions,
    Hold,
    KeepSubscriptions,
    Output,
    Send,
    StartStream,
    StopStream,
    Withdraw,
    Write,
)
from leyden.satellite.migrations import Dialect
from leyden.satellite.rescue import HELD_FOR, cut_off
from leyden.shapes.view import View
from unit.satellite.conversation import ITEMS, RECORD, S1, S2, SUBS_ERROR, Client, answer, shape
from views import whole

S3, S4 = (S1[:-1] + digit for digit in "ab")
LATE = SubscriptionRecord(S2, (ShapeRecord("notes"),), asked_by=4)
LATER = SubscriptionRecord(S3, (ShapeRecord("notes", "this.id = 'a'"),), asked_by=5)

#: Has items; notes were under way when the connection was lost.
CUT_OFF = replace(RECORD, subscriptions=(*RECORD.subscriptions, LATE, LATER))


def back(record: ClientRecord = CUT_OFF, first_call: int = 6, **world: Any) -> Client:
    """Authenticated by a call of the process that had asked for the notes."""
    client = Client(record, **world)
    client.authenticate()
    client.session.authenticated(record, {}, first_call)
    return client


#: The same with so much data that it comes in parts.
IN_PARTS = replace(CUT_OFF, subscriptions=(*RECORD.subscriptions, replace(LATE, in_parts=True), LATER))


def held(record: ClientRecord = CUT_OFF, **start: Any) -> tuple[Client, list[Output]]:
    client = back(record)
    return client, client.start(**start or {"lsn": b"e-60", "subscription_ids": [S1]})


def subscribed(outputs: list[Output]) -> pb.SatSubsResp:
    response: pb.SatSubsResp = answer(outputs[-1], pb.SatSubsResp)
    return response


@pytest.mark.parametrize(
    ("listed", "first_call", "which"),
    [
        ([S1], 6, [LATE, LATER]),
        ([S1], 5, [LATE]),
        ([S1], 4, []),  # made anew: its own call to subscribe would have had this number
        ([S1], 1, []),
        ([S1, S2], 6, [LATER]),
        ([S1, S2, S3], 6, []),
        ([], 6, [LATE, LATER]),
    ],
)
def test_what_its_process_asked_for_and_it_does_not_list_was_cut_off(
    listed: list[str], first_call: int, which: list[SubscriptionRecord]
) -> None:
    assert list(cut_off(CUT_OFF.subscriptions, listed, first_call)) == which


def test_what_the_client_has_given_up_was_not_cut_off() -> None:
    given_up = replace(LATE, cancelled_at=60, cancellation=3)
    assert cut_off((given_up, LATER), [], 6) == (LATER,)


def test_a_client_that_was_cut_off_is_answered_and_its_stream_is_held() -> None:
    client, outputs = held()
    keep, send, upload, hold = outputs
    assert keep == KeepSubscriptions((S1,), 60, rescued=(S2, S3))
    assert not answer(send, pb.SatInStartReplicationResp).HasField("err")
    assert isinstance(upload, Send)
    assert hold == Hold((S2, S3), HELD_FOR)
    assert client.session.streaming


def test_so_is_one_that_had_nothing_yet() -> None:
    _, outputs = held(sql_dialect=pb.SatInStartReplicationReq.SQLITE)
    assert outputs[0] == ForgetSubscriptions((S2, S3))
    assert outputs[-1] == Hold((S2, S3), HELD_FOR)
    assert not any(isinstance(output, StartStream) for output in outputs)


def test_so_is_one_that_has_to_be_repaired_which_uploads_when_its_stream_has_started() -> None:
    """The stream of a repair begins at the head of the log of that moment: an echo from before it would be missed."""
    client = back()
    client.start(lsn=b"e-49", subscription_ids=[S1])
    keep, *others, hold = client.session.checkpoint_found(Checkpoint(40, 7))
    assert keep == KeepSubscriptions((S1,), 49, rescued=(S2, S3))
    assert hold == Hold((S2, S3), HELD_FOR)
    assert not any(isinstance(one, Send) and isinstance(one.message, pb.SatRpcRequest) for one in others)
    *_, stream, uploading = client.session.hold_is_over()
    assert isinstance(stream, StartStream)
    assert stream.repair is not None
    assert isinstance(uploading, Send)
    assert isinstance(uploading.message, pb.SatRpcRequest)
    assert uploading.message.method == "startReplication"


def test_a_client_that_has_to_be_repaired_is_told_as_well() -> None:
    client = back()
    client.start(lsn=b"e-49", subscription_ids=[S1])
    client.session.checkpoint_found(Checkpoint(40, 7))
    drop, _ = outputs = client.subscribe(S4, shape("notes"))
    assert drop == DropSubscriptions((S2, S3))
    assert (subscribed(outputs).subscription_id, subscribed(outputs).HasField("err")) == (S2, True)


def test_a_new_process_is_not_held() -> None:
    client = back(first_call=1)
    keep, *_, stream = client.start(lsn=b"e-60", subscription_ids=[S1])
    assert keep == KeepSubscriptions((S1,), 60)
    assert isinstance(stream, StartStream)


def test_its_first_call_to_subscribe_is_refused_in_the_name_of_what_was_cut_off_first() -> None:
    client, _ = held()
    drop, _ = outputs = client.subscribe(S4, shape("notes"))
    assert drop == DropSubscriptions((S2, S3))  # before it is told
    told = subscribed(outputs)
    assert told.subscription_id == S2
    assert told.err.code == SUBS_ERROR.SUBSCRIPTION_ID_ALREADY_EXISTS
    # a shape's error would be final for the client
    assert list(told.err.shape_request_error) == []


def test_all_further_calls_are_refused_in_their_own_name() -> None:
    client, _ = held()
    client.subscribe(S4, shape("notes"))
    for subscription_id in (S3, "no uuid"):
        (send,) = outputs = client.subscribe(subscription_id, shape("items"))
        assert isinstance(send, Send)
        told = subscribed(outputs)
        assert (told.subscription_id, told.HasField("err")) == (subscription_id, True)


@pytest.mark.parametrize("is_told", [True, False])
def test_a_client_that_does_not_come_anew_in_time_gets_its_stream(*, is_told: bool) -> None:
    client, _ = held()
    if is_told:
        client.subscribe(S4, shape("notes"))
    *drop, stream = client.session.hold_is_over()
    assert drop == [] if is_told else [DropSubscriptions((S2, S3))]
    assert stream == StartStream(60, whole(ITEMS), Dialect.SQLITE)
    assert client.session.hold_is_over() == []
    send, deliver = client.subscribe(S4, shape("notes"))
    assert not subscribed([send]).HasField("err")
    assert isinstance(deliver, Deliver)


def test_a_first_stream_begins_with_the_migrations() -> None:
    client, _ = held(sql_dialect=pb.SatInStartReplicationReq.SQLITE)
    stream, uploading = client.session.hold_is_over()[-2:]
    assert stream == StartStream(None, View(), Dialect.SQLITE, "")
    assert isinstance(uploading, Send)  # from the head of that moment, as after a repair


def test_a_subscription_that_is_given_up_meanwhile_ends_when_the_stream_has_started() -> None:
    client, _ = held()
    (send,) = client.unsubscribe(S1)
    answer(send, pb.SatUnsubsResp)
    *_, stream, withdraw = client.session.hold_is_over()
    assert isinstance(stream, StartStream)
    assert withdraw == Withdraw((S1,), whole(ITEMS).parts)


def test_a_client_that_gives_up_others_is_not_told_on_a_mere_suspicion() -> None:
    client, _ = held()
    client.unsubscribe(S1)
    drop, stream, withdraw, send, deliver = client.subscribe(S4, shape("notes"))
    assert drop == DropSubscriptions((S2, S3))
    assert isinstance(stream, StartStream)
    assert isinstance(withdraw, Withdraw)
    assert not subscribed([send]).HasField("err")
    assert isinstance(deliver, Deliver)
    assert client.session.hold_is_over() == []


def test_a_client_that_gives_up_others_is_told_if_a_part_of_the_data_was_sent() -> None:
    client, _ = held(IN_PARTS)
    client.unsubscribe(S1)
    drop, _ = outputs = client.subscribe(S4, shape("notes"))
    assert drop == DropSubscriptions((S2, S3))
    assert (subscribed(outputs).subscription_id, subscribed(outputs).HasField("err")) == (S2, True)


def test_what_else_it_lacks_is_granted_so_that_it_remembers_it_and_then_it_has_to_come_anew() -> None:
    client, _ = held(IN_PARTS)
    client.unsubscribe(S1)
    client.subscribe(S4, shape("notes"))
    (send,) = client.subscribe(S3, shape("items"))
    assert (subscribed([send]).subscription_id, subscribed([send]).HasField("err")) == (S3, False)
    (close,) = client.session.hold_is_over()
    assert isinstance(close, Close)
    assert close.code == 1012
    assert client.subscribe(S3, shape("items")) == []


def test_not_any_number_of_calls_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescue, "HELD_OUTPUTS", 3)
    client, _ = held()
    for _ in range(2):
        client.unsubscribe(S1)
    *_, close = client.unsubscribe(S1)
    assert isinstance(close, Close)
    assert client.session.hold_is_over() == []


def test_uploads_are_taken_meanwhile() -> None:
    client, outputs = held()
    call = outputs[2]
    assert isinstance(call, Send)
    assert isinstance(call.message, pb.SatRpcRequest)
    client.send(pb.SatRpcResponse(method=call.message.method, request_id=call.message.request_id, message=b""))
    relation = pb.SatRelation(relation_id=1, schema_name="public", table_name="items")
    relation.columns.add(name="id", type="TEXT")
    relation.columns.add(name="n", type="INT4")
    client.send(relation)
    row = pb.SatOpRow(nulls_bitmask=b"@", values=[b"a", b""])
    log = pb.SatOpLog()
    log.ops.add(begin=pb.SatOpBegin(commit_timestamp=5, lsn=b"\0\0\0\6"))
    log.ops.add(insert=pb.SatOpInsert(relation_id=1, row_data=row, tags=["client-1@5"]))
    log.ops.add(commit=pb.SatOpCommit())
    (write,) = client.send(log)
    assert isinstance(write, Write)


def test_a_client_that_stops_before_it_was_asked_for_its_uploads_is_asked_when_it_starts_again() -> None:
    client, _ = held(sql_dialect=pb.SatInStartReplicationReq.SQLITE)
    client.call("stopReplication", b"")
    outputs = client.start(sql_dialect=pb.SatInStartReplicationReq.SQLITE)
    assert [one for one in outputs if isinstance(one, Send) and isinstance(one.message, pb.SatRpcRequest)]


def test_a_client_that_stops_and_starts_once_more_is_not_held_again() -> None:
    client, _ = held()
    stop, _ = client.call("stopReplication", b"")
    assert stop == StopStream()
    assert client.session.hold_is_over() == []
    assert isinstance(client.start(lsn=b"e-60", subscription_ids=[S1])[-1], StartStream)
