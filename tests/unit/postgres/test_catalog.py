from __future__ import annotations

from typing import Any

import pytest

from leyden.model import AddColumns, CreateEnum, CreateIndex, CreateTable, EnumType, Index, IndexColumn
from leyden.postgres.catalog import migration_from_json, table_from_json

INDEX: dict[str, Any] = {"name": "i", "unique": False, "columns": [{"name": "a", "descending": True}]}
ENUM = {"name": "mood", "labels": ["sad", "ok"]}
TABLE: dict[str, Any] = {
    "id": 7,
    "name": "items",
    "columns": [
        {"name": "a", "type": "int4", "not_null": False, "is_enum": False},
        {"name": "id", "type": "mood", "not_null": True, "is_enum": True},
    ],
    "primary_key": ["id"],
    "primary_key_name": "items_pkey",
    "foreign_keys": [
        {
            "name": "f",
            "columns": ["a"],
            "ref_table": "p",
            "ref_columns": ["id"],
            "on_delete": "CASCADE",
            "on_update": "NO ACTION",
        }
    ],
    "indexes": [INDEX],
    "enums": [ENUM],
}


def test_a_description_becomes_a_table() -> None:
    table = table_from_json(TABLE)
    assert (table.id, table.name, table.primary_key, table.key_positions) == (7, "items", ("id",), (1,))
    assert [(c.name, c.type, c.not_null, c.is_enum) for c in table.columns] == [
        ("a", "int4", False, False),
        ("id", "mood", True, True),
    ]
    assert table.foreign_keys[0].on_delete == "CASCADE"
    assert table.indexes == (Index("i", (IndexColumn("a", descending=True),)),)
    assert table.enums == (EnumType("mood", ("sad", "ok")),)


def test_every_kind_of_change_is_known() -> None:
    table = table_from_json(TABLE)
    migration = migration_from_json(
        "1",
        5,
        9,
        [
            {"kind": "create_enum", "enum": ENUM},
            {"kind": "create_table", "table": TABLE},
            {"kind": "add_columns", "table": TABLE, "columns": ["a"]},
            {"kind": "create_index", "table": TABLE, "index": INDEX},
        ],
    )
    assert (migration.version, migration.xid, migration.committed_at_ms) == ("1", 5, 9)
    assert migration.changes == (
        CreateEnum(table.enums[0]),
        CreateTable(table),
        AddColumns(table, ("a",)),
        CreateIndex(table, table.indexes[0]),
    )


def test_an_unknown_change_is_an_error() -> None:
    with pytest.raises(ValueError, match="drop_table"):
        migration_from_json("1", 1, 1, [{"kind": "drop_table"}])
