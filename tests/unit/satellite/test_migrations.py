"""Migrations as clients receive them, compared with recordings of the service that Leyden replaces."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

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
    Table,
)
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.migrations import Dialect, archive, metadata, operations

RECORDINGS = Path(__file__).parents[2] / "fixtures" / "recordings"


def table(name: str, columns: str, key: str = "id", foreign_keys: tuple[ForeignKey, ...] = ()) -> Table:
    """``columns``: comma-separated "name type[!]"; ``!`` is NOT NULL, a trailing ``?`` an enum."""
    described = []
    for text in columns.split(","):
        column, type_name = text.strip().rsplit(" ", 1)
        described.append(Column(column, type_name.rstrip("!?"), "!" in type_name, is_enum="?" in type_name))
    return Table(1, name, tuple(described), tuple(key.split(",")), f"{name}_pkey", foreign_keys)


ALL_TYPES = table(
    "all_types",
    "id uuid!, c_bool bool, c_bytea bytea, c_date date, c_float4 float4, c_float8 float8, c_int2 int2, c_int4 int4, "
    "c_int8 int8, c_jsonb jsonb, c_text text, c_time time, c_timestamp timestamp, c_timestamptz timestamptz, "
    "c_uuid uuid, c_varchar varchar, c_text_nn text!, c_int_nn int4!",
)
ALIASES = table(
    "alias_types",
    "id int8!, sub int2!, a int4, b bool, c float4, d float8, e varchar, f timestamptz, g timestamp, h time, "
    "Weird Name text, select text",
    "id,sub",
)
PROJECT_KEY = ForeignKey("issues_project_id_fkey", ("project_id",), "projects", ("id",), on_delete="CASCADE")
ISSUES = "id uuid!, project_id uuid!, title text"
issues = table("issues", ISSUES, foreign_keys=(PROJECT_KEY,))
COMMENTS = table(
    "comments",
    "id text!, issue_id uuid, body text",
    foreign_keys=(ForeignKey("comments_issue_id_fkey", ("issue_id",), "issues", ("id",)),),
)
TREE = table(
    "tree",
    "id text!, parent_id text",
    foreign_keys=(ForeignKey("tree_parent_id_fkey", ("parent_id",), "tree", ("id",)),),
)
COMPOUND = table(
    "alias_child",
    "id text!, pid int8!, psub int2!",
    foreign_keys=(ForeignKey("alias_child_pid_psub_fkey", ("pid", "psub"), "alias_types", ("id", "sub")),),
)
PRE = table("pre", "id text!, v text")
COLOUR = EnumType("colour", ("red", "green", "Dark_Blue2"))

CHANGES: dict[str, tuple[SchemaChange, ...]] = {
    "20240101000001_types": (CreateTable(ALL_TYPES),),
    "20240101000002_aliases": (CreateTable(ALIASES),),
    "20240101000003_fks": (
        CreateTable(table("projects", "id uuid!, name text!, owner_id text")),
        CreateTable(Table(2, "issues", issues.columns, ("id",), "issues_pkey", (PROJECT_KEY,))),
        CreateTable(Table(3, "comments", COMMENTS.columns, ("id",), "comments_pkey", COMMENTS.foreign_keys)),
    ),
    "20240101000006_index": (
        CreateIndex(issues, Index("issues_title_idx", (IndexColumn("title"),))),
        CreateIndex(issues, Index("issues_multi_idx", (IndexColumn("project_id"), IndexColumn("title", True)))),
    ),
    "20240101000007_addcol": (
        AddColumns(table("issues", ISSUES + ", priority int4", foreign_keys=(PROJECT_KEY,)), ("priority",)),
    ),
    "20240101000008_addcols": (
        AddColumns(
            table("issues", ISSUES + ", priority int4, due timestamptz, done bool", foreign_keys=(PROJECT_KEY,)),
            ("due", "done"),
        ),
    ),
    "20240101000009_preexist": (CreateTable(PRE),),
    "20240101000010_ddlx": (CreateTable(table("plain_ddlx", "id text!")),),
    "20240101000011_enum2": (
        CreateEnum(COLOUR),
        CreateTable(table("enums", "id text!, c colour?, d colour!?")),
    ),
    "20240101000013_uniqueidx": (CreateIndex(PRE, Index("pre_v_uidx", (IndexColumn("v"),), unique=True)),),
    "20240101000016_self": (CreateTable(TREE),),
    "20240101000017_addcolvarchar": (AddColumns(table("pre", "id text!, v text, w varchar, x bytea"), ("w", "x")),),
}


def migration(version: str) -> Migration:
    return Migration(version, 745, 1_700_000_000_000, CHANGES[version])


def recorded(dialect: Dialect) -> dict[str, dict[str, Any]]:
    entries = json.loads((RECORDINGS / f"migrations-{dialect.value}.json").read_text())
    return {entry["version"]: entry for entry in entries}


def recorded_operations(version: str, dialect: Dialect) -> list[pb.SatOpMigrate]:
    ops = json.loads(recorded(dialect)[version]["metadata"])["ops"]
    return [pb.SatOpMigrate.FromString(base64.b64decode(op)) for op in ops]


@pytest.mark.parametrize("version", CHANGES)
def test_sqlite_operations_are_the_recorded_ones_byte_for_byte(version: str) -> None:
    assert operations(migration(version), Dialect.SQLITE) == recorded_operations(version, Dialect.SQLITE)


@pytest.mark.parametrize("version", CHANGES)
def test_postgresql_operations_describe_what_the_recorded_ones_describe(version: str) -> None:
    """The statements differ in spelling: they are printed, not cut out of what somebody typed."""
    ours = operations(migration(version), Dialect.POSTGRESQL)
    theirs = recorded_operations(version, Dialect.POSTGRESQL)

    assert [(op.version, op.table, op.enum_type) for op in ours] == [
        (op.version, op.table, op.enum_type) for op in theirs
    ]
    assert [[stmt.type for stmt in op.stmts] for op in ours] == [[stmt.type for stmt in op.stmts] for op in theirs]


def test_a_compound_foreign_key_stays_in_the_statement_alone() -> None:
    (operation,) = operations(Migration("1", 1, 1, (CreateTable(COMPOUND),)), Dialect.SQLITE)
    (theirs,) = recorded_operations("20240101000004_compfk", Dialect.SQLITE)

    assert operation.stmts[0].sql == theirs.stmts[0].sql
    # the client throws at what the old service sent
    assert [len(fk.fk_cols) for fk in theirs.table.fks] == [2]
    assert list(operation.table.fks) == []


def test_every_column_has_a_postgres_type() -> None:
    for version in CHANGES:
        for operation in operations(migration(version), Dialect.SQLITE):
            assert all(column.HasField("pg_type") and column.pg_type.name for column in operation.table.columns)


def test_an_enum_has_no_statement_in_sqlite_but_keeps_its_version() -> None:
    enum, _ = operations(migration("20240101000011_enum2"), Dialect.SQLITE)

    assert enum == pb.SatOpMigrate(
        version="20240101000011_enum2",
        enum_type=pb.SatOpMigrate.EnumType(name="colour", values=["red", "green", "Dark_Blue2"]),
    )


@pytest.mark.parametrize("dialect", Dialect)
def test_each_statement_is_one_statement(dialect: Dialect) -> None:
    for version in CHANGES:
        for operation in operations(migration(version), dialect):
            assert all(stmt.sql.count(";") <= 1 for stmt in operation.stmts)


@pytest.mark.parametrize("dialect", Dialect)
def test_metadata_has_exactly_the_four_keys_that_the_client_knows(dialect: Dialect) -> None:
    document = json.loads(metadata(migration("20240101000003_fks"), dialect))

    assert set(document) == {"format", "ops", "protocol_version", "version"}
    assert document["format"] == "SatOpMigrate"
    assert document["protocol_version"] == "Electric.Satellite"
    assert document["version"] == "20240101000003_fks"
    ops = [pb.SatOpMigrate.FromString(base64.b64decode(op, validate=True)) for op in document["ops"]]
    assert ops == operations(migration("20240101000003_fks"), dialect)


def test_the_archive_is_the_recorded_one() -> None:
    history = [migration(version) for version in CHANGES]
    theirs = recorded(Dialect.SQLITE)
    with zipfile.ZipFile(io.BytesIO(archive(history, Dialect.SQLITE))) as bundle:
        names = bundle.namelist()
        for version in CHANGES:
            assert bundle.read(f"{version}/migration.sql").decode() == theirs[version]["sql"]
            ours = json.loads(bundle.read(f"{version}/metadata.json"))
            assert ours["version"] == version

    assert names == [f"{version}/{name}" for version in CHANGES for name in ("migration.sql", "metadata.json")]


def test_an_archive_of_nothing_is_empty() -> None:
    with zipfile.ZipFile(io.BytesIO(archive([], Dialect.SQLITE))) as bundle:
        assert bundle.namelist() == []
