"""Groups: what all clients with an equal filter on one table have in common.

A :class:`Group` is one filter on one table. Equal filters are one group, whoever asked for them and however they were
spelt, so a change is judged once for all of them. Knows no clients and no encoding.
"""

from __future__ import annotations

import json
from hashlib import sha256

from psycopg.sql import Composable

from leyden.model import Delete, Insert, Row, Table, Transaction
from leyden.shapes.where import Predicate


class Group:
    """The rows of ``table`` for which ``predicate`` is true; all rows without one. Of their columns, those named in
    ``columns`` are to be seen, or all; which does not bear on the rows. ``is_guarded``: policies have a part in the
    predicate."""

    __slots__ = ("_hash", "columns", "is_guarded", "key", "predicate", "table")

    def __init__(
        self,
        table: Table,
        predicate: Predicate | None = None,
        columns: frozenset[str] | None = None,
        *,
        is_guarded: bool = False,
    ) -> None:
        self.table = table
        self.predicate = predicate
        self.columns = columns
        self.is_guarded = is_guarded
        #: Equal for equal filters and columns; empty for none.
        self.key = "" if predicate is None else sha256(predicate.key.encode("utf-8", "surrogatepass")).hexdigest()
        if columns is not None:
            self.key += json.dumps(sorted(columns))
        self._hash = hash((table.id, self.key))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and self.table.id == other.table.id and self.key == other.key

    @property
    def tables(self) -> dict[int, Table]:
        """Its table by id, in the manner of trees."""
        return {self.table.id: self.table}

    @property
    def readable(self) -> dict[int, frozenset[str]]:
        """Of tables (by id) of which not all columns are to be seen, the names of those that are."""
        return {} if self.columns is None else {self.table.id: self.columns}

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


def images(transaction: Transaction, number: int) -> tuple[Row | None, Row | None]:
    """The row before and after change ``number``."""
    change = transaction.changes[number]
    match change:
        case Insert():
            return None, change.row
        case Delete():
            return change.old, None
    return change.old, change.new
