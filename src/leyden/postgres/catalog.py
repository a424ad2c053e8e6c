"""Reads what ``leyden.enable`` and its kin wrote: table descriptions and migrations, as model nouns.

Owns the JSON form of descriptions and changes, which the SQL functions produce. Must not know how they came
about or who wants them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from leyden.model import (
    AddColumns,
    Column,
    CreateEnum,
    CreateIndex,
    CreateTable,
    EnumType,
    ForeignKey,
    Index,
    IndexColumn,
    Migration,
    SchemaChange,
    Suspension,
    Table,
)


def table_from_json(obj: Mapping[str, Any]) -> Table:
    """A description as ``leyden.describe`` returns it. Raises :class:`KeyError` when a member is missing."""
    return Table(
        id=obj["id"],
        name=obj["name"],
        columns=tuple(map(_column, obj["columns"])),
        primary_key=tuple(obj["primary_key"]),
        primary_key_name=obj["primary_key_name"],
        foreign_keys=tuple(_foreign_key(f) for f in obj["foreign_keys"]),
        indexes=tuple(_index(i) for i in obj["indexes"]),
        enums=tuple(_enum(e) for e in obj["enums"]),
    )


def migration_from_json(
    version: str, xid: int, committed_at_ms: int, changes: Sequence[Mapping[str, Any]]
) -> Migration:
    """A row of ``leyden.versions``. Raises :class:`ValueError` for a kind of change that is not known."""
    return Migration(version, xid, committed_at_ms, tuple(_change(change) for change in changes))


async def load_tables(conn: psycopg.AsyncConnection[Any]) -> dict[int, Table]:
    """The electrified tables by id."""
    cursor = await conn.execute("SELECT description FROM leyden.tables ORDER BY table_name")
    tables = [table_from_json(row[0]) for row in await cursor.fetchall()]
    return {table.id: table for table in tables}


async def load_suspended(conn: psycopg.AsyncConnection[Any]) -> dict[int, Suspension]:
    """The electrified tables that are suspended, by id."""
    cursor = await conn.execute("SELECT table_id::int8, suspended FROM leyden.tables WHERE suspended IS NOT NULL")
    return {row[0]: suspension_from_json(row[1]) for row in await cursor.fetchall()}


def suspension_from_json(obj: Mapping[str, Any]) -> Suspension:
    """As ``leyden.inspect`` writes it."""
    return Suspension(obj["reason"], obj["remedy"])


async def load_migrations(conn: psycopg.AsyncConnection[Any]) -> list[Migration]:
    """All migrations, oldest first: versions sort as they were committed."""
    cursor = await conn.execute(
        "SELECT version, xid::text, floor(extract(epoch FROM committed_at) * 1000)::bigint, changes"
        " FROM leyden.versions ORDER BY version"
    )
    return [migration_from_json(row[0], int(row[1]), row[2], row[3]) for row in await cursor.fetchall()]


def _change(obj: Mapping[str, Any]) -> SchemaChange:
    match obj["kind"]:
        case "create_enum":
            return CreateEnum(_enum(obj["enum"]))
        case "create_table":
            return CreateTable(table_from_json(obj["table"]))
        case "add_columns":
            columns = tuple(obj["columns"])
            # earlier releases did not say so, and told of no columns for no other reason
            return AddColumns(table_from_json(obj["table"]), columns, reopens=obj.get("reopens", not columns))
        case "create_index":
            return CreateIndex(table_from_json(obj["table"]), _index(obj["index"]))
        case kind:
            raise ValueError(f"unknown kind of schema change: {kind}")


def _column(obj: Mapping[str, Any]) -> Column:
    default = obj.get("default")  # descriptions of releases that knew no defaults have none either
    return Column(obj["name"], obj["type"], not_null=obj["not_null"], is_enum=obj["is_enum"], default=default)


def _foreign_key(obj: Mapping[str, Any]) -> ForeignKey:
    return ForeignKey(
        name=obj["name"],
        columns=tuple(obj["columns"]),
        ref_table=obj["ref_table"],
        ref_columns=tuple(obj["ref_columns"]),
        on_delete=obj["on_delete"],
        on_update=obj["on_update"],
    )


def _index(obj: Mapping[str, Any]) -> Index:
    columns = tuple(IndexColumn(c["name"], descending=c["descending"]) for c in obj["columns"])
    return Index(obj["name"], columns, unique=obj["unique"])


def _enum(obj: Mapping[str, Any]) -> EnumType:
    return EnumType(obj["name"], tuple(obj["labels"]))
