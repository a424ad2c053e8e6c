"""A client's shape request, parsed and judged against the electrified tables (docs/architecture.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import lru_cache
from hashlib import sha256

from leyden.model import ForeignKey, IncludeRecord, Locale, ShapeRecord, Table
from leyden.shapes.groups import Group
from leyden.shapes.relations import Relation
from leyden.shapes.rights import OPEN, Forbidden, Rule, Rules
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


def plan(
    request: ShapeRequest, tables: Mapping[str, Table], claims: Claims, locale: Locale, rules: Rules = OPEN
) -> Shape:
    """The shape that ``request`` describes; ``tables`` are the electrified tables by name, and ``rules`` say what of
    them may be read.

    Raises:
        ShapeError: with the code that the protocol has for it.
    """
    if not request.selects:
        raise ShapeError(ShapeErrorCode.EMPTY_SHAPE_DEFINITION, "Empty shape requests are not allowed")
    if len(request.selects) > 1:
        raise ShapeError(ShapeErrorCode.INVALID_INCLUDE_TREE, "Cannot have more than one top-level select")
    return planned(request.request_id, request.selects[0], tables, claims, locale, rules)


def planned(
    request_id: str,
    select: Select,
    tables: Mapping[str, Table],
    claims: Claims,
    locale: Locale,
    rules: Rules = OPEN,
) -> Shape:
    """The shape of ``select``: its tables and filters, and whose rows the client may see at all.

    Raises:
        ShapeError: as for :func:`plan`.
    """
    planning = _Planning(tables, claims, locale, rules)
    record = planning.add(select, None)
    part = planning.part()
    return Shape(request_id, part, replace(record, claims=planning.digest(record.claims)))


def resumed(
    record: ShapeRecord, tables: Mapping[str, Table], claims: Claims, locale: Locale, rules: Rules = OPEN
) -> Part | None:
    """What a client sees for a shape that it got on an earlier connection; ``None`` when it would get other rows now,
    because its claims or its rights are others or the request is not understood any more."""
    try:
        shape = planned("", _select(record), tables, claims, locale, rules)
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

    def __init__(self, tables: Mapping[str, Table], claims: Claims, locale: Locale, rules: Rules) -> None:
        self._tables = tables
        self._claims = claims
        self._locale = locale
        self._rules = rules
        #: What the client may read of each table that is met, by id: see :meth:`digest`.
        self._rights: dict[int, tuple[str, list[str] | None]] = {}
        #: The tables, by id, of which policies do not let all rows through, and what decides about these elsewhere.
        self._guarded: dict[int, tuple[Relation, ...]] = {}
        self._layers: list[Layer] = []

    def add(self, select: Select, branch: Branch | None) -> ShapeRecord:
        """Adds ``select`` and all that it includes; returns what it is remembered as."""
        if len(self._layers) >= MAX_LAYERS:
            raise ShapeError(ShapeErrorCode.INVALID_INCLUDE_TREE, f"A shape has at most {MAX_LAYERS} tables")
        table = self._table(select.table)
        predicate, claims_used = self._filter(select, table)
        number = len(self._layers)
        self._layers.append(Layer(self._group(table, predicate), branch))
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
        """The shape, once all is added."""
        edges = tuple(edges_upwards([layer.table for layer in self._layers], self._tables, self._may_follow))
        if not edges and len(self._layers) == 1 and not self._layers[0].group.relations:
            return self._layers[0].group
        owners: dict[int, Group] = {}
        for edge in edges:
            group = self._group(edge.parent, self._own(edge.parent))
            if group.predicate is not None or group.columns is not None:
                owners[edge.parent.id] = group
        return Tree(self._layers, edges, owners)

    def digest(self, claims_used: str) -> str:
        """``claims_used`` by the filter, with what the client's role may read with these claims of all tables."""
        if not self._rights:
            return claims_used
        return sha256(json.dumps([claims_used, sorted(self._rights.items())]).encode()).hexdigest()

    def _rule(self, table: Table) -> Rule:
        try:
            return self._rules.of(table)
        except Forbidden as forbidden:
            raise ShapeError(ShapeErrorCode.INVALID_WHERE_CLAUSE, forbidden.message) from None

    def _group(self, table: Table, predicate: Predicate | None) -> Group:
        return Group(
            table,
            predicate,
            self._rule(table).columns,
            is_guarded=table.id in self._guarded,
            relations=self._guarded.get(table.id, ()),
        )

    def _may_follow(self, foreign_key: ForeignKey, child: Table) -> bool:
        """Whether the client may know what a row of ``child`` refers to by ``foreign_key``, and read anything there."""
        rule, parent = self._rule(child), self._tables.get(foreign_key.ref_table)
        if parent is not None:
            try:
                self._rules.of(parent).bind(self._claims)
            except Forbidden:
                self._rights[parent.id] = ("", [])
                return False
        return all(map(rule.may_read, foreign_key.columns))

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
                if not all(map(self._rule(child).may_read, foreign_key.columns)):
                    raise ShapeError(
                        ShapeErrorCode.INVALID_INCLUDE_TREE,
                        f"Permission denied for columns ({columns}) of table {child.name}",
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
        hidden = sorted(name for name in where.columns if not self._rule(table).may_read(name))
        if hidden:
            raise ShapeError(
                ShapeErrorCode.INVALID_WHERE_CLAUSE, f"Permission denied for column {hidden[0]} of table {table.name}"
            )
        predicate = where.bind(self._claims)
        return predicate if own is None else conjunction(predicate, own), where.claims_used(self._claims)

    def _own(self, table: Table) -> Predicate | None:
        """What of the table the client may see at all; ``None`` for all rows."""
        rule, user_id = self._rule(table), self._claims.user_id
        allowed: Predicate | None = None
        relations: tuple[Relation, ...] = ()
        try:
            bound = rule.bind(self._claims)
        except Forbidden as forbidden:
            raise ShapeError(ShapeErrorCode.INVALID_WHERE_CLAUSE, forbidden.message) from None
        if bound is not None:
            allowed, relations = bound.predicate, bound.relations
            self._guarded[table.id] = relations
        if allowed is not None or rule.columns is not None:
            columns = None if rule.columns is None else sorted(rule.columns)
            self._rights[table.id] = (Group(table, allowed, relations=relations).key, columns)
        own = None if user_id is None else owner_predicate(table, user_id)
        return conjunction(allowed, own) if allowed is not None and own is not None else allowed or own


def _parsed(text: str, table: Table, order_is_bytes: bool) -> Where:
    parse = _remembered if len(text) <= _REMEMBERED_CHARACTERS else _parse
    return parse(text, table, order_is_bytes)


def _parse(text: str, table: Table, order_is_bytes: bool) -> Where:
    return parse_where(text, table, collation_is_c=order_is_bytes)


#: Clients of one app ask for the same filters, and all at once after an outage.
_remembered = lru_cache(maxsize=512)(_parse)
