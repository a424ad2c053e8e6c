"""A client that keeps to the stock client's rules, down to its weaknesses, and complains of what it would stumble over.

It holds messages back while its calls to start and to subscribe are pending, remembers across restarts what the stock
client remembers and nothing else, acknowledges when the stock client does, lists cancelled subscriptions for ever, and
lets go of everything when the server sends what it cannot place. See docs/protocol.md.

Its writes have no effect on the device before they come back: concurrent changes are the subject of other tests.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import decode, encode
from memory_socket import MemorySocket
from random_shapes import Key, Schema, Shape, Write
from simulated_client_decoding import Operation, Violation, require
from simulated_client_inbound import Delivery, Inbound, Transaction
from simulated_client_outbox import Outbox, Upload
from simulated_client_store import Store
from simulated_client_subscriptions import Subscriptions

_START_ERROR = pb.SatInStartReplicationResp.ReplicationError

#: Answers to a call to start that make the client let go of everything and begin afresh.
_OUT_OF_SYNC = (_START_ERROR.BEHIND_WINDOW, _START_ERROR.INVALID_POSITION, _START_ERROR.SUBSCRIPTION_NOT_FOUND)


@dataclass(frozen=True)
class Copy:
    """A device as it was once."""

    store: Store
    outbox: tuple[Upload, ...]


@dataclass(frozen=True)
class Refusal:
    """The answer to a call to subscribe to ``shapes``. Times are those of ``time.time``."""

    shapes: tuple[Shape, ...]
    messages: tuple[str, ...]
    asked_at: float
    answered_at: float

    def __str__(self) -> str:
        return "; ".join(self.messages)


class SimulatedClient:
    """One device of one user. ``token`` lets it in; ``schema`` is what the app knows of the tables."""

    def __init__(self, client_id: str, user: str, token: str, schema: Schema) -> None:
        self.id = client_id
        self.user = user
        self._token = token
        self._schema = schema
        self.store = Store()
        self._subscriptions = Subscriptions()
        self._outbox = Outbox(client_id, schema, self._send, lambda table: self.store.columns(table))
        #: Ids of subscriptions whose rows are to be dropped when the server says so on this connection.
        self._awaited_gone: set[str] = set()
        self._request_ids_of: dict[str, set[str]] = {}
        self._delivery: Delivery | None = None
        self._delivery_of: Inbound | None = None
        self._lsn: bytes | None = None
        self._socket: MemorySocket | None = None
        #: Whether it was given another token on this connection.
        self._has_renewed = False
        self._inbound = Inbound(b"")
        self._numbers = itertools.count(1)
        self._calls: dict[tuple[str, int], Callable[[pb.SatRpcResponse], None]] = {}
        self._exclusive: deque[Callable[[], str]] = deque()
        self._locked_by: str | None = None
        self._held_back: deque[Message] = deque()
        self._recorded: set[str] = set()
        self._uuids = itertools.count(1)
        #: What came for each row, by table and key, for reports.
        self.received: dict[tuple[str, Key], list[str]] = defaultdict(list)
        self.failures: list[Exception] = []
        #: Whether its calls at the start of the connection are answered.
        self.online = False
        #: The codes with which the server refused to let it resume.
        self.resets: list[_START_ERROR.Code.ValueType] = []
        self.counts: dict[str, int] = {}
        self.refusals: list[Refusal] = []

    # ---- what the app does -----------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._socket is not None

    @property
    def subscriptions(self) -> list[str]:
        """Keys of the subscriptions that it has the rows of."""
        return self._subscriptions.held

    @property
    def shapes(self) -> list[Shape]:
        """Those whose rows it must have when all is quiet."""
        return [shape for key in self.subscriptions for shape in self._subscriptions.shapes[key]]

    @property
    def unsettled(self) -> str:
        """What it still waits for; empty when nothing."""
        waits = {
            "not online": not self.online,
            "calls": list(self._calls),
            "data": sorted(self._subscriptions.requested),
            "gone": sorted(self._awaited_gone),
            "echoes": [upload.number for upload in self._outbox.waiting],
        }
        return ", ".join(f"{name}: {what}" for name, what in waits.items() if what)

    def connect(self, socket: MemorySocket) -> None:
        require(self._socket is None, "connected twice")
        self._socket = socket
        self._inbound = Inbound(b"")
        self._has_renewed = False
        self._call(rpc.AUTHENTICATE, pb.SatAuthReq(id=self.id, token=self._token), self._authenticated)

    def renew(self, token: str) -> None:
        """The app has another token, and gives it to the service: on the connection that it has if that is possible,
        which it is once and when the calls at its start are answered, else on another."""
        self._token = token
        if self._socket is None:
            return
        if self._has_renewed or not self.online:
            self._socket.cut()
        else:
            self._has_renewed = True
            self._call(rpc.AUTHENTICATE, pb.SatAuthReq(id=self.id, token=token), self._renewed)

    @staticmethod
    def _renewed(response: pb.SatRpcResponse) -> None:
        require(not response.HasField("error"), f"not renewed: {response.error}")

    def disconnected(self) -> None:
        """The connection is lost, whoever is to blame."""
        self._socket = None
        self.online = False
        self._calls.clear()
        self._exclusive.clear()
        self._held_back.clear()
        self._locked_by = None
        self._awaited_gone.clear()
        self._outbox.close()
        self._subscriptions.fail_unanswered()

    def kill(self) -> None:
        """The process ends, and with it all that is not in the database."""
        if self._socket is not None:
            self._socket.cut()
        self._delivery = None
        self._request_ids_of.clear()
        self._numbers = itertools.count(1)
        self._lsn = self.store.remembered("lsn")

    def copied(self) -> Copy:
        return Copy(self.store.copy(), tuple(self._outbox.waiting))

    def put_back(self, copy: Copy) -> None:
        """The device becomes what it was when ``copy`` was made. It only does not number its writes anew: the service
        would take those for what it has written already."""
        self.kill()
        self.store.close()
        self.store = copy.store.copy()
        self._outbox.waiting = list(copy.outbox)
        self._lsn = self.store.remembered("lsn")

    def subscribe(self, shapes: Iterable[Shape]) -> str:
        key = f"s{next(self._uuids)}"
        self._subscriptions.shapes[key] = tuple(shapes)
        self._ask_for(key)
        return key

    def unsubscribe(self, keys: Iterable[str]) -> None:
        self._unsubscribe(self._subscriptions.ids_of(set(keys)))

    def write(self, writes: Iterable[Write]) -> None:
        """One transaction, sent as soon as may be."""
        self._outbox.add(writes, self.store.tags)

    # ---- calls ---------------------------------------------------------------------------------------------------

    def _send(self, message: Message) -> None:
        if self._socket is not None:
            self._socket.transmit(encode(message))

    def _call(self, method: str, request: Message, answered: Callable[[pb.SatRpcResponse], None]) -> None:
        number = next(self._numbers)
        self._calls[method, number] = answered
        self._send(pb.SatRpcRequest(method=method, request_id=number, message=request.SerializeToString()))

    def _call_exclusively(self, method: str, make: Callable[[], Message], answered: Callable[[Any], None]) -> None:
        """A call during which nothing but its answer is handled."""

        def begin() -> str:
            self._call(method, make(), answered)
            return method

        self._exclusive.append(begin)
        self._go_on()

    def _go_on(self) -> None:
        while self._locked_by is None:
            if self._held_back:
                self._handle(self._held_back.popleft())
            elif self._exclusive:
                self._locked_by = self._exclusive.popleft()()
            else:
                return

    def _authenticated(self, response: pb.SatRpcResponse) -> None:
        require(not response.HasField("error"), f"not let in: {response.error}")
        self._call_exclusively(rpc.START_REPLICATION, self._start_request, self._started)

    def _start_request(self) -> Message:
        self._subscriptions.read(self.store.remembered("subscriptions"))
        listed = self._subscriptions.ids_of(self._subscriptions.active)
        self._inbound = Inbound(self._lsn or b"")
        if self._lsn is None:
            require(not listed, "subscriptions without a position")
            request = pb.SatInStartReplicationReq(sql_dialect=pb.SatInStartReplicationReq.SQLITE)
            if self.store.version is not None:
                request.schema_version = self.store.version
            return request
        seen = [int(ref) for ref in (self.store.remembered("seen") or "").split(",") if ref]
        return pb.SatInStartReplicationReq(
            lsn=self._lsn,
            subscription_ids=listed,
            observed_transaction_data=seen,
            sql_dialect=pb.SatInStartReplicationReq.SQLITE,
        )

    def _started(self, response: pb.SatRpcResponse) -> None:
        require(not response.HasField("error"), f"not started: {response.error}")
        answer = pb.SatInStartReplicationResp.FromString(response.message)
        if answer.HasField("err"):
            require(answer.err.code in _OUT_OF_SYNC, f"not started: {answer.err}")
            self.resets.append(answer.err.code)
            self._reset()
            return
        self._inbound.window = answer.unacked_window_size
        pending = [key for key in self._subscriptions.known if key in self._subscriptions.unfulfilled]

        def go_on() -> None:
            for key in pending:
                self._ask_for(key)
            self.online = True

        cancelled = sorted(self._subscriptions.cancelled)
        if cancelled:
            self._unsubscribe(cancelled, go_on)
        else:
            go_on()

    def _ask_for(self, key: str) -> None:
        self._subscriptions.ask(key)
        shapes = self._subscriptions.shapes[key]
        id_ = str(UUID(int=Random(f"{self.id}/{key}/{next(self._uuids)}").getrandbits(128), version=4))
        request = pb.SatSubsReq(subscription_id=id_)
        for number, shape in enumerate(shapes):
            definition = pb.SatShapeDef(selects=[_select(shape)])
            request.shape_requests.add(request_id=f"{id_}/{number}", shape_definition=definition)
        self._request_ids_of[id_] = {shape.request_id for shape in request.shape_requests}

        def answered(response: pb.SatRpcResponse) -> None:
            require(not response.HasField("error"), f"not subscribed: {response.error}")
            answer = pb.SatSubsResp.FromString(response.message)
            require(answer.subscription_id in self._request_ids_of, "a subscription that was not asked for")
            if self._delivery_to_let_go_of(answer):
                return
            require(answer.subscription_id == id_, "another subscription than asked for")
            if answer.HasField("err"):
                self._refused(key, id_, Refusal(shapes, _reasons(answer.err), asked_at[0], time.time()))
                return
            self._subscriptions.known[key] = id_
            self._remember_subscriptions()

        def asked() -> Message:
            asked_at.append(time.time())
            return request

        asked_at: list[float] = []
        self._call_exclusively(rpc.SUBSCRIBE, asked, answered)

    def _refused(self, key: str, id_: str, refusal: Refusal) -> None:
        del self._request_ids_of[id_]
        self._subscriptions.forget(key)
        self.refusals.append(refusal)
        self._count("refusals")

    def _delivery_to_let_go_of(self, answer: pb.SatSubsResp) -> bool:
        """Whether it is told that a delivery was cut off. Then it forgets that and connects anew."""
        if answer.err.code != answer.err.SUBSCRIPTION_ID_ALREADY_EXISTS:
            return False
        del self._request_ids_of[answer.subscription_id]
        if self._delivery is not None and self._delivery.id == answer.subscription_id:
            self._delivery = None
            self._count("rescued deliveries")
        self._count("rescues")
        if self._socket is not None:
            self._socket.cut()
        return True

    def _unsubscribe(self, ids: list[str], then: Callable[[], None] = lambda: None) -> None:
        def answered(response: pb.SatRpcResponse) -> None:
            require(not response.HasField("error"), f"not unsubscribed: {response.error}")
            self._subscriptions.cancelled.update(ids)
            self._remember_subscriptions()
            then()

        self._awaited_gone.update(ids)
        self._call(rpc.UNSUBSCRIBE, pb.SatUnsubsReq(subscription_ids=ids), answered)

    def _remember_subscriptions(self) -> None:
        self.store.remember("subscriptions", self._subscriptions.written())

    def _reset(self) -> None:
        """Lets go of all rows, and of all subscriptions: the stock client means to keep those, and forgets them.

        Here it differs: the stock client keeps what came along because others refer to it, which nobody can tell from
        what belongs to the app, and which is then not replaced when it comes again.
        """
        self._subscriptions.clear()
        self._delivery = None
        self._lsn = None
        self.store.reset(self._schema.tables, self._subscriptions.written())
        self._count("resets")
        if self._socket is not None:
            self._socket.cut()

    # ---- what arrives ----------------------------------------------------------------------------------------------

    def hand_over(self, payload: bytes) -> None:
        """The next message of the server. What is wrong with it is kept for whoever looks for failures."""
        try:
            self._take(decode(payload))
        except Exception as failure:
            failure.add_note(f"at {self.id}")
            self.failures.append(failure)

    def _take(self, message: Message) -> None:
        is_awaited = isinstance(message, pb.SatRpcResponse) and message.method == self._locked_by
        if (self._locked_by is not None or self._held_back) and not is_awaited:
            self._held_back.append(message)
        else:
            self._handle(message)
        self._go_on()

    def pinged(self) -> None:
        """The server's ping has come, and with it whatever it sent before."""
        self._recorded.update(id_ for id_ in self._subscriptions.known.values() if id_ is not None)

    def _handle(self, message: Message) -> None:
        if self._socket is None:
            return  # let go of the connection while messages were held back
        match message:
            case pb.SatRpcResponse():
                answered = self._calls.pop((message.method, message.request_id), None)
                require(answered is not None, f"an answer to no call: {message.method}")
                assert answered is not None
                require(message.WhichOneof("result") is not None, "an answer with neither message nor error")
                answered(message)
                if message.method == self._locked_by:
                    self._locked_by = None
            case pb.SatRpcRequest():
                self._asked(message)
            case pb.SatRelation():
                self._inbound.relations.announce(message)
            case pb.SatOpLog():
                self._operations(message)
            case pb.SatSubsDataBegin():
                self._begin_delivery(message)
            case pb.SatShapeDataBegin():
                delivery = self._delivering
                require(delivery.shape is None and message.request_id in delivery.missing, "a shape out of place")
                delivery.shape = message.request_id
            case pb.SatShapeDataEnd():
                delivery = self._delivering
                require(delivery.shape is not None, "the end of no shape")
                delivery.missing.discard(delivery.shape or "")
                delivery.shape = None
            case pb.SatSubsDataEnd():
                self._end_delivery()
            case pb.SatUnsubsDataBegin():
                require(self._delivery is None or self._is_stale, "a GONE batch in initial data")
                require(self._inbound.transaction is None, "a GONE batch in a transaction")
                require(self._inbound.gone_ids is None, "a GONE batch within a GONE batch")
                self._inbound.reach(message.lsn, again=True)
                self._inbound.gone_ids = list(message.subscription_ids)
                self._inbound.last_lsn = message.lsn
            case pb.SatUnsubsDataEnd():
                self._end_gone_batch()
            case _:
                raise Violation(f"{type(message).__name__}: {message}")

    def _operations(self, message: pb.SatOpLog) -> None:
        inbound = self._inbound
        if inbound.gone_ids is not None:
            inbound.gone += inbound.relations.operations(message.ops, "gone")
        elif self._delivery is not None:
            if self._delivery.shape is None or self._is_stale:
                self._give_up_on_stale_delivery()
                return
            for op in message.ops:
                require(op.WhichOneof("op") == "insert", f"{op.WhichOneof('op')} in initial data")
            self._delivery.operations += message.ops
        else:
            for op in message.ops:
                self._operation(op)

    def _operation(self, op: pb.SatTransOp) -> None:
        inbound = self._inbound
        match op.WhichOneof("op"):
            case "begin":
                require(inbound.transaction is None and inbound.additional is None, "begin within a transaction")
                require(op.begin.HasField("transaction_id") and op.begin.origin, f"incomplete begin: {op}")
                self._inbound.reach(op.begin.lsn, again=False)
                inbound.transaction = Transaction(op.begin)
            case "commit":
                transaction, inbound.transaction = inbound.transaction, None
                require(transaction is not None, "commit without begin")
                assert transaction is not None
                self._apply(transaction)
            case "additional_begin":
                require(inbound.transaction is None and inbound.additional is None, "additional data within others")
                inbound.additional = []
            case "additional_commit":
                additional, inbound.additional = inbound.additional, None
                require(additional is not None and self._lsn is not None, "the end of no additional data")
                self._add_additional(additional or [], op.additional_commit.ref)
            case "migrate":
                require(inbound.transaction is not None, "migrate without begin")
                assert inbound.transaction is not None
                inbound.transaction.migrations.append(op.migrate)
            case _:
                operation = inbound.relations.operation(op)
                if inbound.additional is not None:
                    require(operation.kind == "insert", f"{operation.kind} in additional data")
                    inbound.additional.append(operation)
                else:
                    require(inbound.transaction is not None, f"{operation.kind} without begin")
                    assert inbound.transaction is not None
                    inbound.transaction.operations.append(operation)

    def _apply(self, transaction: Transaction) -> None:
        begin, inbound = transaction.begin, self._inbound
        if begin.origin == self.id:
            self._outbox.came_back(begin.commit_timestamp)
        if transaction.migrations:
            require(not transaction.operations, "rows in a transaction with a migration")
            versions = {migration.version for migration in transaction.migrations}
            require(len(versions) == 1 and all(re.match("[0-9_]+", one) for one in versions), f"versions {versions}")
            (version,) = versions
            if not self.store.has_migration(version):
                statements = [stmt.sql for migration in transaction.migrations for stmt in migration.stmts]
                self.store.migrate(version, statements, begin.lsn)
                self._count("migrations")
        else:
            self.store.apply(transaction.operations, begin.lsn)
            self._note(f"{begin.lsn.decode()} of {begin.origin}", transaction.operations)
            self._count("transactions")
            for operation in transaction.operations:
                self._count(operation.kind)
        self.store.remember("seen", "")
        self._lsn = begin.lsn
        inbound.applied(begin)
        self._acknowledge(at_once=False)

    def _add_additional(self, operations: list[Operation], ref: int) -> None:
        assert self._lsn is not None
        self.store.add_initial(operations, self._lsn)
        self._note(f"additional data {ref}", operations)
        self.store.remember("seen", f"{self.store.remembered('seen') or ''},{ref}")
        self._inbound.seen.additional.append(ref)
        self._acknowledge(at_once=True)

    # ---- initial data ----------------------------------------------------------------------------------------------

    @property
    def _delivering(self) -> Delivery:
        if self._delivery is None:
            raise Violation("a part of initial data outside of it")
        return self._delivery

    def _begin_delivery(self, message: pb.SatSubsDataBegin) -> None:
        require(self._inbound.transaction is None and self._inbound.gone_ids is None, "initial data in between")
        if self._delivery is not None:
            require(self._is_stale, "initial data within initial data")
            self._give_up_on_stale_delivery()
            return
        id_ = message.subscription_id
        require(id_ in self._request_ids_of, "initial data of an unknown subscription")
        require(id_ in self._recorded, "initial data that may arrive together with the answer to the call")
        self._inbound.reach(message.lsn, again=True)
        self._delivery = Delivery(id_, message.lsn, set(self._request_ids_of[id_]))
        self._delivery_of = self._inbound

    @property
    def _is_stale(self) -> bool:
        """Whether the delivery under way is of an earlier connection."""
        return self._delivery_of is not self._inbound

    def _give_up_on_stale_delivery(self) -> None:
        """The stock client does not notice that a delivery was cut off, takes what follows for a part of it, and lets
        go of everything."""
        require(self._is_stale, "operations outside of any shape")
        self._count("stale deliveries")
        self._reset()

    def _end_delivery(self) -> None:
        delivery, self._delivery = self._delivering, None
        require(not delivery.missing and delivery.shape is None, f"shapes not delivered: {delivery.missing}")
        del self._request_ids_of[delivery.id]
        operations = self._inbound.relations.operations(delivery.operations, "insert")
        key = self._subscriptions.key_of(delivery.id)
        require(key is not None, "Data received for an unknown subscription")
        assert key is not None
        self._subscriptions.deliver(key)
        self.store.add_initial(operations, delivery.lsn, self._subscriptions.written())
        self._note(f"{delivery.lsn.decode()} initial data of {key}", operations)
        self._lsn = delivery.lsn
        self._count("deliveries")
        self._count("initial rows", len(operations))
        self._inbound.seen.subscriptions.append(delivery.id)
        self._acknowledge(at_once=True)

    def _end_gone_batch(self) -> None:
        inbound = self._inbound
        require(inbound.gone_ids is not None, "the end of no GONE batch")
        ids, operations = inbound.gone_ids or [], inbound.gone
        inbound.gone_ids, inbound.gone = None, []
        # one SQL expression, and SQLite refuses those deeper than a thousand
        require(len(operations) < 1000, f"a GONE batch of {len(operations)} rows")
        self.store.drop(operations, inbound.last_lsn)
        self._note(f"{inbound.last_lsn.decode()} batch for {ids}", operations)
        self._lsn = inbound.last_lsn
        self._count("gone batches")
        self._count("gone rows", len(operations))
        for id_ in ids:
            self._awaited_gone.discard(id_)
            self._subscriptions.drop(id_)
        inbound.seen.gone += ids
        self._acknowledge(at_once=True)

    # ---- acknowledgements and uploads ------------------------------------------------------------------------------

    def _acknowledge(self, *, at_once: bool) -> None:
        ack = self._inbound.acknowledgement(at_once=at_once)
        if ack is not None:
            self._send(ack)

    def _asked(self, request: pb.SatRpcRequest) -> None:
        require(request.method == rpc.START_REPLICATION, f"asked to {request.method}")
        require(not self._outbox.is_open, "asked to start uploading once more")
        call = pb.SatInStartReplicationReq.FromString(request.message)
        answer = pb.SatRpcResponse(method=request.method, request_id=request.request_id)
        answer.message = pb.SatInStartReplicationResp().SerializeToString()
        self._send(answer)
        self._outbox.open(call.lsn)

    def _note(self, occasion: str, operations: Iterable[Operation]) -> None:
        for operation in operations:
            what = f"{occasion}: {operation.kind} {operation.new or ''} {operation.tags}"
            self.received[operation.relation.table, operation.key].append(what)

    def _count(self, what: str, times: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + times


def _reasons(error: pb.SatSubsResp.SatSubsError) -> tuple[str, ...]:
    return tuple(one.message for one in error.shape_request_error) or (error.message,)


def _select(shape: Shape) -> pb.SatShapeDef.Select:
    select = pb.SatShapeDef.Select(tablename=shape.table, where=shape.where)
    for column, other in shape.includes:
        select.include.add(foreign_key=[column], select=_select(other))
    return select
