"""Applies what clients upload: one upload is one Postgres transaction, exactly once.

Owns the transaction, its retries and its outcome. The meaning of concurrent changes is decided in
``conflict/``, the SQL of single rows is in :mod:`leyden.postgres.rows`. Must not know connections of
clients or the wire.

The usual upload costs three round trips whatever its size: announce, claim and lock; write; commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import Enum
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolClosed

from leyden import events
from leyden.conflict.operations import compensation
from leyden.conflict.resolution import resolve
from leyden.conflict.tags import Tag
from leyden.model import POSTGRES_ORIGIN, Table, Upload
from leyden.postgres.catalog import load_tables
from leyden.postgres.clients import claim_upload, require_owner
from leyden.postgres.rejections import announce, answer_again, record_refusal
from leyden.postgres.revival import parents_of
from leyden.postgres.rows import Connection, RawKey, RowReader, RowWrite, StoredRow, name_server_row
from leyden.postgres.sqlstates import (
    NO_DATA,
    UNTRANSLATABLE_TEXT,
    Refusal,
    is_about_the_upload,
    is_contention,
    is_server_trouble,
    is_worth_another_attempt,
    refusal_of,
)
from leyden.postgres.upload_plan import PlannedOperation, UploadRefusedError, plan_upload

#: Seconds before the second, third, … attempt after a failure that may pass; the last one repeats.
RETRY_DELAYS = (0.02, 0.1, 0.5, 1.0, 2.0, 5.0)


class Outcome(Enum):
    APPLIED = "applied"
    #: Its LSN was reached before; nothing was done, but perhaps its author told so again.
    ALREADY_APPLIED = "already applied"
    #: Refused for good: kept in ``leyden.rejected``, its author is sent the truth, its LSN counts as done.
    REFUSED = "refused"


class _RowMovedError(Exception):
    """A side effect within the transaction (a cascade, a trigger) changed a row after it was read."""


class Writer:
    """Writes uploads into Postgres. Uploads of one client must be applied one after another, in their order;
    those of different clients may run side by side, as many as ``pool`` has connections.

    The pool's sessions must run with the settings of :mod:`leyden.postgres.sessions`.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]],
        emit: events.Emit = events.ignore,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._pool = pool
        self._emit = emit
        self._sleep = sleep

    async def apply(self, upload: Upload) -> Outcome:
        """Apply ``upload``, or refuse it for good. Returns once the outcome is durable.

        Failures that may pass (lost races, a database away) are retried for as long as it takes; cancel to
        give up, the effect stays exactly once. Raises
        :class:`~leyden.postgres.clients.ClientBelongsToOther` when the client is bound to another user,
        :class:`ValueError` for a client id that cannot be an origin, :class:`psycopg_pool.PoolClosed` at
        shutdown, and the :class:`psycopg.Error` when even a refusal cannot be stored.
        """
        if not upload.client_id or upload.client_id == POSTGRES_ORIGIN or "@" in upload.client_id:
            raise ValueError("this client id cannot stand in a tag")
        refusal: Refusal | None = None
        stepwise = False
        failures = 0
        while True:
            try:
                outcome = await self._attempt(upload, refusal, stepwise)
            except UploadRefusedError as error:
                refusal = error.refusal
            except UnicodeDecodeError:
                refusal = Refusal(UNTRANSLATABLE_TEXT, "a value is not UTF-8")
            except _RowMovedError:
                stepwise = True
            except PoolClosed:
                raise
            except psycopg.Error as error:
                if is_contention(error) or is_server_trouble(error):
                    await self._pause(error, failures)
                    failures += 1
                elif is_worth_another_attempt(error) and not stepwise:
                    stepwise = True
                elif refusal is None and is_about_the_upload(error):
                    refusal = refusal_of(error)
                else:
                    raise
            else:
                break
        if outcome is Outcome.APPLIED:
            self._emit(events.UploadApplied(upload.client_id, len(upload.changes)))
        elif outcome is Outcome.REFUSED and refusal is not None:
            self._emit(events.UploadRefused(upload.client_id, refusal.sqlstate))
        return outcome

    async def _attempt(self, upload: Upload, refusal: Refusal | None, stepwise: bool) -> Outcome:
        async with self._pool.connection() as conn:
            if refusal is not None:
                done = await record_refusal(conn, upload, refusal)
                return Outcome.REFUSED if done else Outcome.ALREADY_APPLIED
            done = await _UploadTransaction(conn, upload).run(stepwise)
            return Outcome.APPLIED if done else Outcome.ALREADY_APPLIED

    async def _pause(self, error: psycopg.Error, failures: int) -> None:
        delay = RETRY_DELAYS[min(failures, len(RETRY_DELAYS) - 1)]
        if is_server_trouble(error):
            state = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
            self._emit(events.DatabaseUnavailable(f"Postgres did not take a client's upload{state}", delay))
        await self._sleep(delay)


class _UploadTransaction:
    """One attempt at one upload on one connection."""

    def __init__(self, conn: Connection, upload: Upload) -> None:
        self._conn = conn
        self._upload = upload
        self._tag = Tag(upload.timestamp_ms, upload.client_id)

    async def run(self, stepwise: bool) -> bool:
        """Commit the upload; False when its LSN was reached before.

        ``stepwise`` reads each row again right before its turn, so that side effects of earlier writes are
        seen; otherwise all rows are resolved at once and :class:`_RowMovedError` is raised where that was
        not true.
        """
        planned = plan_upload(self._upload.changes)
        applied = True
        async with self._conn.pipeline() as pipeline, self._conn.transaction():
            # First of all, so that the stream learns the author before the first change.
            await announce(self._conn, self._upload)
            claim = await claim_upload(self._conn, self._upload)
            rows = await self._lock(pipeline, ((operation.table, operation.key) for operation in planned))
            if claim.rowcount == 0:
                await require_owner(self._conn, self._upload)
                applied = False
                raise psycopg.Rollback
            writes = None if stepwise else self._resolve_all(planned, rows)
            if writes is None:
                await self._write_stepwise(pipeline, planned)
            else:
                await self._write_all(pipeline, writes)
            # Triggers deferred to the commit must find no row that is ours to tag.
            await name_server_row(self._conn, "")
        if not applied and self._upload.afresh:
            await answer_again(self._conn, self._upload)
        return applied

    async def _lock(
        self, pipeline: psycopg.AsyncPipeline, keys: Iterable[tuple[Table, RawKey]]
    ) -> dict[tuple[int, RawKey], StoredRow]:
        """Lock and read rows, in the order of (table, key), so that two uploads cannot wait for each other."""
        wanted: dict[int, tuple[Table, list[RawKey]]] = {}
        for table, key in keys:
            wanted.setdefault(table.id, (table, []))[1].append(key)
        readers = [RowReader(table, keys) for _, (table, keys) in sorted(wanted.items())]
        for reader in readers:
            await reader.send(self._conn)
        await pipeline.sync()
        return {(reader.table.id, key): row for reader in readers for key, row in reader.rows().items()}

    def _resolve_all(
        self, planned: list[PlannedOperation], rows: dict[tuple[int, RawKey], StoredRow]
    ) -> list[RowWrite] | None:
        """The writes of the whole upload, each built on the former. ``None`` when a revived row may need
        parents.
        """
        current = {(row.table.id, row.pk): row for row in rows.values()}
        writes = []
        for operation in planned:
            row = current[operation.table.id, rows[operation.table.id, operation.key].pk]
            write = self._resolve(operation, row)
            if write.revives and operation.table.foreign_keys:
                return None
            if write.needed:
                current[row.table.id, row.pk] = write.after
                writes.append(write)
        return writes

    def _resolve(self, operation: PlannedOperation, row: StoredRow) -> RowWrite:
        return RowWrite(row, resolve(row.state, operation.operation.with_key(row.key_values), self._tag))

    async def _write_all(self, pipeline: psycopg.AsyncPipeline, writes: list[RowWrite]) -> None:
        for write in writes:
            await write.send(self._conn)
        await pipeline.sync()
        if not all(write.hit() for write in writes):
            raise _RowMovedError

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
            if write.revives and (row.table.id, row.pk) not in climbed:
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
            if write.needed and (write.revives or done is operation):
                await self._write(pipeline, write)

    async def _write(self, pipeline: psycopg.AsyncPipeline, write: RowWrite) -> None:
        await write.send(self._conn)
        await pipeline.sync()
        if not write.hit():
            table = write.before.table
            raise UploadRefusedError(Refusal(NO_DATA, f"a write to table {table.name} was suppressed"))
