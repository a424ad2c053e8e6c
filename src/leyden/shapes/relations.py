"""Other tables that decide about a row: conditions with ``EXISTS``, bound to the claims of one client.

Which rows exist is asked of the versioned tables, so that a row's place is known for any position, as that of rows in
trees is. And when a row of such another table changes, the rows that it may decide about are found from it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256

from leyden.model import Row, Table
from leyden.shapes.questions import Question
from leyden.shapes.versions import AsOf, Version
from leyden.shapes.where import Claims
from leyden.shapes.where.claims import bound
from leyden.shapes.where.conditions import Related, numbered
from leyden.shapes.where.predicate import predicate
from leyden.shapes.where.sqltypes import INTEGERS, SqlType
from leyden.shapes.where.tree import And, ColumnRef, Comparison, Expression
from leyden.shapes.where.values import looks_decide

_TRUE, _FALSE = b"t", b"f"


class Relation:
    """Whether there is a row of ``table`` that goes with another one."""

    def __init__(self, related: Related, claims: Claims, question: Question | None = None) -> None:
        """With a ``question``, the table is that of its answers."""
        self.table = related.table
        self.question = question
        self._offset = related.offset
        self._width = related.width
        self._predicate = predicate(bound(numbered(related.condition.tree), claims))
        self.relations: tuple[Relation, ...] = tuple(Relation(one, claims) for one in related.condition.related)
        #: Columns of the table, and the places of what they must be equal to in the row outside.
        self._pairs = dict(_pairs(self._predicate.tree, self._offset, self._width))
        #: Equal for equal ones.
        self.key: str = sha256(
            json.dumps([self.table.id, self._offset, self._predicate.key, [one.key for one in self.relations]]).encode()
        ).hexdigest()

    @property
    def tree(self) -> Expression:
        """Its condition, with the claims in it."""
        return self._predicate.tree

    @cached_property
    def constants(self) -> Mapping[int, Collection[bytes | None]]:
        """By the place of a column of the table, its text forms of which a row must have one to matter at all."""
        by_place = {int(name): forms for name, forms in self._predicate.equalities.items()}
        return {place - self._offset: forms for place, forms in by_place.items() if self._offset <= place < self._width}

    def may_matter(self, row: Row) -> bool:
        return all(_at(row, place) in forms for place, forms in self.constants.items())

    def exists(self, outside: Row, at: AsOf) -> bool:
        """Whether there is a row that goes with ``outside``, which has as many values as stand in front of it."""
        wanted: dict[int, Collection[bytes | None]] = dict(self.constants)
        for here, there in self._pairs.items():
            value = outside[there]
            if value is None or (here in wanted and value not in wanted[here]):
                return False
            wanted[here] = (value,)
        return any(self._goes_with(outside, version, at) for version in _rows(at, self.table, wanted))

    def _goes_with(self, outside: Row, version: Version, at: AsOf) -> bool:
        row = outside + _padded(version.row, self.table)
        return self._predicate.matches(row + flags(self.relations, row, at)) is True

    # ---- the other way -------------------------------------------------------------------------------------------

    def decided(self, row: Version, at: AsOf, outer: Table, offset: int) -> Iterator[Version]:
        """Rows of ``outer``, whose columns begin at the place ``offset`` of the row outside, about which ``row`` of the
        table may decide; some more at most."""
        if not self.may_matter(row.row):
            return
        wanted: dict[int, Collection[bytes | None]] = {}
        for here, there in self._pairs.items():
            if offset <= there < offset + len(outer.columns):
                value = _at(row.row, here)
                if value is None:
                    return
                wanted[there - offset] = (value,)
        yield from _rows(at, outer, wanted)


def flags(relations: Sequence[Relation], row: Row, at: AsOf) -> Row:
    """For each of ``relations`` whether there is a row that goes with ``row``, as the text form of a boolean."""
    return tuple([_TRUE if relation.exists(row, at) else _FALSE for relation in relations])


def all_of(relations: Iterable[Relation]) -> Iterator[Relation]:
    """``relations`` and those within them."""
    for relation in relations:
        yield relation
        yield from all_of(relation.relations)


def decided_by(
    relations: Sequence[Relation], row: Version, at: AsOf, outer: Table, offset: int = 0
) -> Iterator[Version]:
    """Rows of ``outer`` about which ``row``, of any table that ``relations`` look at, may decide at one position."""
    for relation in relations:
        if relation.table.id == row.table.id:
            yield from relation.decided(row, at, outer, offset)
        for between in decided_by(relation.relations, row, at, relation.table, offset + len(outer.columns)):
            yield from relation.decided(between, at, outer, offset)


def _rows(at: AsOf, table: Table, wanted: Mapping[int, Collection[bytes | None]]) -> Iterator[Version]:
    if wanted:
        yield from at.rows(table.id, wanted)
    else:
        for batch in at.batches(table.id, {}):
            yield from batch


def _pairs(tree: Expression, offset: int, width: int) -> Iterator[tuple[int, int]]:
    """Of equalities that must be true, those of a column of the table with one outside whose equal values have equal
    text forms."""
    for one in tree.operands if isinstance(tree, And) else (tree,):
        match one:
            case Comparison(operator="=", left=ColumnRef() as left, right=ColumnRef() as right):
                for here, there in ((left, right), (right, left)):
                    if offset <= here.index < width and there.index < offset and _look_alike(here.type, there.type):
                        yield here.index - offset, there.index


def _look_alike(one: SqlType, other: SqlType) -> bool:
    return (one in INTEGERS and other in INTEGERS) or (one == other and looks_decide(one))


def _at(row: Row, place: int) -> bytes | None:
    # A row written before a column was added has NULL there.
    return row[place] if place < len(row) else None


def _padded(row: Row, table: Table) -> Row:
    return (row + (None,) * (len(table.columns) - len(row)))[: len(table.columns)]
