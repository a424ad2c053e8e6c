from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from leyden.model import Column, Locale, ShapeRecord, Table
from leyden.shapes.groups import Group
from leyden.shapes.request import (
    MAX_LAYERS,
    Include,
    Select,
    Shape,
    ShapeError,
    ShapeErrorCode,
    ShapeRequest,
    plan,
    resumed,
)
from leyden.shapes.where import Claims
from linked_tables import TABLES as LINKED
from linked_tables import include
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
            (Select("items"), Select("items")),
            ShapeErrorCode.INVALID_INCLUDE_TREE,
            "Cannot have more than one top-level select",
        ),
        ((Select(""),), ShapeErrorCode.TABLE_NOT_FOUND, "Invalid table name"),
        ((Select("a" * 65),), ShapeErrorCode.TABLE_NOT_FOUND, "Invalid table name"),
        ((Select("ä" * 33),), ShapeErrorCode.TABLE_NOT_FOUND, "Invalid table name"),
        ((Select("it\nems"),), ShapeErrorCode.TABLE_NOT_FOUND, "Invalid table name"),
        ((Select("ITEMS"),), ShapeErrorCode.TABLE_NOT_FOUND, "Unknown table ITEMS"),
        ((Select("a" * 64),), ShapeErrorCode.TABLE_NOT_FOUND, "Unknown table " + "a" * 64),
        ((Select("secrets", "x"),), ShapeErrorCode.TABLE_NOT_FOUND, "Unknown table secrets"),
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


def group_of(shape: Shape) -> Group:
    assert isinstance(shape.part, Group)
    return shape.part


def refusal_of(where: str, **asking: Any) -> tuple[ShapeErrorCode, str]:
    with pytest.raises(ShapeError) as refusal:
        asked(where, **asking)
    return refusal.value.code, refusal.value.message


def test_a_filter_makes_a_group() -> None:
    shape = asked("this.id = 'a'")

    group = group_of(shape)
    assert (group.holds((b"a",)), group.holds((b"b",))) == (True, False)
    assert shape.record == ShapeRecord("items", "this.id = 'a'")
    assert shape.part == asked("'a' = this.id").part != asked("").part


@pytest.mark.parametrize(
    "where", ["this.nowhere = 1", "this.id", "(", " ", "true; DROP TABLE items", "this.id = 'a' --\n)"]
)
def test_a_filter_that_is_not_understood_is_refused_with_its_place(where: str) -> None:
    code, message = refusal_of(where)

    assert code is ShapeErrorCode.INVALID_WHERE_CLAUSE
    assert message.startswith("At location ")


@pytest.mark.parametrize(
    ("select", "code", "message"),
    [
        (
            Select("issues", "", (include("author_id", Select("users", "this.name = 'ann'")),)),
            ShapeErrorCode.INVALID_INCLUDE_TREE,
            "An include of table users, which issues refers to, cannot have a filter: "
            "a row comes with all that it refers to",
        ),
        (
            Select("issues", "", (include("id", Select("users")),)),
            ShapeErrorCode.INVALID_INCLUDE_TREE,
            "Include of table users in issues: (id) is no foreign key between the two",
        ),
        (
            Select("issues", "", (include("author_id", Select("users")),) * 2),
            ShapeErrorCode.INVALID_INCLUDE_TREE,
            "Include of table users in issues: (author_id) is included twice",
        ),
        (
            Select("users", "", (include("boss", Select("users")),) * 3),
            ShapeErrorCode.INVALID_INCLUDE_TREE,
            "Include of table users in users: (boss) is included twice",
        ),
        (
            Select("issues", "", (Include(("author_id",), None),)),
            ShapeErrorCode.INVALID_INCLUDE_TREE,
            "An include of table issues has no select",
        ),
        (
            Select("issues", "", (include("author_id", Select("secrets")),)),
            ShapeErrorCode.TABLE_NOT_FOUND,
            "Unknown table secrets",
        ),
    ],
)
def test_an_include_that_cannot_be_served_is_refused(select: Select, code: ShapeErrorCode, message: str) -> None:
    with pytest.raises(ShapeError) as refusal:
        plan(request(select), LINKED, NOBODY, BYTES)

    assert (refusal.value.code, refusal.value.message) == (code, message)


def test_includes_are_bounded() -> None:
    nested = Select("users")
    for _ in range(MAX_LAYERS - 1):
        nested = Select("users", "", (include("boss", nested),))
    assert plan(request(nested), LINKED, NOBODY, BYTES)

    with pytest.raises(ShapeError, match=f"at most {MAX_LAYERS} tables"):
        plan(request(Select("users", "", (include("boss", nested),))), LINKED, NOBODY, BYTES)


def test_a_shape_with_includes_is_resumed_as_it_was() -> None:
    inner = Select("issues", "this.status = auth.claims ->> 'org'")
    select = Select("projects", "", (include("project_id", inner),))
    a, b = (Claims("ann", {"org": org}) for org in "ab")
    shape = plan(request(select), LINKED, a, BYTES)

    assert shape.record.uses_claims
    assert resumed(shape.record, LINKED, a, BYTES) == shape.part
    assert resumed(shape.record, LINKED, b, BYTES) is None
    assert resumed(shape.record, {"projects": LINKED["projects"]}, a, BYTES) is None


def test_the_order_of_texts_is_asked_for_only_where_it_is_known() -> None:
    assert group_of(asked("this.id > 'a'")).holds((b"b",))
    assert refusal_of("this.id > 'a'", locale=Locale(order_is_bytes=False))[0] is ShapeErrorCode.INVALID_WHERE_CLAUSE
    assert asked("this.id = 'a'", locale=Locale(order_is_bytes=False))


def test_filters_are_refused_where_letters_have_other_partners() -> None:
    turkish = Locale(order_is_bytes=True, letters_are_usual=False)
    assert refusal_of("this.id = 'a'", locale=turkish)[0] is ShapeErrorCode.INVALID_WHERE_CLAUSE
    assert asked("", locale=turkish)


def test_of_a_table_with_owners_a_client_gets_its_own_rows_and_nobodys() -> None:
    owned = replace(ITEMS, columns=(*ITEMS.columns, Column("electric_user_id", "text", False)))
    for where in ("", "true", "this.id = 'a' OR true --"):
        group = group_of(asked(where, table=owned, claims=Claims("ann", {})))
        held = [group.holds((b"a", owner)) for owner in (b"ann", b"bob", b"", None)]
        assert held == [True, False, True, True]
        # a row of the time before there were owners
        assert group.holds((b"a",))


def test_a_shape_is_resumed_as_long_as_it_stands_for_the_same_rows() -> None:
    where = "this.id = auth.claims ->> 'org' AND auth.sub IS NOT NULL"
    ann = Claims("ann", {"org": "a", "iat": 1})
    record = asked(where, claims=ann).record

    assert resumed(record, TABLES, Claims("ann", {"org": "a", "iat": 2}), BYTES) == asked(where, claims=ann).part
    for org in ("b", None, 1, ["a"], 1.5):
        assert resumed(record, TABLES, Claims("ann", {"org": org}), BYTES) is None
    assert resumed(record, TABLES, Claims("ann", {}), BYTES) is None
    assert resumed(replace(record, where="this.gone = 1"), TABLES, ann, BYTES) is None
