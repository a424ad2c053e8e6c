"""What one client sees: the union of its groups, and what a transaction changes in it.

A row is the client's as long as one of its groups holds it. So a change of a row outside all of them is nothing, one
that brings it in is an insert, one that takes it out makes it go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass

from leyden.model import Change, Delete, Gone, Insert, Row, Table, Transaction, Update
from leyden.shapes.groups import Group, Sight, images


class View:
    """A set of groups. Clients with equal views get the same bytes."""

    __slots__ = ("_by_table", "_hash", "groups")

    def __init__(self, groups: Iterable[Group] = ()) -> None:
        self.groups = frozenset(groups)
        self._hash = hash(self.groups)
        self._by_table: dict[int, list[Group]] = {}
        for group in self.groups:
            self._by_table.setdefault(group.table.id, []).append(group)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and self.groups == other.groups

    @property
    def tables(self) -> Set[int]:
        """Ids of the tables of which it may hold rows."""
        return self._by_table.keys()

    def holds(self, table: Table, row: Row) -> bool:
        return any(group.holds(row) for group in self._by_table.get(table.id, ()))

    def holds_all(self, table: Table) -> bool:
        """Whether it holds every row of ``table``."""
        return any(group.predicate is None for group in self._by_table.get(table.id, ()))

    def with_groups(self, groups: Iterable[Group]) -> View:
        return View(self.groups.union(groups))

    def without(self, groups: Iterable[Group]) -> View:
        return View(self.groups.difference(groups))

    def without_tables(self, tables: Collection[int]) -> View:
        return View(group for group in self.groups if group.table.id not in tables) if tables else self

    def changes(self, sight: Sight) -> list[Change | Gone]:
        """What the transaction changes here, in its order."""
        seen: list[_Seen] = []
        for number, change in enumerate(sight.transaction.changes):
            groups = self._by_table.get(change.table.id)
            if groups is None:
                continue
            memberships = [sight.membership(number, group) for group in groups]
            before, after = any(old for old, _ in memberships), any(new for _, new in memberships)
            if before or after:
                seen.append(_Seen(number, before, after))
        return _operations(sight.transaction, seen)


#: The table's id and the key.
_Key = tuple[int, Row]


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
    first: dict[_Key, _Seen] = {}
    died: set[_Key] = set()
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


def _fickle(keys: list[_Key], operations: list[Change | Gone], times: Counter[_Key]) -> set[_Key]:
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


def _key(transaction: Transaction, number: int) -> _Key:
    old, new = images(transaction, number)
    row = old if old is not None else new
    assert row is not None
    table = transaction.changes[number].table
    return table.id, table.key_of(row)
