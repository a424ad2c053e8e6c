"""A real service in this process, and raw speakers of the protocol at the other end of its WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

import uvicorn
from google.protobuf.message import Message
from joserfc.jwk import OctKey
from starlette.applications import Starlette
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

import secrecy
from leyden.auth import ALGORITHMS, mint_token
from leyden.config import Settings
from leyden.edge.websocket.server import uvicorn_config
from leyden.events import Event, UnexpectedError
from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import decode, encode
from leyden.service import Service, service_app

SECRET = "k7!" * 30
SUBSCRIPTION = "00000000-0000-4000-8000-00000000000a"
HS256 = ALGORITHMS["HS256"]


def token(user: str = "alice", *, lifetime: float = 600, **claims: object) -> str:
    now = int(time.time())
    content = {"sub": user, "iat": now - 60, "exp": now + int(lifetime), **claims}
    return mint_token(content, algorithm=HS256, key=OctKey.import_key(SECRET.encode()))


class Speaker:
    """Speaks the protocol over one WebSocket, without a client's manners."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self._ids = itertools.count(1)
        #: The position that came with the last subscription, or with the end of one.
        self.lsn = b""

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator[Self]:
        async with connect(url, subprotocols=["electric.0.12"], compression=None, ping_interval=None) as websocket:
            yield cls(websocket)

    async def send(self, message: Message) -> None:
        await self.websocket.send(encode(message))

    async def receive(self) -> Message:
        async with asyncio.timeout(10):  # `wait_for` swallows a cancellation that comes together with a message (3.11)
            payload = await self.websocket.recv()
        assert isinstance(payload, bytes)
        return decode(payload)

    async def until(self, kind: type[Message]) -> list[Any]:
        """The messages up to the next of ``kind``."""
        received = [await self.receive()]
        while not isinstance(received[-1], kind):
            received.append(await self.receive())
        return received

    async def call(self, method: str, request: Message) -> pb.SatRpcResponse:
        number = next(self._ids)
        await self.send(pb.SatRpcRequest(method=method, request_id=number, message=request.SerializeToString()))
        return (await self.until(pb.SatRpcResponse))[-1]

    async def authenticate(self, token: str, client: str = "device-a") -> pb.SatRpcResponse:
        return await self.call(rpc.AUTHENTICATE, pb.SatAuthReq(id=client, token=token))

    async def start(self, **fields: Any) -> None:
        answer = await self.call(rpc.START_REPLICATION, pb.SatInStartReplicationReq(**fields))
        assert answer.WhichOneof("result") == "message"
        assert not pb.SatInStartReplicationResp.FromString(answer.message).HasField("err")

    async def subscribe(self, table: str, where: str = "", number: int = 1) -> list[str]:
        """The first column of the rows that are delivered for ``table``. Subscriptions differ in their ``number``."""
        shape = pb.SatShapeDef(selects=[pb.SatShapeDef.Select(tablename=table, where=where)])
        request = pb.SatSubsReq(
            subscription_id=SUBSCRIPTION if number == 1 else f"{SUBSCRIPTION[:-1]}{number}",
            shape_requests=[pb.SatShapeReq(request_id="1", shape_definition=shape)],
        )
        await self.call(rpc.SUBSCRIBE, request)
        messages = await self.until(pb.SatSubsDataEnd)
        self.lsn = next(message.lsn for message in messages if isinstance(message, pb.SatSubsDataBegin))
        logs = [message for message in messages if isinstance(message, pb.SatOpLog)]
        return [op.insert.row_data.values[0].decode() for log in logs for op in log.ops if op.HasField("insert")]

    async def unsubscribe(self) -> set[str]:
        """The first column of the rows that are to go."""
        await self.call(rpc.UNSUBSCRIBE, pb.SatUnsubsReq(subscription_ids=[SUBSCRIPTION]))
        messages = await self.until(pb.SatUnsubsDataEnd)
        self.lsn = next(message.lsn for message in messages if isinstance(message, pb.SatUnsubsDataBegin))
        logs = [message for message in messages if isinstance(message, pb.SatOpLog)]
        return {op.gone.pk_data.values[0].decode() for log in logs for op in log.ops}

    async def upload(self, *keys: str, relation: int = 1) -> None:
        """Inserts a row of ``items`` for each of ``keys``, in a transaction of its own."""
        columns = [
            pb.SatRelationColumn(name="id", type="TEXT", primaryKey=True, is_nullable=False),
            pb.SatRelationColumn(name="content", type="TEXT", is_nullable=True),
        ]
        await self.send(pb.SatRelation(schema_name="public", table_name="items", relation_id=relation, columns=columns))
        log = pb.SatOpLog()
        for number, key in enumerate(keys, 1):
            row = pb.SatOpRow(nulls_bitmask=b"\x40", values=[key.encode(), b""])
            log.ops.add().begin.CopyFrom(
                pb.SatOpBegin(lsn=number.to_bytes(4, "big"), commit_timestamp=int(time.time() * 1000))
            )
            log.ops.add().insert.CopyFrom(pb.SatOpInsert(relation_id=relation, row_data=row))
            log.ops.add().commit.CopyFrom(pb.SatOpCommit())
        await self.send(log)

    async def start_uploading(self) -> None:
        """Answers the server's own call, which comes behind the answer to ours."""
        (*_, call) = await self.until(pb.SatRpcRequest)
        answer = pb.SatInStartReplicationResp().SerializeToString()
        await self.send(pb.SatRpcResponse(method=call.method, request_id=call.request_id, message=answer))

    async def closed(self, within: float = 10) -> tuple[int, str]:
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(within):
                while True:
                    await self.websocket.recv()
        assert self.websocket.close_code is not None
        return self.websocket.close_code, self.websocket.close_reason or ""


class Running:
    """A service in this process behind a uvicorn of its own."""

    def __init__(self, service: Service, events: list[Event], server: uvicorn.Server, port: int) -> None:
        self.service = service
        self.events = events
        self.server = server
        self.port = port
        self.url = f"ws://localhost:{port}/ws"

    def speaker(self, path: str = "/ws") -> AbstractAsyncContextManager[Speaker]:
        return Speaker.connected(f"ws://localhost:{self.port}{path}")

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - looked at from outside
            await asyncio.sleep(0.01)


Configure = Callable[[Any, int], uvicorn.Config]


def ours(app: Any, port: int) -> uvicorn.Config:
    return uvicorn_config(app, "127.0.0.1", port)


@asynccontextmanager
async def serving(
    settings: Settings, configure: Configure = ours, wrap: Callable[[Starlette], Any] = lambda app: app
) -> AsyncIterator[Running]:
    events: list[Event] = []
    service = Service(settings, events.append)
    server = uvicorn.Server(configure(wrap(service_app(service)), 0))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.wait_for(service.ready_event.wait(), 20)
        yield Running(service, events, server, listener.getsockname()[1])
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, 20)
        secrecy.note("events", repr(events))
        secrecy.note("metrics", service.metrics.text().decode())
    assert [event for event in events if isinstance(event, UnexpectedError)] == []
