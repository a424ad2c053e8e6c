"""One row of an electrified table with its ``leyden.row_state``: reading, locking and writing both.

Owns when which statement of :mod:`leyden.postgres.writing.row_statements` runs, and what it is given: what to write
is decided in ``conflict/``, in which transaction by the writer. All values cross as Postgres text forms: parameters are
bound as text and cast to the column's type, results are taken as the output functions print them. The sessions must run
with the settings of :mod:`leyden.postgres.sessions`, or those forms would depend on the server's configuration.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg

from leyden.conflict.operations import Values
from leyden.conflict.resolution import RowState
from leyden.conflict.tags import column_tags_from_json, column_tags_to_json, format_tags, parse_observed
from leyden.model import Row, Table
from leyden.postgres.writing import row_statements as statements

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
        self._cursors = (
            await _execute(conn, statements.spelling_of_keys(table), arrays),
            await _execute(conn, statements.locked_rows(table), arrays),
            await _execute(conn, statements.locked_states(table), [*arrays, table.id]),
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

    When the main row is touched the transaction-local setting ``leyden.server_row`` names it, so that the
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
        name = f"{self.before.table.id}:{self.before.pk}"
        statement = self._main_row(names=role is None)
        if statement is not None and role is None:
            self._main = await _execute(conn, statement[0], [*statement[1], name])
        elif statement is not None:
            await name_server_row(conn, name, role)
            self._main = await _execute(conn, *statement)
            await leave_role(conn)
        self._state = await _execute(conn, *self._state_row())

    def hit(self) -> bool:
        """Whether every statement met the row as it was read. Valid once the pipeline has been synchronised.

        False means that a side effect of an earlier statement of this transaction (a cascade, another
        trigger) changed the row after it was read, or that the write was suppressed.
        """
        assert self._state is not None
        return not self.suppressed() and self._state.rowcount == 1

    def suppressed(self) -> bool:
        """Whether the row itself was not written, or not under its key: the doing of a trigger, a rule or a row policy,
        if it was there as it was read. Valid once the pipeline has been synchronised."""
        if self._main is None:
            return False
        if self._main.rowcount != 1:
            return True
        return bool(self._main.description) and raw_rows(self._main) != [(self.before.pk.encode(),)]

    def _main_row(self, *, names: bool) -> tuple[bytes, list[str | None]] | None:
        """The statement and its parameters; the row's name follows them if the statement ``names`` it."""
        table, old, new = self.before.table, self.before.state.main, self.after.state.main
        key: list[str | None] = list(self.before.key)
        if new is None:
            return None if old is None else (statements.deletion(table, names=names), key)
        if old is None:
            return statements.insertion(table, names=names), [text(new[column.name]) for column in table.columns]
        changed = tuple(column.name for column in table.columns if old[column.name] != new[column.name])
        return statements.update(table, changed, names=names), [*(text(new[name]) for name in changed), *key]

    def _state_row(self) -> tuple[bytes, list[Any]]:
        state, before = self.after.state, self.before
        dead = None
        # While the row lives its former dead version can have no effect, so it is not kept.
        if state.main is None and state.dead is not None:
            dead = json.dumps({name: text(value) for name, value in state.dead.items()}, ensure_ascii=False)
        parameters = [before.table.id, before.pk, list(self.after.tags or ()), self.after.column_tags, dead]
        if before.tags is not None:
            parameters += [list(before.tags), before.column_tags, before.touched]
        statement = statements.state_change(before.table, known=before.tags is not None, lives=state.main is not None)
        return statement, [*parameters, *before.key]


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


async def _execute(conn: Connection, statement: bytes, parameters: list[Any]) -> Cursor:
    cursor: Cursor = psycopg.AsyncRawCursor(conn)
    return await cursor.execute(statement, parameters)
