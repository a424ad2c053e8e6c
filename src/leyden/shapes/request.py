"""A client's shape request, parsed and judged against the electrified tables (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from leyden.model import IncludeRecord, Locale, ShapeRecord, Table
from leyden.shapes.groups import Group
from leyden.shapes.tree import Branch, Direction, Edge, Layer, Tree, edge_of, edges_upwards
from leyden.shapes.view import Part
from leyden.shapes.where import Claims, Predicate, Where, WhereError, conjunction, owner_predicate, parse_where

#: Filters up to this length are remembered once they are understood (characters).
_REMEMBERED_CHARACTERS = 1_024

#: Postgres identifiers have at most 63 bytes; the old service allowed 64.
MAX_TABLE_NAME_BYTES = 64

#: Tables of one request, the root and all includes.
MAX_LAYERS = 50


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
    """A select as sent: table name, filter text (empty for none), and what comes along."""

    table: str
    where: str = ""
    includes: tuple[Include, ...] = ()


@dataclass(frozen=True, slots=True)
class Include:
    """``foreign_key`` holds the columns of the table that refers to the other, whichever of the two is included."""

    foreign_key: tuple[str, ...]
    select: Select | None


@dataclass(frozen=True, slots=True)
class ShapeRequest:
    request_id: str
    selects: tuple[Select, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """A request that can be served: the rows of ``part``, for a client with certain claims."""

    request_id: str
    part: Part
    record: ShapeRecord

    @property
    def root(self) -> Group:
        """The rows that were asked for themselves, without those that come with them."""
        return self.part.root if isinstance(self.part, Tree) else self.part

    @property
    def table(self) -> Table:
        return self.root.table


def plan(request: ShapeRequest, tables: Mapping[str, Table], claims: Claims, locale: Locale) -> Shape:
    """The shape that ``request`` describes; ``tables`` are the electrified tables by name.

    Raises:
        ShapeError: with the code that the protocol has for it.
    """
    if not request.selects:
        raise ShapeError(ShapeErrorCode.EMPTY_SHAPE_DEFINITION, "Empty shape requests are not allowed")
    if len(request.selects) > 1:
        raise ShapeError(ShapeErrorCode.INVALID_INCLUDE_TREE, "Cannot have more than one top-level select")
    return planned(request.request_id, request.selects[0], tables, claims, locale)


def planned(request_id: str, select: Select, tables: Mapping[str, Table], claims: Claims, locale: Locale) -> Shape:
    """The shape of ``select``: its tables and filters, and whose rows the client may see at all.

    Raises:
        ShapeError: as for :func:`plan`.
    """
    planning = _Planning(tables, claims, locale)
    record = planning.add(select, None)
    return Shape(request_id, planning.part(), record)


def resumed(record: ShapeRecord, tables: Mapping[str, Table], claims: Claims, locale: Locale) -> Part | None:
    """What a client sees for a shape that it got on an earlier connection; ``None`` when it would get other rows now,
    because its claims are others or the request is not understood any more."""
    try:
        shape = planned("", _select(record), tables, claims, locale)
    except ShapeError:
        return None
    return shape.part if shape.record == record else None


def filters_of(select: Select | ShapeRecord) -> Iterator[str]:
    """The texts of all filters in it."""
    yield select.where
    for include in select.includes:
        nested = include.shape if isinstance(include, IncludeRecord) else include.select
        if nested is not None:
            yield from filters_of(nested)


def tables_of(select: Select | ShapeRecord) -> Iterator[str]:
    """The names of all tables in it."""
    yield select.table
    for include in select.includes:
        nested = include.shape if isinstance(include, IncludeRecord) else include.select
        if nested is not None:
            yield from tables_of(nested)


def _select(record: ShapeRecord) -> Select:
    includes = tuple(Include(one.foreign_key, _select(one.shape)) for one in record.includes)
    return Select(record.table, record.where, includes)


class _Planning:
    """Collects the layers of one request, the root first."""

    def __init__(self, tables: Mapping[str, Table], claims: Claims, locale: Locale) -> None:
        self._tables = tables
        self._claims = claims
        self._locale = locale
        self._layers: list[Layer] = []

    def add(self, select: Select, branch: Branch | None) -> ShapeRecord:
        """Adds ``select`` and all that it includes; returns what it is remembered as."""
        if len(self._layers) >= MAX_LAYERS:
            raise ShapeError(ShapeErrorCode.INVALID_INCLUDE_TREE, f"A shape has at most {MAX_LAYERS} tables")
        table = self._table(select.table)
        predicate, claims_used = self._filter(select, table)
        number = len(self._layers)
        self._layers.append(Layer(Group(table, predicate), branch))
        taken: set[tuple[str, str, Direction]] = set()
        includes: list[IncludeRecord] = []
        for include in select.includes:
            if include.select is None:
                raise ShapeError(ShapeErrorCode.INVALID_INCLUDE_TREE, f"An include of table {table.name} has no select")
            edge, direction = self._edge(table, include, include.select, taken)
            nested = self.add(include.select, Branch(number, edge, direction))
            includes.append(IncludeRecord(include.foreign_key, nested))
        return ShapeRecord(table.name, select.where, claims_used, tuple(includes))

    def part(self) -> Part:
        edges = tuple(edges_upwards([layer.table for layer in self._layers], self._tables))
        if not edges and len(self._layers) == 1:
            return self._layers[0].group
        owners = {edge.parent.id: Group(edge.parent, own) for edge in edges if (own := self._own(edge.parent))}
        return Tree(self._layers, edges, owners)

    def _table(self, name: str) -> Table:
        if not name or len(name.encode("utf-8")) > MAX_TABLE_NAME_BYTES or not name.isprintable():
            raise ShapeError(ShapeErrorCode.TABLE_NOT_FOUND, "Invalid table name")
        table = self._tables.get(name)
        if table is None:
            raise ShapeError(ShapeErrorCode.TABLE_NOT_FOUND, f"Unknown table {name}")
        return table

    def _edge(
        self, table: Table, include: Include, select: Select, taken: set[tuple[str, str, Direction]]
    ) -> tuple[Edge, Direction]:
        """The foreign key that ``include`` means, seen from ``table``. A table that refers to itself is included
        downwards; upwards as well if it is included a second time, which the client's requests do not tell apart."""
        other = self._table(select.table)
        ways = [(other, table, Direction.BELOW), (table, other, Direction.ABOVE)]
        columns = ", ".join(include.foreign_key)
        repeated = False
        for child, parent, direction in ways:
            for foreign_key in child.foreign_keys:
                if foreign_key.columns != include.foreign_key or foreign_key.ref_table != parent.name:
                    continue
                if (other.name, foreign_key.name, direction) in taken:
                    repeated = True
                    continue
                edge = edge_of(foreign_key, child, self._tables)
                if edge is None:
                    raise ShapeError(
                        ShapeErrorCode.INVALID_INCLUDE_TREE,
                        f"The foreign key ({columns}) of table {child.name} compares columns of different types",
                    )
                if direction is Direction.ABOVE and select.where:
                    raise ShapeError(
                        ShapeErrorCode.INVALID_INCLUDE_TREE,
                        f"An include of table {other.name}, which {table.name} refers to, cannot have a filter: "
                        "a row comes with all that it refers to",
                    )
                taken.add((other.name, foreign_key.name, direction))
                return edge, direction
        reason = "is included twice" if repeated else "is no foreign key between the two"
        raise ShapeError(
            ShapeErrorCode.INVALID_INCLUDE_TREE, f"Include of table {other.name} in {table.name}: ({columns}) {reason}"
        )

    def _filter(self, select: Select, table: Table) -> tuple[Predicate | None, str]:
        """What of the table the client gets, and the digest of the claims that this depends on."""
        own = self._own(table)
        # Empty is what the client sends for no filter; one of blanks is a filter, and a wrong one.
        if not select.where:
            return own, ""
        if not self._locale.letters_are_usual:
            raise ShapeError(
                ShapeErrorCode.INVALID_WHERE_CLAUSE,
                "Filters are not supported in a database with a Turkish, Azerbaijani or Lithuanian locale",
            )
        try:
            where = _parsed(select.where, table, self._locale.order_is_bytes)
        except WhereError as error:
            raise ShapeError(ShapeErrorCode.INVALID_WHERE_CLAUSE, error.message) from None
        predicate = where.bind(self._claims)
        return predicate if own is None else conjunction(predicate, own), where.claims_used(self._claims)

    def _own(self, table: Table) -> Predicate | None:
        user_id = self._claims.user_id
        return None if user_id is None else owner_predicate(table, user_id)


def _parsed(text: str, table: Table, order_is_bytes: bool) -> Where:
    parse = _remembered if len(text) <= _REMEMBERED_CHARACTERS else _parse
    return parse(text, table, order_is_bytes)


def _parse(text: str, table: Table, order_is_bytes: bool) -> Where:
    return parse_where(text, table, collation_is_c=order_is_bytes)


#: Clients of one app ask for the same filters, and all at once after an outage.
_remembered = lru_cache(maxsize=512)(_parse)
