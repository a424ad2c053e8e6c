"""Finds the shapes that a transaction concerns without looking at all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from leyden.model import Row, Transaction
from leyden.shapes.groups import Group, images
from leyden.shapes.relations import Relation, all_of
from leyden.shapes.sight import Sight
from leyden.shapes.standing import roots
from leyden.shapes.tree import Tree
from leyden.shapes.view import Part

#: The place of a column and the values of which it must have one; no place: it may have any.
_Asked = tuple[int | None, tuple[bytes | None, ...]]


class _OfTable:
    """The parts that ask something of a table: by the value of a column that they need, and those that need none."""

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
        #: Trees by the tables that decide about their rows, and what they ask of those.
        self._consulting: dict[int, _OfTable] = {}

    @property
    def is_empty(self) -> bool:
        return not self._tables

    def add(self, part: Part) -> None:
        root = _root(part)
        if _may_hold_anything(root):
            of_table = self._tables.setdefault(root.table.id, _OfTable())
            for parts in self._places(of_table, _indexed_by(root)):
                parts[part] = None
        if isinstance(part, Tree):
            for table_id in part.tables_beyond_root:
                self._patterns_on.setdefault(table_id, {}).setdefault(part.pattern, {})[part] = None
            for relation in _relations(part):
                for parts in self._places(self._consulting.setdefault(relation.table.id, _OfTable()), _asked(relation)):
                    parts[part] = None

    def remove(self, part: Part) -> None:
        root = _root(part)
        if _may_hold_anything(root):
            self._remove(part, self._tables, root.table.id, _indexed_by(root))
        if isinstance(part, Tree):
            for table_id in part.tables_beyond_root:
                patterns = self._patterns_on[table_id]
                del patterns[part.pattern][part]
                if not patterns[part.pattern]:
                    del patterns[part.pattern]
                if not patterns:
                    del self._patterns_on[table_id]
            for relation in _relations(part):
                self._remove(part, self._consulting, relation.table.id, _asked(relation))

    def _remove(self, part: Part, tables: dict[int, _OfTable], table_id: int, asked: _Asked) -> None:
        of_table = tables.get(table_id)
        if of_table is None:
            return  # of two relations alike the first took both along
        for parts in self._places(of_table, asked):
            parts.pop(part, None)
        position, forms = asked
        if position is not None:
            values = of_table.by_value[position]
            for form in forms:
                if not values[form]:
                    del values[form]
            if not values:
                del of_table.by_value[position]
        if not of_table.by_value and not of_table.others:
            del tables[table_id]

    def looks_at(self, transaction: Transaction) -> bool:
        """Whether anything is there that has to do with a table which the transaction changes."""
        tables = {change.table.id for change in transaction.changes}
        return not (
            self._tables.keys().isdisjoint(tables)
            and self._patterns_on.keys().isdisjoint(tables)
            and self._consulting.keys().isdisjoint(tables)
        )

    def concerned(self, sight: Sight) -> Iterator[Part]:
        """The groups and trees that see something of the transaction, each once."""
        told: set[Part] = set()
        if self._consulting:
            for tree in self._deciding(sight):
                told.add(tree)
                yield tree
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

    def _deciding(self, sight: Sight) -> Iterator[Tree]:
        """The trees that see something because rows of other tables decide otherwise about theirs."""
        met: set[Part] = set()
        for number, change in enumerate(sight.transaction.changes):
            of_table = self._consulting.get(change.table.id)
            for part in () if of_table is None else _candidates(of_table, *images(sight.transaction, number)):
                if part not in met:
                    met.add(part)
                    if isinstance(part, Tree) and sight.effect(part).is_seen:
                        yield part

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
    def _places(of_table: _OfTable, asked: _Asked) -> Iterator[dict[Part, None]]:
        position, forms = asked
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


def _indexed_by(group: Group) -> _Asked:
    """The column by whose value ``group`` is found, of those it needs the one with the fewest values."""
    places = {column.name: place for place, column in enumerate(group.table.columns)}
    return _fewest({places[name]: forms for name, forms in group.equalities.items() if name in places})


def _asked(relation: Relation) -> _Asked:
    return _fewest(relation.constants)


def _relations(tree: Tree) -> Iterator[Relation]:
    return all_of(relation for group in tree.groups for relation in group.relations)


def _fewest(equalities: Mapping[int, Collection[bytes | None]]) -> _Asked:
    if not equalities:
        return None, ()
    place, forms = min(equalities.items(), key=lambda item: (len(item[1]), item[0]))
    return place, tuple(forms)
