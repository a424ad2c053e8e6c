from __future__ import annotations

from leyden.conflict.operations import Kind, operation_of
from leyden.conflict.tags import Tag
from leyden.model import ClientCompensation, ClientDelete, ClientInsert, ClientUpdate, Column, Table

ITEMS = Table(
    1,
    "items",
    (Column("content", "text", False), Column("id", "uuid", True), Column("content_b", "text", False)),
    ("id",),
    "items_pkey",
)


def test_an_insert_writes_the_value_columns_it_supplies() -> None:
    operation = operation_of(ClientInsert(ITEMS, {"id": b"z", "content": None}, frozenset()))
    assert operation.kind is Kind.INSERT
    assert operation.mask == {"content"}
    assert operation.incoming == {"id": b"z", "content": None, "content_b": None}


def test_an_update_writes_the_columns_it_claims_to_change() -> None:
    old = {"id": b"z", "content": b"a", "content_b": b"b"}
    operation = operation_of(ClientUpdate(ITEMS, old, {**old, "content_b": None}, frozenset({"c1@4", "bad"})))
    assert operation.mask == {"content_b"}
    assert operation.observed == {Tag(4, "c1")}


def test_a_column_without_an_old_value_counts_as_changed() -> None:
    operation = operation_of(ClientUpdate(ITEMS, {"id": b"z"}, {"id": b"z", "content": None}, frozenset()))
    assert operation.mask == {"content"}


def test_a_delete_and_a_compensation_write_no_column() -> None:
    assert operation_of(ClientDelete(ITEMS, {"id": b"z", "content": b"a"}, frozenset())).mask == frozenset()
    assert operation_of(ClientCompensation(ITEMS, {"id": b"z"}, frozenset())).mask == frozenset()


def test_columns_unknown_to_the_table_are_ignored() -> None:
    operation = operation_of(ClientInsert(ITEMS, {"id": b"z", "gone": b"x"}, frozenset()))
    assert set(operation.incoming) == {"id", "content", "content_b"}
    assert operation.mask == frozenset()


def test_the_key_can_be_respelt() -> None:
    operation = operation_of(ClientInsert(ITEMS, {"id": b"Z", "content": b"a"}, frozenset()))
    assert operation.with_key({"id": b"z"}).incoming == {"id": b"z", "content": b"a", "content_b": None}
