"""One row of an electrified table with its ``leyden.row_state``: reading, locking and writing both.

Owns the SQL for that and nothing else: what to write is decided in ``conflict/``, in which transaction by the
writer. All values cross as Postgres text forms: parameters are bound as text and cast to the column's type,
results are taken as the output functions print them. The sessions must run with the settings of
:mod:`leyden.postgres.sessions`, or those forms would depend on the server's configuration.

Statements that name users' columns go through raw cursors (placeholders ``$1``), because elsewhere psycopg takes
a ``%`` within a name for a placeholder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from leyden.conflict.operations import Values
from leyden.conflict.resolution import RowState
from leyden.conflict.tags import column_tags_from_json, column_tags_to_json, format_tags, parse_observed
from leyden.model import Column, Row, Table
from leyden.postgres.row_key import key_expression

Connection = psycopg.AsyncConnection[Any]
Cursor = psycopg.AsyncCursor[Any]

#: A key as the client spelt it, one text form for each primary key column, in key order.
RawKey = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as it stands in the database.

    ``pk`` is the key in the canonical form of ``leyden.row_state``. ``tags`` and ``column_tags`` are exactly
    what the state row holds (``None``: there is no state row), for comparison at the time of writing, and so is
    ``touched``: Postgres may have written the row once more with the tags it had (``None``: we wrote it ourselves).
    """

    table: Table
    pk: str
    state: RowState
    tags: tuple[str, ...] | None = None
    column_tags: str | None = None
    touched: str | None = None

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(json.loads(self.pk))

    @property
    def key_values(self) -> Values:
        return {name: part.encode() for name, part in zip(self.table.primary_key, self.key, strict=True)}

    def after(self, state: RowState) -> StoredRow:
        """The same row once ``state`` is written."""
        return StoredRow(
            self.table,
            self.pk,
            state,
            tuple(format_tags(state.tags)),
            json.dumps(column_tags_to_json(state.column_tags), ensure_ascii=False),
        )


def row_values(table: Table, row: Row) -> Values:
    return {column.name: value for column, value in zip(table.columns, row, strict=True)}


def text(value: bytes | None) -> str | None:
    """The form in which a value is bound. Raises :class:`UnicodeDecodeError` for what is not UTF-8."""
    return None if value is None else value.decode()


def _encoded(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def raw_rows(cursor: Cursor) -> list[Row]:
    """All rows of a finished statement as the output functions print them, without conversion."""
    result = cursor.pgresult
    if result is None:
        return []
    return [tuple(result.get_value(row, column) for column in range(result.nfields)) for row in range(result.ntuples)]


class RowReader:
    """Locks and reads rows of one table by key, in three statements queued together.

    Use inside a pipeline: :meth:`send` queues, :meth:`rows` is called once the pipeline has been
    synchronised. Locks are taken in the order of the canonical key, main rows before state
    rows: the order in which a write by Postgres takes them for one row.
    """

    def __init__(self, table: Table, keys: Iterable[RawKey]) -> None:
        self.table = table
        self.keys = tuple(dict.fromkeys(keys))
        self._cursors: tuple[Cursor, Cursor, Cursor] | None = None

    async def send(self, conn: Connection) -> None:
        arrays: list[Any] = [list(part) for part in zip(*self.keys, strict=True)]
        table = self.table
        ordinal = _ordinal(table)
        names = {
            "target": _name(table),
            "wanted": _wanted(table, ordinal),
            "wanted_key": key_expression(table, "k"),
            "key": key_expression(table, "t"),
            "ordinal": sql.Identifier("k", ordinal),
            "columns": sql.SQL(", ").join(sql.Identifier("t", column.name) for column in table.columns),
            "match": sql.SQL(" AND ").join(
                sql.SQL("{} = {}").format(sql.Identifier("t", name), sql.Identifier("k", name))
                for name in table.primary_key
            ),
            "table_id": _parameter(len(arrays)),
        }
        spelling = sql.SQL("SELECT {wanted_key} FROM {wanted} ORDER BY {ordinal}")
        # Keys never change, so references to the row (FOR KEY SHARE, by foreign keys) need not wait for us.
        main = sql.SQL(
            "SELECT {key}, {columns} FROM {target} AS t JOIN {wanted} ON {match}"
            ' ORDER BY {key} COLLATE "C" FOR NO KEY UPDATE OF t'
        )
        state = sql.SQL(
            "SELECT s.pk, pg_catalog.to_jsonb(s.tags), s.col_tags, s.dead, s.touched FROM leyden.row_state AS s"
            ' WHERE s.table_id = {table_id} AND s.pk IN (SELECT {wanted_key} COLLATE "C" FROM {wanted})'
            " ORDER BY s.pk FOR UPDATE OF s"
        )
        self._cursors = (
            await _execute(conn, spelling.format(**names), arrays),
            await _execute(conn, main.format(**names), arrays),
            await _execute(conn, state.format(**names), [*arrays, table.id]),
        )

    def rows(self) -> dict[RawKey, StoredRow]:
        """What is stored for each key asked for, also where nothing is."""
        assert self._cursors is not None
        spelling, main, state = map(raw_rows, self._cursors)
        present = {row[0]: row_values(self.table, row[1:]) for row in main}
        states = {row[0]: row[1:] for row in state}
        return {
            key: self._stored(pk, present.get(pk), states.get(pk))
            for key, (pk,) in zip(self.keys, spelling, strict=True)
        }

    def _stored(self, pk: bytes | None, main: Values | None, state: Row | None) -> StoredRow:
        assert pk is not None
        if state is None:
            return StoredRow(self.table, pk.decode(), RowState(main))
        tags_json, column_tags_json, dead_json, touched = state
        tags = json.loads(tags_json or b"[]")
        column_tags = column_tags_json or b"{}"
        dead = None
        if dead_json is not None:
            known: dict[str, str | None] = json.loads(dead_json)
            # A dead version may be older than a column of today.
            dead = {
                column.name: _encoded(known[column.name]) if column.name in known else column.unset
                for column in self.table.columns
            }
        row_state = RowState(main, dead, parse_observed(tags), column_tags_from_json(json.loads(column_tags)))
        return StoredRow(self.table, pk.decode(), row_state, tuple(tags), column_tags.decode(), text(touched))


class RowWrite:
    """Writes one row's new state: the main row, then its state row. For use inside a pipeline.

    Before the main row is touched the transaction-local setting ``leyden.server_row`` names it, so that the
    table's trigger leaves this row's state to us; rows that cascades and other triggers change are still its
    business. A trigger may have the last word on this row as well: one that deletes it at once leaves it dead.
    """

    def __init__(self, before: StoredRow, after: RowState) -> None:
        self.before = before
        self.after = before.after(after)
        self._main: Cursor | None = None
        self._state: Cursor | None = None

    @property
    def needed(self) -> bool:
        """Whether there is anything to write. A row that stays absent in the same state is left alone."""
        return self.before.state.main is not None or self.before.state != self.after.state

    @property
    def revives(self) -> bool:
        """Whether the row comes back from its last dead version."""
        before = self.before.state
        return before.main is None and before.dead is not None and self.after.state.main is not None

    async def send(self, conn: Connection, role: str | None = None) -> None:
        """Queue the statements. ``role`` writes the main row, the service its state."""
        statement = self._main_row(role)
        if statement is not None:
            await name_server_row(conn, f"{self.before.table.id}:{self.before.pk}", role)
            self._main = await _execute(conn, *statement)
            if role is not None:
                await leave_role(conn)
        self._state = await _execute(conn, *self._state_row())

    def hit(self) -> bool:
        """Whether every statement met the row as it was read. Valid once the pipeline has been synchronised.

        False means that a side effect of an earlier statement of this transaction (a cascade, another
        trigger) changed the row after it was read, or that a trigger or a row policy suppressed the write, or that a
        trigger gave the row another key.
        """
        assert self._state is not None
        if self._main is not None and self._main.rowcount != 1:
            return False
        if self._main is not None and self._main.description and raw_rows(self._main) != [(self.before.pk.encode(),)]:
            return False
        return self._state.rowcount == 1

    def _main_row(self, role: str | None) -> tuple[sql.Composed, list[str | None]] | None:
        table, old, new = self.before.table, self.before.state.main, self.after.state.main
        key: list[str | None] = list(self.before.key)
        written = key_expression(table, "t")
        if new is None:
            if old is None:
                return None
            statement = sql.SQL("DELETE FROM {} AS t WHERE {} RETURNING {}").format(
                _name(table), _key_matches(table, 0), written
            )
            return statement, key
        if old is None:
            statement = sql.SQL("INSERT INTO {} AS t ({}) VALUES ({})").format(
                _name(table),
                sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns),
                sql.SQL(", ").join(from_text(_parameter(n), column) for n, column in enumerate(table.columns)),
            )
            if role is None:
                # A role may have the right to insert what it may not read, which RETURNING asks for.
                statement = sql.SQL("{} RETURNING {}").format(statement, written)
            return statement, [text(new[column.name]) for column in table.columns]
        changed = [column for column in table.columns if old[column.name] != new[column.name]]
        if not changed:
            # Written all the same: the change of tags must reach the other clients, and the echo its author.
            touched = sql.Identifier(table.primary_key[0])
            assignments: sql.Composable = sql.SQL("{} = t.{}").format(touched, touched)
        else:
            assignments = sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(column.name), from_text(_parameter(n), column))
                for n, column in enumerate(changed)
            )
        statement = sql.SQL("UPDATE {} AS t SET {} WHERE {} RETURNING {}").format(
            _name(table), assignments, _key_matches(table, len(changed)), written
        )
        return statement, [*(text(new[column.name]) for column in changed), *key]

    def _state_row(self) -> tuple[sql.Composed, list[Any]]:
        state, before = self.after.state, self.before
        dead = None
        # While the row lives its former dead version can have no effect, so it is not kept.
        if state.main is None and state.dead is not None:
            dead = json.dumps({name: text(value) for name, value in state.dead.items()}, ensure_ascii=False)
        parameters = [before.table.id, before.pk, list(self.after.tags or ()), self.after.column_tags, dead]
        if before.tags is not None:
            parameters += [list(before.tags), before.column_tags, before.touched]
        stands = sql.SQL("EXISTS (SELECT FROM {} AS t WHERE {})").format(
            _name(before.table), _key_matches(before.table, len(parameters))
        )
        # A row and its tags go together, whatever a trigger made of the row meanwhile.
        tags = sql.SQL("CASE WHEN {} THEN $3::text[] ELSE '{{}}' END").format(stands)
        agrees = sql.SQL("NOT {}").format(stands) if state.main is None else sql.SQL("true")
        statement = _INSERT_STATE if before.tags is None else _UPDATE_STATE
        return statement.format(tags=tags, agrees=agrees), [*parameters, *before.key]


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


async def name_server_row(conn: Connection, row: str, role: str | None = None) -> None:
    """Name the row that is ours to tag (``<table oid>:<pk json>``) until the next call; empty for none. What follows
    runs as ``role``, if one is given, until :func:`leave_role`."""
    if role is None:
        await conn.execute("SELECT pg_catalog.set_config('leyden.server_row', %s, true)", [row])
    else:
        await conn.execute(
            "SELECT pg_catalog.set_config('leyden.server_row', %s, true), pg_catalog.set_config('role', %s, true)",
            [row, role],
        )


async def leave_role(conn: Connection) -> None:
    """Be the service itself again, whoever a trigger has become meanwhile."""
    await conn.execute("SELECT pg_catalog.set_config('role', 'none', true)")


def key_columns(table: Table) -> list[Column]:
    return [table.columns[position] for position in table.key_positions]


def _name(table: Table) -> sql.Identifier:
    return sql.Identifier("public", table.name)


def from_text(expression: sql.Composable, column: Column) -> sql.Composed:
    """``expression``, a text form, as a value of the column's type, as its input function reads it."""
    kind = sql.Identifier("public" if column.is_enum else "pg_catalog", column.type)
    return sql.SQL("{}::text::{}").format(expression, kind)


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
    return sql.SQL(
        "(SELECT {parts}, n AS {ordinal} FROM ROWS FROM ({arrays}) WITH ORDINALITY AS wanted ({names}, n)) AS k"
    ).format(
        parts=sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(from_text(part, column), sql.Identifier(column.name))
            for part, column in zip(numbered, key_columns(table), strict=True)
        ),
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


async def _execute(conn: Connection, statement: sql.Composed, parameters: list[Any]) -> Cursor:
    cursor: Cursor = psycopg.AsyncRawCursor(conn)
    return await cursor.execute(statement, parameters)
