"""The reader of the replication slot: from Postgres' WAL into the transaction log, for as long as the service
runs.

Owns the life cycle: connect, claim the slot, stream, confirm, reconnect. What a message means is
``ingest``'s, who reads the log is not known here.

The slot is confirmed no further than the log's floor, so that after a restart Postgres sends the whole window
again and the memory log is as it was: the slot is what makes the log durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psycopg

from leyden.cancellation import cancel
from leyden.events import (
    Emit,
    ReplicationCaughtUp,
    ReplicationInterrupted,
    ReplicationStarted,
    UnexpectedError,
)
from leyden.log import OutsideWindow, TransactionLog
from leyden.model import Migration, Suspension, Table, Transaction
from leyden.postgres import catalog, checkpoints
from leyden.postgres.replication.announcement import load_prefix
from leyden.postgres.replication.ingest import MOMENT_PREFIX, Ingest
from leyden.postgres.replication.inspection import Inspection
from leyden.postgres.replication.publication import slot_name
from leyden.postgres.replication.slot import Claim, Connection, PassedVersion, SlotUnusable, claim, remember
from leyden.postgres.replication.wal_stream import WalStream
from leyden.postgres.sessions import connect

HEARTBEAT_PREFIX = "leyden.heartbeat"

#: The slot moves in steps of at least this many bytes of WAL, as each is written down first, which is WAL
#: itself.
_CONFIRM_STEP = 1 << 20


@dataclass(frozen=True, slots=True)
class _Pending:
    """A checkpoint on its way: of the transactions after ``head``, those at or below ``target`` come before it."""

    xid: int
    target: int
    head: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals in seconds."""

    #: Between status updates to the walsender, each of which it must answer.
    status: float = 10.0
    #: Of idleness before the walsender is written to, which wakes it. One that misses the wake-up of a commit
    #: sleeps until it hears something, at worst until the next status update. A tenth while catching up.
    nudge: float = 1.0
    #: Without any movement of the stream before a heartbeat is written.
    heartbeat: float = 15.0
    #: Between checkpoints, while transactions come.
    checkpoint: float = 60.0
    #: Without any sign of the server before the connection is given up.
    silence: float = 45.0
    #: Of uninterrupted work before the event loop gets to serve others.
    slice: float = 0.01
    #: Between looks at the tables where nothing guards them.
    inspection: float = 2.0
    #: Shortest and longest wait before reconnecting.
    shortest_retry: float = 1.0
    longest_retry: float = 10.0


class Replication:
    """Fills ``log`` from the database at ``dsn``. ``wal_window`` is the resumable window in bytes of WAL.

    ``on_migration`` hears of each migration not known before, ``on_epoch`` of each new epoch after the first
    one (every position given out before is void then), ``on_suspended`` of each table of which nothing is delivered
    from now on. All before the log does; none may raise.
    """

    def __init__(
        self,
        dsn: str,
        log: TransactionLog,
        emit: Emit,
        *,
        wal_window: int,
        on_migration: Callable[[Migration], None] | None = None,
        on_epoch: Callable[[str], None] | None = None,
        on_suspended: Callable[[Table], None] = lambda table: None,
        on_rights: Callable[[int], None] = lambda xid: None,
        timing: Timing = Timing(),
    ) -> None:
        self._dsn = dsn
        self._log = log
        self._emit = emit
        self._wal_window = wal_window
        self._on_migration = on_migration
        self._on_epoch = on_epoch
        self._on_suspended = on_suspended
        self._on_rights = on_rights
        self._timing = timing
        #: Set while every transaction that had committed when the present connection was made is in the log.
        self.caught_up = asyncio.Event()
        #: Identifies the history that positions belong to; empty until the slot was claimed for the first
        #: time.
        self.epoch = ""
        #: Why replication is not ready, for people; empty when it is.
        self.status = "not started"
        #: Every migration known, in order of version.
        self.migrations: list[Migration] = []
        self._tables: dict[int, Table] = {}
        self._ingest: Ingest | None = None
        self._saved = (0, 0)
        #: The versions of the clients' schema that have come by, the newest last.
        self._passed: list[PassedVersion] = []
        #: Position of the newest checkpoint taken by this process.
        self._checkpoint: int | None = None
        self._transactions = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.inspection = Inspection()

    @property
    def tables(self) -> Mapping[int, Table]:
        """Current descriptions by table id; live."""
        return self._tables

    @property
    def stopped(self) -> Mapping[int, Suspension]:
        """Tables whose rows are not delivered because they no longer match their description, and why."""
        return self._ingest.stopped if self._ingest is not None else {}

    @property
    def suspended(self) -> Mapping[str, Suspension]:
        """The same by name."""
        tables = self._tables
        return {tables[id_].name: suspension for id_, suspension in self.stopped.items() if id_ in tables}

    def reopened_since(self, position: int) -> frozenset[str]:
        """Names of the tables of which something after ``position`` is missing."""
        reopened = self._ingest.reopened.items() if self._ingest is not None else ()
        return frozenset(self._tables[id_].name for id_, at in reopened if at > position and id_ in self._tables)

    @property
    def position(self) -> int:
        """The WAL position up to which every transaction is in the log."""
        return self._ingest.position if self._ingest is not None else 0

    async def run(self) -> None:
        """Until cancelled. Whatever goes wrong is told to ``emit`` and tried again after a while."""
        retry_in = self._timing.shortest_retry
        while True:
            self.status = "connecting to Postgres"
            try:
                await self._session()
            except (psycopg.Error, OSError, SlotUnusable) as error:
                reason = _first_line(error)
            except Exception as error:
                # A defect of ours. Trying again is all that can be done, and it must be seen.
                reason = f"unexpected {type(error).__name__}"
                self._emit(UnexpectedError("replication", "".join(traceback.format_tb(error.__traceback__))))
            if self.caught_up.is_set():
                retry_in = self._timing.shortest_retry
                self.caught_up.clear()
            self.status = f"replication interrupted: {reason}"
            self._emit(ReplicationInterrupted(reason, retry_in))
            await asyncio.sleep(retry_in)
            retry_in = min(retry_in * 2, self._timing.longest_retry)

    async def mark(self, conn: Connection) -> int:
        """Marks the present end of the stream, after every transaction that has committed so far; for :meth:`reach`.

        ``conn`` is an ordinary session outside a transaction block, or in one that it may commit.
        """
        position = await _emit_heartbeat(conn, transactional=True)
        await conn.commit()
        return position

    async def moment(self, conn: Connection) -> None:
        """Puts a transaction that changes nothing into the log, as soon as it comes by in the stream; ``conn`` as for
        :meth:`mark`."""
        await _emit_heartbeat(conn, transactional=True, prefix=MOMENT_PREFIX)
        await conn.commit()

    async def reach(self, position: int) -> None:
        """Returns once the log holds every transaction up to ``position``."""
        if self.position < position:
            reached = asyncio.get_running_loop().create_future()
            self._waiting.append((position, reached))
            await reached

    async def _session(self) -> None:
        """From connecting to the failure that ends it."""
        async with (
            await connect(self._dsn, autocommit=True) as control,
            await connect(self._dsn, autocommit=True) as inspecting,
        ):
            wal = await WalStream.open(self._dsn)
            try:
                await self._stream(control, inspecting, wal)
            finally:
                await wal.close()

    async def _stream(self, control: Connection, inspecting: Connection, wal: WalStream) -> None:
        system = await wal.identify()
        self.status = "preparing the replication slot; this waits for running transactions to end"
        claimed = await claim(control, slot_name(system.database), system)
        # Before what it says is read: a table may have been altered while nobody watched.
        await self.inspection.run(inspecting)
        ingest = await self._take_up(control, claimed)
        self.status = "reading the resumable window from Postgres"
        await wal.start(claimed.slot, self._log.head)
        self._emit(ReplicationStarted(claimed.slot, self._log.head))
        # Transactional, because only a commit is flushed at once, and only what is flushed is streamed.
        target = await _emit_heartbeat(control, transactional=True)
        reader = asyncio.create_task(self._read(wal, ingest, target))
        keeper = asyncio.create_task(self._keep(control, wal, ingest))
        inspector = asyncio.create_task(self._inspect(inspecting, ingest))
        tasks = (reader, keeper, inspector)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel(*tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _take_up(self, control: Connection, claimed: Claim) -> Ingest:
        """Go on where the last session ended, or begin with what the database says now."""
        self._saved = (claimed.floor, claimed.confirmed)
        ingest = self._ingest
        if ingest is None or claimed.epoch != self.epoch:
            async with control.transaction():
                # One snapshot for all: the migrations known are those that the descriptions include.
                await control.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                cursor = await control.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
                row = await cursor.fetchone()
                tables = await catalog.load_tables(control)
                suspended = await catalog.load_suspended(control)
                migrations = await catalog.load_migrations(control)
                announcements = await load_prefix(control)
            self._tables.clear()
            self._tables.update(tables)
            self.migrations[:] = migrations
            self._log.reset(claimed.floor)
            self._passed = list(claimed.passed)
            ingest = self._ingest = Ingest(
                self._tables,
                self.migrations,
                next_xid=int(row[0]) if row is not None else 0,
                emit=self._emit,
                passed=claimed.version,
                announcements=announcements,
                suspended=suspended,
                on_migration=self._on_migration,
                on_suspended=self._on_suspended,
                on_rights=self._on_rights,
            )
            self._transactions = 0
            earlier, self.epoch = self.epoch, claimed.epoch
            if earlier and self._on_epoch is not None:
                self._on_epoch(self.epoch)
        else:
            ingest.start_session()
        return ingest

    async def _read(self, wal: WalStream, ingest: Ingest, target: int) -> None:
        """Stream into the log. ``target`` is where this session has caught up."""
        caught_up = False
        pause_at = time.monotonic() + self._timing.slice
        while True:
            for frame in wal.drain():
                if isinstance(frame, bytes):
                    completed = ingest.feed(frame)
                    if ingest.announced:
                        ingest.announced = False
                        self.inspection.due.set()
                    if completed:
                        assembling = ingest.assemble()
                        while True:
                            try:
                                next(assembling)
                            except StopIteration as end:
                                if end.value is not None:
                                    self._append(*end.value)
                                break
                            if time.monotonic() >= pause_at:
                                pause_at = await self._pause()
                else:
                    ingest.advance(frame.position)
                    if frame.reply_requested:
                        wal.report(ingest.position)
                if not caught_up and ingest.position >= target:
                    caught_up = True
                    ingest.caught_up()
                    self._note_older_versions()
                    self.status = ""
                    self.caught_up.set()
                    self._emit(ReplicationCaughtUp(ingest.position, self._transactions))
                if time.monotonic() >= pause_at:
                    pause_at = await self._pause()
            if self._waiting:
                self._wake(ingest.position)
            idle = self._timing.nudge if caught_up else self._timing.nudge / 10
            if not await wal.wait(idle):
                wal.report(ingest.position)
            pause_at = time.monotonic() + self._timing.slice

    def _note_older_versions(self) -> None:
        """What is known and has not come by is from before the stream: where that was not written down."""
        floor, _ = self._saved
        if not any(one.version and one.position <= floor for one in self._passed):
            noted = {one.version for one in self._passed}
            older = [one.version for one in self.migrations if one.version not in noted]
            if older:
                self._passed.insert(0, PassedVersion(floor, max(older)))

    def _wake(self, position: int) -> None:
        still_waiting = []
        for target, reached in self._waiting:
            if target > position and not reached.done():
                still_waiting.append((target, reached))
            elif not reached.done():
                reached.set_result(None)
        self._waiting = still_waiting

    async def _pause(self) -> float:
        """Let others run, as the slice is used up. Returns when the next one ends."""
        await asyncio.sleep(0)
        return time.monotonic() + self._timing.slice

    def _append(self, transaction: Transaction, size: int) -> None:
        if transaction.position <= self._log.head:
            return  # sent again after the slot fell back in a crash
        self._transactions += 1
        migration = transaction.migration
        if migration is not None and all(migration.version != one.version for one in self._passed):
            self._passed.append(PassedVersion(transaction.position, migration.version))
        self._log.append(transaction, size)
        self._log.trim(transaction.position - self._wal_window)

    async def _inspect(self, conn: Connection, ingest: Ingest) -> None:
        """Looks whether tables are what clients were told, or are so again: when the stream says that one was altered,
        and where nothing guards them from time to time."""
        await self.caught_up.wait()
        while True:
            stopped = tuple(ingest.stopped)
            if await self.inspection.run(conn, stopped) and stopped:
                await self.reach(await self.mark(conn))  # so that it is known which were taken up
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timing.inspection):
                    await self.inspection.due.wait()

    async def _keep(self, control: Connection, wal: WalStream, ingest: Ingest) -> None:
        """Status updates, confirmation, heartbeats, checkpoints; apart from reading, as they wait for the database."""
        moved_at, seen = time.monotonic(), ingest.position
        checkpoint: _Pending | None = None
        due_at = time.monotonic()
        while True:
            await asyncio.sleep(self._timing.status)
            now = time.monotonic()
            if now - wal.heard_at > self._timing.silence:
                raise psycopg.OperationalError("the replication stream fell silent")
            wal.report(ingest.position, ask=True)
            await self._confirm(control, wal, ingest)
            if ingest.position != seen:
                moved_at, seen = now, ingest.position
            elif now - moved_at >= self._timing.heartbeat:
                moved_at = now
                await _emit_heartbeat(control, transactional=False)
            if checkpoint is not None and ingest.position >= checkpoint.target:
                await self._store_checkpoint(control, checkpoint)
                checkpoint = None
            elif checkpoint is None and now >= due_at and self.caught_up.is_set():
                due_at = now + self._timing.checkpoint
                if self._log.head != self._checkpoint:
                    checkpoint = await self._begin_checkpoint(control)

    async def _begin_checkpoint(self, control: Connection) -> _Pending:
        head = self._log.head
        xid = await checkpoints.oldest_running(control)
        # Only a commit is flushed at once, and so sure to be reached. All that had ended committed below it.
        return _Pending(xid, await _emit_heartbeat(control, transactional=True), head)

    async def _store_checkpoint(self, control: Connection, pending: _Pending) -> None:
        try:
            after = self._log.after(pending.head)
        except OutsideWindow:
            return  # the next one will do
        position = max((one.position for one in after if one.position <= pending.target), default=pending.head)
        await checkpoints.store(control, position, pending.xid)
        self._checkpoint = position

    async def _confirm(self, control: Connection, wal: WalStream, ingest: Ingest) -> None:
        log = self._log
        log.trim(ingest.position - self._wal_window)
        floor, confirmed = self._saved
        # With nothing in the log there is nothing to be sent again: the slot may go with the stream.
        safe = max(confirmed, log.floor if log.head > log.floor else ingest.position)
        if log.floor == floor and safe - confirmed < _CONFIRM_STEP:
            return
        saved = (log.floor, safe)
        await remember(control, floor=log.floor, confirmed=safe, passed=self._passed)
        self._saved = saved
        wal.confirm(ingest.position, safe)


async def _emit_heartbeat(control: Connection, *, transactional: bool, prefix: str = HEARTBEAT_PREFIX) -> int:
    """Write a message that every reader of the slot receives. Returns its WAL position."""
    cursor = await control.execute(
        "SELECT pg_logical_emit_message(%s, %s, '') - '0/0'::pg_lsn", [transactional, prefix]
    )
    row = await cursor.fetchone()
    return int(row[0]) if row is not None else 0


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
