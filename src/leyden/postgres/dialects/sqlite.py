"""Schema changes for SQLite.

Owns the mapping of Postgres types to declared SQLite types and the shape of the text, which is that of the
old service to the letter: applications keep it in their repositories and compare. Must not know the wire.
"""

from __future__ import annotations

import re

from leyden.model import AddColumns, Column, CreateEnum, CreateIndex, CreateTable, Index, SchemaChange, Table
from leyden.postgres.dialects.statement import Statement, foreign_key_clause, quote, quote_all, quote_text

_DECLARED_TYPES = {
    "bool": "INTEGER",
    "bytea": "BLOB",
    "float4": "REAL",
    "float8": "REAL",
    "int2": "INTEGER",
    "int4": "INTEGER",
    "int8": "INTEGER",
    "jsonb": "TEXT_JSON",
}


def declared_type(column: Column) -> str:
    """Declared SQLite type of a column; what SQLite has no word for (dates, UUIDs, enums) is ``TEXT``."""
    return "TEXT" if column.is_enum else _DECLARED_TYPES.get(column.type, "TEXT")


def default_literal(column: Column) -> str | None:
    """The default of ``column`` as the client would store the value if it came in a row; ``None`` for none."""
    text = column.default
    if text is None:
        return None
    match "text" if column.is_enum else column.type:
        case "bool":
            return str(int(text == "t"))
        case "int2" | "int4" | "int8":
            return text
        case "float4" | "float8":
            # SQLite has no word for infinity, but a number that is too large is that; NaN stays a word.
            return quote_text(text) if text == "NaN" else text.replace("Infinity", "9e999")
        case "bytea":
            digits = text[2:]
            return f"X'{digits}'"
        case "timestamptz":
            return quote_text(re.sub(r"\+00(?= BC$|$)", "Z", text))
        case _:
            return quote_text(text)


def statements(change: SchemaChange) -> list[Statement]:
    """See :func:`leyden.postgres.dialects.statements`."""
    match change:
        case CreateEnum():
            return []
        case CreateTable(table):
            return [_create_table(table), *(_create_index(table, index) for index in table.indexes)]
        case CreateIndex(table, index):
            return [_create_index(table, index)]
        case AddColumns(table, names):
            # SQLite adds one column at a time.
            return [
                Statement(
                    "alter_add_column",
                    f"ALTER TABLE {quote(table.name)} ADD COLUMN {_column(column, False)};\n",
                )
                for column in table.columns
                if column.name in names
            ]


def _create_table(table: Table) -> Statement:
    # The key is a table constraint: an INTEGER PRIMARY KEY column would be SQLite's rowid and hold integers
    # only.
    lines = [_column(column, column.name in table.primary_key) for column in table.columns]
    lines += [foreign_key_clause(foreign_key) for foreign_key in table.foreign_keys]
    lines.append(f"CONSTRAINT {quote(table.primary_key_name)} PRIMARY KEY ({quote_all(table.primary_key)})")
    body = ",\n".join(f"  {line}" for line in lines)
    return Statement("create_table", f"CREATE TABLE {quote(table.name)} (\n{body}\n);\n")


def _column(column: Column, is_key: bool) -> str:
    # SQLite allows NULL in a primary key unless told otherwise.
    not_null = " NOT NULL" if column.not_null or is_key else ""
    literal = default_literal(column)
    default = "" if literal is None else f" DEFAULT {literal}"
    return f"{quote(column.name)} {declared_type(column)}{not_null}{default}"


def _create_index(table: Table, index: Index) -> Statement:
    columns = ", ".join(f"{quote(c.name)} {'DESC' if c.descending else 'ASC'}" for c in index.columns)
    unique = "UNIQUE " if index.unique else ""
    return Statement("create_index", f"CREATE {unique}INDEX {quote(index.name)} ON {quote(table.name)} ({columns});\n")
