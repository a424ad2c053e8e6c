"""Arithmetic, bits and text: each operation in Python and in SQL.

The two must agree on every value, and ``hazard`` on every value for which Postgres raises an error (see
:class:`leyden.shapes.where.tree.Operation`). Integer hazards are computed in numeric, where nothing overflows.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any, LiteralString

from leyden.shapes.where import numbers
from leyden.shapes.where.like import MAX_PATTERN, BadPattern, matcher
from leyden.shapes.where.sqltypes import BOOL, FLOAT4, FLOAT8, FLOATS, INT4, INT8, INTEGERS, NUMERIC, TEXT, SqlType
from leyden.shapes.where.templates import template
from leyden.shapes.where.tree import Constant, Operation
from leyden.shapes.where.values import Unevaluable

# ---- integers ---------------------------------------------------------------------------------------------------


def checked(kind: SqlType, function: Callable[..., int]) -> Callable[..., int]:
    """``function``, failing where the result is out of the type's range."""
    least, greatest = numbers.INTEGER_RANGES[kind.name]

    def evaluate(*arguments: Any) -> int:
        value = function(*arguments)
        if least <= value <= greatest:
            return value
        raise Unevaluable

    return evaluate


def bounds(kind: SqlType) -> tuple[Constant, Constant]:
    """Least and greatest value of an integer type, as numerics."""
    least, greatest = numbers.INTEGER_RANGES[kind.name]
    return Constant(NUMERIC, Decimal(least)), Constant(NUMERIC, Decimal(greatest))


def _quotient(left: int, right: int) -> int:
    if right == 0:
        raise Unevaluable
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _remainder(left: int, right: int) -> int:
    if right == 0:
        raise Unevaluable
    remainder = abs(left) % abs(right)
    return -remainder if left < 0 else remainder


def _integer_operations(kind: SqlType) -> dict[tuple[str, int], Operation]:
    least, greatest = bounds(kind)
    lowest = (Constant(INT8, int(least.value)),)

    def leaving_range(sign: LiteralString, function: Callable[[int, int], int]) -> Operation:
        exact: LiteralString = "(CAST({0} AS pg_catalog.numeric) [±] CAST({1} AS pg_catalog.numeric))"
        return Operation(
            f"{kind.name} {sign}",
            kind,
            checked(kind, function),
            template("({0} [±] {1})".replace("±", sign)),
            template(("(" + exact + " [<] {2} OR " + exact + " [>] {3})").replace("±", sign)),
            (least, greatest),
        )

    def negating_lowest(sign: LiteralString, function: Callable[[int], int]) -> Operation:
        return Operation(
            f"{sign} {kind.name}",
            kind,
            checked(kind, function),
            template("([±] {0})".replace("±", sign)),
            template("({0} [=] {1})"),
            lowest,
        )

    def total(sign: LiteralString, function: Callable[[int, int], int]) -> Operation:
        return Operation(f"{kind.name} {sign}", kind, function, template("({0} [±] {1})".replace("±", sign)))

    return {
        ("+", 2): leaving_range("+", operator.add),
        ("-", 2): leaving_range("-", operator.sub),
        ("*", 2): leaving_range("*", operator.mul),
        ("/", 2): Operation(
            f"{kind.name} /",
            kind,
            checked(kind, _quotient),
            template("({0} [/] {1})"),
            template("({1} [=] 0 OR ({0} [=] {2} AND {1} [=] -1))"),
            lowest,
        ),
        ("%", 2): Operation(f"{kind.name} %", kind, _remainder, template("({0} [%] {1})"), template("({1} [=] 0)")),
        ("&", 2): total("&", operator.and_),
        ("|", 2): total("|", operator.or_),
        ("#", 2): total("#", operator.xor),
        ("~", 1): Operation(f"~ {kind.name}", kind, operator.invert, template("([~] {0})")),
        ("-", 1): negating_lowest("-", operator.neg),
        ("@", 1): negating_lowest("@", abs),
    }


# ---- floats and numeric -----------------------------------------------------------------------------------------


def _float8(function: Callable[[float, float], float]) -> Callable[[float, float], float]:
    def evaluate(left: float, right: float) -> float:
        value = function(left, right)
        if math.isinf(value) and not math.isinf(left) and not math.isinf(right):
            raise Unevaluable
        return value

    return evaluate


def _float4(function: Callable[[float, float], float]) -> Callable[[float, float], float]:
    def evaluate(left: float, right: float) -> float:
        try:
            return numbers.narrow(function(left, right))
        except OverflowError:
            raise Unevaluable from None

    return evaluate


#: A sum of doubles overflows only if both are at least half a unit in the last place of the greatest one; then
#: halving them is exact, and the sum of the halves is half the sum.
_FLOAT8_LIMITS = tuple(Constant(FLOAT8, value) for value in (2.0**970, sys.float_info.max, 2.0**1023))
_FLOAT8_HAZARD: LiteralString = (
    "CASE WHEN ([@] {0}) [>=] {2} AND ([@] {0}) [<=] {3} AND ([@] {1}) [>=] {2} AND ([@] {1}) [<=] {3}"
    " THEN ([@] (({0} [/] 2) [±] ({1} [/] 2))) [>=] {4} ELSE false END"
)
#: Sums of singles are computed as doubles; from here on they round to infinity as singles.
_FLOAT4_LIMITS = (Constant(FLOAT8, 2.0**128 - 2.0**103), Constant(FLOAT8, math.inf))
_FLOAT4_HAZARD: LiteralString = (
    "CASE WHEN ([@] {0}) [<] {3} AND ([@] {1}) [<] {3}"
    " THEN ([@] (CAST({0} AS pg_catalog.float8) [±] CAST({1} AS pg_catalog.float8))) [>=] {2} ELSE false END"
)


def _float_operation(kind: SqlType, sign: LiteralString, function: Callable[[float, float], float]) -> Operation:
    evaluate, hazard, limits = (
        (_float4(function), _FLOAT4_HAZARD, _FLOAT4_LIMITS)
        if kind == FLOAT4
        else (_float8(function), _FLOAT8_HAZARD, _FLOAT8_LIMITS)
    )
    return Operation(
        f"{kind.name} {sign}",
        kind,
        evaluate,
        template("({0} [±] {1})".replace("±", sign)),
        template(hazard.replace("±", sign)),
        limits,
    )


def _signs(
    kind: SqlType, negate: Callable[[Any], Any], absolute: Callable[[Any], Any]
) -> dict[tuple[str, int], Operation]:
    return {
        ("-", 1): Operation(f"- {kind.name}", kind, negate, template("([-] {0})")),
        ("@", 1): Operation(f"@ {kind.name}", kind, absolute, template("([@] {0})")),
    }


#: Operations on numbers, by type of the operands (the wider one, for integers) and by sign and count of operands.
ARITHMETIC: dict[SqlType, dict[tuple[str, int], Operation]] = {
    **{kind: _integer_operations(kind) for kind in INTEGERS},
    **{
        kind: {
            ("+", 2): _float_operation(kind, "+", operator.add),
            ("-", 2): _float_operation(kind, "-", operator.sub),
            **_signs(kind, operator.neg, abs),
        }
        for kind in FLOATS
    },
    NUMERIC: {
        ("+", 2): Operation("numeric +", NUMERIC, numbers.add, template("({0} [+] {1})")),
        ("-", 2): Operation("numeric -", NUMERIC, numbers.subtract, template("({0} [-] {1})")),
        # Not Python's own operators: those round to 28 digits.
        **_signs(NUMERIC, Decimal.copy_negate, Decimal.copy_abs),
    },
}


# ---- text -------------------------------------------------------------------------------------------------------

CONCATENATE = Operation("||", TEXT, operator.add, template("({0} [||] {1})"))
LENGTH = Operation("length", INT4, len, template("pg_catalog.length({0})"))

_matcher = lru_cache(maxsize=256)(matcher)


def _like(text: str, pattern: str) -> bool:
    try:
        return _matcher(pattern)(text)
    except BadPattern:
        raise Unevaluable from None


#: LIKE with a pattern that differs from row to row. Postgres raises an error for one that ends in a lone backslash
#: only if it gets that far; here it is always one, and so is a pattern that is too long.
LIKE = Operation(
    "LIKE",
    BOOL,
    _like,
    template("({0} [~~] {1})"),
    template(
        "(pg_catalog.length({1}) [>] {2}"
        " OR ((pg_catalog.length({1}) [-] pg_catalog.length(pg_catalog.rtrim({1}, {3}))) [%] 2) [=] 1)"
    ),
    (Constant(INT4, MAX_PATTERN), Constant(TEXT, "\\")),
)
