"""What one client sees: the union of its groups and trees, and what a transaction changes in it.

A row is the client's as long as one of them holds it. So a change of a row outside all of them is nothing, one that
brings it in is an insert, one that takes it out makes it go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from leyden.model import AddColumns, Change, Delete, Gone, Insert, Row, Table, Transaction, Update
from leyden.shapes.groups import Group, images
from leyden.shapes.questions import Question
from leyden.shapes.sight import Sight
from leyden.shapes.standing import Standing, changed
from leyden.shapes.tree import Tree, ranked
from leyden.shapes.versions import AsOf, Key, Version, version_of

#: What a client sees of the database for one shape that it asked for.
Part = Group | Tree


class View:
    """A set of groups and trees. Clients with equal views get the same bytes."""

    __slots__ = ("_groups_on", "_hash", "_ranks", "_readable", "parts", "questions", "trees")

    def __init__(self, parts: Iterable[Part] = ()) -> None:
        self.parts = frozenset(parts)
        self._hash = hash(self.parts)
        self._groups_on: dict[int, list[Group]] = {}
        for part in self.parts:
            if isinstance(part, Group):
                self._groups_on.setdefault(part.table.id, []).append(part)
        self.trees = tuple(part for part in self.parts if isinstance(part, Tree))
        self._ranks = ranked(self.trees)
        #: What is asked of Postgres for its trees.
        self.questions = frozenset[Question]().union(*(tree.questions for tree in self.trees))
        #: By table; the same in all parts, as they are one role's.
        self._readable = {table_id: columns for part in self.parts for table_id, columns in part.readable.items()}

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and self.parts == other.parts

    @property
    def tables(self) -> Set[int]:
        """Ids of the tables of which it may hold rows."""
        return self._groups_on.keys() | self._ranks.keys()

    @property
    def described(self) -> dict[int, Table]:
        """The same tables, as they were described when the shapes were planned."""
        return {table_id: table for part in self.parts for table_id, table in part.tables.items()}

    @property
    def tables_of_trees(self) -> Set[int]:
        return self._ranks.keys()

    @property
    def tables_needed(self) -> Set[int]:
        """Ids of the tables that must be kept for its trees."""
        return {table_id for tree in self.trees for table_id in tree.needed}

    def groups_on(self, table_id: int) -> Sequence[Group]:
        return self._groups_on.get(table_id, ())

    def holds(self, table: Table, row: Row, at: AsOf | None = None) -> bool:
        """Whether ``row`` is in it; ``at`` tells what it hangs on, and may be left out if no tree reaches ``table``."""
        if any(group.holds(row) for group in self._groups_on.get(table.id, ())):
            return True
        if at is None or table.id not in self._ranks:
            return False
        return any(Standing(tree, at).holds(version_of(table, row)) for tree in self.trees if table.id in tree.tables)

    def holds_all(self, table: Table) -> bool:
        """Whether it holds every row of ``table``."""
        return any(group.predicate is None for group in self._groups_on.get(table.id, ()))

    def shown(self, table: Table, row: Row) -> Row:
        """``row`` with NULL in the columns that are not to be seen."""
        readable = self._readable.get(table.id)
        if readable is None:
            return row
        # A row written before a column was added has fewer values.
        columns = zip(table.columns, row, strict=False)
        return tuple([value if column.name in readable else None for column, value in columns])

    def hides(self, table: Table) -> bool:
        """Whether there are such columns in ``table``."""
        return table.id in self._readable

    def with_parts(self, parts: Iterable[Part]) -> View:
        return View(self.parts.union(parts))

    def without(self, parts: Iterable[Part]) -> View:
        return View(self.parts.difference(parts))

    def without_groups_on(self, tables: Collection[int]) -> View:
        if not tables:
            return self
        return View(part for part in self.parts if isinstance(part, Tree) or part.table.id not in tables)

    def changes(self, sight: Sight) -> list[Change | Gone]:
        """What the transaction changes here: on tables of trees parents before their children, else in its order."""
        seen: list[_Seen] = []
        for number, change in enumerate(sight.transaction.changes):
            groups = self._groups_on.get(change.table.id)
            if groups is None or change.table.id in self._ranks:
                continue
            memberships = [sight.membership(number, group) for group in groups]
            before, after = any(old for old, _ in memberships), any(new for _, new in memberships)
            if before or after:
                seen.append(_Seen(number, before, after))
        operations = _operations(sight.transaction, seen)
        if self.trees:
            operations += self._changes_in_trees(sight)
        return [self._as_shown(one) for one in operations] if self._readable else operations

    def _as_shown(self, operation: Change | Gone) -> Change | Gone:
        table = operation.table
        match operation:
            case Insert():
                return replace(operation, row=self.shown(table, operation.row))
            case Update():
                return replace(operation, old=self.shown(table, operation.old), new=self.shown(table, operation.new))
        return replace(operation, old=self.shown(table, operation.old))

    def _changes_in_trees(self, sight: Sight) -> list[Change | Gone]:
        """One operation a row, on the tables that trees reach: in the end each is in view or not."""
        touched = dict.fromkeys(key for key in changed(sight.transaction) if key[0] in self._ranks)
        died = {_key(sight.transaction, number) for number in _deletions(sight.transaction)}
        concerned = dict(touched)
        for tree in self.trees:
            concerned |= dict.fromkeys(sight.effect(tree).concerned)
        altered = _altered(sight.transaction)
        leaving: list[Change | Gone] = []
        staying: list[Change | Gone] = []
        for key in concerned:
            old, new = sight.before.row(key), sight.after.row(key)
            before, after = self._is_seen(sight, old, after=False), self._is_seen(sight, new, after=True)
            old = _as_altered(old, altered)
            if old is not None and before and not after:
                leaving.append(Delete(old.table, old.row) if new is None else Gone(old.table, old.row))
            elif new is not None and after and (old is None or not before or key in died):
                staying.append(Insert(new.table, new.row, new.tags))
            elif old is not None and new is not None and after and key in touched:
                staying.append(Update(new.table, old.row, new.row, new.tags))
        # The client's foreign keys hold all the time in this order, though it does not look before the end.
        leaving.sort(key=lambda one: -self._ranks[one.table.id])
        staying.sort(key=lambda one: self._ranks[one.table.id])
        return leaving + staying

    def _is_seen(self, sight: Sight, row: Version | None, *, after: bool) -> bool:
        if row is None:
            return False
        table_id = row.table.id
        if any(group.holds(row.row) for group in self._groups_on.get(table_id, ())):
            return True
        effects = (sight.effect(tree) for tree in self.trees if table_id in tree.tables)
        return any((effect.after if after else effect.before).holds(row) for effect in effects)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Change ``number`` of a transaction, and whether the row was and is in view."""

    number: int
    before: bool
    after: bool


def _operations(transaction: Transaction, seen: list[_Seen]) -> list[Change | Gone]:
    operations = [_operation(transaction.changes[one.number], one.before, one.after) for one in seen]
    kinds = {type(operation) for operation in operations}
    if Gone not in kinds and not kinds.issuperset((Delete, Insert)):
        return operations
    keys = [_key(transaction, one.number) for one in seen]
    times = Counter(keys)
    fickle = _fickle(keys, operations, times)
    if not fickle:
        return operations
    first: dict[Key, _Seen] = {}
    died: set[Key] = set()
    for key, one, operation in zip(keys, seen, operations, strict=True):
        first.setdefault(key, one)
        if isinstance(operation, Delete):
            died.add(key)
    result: list[Change | Gone] = []
    for key, one, operation in zip(keys, seen, operations, strict=True):
        times[key] -= 1
        if key not in fickle:
            result.append(operation)
        elif not times[key]:
            result += _in_the_end(transaction, first[key], one, key in died)
    return result


def _fickle(keys: list[Key], operations: list[Change | Gone], times: Counter[Key]) -> set[Key]:
    """The rows that get one operation that says how they end: those that go and change more than once, as the client
    does not put what goes in order with the other changes of a transaction, and those that live again after they died,
    as it takes the tags of a row's first change, and a deletion has none."""
    fickle = set()
    died = set()
    for key, operation in zip(keys, operations, strict=True):
        if isinstance(operation, Delete):
            died.add(key)
        elif key in died or (isinstance(operation, Gone) and times[key] > 1):
            fickle.add(key)
    return fickle


def _operation(change: Change, before: bool, after: bool) -> Change | Gone:
    if isinstance(change, Update) and not (before and after):
        return Insert(change.table, change.new, change.tags) if after else Gone(change.table, change.old)
    return change


def _in_the_end(transaction: Transaction, first: _Seen, last: _Seen, died: bool) -> list[Change | Gone]:
    change = transaction.changes[last.number]
    old, _ = images(transaction, first.number)
    _, new = images(transaction, last.number)
    if last.after and not isinstance(change, Delete):
        assert new is not None
        if first.before and old is not None and not died:
            return [Update(change.table, old, new, change.tags)]
        return [Insert(change.table, new, change.tags)]
    if first.before and old is not None:
        return [change if isinstance(change, Delete) else Gone(change.table, old)]
    return []


def _altered(transaction: Transaction) -> dict[int, Table]:
    """The tables that the transaction adds columns to. Its migration is sent first, and its rows have them."""
    changes = () if transaction.migration is None else transaction.migration.changes
    return {change.table.id: change.table for change in changes if isinstance(change, AddColumns)}


def _as_altered(version: Version | None, altered: Mapping[int, Table]) -> Version | None:
    table = None if version is None else altered.get(version.table.id)
    if version is None or table is None:
        return version
    return version_of(table, version.row + (None,) * (len(table.columns) - len(version.row)), version.tags)


def _deletions(transaction: Transaction) -> list[int]:
    return [number for number, change in enumerate(transaction.changes) if isinstance(change, Delete)]


def _key(transaction: Transaction, number: int) -> Key:
    old, new = images(transaction, number)
    row = old if old is not None else new
    assert row is not None
    table = transaction.changes[number].table
    return table.id, table.key_of(row)
