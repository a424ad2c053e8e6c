from __future__ import annotations

from leyden.model import Column, ForeignKey, Table
from leyden.postgres.writing.revival import parents_of

HOUSES = Table(
    1, "houses", (Column("no", "int4", True), Column("street", "text", True)), ("street", "no"), "houses_pkey"
)
ROOMS = Table(
    2,
    "rooms",
    (Column("id", "text", True), Column("s", "text", False), Column("n", "int4", False), Column("up", "text", False)),
    ("id",),
    "rooms_pkey",
    (
        ForeignKey("house", ("n", "s"), "houses", ("no", "street")),
        ForeignKey("up", ("up",), "rooms", ("id",)),
        ForeignKey("elsewhere", ("up",), "not_electrified", ("id",)),
    ),
)
TABLES = {table.name: table for table in (HOUSES, ROOMS)}


def test_parents_are_named_by_their_key_in_key_order() -> None:
    row = {"id": b"r", "s": b"Elm", "n": b"4", "up": b"q"}
    assert parents_of(ROOMS, row, TABLES) == [(HOUSES, ("Elm", "4")), (ROOMS, ("q",))]


def test_a_reference_with_a_null_refers_to_nothing() -> None:
    assert parents_of(ROOMS, {"id": b"r", "s": b"Elm", "n": None, "up": None}, TABLES) == []


def test_tables_that_are_not_electrified_are_left_out() -> None:
    assert parents_of(ROOMS, {"id": b"r", "s": b"Elm", "n": b"4"}, {}) == []
