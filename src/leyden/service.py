"""Which parts run in this process, and the order in which they start and stop.

Start: database (embedded or given) → requirements → our schema → pool → replication until it has caught up → accept
connections. Stop: accept no more → close connections with 1001 → finish what is being written → end replication →
pool → embedded database.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import traceback
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace

import psycopg
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from leyden.auth import AuthSettings, FixedKeys, KeySource, Notify, WatchedKeys, issued_keys
from leyden.cancellation import cancel
from leyden.config import Settings
from leyden.edge.access.authors import Authors
from leyden.edge.access.enforcement import Access
from leyden.edge.access.reading import Reading
from leyden.edge.admission import AdmissionPolicy
from leyden.edge.app import close_all, create_app
from leyden.edge.catching_up import CatchingUp
from leyden.edge.core import Core, OpenConnection
from leyden.edge.delivery.asking import ROUNDS_AT_ONCE, Asking
from leyden.edge.delivery.fanout import FanOut
from leyden.edge.delivery.loading import TableLoader
from leyden.events import (
    AuthenticationConfigured,
    AuthenticationWarning,
    DatabaseUnavailable,
    DdlUnguarded,
    Emit,
    InsecureModeActive,
    UnexpectedError,
)
from leyden.log.memory import MemoryLog
from leyden.model import Locale, Migration, RightsByRole, Suspension, Table
from leyden.observe import Live, Metrics, Observers, log_and_audit
from leyden.postgres import requirements, schema, sessions
from leyden.postgres.checkpoints import Checkpoints
from leyden.postgres.clients import ClientStore
from leyden.postgres.embedded import EmbeddedPostgres
from leyden.postgres.locale import read_locale
from leyden.postgres.pools import Pool
from leyden.postgres.reading.rights import RightsWatch
from leyden.postgres.reading.snapshots import Snapshots
from leyden.postgres.replication.reader import Replication
from leyden.postgres.tombstones import forget_tombstones
from leyden.postgres.writing.writer import Writer
from leyden.satellite.encoding import Encoder
from leyden.satellite.positions import Positions
from leyden.shapes.answers import Questions
from leyden.shapes.questions import Question
from leyden.shapes.rights import Rules
from leyden.shapes.where import ownership

#: For Postgres to say where it stands, before who waits for it is told that it does not answer (seconds).
MARK_TIMEOUT = 30.0

#: What it asks of migrations that the service may not create event triggers.
UNGUARDED = (
    "let a superuser start Leyden once, which creates its event triggers, or end each migration that alters an"
    " electrified table with CALL electric.electrify('...') in the same transaction"
)

#: Connections to Postgres for uploads and client state.
POOL_SIZE = 10

#: Snapshots open at a time. Each has a connection for as long as a client takes to receive its rows.
SNAPSHOTS = 10

#: Longest wait before Postgres is tried again (seconds).
LONGEST_RETRY = 10.0

#: How often insecure mode reminds of itself (seconds).
INSECURE_REMINDER = 3600.0

#: Longest time that the parts of a service need to stop in order (seconds).
STOP_PATIENCE = 60.0


class LiveWorld:
    """What sessions may look at: the state of replication, as of this very moment."""

    def __init__(
        self,
        instance_id: str,
        replication: Replication,
        log: MemoryLog,
        locale: Locale,
        reading: Reading,
        questions: Questions,
    ) -> None:
        self.instance_id = instance_id
        self.locale = locale
        self.positions = Positions(replication.epoch)
        self._replication = replication
        self._log = log
        self._reading = reading
        self._questions = questions

    def are_answered_since(self, questions: Iterable[Question], position: int) -> bool:
        return self._questions.are_known_since(questions, position)

    def rules(self, role: str | None) -> Rules:
        return self._reading.rules(role, self.locale, self.tables)

    @property
    def tables(self) -> Mapping[str, Table]:
        stopped = self._replication.stopped
        return {table.name: table for table in self._replication.tables.values() if table.id not in stopped}

    @property
    def suspended(self) -> Mapping[str, Suspension]:
        return self._replication.suspended

    def reopened_since(self, position: int) -> frozenset[str]:
        return self._replication.reopened_since(position)

    @property
    def migrations(self) -> Sequence[Migration]:
        return self._replication.migrations

    @property
    def head(self) -> int:
        return self._log.head

    def holds(self, position: int) -> bool:
        return self._log.holds(position)


class Service:
    """The parts of one process. :meth:`run` is its whole life; the rest is for those who look at it."""

    def __init__(self, settings: Settings, emit: Emit | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics(
            Live(
                deadlines=lambda: (s.deadline if math.isfinite(s.deadline) else None for s in self.access.sessions),
                connections=lambda: self.open_connections,
                position=lambda: self.position,
                ready=lambda: self.ready,
                suspended=lambda: 0 if self._replication is None else len(self._replication.suspended),
            )
        )
        #: Where every fact goes; a given ``emit`` stands in for the log and the audit trail.
        self._observers = Observers(emit or log_and_audit(settings.log_level, settings.log_format), self.metrics)
        self.emit: Emit = self._observers
        self.embedded: EmbeddedPostgres | None = None
        self.access = Access(settings.auth, key_source(settings, self.emit), self.emit)
        self._log = MemoryLog(settings.txn_cache_size)
        self._reading = Reading(
            settings.auth.namespace, lambda: self._core, require_policies=settings.roles.require_policies
        )
        self._rights_watch: RightsWatch | None = None
        self._replication: Replication | None = None
        self._pool: Pool | None = None
        self._marks: Pool
        self._readers: Pool
        self._askers: Pool
        #: What asks Postgres about policies, and its running.
        self.asking: Asking | None = None
        self._asking: asyncio.Task[None] | None = None
        self._catching_up: CatchingUp | None = None
        #: Of the database; until it is read, filters that depend on it are refused.
        self._locale = Locale(order_is_bytes=False)
        self._core: Core | None = None
        self._waiting_for = "starting"
        self._stopping = False
        #: Set once the database is prepared; the demo waits for it.
        self.prepared = asyncio.Event()
        self.ready_event = asyncio.Event()
        #: Set when the service ended by itself and will not come back.
        self.failed = asyncio.Event()

    # ---- what may be asked ---------------------------------------------------------------------------------------

    @property
    def auth(self) -> AuthSettings:
        return self.settings.auth

    @property
    def admission(self) -> AdmissionPolicy:
        return self.settings.admission

    @property
    def ready(self) -> bool:
        return self.core is not None

    @property
    def reason(self) -> str:
        """Why it is not ready, in words that anybody may read: what Postgres said stands in the log only."""
        if self._stopping:
            return "stopping"
        if self._replication is None or self.failed.is_set():
            return self._waiting_for
        if self._replication.caught_up.is_set() and self.access.reason:
            return self.access.reason
        return self._replication.status.partition(":")[0]

    @property
    def remarks(self) -> Sequence[str]:
        replication = self._replication
        if replication is None:
            return ()
        unguarded = () if replication.inspection.guarded else (f"DDL is not guarded: {UNGUARDED}.",)
        suspended = (
            f"Table {name} is suspended: {suspension.reason}. Remedy: {suspension.remedy}."
            for name, suspension in sorted(replication.suspended.items())
        )
        return (*unguarded, *suspended)

    @property
    def migrations(self) -> Sequence[Migration]:
        return () if self._replication is None else self._replication.migrations

    @property
    def core(self) -> Core | None:
        replication = self._replication
        if self._stopping or replication is None or not replication.caught_up.is_set() or self.access.reason:
            return None
        return self._core

    @property
    def connections(self) -> Sequence[OpenConnection]:
        """The authenticated connections."""
        return () if self._core is None else tuple(one for one in self._core.open if one.identity is not None)

    @property
    def open_connections(self) -> int:
        """How many connections there are, authenticated or not."""
        return 0 if self._core is None else len(self._core.open)

    @property
    def position(self) -> int:
        """The WAL position that replication has reached; 0 before it has begun."""
        return 0 if self._replication is None else self._replication.position

    @property
    def pool(self) -> Pool | None:
        """Connections to the database; ``None`` while it is not prepared."""
        return self._pool

    # ---- where the database is -----------------------------------------------------------------------------------

    @property
    def dsn(self) -> str:
        """Connection string of the database.

        Raises:
            RuntimeError: the embedded database is not started yet.
        """
        given = self.settings.database_conninfo
        if given is not None:
            return given
        if self.embedded is None:
            raise RuntimeError("the embedded Postgres is not started")
        return self.embedded.dsn()

    # ---- life ----------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the service for as long as the context is open."""
        task = asyncio.create_task(self._run())
        task.add_done_callback(self._ended)
        ticking = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            self._stopping = True
            if self._core is not None:
                await close_all(self._core)
            await cancel(task, patience=STOP_PATIENCE)
            await cancel(ticking)
            self._observers.close()

    async def _tick(self) -> None:
        """Time passes for observers, whatever else is or is not running."""
        while True:
            await asyncio.sleep(1.0)
            self._observers.tick()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The parts ended by themselves: a defect, or an embedded Postgres that does not start."""
        if task.cancelled() or self._stopping:
            return
        error = task.exception()
        core, self._core = self._core, None
        if core is not None:
            for connection in tuple(core.open):
                connection.end(1012, detail="the service failed")
        self._waiting_for = f"the service failed: {type(error).__name__}"
        trace = "".join(traceback.format_tb(error.__traceback__)) if error is not None else ""
        self.emit(UnexpectedError("service", f"{trace}{type(error).__name__}: {error}"))
        self.failed.set()

    async def _run(self) -> None:
        self._tell_authentication()
        try:
            # a part that fails ends all others: no part is safe to do without
            async with asyncio.TaskGroup() as parts:
                parts.create_task(self.access.run_keys())
                parts.create_task(self.access.run_clock())
                if self.settings.auth.insecure:
                    parts.create_task(self._remind())
                await self._run_database(parts)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _run_database(self, parts: asyncio.TaskGroup) -> None:
        async with contextlib.AsyncExitStack() as stack:
            if self.settings.database is None:
                self._waiting_for = "starting the embedded Postgres"
                self.embedded = EmbeddedPostgres(self.settings.data_dir.resolve() / "postgres")
                starting = asyncio.ensure_future(asyncio.to_thread(self.embedded.start))
                stack.push_async_callback(_stop_embedded, self.embedded, starting)
                await asyncio.shield(starting)
            await self._prepare_database()
            self.prepared.set()
            self._waiting_for = "reading revocations"
            revocations = parts.create_task(self.access.run_revocations(self.dsn))
            stack.push_async_callback(cancel, revocations)
            await self.access.knows_revocations.wait()
            await self._watch_rights(parts, stack)
            pool = Pool(self.dsn, min_size=2, max_size=POOL_SIZE)
            self._pool = pool
            await stack.enter_async_context(pool)
            # Apart: clients that take their rows slowly hold up those who want rows, not those who write or log in.
            self._readers = await stack.enter_async_context(Pool(self.dsn, min_size=1, max_size=SNAPSHOTS))
            # Apart: whoever depends on an answer waits for it, and shall not wait for those who want rows as well.
            self._askers = await stack.enter_async_context(Pool(self.dsn, min_size=0, max_size=ROUNDS_AT_ONCE + 1))
            # Apart: a delivery that needs one holds a connection of the other, and so might all others.
            self._marks = await stack.enter_async_context(Pool(self.dsn, min_size=1, max_size=1))
            if self.settings.tombstone_retention:
                older_than = float(self.settings.tombstone_retention)
                forgetting = parts.create_task(forget_tombstones(pool, self.emit, older_than=older_than))
                stack.push_async_callback(cancel, forgetting)
            await self._replicate(pool)

    async def _watch_rights(self, parts: asyncio.TaskGroup, stack: contextlib.AsyncExitStack) -> None:
        """Keeps what database roles may read up to date, if roles are taken; returns once it is known."""
        roles = self.settings.roles.all
        if not roles:
            return
        self._waiting_for = "reading policies and privileges"
        reading = self._reading
        watch = RightsWatch(
            self.dsn,
            roles,
            self.emit,
            on_change=self._change_rights,
            on_doubt=reading.doubt,
            on_certainty=reading.certainty,
        )
        self._rights_watch = watch
        watching = parts.create_task(watch.run())
        stack.push_async_callback(cancel, watching)
        await watch.loaded.wait()

    async def _change_rights(self, rights: RightsByRole) -> None:
        await self._reading.change(rights)
        if self.asking is not None:
            self.asking.look_soon()

    async def _read_rights(self) -> None:
        if self._rights_watch is not None:
            await self._rights_watch.read_anew()

    def _doubt_rights(self, xid: int) -> None:
        """What comes next in the log may be subject to other policies than those that are known."""
        if self._rights_watch is not None:
            self._rights_watch.doubt(xid)

    async def _prepare_database(self) -> None:
        """Waits for a usable Postgres and installs our schema in it. Each reason for waiting is told once."""
        retry_in, told = 1.0, ""
        while True:
            try:
                async with await sessions.connect(self.dsn, autocommit=True, connect_timeout=10) as conn:
                    await requirements.require(conn, roles=self.settings.roles.all)
                    await schema.install(conn)
                    self._locale = await read_locale(conn)
                    if not await schema.is_guarded(conn):
                        self.emit(DdlUnguarded(UNGUARDED))
                    return
            except (psycopg.Error, requirements.DatabaseRequirementError, schema.SchemaTooNewError) as error:
                reason = str(error).strip() or type(error).__name__
                self._waiting_for = _public_reason(error)
            if reason != told:
                told = reason
                self.emit(DatabaseUnavailable(reason, retry_in))
            await asyncio.sleep(retry_in)
            retry_in = min(retry_in * 2, LONGEST_RETRY)

    async def _replicate(self, pool: Pool) -> None:
        replication = Replication(
            self.dsn,
            self._log,
            self.emit,
            wal_window=self.settings.resumable_wal_window,
            on_epoch=lambda epoch: self._assemble(pool),
            on_suspended=self._let_go_of,
            on_rights=self._doubt_rights,
        )
        self._replication = replication
        running = asyncio.create_task(replication.run())
        try:
            await replication.caught_up.wait()
            self._assemble(pool)
            await self.access.knows_keys.wait()
            self.ready_event.set()
            while True:
                await asyncio.sleep(1.0)
                if self._core is not None:
                    self._core.fanout.tick()
        finally:
            if self._asking is not None:
                await cancel(self._asking)
            if self._catching_up is not None:
                await self._catching_up.end()
            await cancel(running)

    def _let_go_of(self, table: Table) -> None:
        if self._core is not None:
            self._core.fanout.let_go_of(table)

    def _assemble(self, pool: Pool) -> None:
        """Makes the parts that belong to one history of the database; those of an earlier one end."""
        replication = self._replication
        assert replication is not None
        earlier = self._core
        if earlier is not None:
            # those not authenticated yet as well: they would go on in a history that is over
            for connection in tuple(earlier.open):
                connection.end(1012, detail="the database's history changed")
            earlier.fanout.close()
            if self._rights_watch is not None:
                self._rights_watch.begin_history()

        async def reach_now() -> None:
            try:
                async with asyncio.timeout(MARK_TIMEOUT), self._marks.connection() as conn:
                    position = await replication.mark(conn)
            except TimeoutError:
                raise psycopg.OperationalError("Postgres does not answer") from None
            await replication.reach(position)

        if self._catching_up is not None:
            self._catching_up.cancel()
        catch_up = self._catching_up = CatchingUp(reach_now)

        async def moment() -> None:
            async with self._marks.connection() as conn:
                await replication.moment(conn)

        questions = Questions()
        world = LiveWorld(self.settings.instance_id, replication, self._log, self._locale, self._reading, questions)
        encoder = Encoder(world.positions)
        fanout = FanOut(self._log, encoder, self.emit, before_each=self.access.sessions.expire, questions=questions)
        # Rows that a snapshot sees are not selected by rights that were changed before.
        snapshots = Snapshots(self._readers, catch_up if self.settings.roles.all else None)
        asking = Asking(fanout, self._log, Snapshots(self._askers), catch_up, moment, self.emit)
        self._ask(asking)
        self._core = Core(
            world=world,
            authenticator=self.access.authenticator,
            authors=Authors(self.settings.roles, self.auth.namespace),
            sessions=self.access.sessions,
            encoder=encoder,
            fanout=fanout,
            clients=ClientStore(pool),
            checkpoints=Checkpoints(pool),
            snapshots=snapshots,
            loader=TableLoader(fanout, self._log, snapshots, world, catch_up, self.emit, asking),
            writer=Writer(pool, ownership, self.emit),
            catch_up=catch_up,
            read_rights=self._read_rights,
            emit=self.emit,
        )
        self._reading.begin(self._core)
        if earlier is not None:
            self._core = replace(
                self._core,
                open=earlier.open,
                writes=earlier.writes,
                numbers=earlier.numbers,
                first_calls=earlier.first_calls,
                turns=earlier.turns,
            )

    def _tell_authentication(self) -> None:
        auth = self.auth
        algorithms = tuple(algorithm.name for algorithm in auth.algorithms)
        keys = tuple(sorted(auth.ring.thumbprints))
        source = auth.remote.address if auth.remote is not None else None
        self.emit(
            AuthenticationConfigured(auth.mode, algorithms, keys, source, auth.issuer, auth.audience, auth.namespace)
        )
        admin = self.settings.admin
        for sentence in (*auth.warnings, *(admin.warnings if admin is not None else ())):
            self.emit(AuthenticationWarning(sentence))

    def _ask(self, asking: Asking) -> None:
        """``asking`` takes the place of what asked in an earlier history."""
        if self._asking is not None:
            self._asking.cancel()
        self.asking = asking
        self._asking = asyncio.create_task(asking.run())
        self._asking.add_done_callback(self._ended)

    def reload(self) -> None:
        """Reads the keys again, because an operator says that they have changed (SIGHUP)."""
        self.access.reload()

    async def _remind(self) -> None:
        while True:
            await asyncio.sleep(INSECURE_REMINDER)
            self.emit(InsecureModeActive())


def key_source(settings: Settings, notify: Notify) -> KeySource:
    """Where the keys of this configuration come from while the service runs."""
    auth = settings.auth
    if auth.remote is not None:
        return issued_keys(auth.remote, auth.algorithms, notify)
    if auth.key_files:
        names = ", ".join(str(path) for path in auth.key_files)
        return WatchedKeys(names, auth.ring, auth.key_files, settings.read_keys_again, notify)
    return FixedKeys(auth.ring)


async def _stop_embedded(embedded: EmbeddedPostgres, starting: asyncio.Future[None]) -> None:
    # a thread that is starting it cannot be interrupted, and would start it after it was stopped
    await asyncio.wait([starting])
    await asyncio.to_thread(embedded.stop)


def _public_reason(error: Exception) -> str:
    """Why Postgres cannot be used, without what only its operator should read: hosts, roles and names stay out."""
    match error:
        case requirements.DatabaseRequirementError():
            codes = ", ".join(requirement.code for requirement in error.unmet)
            return f"Postgres does not meet the requirements: {codes} (the log says how to meet them)"
        case schema.SchemaTooNewError():
            return "the database was prepared by a newer release of Leyden"
        case psycopg.OperationalError():
            return "Postgres cannot be reached, or refuses the connection (the log says why); trying again"
        case _:
            return "Postgres refused to be prepared (the log says why); trying again"


def service_app(service: Service, extra_routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The ASGI application around ``service``, which runs during the application's lifespan."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with service.running():
            yield

    return create_app(service, lifespan=lifespan, extra_routes=list(extra_routes))


def asgi_app(settings: Settings, *, emit: Emit | None = None) -> Starlette:
    """Leyden as an ASGI application, to be served alone or mounted in another.

    A mounted application's lifespan is not run by its host: hand it on, as in
    ``FastAPI(lifespan=lambda _: app.router.lifespan_context(app))``.
    """
    return service_app(Service(settings, emit))
