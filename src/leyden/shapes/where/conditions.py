"""Conditions that look at other tables: a typed tree, and what its ``EXISTS`` stand for.

A row that is judged has its table's columns, and behind them one flag for each ``EXISTS``: whether there is such a
row. So the tree itself knows nothing of other tables. The condition of an ``EXISTS`` is on a longer row: all that is
there outside, then the columns of its table, then the flags of those within it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from leyden.model import Table
from leyden.shapes.where import folding
from leyden.shapes.where.sqltypes import BOOL
from leyden.shapes.where.tree import ColumnRef, Expression, parts


@dataclass(frozen=True, slots=True)
class Related:
    """``EXISTS (SELECT FROM table WHERE condition)``; the columns of ``table`` begin at the place ``offset``."""

    table: Table
    offset: int
    condition: Condition

    @property
    def width(self) -> int:
        """Of the row that the condition is on, without flags."""
        return self.offset + len(self.table.columns)


@dataclass(frozen=True, slots=True)
class Condition:
    """``tree`` and, in the order of its flags, ``related``."""

    tree: Expression
    related: tuple[Related, ...] = ()

    def tables(self) -> Iterator[Table]:
        """The other tables that it looks at."""
        for one in self.related:
            yield one.table
            yield from one.condition.tables()

    def trees(self) -> Iterator[Expression]:
        yield self.tree
        for one in self.related:
            yield from one.condition.trees()


def flag(place: int) -> ColumnRef:
    """What stands for an ``EXISTS`` whose flag has this place."""
    return ColumnRef(place, f"EXISTS {place}", BOOL)


def moved(condition: Condition, by: int, width: int, flags: int) -> Condition:
    """``condition``, on a row of ``width`` columns, for where that row begins ``by`` places further on and is followed
    by so many ``flags`` of others."""

    def place(index: int) -> int:
        return index + by if index < width else index + by + flags

    return Condition(_replaced(condition.tree, place), tuple(_moved(one, by) for one in condition.related))


def _moved(related: Related, by: int) -> Related:
    tree = _replaced(related.condition.tree, lambda index: index + by)
    within = tuple(_moved(one, by) for one in related.condition.related)
    return Related(related.table, related.offset + by, Condition(tree, within))


def numbered(tree: Expression) -> Expression:
    """``tree`` with columns called by their places, which are unique though tables may have equal names for columns."""
    return _replaced(tree, lambda index: index)


def _replaced(tree: Expression, place: Callable[[int], int]) -> Expression:
    if isinstance(tree, ColumnRef):
        index = place(tree.index)
        return ColumnRef(index, str(index), tree.type)
    return folding.rebuilt(tree, [_replaced(part, place) for part in parts(tree)])
