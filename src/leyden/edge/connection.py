"""The shell around one session: bytes in, session outputs performed, in order.

Reading stops while an output is being performed, so a client that sends faster than Postgres takes its writes is held
back by TCP and nothing piles up here. Two jobs run beside the reading, each one at a time: deliveries (initial data,
GONE batches) and uploads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, Protocol

import psycopg

from leyden.auth import ErrorDetail, Identity, Refusal, UnknownKey, wire_message
from leyden.cancellation import cancel
from leyden.edge.access.authenticator import TryAgainLater
from leyden.edge.access.authors import RoleRefused
from leyden.edge.access.sessions import Session as Entry
from leyden.edge.core import Core
from leyden.edge.delivery.deliveries import Deliveries
from leyden.edge.delivery.fanout import Subscriber
from leyden.edge.endings import ConnectionEnded, ending_of
from leyden.edge.heartbeat import Heartbeat
from leyden.edge.websocket.socket import Packet, Socket
from leyden.edge.writing import Writing
from leyden.events import (
    ClientAuthenticated,
    ClientDisconnected,
    ClientHeld,
    ClientRefused,
    Credentials,
    Peer,
    ProtocolViolated,
    ReplicationResumed,
    SessionEnd,
    SessionEnded,
    TokenRenewed,
)
from leyden.postgres.clients import ClientBelongsToOther
from leyden.satellite import actions as protocol
from leyden.satellite import satellite_pb2 as pb
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

#: While the client starts, and until its calls are answered, it takes ``JWT-expired`` for a crash: so long after the
#: last answer it is still on its way, or being handled (seconds; the client's own time limit on calls). And the longest
#: time for which a client that goes on calling is answered.
SETTLING = 3.0
LONGEST_SETTLING = 15.0

#: How long a call to subscribe may wait for a table or a right that is not known yet (seconds); the client gives its
#: calls up after 3.
LOOKING_AGAIN = 2.0

#: Subscriptions and withdrawals that may wait for their turn; a session may hold 1,000 subscriptions.
WAITING_DELIVERIES = 2_000


class _Denied(Exception):
    """A good token, and yet not let in: a rule on connections forbids it. ``is_told`` to the client, if anything is."""

    def __init__(self, code: str, *, is_told: bool = True) -> None:
        super().__init__(code)
        self.code = code
        self.is_told = is_told


class Gate(Protocol):
    """What a connection tells of its authentication to whoever limits those that are not authenticated."""

    async def may_be_verified(self) -> bool:
        """Whether one more signature may be checked now; may wait a moment for its turn."""

    def authenticated(self) -> None:
        """The client is authenticated."""

    def failed(self) -> None:
        """A token was refused although an earlier one had been good."""


#: Next binary message of the client, ``None`` when it went away. Raises :class:`ConnectionEnded` for a text message.
Receive = Callable[[], Awaitable[bytes | None]]


class Connection:
    """One authenticated-or-not WebSocket connection."""

    def __init__(self, core: Core, socket: Socket, peer: Peer, gate: Gate) -> None:
        self.number = next(core.numbers)
        self.peer = peer
        self.connected_at = core.clock()
        self._core = core
        self._socket = socket
        self._gate = gate
        #: What it was let in with.
        self._entry: Entry | None = None
        self._session = Session(core.world)
        self._subscriber: Subscriber | None = None
        self._deliveries: Deliveries | None = None
        #: Works the deliveries off; ends when there are none, and another one begins with the next.
        self._delivering: asyncio.Task[None] | None = None
        #: Ends the time for which the stream is held back.
        self._holding: asyncio.Task[None] | None = None
        #: Held from when the client may be let in until nothing is under way any more.
        self._turn_of_client: asyncio.Lock | None = None
        #: Taken while outputs are performed: one step of the conversation at a time.
        self._turn = asyncio.Lock()
        self._uploads = Writing(core)
        self._loop = asyncio.get_running_loop()
        #: Why it was asked to end; ``None`` if it has come to its own end.
        self._ending: asyncio.Future[ConnectionEnded | None] = self._loop.create_future()
        #: When a call of the client was answered last (the loop's time).
        self._answered_at = float("-inf")
        self._renewed_at = self._looks_again_from = float("-inf")
        #: Whether its time is over, that of its token or of its rights, and nothing is taken any more.
        self._over = False
        self._grace: asyncio.TimerHandle | None = None
        self._heartbeat = Heartbeat(socket, self._guarded)

    @property
    def client_id(self) -> str | None:
        client = self._session.client
        return None if client is None else client.client_id

    @property
    def session(self) -> Entry | None:
        """What it was let in with; ``None`` before authentication."""
        return self._entry

    @property
    def identity(self) -> Identity | None:
        """Who was let in, by the newest token; ``None`` before authentication."""
        return None if self._entry is None else self._entry.identity

    @property
    def user_id(self) -> str | None:
        client = self._session.client
        return None if client is None else client.user_id

    def end(self, code: int, reason: str = "", detail: str = "") -> None:
        """Asks for the connection to be closed from outside; the first reason wins."""
        if not self._ending.done():
            self._ending.set_result(ConnectionEnded(code, reason, detail))

    def rights_changed(self) -> None:
        """What database roles may read has changed. If this client may see other rows now, nothing more is sent to it:
        it comes back for them."""
        close = next((one for one in self._session.rights_changed() if isinstance(one, protocol.Close)), None)
        if close is not None:
            self.cut_off(close.code, close.reason, close.detail)

    def cut_off(self, code: int, reason: str = "", detail: str = "") -> None:
        """Asks for the connection to be closed; nothing but answers to calls is sent to the client meanwhile."""
        self._over = True
        self._stop_stream()
        self.end(code, reason, detail)

    def give_way(self) -> None:
        """A newer connection of the same client takes over."""
        self._uploads.give_up()
        self.end(1008, detail="replaced by a newer connection of the same client")

    async def serve(self, receive: Receive) -> ConnectionEnded:
        """Runs the conversation; returns why it ended. The caller closes the WebSocket accordingly."""
        reading = asyncio.create_task(self._read(receive))
        reading.add_done_callback(self._has_read)
        self._core.open.add(self)
        self._socket.take_at_once(self._take_at_once)
        self._heartbeat.look()
        try:
            return await self._ending or self._outcome(reading)
        finally:
            self._leave()
            jobs = (reading, self._delivering, self._holding, self._heartbeat.end())
            try:
                await cancel(*(job for job in jobs if job is not None))
                # What they ended with refers to this connection, and would keep it in memory.
                self._delivering = self._holding = None
                if self._turn_of_client is not None:
                    self._turn_of_client.release()
                self._uploads.finish()
            finally:
                self._core.open.discard(self)

    def _has_read(self, reading: asyncio.Task[None]) -> None:
        if not self._ending.done():
            self._ending.set_result(None)

    def _outcome(self, task: asyncio.Task[None]) -> ConnectionEnded:
        if task.cancelled():
            return ConnectionEnded(1008, detail="did not authenticate in time")
        error = task.exception()
        if error is None:
            return ConnectionEnded(1000, detail="the client went away")
        return ending_of(error, "Failed to process message", self._core.emit)

    def _leave(self) -> None:
        self._stop_stream()
        if self._grace is not None:
            self._grace.cancel()
        if self._entry is not None:
            self._core.sessions.leave(self._entry)

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
        # the clock may be ahead of the tick that ends sessions
        self._core.sessions.expire()
        async with self._turn:
            outputs = self._session.receive(payload)
            if self._over:
                self._put_off(outputs)
            else:
                await self._perform(outputs)
        return True

    def _take_at_once(self, payload: bytes) -> bool:
        """Takes what clients send most, an acknowledgement, if nothing else is going on: without a task's turn, and
        waking nobody. Whether it did."""
        if self._over or self._subscriber is None or self._turn.locked():
            return False
        position = self._session.acknowledged(payload)
        if position is None:
            return False
        try:
            self._core.sessions.expire()
            if self._subscriber is not None:
                self._core.fanout.acknowledge(self._subscriber, position)
        except Exception as error:
            self._end_by(error, "Failed to process message")
        return True

    # ---- minding -------------------------------------------------------------------------------------------------

    def end_session(self, cause: SessionEnd) -> None:
        """The token holds no longer: nothing more is produced or taken, and the connection closes as soon as the
        client can bear it (docs/authentication-rules.md)."""
        entry, client_id = self._entry, self.client_id
        if entry is None or client_id is None:
            return
        self._core.emit(SessionEnded(self.number, client_id, self.peer, credentials_of(entry.identity), cause))
        if cause == "revoked" or not self._uploads.empty:
            # not for somebody who may not write any more; who comes back with a good token sends it again
            self._uploads.stop()
        if self._subscriber is not None:
            self._over = True
            self._stop_stream()
            self._end_when_settled(self._loop.time() + LONGEST_SETTLING)
        elif self._session.streaming:
            # its call to start is being answered: it would take the reason for a crash
            self._over = True
            self.end(1008, detail="the token does not hold any more, and replication was about to start")
        else:
            # its next call is refused; when none comes, or no good token with it, it is closed
            self._session.expired()
            if self._grace is None:
                detail = "the token does not hold any more, and replication has not started"
                self._grace = self._loop.call_later(EXPIRED_GRACE, self.end, 1008, "", detail)

    def _end_when_settled(self, at_the_latest: float) -> None:
        now = self._loop.time()
        is_busy = self._turn.locked()  # perhaps with a call that is still to be answered
        settled = min((now if is_busy else self._answered_at) + SETTLING, at_the_latest)
        if now < settled:
            self._loop.call_later(settled - now, self._end_when_settled, at_the_latest)
            return
        close = next((output for output in self._session.expired() if isinstance(output, protocol.Close)), None)
        if close is None:  # the client has stopped its replication meanwhile
            close = protocol.Close(1008, detail="the token does not hold any more")
        self.end(close.code, close.reason, close.detail)

    def _put_off(self, outputs: list[protocol.Output]) -> None:
        """Answers the calls of a client whose session is over, and does nothing of what they ask for."""
        for output in outputs:
            match output:
                case protocol.Send(message) if isinstance(message, pb.SatRpcResponse):
                    self._send([output])
                case protocol.LookAgain():
                    self._put_off(self._session.looked_again())
                case protocol.Close():
                    return self.end(1008, detail="broke the protocol after its token had expired")

    # ---- performing ----------------------------------------------------------------------------------------------

    async def _perform(self, outputs: list[protocol.Output]) -> None:
        for number, output in enumerate(outputs):
            if self._over:  # the session ended while an earlier output was being performed
                return self._put_off(outputs[number:])
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
                case protocol.Refused(code, client_id):
                    self._note_refusal(code, client_id)
                case protocol.ForgetSubscriptions(rescued):
                    await self._core.clients.forget(self._client_id(), rescued)
                    self._core.first_calls.started(self._client_id())
                case protocol.KeepSubscriptions(ids, position, cancellation, rescued):
                    await self._core.clients.keep_only(self._client_id(), ids, position, cancellation, rescued)
                    self._core.first_calls.started(self._client_id())
                case protocol.MissEchoes():
                    await self._core.clients.miss_echoes(self._client_id())
                case protocol.DropSubscriptions(ids):
                    await self._core.clients.drop_subscriptions(self._client_id(), ids)
                case protocol.Hold(ids, seconds):
                    self._core.emit(ClientHeld(self.number, ids))
                    self._holding = asyncio.create_task(self._guarded(lambda: self._end_hold(seconds)))
                case protocol.SeekCheckpoint(position):
                    checkpoint = await self._core.checkpoints.find(position)
                    await self._perform(self._session.checkpoint_found(checkpoint))
                case protocol.LookAgain():
                    await self._look_again(output)
                    await self._perform(self._session.looked_again())
                case protocol.StartStream():
                    await self._start_stream(output)
                case protocol.StopStream():
                    self._stop_stream()
                case protocol.Deliver(subscription, shapes):
                    deliveries = self._running_deliveries()
                    deliveries.deliver(subscription, shapes)
                    self._work_off(deliveries)
                case protocol.Withdraw(ids, gone):
                    deliveries = self._running_deliveries()
                    deliveries.withdraw(ids, gone)
                    self._work_off(deliveries)
                case protocol.Close(code, reason, detail):
                    if detail:
                        self._core.emit(ProtocolViolated(self.number, detail))
                    raise ConnectionEnded(code, reason, detail)

    def _client_id(self) -> str:
        client_id = self.client_id
        if client_id is None:
            raise RuntimeError("no client yet")
        return client_id

    async def _end_hold(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        async with self._turn:
            await self._perform(self._session.hold_is_over())

    async def _authenticate(self, request: protocol.Authenticate) -> None:
        try:
            if self._entry is None:
                await self._let_in(request)
            else:
                await self._renew(request, self._entry)
        except Refusal as refusal:
            if self._over:
                return  # it is about to be closed, for a reason of its own
            insecure = self._core.authenticator.settings.insecure
            message = wire_message(refusal, self._error_detail, insecure=insecure)
            self._refuse(request, refusal.code, message, refusal.kid if isinstance(refusal, UnknownKey) else None)
        except _Denied as denied:
            if self._over:
                return
            self._refuse(request, denied.code, denied.code if denied.is_told and self._error_detail == "code" else None)
        except TryAgainLater as reason:
            if str(reason) != "overloaded":  # of which the gate has told
                self._note_refusal(str(reason), request.client_id)
            # without an answer: a client that is refused does not come again, one that is cut off does
            raise ConnectionEnded(1013, detail=str(reason)) from None

    async def _let_in(self, request: protocol.Authenticate) -> None:
        core = self._core
        # also when it is not let in now: the next attempt of the same process has a higher number
        first_call = core.first_calls.of(request.client_id, request.call)
        accepted = await core.authenticator.judge(request.token, self._gate.may_be_verified)
        identity = accepted.identity
        role = self._role_of(identity)
        if not core.sessions.make_way(request.client_id, identity.user_id):
            raise _Denied("client_id_taken")
        self._turn_of_client = await core.turns.take(request.client_id)
        try:
            record = await core.clients.bind(request.client_id, identity.user_id)
        except ClientBelongsToOther:
            raise _Denied("client_id_taken") from None
        core.authenticator.reconsider(identity)
        answer = self._session.authenticated(record, identity.claims, first_call, role=role)
        self._entry = core.sessions.enter(self, request.client_id, identity)
        self._socket.limit_messages(MESSAGE_BYTES)
        self._gate.authenticated()
        credentials = credentials_of(identity)
        core.emit(ClientAuthenticated(self.number, request.client_id, self.peer, credentials, accepted.seconds))
        self._send(answer)
        self._uploads.start(self._entry, self._guarded)

    async def _renew(self, request: protocol.Authenticate, entry: Entry) -> None:
        """A fresh token for the same user, from the same issuer. Asks no database, so it cannot come too late."""
        core, now = self._core, self._loop.time()
        if now - self._renewed_at < RENEWAL_INTERVAL:
            raise _Denied("renewal_too_frequent")
        self._renewed_at = now
        accepted = await core.authenticator.judge(request.token)
        identity, client = accepted.identity, self._session.client
        if client is None or identity.user_id != client.user_id:
            raise _Denied("user_mismatch", is_told=False)
        if identity.issuer != entry.identity.issuer:
            raise _Denied("issuer_mismatch")
        role = self._role_of(identity)
        if self._over:
            return  # too late: it is about to be closed
        if self._uploads.abandoned:
            raise ConnectionEnded(1012, detail="a token ended here: its successor needs a connection of its own")
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        core.sessions.renew(entry, identity)
        core.emit(TokenRenewed(self.number, request.client_id, self.peer, credentials_of(identity)))
        outputs = self._session.authenticated(client, identity.claims, role=role)
        self._send(outputs)
        close = next((output for output in outputs if isinstance(output, protocol.Close)), None)
        if close is not None:
            raise ConnectionEnded(close.code, close.reason, close.detail)

    def _role_of(self, identity: Identity) -> str | None:
        """The database role that reads and writes for him. Nobody is let in for whom nothing could be written."""
        try:
            return self._core.authors.of(identity).role
        except RoleRefused as refused:
            raise _Denied(refused.code) from None

    @property
    def _error_detail(self) -> ErrorDetail:
        return self._core.authenticator.settings.error_detail

    def _refuse(
        self, request: protocol.Authenticate, code: str, message: str | None, kid: str | None = None
    ) -> NoReturn:
        self._note_refusal(code, request.client_id, kid)
        outputs = self._session.refused(code, message)
        self._send(outputs)
        close = next(output for output in outputs if isinstance(output, protocol.Close))
        raise ConnectionEnded(close.code, close.reason, close.detail)

    def _note_refusal(self, code: str, client_id: str, kid: str | None = None) -> None:
        renewal = self._entry is not None
        if renewal:
            self._gate.failed()
        self._core.emit(ClientRefused(self.number, code, client_id, self.peer, kid, renewal))

    def _send(self, outputs: list[protocol.Output]) -> None:
        for output in outputs:
            if isinstance(output, protocol.Send):
                if isinstance(output.message, pb.SatRpcResponse):
                    self._answered_at = self._loop.time()
                self._socket.send(Packet([encode(output.message)]))

    async def _look_again(self, look: protocol.LookAgain) -> None:
        """If it cannot be had in time, the call is answered by what is known; so are those that follow at once, which
        the client has made at the same time and waits for as long."""
        began = self._loop.time()
        if began < self._looks_again_from:
            return
        with contextlib.suppress(TimeoutError, psycopg.OperationalError):
            async with asyncio.timeout(LOOKING_AGAIN):
                if look.tables:
                    await self._core.catch_up()
                if look.rights:
                    await self._core.read_rights()
        ended = self._loop.time()
        if ended - began > LOOKING_AGAIN / 2:
            self._looks_again_from = ended + SETTLING

    async def _start_stream(self, start: protocol.StartStream) -> None:
        core = self._core
        await core.loader.prepare(start.view.trees)
        if self._over:
            return
        view = start.view
        # Who has nothing yet cannot be too far behind, however much was written since it asked.
        position = core.fanout.head if start.position is None else start.position
        # Who is repaired is brought there without the log. Nothing that it uploads now can be below: its echo follows.
        after = position if start.repair is None else core.fanout.head
        tables = list(view.described.values())
        if start.repair is None:
            payloads: list[bytes] = []
            missing = start.migrations_after
            migrations = [] if missing is None else [one for one in core.world.migrations if one.version > missing]
            for number, migration in enumerate(migrations, 1):
                others_follow = number < len(migrations)
                payloads += core.encoder.migration(migration, start.dialect, position, others_follow=others_follow)
            # As the rows of the log will be at first; each migration on the way announces what it changes.
            payloads += core.encoder.relations(core.fanout.described_at(position, tables))
            if payloads:
                self._socket.send(Packet(payloads))
        subscriber = Subscriber(
            self._client_id(), self._socket, start.dialect, view, after, self._dropped, lambda: self._session.tables
        )
        self._subscriber = subscriber
        deliveries = self._deliveries = Deliveries(
            subscriber,
            core.fanout,
            core.encoder,
            core.snapshots,
            core.loader,
            core.clients,
            core.world,
            core.catch_up,
            core.emit,
            self.number,
            start.cancellation,
        )
        self._delivering = None  # that of a stream that was stopped is not this one's
        if start.repair is not None:
            deliveries.repair(start.repair)
            self._work_off(deliveries)
        core.emit(ReplicationResumed(self.number, position, len(tables)))
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

    def _work_off(self, deliveries: Deliveries) -> None:
        """Nothing follows a delivery that has failed: it ended the connection."""
        if not self._ending.done() and (self._delivering is None or self._delivering.done()):
            self._delivering = asyncio.create_task(self._guarded(deliveries.run))

    def _dropped(self, reason: str) -> None:
        self.end(1008, detail=reason)

    # ---- jobs ----------------------------------------------------------------------------------------------------

    async def _guarded(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A job that fails ends the connection. It is made here: a connection may end before it has begun."""
        try:
            await job()
        except Exception as error:
            self._end_by(error, "Internal server error while sending data")

    def _end_by(self, error: Exception, reason: str) -> None:
        """Not where it is caught: it refers to that frame, and what refers back to it there keeps the connection in
        memory."""
        ended = ending_of(error, reason, self._core.emit)
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
