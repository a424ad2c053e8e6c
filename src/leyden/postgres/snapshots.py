"""Rows as one Postgres snapshot sees them, with their tags, in batches.

Owns the reading transaction. The :class:`~leyden.model.SnapshotPoint` tells the reader which transactions of
the stream the rows already contain; what is done with them is not known here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from leyden.memo import Memo
from leyden.model import EPOCH_TAG, Row, SnapshotPoint, Table
from leyden.postgres.copy_out import copy_out
from leyden.postgres.row_key import key_expression
from leyden.postgres.tag_text import parse_tags

#: A row and its tags.
TaggedRow = tuple[Row, tuple[str, ...]]

#: How long a reading takes depends on whoever takes the rows, over whatever link. Not every version has all limits.
_WITHOUT_LIMITS = """
SELECT set_config(name, '0', true)
FROM unnest(ARRAY['statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout']) AS name
WHERE current_setting(name, true) IS NOT NULL
"""

#: Many rows share their tags.
_TAGS: Memo[bytes | None, tuple[str, ...]] = Memo(lambda text: (EPOCH_TAG,) if text is None else parse_tags(text))


class Snapshots:
    """Opens snapshots on connections of ``pool``, whose sessions must have the settings of ``sessions``.

    Those settings make the text of a value equal to the one in the replication stream.
    """

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Snapshot]:
        """One snapshot, held for as long as the context. Keep it short: it holds back vacuum.

        Raises :class:`psycopg.Error`, or :class:`psycopg_pool.PoolTimeout` when no connection comes free.
        """
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await conn.execute(_WITHOUT_LIMITS)
            visible = _text(await conn.execute("SELECT pg_current_snapshot()"))
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
            try:
                yield snapshot
            finally:
                await snapshot.close()


class Snapshot:
    """A reading transaction. Tables are read one after the other, all of them as of ``point``."""

    def __init__(self, conn: psycopg.AsyncConnection[Any], point: SnapshotPoint) -> None:
        self._conn = conn
        self.point = point
        self._reading: AsyncGenerator[list[TaggedRow], None] | None = None

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
        self._require_idle()
        self._reading = self._read(table, condition, batch)
        return self._reading

    async def close(self) -> None:
        """Ends a reading that was left early."""
        if self._reading is not None:
            await self._reading.aclose()

    def _require_idle(self) -> None:
        # It would wait for the connection for ever.
        if self._reading is not None:
            raise RuntimeError("a reading of this snapshot is still open")

    async def _read(
        self, table: Table, condition: sql.Composable | None, batch: int | None
    ) -> AsyncGenerator[list[TaggedRow], None]:
        try:
            width = len(table.columns)
            async with aclosing(copy_out(self._conn, selection(table, condition), width + 1, batch)) as batches:
                async for values in batches:
                    tags = values[width :: width + 1]
                    del values[width :: width + 1]
                    rows = zip(*[iter(values)] * width, strict=True)
                    yield list(zip(rows, map(_TAGS.__getitem__, tags), strict=True))
        finally:
            self._reading = None


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
