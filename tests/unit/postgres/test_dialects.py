from __future__ import annotations

import sqlite3

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
    Table,
)
from leyden.postgres.dialects import statements
from leyden.postgres.dialects.sqlite import declared_type

BY_N = Index("items_n", (IndexColumn("n", descending=True), IndexColumn("id")))
ITEMS = Table(
    id=1,
    name="items",
    columns=(
        Column("id", "uuid", not_null=True),
        Column("n", "int4", not_null=False),
        Column("p_id", "text", not_null=False),
        Column("mood", "mood", not_null=True, is_enum=True),
    ),
    primary_key=("id",),
    primary_key_name="items_pkey",
    foreign_keys=(ForeignKey("items_p_id_fkey", ("p_id",), "p", ("id",), on_delete="CASCADE"),),
    indexes=(BY_N,),
    enums=(EnumType("mood", ("ok", "it's")),),
)


def test_a_table_for_sqlite_has_the_shape_of_the_old_service() -> None:
    table, index = statements(CreateTable(ITEMS), "sqlite")
    assert table.kind == "create_table"
    assert table.sql == (
        'CREATE TABLE "items" (\n'
        '  "id" TEXT NOT NULL,\n'
        '  "n" INTEGER,\n'
        '  "p_id" TEXT,\n'
        '  "mood" TEXT NOT NULL,\n'
        '  CONSTRAINT "items_p_id_fkey" FOREIGN KEY ("p_id") REFERENCES "p" ("id") ON DELETE CASCADE,\n'
        '  CONSTRAINT "items_pkey" PRIMARY KEY ("id")\n'
        ");\n"
    )
    assert index == ("create_index", 'CREATE INDEX "items_n" ON "items" ("n" DESC, "id" ASC);\n')


def test_a_table_for_postgres_uses_catalog_names_and_quoted_enums() -> None:
    table, _ = statements(CreateTable(ITEMS), "postgresql")
    assert table.sql.splitlines()[1:5] == [
        '  "id" uuid NOT NULL,',
        '  "n" int4,',
        '  "p_id" text,',
        '  "mood" "mood" NOT NULL,',
    ]


def test_enums_exist_for_postgres_only() -> None:
    change = CreateEnum(ITEMS.enums[0])
    assert statements(change, "sqlite") == []
    assert statements(change, "postgresql") == [
        ("create_enum_type", """CREATE TYPE "mood" AS ENUM ('ok', 'it''s');\n""")
    ]


def test_each_added_column_is_a_statement() -> None:
    change = AddColumns(ITEMS, ("n", "mood"))
    assert [sql for _, sql in statements(AddColumns(ITEMS, ("n", "p_id")), "sqlite")] == [
        'ALTER TABLE "items" ADD COLUMN "n" INTEGER;\n',
        'ALTER TABLE "items" ADD COLUMN "p_id" TEXT;\n',
    ]
    assert [kind for kind, _ in statements(change, "postgresql")] == ["alter_add_column"] * 2
    assert statements(AddColumns(ITEMS, ()), "sqlite") == []


def test_a_unique_index_says_so() -> None:
    unique = Index("u", (IndexColumn("n"),), unique=True)
    for dialect in ("sqlite", "postgresql"):
        assert statements(CreateIndex(ITEMS, unique), dialect) == [
            ("create_index", 'CREATE UNIQUE INDEX "u" ON "items" ("n" ASC);\n')
        ]


@pytest.mark.parametrize(
    ("pg", "sqlite"),
    [
        *((name, "INTEGER") for name in ("int2", "int4", "int8", "bool")),
        *((name, "REAL") for name in ("float4", "float8")),
        *((name, "TEXT") for name in ("text", "varchar", "uuid", "date", "time", "timestamp", "timestamptz")),
        ("bytea", "BLOB"),
        ("jsonb", "TEXT_JSON"),
    ],
)
def test_declared_types(pg: str, sqlite: str) -> None:
    assert declared_type(Column("c", pg, not_null=False)) == sqlite


def test_an_enum_called_like_a_type_is_still_text() -> None:
    assert declared_type(Column("c", "bool", not_null=False, is_enum=True)) == "TEXT"


def test_sqlite_accepts_the_text_whatever_the_names_and_enforces_keys() -> None:
    name = "sel\"ect 'x' %"
    table = Table(
        id=1,
        name=name,
        columns=(Column(name, "int4", not_null=True), Column("by", "text", not_null=False)),
        primary_key=(name, "by"),
        primary_key_name=name + "_pkey",
        foreign_keys=(ForeignKey(name + "_fk", (name, "by"), name, (name, "by"), on_update="SET NULL"),),
        indexes=(Index(name + "_idx", (IndexColumn(name, True),)),),
    )
    with sqlite3.connect(":memory:") as db:
        for change in (CreateTable(table), AddColumns(Table(2, name, (Column("z", "jsonb", False),), (), ""), ("z",))):
            for _, sql in statements(change, "sqlite"):
                db.execute(sql)
        columns = [
            (row[1], row[2], row[3], row[5]) for row in db.execute("SELECT * FROM pragma_table_info(?)", (name,))
        ]
    db.close()
    assert columns == [(name, "INTEGER", 1, 1), ("by", "TEXT", 1, 2), ("z", "TEXT_JSON", 0, 0)]
