"""The wire half of a simulated client: one connection after the other, as the published client has them.

Each connection authenticates, resumes where the last one ended or begins anew, and lets the device's transactions out
once the server asks for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from google.protobuf.message import Message
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from convergence.device import Device, Entry, Incoming, RowName, Values
from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import decode, encode
from leyden.satellite.rows import pack, unpack

#: Transactions since it connected, from which on the client acknowledges each.
ACKNOWLEDGED_FROM = 21

#: Wait before it connects again (seconds).
RETRY = 0.05


class Link:
    """Keeps ``device`` in step with the service at ``url``. ``token`` makes a token when one is needed."""

    def __init__(self, device: Device, url: str, token: Callable[[], str]) -> None:
        self.device = device
        self.connections = 0
        #: How often each transaction was sent, by timestamp.
        self.sent: Counter[int] = Counter()
        self._url = url
        self._token = token
        self._lsn = b""
        self._subscription: str | None = None
        #: The last ones with their rows of the oplog and timestamps, to be sent again now and then.
        self._payloads: deque[tuple[int, int, bytes]] = deque(maxlen=3)
        self._socket: ClientConnection | None = None
        self._running: asyncio.Task[None] | None = None
        #: The last oplog row sent on this connection; ``None`` while the server has not asked.
        self._sent_to: int | None = None
        self._pushing = asyncio.Lock()
        #: Set while the device holds the rows of its subscription and is connected.
        self.synced = asyncio.Event()

    # ---- going online and offline --------------------------------------------------------------------------------

    @property
    def online(self) -> bool:
        return self._running is not None

    def connect(self) -> None:
        """Raises what ended the connection, if it was no mishap of the network."""
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        elif self._running.done():
            self._running.result()

    async def disconnect(self) -> None:
        """Abruptly: what is on its way may or may not arrive."""
        if self._running is None:
            return
        running, self._running = self._running, None
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.transport.abort()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        self._lost()

    def _lost(self) -> None:
        self._socket = None
        self._sent_to = None
        self.synced.clear()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(OSError, ConnectionClosed, InvalidHandshake, EOFError, TimeoutError):
                async with connect(
                    self._url,
                    subprotocols=[Subprotocol("electric.0.12")],
                    compression=None,
                    ping_interval=None,
                    max_size=None,
                ) as socket:
                    self._socket = socket
                    self.connections += 1
                    await _Conversation(self, socket).run()
            self._lost()
            await asyncio.sleep(RETRY)

    # ---- sending -------------------------------------------------------------------------------------------------

    async def push(self) -> None:
        """Send what the device has stamped and the server has not been sent yet."""
        async with self._pushing:
            socket = self._socket
            if socket is None or self._sent_to is None:
                return
            for timestamp, entries in list(self.device.transactions(self._sent_to)):
                self._sent_to = entries[-1].rowid
                payload = encode(self._oplog(timestamp, entries))
                self.sent[timestamp] += 1
                self._payloads.append((entries[-1].rowid, timestamp, payload))
                try:
                    await socket.send(payload)
                except ConnectionClosed:
                    return  # it is sent again on the next connection

    async def repeat(self) -> None:
        """Send the last transactions once more."""
        socket = self._socket
        if socket is not None and self._sent_to is not None:
            for rowid, timestamp, payload in tuple(self._payloads):
                if rowid <= self._sent_to:
                    self.sent[timestamp] += 1
                    with contextlib.suppress(ConnectionClosed):
                        await socket.send(payload)

    async def start_upload(self, socket: ClientConnection, lsn: bytes) -> None:
        for number, table in enumerate(self.device.schema):
            columns = [
                pb.SatRelationColumn(name=name, type="TEXT", is_nullable=name != "id")
                for name in self.device.schema[table].columns
            ]
            await socket.send(
                encode(pb.SatRelation(schema_name="public", table_name=table, relation_id=number, columns=columns))
            )
        self._sent_to = int.from_bytes(lsn, "big")
        await self.push()

    def _oplog(self, timestamp: int, entries: Sequence[Entry]) -> pb.SatOpLog:
        lsn = entries[-1].rowid.to_bytes(4, "big")
        ops = [pb.SatTransOp(begin=pb.SatOpBegin(commit_timestamp=timestamp, lsn=lsn))]
        ops += [self._operation(entry) for entry in entries]
        return pb.SatOpLog(ops=[*ops, pb.SatTransOp(commit=pb.SatOpCommit())])

    def _operation(self, entry: Entry) -> pb.SatTransOp:
        table = entry.name[0]
        relation = list(self.device.schema).index(table)

        def row(values: Values) -> pb.SatOpRow:
            given = (values.get(column) for column in self.device.schema[table].columns)
            return pack([None if value is None else value.encode() for value in given])

        tags = entry.tags
        match entry.kind:
            case "INSERT":
                return pb.SatTransOp(insert=pb.SatOpInsert(relation_id=relation, row_data=row(entry.new), tags=tags))
            case "UPDATE":
                old, new = row(entry.old), row(entry.new)
                return pb.SatTransOp(
                    update=pb.SatOpUpdate(relation_id=relation, row_data=new, old_row_data=old, tags=tags)
                )
            case "DELETE":
                return pb.SatTransOp(
                    delete=pb.SatOpDelete(relation_id=relation, old_row_data=row(entry.old), tags=tags)
                )
        return pb.SatTransOp(compensation=pb.SatOpCompensation(relation_id=relation, pk_data=row(entry.new), tags=tags))


class _Conversation:
    """One connection."""

    def __init__(self, link: Link, socket: ClientConnection) -> None:
        self._link = link
        self._socket = socket
        self._requests = 0
        self._relations: dict[int, tuple[str, tuple[str, ...]]] = {}
        self._begin: pb.SatOpBegin | None = None
        self._operations: list[Incoming] = []
        self._transactions = 0
        #: What came before the answer that is waited for: the client looks at it afterwards.
        self._held: list[Message] = []
        self._initial: list[tuple[RowName, Values, tuple[str, ...]]] | None = None

    async def run(self) -> None:
        link = self._link
        client = link.device.client_id
        await self._call(rpc.AUTHENTICATE, pb.SatAuthReq(id=client, token=link._token()))
        start = pb.SatInStartReplicationReq(lsn=link._lsn)
        if link._lsn and link._subscription:
            start.subscription_ids.append(link._subscription)
        answer = pb.SatInStartReplicationResp.FromString(await self._call(rpc.START_REPLICATION, start))
        if answer.HasField("err"):
            # Behind the window, say: it starts afresh, and keeps what it has not sent.
            link._lsn, link._subscription = b"", None
            link.device.reset()
            return
        if link._subscription is None:
            await self._subscribe()
        else:
            link.synced.set()
        while True:
            await self._take(self._held.pop(0) if self._held else await self._receive())

    async def _subscribe(self) -> None:
        shapes = [
            pb.SatShapeReq(
                request_id=table,
                shape_definition=pb.SatShapeDef(selects=[pb.SatShapeDef.Select(tablename=table)]),
            )
            for table in self._link.device.schema
        ]
        asked = str(uuid.uuid4())
        answer = pb.SatSubsResp.FromString(
            await self._call(rpc.SUBSCRIBE, pb.SatSubsReq(subscription_id=asked, shape_requests=shapes))
        )
        assert not answer.HasField("err"), answer.err.message

    async def _receive(self) -> Message:
        payload = await self._socket.recv()
        assert isinstance(payload, bytes)
        return decode(payload)

    async def _call(self, method: str, request: Message) -> bytes:
        self._requests += 1
        call = pb.SatRpcRequest(method=method, request_id=self._requests, message=request.SerializeToString())
        await self._socket.send(encode(call))
        async with asyncio.timeout(30):
            while True:
                message = await self._receive()
                if isinstance(message, pb.SatRpcResponse) and message.request_id == self._requests:
                    assert message.WhichOneof("result") == "message", message.error.message
                    return message.message
                self._held.append(message)

    async def _take(self, message: Message) -> None:
        match message:
            case pb.SatRpcRequest(method=rpc.START_REPLICATION):
                asked = pb.SatInStartReplicationReq.FromString(message.message)
                answer = pb.SatInStartReplicationResp().SerializeToString()
                await self._socket.send(
                    encode(pb.SatRpcResponse(method=message.method, request_id=message.request_id, message=answer))
                )
                await self._link.start_upload(self._socket, asked.lsn)
            case pb.SatRelation():
                columns = tuple(column.name for column in message.columns)
                self._relations[message.relation_id] = message.table_name, columns
            case pb.SatSubsDataBegin():
                self._initial = []
                self._link._lsn, self._link._subscription = message.lsn, message.subscription_id
            case pb.SatSubsDataEnd():
                assert self._initial is not None
                self._link.device.initial(self._initial)
                self._initial = None
                self._link.synced.set()
            case pb.SatOpLog() if self._initial is not None:
                for op in self._read(message.ops):
                    self._initial.append((op.name, op.new, op.tags))
            case pb.SatOpLog():
                await self._transaction(message.ops)
            case pb.SatErrorResp():
                raise AssertionError(f"the server complains: {message}")

    async def _transaction(self, ops: Iterable[pb.SatTransOp]) -> None:
        for op in ops:
            match op.WhichOneof("op"):
                case "begin":
                    assert self._begin is None
                    self._begin, self._operations = op.begin, []
                case "commit":
                    begin, self._begin = self._begin, None
                    assert begin is not None
                    # The client collects what was echoed and then applies, both before it looks at the next message.
                    self._link.device.apply(begin.origin, begin.commit_timestamp, self._operations)
                    self._link._lsn = begin.lsn
                    await self._link.push()
                    self._transactions += 1
                    if self._transactions >= ACKNOWLEDGED_FROM:
                        ack = pb.SatOpLogAck(lsn=begin.lsn, transaction_id=begin.transaction_id)
                        await self._socket.send(encode(ack))
                case "migrate":
                    pass
                case _:
                    self._operations += self._read([op])

    def _read(self, ops: Iterable[pb.SatTransOp]) -> list[Incoming]:
        return [self._read_one(op) for op in ops]

    def _read_one(self, op: pb.SatTransOp) -> Incoming:
        match op.WhichOneof("op"):
            case "insert":
                name, new = self._row(op.insert.relation_id, op.insert.row_data)
                return Incoming("INSERT", name, new, {}, tuple(op.insert.tags))
            case "update":
                name, new = self._row(op.update.relation_id, op.update.row_data)
                _, old = self._row(op.update.relation_id, op.update.old_row_data)
                return Incoming("UPDATE", name, new, old, tuple(op.update.tags))
            case "delete":
                name, old = self._row(op.delete.relation_id, op.delete.old_row_data)
                return Incoming("DELETE", name, {}, old, tuple(op.delete.tags))
            case "gone":
                name, _ = self._row(op.gone.relation_id, op.gone.pk_data)
                return Incoming("GONE", name, {}, {})
        raise AssertionError(f"an operation that no client expects: {op}")

    def _row(self, relation: int, row: pb.SatOpRow) -> tuple[RowName, Values]:
        table, columns = self._relations[relation]
        cells = unpack(row, len(columns))
        values = {c: None if v is None else v.decode() for c, v in zip(columns, cells, strict=True)}
        return (table, values["id"] or ""), values
