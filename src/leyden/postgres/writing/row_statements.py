"""The SQL that reads, locks and writes single rows, composed once for each table.

Owns the statements; what they are for and when they run is :mod:`leyden.postgres.writing.rows`' business.
Placeholders are ``$1``, for raw cursors, because elsewhere psycopg takes a ``%`` within a column's name for one.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from psycopg import sql

from leyden.model import Column, Table
from leyden.postgres.row_key import key_expression

#: Statements that are kept composed: some for each table, and one for each set of columns that updates change.
_KEPT = 4096

#: Names the row that is ours to tag in the statement that writes it: the setting is made before the row is written, and
#: stands when the table's trigger asks for it.
_NAMED = "(SELECT pg_catalog.set_config('leyden.server_row', {}, true)) AS named"


@lru_cache(_KEPT)
def spelling_of_keys(table: Table) -> bytes:
    """The stored form of each key asked for, in the order of the arrays: one for each key column."""
    ordinal = _ordinal(table)
    return _bytes(
        sql.SQL("SELECT {} FROM {} ORDER BY {}").format(
            key_expression(table, "k"), _wanted(table, ordinal), sql.Identifier("k", ordinal)
        )
    )


@lru_cache(_KEPT)
def locked_rows(table: Table) -> bytes:
    """The rows asked for, behind their stored keys. Parameters as before."""
    match = sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier("t", name), sql.Identifier("k", name)) for name in table.primary_key
    )
    # Keys never change, so references to the row (FOR KEY SHARE, by foreign keys) need not wait for us.
    statement = sql.SQL(
        'SELECT {key}, {columns} FROM {table} AS t JOIN {wanted} ON {match} ORDER BY {key} COLLATE "C"'
        " FOR NO KEY UPDATE OF t"
    )
    return _bytes(
        statement.format(
            key=key_expression(table, "t"),
            columns=sql.SQL(", ").join(sql.Identifier("t", column.name) for column in table.columns),
            table=_name(table),
            wanted=_wanted(table, _ordinal(table)),
            match=match,
        )
    )


@lru_cache(_KEPT)
def locked_states(table: Table) -> bytes:
    """The states of the rows asked for. Parameters as before, and the table's id."""
    statement = sql.SQL(
        "SELECT s.pk, pg_catalog.to_jsonb(s.tags), s.col_tags, s.dead, s.touched FROM leyden.row_state AS s"
        ' WHERE s.table_id = {table_id} AND s.pk IN (SELECT {key} COLLATE "C" FROM {wanted})'
        " ORDER BY s.pk FOR UPDATE OF s"
    )
    return _bytes(
        statement.format(
            table_id=_parameter(len(table.primary_key)),
            key=key_expression(table, "k"),
            wanted=_wanted(table, _ordinal(table)),
        )
    )


@lru_cache(_KEPT)
def insertion(table: Table, *, names: bool) -> bytes:
    """Parameters: every column, and the row's name if the statement ``names`` it, which returns the stored key.

    The other form returns nothing: a role may have the right to insert what it may not read, which RETURNING asks for.
    """
    columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    values = sql.SQL(", ").join(from_text(_parameter(n), column) for n, column in enumerate(table.columns))
    if not names:
        return _bytes(sql.SQL("INSERT INTO {} AS t ({}) VALUES ({})").format(_name(table), columns, values))
    statement = sql.SQL("INSERT INTO {} AS t ({}) SELECT {} FROM {} RETURNING {}")
    named = sql.SQL(_NAMED).format(_parameter(len(table.columns)))
    return _bytes(statement.format(_name(table), columns, values, named, key_expression(table, "t")))


@lru_cache(_KEPT)
def update(table: Table, changed: tuple[str, ...], *, names: bool) -> bytes:
    """Parameters: the columns ``changed``, the key, and the row's name if the statement ``names`` it. Returns the
    stored key. With no column changed the row is written all the same."""
    columns = [column for column in table.columns if column.name in changed]
    assignments: list[sql.Composable] = [
        sql.SQL("{} = {}").format(sql.Identifier(column.name), from_text(_parameter(n), column))
        for n, column in enumerate(columns)
    ]
    if not assignments:
        # The change of tags must reach the other clients, and the echo its author.
        touched = sql.Identifier(table.primary_key[0])
        assignments.append(sql.SQL("{} = t.{}").format(touched, touched))
    statement = sql.SQL("UPDATE {} AS t SET {}{} WHERE {} RETURNING {}")
    named = sql.SQL(" FROM " + _NAMED).format(_parameter(len(columns) + len(table.primary_key)))
    return _bytes(
        statement.format(
            _name(table),
            sql.SQL(", ").join(assignments),
            named if names else sql.SQL(""),
            _key_matches(table, len(columns)),
            key_expression(table, "t"),
        )
    )


@lru_cache(_KEPT)
def deletion(table: Table, *, names: bool) -> bytes:
    """Parameters: the key, and the row's name if the statement ``names`` it. Returns the stored key."""
    named = sql.SQL(" USING " + _NAMED).format(_parameter(len(table.primary_key)))
    return _bytes(
        sql.SQL("DELETE FROM {} AS t{} WHERE {} RETURNING {}").format(
            _name(table), named if names else sql.SQL(""), _key_matches(table, 0), key_expression(table, "t")
        )
    )


@lru_cache(_KEPT)
def state_change(table: Table, *, known: bool, lives: bool) -> bytes:
    """Parameters: table id, stored key, tags, column tags, dead version; if the state is ``known``, the tags, column
    tags and time that were read; the key's columns. Whether the row ``lives`` is what the writer made of it."""
    stands = sql.SQL("EXISTS (SELECT FROM {} AS t WHERE {})").format(
        _name(table), _key_matches(table, 8 if known else 5)
    )
    # A row and its tags go together, whatever a trigger made of the row meanwhile.
    tags = sql.SQL("CASE WHEN {} THEN $3::text[] ELSE '{{}}' END").format(stands)
    agrees = sql.SQL("true") if lives else sql.SQL("NOT {}").format(stands)
    return _bytes((_UPDATE_STATE if known else _INSERT_STATE).format(tags=tags, agrees=agrees))


_INSERT_STATE = sql.SQL(
    "INSERT INTO leyden.row_state (table_id, pk, tags, col_tags, dead, touched)"
    " SELECT $1::oid, $2::text, {tags}, $4::jsonb, $5::jsonb, pg_catalog.now() WHERE {agrees}"
    " ON CONFLICT (table_id, pk) DO NOTHING"
)

#: Only if it is still the state that was read.
_UPDATE_STATE = sql.SQL(
    "UPDATE leyden.row_state SET tags = {tags}, col_tags = $4::jsonb, dead = $5::jsonb, touched = pg_catalog.now()"
    " WHERE table_id = $1::oid AND pk = $2::text AND tags = $6::text[] AND col_tags = $7::jsonb"
    " AND touched = coalesce($8::timestamptz, touched) AND {agrees}"
)


def key_columns(table: Table) -> list[Column]:
    return [table.columns[position] for position in table.key_positions]


def from_text(expression: sql.Composable, column: Column) -> sql.Composed:
    """``expression``, a text form, as a value of the column's type, as its input function reads it."""
    kind = sql.Identifier("public" if column.is_enum else "pg_catalog", column.type)
    return sql.SQL("{}::text::{}").format(expression, kind)


def _bytes(statement: sql.Composable) -> bytes:
    return statement.as_bytes(None)


def _name(table: Table) -> sql.Identifier:
    return sql.Identifier("public", table.name)


def _ordinal(table: Table) -> str:
    """A column name that no key column has."""
    name = "ordinal"
    while name in table.primary_key:
        name += "_"
    return name


def _wanted(table: Table, ordinal: str) -> sql.Composed:
    """The keys asked for as a relation ``k``: one text array parameter for each key column, cast to its
    type."""
    numbered = [sql.Identifier(f"part{position}") for position in range(len(table.primary_key))]
    parts: Iterable[sql.Composable] = (
        sql.SQL("{} AS {}").format(from_text(part, column), sql.Identifier(column.name))
        for part, column in zip(numbered, key_columns(table), strict=True)
    )
    return sql.SQL(
        "(SELECT {parts}, n AS {ordinal} FROM ROWS FROM ({arrays}) WITH ORDINALITY AS wanted ({names}, n)) AS k"
    ).format(
        parts=sql.SQL(", ").join(parts),
        ordinal=sql.Identifier(ordinal),
        arrays=sql.SQL(", ").join(
            sql.SQL("pg_catalog.unnest({}::text[])").format(_parameter(n)) for n in range(len(numbered))
        ),
        names=sql.SQL(", ").join(numbered),
    )


def _key_matches(table: Table, first: int) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("t.{} = {}").format(sql.Identifier(column.name), from_text(_parameter(n), column))
        for n, column in enumerate(key_columns(table), first)
    )


def _parameter(position: int) -> sql.SQL:
    """The placeholder of the parameter at ``position``, counted from 0."""
    return sql.SQL(f"${position + 1}")
