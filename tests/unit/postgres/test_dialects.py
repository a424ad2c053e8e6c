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


DEFAULTS = [
    ("bool", "t", "1", 1),
    ("bool", "f", "0", 0),
    ("int4", "-1", "-1", -1),
    ("int8", "-9223372036854775808", "-9223372036854775808", -9223372036854775808),
    ("float8", "0.1", "0.1", 0.1),
    ("float8", "5", "5", 5.0),
    ("float8", "-1.5e+300", "-1.5e+300", -1.5e300),
    ("float8", "Infinity", "9e999", float("inf")),
    ("float4", "-Infinity", "-9e999", float("-inf")),
    ("float8", "NaN", "'NaN'", "NaN"),
    ("text", "it's \\ ;", "'it''s \\ ;'", "it's \\ ;"),
    ("text", "7", "'7'", "7"),
    ("bytea", "\\x00ff", "X'00ff'", b"\x00\xff"),
    ("bytea", "\\x", "X''", b""),
    ("jsonb", '{"a": 1}', "'{\"a\": 1}'", '{"a": 1}'),
    ("timestamptz", "2024-02-29 10:00:00.5+00", "'2024-02-29 10:00:00.5Z'", "2024-02-29 10:00:00.5Z"),
    ("timestamptz", "0044-03-15 10:00:00+00 BC", "'0044-03-15 10:00:00Z BC'", "0044-03-15 10:00:00Z BC"),
    ("timestamptz", "infinity", "'infinity'", "infinity"),
    ("timestamp", "2024-02-29 10:00:00", "'2024-02-29 10:00:00'", "2024-02-29 10:00:00"),
]


@pytest.mark.parametrize(("type_name", "text", "literal", "stored"), DEFAULTS)
def test_a_default_is_what_the_client_would_store_of_the_value(
    type_name: str, text: str, literal: str, stored: object
) -> None:
    column = Column("c", type_name, not_null=True, default=text)
    table = Table(1, "items", (Column("id", "text", not_null=True), column), ("id",), "items_pkey")
    ((_, added),) = statements(AddColumns(table, ("c",)), "sqlite")
    assert added == f'ALTER TABLE "items" ADD COLUMN "c" {declared_type(column)} NOT NULL DEFAULT {literal};\n'
    ((_, created),) = statements(CreateTable(table), "sqlite")
    for before, sql in (("CREATE TABLE items (id TEXT); INSERT INTO items VALUES ('old')", added), ("", created)):
        db = sqlite3.connect(":memory:")
        db.executescript(before)
        db.execute(sql)
        db.execute("INSERT INTO items (id) VALUES ('new')")
        values = {row[0] for row in db.execute("SELECT c FROM items")}
        assert values == {stored}
        assert {type(value) for value in values} == {type(stored)}
        db.close()


def test_a_default_for_postgres_is_its_text_form() -> None:
    columns = (
        Column("id", "text", not_null=True),
        Column("b", "bool", not_null=True, default="f"),
        Column("m", "mood", not_null=False, is_enum=True, default="it's"),
        Column("y", "bytea", not_null=False, default="\\x00"),
    )
    table = Table(1, "items", columns, ("id",), "items_pkey")
    assert [sql for _, sql in statements(AddColumns(table, ("b", "m", "y")), "postgresql")] == [
        'ALTER TABLE "items" ADD COLUMN "b" bool NOT NULL DEFAULT \'f\';\n',
        'ALTER TABLE "items" ADD COLUMN "m" "mood" DEFAULT \'it\'\'s\';\n',
        'ALTER TABLE "items" ADD COLUMN "y" bytea DEFAULT \'\\x00\';\n',
    ]


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
