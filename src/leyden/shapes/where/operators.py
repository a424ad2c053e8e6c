"""Arithmetic, ``||`` and functions: which of Postgres' operations is meant, given the operands.

The second half of :mod:`leyden.shapes.where.resolution`, by the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence

from leyden.shapes.where import operations, sqltypes, temporal
from leyden.shapes.where.letter_case import LOWER, UPPER
from leyden.shapes.where.resolution import (
    Operand,
    Refused,
    Untyped,
    ascii_only,
    call,
    called,
    cast,
    common_number,
    kind_of,
    read_literal,
    text_of,
    typed,
)
from leyden.shapes.where.sqltypes import (
    DATE,
    INT2,
    INT4,
    INTEGERS,
    INTERVAL,
    JSONB,
    NUMBERS,
    STAMPS,
    TEXT,
    TIME,
    TIMESTAMP,
)
from leyden.shapes.where.tree import Constant, Expression, is_constant

# ---- operators --------------------------------------------------------------------------------------------------


def unary(sign: str, operand: Operand) -> Expression:
    kind = kind_of(operand)
    if isinstance(operand, Untyped) or kind is None:
        raise Refused(f"a literal after {sign} needs a type: cast it")
    if sign == "+" and kind in NUMBERS:
        return operand
    if sign == "-" and kind == INTERVAL:
        return call(temporal.INTERVAL_NEGATED, operand)
    operation = operations.ARITHMETIC.get(kind, {}).get((sign, 1))
    if operation is None:
        raise Refused(f"the operator {sign} before {kind.name} is not supported")
    return call(operation, operand)


def binary(sign: str, left: Operand, right: Operand) -> Expression:
    """Operators other than comparisons and LIKE."""
    if sign == "||":
        return _concatenation(left, right)
    first, second = kind_of(left) or kind_of(right), kind_of(right) or kind_of(left)
    if first is None or second is None:
        raise Refused(f"two literals around {sign} need types: cast them")
    if first in NUMBERS and second in NUMBERS:
        kind = common_number(first, second)
        operation = operations.ARITHMETIC[kind].get((sign, 2))
        if operation is not None:
            if kind not in INTEGERS:
                first = second = kind
            return call(operation, typed(left, first), typed(right, second))
    elif sign == "+":
        result = _temporal_sum(left, right) or _temporal_sum(right, left)
        if result is not None:
            return result
    elif sign == "-":
        result = _temporal_difference(left, right)
        if result is not None:
            return result
    raise Refused(f"the operator {sign} between {called(left)} and {called(right)} is not supported")


def _concatenation(left: Operand, right: Operand) -> Expression:
    kinds = {kind_of(left), kind_of(right)}
    if not kinds & {TEXT, None} or kinds == {JSONB, None}:
        raise Refused(f"|| joins texts, not {called(left)} and {called(right)}: cast to text")
    return call(operations.CONCATENATE, cast(left, TEXT), cast(right, TEXT))


# ---- dates and times --------------------------------------------------------------------------------------------


def _temporal_sum(left: Operand, right: Operand) -> Expression | None:
    """``left + right`` where ``left`` is what is moved."""
    moved, by = kind_of(left), kind_of(right)
    if isinstance(left, Untyped):
        return None
    if moved == DATE and by in (INT2, INT4):
        return call(temporal.DATE_PLUS, left, typed(right, by))
    if (moved in (DATE, *STAMPS) and by == INTERVAL) or (moved in STAMPS and by is None):
        return _moved(left, right, backwards=False)
    if moved == TIME and by in (INTERVAL, None):
        return call(temporal.TIME_PLUS, left, typed(right, INTERVAL))
    if moved == INTERVAL and by in (INTERVAL, None):
        return call(temporal.INTERVAL_PLUS, left, typed(right, INTERVAL))
    return None


def _temporal_difference(left: Operand, right: Operand) -> Expression | None:
    first, second = kind_of(left), kind_of(right)
    kinds = (first or second, second or first)
    if kinds == (DATE, DATE):
        return call(temporal.DAYS_BETWEEN, typed(left, DATE), typed(right, DATE))
    if kinds == (TIME, TIME):
        return call(temporal.TIME_BETWEEN, typed(left, TIME), typed(right, TIME))
    if kinds == (INTERVAL, INTERVAL):
        return call(temporal.INTERVAL_MINUS, typed(left, INTERVAL), typed(right, INTERVAL))
    if isinstance(left, Untyped):
        left = typed(left, kinds[0]) if kinds[0] in STAMPS else left
    if isinstance(left, Untyped):
        return None
    if first == DATE and second in (INT2, INT4):
        return call(temporal.DATE_MINUS, left, typed(right, second))
    if first in (DATE, *STAMPS) and second == INTERVAL:
        return _moved(left, right, backwards=True)
    if first == TIME and second == INTERVAL:
        return call(temporal.TIME_MINUS, left, typed(right, INTERVAL))
    days = (DATE, *STAMPS)
    if kinds[0] in days and kinds[1] in days:
        wider = max(kinds[0], kinds[1], key=days.index)
        return call(temporal.DIFFERENCES[wider], typed(left, wider), typed(right, wider))
    return None


def _moved(moment: Expression, by: Operand, *, backwards: bool) -> Expression:
    interval = typed(by, INTERVAL)
    if not isinstance(interval, Constant):
        raise Refused("an interval that is added to a date or timestamp must be a literal")
    if moment.type == DATE:
        moment = cast(moment, TIMESTAMP)
    if interval.value is None:
        return Constant(moment.type, None)
    for step in temporal.additions(moment.type, -interval.value if backwards else interval.value):
        moment = call(step, moment)
    return moment


# ---- functions --------------------------------------------------------------------------------------------------


def function(name: str, arguments: Sequence[Operand]) -> Expression:
    """``name(arguments)``, also ``AT TIME ZONE`` and a type's name used as a function of a literal."""
    match name, arguments:
        case (("lower" | "upper"), [only]):
            text = text_of(only)
            return call(LOWER if name == "lower" else UPPER, ascii_only(text) if is_constant(text) else text)
        case (("length" | "char_length" | "character_length"), [only]):
            return call(operations.LENGTH, text_of(only))
        case (("justify_hours" | "justify_days" | "justify_interval"), [only]) if kind_of(only) in (INTERVAL, None):
            return call(temporal.JUSTIFY[name], typed(only, INTERVAL))
        case "timezone", [zone, moment]:
            return _at_zone(zone, moment)
        case "like_escape", _:
            raise Refused("ESCAPE is not supported: the escape character is the backslash")
        case _, [Untyped() as literal] if name in sqltypes.BY_NAME:
            return read_literal(literal, sqltypes.BY_NAME[name])
    raise Refused(f"the function {name} is not supported" + (" for these arguments" if name in _FUNCTIONS else ""))


_FUNCTIONS = frozenset(
    (
        "lower",
        "upper",
        "length",
        "char_length",
        "character_length",
        "timezone",
        *temporal.JUSTIFY,
        *sqltypes.BY_NAME,
    )
)


def _at_zone(zone: Operand, moment: Operand) -> Expression:
    if not isinstance(moment, Untyped) and moment.type in STAMPS:
        name = text_of(zone)
        if isinstance(name, Constant) and name.value is not None and name.value.upper() in ("UTC", "GMT", "Z"):
            return call(temporal.AT_UTC[moment.type], moment)
        raise Refused("the only time zone supported is 'UTC': the rules of others change")
    raise Refused("a time zone can only be applied to a timestamp: cast to timestamp or timestamptz")
