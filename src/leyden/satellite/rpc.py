"""The RPC envelope: requests and responses matched by method and request id (docs/protocol.md)."""

from __future__ import annotations

from google.protobuf.message import Message

from leyden.satellite import satellite_pb2 as pb

AUTHENTICATE = "authenticate"
START_REPLICATION = "startReplication"
STOP_REPLICATION = "stopReplication"
SUBSCRIBE = "subscribe"
UNSUBSCRIBE = "unsubscribe"

#: What each method that a client may call takes.
REQUEST_TYPES: dict[str, type[Message]] = {
    AUTHENTICATE: pb.SatAuthReq,
    START_REPLICATION: pb.SatInStartReplicationReq,
    STOP_REPLICATION: pb.SatInStopReplicationReq,
    SUBSCRIBE: pb.SatSubsReq,
    UNSUBSCRIBE: pb.SatUnsubsReq,
}


def success(request: pb.SatRpcRequest, answer: Message) -> pb.SatRpcResponse:
    """Answers ``request``. The field ``message`` is on the wire even when the answer is empty: without it the client
    throws while it reads an error that is not there."""
    return pb.SatRpcResponse(method=request.method, request_id=request.request_id, message=answer.SerializeToString())


def failure(
    request: pb.SatRpcRequest, code: pb.SatErrorResp.ErrorCode.ValueType, message: str | None = None
) -> pb.SatRpcResponse:
    error = pb.SatErrorResp(error_type=code, message=message)
    return pb.SatRpcResponse(method=request.method, request_id=request.request_id, error=error)
