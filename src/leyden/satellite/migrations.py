"""Migrations as clients receive them: SatOpMigrate operations, and the archive of ``/api/migrations``."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Iterable
from enum import StrEnum

from leyden.model import AddColumns, CreateEnum, CreateIndex, CreateTable, Migration, SchemaChange, Table
from leyden.postgres import dialects
from leyden.postgres.dialects import sqlite
from leyden.satellite import satellite_pb2 as pb


class Dialect(StrEnum):
    """SQL spoken by the client's database; the values are the names used by ``/api/migrations``."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


_STATEMENT_TYPES = {
    "create_table": pb.SatOpMigrate.CREATE_TABLE,
    "create_index": pb.SatOpMigrate.CREATE_INDEX,
    "create_enum_type": pb.SatOpMigrate.CREATE_ENUM_TYPE,
    "alter_add_column": pb.SatOpMigrate.ALTER_ADD_COLUMN,
}


def _table(table: Table) -> pb.SatOpMigrate.Table:
    # A compound foreign key makes the client throw while it builds its triggers ("does not yet support compound
    # foreign keys"), so it stays out of the description; the constraint itself is still in the statement.
    return pb.SatOpMigrate.Table(
        name=table.name,
        columns=[
            pb.SatOpMigrate.Column(
                name=column.name,
                sqlite_type=sqlite.declared_type(column),
                pg_type=pb.SatOpMigrate.PgColumnType(name=column.type),
            )
            for column in table.columns
        ],
        fks=[
            pb.SatOpMigrate.ForeignKey(fk_cols=fk.columns, pk_table=fk.ref_table, pk_cols=fk.ref_columns)
            for fk in table.foreign_keys
            if len(fk.columns) == 1
        ],
        pks=table.primary_key,
    )


def _operation(version: str, change: SchemaChange, final: dict[int, Table], dialect: Dialect) -> pb.SatOpMigrate:
    operation = pb.SatOpMigrate(
        version=version,
        stmts=[
            pb.SatOpMigrate.Stmt(type=_STATEMENT_TYPES[kind], sql=sql)
            for kind, sql in dialects.statements(change, dialect.value)
        ],
    )
    match change:
        case CreateTable(table) | AddColumns(table):
            # the table as it is after the whole migration: the client builds its triggers from it
            operation.table.CopyFrom(_table(final[table.id]))
        case CreateEnum(enum):
            operation.enum_type.CopyFrom(pb.SatOpMigrate.EnumType(name=enum.name, values=enum.labels))
        case CreateIndex():
            pass
    return operation


def operations(migration: Migration, dialect: Dialect) -> list[pb.SatOpMigrate]:
    """One operation per schema change, in order (docs/electrify.md)."""
    final: dict[int, Table] = {}
    for change in migration.changes:
        if not isinstance(change, CreateEnum):
            final[change.table.id] = change.table
    return [_operation(migration.version, change, final, dialect) for change in migration.changes]


def metadata(migration: Migration, dialect: Dialect) -> str:
    """The ``metadata.json`` of a migration. The client's parser refuses any further key."""
    ops = [base64.b64encode(op.SerializeToString()).decode("ascii") for op in operations(migration, dialect)]
    document = {
        "format": "SatOpMigrate",
        "ops": ops,
        "protocol_version": "Electric.Satellite",
        "version": migration.version,
    }
    return json.dumps(document)


def archive(migrations: Iterable[Migration], dialect: Dialect) -> bytes:
    """ZIP with ``VERSION/migration.sql`` and ``VERSION/metadata.json`` for each migration (§7.2)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for migration in migrations:
            texts = [stmt.sql for op in operations(migration, dialect) for stmt in op.stmts]
            sql = "\n\n".join(text.rstrip().removesuffix(";") + ";" for text in texts)
            bundle.writestr(f"{migration.version}/migration.sql", sql)
            bundle.writestr(f"{migration.version}/metadata.json", metadata(migration, dialect))
    return buffer.getvalue()
