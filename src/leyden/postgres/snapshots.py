"""Rows as one Postgres snapshot sees them, with their tags, in batches.

Owns the reading transaction. The :class:`~leyden.model.SnapshotPoint` tells the reader which transactions of
the stream the rows already contain; what is done with them is not known here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq.abc import PGresult
from psycopg_pool import AsyncConnectionPool

from leyden.model import EPOCH_TAG, Row, SnapshotPoint, Table
from leyden.postgres.row_key import key_expression
from leyden.postgres.tag_text import parse_tags

#: Rows held in memory at a time, unless told otherwise.
BATCH = 500

#: A row and its tags.
TaggedRow = tuple[Row, tuple[str, ...]]

_EPOCH_TAGS: tuple[str, ...] = (EPOCH_TAG,)


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
            snapshot = _text(await conn.execute("SELECT pg_current_snapshot()"))
            # After the snapshot: what committed before it ends at or below this position.
            position = _text(await conn.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))
            xmin, xmax, in_progress = snapshot.split(":")
            yield Snapshot(
                conn,
                SnapshotPoint(
                    xmin=int(xmin),
                    xmax=int(xmax),
                    in_progress=frozenset(int(xid) for xid in in_progress.split(",") if xid),
                    wal_position=int(position),
                ),
            )


class Snapshot:
    """A reading transaction. Tables are read one after the other, all of them as of ``point``."""

    def __init__(self, conn: psycopg.AsyncConnection[Any], point: SnapshotPoint) -> None:
        self._conn = conn
        self.point = point
        self._cursors = 0

    async def newest_version(self) -> str:
        """The newest version of the clients' schema that the snapshot sees; empty for none."""
        return _text(await self._conn.execute("SELECT coalesce(max(version), '') FROM leyden.versions"))

    async def rows(
        self, table: Table, condition: sql.Composable | None = None, batch: int = BATCH
    ) -> AsyncIterator[list[TaggedRow]]:
        """The rows of ``table`` for which ``condition`` (on the alias ``this``) is true, or all, in no particular
        order, at most ``batch`` at a time. Rows never written since the table was electrified carry the epoch tag.

        Raises :class:`psycopg.Error`, among others when a column of the description is gone.
        """
        self._cursors += 1
        cursor = sql.Identifier(f"leyden_rows_{self._cursors}")
        fetch = sql.SQL("FETCH {} FROM {}").format(sql.Literal(batch), cursor)
        await self._conn.execute(_declaration(cursor, table, condition))
        width = len(table.columns)
        parsed: dict[bytes, tuple[str, ...]] = {}
        while True:
            result = (await self._conn.execute(fetch)).pgresult
            if result is None or not result.ntuples:
                break
            yield _tagged_rows(result, width, parsed)
            if result.ntuples < batch:
                break
            parsed.clear()
        await self._conn.execute(sql.SQL("CLOSE {}").format(cursor))


def _declaration(cursor: sql.Identifier, table: Table, condition: sql.Composable | None) -> sql.Composed:
    return sql.SQL(
        "DECLARE {cursor} NO SCROLL CURSOR FOR SELECT {columns}, s.tags FROM {table} AS this"
        " LEFT JOIN leyden.row_state AS s ON s.table_id = {table_id} AND s.pk = {key} WHERE ({condition})"
    ).format(
        cursor=cursor,
        columns=sql.SQL(", ").join(sql.Identifier("this", column.name) for column in table.columns),
        table=sql.Identifier("public", table.name),
        table_id=sql.Literal(table.id),
        key=key_expression(table, "this"),
        condition=sql.SQL("true") if condition is None else condition,
    )


def _tagged_rows(result: PGresult, width: int, parsed: dict[bytes, tuple[str, ...]]) -> list[TaggedRow]:
    """The rows of ``result``; ``parsed`` remembers tags seen, as many rows share theirs."""
    rows: list[TaggedRow] = []
    columns = range(width)
    get_value = result.get_value
    for number in range(result.ntuples):
        text = get_value(number, width)
        if text is None:
            tags = _EPOCH_TAGS
        elif (known := parsed.get(text)) is not None:
            tags = known
        else:
            tags = parsed[text] = parse_tags(text)
        rows.append((tuple([get_value(number, column) for column in columns]), tags))
    return rows


def _text(cursor: psycopg.AsyncCursor[Any]) -> str:
    """The only value of a result, as text."""
    value = cursor.pgresult.get_value(0, 0) if cursor.pgresult is not None else None
    if value is None:
        raise psycopg.OperationalError("a query for the snapshot returned nothing")
    return value.decode()
