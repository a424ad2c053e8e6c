"""One socket that behaves as the stock client does on the wire, and decodes no more of what comes than it must.

What all clients of a fleet get alike is understood once, by its bytes (:class:`Inbox`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf.message import Message

from benchmarks.load.inbox import Inbox, Operation
from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import decode, encode
from raw_websocket import FrameReader, client_frame, is_binary, is_close, is_ping, pong

#: From this transaction of a connection on the stock client acknowledges each (70 % of a window of 30).
FIRST_ACKNOWLEDGED = 21

_OPLOG = 9


class Lost(Exception):
    """The connection ended: with the close code and the reason that were sent, if any."""


class Refused(Exception):
    """The service answered that it will not; the connection stays."""


class OutOfSync(Lost):
    """The service would have it start afresh."""


def subscription_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def apply(operations: Iterable[Operation], rows: dict[bytes, tuple[bytes, ...]]) -> None:
    for key, row in operations:
        if row is None:
            rows.pop(key, None)
        else:
            rows[key] = row


@dataclass(frozen=True, slots=True)
class Filter:
    """A table that is subscribed to, and which rows of it."""

    table: str
    where: str = ""


class LoadClient(asyncio.Protocol):
    """``on_transactions`` is told how many transactions came, each time some came."""

    def __init__(self, inbox: Inbox, on_transactions: Callable[[LoadClient, int], None], *, bare: bool = False) -> None:
        """A ``bare`` client gets frames from the first byte on, and says nothing."""
        self._inbox = inbox
        self._on_transactions = on_transactions
        self._reader = FrameReader()
        self._head = bytearray()
        self._upgraded = bare
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Message] | None = None
        self._request = 0
        self._uploading: asyncio.Future[bytes] = self._loop.create_future()
        self._delivered = asyncio.Event()
        self._delivering = False
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._close = ""
        self.transport: asyncio.Transport
        self.client_id = ""
        #: Since the connection began.
        self.transactions = 0
        #: Since the fleet began to count.
        self.counted = 0
        self.acknowledges = not bare
        #: Told how many of its own writes came back.
        self.on_echoes: Callable[[int], None] = lambda number: None
        #: What it was told when it was refused a subscription.
        self.refused = ""
        #: Initial data as it came, in messages: not decoded.
        self.initial: list[bytes] = []
        #: By key, if rows are kept.
        self.rows: dict[bytes, tuple[bytes, ...]] | None = None
        #: Where it would resume.
        self.lsn = b""

    # ---- asyncio -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._upgraded:
            self._head += data
            head, end, data = bytes(self._head).partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head[:20]:
                self._close = head.split(b"\r\n", 1)[0].decode("latin-1")
                self.transport.close()
                return
            self._upgraded = True
            self._resolve(pb.SatRpcResponse())
        transactions = echoes = 0
        acknowledgements: list[bytes] = []
        for first, payload in self._reader.frames(data):
            if is_binary(first):
                if payload[0] != _OPLOG:
                    self._take(payload)
                elif self._delivering:
                    self.initial.append(payload)
                else:
                    came = self._inbox.understand(payload)
                    if self.rows is not None:
                        apply(came.operations, self.rows)
                    for commit in came.commits:
                        transactions += 1
                        self.lsn = commit.lsn
                        echoes += commit.origin == self.client_id
                        if self.transactions + transactions >= FIRST_ACKNOWLEDGED:
                            acknowledgements.append(commit.acknowledgement)
            elif is_ping(first):
                self.transport.write(pong(payload))
            elif is_close(first):
                self._close = f"{int.from_bytes(payload[:2], 'big')} {payload[2:].decode()}"
        if acknowledgements and self.acknowledges:
            self.transport.write(b"".join(acknowledgements))
        if echoes:
            self.on_echoes(echoes)
        if transactions:
            self.transactions += transactions
            self.counted += transactions
            self._on_transactions(self, transactions)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result(None)
        for expected in (self._answer, self._uploading):
            if expected is not None and not expected.done():
                expected.set_exception(Lost(self._close or repr(exc)))
                expected.exception()  # nobody may be waiting any more

    # ---- the conversation ----------------------------------------------------------------------------------------

    @property
    def lost(self) -> str | None:
        """Why the connection ended; ``None`` while it is there."""
        return (self._close or "without a close frame") if self._lost.done() else None

    async def upgraded(self, request: bytes) -> None:
        await self._expect(request)

    async def authenticate(self, token: str, client_id: str) -> None:
        self.client_id = client_id
        await self._call(rpc.AUTHENTICATE, pb.SatAuthReq(id=client_id, token=token))

    async def start(self, lsn: bytes = b"", subscriptions: Sequence[str] = ()) -> bytes:
        """Starts replication both ways, from nothing or where it was; returns how far the service has what it wrote.

        Raises:
            OutOfSync: it cannot resume there.
        """
        self.lsn = lsn
        call = pb.SatInStartReplicationReq(lsn=lsn, subscription_ids=subscriptions)
        answer = pb.SatInStartReplicationResp.FromString(await self._call(rpc.START_REPLICATION, call))
        if answer.HasField("err"):
            raise OutOfSync(answer.err.message)
        return await self._uploading

    async def subscribe(self, filters: Sequence[Filter], number: int = 1) -> None:
        """Returns once all the initial data is there."""
        shapes = [
            pb.SatShapeReq(
                request_id=str(at),
                shape_definition=pb.SatShapeDef(
                    selects=[pb.SatShapeDef.Select(tablename=each.table, where=each.where)]
                ),
            )
            for at, each in enumerate(filters)
        ]
        subscription = subscription_id(number)
        self._delivered.clear()
        answer = pb.SatSubsResp.FromString(
            await self._call(rpc.SUBSCRIBE, pb.SatSubsReq(subscription_id=subscription, shape_requests=shapes))
        )
        if answer.HasField("err"):
            raise Refused(str(answer.err))
        waiting = asyncio.ensure_future(self._delivered.wait())
        waits: set[asyncio.Future[Any]] = {waiting, self._lost}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            raise Lost(self._close)

    def send(self, *messages: Message) -> None:
        self.transport.write(b"".join(client_frame(encode(message)) for message in messages))

    async def _call(self, method: str, request: Message) -> bytes:
        self._request += 1
        call = pb.SatRpcRequest(method=method, request_id=self._request, message=request.SerializeToString())
        answer = await self._expect(client_frame(encode(call)))
        if not isinstance(answer, pb.SatRpcResponse) or answer.WhichOneof("result") != "message":
            raise Lost(str(answer))
        return answer.message

    async def _expect(self, wire: bytes) -> Message:
        if self._lost.done():
            raise Lost(self._close)
        self._answer = self._loop.create_future()
        self.transport.write(wire)
        return await self._answer

    def _resolve(self, message: Message) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(message)

    def _take(self, payload: bytes) -> None:
        match decode(payload):
            case pb.SatRpcResponse() | pb.SatErrorResp() as message:
                self._resolve(message)
            case pb.SatRpcRequest() as call:
                done = pb.SatInStartReplicationResp().SerializeToString()
                self.send(pb.SatRpcResponse(method=call.method, request_id=call.request_id, message=done))
                self._uploading.set_result(pb.SatInStartReplicationReq.FromString(call.message).lsn)
            case pb.SatSubsDataBegin() as begin:
                self._delivering = True
                self.lsn = begin.lsn
            case pb.SatSubsDataEnd():
                self._delivering = False
                self._delivered.set()
