"""One row of an electrified table by its key as a person writes it, and what Postgres says of a condition on it.

Owns how such a key is read. It reaches Postgres in parameters, and a value that is none of its column's type is told
from other failures. The sessions must have the settings of :mod:`leyden.postgres.sessions`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from leyden.auth import NotStrictJson, parse_object
from leyden.model import Author, Row, Table
from leyden.postgres.writing.rights import tell_author
from leyden.postgres.writing.row_statements import from_text, key_columns
from leyden.postgres.writing.rows import Connection, Cursor, RawKey, raw_rows


class InvalidKey(ValueError):
    """No row can have this key. ``message`` says why; names of columns in it are as they are in the catalog."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class FoundRow(NamedTuple):
    row: Row
    selected: bool
    """Whether Postgres finds the condition to be true for it."""


def parse_key(table: Table, text: str) -> RawKey:
    """The key of a row of ``table``: the value itself where the key has one column, else ``column=value`` for each
    with commas between them, or a JSON object. Raises :class:`InvalidKey`."""
    names = table.primary_key
    if len(names) == 1:
        return (text,)
    values = _from_json(text) if text.lstrip().startswith("{") else _from_pairs(text)
    if values.keys() != set(names):
        listed = ",".join(f"{name}=…" for name in names)
        raise InvalidKey(f"the key has the columns {', '.join(names)}: write {listed} or a JSON object of these")
    return tuple(values[name] for name in names)


def _from_pairs(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in text.split(","):
        name, _, value = pair.partition("=")
        if name in values:
            raise InvalidKey(f"the key names the column {name} twice")
        values[name] = value
    return values


def _from_json(text: str) -> dict[str, str]:
    try:
        members = parse_object(text.encode("utf-8", "surrogateescape"))
    except NotStrictJson as reason:
        raise InvalidKey(f"the text of the key {reason}") from None
    return {name: _text_of(name, value) for name, value in members.items()}


def _text_of(name: str, value: object) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
    raise InvalidKey(f"the value for {name} is neither a text nor a number, true or false")


async def is_table(conn: Connection, name: str) -> bool:
    """Whether Postgres has a table called ``name`` in the schema that can be shared."""
    cursor = await conn.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p') AND relname = %s)",
        [name],
    )
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def find_row(
    conn: Connection, table: Table, key: RawKey, condition: sql.Composable | None, author: Author | None = None
) -> FoundRow | None:
    """The row with ``key``, if there is one, and whether ``condition`` (on the alias ``this``) is true for it. With an
    ``author`` this is asked as his database role, if he has one, so that policies count as well.

    Two queries: call it in a transaction in which both see the same. Raises :class:`InvalidKey` for a value that is
    none of its column's type, and :class:`psycopg.Error`.
    """
    for column, value in zip(key_columns(table), key, strict=True):
        try:
            async with conn.transaction():
                await _execute(conn, sql.SQL("SELECT {}").format(from_text(sql.SQL("$1"), column)), [value])
        except (psycopg.DataError, UnicodeEncodeError):
            raise InvalidKey(f"the key column {column.name} is of type {column.type}, and the value is not") from None
    matches = sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier("this", column.name), from_text(sql.SQL(f"${number}"), column))
        for number, column in enumerate(key_columns(table), 1)
    )
    columns = sql.SQL(", ").join(sql.Identifier("this", column.name) for column in table.columns)
    query = sql.SQL("SELECT {} FROM {} AS this WHERE {}").format(columns, _name(table), matches)
    found = raw_rows(await _execute(conn, query, key))
    if not found:
        return None
    selection = sql.SQL("SELECT FROM {} AS this WHERE {} AND ({})").format(_name(table), matches, _or_all(condition))
    async with _as(conn, author):
        selected = await _execute(conn, selection, key)
    return FoundRow(found[0], selected.rowcount == 1)


async def count_rows(
    conn: Connection, table: Table, condition: sql.Composable | None, author: Author | None = None
) -> int:
    """For how many rows of ``table`` the ``condition`` is true; ``author`` as for :func:`find_row`."""
    query = sql.SQL("SELECT count(*) FROM {} AS this WHERE ({})").format(_name(table), _or_all(condition))
    async with _as(conn, author):
        (count,) = await (await _execute(conn, query)).fetchone() or (0,)
    return int(count)


@asynccontextmanager
async def _as(conn: Connection, author: Author | None) -> AsyncIterator[None]:
    """What is executed within is executed as the author's role, with his claims."""
    if author is None or author.role is None:
        yield
        return
    async with conn.transaction(force_rollback=True):  # which takes the settings back
        await tell_author(conn, author, "")
        await conn.execute("SELECT pg_catalog.set_config('role', %s, true)", [author.role])
        yield


def _name(table: Table) -> sql.Identifier:
    return sql.Identifier("public", table.name)


def _or_all(condition: sql.Composable | None) -> sql.Composable:
    return sql.SQL("true") if condition is None else condition


async def _execute(conn: Connection, query: sql.Composed, parameters: Sequence[Any] = ()) -> Cursor:
    # a raw cursor, to which a % in names and conditions is a character
    cursor: Cursor = psycopg.AsyncRawCursor(conn)
    return await cursor.execute(query, parameters)
