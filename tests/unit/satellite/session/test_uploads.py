"""What a client writes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leyden.model import (
    CreateTable,
)
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.actions import (
    Close,
    MissEchoes,
    Send,
    Write,
)
from unit.satellite.conversation import (
    CHECKPOINT,
    ERROR,
    ITEMS,
    M1,
    M2,
    NOTES,
    RECORD,
    RELATION,
    Client,
    authenticated,
    failure,
    seeking,
    streaming,
    upload,
)


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
