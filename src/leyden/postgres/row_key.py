"""The key under which a row's state is stored, as Python text and as an SQL expression.

Owns the rule that the generated triggers, the snapshot queries and the writer must share: a JSON array of the
text forms of the primary key columns in key order. Must not know what the state means.
"""

from __future__ import annotations

import json

from psycopg import sql

from leyden.model import Column, Row, Table


def row_key(key: Row) -> str:
    """The stored ``pk`` for key values in key order. Equal, byte by byte, to what :func:`key_expression`
    computes.
    """
    values = [None if value is None else value.decode() for value in key]
    return json.dumps(values, ensure_ascii=False)


def text_form(column: Column, alias: str) -> sql.Composable:
    """SQL for the text form of ``alias.column`` as the replication stream shows it.

    A cast to text is that, except for ``bool``: the cast says ``true`` where the stream says ``t``.
    """
    name = sql.Identifier(alias, column.name)
    if column.type == "bool" and not column.is_enum:
        return sql.SQL("CASE WHEN {0} THEN 't' WHEN NOT {0} THEN 'f' END").format(name)
    return sql.SQL("{}::text").format(name)


def key_expression(table: Table, alias: str) -> sql.Composable:
    """SQL for ``leyden.row_state.pk`` of the row ``alias`` of ``table``."""
    columns = {column.name: column for column in table.columns}
    values = sql.SQL(", ").join(text_form(columns[name], alias) for name in table.primary_key)
    return sql.SQL("jsonb_build_array({})::text").format(values)
