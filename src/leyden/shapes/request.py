"""A client's shape request, parsed and judged against the electrified tables (docs/architecture.md).

Whole tables only, so far: a filter or an include is refused by name rather than ignored, because a client that asked
for some rows must never be given others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from leyden.model import Table

#: Postgres identifiers have at most 63 bytes; the old service allowed 64.
MAX_TABLE_NAME_BYTES = 64


class ShapeErrorCode(Enum):
    TABLE_NOT_FOUND = auto()
    EMPTY_SHAPE_DEFINITION = auto()
    INVALID_WHERE_CLAUSE = auto()
    INVALID_INCLUDE_TREE = auto()


class ShapeError(Exception):
    """A shape request that cannot be served; ``message`` is for the app's developer."""

    def __init__(self, code: ShapeErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Select:
    """One top-level select as sent: table name, filter text (empty for none), number of includes."""

    table: str
    where: str
    includes: int


@dataclass(frozen=True, slots=True)
class ShapeRequest:
    request_id: str
    selects: tuple[Select, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """A request that can be served: all rows of ``table``."""

    request_id: str
    table: Table


def plan(request: ShapeRequest, tables: Mapping[str, Table]) -> Shape:
    """The shape that ``request`` describes; ``tables`` are the electrified tables by name.

    Raises:
        ShapeError: with the code that the protocol has for it.
    """
    if not request.selects:
        raise ShapeError(ShapeErrorCode.EMPTY_SHAPE_DEFINITION, "Empty shape requests are not allowed")
    if len(request.selects) > 1:
        raise ShapeError(ShapeErrorCode.INVALID_INCLUDE_TREE, "Cannot have more than one top-level select")
    select = request.selects[0]
    name = select.table
    if not name or len(name.encode("utf-8")) > MAX_TABLE_NAME_BYTES or not name.isprintable():
        raise ShapeError(ShapeErrorCode.TABLE_NOT_FOUND, "Invalid table name")
    table = tables.get(name)
    if table is None:
        raise ShapeError(ShapeErrorCode.TABLE_NOT_FOUND, f"Unknown table {name}")
    if select.where:
        raise ShapeError(
            ShapeErrorCode.INVALID_WHERE_CLAUSE,
            f"A where clause (here on table {name}) is not supported yet: subscribe to the whole table",
        )
    if select.includes:
        raise ShapeError(
            ShapeErrorCode.INVALID_INCLUDE_TREE,
            f"An include (here of table {name}) is not supported yet: subscribe to each table by itself",
        )
    return Shape(request.request_id, table)
