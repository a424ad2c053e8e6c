"""The typed tree → one Python function on rows.

The function takes the text forms of a row and gives ``True``, ``False`` or ``None`` for NULL, or raises
:class:`leyden.shapes.where.values.Unevaluable` where Postgres would raise an error. AND and OR look at their operands
from left to right and stop at the first that decides, as the server's executor does. Columns are decoded only when
they are looked at; equality of most types needs no decoding at all.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from leyden.model import Row
from leyden.shapes.where import like
from leyden.shapes.where.datetimes import midnight
from leyden.shapes.where.sqltypes import DATE, INTEGERS, SqlType
from leyden.shapes.where.tree import (
    And,
    Call,
    ClaimRef,
    ColumnRef,
    Comparison,
    Constant,
    Expression,
    Failure,
    Like,
    Membership,
    Not,
    NullTest,
    Or,
    TruthTest,
)
from leyden.shapes.where.values import Unevaluable, codec_of, looks_decide, order_of

Evaluator = Callable[[Row], Any]

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def evaluator(node: Expression) -> Evaluator:
    """Raises :class:`ValueError` for a tree with unbound claims."""
    match node:
        case Constant(value=value):
            return lambda row: value
        case Failure():
            return _fail
        case ColumnRef():
            return _column(node)
        case Call():
            return _call(node)
        case Comparison():
            return _comparison(node)
        case Membership():
            return _membership(node)
        case Like():
            return _like(node)
        case NullTest():
            return _null_test(node)
        case TruthTest(operand=operand, value=value, negated=negated):
            inner = evaluator(operand)
            return (lambda row: inner(row) is not value) if negated else (lambda row: inner(row) is value)
        case Not(operand=operand):
            inner = evaluator(operand)
            return lambda row: None if (value := inner(row)) is None else not value
        case And(operands=operands):
            return _all_of([evaluator(one) for one in operands])
        case Or(operands=operands):
            return _any_of([evaluator(one) for one in operands])
        case ClaimRef():
            raise ValueError("claims must be bound before evaluation")


def same_look(node: Expression, *constants: Constant) -> list[bytes] | None:
    """The text forms of ``constants``, if ``node`` is a column that equals one exactly when it looks like it."""
    if not isinstance(node, ColumnRef) or not looks_decide(node.type):
        return None
    forms = []
    for constant in constants:
        comparable = constant.type == node.type or (constant.type in INTEGERS and node.type in INTEGERS)
        codec = codec_of(constant.type)
        if not comparable or codec is None or constant.value is None:
            return None
        forms.append(str(codec.form(constant.value)).encode())
    return forms


# ---- values -----------------------------------------------------------------------------------------------------


def _fail(_row: Row) -> Any:
    raise Unevaluable


def _column(node: ColumnRef) -> Evaluator:
    index = node.index
    codec = codec_of(node.type)
    if codec is None:
        return lambda row: row[index]  # only asked whether it is NULL
    decode = codec.of_row
    return lambda row: None if (form := row[index]) is None else decode(form)


def _call(node: Call) -> Evaluator:
    function = node.operation.evaluate
    arguments = [evaluator(argument) for argument in node.arguments]
    if len(arguments) == 1:
        (only,) = arguments
        return lambda row: None if (value := only(row)) is None else function(value)
    left, right = arguments

    def call(row: Row) -> Any:
        # Both are evaluated first, as in Postgres: an error in one shows even if the other is NULL.
        first, second = left(row), right(row)
        return None if first is None or second is None else function(first, second)

    return call


# ---- comparisons ------------------------------------------------------------------------------------------------


def _ordered(node: Expression, other: SqlType) -> Evaluator:
    """The values of ``node`` as they are compared with values of type ``other``."""
    value = evaluator(node)
    order = midnight if node.type == DATE and other != DATE else order_of(node.type)
    if order is None:
        return value
    return lambda row: None if (one := value(row)) is None else order(one)


def _comparison(node: Comparison) -> Evaluator:
    if node.operator in ("=", "<>") and isinstance(node.right, Constant):
        forms = same_look(node.left, node.right)
        if forms is not None and isinstance(node.left, ColumnRef):
            return _look(node.left.index, forms[0], node.operator == "=")
    compare = _OPERATORS[node.operator]
    left, right = _ordered(node.left, node.right.type), _ordered(node.right, node.left.type)
    if isinstance(node.right, Constant):
        constant = right(())
        return lambda row: None if (value := left(row)) is None else compare(value, constant)

    def comparison(row: Row) -> bool | None:
        first, second = left(row), right(row)
        return None if first is None or second is None else compare(first, second)

    return comparison


def _look(index: int, form: bytes, equal: bool) -> Evaluator:
    if equal:
        return lambda row: None if (value := row[index]) is None else value == form
    return lambda row: None if (value := row[index]) is None else value != form


def _membership(node: Membership) -> Evaluator:
    found, missing = not node.negated, None if node.with_null else node.negated
    forms = same_look(node.operand, *node.items)
    values: frozenset[Any]
    if forms is not None and isinstance(node.operand, ColumnRef):
        index, values = node.operand.index, frozenset(forms)
        return lambda row: None if (form := row[index]) is None else found if form in values else missing
    operand = _ordered(node.operand, node.items[0].type if node.items else node.operand.type)
    values = frozenset(_ordered(item, node.operand.type)(()) for item in node.items)
    return lambda row: None if (value := operand(row)) is None else found if value in values else missing


def _like(node: Like) -> Evaluator:
    operand, matches = evaluator(node.operand), like.matcher(node.pattern)
    if node.negated:
        return lambda row: None if (value := operand(row)) is None else not matches(value)
    return lambda row: None if (value := operand(row)) is None else matches(value)


def _null_test(node: NullTest) -> Evaluator:
    if isinstance(node.operand, ColumnRef):
        index = node.operand.index
        return (lambda row: row[index] is not None) if node.negated else (lambda row: row[index] is None)
    operand = evaluator(node.operand)
    return (lambda row: operand(row) is not None) if node.negated else (lambda row: operand(row) is None)


# ---- AND and OR -------------------------------------------------------------------------------------------------


def _all_of(operands: list[Evaluator]) -> Evaluator:
    def conjunction(row: Row) -> bool | None:
        result: bool | None = True
        for operand in operands:
            value = operand(row)
            if value is False:
                return False
            if value is None:
                result = None
        return result

    return conjunction


def _any_of(operands: list[Evaluator]) -> Evaluator:
    def disjunction(row: Row) -> bool | None:
        result: bool | None = False
        for operand in operands:
            value = operand(row)
            if value is True:
                return True
            if value is None:
                result = None
        return result

    return disjunction
