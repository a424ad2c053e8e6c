"""Trees: shapes that reach beyond one table along foreign keys.

A tree has layers. The root is a filter on a table, as a group is. A layer below another holds the rows that refer to
one of its rows, as far as they pass a filter of their own; a layer above it, the rows that its rows refer to. Besides,
whatever a row in a layer refers to comes with it, however far: its *ancestors*. Without them the foreign keys of the
client's database would not hold.

This module knows how a tree is made and when two are equal; which rows are in one is told by
:mod:`leyden.shapes.standing`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from hashlib import sha256

from leyden.model import ForeignKey, Table
from leyden.shapes.groups import Group
from leyden.shapes.questions import Question

#: Types whose values may refer to each other, as equal values have equal text forms. Any other type only to itself.
_FAMILIES = {"int2": "int", "int4": "int", "int8": "int", "text": "text", "varchar": "text"}


@dataclass(frozen=True, slots=True)
class Edge:
    """A foreign key: columns of ``child`` (by place) refer to columns of ``parent``."""

    name: str
    child: Table
    child_places: tuple[int, ...]
    parent: Table
    parent_places: tuple[int, ...]


class Direction(Enum):
    BELOW = "below"
    """The layer's rows refer to those of the layer that it hangs on."""
    ABOVE = "above"
    """The rows of the layer that it hangs on refer to its rows."""


@dataclass(frozen=True, slots=True)
class Branch:
    """What a layer hangs on: the number of that layer in its tree, and the foreign key between the two."""

    layer: int
    edge: Edge
    direction: Direction


@dataclass(frozen=True, slots=True)
class Layer:
    """``group`` is its own filter. Only the root has no ``branch``."""

    group: Group
    branch: Branch | None = None

    @property
    def table(self) -> Table:
        return self.group.table


class Tree:
    """The layers of a shape, the root first, and the foreign keys by which ancestors come along."""

    def __init__(
        self, layers: Sequence[Layer], edges: Sequence[Edge] = (), owners: Mapping[int, Group] | None = None
    ) -> None:
        """``edges`` are those from the layers' tables on upwards. ``owners`` holds for tables (by id) what a row must
        be in to come along as an ancestor."""
        self.layers = tuple(layers)
        self.owners = dict(owners or {})
        #: Numbers of the layers on a table, by its id.
        self.layers_on: dict[int, list[int]] = defaultdict(list)
        #: Numbers of the layers that hang on a layer, by its number.
        self.branches: dict[int, list[int]] = defaultdict(list)
        for number, layer in enumerate(layers):
            self.layers_on[layer.table.id].append(number)
            if layer.branch is not None:
                self.branches[layer.branch.layer].append(number)
        self.edges_from: dict[int, list[Edge]] = defaultdict(list)
        self.edges_to: dict[int, list[Edge]] = defaultdict(list)
        for edge in edges:
            self.edges_from[edge.child.id].append(edge)
            self.edges_to[edge.parent.id].append(edge)
        #: Of those to a table, by which a row of it can come along that is in none of its layers.
        self.bringing = {table_id: self._bringing(edges) for table_id, edges in self.edges_to.items()}
        #: Equal for trees that differ in the filters of their roots only.
        self.pattern = self._pattern(edges)
        self._hash = hash((self.root, self.pattern))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tree) and self.root == other.root and self.pattern == other.pattern

    def __repr__(self) -> str:
        return f"Tree({self.root.table.name!r}, {self.root.key[:8]!r}, {self.pattern[:8]!r})"

    @property
    def root(self) -> Group:
        return self.layers[0].group

    @cached_property
    def tables(self) -> dict[int, Table]:
        """The tables that it may hold rows of, by id."""
        tables = {layer.table.id: layer.table for layer in self.layers}
        for edges in self.edges_from.values():
            tables |= {edge.parent.id: edge.parent for edge in edges}
        return tables

    @cached_property
    def consulted(self) -> dict[int, Table]:
        """The other tables that decide about its rows, by id. Those that it holds rows of may be among them."""
        return {table_id: table for group in self.groups for table_id, table in group.consulted.items()}

    @cached_property
    def questions(self) -> frozenset[Question]:
        """What is asked of Postgres for it."""
        return frozenset(question for group in self.groups for question in group.questions)

    @property
    def needed(self) -> dict[int, Table]:
        """All tables that must be kept for it, by id."""
        return self.consulted | self.tables

    @cached_property
    def tables_beyond_root(self) -> frozenset[int]:
        """Those of which it may hold other rows than the root's own."""
        root = self.root.table.id
        is_root_only = self.layers_on[root] == [0] and root not in self.edges_to
        return frozenset(self.tables.keys() - {root} if is_root_only else self.tables.keys())

    @cached_property
    def readable(self) -> dict[int, frozenset[str]]:
        """Of tables (by id) of which not all columns are to be seen, the names of those that are."""
        return {group.table.id: group.columns for group in self.groups if group.columns is not None}

    @property
    def is_guarded(self) -> bool:
        """Whether policies have a part in what it holds."""
        return any(group.is_guarded for group in self.groups)

    @property
    def groups(self) -> list[Group]:
        """Those of its layers, and those that rows must be in to come along."""
        return [*(layer.group for layer in self.layers), *self.owners.values()]

    def _bringing(self, edges: Sequence[Edge]) -> list[Edge]:
        """Without those by which rows hang below: these are in the tree because the row that they refer to is in its
        layer, and so are no reason for it."""
        return [
            edge
            for edge in edges
            if self.edges_to.get(edge.child.id)
            or not all(self._hangs_by(edge, number) for number in self.layers_on.get(edge.child.id, ()))
        ]

    def _hangs_by(self, edge: Edge, number: int) -> bool:
        branch = self.layers[number].branch
        return branch is not None and branch.direction is Direction.BELOW and branch.edge.name == edge.name

    def _pattern(self, edges: Sequence[Edge]) -> str:
        layers = [
            (layer.table.id,)
            if (branch := layer.branch) is None
            else (layer.table.id, layer.group.key, branch.layer, branch.edge.name, branch.direction.value)
            for layer in self.layers
        ]
        ancestors = sorted((edge.child.id, edge.name, edge.parent.id) for edge in edges)
        owners = sorted((table, owner.key) for table, owner in self.owners.items())
        return sha256(json.dumps([layers, ancestors, owners]).encode()).hexdigest()


def ranked(trees: Iterable[Tree]) -> dict[int, int]:
    """The ids of the tables that ``trees`` may hold rows of, each with a number that is higher than those of the tables
    that it refers to, as far as there is no cycle."""
    edges: dict[int, dict[str, Edge]] = defaultdict(dict)
    for tree in trees:
        for table_id in tree.tables:
            edges[table_id] |= {edge.name: edge for edge in tree.edges_from.get(table_id, ())}
    ranks: dict[int, int] = {}
    entered: set[int] = set()

    def visit(table_id: int) -> None:
        if table_id not in entered:
            entered.add(table_id)
            for edge in edges[table_id].values():
                visit(edge.parent.id)
            ranks[table_id] = len(ranks)

    for table_id in tuple(edges):
        visit(table_id)
    return ranks


def edge_of(foreign_key: ForeignKey, child: Table, tables: Mapping[str, Table]) -> Edge | None:
    """The edge for a foreign key of ``child``; ``None`` for one that cannot be followed: its table is not served, or
    equal values of the two columns may be spelt differently."""
    parent = tables.get(foreign_key.ref_table)
    if parent is None:
        return None
    child_places = _places(child, foreign_key.columns)
    parent_places = _places(parent, foreign_key.ref_columns)
    if child_places is None or parent_places is None:
        return None
    for here, there in zip(child_places, parent_places, strict=True):
        types = child.columns[here].type, parent.columns[there].type
        if len({_FAMILIES.get(one, one) for one in types}) > 1:
            return None
    return Edge(foreign_key.name, child, child_places, parent, parent_places)


def edges_upwards(
    start: Sequence[Table],
    tables: Mapping[str, Table],
    may_follow: Callable[[ForeignKey, Table], bool] = lambda foreign_key, child: True,
) -> Iterator[Edge]:
    """The foreign keys from the tables in ``start`` on, and from the tables that these lead to, as far as
    ``may_follow`` allows it for a foreign key of a table."""
    pending, met = list(start), {table.id for table in start}
    while pending:
        child = pending.pop()
        for foreign_key in child.foreign_keys:
            edge = edge_of(foreign_key, child, tables)
            if edge is None or not may_follow(foreign_key, child):
                continue
            yield edge
            if edge.parent.id not in met:
                met.add(edge.parent.id)
                pending.append(edge.parent)


def _places(table: Table, names: Sequence[str]) -> tuple[int, ...] | None:
    order = {column.name: place for place, column in enumerate(table.columns)}
    places = tuple(order[name] for name in names if name in order)
    return places if len(places) == len(names) else None
