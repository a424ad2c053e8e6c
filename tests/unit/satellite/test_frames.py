from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import MESSAGE_TYPES, MalformedFrame, decode, encode

RESERVED = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 19, 20]


def test_messages_travel_under_their_documented_type_bytes() -> None:
    assert {number: cls.DESCRIPTOR.name for number, cls in MESSAGE_TYPES.items()} == {
        0: "SatErrorResp",
        9: "SatOpLog",
        10: "SatRelation",
        14: "SatSubsDataError",
        15: "SatSubsDataBegin",
        16: "SatSubsDataEnd",
        17: "SatShapeDataBegin",
        18: "SatShapeDataEnd",
        21: "SatRpcRequest",
        22: "SatRpcResponse",
        23: "SatOpLogAck",
        24: "SatUnsubsDataBegin",
        25: "SatUnsubsDataEnd",
    }


@pytest.mark.parametrize("number", sorted(MESSAGE_TYPES))
def test_an_empty_message_is_its_type_byte_alone(number: int) -> None:
    payload = encode(MESSAGE_TYPES[number]())

    assert payload == bytes((number,))
    assert type(decode(payload)) is MESSAGE_TYPES[number]


@pytest.mark.parametrize("number", [*RESERVED, 22 + 4, 127, 255])
def test_reserved_and_unknown_type_bytes_are_refused(number: int) -> None:
    with pytest.raises(MalformedFrame, match=f"unknown message type {number}"):
        decode(bytes((number,)))


def test_an_empty_payload_is_refused() -> None:
    with pytest.raises(MalformedFrame):
        decode(b"")


@pytest.mark.parametrize("body", [b"\x0a\x05ab", b"\xff", b"\x0a\x02\xff\xfe", b"\x0b"])
def test_an_undecodable_body_is_refused_without_being_quoted(body: bytes) -> None:
    with pytest.raises(MalformedFrame, match=r"^undecodable SatRpcRequest$"):
        decode(b"\x15" + body)


def test_unknown_fields_are_skipped() -> None:
    assert decode(b"\x15" + b"\x10\x07" + b"\x78\x01") == decode(b"\x15\x10\x07\x78\x01")
    assert decode(b"\x15\x10\x07\x78\x01").request_id == 7  # type: ignore[attr-defined]


@given(st.binary(max_size=64))
def test_arbitrary_bytes_decode_or_are_refused(payload: bytes) -> None:
    try:
        message = decode(payload)
    except MalformedFrame:
        return
    assert type(message) is MESSAGE_TYPES[payload[0]]


@given(st.text(max_size=20), st.integers(0, 2**32 - 1), st.binary(max_size=50))
def test_what_is_encoded_decodes(method: str, request_id: int, body: bytes) -> None:
    message = pb.SatRpcRequest(method=method, request_id=request_id, message=body)

    assert decode(encode(message)) == message
