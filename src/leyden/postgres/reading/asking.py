"""Which rows one reader may select, asked as his database role and with his claims.

Owns how Postgres is asked: in the same way in which a user's uploads are written
(:mod:`leyden.postgres.writing.rights`). The connection is in a transaction that only reads, and has the settings of
:mod:`leyden.postgres.sessions`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Any

import psycopg
from psycopg import sql

from leyden.model import Author, Row, Table
from leyden.postgres.reading.copy_out import copy_out
from leyden.postgres.writing.rights import tell_author

#: Keys asked for in one query.
KEYS_AT_ONCE = 1_000


async def selectable_keys(
    conn: psycopg.AsyncConnection[Any],
    table: Table,
    reader: Author,
    timeout: float,  # noqa: ASYNC109 - of each query, in Postgres
    keys: Collection[Row] | None = None,
) -> AsyncGenerator[list[Row]]:
    """The primary keys (text forms) of the rows of ``table`` that ``reader`` may select, in batches: of all rows, or of
    those with ``keys``. ``timeout`` is for each query (seconds).

    After it, whatever became of it, the transaction goes on as the service. Raises :class:`psycopg.Error`.
    """
    if reader.role is None:
        raise ValueError("policies are asked as a database role")
    conditions: Sequence[sql.Composable] = (
        [sql.SQL("true")] if keys is None else [_has_key(table, chunk) for chunk in _chunks(keys)]
    )
    if not conditions:
        return
    async with conn.transaction(force_rollback=True):  # which takes the settings back
        await tell_author(conn, reader, "")
        await conn.execute(
            "SELECT pg_catalog.set_config('row_security', 'on', true),"
            " pg_catalog.set_config('statement_timeout', %s, true), pg_catalog.set_config('role', %s, true)",
            [f"{round(timeout * 1000)}ms", reader.role],
        )
        columns = sql.SQL(", ").join(sql.Identifier("this", name) for name in table.primary_key)
        width = len(table.primary_key)
        for condition in conditions:
            query = sql.SQL("SELECT {} FROM {} AS this WHERE {}").format(
                columns, sql.Identifier("public", table.name), condition
            )
            async with aclosing(copy_out(conn, query, width)) as batches:
                async for values in batches:
                    yield list(zip(*[iter(values)] * width, strict=True))


def _has_key(table: Table, keys: Sequence[Row]) -> sql.Composed:
    # Literals of no type yet: Postgres reads each as one of the column's type.
    listed = [sql.SQL("({})").format(sql.SQL(", ").join(map(_literal, key))) for key in keys]
    columns = sql.SQL(", ").join(sql.Identifier("this", name) for name in table.primary_key)
    return sql.SQL("({}) IN ({})").format(columns, sql.SQL(", ").join(listed))


def _literal(value: bytes | None) -> sql.Literal:
    return sql.Literal(None if value is None else value.decode())


def _chunks(keys: Collection[Row]) -> Iterator[list[Row]]:
    remaining = iter(keys)
    while chunk := list(islice(remaining, KEYS_AT_ONCE)):
        yield chunk
