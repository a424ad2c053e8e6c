"""One connection's conversation, without I/O.

:class:`Session` takes what arrived and the answers to the questions it asked, and returns what to do: messages to
send and actions to run, in order. It opens no socket, runs no SQL and reads no clock, so a whole conversation can be
played in a unit test with plain values. The rules are those of docs/protocol.md; where one exists because of
how the stock client behaves, the comment says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from google.protobuf.message import DecodeError, Message

from leyden.model import Checkpoint, ClientRecord, CreateEnum, SubscriptionRecord, Table
from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.actions import (
    Acknowledge,
    Authenticate,
    Close,
    Deliver,
    DropSubscriptions,
    ForgetSubscriptions,
    Hold,
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
    World,
    Write,
)
from leyden.satellite.frames import ACKNOWLEDGEMENT, MalformedFrame, decode
from leyden.satellite.migrations import Dialect
from leyden.satellite.positions import ForeignPosition, InvalidPosition, Position
from leyden.satellite.rescue import HELD_FOR, Rescue, cut_off
from leyden.satellite.subscriptions import (
    MAX_SUBSCRIPTION_ID_BYTES,
    MAX_SUBSCRIPTIONS,
    ShapesRefusedError,
    Subscriptions,
    UnknownSubscriptionError,
)
from leyden.satellite.uploads import InvalidUpload, UploadDecoder
from leyden.shapes.aftermath import can_be_told
from leyden.shapes.view import View
from leyden.shapes.where import Claims

#: Unacknowledged transactions announced to the client. From 70 % of it on the client acknowledges each transaction.
UNACKED_WINDOW = 30

MAX_CLIENT_ID_BYTES = 64
_START_ERROR = pb.SatInStartReplicationResp.ReplicationError

#: At these the client drops its rows and begins afresh; others are for the app to solve, and it comes back as it was.
_BEGIN_AFRESH = (_START_ERROR.BEHIND_WINDOW, _START_ERROR.INVALID_POSITION, _START_ERROR.SUBSCRIPTION_NOT_FOUND)


class _State(Enum):
    OPEN = auto()
    AUTHENTICATING = auto()
    AUTHENTICATED = auto()
    STREAMING = auto()
    CLOSED = auto()


class _Refuse(Exception):
    """Ends the conversation: an error message to send, and the close that follows it."""

    def __init__(self, message: Message | None, close: Close) -> None:
        self.outputs: list[Output] = [] if message is None else [Send(message)]
        self.outputs.append(close)


@dataclass(frozen=True, slots=True)
class _Seeking:
    """A call to start at a ``position`` that the log does not hold any more."""

    request: pb.SatRpcRequest
    call: pb.SatInStartReplicationReq
    position: Position
    dialect: Dialect


def _protocol_error(detail: str, message: str | None = None, lsn: bytes | None = None) -> _Refuse:
    error = pb.SatErrorResp(error_type=pb.SatErrorResp.INVALID_REQUEST, message=message, lsn=lsn)
    return _Refuse(error, Close(1007, detail=detail))


class Session:
    """The state of one connection. Every method returns the outputs to perform, in order."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._state = _State.OPEN
        self._client: ClientRecord | None = None
        self._request: pb.SatRpcRequest | None = None  # the authenticate call under way
        self._subscriptions = Subscriptions(world)
        self._uploads: UploadDecoder | None = None
        self._uploading = False
        self._expired = False
        self._server_request = 0
        self._awaiting_start: int | None = None
        #: A start that waits for what is known of the time before the log.
        self._seeking: _Seeking | None = None
        #: Whether the client was asked on this connection for all that it may have missed the echo of.
        self._sends_again = False
        #: Calls with a lower number were made on an earlier connection, by the same process.
        self._first_call = 0
        #: A call to subscribe that waits for another look at what is known of Postgres.
        self._asking: tuple[pb.SatRpcRequest, pb.SatSubsReq] | None = None
        #: While the client is told to let go of a delivery of an earlier connection.
        self._rescue: Rescue | None = None

    @property
    def client(self) -> ClientRecord | None:
        """Whom this connection belongs to; ``None`` before authentication."""
        return self._client

    @property
    def tables(self) -> frozenset[str]:
        """Names of the tables that its subscriptions concern."""
        return self._subscriptions.tables

    @property
    def streaming(self) -> bool:
        return self._state is _State.STREAMING

    # ---- inbound -------------------------------------------------------------------------------------------------

    def receive(self, payload: bytes) -> list[Output]:
        """A binary WebSocket message arrived."""
        if self._state is _State.CLOSED:
            return []
        try:
            try:
                message = decode(payload)
            except MalformedFrame as error:
                raise _Refuse(
                    pb.SatErrorResp(error_type=pb.SatErrorResp.INTERNAL),
                    Close(1007, "Message not formatted according to Electric protocol", str(error)),
                ) from None
            return self._dispatch(message)
        except _Refuse as refusal:
            self._state = _State.CLOSED
            return refusal.outputs

    def acknowledged(self, payload: bytes) -> int | None:
        """The WAL position that ``payload`` acknowledges, if it does just that, as it should, while the stream runs.
        Otherwise ``None``, and nothing has happened: it is for :meth:`receive`."""
        if payload[:1] != ACKNOWLEDGEMENT or self._expired or not self.streaming:
            return None
        try:
            ack = decode(payload)
            assert isinstance(ack, pb.SatOpLogAck)
            return self._world.positions.decode(ack.lsn).wal
        except (MalformedFrame, InvalidPosition, ForeignPosition):
            return None

    def _dispatch(self, message: Message) -> list[Output]:
        match message:
            case pb.SatRpcRequest():
                return self._rpc(message)
            case pb.SatErrorResp():
                raise _Refuse(None, Close(1000, detail="the client reported an error"))
        if self._client is None or self._expired:
            # fail closed: nothing but `authenticate` is looked at without a valid token
            raise _Refuse(
                pb.SatErrorResp(error_type=pb.SatErrorResp.AUTH_REQUIRED),
                Close(1007, detail=f"{type(message).__name__} while not authenticated"),
            )
        match message:
            case pb.SatRpcResponse():
                return self._answer(message)
            case pb.SatOpLogAck():
                return self._acknowledge(message)
            case pb.SatRelation():
                return self._relation(message)
            case pb.SatOpLog():
                return self._oplog(message)
            case _:
                raise _protocol_error(f"unexpected {type(message).__name__}")

    def _rpc(self, request: pb.SatRpcRequest) -> list[Output]:
        request_type = rpc.REQUEST_TYPES.get(request.method)
        if (self._client is None or self._expired) and request.method != rpc.AUTHENTICATE:
            raise self._rpc_error(request, pb.SatErrorResp.AUTH_REQUIRED, "not authenticated")
        if request_type is None:
            raise self._rpc_error(request, pb.SatErrorResp.INVALID_REQUEST, "unknown RPC method")
        call = request_type()
        try:
            call.ParseFromString(request.message)
        except DecodeError:
            raise self._rpc_error(
                request, pb.SatErrorResp.INVALID_REQUEST, f"undecodable {request.method} request"
            ) from None
        match call:
            case pb.SatAuthReq():
                return self._authenticate(request, call)
            case pb.SatInStartReplicationReq():
                return self._start(request, call)
            case pb.SatInStopReplicationReq():
                return self._stop(request)
            case pb.SatSubsReq():
                return self._subscribe(request, call)
            case pb.SatUnsubsReq():
                return self._unsubscribe(request, call)
        raise AssertionError(request.method)

    @staticmethod
    def _rpc_error(
        request: pb.SatRpcRequest,
        code: pb.SatErrorResp.ErrorCode.ValueType,
        detail: str,
        message: str | None = None,
    ) -> _Refuse:
        # The answer goes first, because the client waits out its time limit when only the socket closes.
        return _Refuse(rpc.failure(request, code, message), Close(1007, detail=detail))

    # ---- authenticate --------------------------------------------------------------------------------------------

    def _authenticate(self, request: pb.SatRpcRequest, call: pb.SatAuthReq) -> list[Output]:
        invalid = pb.SatErrorResp.INVALID_REQUEST
        code = message = None
        if not call.id or not call.token:
            code = "token_missing" if call.id else "client_id_missing"
        elif not _usable_client_id(call.id):
            code = "client_id_invalid"
            message = f"A client id has at most {MAX_CLIENT_ID_BYTES} bytes, printable, without @"
        if code is not None:
            refusal = self._rpc_error(request, invalid, code, message)
            refusal.outputs.insert(0, Refused(code, call.id))
            raise refusal
        if self._request is not None:
            raise self._rpc_error(request, invalid, "authenticate while authenticating")
        if self._client is not None and call.id != self._client.client_id:
            refusal = self._rpc_error(request, invalid, "renewal with another client id")
            refusal.outputs.insert(0, Refused("client_id_mismatch", call.id))
            raise refusal
        self._request = request
        if self._client is None:
            self._state = _State.AUTHENTICATING
        return [Authenticate(call.id, call.token, request.request_id)]

    def authenticated(
        self, record: ClientRecord, claims: Mapping[str, Any], first_call: int = 0, *, role: str | None = None
    ) -> list[Output]:
        """The token was good, ``claims`` are its payload, and ``record`` is what is known of the client. ``first_call``
        is the lowest number of a call by which it has tried to authenticate since it was last heard of. ``role`` is the
        database role that it reads as, if roles are taken."""
        if self._state is _State.CLOSED:
            return []  # the conversation ended while the token was being judged
        request, self._request = self._request, None
        if request is None:
            raise RuntimeError("no authentication is under way")
        if self._client is None:
            self._client = record
            self._first_call = first_call
            self._state = _State.AUTHENTICATED
            self._uploads = UploadDecoder(record.client_id, record.user_id)
        elif record.user_id != self._client.user_id:
            self._state = _State.CLOSED
            return self._rpc_error(request, pb.SatErrorResp.INVALID_REQUEST, "renewal for another user").outputs
        self._expired = False
        self._subscriptions.claims = Claims(record.user_id, claims)
        same_role, self._subscriptions.role = role == self._subscriptions.role, role
        outputs: list[Output] = [Send(rpc.success(request, pb.SatAuthResp(id=self._world.instance_id)))]
        if not self._subscriptions.are_unchanged(same_rights=same_role):
            self._state = _State.CLOSED
            # when it comes back it is told that its subscriptions are unknown, and gets what it may see now
            outputs.append(Close(1012, detail="the claims that a subscription depends on have changed"))
        return outputs

    def rights_changed(self) -> list[Output]:
        """What database roles may read has changed. As after a renewal, who may see other rows now comes back."""
        if self._state is _State.CLOSED or self._subscriptions.are_unchanged(same_rights=False):
            return []
        self._state = _State.CLOSED
        return [Close(1012, detail="what its database role may read has changed")]

    def refused(self, code: str, message: str | None) -> list[Output]:
        """The token or the client id was refused: ``code`` for the log, ``message`` for the client, if any.

        Always inside the RPC answer: a top-level error at this stage is an uncaught exception in the client.
        """
        if self._state is _State.CLOSED:
            return []
        request, self._request = self._request, None
        if request is None:
            raise RuntimeError("no authentication is under way")
        self._state = _State.CLOSED
        renewal = self._client is not None
        error = pb.SatErrorResp.INVALID_REQUEST if renewal else pb.SatErrorResp.AUTH_REQUIRED
        return self._rpc_error(request, error, code, message).outputs

    def expired(self) -> list[Output]:
        """The token's time is over.

        Only after replication has started may the reason be ``JWT-expired``: before, the client throws an uncaught
        exception at it (docs/protocol.md).
        """
        self._expired = True
        if not self.streaming:
            return []  # the next RPC is refused; the shell closes when none comes
        self._state = _State.CLOSED
        return [Close(4000, "JWT-expired", "the token has expired")]

    # ---- replication ---------------------------------------------------------------------------------------------

    def _start(self, request: pb.SatRpcRequest, call: pb.SatInStartReplicationReq) -> list[Output]:
        client = self._client
        assert client is not None
        if self.streaming or self._seeking is not None:
            raise self._rpc_error(request, pb.SatErrorResp.INVALID_REQUEST, "replication is already started")
        dialect = Dialect.POSTGRESQL if call.sql_dialect == call.POSTGRES else Dialect.SQLITE
        versions = [migration.version for migration in self._world.migrations]
        if call.HasField("schema_version") and call.schema_version not in versions:
            raise self._start_error(
                request,
                _START_ERROR.UNKNOWN_SCHEMA_VSN,
                f'Unknown schema version: "{call.schema_version[:64]}"',
            )
        if not call.lsn:
            if call.subscription_ids:
                raise self._start_error(
                    request,
                    _START_ERROR.INVALID_POSITION,
                    "Cannot resume subscriptions for a first-time client",
                )
            known = call.schema_version if call.HasField("schema_version") else ""
            self._subscriptions.clear()
            stream = StartStream(None, View(), dialect, known)
            rescued = self._cut_off(client, ())
            before: list[Output] = [ForgetSubscriptions(_ids(rescued))]
            is_behind = True
        else:
            position = self._resume_position(request, call.lsn)
            self._resume(request, client, call.subscription_ids, position)
            if not self._world.holds(position.wal):
                self._seeking = _Seeking(request, call, position, dialect)
                return [SeekCheckpoint(position.wal)]
            # Migrations that the stream brings as well are skipped by the client the second time.
            view = View(self._subscriptions.parts)
            stream = StartStream(position.wal, view, dialect, position.version, cancellation=position.cancellation)
            rescued = self._cut_off(client, call.subscription_ids)
            before = [self._keep(call.subscription_ids, position, rescued)]
            is_behind = False
        return self._started(request, client, before, stream, rescued, misses_echoes=is_behind)

    def checkpoint_found(self, checkpoint: Checkpoint | None) -> list[Output]:
        """The last checkpoint that is not after the position of the client that wants to resume, if there is one.

        From there on everything is known that the client may lack, however old its position is.
        """
        if self._state is _State.CLOSED:
            return []
        seeking, self._seeking = self._seeking, None
        if seeking is None or self._client is None:
            raise RuntimeError("no checkpoint was asked for")
        try:
            return self._repair(self._client, seeking, checkpoint)
        except _Refuse as refusal:
            self._state = _State.CLOSED
            return refusal.outputs

    def _repair(self, client: ClientRecord, seeking: _Seeking, checkpoint: Checkpoint | None) -> list[Output]:
        request, position = seeking.request, seeking.position
        if self._expired:
            raise self._rpc_error(request, pb.SatErrorResp.AUTH_REQUIRED, "the token expired meanwhile")
        view = View(self._subscriptions.parts)
        if checkpoint is None or not can_be_told(view, checkpoint, self._world.migrations):
            raise self._behind(request)
        repair = Repair(
            seeking.call.lsn, position.wal, position.version, checkpoint, self._subscriptions.claims.user_id
        )
        stream = StartStream(position.wal, view, seeking.dialect, repair=repair, cancellation=position.cancellation)
        rescued = self._cut_off(client, seeking.call.subscription_ids)
        before: list[Output] = [self._keep(seeking.call.subscription_ids, position, rescued), MissEchoes()]
        return self._started(request, client, before, stream, rescued, misses_echoes=True)

    def _cut_off(self, client: ClientRecord, listed: Sequence[str]) -> tuple[SubscriptionRecord, ...]:
        """From whose deliveries the client is to be rescued; empty when it starts once more on this connection."""
        first_call, self._first_call = self._first_call, 0
        return cut_off(client.subscriptions, listed, first_call)

    @staticmethod
    def _keep(listed: Sequence[str], position: Position, rescued: tuple[SubscriptionRecord, ...]) -> KeepSubscriptions:
        return KeepSubscriptions(tuple(listed), position.wal, position.cancellation, _ids(rescued))

    def _started(
        self,
        request: pb.SatRpcRequest,
        client: ClientRecord,
        before: Sequence[Output],
        stream: StartStream,
        rescued: tuple[SubscriptionRecord, ...],
        *,
        misses_echoes: bool,
    ) -> list[Output]:
        """``misses_echoes``: those of what it uploaded last are among what the stream does not bring."""
        self._state = _State.STREAMING
        answer = pb.SatInStartReplicationResp(unacked_window_size=UNACKED_WINDOW)
        outputs: list[Output] = [*before, Send(rpc.success(request, answer))]
        uploading: list[Output] = []
        if not self._uploading and self._awaiting_start is None:
            # Without our own startReplication the client never uploads anything; at a second one it disconnects.
            self._sends_again = misses_echoes or client.echo_missed
            uploading = [Send(self._start_upload(b"" if self._sends_again else client.upload_lsn))]
        elif misses_echoes:
            self._sends_again = False  # until its next connection
        if not rescued:
            return [*outputs, *uploading, stream]
        self._rescue = Rescue(rescued, stream)
        if stream.repair is not None or stream.position is None:
            # The stream begins where the log is when it starts: echoes from before would be missed.
            for output in uploading:
                self._rescue.hold(output)
            uploading = []
        return [*outputs, *uploading, Hold(_ids(rescued), HELD_FOR)]

    def hold_is_over(self) -> list[Output]:
        """The client was held for as long as :class:`Hold` said."""
        if self._state is not _State.STREAMING or self._rescue is None:
            return []
        rescue, self._rescue = self._rescue, None
        outputs = rescue.give_up()
        if isinstance(outputs[-1], Close):
            self._state = _State.CLOSED
        return outputs

    def _start_error(self, request: pb.SatRpcRequest, code: _START_ERROR.Code.ValueType, message: str) -> _Refuse:
        error = _START_ERROR(code=code, message=message)
        answer = rpc.success(request, pb.SatInStartReplicationResp(err=error))
        refusal = _Refuse(answer, Close(1007, detail=f"startReplication: {message}"))
        listed = pb.SatInStartReplicationReq.FromString(request.message).subscription_ids
        if listed and code in _BEGIN_AFRESH:
            # It has all their data, and begins afresh without them: it must not be told then to let go of a delivery.
            refusal.outputs.insert(0, DropSubscriptions(tuple(listed)))
        return refusal

    def _resume_position(self, request: pb.SatRpcRequest, lsn: bytes) -> Position:
        """Where to go on."""
        try:
            position = self._world.positions.decode(lsn)
        except ForeignPosition:
            raise self._start_error(
                request, _START_ERROR.BEHIND_WINDOW, "The position belongs to another history of the database"
            ) from None
        except InvalidPosition:
            # Not MALFORMED_LSN: the client swallows that one and stays connected without replication for ever,
            # whereas INVALID_POSITION makes it start afresh.
            raise self._start_error(
                request, _START_ERROR.INVALID_POSITION, "Could not validate start replication request"
            ) from None
        if position.wal > self._world.head:
            raise self._behind(request)  # or before us: nothing we gave out
        return position

    def _behind(self, request: pb.SatRpcRequest) -> _Refuse:
        return self._start_error(request, _START_ERROR.BEHIND_WINDOW, "Cannot catch up to the server's current state")

    def _resume(self, request: pb.SatRpcRequest, client: ClientRecord, ids: Sequence[str], position: Position) -> None:
        # In the order in which they were made; of a cancelled one it has no rows, and lists it all the same.
        stored = {
            record.id: SubscriptionRecord(record.id, record.shapes_at(position.wal, position.cancellation))
            for record in client.subscriptions
        }
        try:
            self._subscriptions.resume(ids, stored, self._world.reopened_since(position.wal), position.wal)
        except UnknownSubscriptionError as unknown:
            # Also for one that stands for other rows by now: the client lets go of all it has and asks again.
            code = _START_ERROR.SUBSCRIPTION_NOT_FOUND
            raise self._start_error(request, code, f"Unknown subscription: {unknown}") from None

    def _start_upload(self, lsn: bytes) -> pb.SatRpcRequest:
        self._awaiting_start = self._server_request
        self._server_request += 1
        call = pb.SatInStartReplicationReq(lsn=lsn)
        return pb.SatRpcRequest(
            method=rpc.START_REPLICATION, request_id=self._awaiting_start, message=call.SerializeToString()
        )

    def _answer(self, response: pb.SatRpcResponse) -> list[Output]:
        expected = (
            response.method == rpc.START_REPLICATION
            and self._awaiting_start is not None
            and response.request_id == self._awaiting_start
        )
        if not expected:
            raise _protocol_error("an answer to no request")
        if response.WhichOneof("result") == "error":
            raise _protocol_error("the client refused to start uploading")
        self._awaiting_start = None
        self._uploading = True
        if self._uploads is not None:
            self._uploads.restart()
        return []

    def _stop(self, request: pb.SatRpcRequest) -> list[Output]:
        if not self.streaming:
            raise self._rpc_error(request, pb.SatErrorResp.INVALID_REQUEST, "replication is not started")
        self._state = _State.AUTHENTICATED
        if self._rescue is not None and self._rescue.holds_request:
            self._awaiting_start = None  # it was never sent
        self._rescue = None
        return [StopStream(), Send(rpc.success(request, pb.SatInStopReplicationResp()))]

    def _acknowledge(self, ack: pb.SatOpLogAck) -> list[Output]:
        if not self.streaming:
            return []
        try:
            position = self._world.positions.decode(ack.lsn)
        except (InvalidPosition, ForeignPosition):
            raise _protocol_error("acknowledged an invalid position") from None
        return [Acknowledge(position.wal)]

    # ---- subscriptions -------------------------------------------------------------------------------------------

    def _subscribe(self, request: pb.SatRpcRequest, call: pb.SatSubsReq) -> list[Output]:
        if not self.streaming:
            raise self._rpc_error(request, pb.SatErrorResp.INVALID_REQUEST, "subscribe before startReplication")
        if self._rescue is not None:
            if self._rescue.does_harm:
                return [*self.hold_is_over(), *self._subscribe(request, call)]
            return self._rescue.answer(request, call)
        answer = pb.SatSubsResp(subscription_id=call.subscription_id[:MAX_SUBSCRIPTION_ID_BYTES])
        error = self._subscriptions.why_not(call)
        if error is None:
            try:
                shapes = self._subscriptions.plan(call)
            except ShapesRefusedError as refused:
                look = LookAgain(tables=refused.misses_table, rights=self._subscriptions.role is not None)
                if self._asking is None and (look.tables or look.rights):
                    self._asking = request, call
                    return [look]
                error = refused.error
        if error is not None:
            answer.err.CopyFrom(error)
            return [Send(rpc.success(request, answer))]
        asked_for = tuple(shape.record for shape in shapes)
        record = SubscriptionRecord(call.subscription_id, asked_for, asked_by=request.request_id)
        self._subscriptions.add(record, shapes)
        return [Send(rpc.success(request, answer)), Deliver(record, shapes)]

    def looked_again(self) -> list[Output]:
        """What :class:`LookAgain` asked for is known as it was after that, if it could be had in time."""
        if self._state is _State.CLOSED or self._asking is None:
            return []
        try:
            return self._subscribe(*self._asking)
        finally:
            self._asking = None

    def _unsubscribe(self, request: pb.SatRpcRequest, call: pb.SatUnsubsReq) -> list[Output]:
        if not self.streaming:
            raise self._rpc_error(request, pb.SatErrorResp.INVALID_REQUEST, "unsubscribe before startReplication")
        gone = self._subscriptions.remove(call.subscription_ids)
        # Unknown ids too: after a reconnect the client cancels once more what it cancelled before, and waits.
        ids = tuple(call.subscription_ids)[:MAX_SUBSCRIPTIONS]
        answer, withdraw = Send(rpc.success(request, pb.SatUnsubsResp())), Withdraw(ids, gone)
        if self._rescue is None:
            return [answer, withdraw]
        if self._rescue.is_full:
            raise _protocol_error("too many calls while the stream is held back")
        self._rescue.hold(withdraw)
        return [answer]

    # ---- uploads -------------------------------------------------------------------------------------------------

    def _relation(self, message: pb.SatRelation) -> list[Output]:
        if self._uploads is None or not self._uploading:
            return []
        tables = self._world.tables
        given_up = {} if message.table_name in tables else self._given_up()
        try:
            self._uploads.relation(message, tables, given_up, self._world.suspended)
        except InvalidUpload as error:
            raise _protocol_error(error.message, error.message) from None
        return []

    def _given_up(self) -> dict[str, Table]:
        """Every table that migrations brought to clients. What is not among the world's was given up, or is stopped."""
        changes = (change for migration in self._world.migrations for change in migration.changes)
        return {change.table.name: change.table for change in changes if not isinstance(change, CreateEnum)}

    def _oplog(self, message: pb.SatOpLog) -> list[Output]:
        if self._uploads is None or not self._uploading:
            return []  # as the old service does: the client sends it again after our startReplication
        self._uploads.follow(self._world.tables, self._world.suspended)
        uploads, error = self._uploads.operations(message)
        outputs: list[Output] = [Write(replace(upload, echo_missed=self._sends_again)) for upload in uploads]
        if error is not None:
            self._state = _State.CLOSED
            outputs += _protocol_error("invalid upload", error.message, error.lsn).outputs
        return outputs


def _ids(subscriptions: Sequence[SubscriptionRecord]) -> tuple[str, ...]:
    return tuple(record.id for record in subscriptions)


def _usable_client_id(client_id: str) -> bool:
    """A client id becomes the origin of tags (``id@ms``), so it may hold no ``@``, and must not pass for Postgres."""
    return (
        len(client_id.encode("utf-8")) <= MAX_CLIENT_ID_BYTES
        and client_id.isprintable()
        and "@" not in client_id
        and not client_id.startswith("postgres_")
    )
