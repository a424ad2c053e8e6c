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
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import psycopg

from leyden.auth import ErrorDetail, Identity, Refusal, TokenVerifier, wire_message
from leyden.edge.delivery import Deliveries
from leyden.edge.fanout import FanOut, Subscriber
from leyden.edge.socket import Packet, Socket
from leyden.edge.uploads import UploadQueue
from leyden.events import (
    ClientAuthenticated,
    ClientDisconnected,
    ClientRefused,
    Credentials,
    Emit,
    Peer,
    ProtocolViolated,
    ReplicationResumed,
    TokenRenewed,
    UnexpectedError,
)
from leyden.postgres.clients import ClientBelongsToOther, ClientStore
from leyden.postgres.snapshots import Snapshots
from leyden.postgres.writer import Writer
from leyden.satellite import actions as protocol
from leyden.satellite.actions import World
from leyden.satellite.encoding import Encoder
from leyden.satellite.frames import encode
from leyden.satellite.session import Session

#: Time from the upgrade to a successful authentication (seconds).
AUTHENTICATION_DEADLINE = 10.0

#: Largest incoming message after authentication. The client sends a transaction in one message, however large.
MESSAGE_BYTES = 32 << 20

#: Shortest time between two renewals of the token on one connection (seconds).
RENEWAL_INTERVAL = 5.0

#: An expired token before replication has started: how long the client may take to call again and be refused.
EXPIRED_GRACE = 5.0

#: Until the client has certainly handled the start of replication, it takes ``JWT-expired`` for a crash (seconds).
SETTLING = 1.0

#: How often tokens are compared with the wall clock, and silent clients looked for (seconds).
TICK = 1.0

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
    #: What works off the uploads of each connection; it outlives the connection until all of them are written.
    writes: set[asyncio.Future[Any]] = field(default_factory=set)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def idle(self) -> None:
        """Returns once no connection is open and nothing is being written."""
        while self.open or self.writes:  # noqa: ASYNC110 - only while stopping
            await asyncio.sleep(0.01)


#: Subscriptions and withdrawals that may wait for their turn; a session may hold 1,000 subscriptions.
WAITING_DELIVERIES = 2_000


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

    def __init__(
        self, core: Core, socket: Socket, peer: Peer, on_authenticated: Callable[[], None] = lambda: None
    ) -> None:
        self.number = next(core.numbers)
        self.peer = peer
        self.identity: Identity | None = None
        self.connected_at = core.clock()
        self._core = core
        self._socket = socket
        self._on_authenticated = on_authenticated
        self._session = Session(core.world)
        self._subscriber: Subscriber | None = None
        self._deliveries: Deliveries | None = None
        self._delivering: asyncio.Task[None] | None = None
        self._uploads = UploadQueue(core.writer.apply)
        self._loop = asyncio.get_running_loop()
        self._ending: asyncio.Future[ConnectionEnded] = self._loop.create_future()
        self._started_at = 0.0
        self._renewed_at = float("-inf")
        self._replaced = False

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

    def give_way(self) -> None:
        """A newer connection of the same client takes over."""
        self._replaced = True
        self.end(1008, detail="replaced by a newer connection of the same client")

    async def serve(self, receive: Receive) -> ConnectionEnded:
        """Runs the conversation; returns why it ended. The caller closes the WebSocket accordingly."""
        tasks = [asyncio.create_task(job) for job in (self._read(receive), self._mind_token(), self._mind_silence())]
        self._core.open.add(self)
        try:
            waits: set[asyncio.Future[Any]] = {*tasks, self._ending}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if self._ending.done():
                return self._ending.result()
            return self._outcome(next(task for task in tasks if task.done()))
        finally:
            self._leave()
            if self._delivering is not None:
                tasks.append(self._delivering)
            for task in tasks:
                task.cancel()
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._uploads.finish(abandon=self._replaced)
            finally:
                self._core.open.discard(self)

    def _outcome(self, task: asyncio.Task[None]) -> ConnectionEnded:
        if task.cancelled():
            return ConnectionEnded(1008, detail="did not authenticate in time")
        error = task.exception()
        if error is None:
            return ConnectionEnded(1000, detail="the client went away")
        return self._failure(error, "Failed to process message")

    def _failure(self, error: BaseException, reason: str) -> ConnectionEnded:
        """How ``error`` ends the connection. Without an error message: the client reconnects and asks again."""
        if isinstance(error, ConnectionEnded):
            return error
        if isinstance(error, psycopg.OperationalError):
            return ConnectionEnded(1013, detail=f"the database is not available: {type(error).__name__}")
        trace = "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__
        self._core.emit(UnexpectedError("connection", trace))
        return ConnectionEnded(1011, reason, type(error).__name__)

    def _leave(self) -> None:
        self._stop_stream()
        client_id = self.client_id
        if client_id is not None and self._core.connections.get(client_id) is self:
            del self._core.connections[client_id]

    # ---- reading -------------------------------------------------------------------------------------------------

    async def _read(self, receive: Receive) -> None:
        try:
            async with asyncio.timeout(AUTHENTICATION_DEADLINE):
                while self._session.client is None:
                    if not await self._step(receive):
                        return
        except TimeoutError:
            raise ConnectionEnded(1008, detail="did not authenticate in time") from None
        while await self._step(receive):
            pass

    async def _step(self, receive: Receive) -> bool:
        payload = await receive()
        if payload is None:
            return False
        await self._perform(self._session.receive(payload))
        return True

    # ---- minding -------------------------------------------------------------------------------------------------

    async def _mind_token(self) -> None:
        """Ends the connection at its token's deadline.

        Compared with the wall clock every second, because a timer would not follow a clock that is set, or a machine
        that slept.
        """
        overdue_since: float | None = None
        while True:
            await asyncio.sleep(TICK)
            deadline = None if self.identity is None else self.identity.deadline
            if deadline is None or self._core.clock() < deadline:
                overdue_since = None
                continue
            now = self._loop.time()
            overdue_since = now if overdue_since is None else overdue_since
            if self._subscriber is not None and now - self._started_at >= SETTLING:
                await self._perform(self._session.expired())
            elif not self._session.streaming:
                self._session.expired()  # from now on calls are refused
            if now - overdue_since >= EXPIRED_GRACE:
                raise ConnectionEnded(1008, detail="the token expired before replication started")

    async def _mind_silence(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            if self._socket.silence >= PING_INTERVAL and not await self._socket.alive(PING_INTERVAL):
                raise ConnectionEnded(1011, "Client not responding to pings")

    # ---- performing ----------------------------------------------------------------------------------------------

    async def _perform(self, outputs: list[protocol.Output]) -> None:
        for output in outputs:
            match output:
                case protocol.Send():
                    self._send([output])
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
        if self._session.client is not None:
            self._renew(request)
            return
        try:
            identity = core.verifier.verify(request.token, core.clock())
            record = await core.clients.bind(request.client_id, identity.user_id)
        except Refusal as refusal:
            self._refuse(request.client_id, refusal.code, self._wire_message(refusal))
        except ClientBelongsToOther:
            self._refuse(request.client_id, "client_id_taken", self._shown("client_id_taken"))
        self.identity = identity
        # The newer connection of a client wins: the older one is most likely half open, and an error would be final
        # for the client.
        older = core.connections.get(request.client_id)
        if older is not None:
            older.give_way()
        core.connections[request.client_id] = self
        self._socket.limit_messages(MESSAGE_BYTES)
        self._on_authenticated()
        core.emit(
            ClientAuthenticated(self.number, request.client_id, self.peer, credentials_of(identity), seconds=None)
        )
        self._send(self._session.authenticated(record))
        writing = asyncio.create_task(self._guarded(self._uploads.run()))
        core.writes.add(writing)
        writing.add_done_callback(core.writes.discard)

    def _renew(self, request: protocol.Authenticate) -> None:
        """A fresh token for the same user, from the same issuer. Asks no database, so it cannot come too late."""
        core, client, current = self._core, self._session.client, self.identity
        assert client is not None
        assert current is not None
        now = self._loop.time()
        if now - self._renewed_at < RENEWAL_INTERVAL:
            self._refuse(request.client_id, "renewal_too_frequent", self._shown("renewal_too_frequent"))
        self._renewed_at = now
        try:
            identity = core.verifier.verify(request.token, core.clock())
        except Refusal as refusal:
            self._refuse(request.client_id, refusal.code, self._wire_message(refusal))
        if identity.user_id != client.user_id:
            self._refuse(request.client_id, "user_mismatch", None)
        if identity.claims.get("iss") != current.claims.get("iss"):
            self._refuse(request.client_id, "issuer_mismatch", self._shown("issuer_mismatch"))
        self.identity = identity
        core.emit(TokenRenewed(self.number, client.client_id, self.peer, credentials_of(identity)))
        self._send(self._session.authenticated(replace(client, user_id=identity.user_id)))

    def _wire_message(self, refusal: Refusal) -> str | None:
        core = self._core
        return wire_message(refusal, core.error_detail, insecure=core.verifier.settings.insecure)

    def _shown(self, code: str) -> str | None:
        return None if self._core.error_detail == "none" else code

    def _refuse(self, client_id: str, code: str, message: str | None) -> NoReturn:
        renewal = self.identity is not None
        self._core.emit(ClientRefused(self.number, code, client_id, self.peer, renewal=renewal))
        outputs = self._session.refused(code, message)
        self._send(outputs)
        close = next(output for output in outputs if isinstance(output, protocol.Close))
        raise ConnectionEnded(close.code, close.reason, close.detail)

    def _send(self, outputs: list[protocol.Output]) -> None:
        for output in outputs:
            if isinstance(output, protocol.Send):
                self._socket.send(Packet([encode(output.message)]))

    def _start_stream(self, start: protocol.StartStream) -> None:
        core = self._core
        payloads: list[bytes] = []
        for migration in start.migrations:
            payloads += core.encoder.migration(migration, start.dialect, start.position)
        # As the rows of the log will be at first; each migration on the way announces what it changes.
        payloads += core.encoder.relations(core.fanout.described_at(start.position, start.tables))
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
            core.world,
            core.catch_up,
            core.emit,
            self.number,
        )
        self._delivering = asyncio.create_task(self._guarded(deliveries.run()))
        self._started_at = self._loop.time()
        core.emit(ReplicationResumed(self.number, start.position, len(start.tables)))
        core.fanout.join(subscriber)

    def _stop_stream(self) -> None:
        if self._subscriber is not None:
            self._core.fanout.leave(self._subscriber)
        if self._delivering is not None:
            self._delivering.cancel()
        self._subscriber = self._deliveries = None

    def _running_deliveries(self) -> Deliveries:
        if self._deliveries is None:
            raise RuntimeError("the stream is not running")
        if self._deliveries.waiting >= WAITING_DELIVERIES:
            raise ConnectionEnded(1008, detail="too many subscriptions asked for or given up at once")
        return self._deliveries

    def _dropped(self, reason: str) -> None:
        self.end(1008, detail=reason)

    # ---- jobs ----------------------------------------------------------------------------------------------------

    async def _guarded(self, job: Coroutine[Any, Any, None]) -> None:
        """A job that fails ends the connection."""
        try:
            await job
        except Exception as error:
            ended = self._failure(error, "Internal server error while sending data")
            self.end(ended.code, ended.reason, ended.detail)


def credentials_of(identity: Identity) -> Credentials:
    return Credentials(
        user_id=identity.user_id,
        issuer=identity.issuer,
        algorithm=identity.algorithm,
        kid=identity.kid,
        key_thumbprint=identity.key_thumbprint,
        jti=identity.jti,
        expires_at=identity.expires_at,
    )


def disconnected(connection: Connection, ended: ConnectionEnded) -> ClientDisconnected:
    return ClientDisconnected(connection.number, ended.code, ended.detail or ended.reason)
