"""Finds the shapes that a transaction concerns without looking at all of them."""

from __future__ import annotations

from collections.abc import Iterator

from leyden.model import Row
from leyden.shapes.groups import Group, images
from leyden.shapes.sight import Sight
from leyden.shapes.standing import roots
from leyden.shapes.tree import Tree
from leyden.shapes.view import Part


class _OfTable:
    """The parts whose filter is on one table: by the value of a column that they need, and those that need none."""

    __slots__ = ("by_value", "others")

    def __init__(self) -> None:
        self.by_value: dict[int, dict[bytes | None, dict[Part, None]]] = {}
        self.others: dict[Part, None] = {}


class PartIndex:
    """Groups, and trees by their roots.

    A filter that can only be true where some column has one of a few values is found by that value. How many others
    there are, with other values, then costs a change nothing. A change of a row that hangs on the roots of trees by
    foreign keys is followed to these roots, and the trees are found by them.
    """

    def __init__(self) -> None:
        self._tables: dict[int, _OfTable] = {}
        #: Trees of one pattern differ in the filters of their roots only. By the tables below or above the root.
        self._patterns_on: dict[int, dict[str, dict[Tree, None]]] = {}

    @property
    def is_empty(self) -> bool:
        return not self._tables

    def add(self, part: Part) -> None:
        root = _root(part)
        if _may_hold_anything(root):
            of_table = self._tables.setdefault(root.table.id, _OfTable())
            for parts in self._places(of_table, root):
                parts[part] = None
        if isinstance(part, Tree):
            for table_id in part.tables_beyond_root:
                self._patterns_on.setdefault(table_id, {}).setdefault(part.pattern, {})[part] = None

    def remove(self, part: Part) -> None:
        root = _root(part)
        if _may_hold_anything(root):
            self._remove_root(part, root)
        if isinstance(part, Tree):
            for table_id in part.tables_beyond_root:
                patterns = self._patterns_on[table_id]
                del patterns[part.pattern][part]
                if not patterns[part.pattern]:
                    del patterns[part.pattern]
                if not patterns:
                    del self._patterns_on[table_id]

    def _remove_root(self, part: Part, root: Group) -> None:
        of_table = self._tables[root.table.id]
        for parts in self._places(of_table, root):
            parts.pop(part, None)
        position, forms = _indexed_by(root)
        if position is not None:
            values = of_table.by_value[position]
            for form in forms:
                if not values[form]:
                    del values[form]
            if not values:
                del of_table.by_value[position]
        if not of_table.by_value and not of_table.others:
            del self._tables[root.table.id]

    def concerned(self, sight: Sight) -> Iterator[Part]:
        """The groups and trees that see something of the transaction, each once."""
        told: set[Part] = set()
        for number, change in enumerate(sight.transaction.changes):
            table_id = change.table.id
            of_table = self._tables.get(table_id)
            rows = images(sight.transaction, number)
            if of_table is not None:
                for part in _candidates(of_table, *rows):
                    if part not in told and any(sight.membership(number, _root(part))):
                        told.add(part)
                        yield part
            for trees in self._patterns_on.get(table_id, {}).values():
                for tree in self._hanging_on(trees, sight, change.table.key_of(rows[0] or rows[1] or ()), table_id):
                    if tree not in told and sight.effect(tree).is_seen:
                        told.add(tree)
                        yield tree

    def _hanging_on(self, trees: dict[Tree, None], sight: Sight, key: Row, table_id: int) -> Iterator[Tree]:
        """Those of ``trees``, which have one pattern, whose root may be connected with the row."""
        tree = next(iter(trees))
        of_table = self._tables.get(tree.root.table.id)
        if of_table is None:
            return
        for at in (sight.before, sight.after):
            version = at.row((table_id, key))
            found = [] if version is None else roots(tree, at, version)
            if found is None:
                yield from trees
                return
            for root in found:
                for part in _candidates(of_table, root.row, None):
                    if isinstance(part, Tree) and part in trees:
                        yield part

    @staticmethod
    def _places(of_table: _OfTable, group: Group) -> Iterator[dict[Part, None]]:
        position, forms = _indexed_by(group)
        if position is None:
            yield of_table.others
            return
        values = of_table.by_value.setdefault(position, {})
        for form in forms:
            yield values.setdefault(form, {})


def _root(part: Part) -> Group:
    return part.root if isinstance(part, Tree) else part


def _may_hold_anything(group: Group) -> bool:
    """False for a filter that needs a column to have two values at once."""
    position, forms = _indexed_by(group)
    return position is None or bool(forms)


def _candidates(of_table: _OfTable, old: Row | None, new: Row | None) -> Iterator[Part]:
    yield from of_table.others
    for position, values in of_table.by_value.items():
        forms = {row[position] if position < len(row) else None for row in (old, new) if row is not None}
        for form in forms:
            yield from values.get(form, ())


def _indexed_by(group: Group) -> tuple[int | None, tuple[bytes | None, ...]]:
    """The column by whose value ``group`` is found, of those it needs the one with the fewest values."""
    equalities = {} if group.predicate is None else group.predicate.equalities
    if not equalities:
        return None, ()
    name, forms = min(equalities.items(), key=lambda item: (len(item[1]), item[0]))
    position = next(place for place, column in enumerate(group.table.columns) if column.name == name)
    return position, tuple(forms)
