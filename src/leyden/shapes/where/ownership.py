"""The column ``electric_user_id``: a row belongs to the user named in it, or to all if nobody is."""

from __future__ import annotations

from collections.abc import Callable

from leyden.model import Row, Table
from leyden.shapes.where import folding
from leyden.shapes.where.predicate import Predicate, predicate
from leyden.shapes.where.sqltypes import TEXT, type_of_column
from leyden.shapes.where.tree import ColumnRef, Constant, Expression
from leyden.shapes.where.values import codec_of, looks_decide

OWNER_COLUMN = "electric_user_id"


def owner_predicate(table: Table, user_id: str) -> Predicate | None:
    """The rows of ``table`` that ``user_id`` may see, to be joined to every clause on it; ``None`` for all rows.

    Holds of rows whose owner is the user, NULL or the empty text. In a column of another type than text the user id
    is read as a value of that type; one that is none owns nothing.
    """
    for index, column in enumerate(table.columns):
        if column.name == OWNER_COLUMN:
            owner = ColumnRef(index, column.name, type_of_column(column, table))
            own = [folding.comparison("=", owner, user) for user in _readings(owner, (user_id, ""))]
            return predicate(folding.any_of([folding.null_test(owner), *own]))
    return None


def ownership(table: Table, user_id: str) -> Callable[[Row], bool] | None:
    """Whether a row of ``table`` belongs to ``user_id`` or to all; ``None`` when its rows have no owners."""
    own = owner_predicate(table, user_id)
    return None if own is None else lambda row: own.matches(row) is True


def _readings(owner: ColumnRef, texts: tuple[str, ...]) -> list[Expression]:
    codec = codec_of(owner.type)
    if codec is None or not looks_decide(owner.type):
        return []
    readings: list[Expression] = []
    for text in texts if owner.type == TEXT else texts[:1]:
        try:
            readings.append(Constant(owner.type, codec.read(text)))
        except ValueError:
            continue
    return readings
