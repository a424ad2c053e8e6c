from __future__ import annotations

import pytest

from leyden.model import Column, Table
from leyden.shapes.request import Select, Shape, ShapeError, ShapeErrorCode, ShapeRequest, plan

ITEMS = Table(1, "items", (Column("id", "text", True),), ("id",), "items_pkey")
ODD = Table(2, "Größe & select", (Column("id", "text", True),), ("id",), "odd_pkey")
TABLES = {table.name: table for table in (ITEMS, ODD)}


def request(*selects: Select) -> ShapeRequest:
    return ShapeRequest("r1", selects)


@pytest.mark.parametrize("table", [ITEMS, ODD])
def test_a_whole_table_is_a_shape(table: Table) -> None:
    assert plan(request(Select(table.name, "", 0)), TABLES) == Shape("r1", table)


@pytest.mark.parametrize(
    ("selects", "code", "message"),
    [
        ((), ShapeErrorCode.EMPTY_SHAPE_DEFINITION, "Empty shape requests are not allowed"),
        (
            (Select("items", "", 0), Select("items", "", 0)),
            ShapeErrorCode.INVALID_INCLUDE_TREE,
            "Cannot have more than one top-level select",
        ),
        ((Select("", "", 0),), ShapeErrorCode.TABLE_NOT_FOUND, "Invalid table name"),
        ((Select("a" * 65, "", 0),), ShapeErrorCode.TABLE_NOT_FOUND, "Invalid table name"),
        ((Select("ä" * 33, "", 0),), ShapeErrorCode.TABLE_NOT_FOUND, "Invalid table name"),
        ((Select("it\nems", "", 0),), ShapeErrorCode.TABLE_NOT_FOUND, "Invalid table name"),
        ((Select("ITEMS", "", 0),), ShapeErrorCode.TABLE_NOT_FOUND, "Unknown table ITEMS"),
        ((Select("a" * 64, "", 0),), ShapeErrorCode.TABLE_NOT_FOUND, "Unknown table " + "a" * 64),
        ((Select("secrets", "x", 3),), ShapeErrorCode.TABLE_NOT_FOUND, "Unknown table secrets"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_code_for_it(
    selects: tuple[Select, ...], code: ShapeErrorCode, message: str
) -> None:
    with pytest.raises(ShapeError) as refusal:
        plan(request(*selects), TABLES)

    assert (refusal.value.code, refusal.value.message) == (code, message)


@pytest.mark.parametrize(
    ("select", "code"),
    [
        (Select("items", "true", 0), ShapeErrorCode.INVALID_WHERE_CLAUSE),
        (Select("items", " ", 0), ShapeErrorCode.INVALID_WHERE_CLAUSE),
        (Select("items", "", 1), ShapeErrorCode.INVALID_INCLUDE_TREE),
    ],
)
def test_a_filter_or_an_include_is_refused_rather_than_ignored(select: Select, code: ShapeErrorCode) -> None:
    with pytest.raises(ShapeError, match="items") as refusal:
        plan(request(select), TABLES)

    assert refusal.value.code is code


def test_a_filter_is_not_quoted_in_the_refusal() -> None:
    with pytest.raises(ShapeError) as refusal:
        plan(request(Select("items", "this.owner = 'private'", 0)), TABLES)

    assert "private" not in refusal.value.message
