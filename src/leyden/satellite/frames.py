"""One WebSocket message = one type byte + one protobuf message (docs/protocol.md)."""

from __future__ import annotations

from google.protobuf.message import DecodeError, Message

from leyden.satellite import satellite_pb2 as pb

#: Type byte of every message that travels on its own. All other numbers are unknown or reserved.
MESSAGE_TYPES: dict[int, type[Message]] = {
    0: pb.SatErrorResp,
    9: pb.SatOpLog,
    10: pb.SatRelation,
    14: pb.SatSubsDataError,
    15: pb.SatSubsDataBegin,
    16: pb.SatSubsDataEnd,
    17: pb.SatShapeDataBegin,
    18: pb.SatShapeDataEnd,
    21: pb.SatRpcRequest,
    22: pb.SatRpcResponse,
    23: pb.SatOpLogAck,
    24: pb.SatUnsubsDataBegin,
    25: pb.SatUnsubsDataEnd,
}

#: The type byte of what clients send most.
ACKNOWLEDGEMENT = bytes((23,))

_PREFIXES = {message_type: bytes((number,)) for number, message_type in MESSAGE_TYPES.items()}


class MalformedFrame(Exception):
    """The bytes are no Satellite message: empty, unknown type byte, or undecodable protobuf."""


def encode(message: Message) -> bytes:
    """The payload of the WebSocket message that carries ``message``."""
    return _PREFIXES[type(message)] + message.SerializeToString()


def decode(payload: bytes) -> Message:
    """The message in ``payload``.

    Raises:
        MalformedFrame: as described there; the text never quotes the payload.
    """
    if not payload:
        raise MalformedFrame("empty message")
    message_type = MESSAGE_TYPES.get(payload[0])
    if message_type is None:
        raise MalformedFrame(f"unknown message type {payload[0]}")
    message = message_type()
    try:
        message.ParseFromString(payload[1:])
    except DecodeError as error:
        raise MalformedFrame(f"undecodable {message_type.__name__}") from error
    return message
