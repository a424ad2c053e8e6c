"""The types that a ``where`` clause can speak of, and which of them Postgres turns into which unasked.

Owns the part of ``pg_type`` and ``pg_cast`` that type resolution needs (Postgres manual, chapter "Type
Conversion"). Knows nothing of values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leyden.model import Column, Table


@dataclass(frozen=True, slots=True)
class SqlType:
    """A type by its catalog name. ``category`` is ``pg_type.typcategory``; ``labels`` are an enum's, in order."""

    name: str
    category: str
    labels: tuple[str, ...] | None = None


BOOL = SqlType("bool", "B")
INT2 = SqlType("int2", "N")
INT4 = SqlType("int4", "N")
INT8 = SqlType("int8", "N")
NUMERIC = SqlType("numeric", "N")
FLOAT4 = SqlType("float4", "N")
FLOAT8 = SqlType("float8", "N")
TEXT = SqlType("text", "S")
UUID = SqlType("uuid", "U")
DATE = SqlType("date", "D")
TIMESTAMP = SqlType("timestamp", "D")
TIMESTAMPTZ = SqlType("timestamptz", "D")
TIME = SqlType("time", "D")
INTERVAL = SqlType("interval", "T")
JSONB = SqlType("jsonb", "U")

INTEGERS = (INT2, INT4, INT8)
FLOATS = (FLOAT4, FLOAT8)
NUMBERS = (INT2, INT4, INT8, NUMERIC, FLOAT4, FLOAT8)
STAMPS = (TIMESTAMP, TIMESTAMPTZ)

#: Types that a clause can name. varchar is text in all but name here: without a length no operation differs, and
#: Postgres itself has none but those of text.
BY_NAME = {
    **{kind.name: kind for kind in (BOOL, *NUMBERS, TEXT, UUID, DATE, TIMESTAMP, TIMESTAMPTZ, TIME, INTERVAL, JSONB)},
    "varchar": TEXT,
}

#: Implicit casts, each list from narrow to wide: a type turns into any that stands further right. The last of a list
#: is the category's preferred type.
_LADDERS = (NUMBERS, (DATE, TIMESTAMP, TIMESTAMPTZ))


def type_of_column(column: Column, table: Table) -> SqlType:
    """The type of ``column``. One that the language has no operations for keeps its name and can be tested for NULL."""
    if column.is_enum:
        return enum_type(column.type, table) or SqlType(column.type, "E")
    return BY_NAME.get(column.type) or SqlType(column.type, "U")


def enum_type(name: str, table: Table) -> SqlType | None:
    """The enum called ``name``, if ``table`` has a column of it."""
    labels = next((enum.labels for enum in table.enums if enum.name == name), None)
    return None if labels is None else SqlType(name, "E", labels=labels)


def widens(source: SqlType, target: SqlType) -> bool:
    """Whether Postgres casts ``source`` to ``target`` implicitly."""
    return any(
        source in ladder and target in ladder and ladder.index(source) < ladder.index(target) for ladder in _LADDERS
    )


def common_type(types: Sequence[SqlType | None]) -> SqlType | None:
    """The type on which a list of expressions agrees, ``None`` among them being literals without a type.

    Follows ``select_common_type`` of the server step by step, because its outcome depends on the order: a float4
    column and numeric literals agree on float4, though comparing the column with one of them is done in float8.
    Returns ``None`` where the server finds none.
    """
    chosen: SqlType | None = None
    for candidate in types:
        if candidate is None or candidate == chosen:
            continue
        if chosen is None:
            chosen = candidate
        elif candidate.category != chosen.category:
            return None
        elif widens(chosen, candidate):
            chosen = candidate
    chosen = chosen or TEXT
    agreed = all(one is None or one == chosen or widens(one, chosen) for one in types)
    return chosen if agreed else None
