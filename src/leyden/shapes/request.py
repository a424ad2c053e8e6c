"""A client's shape request, parsed and judged against the electrified tables (docs/architecture.md).

Filters on one table, so far: an include is refused by name rather than ignored, because a client that asked for some
rows must never be given others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from leyden.model import Locale, ShapeRecord, Table
from leyden.shapes.groups import Group
from leyden.shapes.where import Claims, Predicate, Where, WhereError, conjunction, owner_predicate, parse_where

#: Filters up to this length are remembered once they are understood (characters).
_REMEMBERED_CHARACTERS = 1_024

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
    where: str = ""
    includes: int = 0


@dataclass(frozen=True, slots=True)
class ShapeRequest:
    request_id: str
    selects: tuple[Select, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """A request that can be served: the rows of ``group``, for a client with certain claims."""

    request_id: str
    group: Group
    record: ShapeRecord

    @property
    def table(self) -> Table:
        return self.group.table


def plan(request: ShapeRequest, tables: Mapping[str, Table], claims: Claims, locale: Locale) -> Shape:
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
    if select.includes:
        raise ShapeError(
            ShapeErrorCode.INVALID_INCLUDE_TREE,
            f"An include (here of table {name}) is not supported yet: subscribe to each table by itself",
        )
    return planned(request.request_id, select, table, claims, locale)


def planned(request_id: str, select: Select, table: Table, claims: Claims, locale: Locale) -> Shape:
    """The shape of ``select``, whose table is ``table``: its filter, and whose rows the client may see at all.

    Raises:
        ShapeError: the filter is none.
    """
    predicate: Predicate | None = None
    used = ""
    # Empty is what the client sends for no filter; one of blanks is a filter, and a wrong one.
    if select.where:
        if not locale.letters_are_usual:
            raise ShapeError(
                ShapeErrorCode.INVALID_WHERE_CLAUSE,
                "Filters are not supported in a database with a Turkish, Azerbaijani or Lithuanian locale",
            )
        try:
            where = _parsed(select.where, table, locale.order_is_bytes)
        except WhereError as error:
            raise ShapeError(ShapeErrorCode.INVALID_WHERE_CLAUSE, error.message) from None
        predicate, used = where.bind(claims), where.claims_used(claims)
    own = None if claims.user_id is None else owner_predicate(table, claims.user_id)
    if own is not None:
        predicate = own if predicate is None else conjunction(predicate, own)
    return Shape(request_id, Group(table, predicate), ShapeRecord(table.name, select.where, used))


def _parsed(text: str, table: Table, order_is_bytes: bool) -> Where:
    parse = _remembered if len(text) <= _REMEMBERED_CHARACTERS else _parse
    return parse(text, table, order_is_bytes)


def _parse(text: str, table: Table, order_is_bytes: bool) -> Where:
    return parse_where(text, table, collation_is_c=order_is_bytes)


#: Clients of one app ask for the same filters, and all at once after an outage.
_remembered = lru_cache(maxsize=512)(_parse)


def resumed(record: ShapeRecord, table: Table, claims: Claims, locale: Locale) -> Group | None:
    """The group of a shape that a client got on an earlier connection; ``None`` when it would get other rows now,
    because its claims are others or the filter is not understood any more."""
    try:
        shape = planned("", Select(record.table, record.where), table, claims, locale)
    except ShapeError:
        return None
    return shape.group if shape.record == record else None
