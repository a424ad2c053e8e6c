from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from leyden.model import Column, Locale, ShapeRecord, Table
from leyden.shapes.groups import Group
from leyden.shapes.request import Select, Shape, ShapeError, ShapeErrorCode, ShapeRequest, plan, resumed
from leyden.shapes.where import Claims
from views import BYTES, NOBODY

ITEMS = Table(1, "items", (Column("id", "text", True),), ("id",), "items_pkey")
ODD = Table(2, "Größe & select", (Column("id", "text", True),), ("id",), "odd_pkey")
TABLES = {table.name: table for table in (ITEMS, ODD)}


def request(*selects: Select) -> ShapeRequest:
    return ShapeRequest("r1", selects)


@pytest.mark.parametrize("table", [ITEMS, ODD])
def test_a_whole_table_is_a_shape(table: Table) -> None:
    assert plan(request(Select(table.name)), TABLES, NOBODY, BYTES) == Shape(
        "r1", Group(table), ShapeRecord(table.name)
    )


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
        plan(request(*selects), TABLES, NOBODY, BYTES)

    assert (refusal.value.code, refusal.value.message) == (code, message)


def asked(where: str, table: Table = ITEMS, claims: Claims = NOBODY, locale: Locale = BYTES) -> Shape:
    return plan(request(Select(table.name, where)), {table.name: table}, claims, locale)


def refusal_of(where: str, **asking: Any) -> tuple[ShapeErrorCode, str]:
    with pytest.raises(ShapeError) as refusal:
        asked(where, **asking)
    return refusal.value.code, refusal.value.message


def test_a_filter_makes_a_group() -> None:
    shape = asked("this.id = 'a'")

    assert (shape.group.holds((b"a",)), shape.group.holds((b"b",))) == (True, False)
    assert shape.record == ShapeRecord("items", "this.id = 'a'")
    assert shape.group == asked("'a' = this.id").group != asked("").group


@pytest.mark.parametrize(
    "where", ["this.nowhere = 1", "this.id", "(", " ", "true; DROP TABLE items", "this.id = 'a' --\n)"]
)
def test_a_filter_that_is_not_understood_is_refused_with_its_place(where: str) -> None:
    code, message = refusal_of(where)

    assert code is ShapeErrorCode.INVALID_WHERE_CLAUSE
    assert message.startswith("At location ")


def test_an_include_is_refused_rather_than_ignored() -> None:
    with pytest.raises(ShapeError, match="items") as refusal:
        plan(request(Select("items", "", 1)), TABLES, NOBODY, BYTES)

    assert refusal.value.code is ShapeErrorCode.INVALID_INCLUDE_TREE


def test_the_order_of_texts_is_asked_for_only_where_it_is_known() -> None:
    assert asked("this.id > 'a'").group.holds((b"b",))
    assert refusal_of("this.id > 'a'", locale=Locale(order_is_bytes=False))[0] is ShapeErrorCode.INVALID_WHERE_CLAUSE
    assert asked("this.id = 'a'", locale=Locale(order_is_bytes=False))


def test_filters_are_refused_where_letters_have_other_partners() -> None:
    turkish = Locale(order_is_bytes=True, letters_are_usual=False)
    assert refusal_of("this.id = 'a'", locale=turkish)[0] is ShapeErrorCode.INVALID_WHERE_CLAUSE
    assert asked("", locale=turkish)


def test_of_a_table_with_owners_a_client_gets_its_own_rows_and_nobodys() -> None:
    owned = replace(ITEMS, columns=(*ITEMS.columns, Column("electric_user_id", "text", False)))
    for where in ("", "true", "this.id = 'a' OR true --"):
        group = asked(where, table=owned, claims=Claims("ann", {})).group
        held = [group.holds((b"a", owner)) for owner in (b"ann", b"bob", b"", None)]
        assert held == [True, False, True, True]
        # a row of the time before there were owners
        assert group.holds((b"a",))


def test_a_shape_is_resumed_as_long_as_it_stands_for_the_same_rows() -> None:
    where = "this.id = auth.claims ->> 'org' AND auth.sub IS NOT NULL"
    ann = Claims("ann", {"org": "a", "iat": 1})
    record = asked(where, claims=ann).record

    assert resumed(record, ITEMS, Claims("ann", {"org": "a", "iat": 2}), BYTES) == asked(where, claims=ann).group
    for org in ("b", None, 1, ["a"], 1.5):
        assert resumed(record, ITEMS, Claims("ann", {"org": org}), BYTES) is None
    assert resumed(record, ITEMS, Claims("ann", {}), BYTES) is None
    assert resumed(replace(record, where="this.gone = 1"), ITEMS, ann, BYTES) is None
