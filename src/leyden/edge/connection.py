"""The shell around one session: bytes in, session outputs performed, in order.

Reading stops while an output is being performed, so a client that sends faster than Postgres takes its writes is held
back by TCP and nothing piles up here. Two jobs run beside the reading, each one at a time: deliveries (initial data,
GONE batches) and uploads.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from leyden.auth import ErrorDetail, Identity, Refusal, TokenVerifier, wire_message
from leyden.edge.delivery import Deliveries
from leyden.edge.fanout import FanOut, Subscriber
from leyden.edge.socket import Packet, Socket
from leyden.events import (
    ClientAuthenticated,
    ClientDisconnected,
    ClientRefused,
    Emit,
    ProtocolViolated,
    ReplicationResumed,
    UnexpectedError,
)
from leyden.model import Upload
from leyden.postgres.clients import ClientBelongsToOther, ClientStore
from leyden.postgres.snapshots import Snapshots
from leyden.postgres.writer import Writer
from leyden.satellite import session as protocol
from leyden.satellite.encoding import Encoder
from leyden.satellite.frames import encode
from leyden.satellite.session import Session, World

#: Time from the upgrade to a successful authentication (seconds).
AUTHENTICATION_DEADLINE = 10.0

#: Largest incoming message after authentication. The client sends a transaction in one message, however large.
MESSAGE_BYTES = 32 << 20

#: Uploads read ahead of the one being written.
UPLOAD_QUEUE = 16

#: An expired token before replication has started: how long the client may take to call again and be refused.
EXPIRED_GRACE = 5.0

#: An idle client is pinged after this time; one that does not answer within the same time again is dropped (seconds).
PING_INTERVAL = 20.0


@dataclass(slots=True)
class Core:
    """The ready parts that connections share."""

    world: World
    verifier: TokenVerifier
    error_detail: ErrorDetail
    encoder: Encoder
    fanout: FanOut
    clients: ClientStore
    snapshots: Snapshots
    writer: Writer
    #: Returns once the log holds everything that has committed so far.
    catch_up: Callable[[], Awaitable[None]]
    emit: Emit
    clock: Callable[[], float] = time.time
    #: Every connection, authenticated or not.
    open: set[Connection] = field(default_factory=set)
    #: The connection of each client, by client id.
    connections: dict[str, Connection] = field(default_factory=dict)
    #: Uploads being written; they outlive their connections.
    writes: set[asyncio.Future[Any]] = field(default_factory=set)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def idle(self) -> None:
        """Returns once no connection is open and nothing is being written."""
        while self.open or self.writes:  # noqa: ASYNC110 - only while stopping
            await asyncio.sleep(0.01)


class ConnectionEnded(Exception):
    """The connection must be closed with ``code`` and ``reason``; ``detail`` is for the log."""

    def __init__(self, code: int, reason: str = "", detail: str = "") -> None:
        super().__init__(detail or reason)
        self.code = code
        self.reason = reason
        self.detail = detail


#: Next binary message of the client, ``None`` when it went away. Raises :class:`ConnectionEnded` for a text message.
Receive = Callable[[], Awaitable[bytes | None]]


class Connection:
    """One authenticated-or-not WebSocket connection."""

    def __init__(self, core: Core, socket: Socket) -> None:
        self.number = next(core.numbers)
        self.identity: Identity | None = None
        self.connected_at = core.clock()
        self._core = core
        self._socket = socket
        self._session = Session(core.world)
        self._subscriber: Subscriber | None = None
        self._deliveries: Deliveries | None = None
        self._uploads: asyncio.Queue[Upload] = asyncio.Queue(UPLOAD_QUEUE)
        self._jobs: list[asyncio.Task[None]] = []
        self._ending: asyncio.Future[ConnectionEnded] = asyncio.get_running_loop().create_future()
        self._heard_at = asyncio.get_running_loop().time()

    @property
    def client_id(self) -> str | None:
        client = self._session.client
        return None if client is None else client.client_id

    @property
    def user_id(self) -> str | None:
        client = self._session.client
        return None if client is None else client.user_id

    def end(self, code: int, reason: str = "", detail: str = "") -> None:
        """Asks for the connection to be closed from outside; the first reason wins."""
        if not self._ending.done():
            self._ending.set_result(ConnectionEnded(code, reason, detail))

    async def serve(self, receive: Receive) -> ConnectionEnded:
        """Runs the conversation; returns why it ended. The caller closes the WebSocket accordingly."""
        reading = asyncio.create_task(self._read(receive))
        minding = asyncio.create_task(self._mind())
        self._core.open.add(self)
        try:
            waits: set[asyncio.Future[Any]] = {reading, minding, self._ending}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if self._ending.done():
                return self._ending.result()
            finished = reading if reading.done() else minding
            return self._outcome(finished)
        finally:
            for task in (reading, minding, *self._jobs):
                task.cancel()
            await asyncio.gather(reading, minding, *self._jobs, return_exceptions=True)
            self._leave()
            self._core.open.discard(self)

    def _outcome(self, task: asyncio.Task[None]) -> ConnectionEnded:
        error = task.exception()
        if error is None:
            return ConnectionEnded(1000, detail="the client went away")
        if isinstance(error, ConnectionEnded):
            return error
        trace = "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__
        self._core.emit(UnexpectedError("connection", trace))
        return ConnectionEnded(1011, "Failed to process message", type(error).__name__)

    def _leave(self) -> None:
        if self._subscriber is not None:
            self._core.fanout.leave(self._subscriber)
        client_id = self.client_id
        if client_id is not None and self._core.connections.get(client_id) is self:
            del self._core.connections[client_id]

    # ---- reading -------------------------------------------------------------------------------------------------

    async def _read(self, receive: Receive) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(AUTHENTICATION_DEADLINE):
                while self._session.client is None:
                    if not await self._step(receive):
                        return
        except TimeoutError:
            raise ConnectionEnded(1008, detail="did not authenticate in time") from None
        while await self._step(receive):
            self._heard_at = loop.time()

    async def _step(self, receive: Receive) -> bool:
        payload = await receive()
        if payload is None:
            return False
        await self._perform(self._session.receive(payload))
        return True

    async def _mind(self) -> None:
        """Keeps the connection honest: the token's deadline, and signs of life."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            identity = self.identity
            if identity is not None and self._expires(identity):
                outputs = self._session.expired()
                if not outputs:
                    await asyncio.sleep(EXPIRED_GRACE)
                    if not self._session.streaming:
                        raise ConnectionEnded(1008, detail="the token expired before replication started")
                await self._perform(outputs)
            if loop.time() - self._heard_at > PING_INTERVAL:
                if not await self._socket.ping(PING_INTERVAL):
                    raise ConnectionEnded(1011, "Client not responding to pings")
                self._heard_at = loop.time()

    def _expires(self, identity: Identity) -> bool:
        # the first whole second at which the token would be refused (auth.md §3.1)
        return identity.expires_at is not None and self._core.clock() >= (identity.expires_at + identity.leeway + 1)

    # ---- performing ----------------------------------------------------------------------------------------------

    async def _perform(self, outputs: list[protocol.Output]) -> None:
        for output in outputs:
            match output:
                case protocol.Send(message):
                    self._socket.send(Packet([encode(message)]))
                case protocol.Write(upload):
                    await self._uploads.put(upload)
                case protocol.Acknowledge(position):
                    if self._subscriber is not None:
                        self._core.fanout.acknowledge(self._subscriber, position)
                case protocol.Authenticate():
                    await self._authenticate(output)
                case protocol.ForgetSubscriptions():
                    await self._core.clients.forget(self._client_id())
                case protocol.KeepSubscriptions(ids):
                    await self._core.clients.keep_only(self._client_id(), list(ids))
                case protocol.StartStream():
                    self._start_stream(output)
                case protocol.StopStream():
                    self._stop_stream()
                case protocol.Deliver(subscription, shapes):
                    self._running_deliveries().deliver(subscription, shapes)
                case protocol.Withdraw(ids, gone):
                    self._running_deliveries().withdraw(ids, gone)
                case protocol.Close(code, reason, detail):
                    if detail:
                        self._core.emit(ProtocolViolated(self.number, detail))
                    raise ConnectionEnded(code, reason, detail)

    def _client_id(self) -> str:
        client_id = self.client_id
        if client_id is None:
            raise RuntimeError("no client yet")
        return client_id

    async def _authenticate(self, request: protocol.Authenticate) -> None:
        core = self._core
        try:
            identity = core.verifier.verify(request.token, core.clock())
        except Refusal as refusal:
            core.emit(ClientRefused(self.number, refusal.code))
            await self._perform(self._session.refused(refusal.code, wire_message(refusal, core.error_detail)))
            return
        try:
            record = await core.clients.bind(request.client_id, identity.user_id)
        except ClientBelongsToOther:
            core.emit(ClientRefused(self.number, "client_id_taken"))
            await self._perform(self._session.refused("client_id_taken", "client_id_taken"))
            return
        renewal = self._session.client is not None
        self.identity = identity
        if not renewal:
            # The newer connection of a client wins: the older one is most likely half open, and an error would be
            # final for the client.
            older = core.connections.get(request.client_id)
            if older is not None and older is not self:
                older.end(1008, detail="replaced by a newer connection of the same client")
            core.connections[request.client_id] = self
            self._socket.limit_messages(MESSAGE_BYTES)
            core.emit(ClientAuthenticated(self.number, request.client_id, identity.user_id))
        await self._perform(self._session.authenticated(record))
        if not renewal:
            self._jobs.append(asyncio.ensure_future(self._guarded(self._write_uploads())))

    def _start_stream(self, start: protocol.StartStream) -> None:
        core = self._core
        payloads: list[bytes] = []
        for migration in start.migrations:
            payloads += core.encoder.migration(migration, start.dialect, start.position)
        payloads += core.encoder.relations(start.tables)
        if payloads:
            self._socket.send(Packet(payloads))
        tables = frozenset(table.id for table in start.tables)
        subscriber = Subscriber(self._client_id(), self._socket, start.dialect, tables, start.position, self._dropped)
        self._subscriber = subscriber
        deliveries = self._deliveries = Deliveries(
            subscriber,
            core.fanout,
            core.encoder,
            core.snapshots,
            core.clients,
            core.catch_up,
            core.emit,
            self.number,
        )
        self._jobs.append(asyncio.ensure_future(self._guarded(deliveries.run())))
        core.emit(ReplicationResumed(self.number, start.position, len(start.tables)))
        core.fanout.join(subscriber)

    def _stop_stream(self) -> None:
        if self._subscriber is not None:
            self._core.fanout.leave(self._subscriber)
        self._subscriber = self._deliveries = None

    def _running_deliveries(self) -> Deliveries:
        if self._deliveries is None:
            raise RuntimeError("the stream is not running")
        return self._deliveries

    def _dropped(self, reason: str) -> None:
        self.end(1008, detail=reason)

    # ---- jobs ----------------------------------------------------------------------------------------------------

    async def _guarded(self, job: Coroutine[Any, Any, None]) -> None:
        """A job that fails ends the connection without an error message: the client reconnects and asks again."""
        try:
            await job
        except Exception as error:
            trace = "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__
            self._core.emit(UnexpectedError("connection job", trace))
            self.end(1011, "Internal server error while sending data", type(error).__name__)

    async def _write_uploads(self) -> None:
        while True:
            upload = await self._uploads.get()
            # Not cut short by the end of the connection: what was received whole is applied.
            writing = asyncio.ensure_future(self._core.writer.apply(upload))
            self._core.writes.add(writing)
            writing.add_done_callback(self._core.writes.discard)
            await asyncio.shield(writing)


def disconnected(connection: Connection, ended: ConnectionEnded) -> ClientDisconnected:
    return ClientDisconnected(connection.number, ended.code, ended.detail or ended.reason)
