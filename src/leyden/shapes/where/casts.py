"""Casts: each in Python and in SQL.

What depends on how the server prints a value (floats, intervals) or on all the ways in which it reads one (dates,
floats) is only cast where the value is known beforehand, or not at all.
"""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any, LiteralString

from leyden.shapes.where import numbers, temporal
from leyden.shapes.where.operations import bounds, checked
from leyden.shapes.where.sqltypes import (
    BOOL,
    DATE,
    FLOAT4,
    FLOAT8,
    FLOATS,
    INT2,
    INT4,
    INT8,
    INTEGERS,
    NUMERIC,
    STAMPS,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    SqlType,
)
from leyden.shapes.where.templates import template
from leyden.shapes.where.tree import Constant, Operation
from leyden.shapes.where.values import Unevaluable, cast_text, codec_of

_TARGETS: dict[SqlType, LiteralString] = {
    BOOL: "bool",
    INT2: "int2",
    INT4: "int4",
    INT8: "int8",
    NUMERIC: "numeric",
    FLOAT4: "float4",
    FLOAT8: "float8",
    TEXT: "text",
    DATE: "date",
    TIME: "time",
    TIMESTAMP: "timestamp",
    TIMESTAMPTZ: "timestamptz",
}


@cache
def cast_of(source: SqlType, target: SqlType) -> Operation | None:
    """The cast between two different types; ``None`` if Postgres has none, or if it is not supported."""
    if target == TEXT:
        printer = cast_text(source)
        return printer and _cast(source, target, printer)
    if source == TEXT:
        return _from_text(target)
    if source in INTEGERS and target in INTEGERS:
        return _between_integers(source, target)
    if source in FLOATS and target in INTEGERS:
        return _float_to_integer(source, target)
    if source in INTEGERS and target in FLOATS:
        return _cast(source, target, lambda value: numbers.nearest_float(value, single=target == FLOAT4))
    return _OTHERS.get((source, target))


def _cast(source: SqlType, target: SqlType, evaluate: Callable[[Any], Any]) -> Operation:
    return Operation(
        f"{source.name} as {target.name}",
        target,
        evaluate,
        template("CAST({0} AS pg_catalog.†)".replace("†", _TARGETS[target])),
    )


#: Text of a column whose text form is what ``::text`` gives; the argument is the column, read as text.
AS_PRINTED = _cast(TEXT, TEXT, lambda value: value)


def _failing(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``function`` with its :class:`ValueError` turned into an evaluation error."""

    def evaluate(value: Any) -> Any:
        try:
            return function(value)
        except ValueError:
            raise Unevaluable from None

    return evaluate


# ---- numbers ----------------------------------------------------------------------------------------------------


def _between_integers(source: SqlType, target: SqlType) -> Operation:
    cast = _cast(source, target, checked(target, int))
    if INTEGERS.index(source) < INTEGERS.index(target):
        return cast
    least, greatest = (Constant(INT8, int(one.value)) for one in bounds(target))
    return Operation(
        cast.name, target, cast.evaluate, cast.sql, template("({0} [<] {1} OR {0} [>] {2})"), (least, greatest)
    )


def _float_to_integer(source: SqlType, target: SqlType) -> Operation:
    least, greatest = numbers.INTEGER_RANGES[target.name]

    def to_integer(value: float) -> int:
        if not math.isfinite(value):
            raise Unevaluable
        return round(value)  # to the even neighbour, as rint does

    # A half is rounded to the even neighbour: the least integer, which is even, and not the greatest, which is odd.
    # For int8 the halves are no doubles, and both limits are the integers next to them.
    return Operation(
        f"{source.name} as {target.name}",
        target,
        checked(target, to_integer),
        _cast(source, target, int).sql,
        template("({0} [<] {1} OR {0} [>=] {2})"),
        (Constant(FLOAT8, least - 0.5), Constant(FLOAT8, greatest + 0.5)),
    )


def _numeric_to_integer(target: SqlType) -> Operation:
    def rounded(value: Decimal) -> int:
        return int(value.to_integral_value(decimal.ROUND_HALF_UP))

    return Operation(f"numeric as {target.name}", target, checked(target, rounded))


def _numeric_to_float(target: SqlType) -> Operation:
    return Operation(
        f"numeric as {target.name}",
        target,
        _failing(lambda value: numbers.nearest_float(value, single=target == FLOAT4)),
    )


def _to_single(value: float) -> float:
    try:
        narrowed = numbers.narrow(value)
    except OverflowError:
        raise Unevaluable from None
    if narrowed == 0.0 and value != 0.0:
        raise Unevaluable
    return narrowed


# ---- text -------------------------------------------------------------------------------------------------------

_DIGITS = re.compile(r"[ \t\n\v\f\r]*([+-]?)0*([0-9]{1,19})[ \t\n\v\f\r]*")


def _from_text(target: SqlType) -> Operation | None:
    codec = codec_of(target)
    if codec is None:
        return None
    if target not in INTEGERS:
        return Operation(f"text as {target.name}", target, _failing(codec.read))

    def read_integer(text: str) -> int:
        match = _DIGITS.fullmatch(text)
        if match is None:
            raise Unevaluable
        return int(match[1] + match[2])

    return Operation(
        f"text as {target.name}",
        target,
        checked(target, read_integer),
        _cast(TEXT, target, int).sql,
        template(
            'CASE WHEN {0} COLLATE pg_catalog."C" [~] {4}'
            " THEN (CASE WHEN pg_catalog.strpos({0}, '-') [>] 0 THEN -1 ELSE 1 END [*]"
            " CAST('0' [||] pg_catalog.ltrim(pg_catalog.translate({0}, {3}, ''), '0') AS pg_catalog.numeric)) [<] {1}"
            " OR (CASE WHEN pg_catalog.strpos({0}, '-') [>] 0 THEN -1 ELSE 1 END [*]"
            " CAST('0' [||] pg_catalog.ltrim(pg_catalog.translate({0}, {3}, ''), '0') AS pg_catalog.numeric)) [>] {2}"
            " ELSE true END"
        ),
        (*bounds(target), Constant(TEXT, "+- \t\n\v\f\r"), Constant(TEXT, f"^{_DIGITS.pattern}$")),
    )


# ---- the rest ---------------------------------------------------------------------------------------------------


def _date_to_moment(target: SqlType) -> Operation:
    return Operation(
        f"date as {target.name}",
        target,
        temporal.date_to_moment,
        _cast(DATE, target, int).sql,
        template("(pg_catalog.isfinite({0}) AND {0} [>] {1})"),
        (temporal.LAST_COMMON_DATE,),
    )


_OTHERS: dict[tuple[SqlType, SqlType], Operation] = {
    (BOOL, INT4): _cast(BOOL, INT4, int),
    (INT4, BOOL): _cast(INT4, BOOL, bool),
    **{(kind, NUMERIC): _cast(kind, NUMERIC, Decimal) for kind in INTEGERS},
    **{(NUMERIC, kind): _numeric_to_integer(kind) for kind in INTEGERS},
    **{(NUMERIC, kind): _numeric_to_float(kind) for kind in FLOATS},
    (FLOAT4, FLOAT8): _cast(FLOAT4, FLOAT8, lambda value: value),
    (FLOAT8, FLOAT4): Operation("float8 as float4", FLOAT4, _to_single),
    **{(DATE, kind): _date_to_moment(kind) for kind in STAMPS},
    **{(kind, DATE): _cast(kind, DATE, temporal.moment_to_date) for kind in STAMPS},
    **{(kind, TIME): _cast(kind, TIME, temporal.moment_to_time) for kind in STAMPS},
    (TIMESTAMP, TIMESTAMPTZ): _cast(TIMESTAMP, TIMESTAMPTZ, lambda value: value),
    (TIMESTAMPTZ, TIMESTAMP): _cast(TIMESTAMPTZ, TIMESTAMP, lambda value: value),
}
