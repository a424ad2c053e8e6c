"""The rows of a table that were written since a checkpoint, as queries and as what their results mean.

Owns the join of ``leyden.row_state`` with the table and with ``leyden.former_ties``. A row without a state was not
written since its table was electrified.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from psycopg import sql

from leyden.model import Row, Table
from leyden.postgres.checkpoints import written_since
from leyden.postgres.tag_text import parse_key, parse_tags
from leyden.postgres.writing.row_statements import from_text, key_columns

#: What columns held since the checkpoint, by name: those of foreign keys, and the owner.
Former = Mapping[str, Collection[bytes | None]]

#: Columns of the results before those of the table.
KEY_RESULTS = 2
ROW_RESULTS = 3


@dataclass(frozen=True, slots=True)
class WrittenRow:
    """``row`` is how it is now, ``None`` if it does not exist; ``former`` are the values that it had besides."""

    key: Row
    former: Former
    row: Row | None
    tags: tuple[str, ...]


def written_keys(table: Table, xid: int) -> sql.Composed:
    """The query for the keys of the rows written by transactions from ``xid`` on, with what they were tied to."""
    return sql.SQL("SELECT s.pk, f.former FROM {written}").format(written=_written(table, xid, sql.SQL("")))


def written_rows(table: Table, xid: int) -> sql.Composed:
    """The same with the tags and columns of the rows."""
    matches = sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(
            sql.Identifier("this", column.name),
            from_text(sql.SQL("(s.pk::jsonb ->> {})").format(sql.Literal(place)), column),
        )
        for place, column in enumerate(key_columns(table))
    )
    rows = sql.SQL("LEFT JOIN {} AS this ON {}").format(sql.Identifier("public", table.name), matches)
    return sql.SQL("SELECT s.pk, f.former, s.tags, {columns} FROM {written}").format(
        columns=sql.SQL(", ").join(sql.Identifier("this", column.name) for column in table.columns),
        written=_written(table, xid, rows),
    )


def _written(table: Table, xid: int, rows: sql.Composable) -> sql.Composed:
    return sql.SQL(
        "leyden.row_state AS s {rows} LEFT JOIN ("
        "SELECT t.pk, jsonb_agg(DISTINCT t.ties)::text AS former FROM leyden.former_ties AS t"
        " WHERE t.table_id = {table_id} AND {tied} GROUP BY t.pk) AS f ON f.pk = s.pk"
        " WHERE s.table_id = {table_id} AND {written}"
    ).format(rows=rows, table_id=sql.Literal(table.id), tied=written_since("t", xid), written=written_since("s", xid))


def parse_written_key(result: Row) -> tuple[Row, Former]:
    """From a result of :func:`written_keys`, or the beginning of one of :func:`written_rows`."""
    key, former = result[:KEY_RESULTS]
    if key is None:
        raise ValueError("a row without a key")
    return parse_key(key), _parse_former(former)


def parse_written_row(table: Table, result: Row) -> WrittenRow:
    """From a result of :func:`written_rows`."""
    key, former = parse_written_key(result)
    tags, row = result[KEY_RESULTS], result[ROW_RESULTS:]
    # The columns of a key are never NULL.
    exists = tags is not None and row[table.key_positions[0]] is not None
    return WrittenRow(key, former, row if exists else None, parse_tags(tags) if tags and exists else ())


def _parse_former(text: bytes | None) -> Former:
    if text is None:
        return {}
    former: dict[str, set[bytes | None]] = {}
    for ties in json.loads(text):
        for name, value in ties.items():
            former.setdefault(name, set()).add(None if value is None else value.encode())
    return former
