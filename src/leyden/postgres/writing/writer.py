"""Applies what clients upload: one upload is one Postgres transaction, exactly once.

Owns the transaction, its retries and its outcome. The meaning of concurrent changes is decided in
``conflict/``, the SQL of single rows is in :mod:`leyden.postgres.writing.rows`. Must not know connections of
clients or the wire.

The usual upload costs three round trips whatever its size: announce, claim and lock; write; commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolClosed

from leyden import events
from leyden.conflict.operations import Kind, compensation
from leyden.conflict.resolution import resolve
from leyden.conflict.tags import Tag
from leyden.model import POSTGRES_ORIGIN, Author, ClientCompensation, Table, Upload
from leyden.postgres.catalog import load_tables
from leyden.postgres.clients import claim_upload, require_owner
from leyden.postgres.writing.rejected import Rejection
from leyden.postgres.writing.rejections import announce, record_refusal, tell_again
from leyden.postgres.writing.revival import parents_of
from leyden.postgres.writing.rights import OwnerRule, Rights, tell_author
from leyden.postgres.writing.rows import Connection, RawKey, RowReader, RowWrite, StoredRow, name_server_row
from leyden.postgres.writing.sqlstates import (
    INSUFFICIENT_PRIVILEGE,
    NO_DATA,
    NO_TABLE,
    NOT_NOW,
    UNTRANSLATABLE_TEXT,
    Refusal,
    is_about_the_upload,
    is_contention,
    is_lack_of_right,
    is_server_trouble,
    is_worth_another_attempt,
    may_be_the_uploads_fault,
    refusal_of,
)
from leyden.postgres.writing.upload_plan import PlannedOperation, UploadRefusedError, plan_upload

#: Seconds before the second, third, … attempt after a failure that may pass; the last one repeats.
RETRY_DELAYS = (0.02, 0.1, 0.5, 1.0, 2.0, 5.0)

#: How often a key is inserted by somebody else after we saw that it was not there, until that counts as no accident.
ACCIDENTS = 8


#: Failures by trouble of the server after which the upload is taken for their cause, if it may be: after 20 s or so.
PATIENCE_WITH_UPLOADS = 8

#: Failures that may pass after which somebody who waits in front of a screen is told.
PATIENCE_OF_OPERATORS = 4


#: The electrified ones of some tables, with the reasons for which they are suspended.
_SERVED = "SELECT table_id::int8, suspended ->> 'reason' FROM leyden.tables WHERE table_id = ANY (%s::oid[])"


class Outcome(Enum):
    APPLIED = "applied"
    #: Its LSN was reached before; nothing was done, but that an author who may have missed its echo gets one.
    ALREADY_APPLIED = "already applied"
    #: Refused for good: kept in ``leyden.rejected``, its author is sent the truth, its LSN counts as done.
    REFUSED = "refused"


class _RowMovedError(Exception):
    """A side effect within the transaction (a cascade, a trigger), or somebody who wrote a row that was not there yet,
    changed a row of ``table`` after it was read."""

    def __init__(self, table: str) -> None:
        super().__init__(table)
        self.table = table


class Writer:
    """Writes uploads into Postgres. Uploads of one client must be applied one after another, in their order;
    those of different clients may run side by side, as many as ``pool`` has connections.

    The pool's sessions must run with the settings of :mod:`leyden.postgres.sessions`, and are left in autocommit mode.
    ``owner_rule`` tells whose rows are, where no database role decides.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]],
        owner_rule: OwnerRule,
        emit: events.Emit = events.ignore,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._pool = pool
        self._owner_rule = owner_rule
        self._emit = emit
        self._sleep = sleep

    async def apply(self, upload: Upload, author: Callable[[], Author]) -> Outcome:
        """Apply ``upload``, or refuse it for good. Returns once the outcome is durable.

        ``author`` is asked at each attempt in whose name it is written: what he may can change while it is retried.
        Failures that may pass (lost races, a database away) are retried for as long as it takes; cancel to
        give up, the effect stays exactly once. Raises
        :class:`~leyden.postgres.clients.ClientBelongsToOther` when the client is bound to another user,
        :class:`ValueError` for a client id that cannot be an origin, :class:`psycopg_pool.PoolClosed` at
        shutdown, and the :class:`psycopg.Error` when even a refusal cannot be stored.
        """
        if not upload.client_id or upload.client_id == POSTGRES_ORIGIN or "@" in upload.client_id:
            raise ValueError("this client id cannot stand in a tag")

        if upload.flaw is not None:
            return await self._refuse(upload, author, Refusal(upload.flaw.sqlstate, upload.flaw.message))

        async def write(conn: Connection, stepwise: bool) -> bool:
            return await _UploadTransaction(conn, upload, author(), self._owner_rule).run(stepwise)

        try:
            applied = await self._persist(upload, write)
        except UploadRefusedError as error:
            return await self._refuse(upload, author, error.refusal)
        if not applied:
            return await self._already_applied(upload, author)
        self._emit(events.UploadApplied(upload.client_id, len(upload.changes)))
        return Outcome.APPLIED

    async def apply_again(self, rejection: Rejection) -> bool:
        """Apply a refused upload as its author would have, at its time, and forget the refusal in the same transaction.
        False when there is no such refusal any more.

        Raises :class:`UploadRefusedError` when it is refused again, which leaves the entry as it is,
        :class:`~leyden.postgres.writing.change_json.UnknownTable`, and database errors.
        """
        async with self._pool.connection() as conn:
            tables = {table.name: table for table in (await load_tables(conn)).values()}
        upload = rejection.upload(tables)

        async def write(conn: Connection, stepwise: bool) -> bool:
            transaction = _UploadTransaction(conn, upload, rejection.author, self._owner_rule, rejection.id)
            return await transaction.run(stepwise)

        return await self._persist(upload, write, patience=PATIENCE_OF_OPERATORS)

    async def _refuse(self, upload: Upload, author: Callable[[], Author], refusal: Refusal) -> Outcome:
        async def record(conn: Connection, stepwise: bool) -> bool:
            return await record_refusal(conn, upload, author(), refusal)

        if not await self._persist(upload, record, refusable=False):
            return await self._already_applied(upload, author)
        self._emit(events.UploadRefused(upload.client_id, refusal.sqlstate))
        return Outcome.REFUSED

    async def _already_applied(self, upload: Upload, author: Callable[[], Author]) -> Outcome:
        """Its author would not send it again if it had heard of it. Who may have missed more is told more."""

        async def tell(conn: Connection, stepwise: bool) -> bool:
            author()  # nobody is told who may not write any more, or has gone
            return await tell_again(conn, upload)

        if upload.echo_missed:
            await self._persist(upload, tell, refusable=False)
        return Outcome.ALREADY_APPLIED

    async def _persist(
        self,
        upload: Upload,
        attempt: Callable[[Connection, bool], Awaitable[bool]],
        *,
        refusable: bool = True,
        patience: float = math.inf,
    ) -> bool:
        """What ``attempt`` returns once it did not fail. Its second argument says to go step by step; the failures that
        may pass of which there are more than ``patience`` are raised.

        Raises :class:`UploadRefusedError` for what Postgres refuses for good, if it may be refused.
        """
        stepwise = False
        failures = accidents = 0
        while True:
            try:
                async with self._pool.connection() as conn:
                    return await attempt(conn, stepwise)
            except _RowMovedError as error:
                # Read right before it was written and not the same: others were faster, or a trigger does it each time.
                if stepwise and accidents >= ACCIDENTS:
                    raise UploadRefusedError(_suppressed(error.table)) from None
                accidents += stepwise
                stepwise = True
            except UnicodeDecodeError:
                raise UploadRefusedError(Refusal(UNTRANSLATABLE_TEXT, "a value is not UTF-8")) from None
            except PoolClosed:
                raise
            except psycopg.Error as error:
                if is_contention(error) or is_server_trouble(error):
                    if refusable and failures >= PATIENCE_WITH_UPLOADS and may_be_the_uploads_fault(error):
                        raise UploadRefusedError(refusal_of(error)) from None
                    if failures >= patience:
                        raise
                    await self._pause(error, failures)
                    failures += 1
                elif (not stepwise and _may_do_with_less(upload, error)) or (
                    is_worth_another_attempt(error) and accidents < ACCIDENTS
                ):
                    accidents += 1
                    stepwise = True
                elif refusable and is_about_the_upload(error):
                    raise UploadRefusedError(refusal_of(error)) from None
                else:
                    raise

    async def _pause(self, error: psycopg.Error, failures: int) -> None:
        delay = RETRY_DELAYS[min(failures, len(RETRY_DELAYS) - 1)]
        if is_server_trouble(error):
            state = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
            self._emit(events.DatabaseUnavailable(f"Postgres did not take a client's upload{state}", delay))
        await self._sleep(delay)


def _suppressed(table: str) -> Refusal:
    return Refusal(NO_DATA, f"a write to table {table} was suppressed")


def _may_do_with_less(upload: Upload, error: psycopg.Error) -> bool:
    """Whether it may have been a compensation alone that its author has no right to, which can be left out."""
    return is_lack_of_right(error) and any(isinstance(change, ClientCompensation) for change in upload.changes)


@contextlib.asynccontextmanager
async def _transaction(conn: Connection) -> AsyncIterator[psycopg.AsyncPipeline]:
    """A transaction in a pipeline that waits for answers only where it is synchronised, and at the end. psycopg's own
    waits behind BEGIN, before and behind COMMIT as well."""
    await conn.set_autocommit(True)  # or psycopg begins one, too
    async with conn.pipeline() as pipeline:
        await conn.execute("BEGIN", prepare=False)
        try:
            yield pipeline
        except BaseException as error:
            with contextlib.suppress(psycopg.Error):  # one more must not hide the first
                await _drain(conn, pipeline)
                await conn.rollback()
            if not isinstance(error, psycopg.Rollback):
                raise
        else:
            await conn.execute("COMMIT", prepare=False)


@contextlib.asynccontextmanager
async def _savepoint(conn: Connection, pipeline: psycopg.AsyncPipeline) -> AsyncIterator[None]:
    """What fails in it is undone, and the transaction around it goes on."""
    async with conn.transaction():
        try:
            yield
        except psycopg.Error:
            await _drain(conn, pipeline)
            raise


async def _drain(conn: Connection, pipeline: psycopg.AsyncPipeline) -> None:
    """After a failure the pipeline skips everything up to the next synchronisation, a ROLLBACK too. So it is
    synchronised, as often as there is something to complain about."""
    while not conn.closed:
        with contextlib.suppress(psycopg.Error):
            await pipeline.sync()
            return


class _UploadTransaction:
    """One attempt at one upload on one connection."""

    def __init__(
        self,
        conn: Connection,
        upload: Upload,
        author: Author,
        owner_rule: OwnerRule,
        rejection: int | None = None,
    ) -> None:
        """``rejection`` is the id of the refusal that this takes back; without one the client's position moves on."""
        self._rejection = rejection
        self._conn = conn
        self._upload = upload
        self._author = author
        self._rights = Rights(author, owner_rule)
        self._tag = Tag(upload.timestamp_ms, upload.client_id)

    async def run(self, stepwise: bool) -> bool:
        """Commit the upload; False when its LSN was reached before, or its refusal is not there any more.

        ``stepwise`` reads each row again right before its turn, so that side effects of earlier writes are
        seen; otherwise all rows are resolved at once and :class:`_RowMovedError` is raised where that was
        not true.
        """
        planned = plan_upload(self._upload.changes)
        async with _transaction(self._conn) as pipeline:
            # First of all, so that the stream learns the author before the first change.
            await announce(self._conn, self._upload)
            await tell_author(self._conn, self._author, self._upload.client_id)
            claim = await self._claim()
            rows = await self._lock(pipeline, ((operation.table, operation.key) for operation in planned))
            if claim.rowcount == 0:
                if self._rejection is None:
                    await require_owner(self._conn, self._upload)
                raise psycopg.Rollback
            writes = None if stepwise else self._resolve_all(planned, rows)
            if writes is None:
                await self._write_stepwise(pipeline, planned)
            else:
                await self._write_all(pipeline, writes)
            # Triggers deferred to the commit must find no row that is ours to tag, and run as the author's role.
            await name_server_row(self._conn, "", self._author.role)
            return True
        return False

    async def _claim(self) -> psycopg.AsyncCursor[Any]:
        """Make sure that this happens once; the row count is 0 when it has happened."""
        if self._rejection is None:
            return await claim_upload(self._conn, self._upload)
        return await self._conn.execute("DELETE FROM leyden.rejected WHERE id = %s", [self._rejection])

    async def _lock(
        self, pipeline: psycopg.AsyncPipeline, keys: Iterable[tuple[Table, RawKey]]
    ) -> dict[tuple[int, RawKey], StoredRow]:
        """Lock and read rows, in the order of (table, key), so that two uploads cannot wait for each other.

        Raises :class:`UploadRefusedError` when a table is not clients' to write any more. It stays theirs from here on
        to the end of the transaction: whoever gives it up or alters it needs a lock that waits for ours.
        """
        wanted: dict[int, tuple[Table, list[RawKey]]] = {}
        for table, key in keys:
            wanted.setdefault(table.id, (table, []))[1].append(key)
        readers = [RowReader(table, keys) for _, (table, keys) in sorted(wanted.items())]
        for reader in readers:
            await reader.send(self._conn)
        served = await self._conn.execute(_SERVED, [list(wanted)])
        await pipeline.sync()
        reasons = dict(await served.fetchall())
        for table, _ in wanted.values():
            if table.id not in reasons:
                raise UploadRefusedError(Refusal(NO_TABLE, f"table {table.name} is not shared with clients any more"))
            if (reason := reasons[table.id]) is not None:
                raise UploadRefusedError(Refusal(NOT_NOW, f"table {table.name} is suspended: {reason}"))
        return {(reader.table.id, key): row for reader in readers for key, row in reader.rows().items()}

    def _resolve_all(
        self, planned: list[PlannedOperation], rows: dict[tuple[int, RawKey], StoredRow]
    ) -> list[RowWrite] | None:
        """The writes of the whole upload, each built on the former. ``None`` when a revived row may need
        parents, or a look at what its author may do.
        """
        current = {(row.table.id, row.pk): row for row in rows.values()}
        writes = []
        for operation in planned:
            row = current[operation.table.id, rows[operation.table.id, operation.key].pk]
            write = self._resolve(operation, row)
            if write is None:
                continue
            if write.revives and (operation.table.foreign_keys or self._author.role is not None):
                return None
            current[row.table.id, row.pk] = write.after
            writes.append(write)
        return writes

    def _resolve(self, operation: PlannedOperation, row: StoredRow) -> RowWrite | None:
        """What ``operation`` makes of ``row``; ``None`` when there is nothing to write.

        A compensation of somebody else's row is left out: clients make one for each reference, and whether the
        reference holds is for the foreign key to say.
        """
        write = RowWrite(row, resolve(row.state, operation.operation.with_key(row.key_values), self._tag))
        if not write.needed:
            return None
        if self._rights.allow(write):
            return write
        if operation.operation.kind is Kind.COMPENSATE:
            return None
        reason = f"a row of table {row.table.name} belongs to somebody else"
        raise UploadRefusedError(Refusal(INSUFFICIENT_PRIVILEGE, reason))

    async def _write_all(self, pipeline: psycopg.AsyncPipeline, writes: list[RowWrite]) -> None:
        for write in writes:
            await write.send(self._conn, self._author.role)
        await pipeline.sync()
        for write in writes:
            if not write.hit():
                raise _RowMovedError(write.before.table.name)

    async def _write_stepwise(self, pipeline: psycopg.AsyncPipeline, planned: list[PlannedOperation]) -> None:
        tables = {table.name: table for table in (await load_tables(self._conn)).values()}
        for operation in planned:
            await self._write_one(pipeline, operation, tables)

    async def _write_one(
        self, pipeline: psycopg.AsyncPipeline, operation: PlannedOperation, tables: Mapping[str, Table]
    ) -> None:
        """Run one operation, after reviving the dead rows that the row it revives refers to, and theirs, however
        many there are."""
        waiting = [operation]
        #: Rows whose parents were looked for: a cycle of references ends the climb.
        climbed: set[tuple[int, str]] = set()
        while waiting:
            (row,) = (await self._lock(pipeline, [(waiting[-1].table, waiting[-1].key)])).values()
            write = self._resolve(waiting[-1], row)
            if write is not None and write.revives and (row.table.id, row.pk) not in climbed:
                climbed.add((row.table.id, row.pk))
                parents = parents_of(row.table, write.after.state.main or {}, tables)
                dead = [
                    PlannedOperation(parent.table, parent.key, compensation(parent.table, {}))
                    for parent in (await self._lock(pipeline, parents)).values()
                    if parent.state.main is None and parent.state.dead and (parent.table.id, parent.pk) not in climbed
                ]
                if dead:
                    waiting += dead
                    continue
            done = waiting.pop()
            if write is not None and (write.revives or done is operation):
                await self._write(pipeline, done, write)

    async def _write(self, pipeline: psycopg.AsyncPipeline, operation: PlannedOperation, write: RowWrite) -> None:
        role = self._author.role
        if role is not None and operation.operation.kind is Kind.COMPENSATE and write.before.state.main is not None:
            await self._write_if_allowed(pipeline, write)
            return
        if role is not None and write.revives:
            await self._require_right_to_dead_version(pipeline, write.before)
        await write.send(self._conn, role)
        await pipeline.sync()
        if write.suppressed():
            raise UploadRefusedError(_suppressed(write.before.table.name))
        if not write.hit():
            raise _RowMovedError(write.before.table.name)

    async def _write_if_allowed(self, pipeline: psycopg.AsyncPipeline, write: RowWrite) -> None:
        """A compensation of a living row: it keeps the row alive for those who may write it, and is left out for
        others, who may refer to it all the same."""
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            async with _savepoint(self._conn, pipeline):
                await write.send(self._conn, self._author.role)
                await pipeline.sync()
                if not write.hit():
                    raise psycopg.Rollback

    async def _require_right_to_dead_version(self, pipeline: psycopg.AsyncPipeline, row: StoredRow) -> None:
        """What comes back may hold values of the row as it died, which no policy sees in it: whoever revives the row
        must be allowed to insert that version as well. Tried and undone; that it may lack its parents does not count.
        """
        revival = RowWrite(row, replace(row.state, main=row.state.dead))
        with contextlib.suppress(psycopg.IntegrityError):
            async with _savepoint(self._conn, pipeline):
                await revival.send(self._conn, self._author.role)
                await pipeline.sync()
                raise psycopg.Rollback
