"""Rows as one Postgres snapshot sees them, with their tags, in batches.

Owns the reading transaction. The :class:`~leyden.model.SnapshotPoint` tells the reader which transactions of
the stream the rows already contain; what is done with them is not known here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from leyden.memo import Memo
from leyden.model import EPOCH_TAG, Author, Row, SnapshotPoint, Table
from leyden.postgres.checkpoints import find
from leyden.postgres.reading.asking import selectable_keys
from leyden.postgres.reading.copy_out import copy_out
from leyden.postgres.reading.written import (
    KEY_RESULTS,
    ROW_RESULTS,
    Former,
    WrittenRow,
    parse_written_key,
    parse_written_row,
    written_keys,
    written_rows,
)
from leyden.postgres.replication.suspension import TableStrayed, suspension
from leyden.postgres.row_key import key_expression
from leyden.postgres.tag_text import parse_tags

Result = TypeVar("Result")

#: A row and its tags.
TaggedRow = tuple[Row, tuple[str, ...]]

#: How long a reading takes depends on whoever takes the rows, over whatever link. Not every version has all limits.
#: All rows, or an error: what the policies for the service's own role would leave out must not pass for gone.
_BEGIN = """
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT set_config(name, '0', true)
FROM unnest(ARRAY['statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout']) AS name
WHERE current_setting(name, true) IS NOT NULL;
SET LOCAL row_security = off;
SELECT pg_current_snapshot()
"""

#: Many rows share their tags.
_TAGS: Memo[bytes | None, tuple[str, ...]] = Memo(lambda text: (EPOCH_TAG,) if text is None else parse_tags(text))


class Snapshots:
    """Opens snapshots on connections of ``pool``, whose sessions must have the settings of ``sessions``.

    Those settings make the text of a value equal to the one in the replication stream.
    """

    def __init__(self, pool: AsyncConnectionPool[Any], passed: Callable[[], Awaitable[None]] | None = None) -> None:
        """``passed``, if given, is waited for when a snapshot is there: until then it may have seen what others have
        not heard of, such as a change of policies."""
        self._pool = pool
        self._passed = passed

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Snapshot]:
        """One snapshot, held for as long as the context. Keep it short: it holds back vacuum.

        Raises :class:`psycopg.Error`, or :class:`psycopg_pool.PoolTimeout` when no connection comes free.
        """
        async with self._pool.connection() as conn, conn.transaction():
            beginning = await conn.execute(_BEGIN, prepare=False)
            while beginning.nextset():
                pass
            visible = _text(beginning)
            # After the snapshot: what committed before it ends at or below this position.
            position = _text(await conn.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))
            xmin, xmax, in_progress = visible.split(":")
            snapshot = Snapshot(
                conn,
                SnapshotPoint(
                    xmin=int(xmin),
                    xmax=int(xmax),
                    in_progress=frozenset(int(xid) for xid in in_progress.split(",") if xid),
                    wal_position=int(position),
                ),
            )
            if self._passed is not None:
                await self._passed()
            try:
                yield snapshot
            finally:
                await snapshot.close()


class Snapshot:
    """A reading transaction. Tables are read one after the other, all of them as of ``point``."""

    def __init__(self, conn: psycopg.AsyncConnection[Any], point: SnapshotPoint) -> None:
        self._conn = conn
        self.point = point
        self._reading: AsyncGenerator[Any, None] | None = None

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be read any more."""
        return self._conn.closed

    def keys_for(
        self, table: Table, reader: Author, timeout: float, keys: Collection[Row] | None = None
    ) -> AsyncGenerator[list[Row]]:
        """The primary keys of the rows of ``table`` that ``reader`` may select, of all or of those with ``keys``, as
        :meth:`rows` gives rows. ``timeout`` is for each query (seconds).

        Raises :class:`psycopg.Error` for whatever goes wrong in a policy, too; then the snapshot can still be used.
        """
        self._require_idle()

        async def reading() -> AsyncGenerator[list[Row]]:
            try:
                async with aclosing(selectable_keys(self._conn, table, reader, timeout, keys)) as batches:
                    async for batch in batches:
                        yield batch
            finally:
                self._reading = None

        self._reading = generator = reading()
        return generator

    async def newest_version(self) -> str:
        """The newest version of the clients' schema that the snapshot sees; empty for none."""
        self._require_idle()
        return _text(await self._conn.execute("SELECT coalesce(max(version), '') FROM leyden.versions"))

    def rows(
        self, table: Table, condition: sql.Composable | None = None, batch: int | None = None
    ) -> AsyncGenerator[list[TaggedRow], None]:
        """The rows of ``table`` for which ``condition`` (on the alias ``this``) is true, or all, in no particular
        order, at most ``batch`` at a time. Rows never written since the table was electrified carry the epoch tag.

        The snapshot can do nothing else until the generator has ended or is closed. Raises :class:`psycopg.Error`,
        among others when a column of the description is gone.
        """

        width = len(table.columns)

        def tagged(values: list[bytes | None]) -> list[TaggedRow]:
            tags = values[width :: width + 1]
            del values[width :: width + 1]
            return list(zip(_rows(values, width), map(_TAGS.__getitem__, tags), strict=True))

        return self._read(table, selection(table, condition), width + 1, tagged, batch)

    def written_rows(self, table: Table, xid: int) -> AsyncGenerator[list[WrittenRow]]:
        """The rows of ``table`` that transactions from ``xid`` on wrote, those that they deleted among them, as
        :meth:`rows` gives them."""

        columns = len(table.columns) + ROW_RESULTS

        def written(values: list[bytes | None]) -> list[WrittenRow]:
            return [parse_written_row(table, result) for result in _rows(values, columns)]

        return self._read(table, written_rows(table, xid), columns, written)

    def written_keys(self, table: Table, xid: int) -> AsyncGenerator[list[tuple[Row, Former]]]:
        """Only the keys of these, with what the rows were tied to besides."""

        def written(values: list[bytes | None]) -> list[tuple[Row, Former]]:
            return [parse_written_key(result) for result in _rows(values, KEY_RESULTS)]

        return self._read(table, written_keys(table, xid), KEY_RESULTS, written)

    async def can_tell_since(self, position: int) -> bool:
        """Whether nothing was forgotten of what was written after ``position``, as the snapshot sees it."""
        self._require_idle()
        return await find(self._conn, position) is not None

    async def close(self) -> None:
        """Ends a reading that was left early."""
        if self._reading is not None:
            await self._reading.aclose()

    def _require_idle(self) -> None:
        # It would wait for the connection for ever.
        if self._reading is not None:
            raise RuntimeError("a reading of this snapshot is still open")

    def _read(
        self,
        table: Table,
        query: sql.Composable,
        columns: int,
        read: Callable[[list[bytes | None]], Result],
        batch: int | None = None,
    ) -> AsyncGenerator[Result]:
        """What ``read`` makes of the values of each batch, which come row after row in one list.

        Raises :class:`TableStrayed` for a table that was altered where nobody saw it yet.
        """
        self._require_idle()

        async def reading() -> AsyncGenerator[Result]:
            try:
                reason = await suspension(self._conn, table, may_have_more=True)
                if reason is not None:
                    raise TableStrayed(table.name, reason)
                async with aclosing(copy_out(self._conn, query, columns, batch)) as batches:
                    async for values in batches:
                        yield read(values)
            finally:
                self._reading = None

        self._reading = generator = reading()
        return generator


def _rows(values: list[bytes | None], columns: int) -> Iterator[Row]:
    return zip(*[iter(values)] * columns, strict=True)


def selection(table: Table, condition: sql.Composable | None) -> sql.Composed:
    """The query for the rows of ``table``, whole, with their tags in a last column."""
    return sql.SQL(
        "SELECT {columns}, s.tags FROM {table} AS this"
        " LEFT JOIN leyden.row_state AS s ON s.table_id = {table_id} AND s.pk = {key} WHERE ({condition})"
    ).format(
        columns=sql.SQL(", ").join(sql.Identifier("this", column.name) for column in table.columns),
        table=sql.Identifier("public", table.name),
        table_id=sql.Literal(table.id),
        key=key_expression(table, "this"),
        condition=sql.SQL("true") if condition is None else condition,
    )


def _text(cursor: psycopg.AsyncCursor[Any]) -> str:
    """The only value of a result, as text."""
    value = cursor.pgresult.get_value(0, 0) if cursor.pgresult is not None else None
    if value is None:
        raise psycopg.OperationalError("a query for the snapshot returned nothing")
    return value.decode()
