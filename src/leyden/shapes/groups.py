"""Groups: what all clients with an equal filter on one table have in common.

A :class:`Group` is one filter on one table. Equal filters are one group, whoever asked for them and however they were
spelt, so a change is judged once for all of them. Knows no clients and no encoding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256

from psycopg.sql import Composable

from leyden.model import Delete, Insert, Row, Table, Transaction
from leyden.shapes.questions import Question
from leyden.shapes.relations import Relation, all_of, flags
from leyden.shapes.versions import AsOf
from leyden.shapes.where import Predicate
from leyden.shapes.where.equalities import Forms


class Group:
    """The rows of ``table`` for which ``predicate`` is true; all rows without one. Of their columns, those named in
    ``columns`` are to be seen, or all; which does not bear on the rows. ``is_guarded``: policies have a part in the
    predicate. With ``relations`` it is on a row with a flag for each of these, and only in a tree of any use."""

    __slots__ = ("_hash", "columns", "is_guarded", "key", "predicate", "relations", "table")

    def __init__(
        self,
        table: Table,
        predicate: Predicate | None = None,
        columns: frozenset[str] | None = None,
        *,
        is_guarded: bool = False,
        relations: tuple[Relation, ...] = (),
    ) -> None:
        self.table = table
        self.predicate = predicate
        self.columns = columns
        self.is_guarded = is_guarded
        self.relations = relations
        #: Equal for equal filters and columns; empty for none.
        self.key = "" if predicate is None else sha256(predicate.key.encode("utf-8", "surrogatepass")).hexdigest()
        if columns is not None:
            self.key += json.dumps(sorted(columns))
        if relations:
            self.key += json.dumps([one.key for one in relations])
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
    def consulted(self) -> dict[int, Table]:
        """The other tables that its relations look at, by id."""
        return {one.table.id: one.table for one in all_of(self.relations)}

    @property
    def questions(self) -> list[Question]:
        """What is asked of Postgres for it."""
        return [one.question for one in all_of(self.relations) if one.question is not None]

    @property
    def needed(self) -> dict[int, Table]:
        """All tables that must be kept for it, if any are, by id."""
        return self.consulted | self.tables

    @property
    def condition(self) -> Composable | None:
        """The filter in SQL, on the alias ``this``."""
        return None if self.predicate is None else self.predicate.sql

    def __repr__(self) -> str:
        return f"Group({self.table.name!r}, {self.key[:8]!r})"

    def holds(self, row: Row, at: AsOf | None = None) -> bool:
        """Whether ``row`` is in the group. A row written before a column was added has NULL there. ``at`` has the
        tables of its relations, and is needed if there are any."""
        if self.predicate is None:
            return True
        missing = len(self.table.columns) - len(row)
        whole = row + (None,) * missing if missing > 0 else row
        if self.relations:
            assert at is not None
            whole = whole[: len(self.table.columns)]
            whole += flags(self.relations, whole, at)
        return self.predicate.matches(whole) is True

    @property
    def equalities(self) -> Mapping[str, Forms]:
        """By column the text forms of which a row must have one."""
        return {} if self.predicate is None else self.predicate.equalities


def images(transaction: Transaction, number: int) -> tuple[Row | None, Row | None]:
    """The row before and after change ``number``."""
    change = transaction.changes[number]
    match change:
        case Insert():
            return None, change.row
        case Delete():
            return change.old, None
    return change.old, change.new
