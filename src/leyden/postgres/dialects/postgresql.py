"""Schema changes for clients whose local database is a Postgres (PGlite and others).

Owns the shape of that text. Must not know the wire.
"""

from __future__ import annotations

from leyden.model import (
    AddColumns,
    Column,
    CreateEnum,
    CreateIndex,
    CreateTable,
    EnumType,
    Index,
    SchemaChange,
    Table,
)
from leyden.postgres.dialects.statement import Statement, foreign_key_clause, quote, quote_all, quote_text


def statements(change: SchemaChange) -> list[Statement]:
    """See :func:`leyden.postgres.dialects.statements`."""
    match change:
        case CreateEnum(enum):
            return [_create_enum(enum)]
        case CreateTable(table):
            return [_create_table(table), *(_create_index(table, index) for index in table.indexes)]
        case CreateIndex(table, index):
            return [_create_index(table, index)]
        case AddColumns(table, names):
            return [
                Statement("alter_add_column", f"ALTER TABLE {quote(table.name)} ADD COLUMN {_column(column)};\n")
                for column in table.columns
                if column.name in names
            ]


def _create_enum(enum: EnumType) -> Statement:
    labels = ", ".join(map(quote_text, enum.labels))
    return Statement("create_enum_type", f"CREATE TYPE {quote(enum.name)} AS ENUM ({labels});\n")


def _create_table(table: Table) -> Statement:
    lines = [_column(column) for column in table.columns]
    lines += [foreign_key_clause(foreign_key) for foreign_key in table.foreign_keys]
    lines.append(f"CONSTRAINT {quote(table.primary_key_name)} PRIMARY KEY ({quote_all(table.primary_key)})")
    body = ",\n".join(f"  {line}" for line in lines)
    return Statement("create_table", f"CREATE TABLE {quote(table.name)} (\n{body}\n);\n")


def _column(column: Column) -> str:
    # Catalog names of built-in types are valid type names as they stand; an enum's name is anybody's choice.
    type_name = quote(column.type) if column.is_enum else column.type
    # The text form without a type takes that of the column.
    default = "" if column.default is None else f" DEFAULT {quote_text(column.default)}"
    return f"{quote(column.name)} {type_name}{' NOT NULL' if column.not_null else ''}{default}"


def _create_index(table: Table, index: Index) -> Statement:
    columns = ", ".join(f"{quote(c.name)} {'DESC' if c.descending else 'ASC'}" for c in index.columns)
    unique = "UNIQUE " if index.unique else ""
    return Statement("create_index", f"CREATE {unique}INDEX {quote(index.name)} ON {quote(table.name)} ({columns});\n")
