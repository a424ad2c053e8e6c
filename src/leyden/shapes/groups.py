"""Groups: what all clients with an equal shape have in common, and who of them a change may concern.

A :class:`Group` is one filter on one table. Equal filters are one group, whoever asked for them and however they were
spelt, so a change is judged once for all of them. Knows no clients and no encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from psycopg.sql import Composable

from leyden.model import Delete, Insert, Row, Table, Transaction
from leyden.shapes.where import Predicate

#: What a change made of a group: whether it held the row before, and whether it holds it after.
Membership = tuple[bool, bool]


class Group:
    """The rows of ``table`` for which ``predicate`` is true; all rows without one."""

    __slots__ = ("_hash", "key", "predicate", "table")

    def __init__(self, table: Table, predicate: Predicate | None = None) -> None:
        self.table = table
        self.predicate = predicate
        #: Equal for equal filters; empty for none.
        self.key = "" if predicate is None else sha256(predicate.key.encode("utf-8", "surrogatepass")).hexdigest()
        self._hash = hash((table.id, self.key))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and self.table.id == other.table.id and self.key == other.key

    @property
    def condition(self) -> Composable | None:
        """The filter in SQL, on the alias ``this``."""
        return None if self.predicate is None else self.predicate.sql

    def __repr__(self) -> str:
        return f"Group({self.table.name!r}, {self.key[:8]!r})"

    def holds(self, row: Row) -> bool:
        """Whether ``row`` is in the group. A row written before a column was added has NULL there."""
        if self.predicate is None:
            return True
        missing = len(self.table.columns) - len(row)
        return self.predicate.matches(row + (None,) * missing if missing > 0 else row) is True


class Sight:
    """One transaction as groups see it. Each change is judged at most once for each group."""

    __slots__ = ("_known", "transaction")

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self._known: dict[tuple[int, Group], Membership] = {}

    def membership(self, number: int, group: Group) -> Membership:
        """Of the row that change ``number`` of the transaction is about, in ``group``, which is on its table."""
        known = self._known.get((number, group))
        if known is None:
            old, new = images(self.transaction, number)
            known = self._known[number, group] = (
                old is not None and group.holds(old),
                new is not None and group.holds(new),
            )
        return known


def images(transaction: Transaction, number: int) -> tuple[Row | None, Row | None]:
    """The row before and after change ``number``."""
    change = transaction.changes[number]
    match change:
        case Insert():
            return None, change.row
        case Delete():
            return change.old, None
    return change.old, change.new


class _OfTable:
    """The groups on one table: by the value of a column that they need, and those that need none."""

    __slots__ = ("by_value", "others")

    def __init__(self) -> None:
        self.by_value: dict[int, dict[bytes | None, dict[Group, None]]] = {}
        self.others: dict[Group, None] = {}


class GroupIndex:
    """Finds the groups that a change may concern without looking at all of them.

    A filter that can only be true where some column has one of a few values is found by that value. How many others
    there are, with other values, then costs a change nothing.
    """

    def __init__(self) -> None:
        self._tables: dict[int, _OfTable] = {}

    @property
    def is_empty(self) -> bool:
        return not self._tables

    def add(self, group: Group) -> None:
        of_table = self._tables.setdefault(group.table.id, _OfTable())
        for groups in self._places(of_table, group):
            groups[group] = None

    def remove(self, group: Group) -> None:
        of_table = self._tables[group.table.id]
        for groups in self._places(of_table, group):
            groups.pop(group, None)
        position, forms = _indexed_by(group)
        if position is not None:
            values = of_table.by_value[position]
            for form in forms:
                if not values[form]:
                    del values[form]
            if not values:
                del of_table.by_value[position]
        if not of_table.by_value and not of_table.others:
            del self._tables[group.table.id]

    def concerned(self, sight: Sight) -> Iterator[Group]:
        """The groups that see something of the transaction, each once."""
        told: set[Group] = set()
        for number, change in enumerate(sight.transaction.changes):
            of_table = self._tables.get(change.table.id)
            if of_table is None:
                continue
            for group in _candidates(of_table, *images(sight.transaction, number)):
                if group not in told and any(sight.membership(number, group)):
                    told.add(group)
                    yield group

    @staticmethod
    def _places(of_table: _OfTable, group: Group) -> Iterator[dict[Group, None]]:
        position, forms = _indexed_by(group)
        if position is None:
            yield of_table.others
            return
        values = of_table.by_value.setdefault(position, {})
        for form in forms:
            yield values.setdefault(form, {})


def _candidates(of_table: _OfTable, old: Row | None, new: Row | None) -> Iterator[Group]:
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
