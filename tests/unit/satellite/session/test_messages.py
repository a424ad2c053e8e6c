"""What any client may send at any time, sense or nonsense."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.actions import (
    Acknowledge,
    Authenticate,
    Close,
    Send,
    StartStream,
)
from leyden.satellite.frames import encode
from leyden.satellite.migrations import Dialect
from leyden.satellite.session import Session
from leyden.shapes.view import View
from unit.satellite.conversation import (
    ERROR,
    M1,
    RECORD,
    SUBS_ERROR,
    FakeWorld,
    answer,
    authenticated,
    failure,
    rpc_failure,
    streaming,
)

FRAMES = Path(__file__).parents[3] / "fixtures" / "recordings" / "client-frames.json"

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
