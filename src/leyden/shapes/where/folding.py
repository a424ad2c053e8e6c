"""Nodes of the tree, each computed at once when all its parts are constants.

Postgres does the same when it plans a query, so an error in a constant part shows at once here as there. Every
function raises :class:`leyden.shapes.where.values.Unevaluable` for that.
"""

from __future__ import annotations

from collections.abc import Sequence

from leyden.model import Row
from leyden.shapes.where.evaluation import evaluator
from leyden.shapes.where.tree import (
    FALSE,
    TRUE,
    UNKNOWN,
    And,
    Call,
    Comparison,
    Constant,
    Expression,
    Failure,
    Like,
    Membership,
    Not,
    NullTest,
    Operation,
    Or,
    TruthTest,
    can_fail,
    parts,
)


def call(operation: Operation, *arguments: Expression) -> Expression:
    return _strict(Call(operation, arguments))


def comparison(operator: str, left: Expression, right: Expression) -> Expression:
    return _strict(Comparison(operator, left, right))


def _strict(node: Call | Comparison | Like | Membership) -> Expression:
    """``node``, or what it is known to be: NULL if one of its parts is."""
    if any(isinstance(part, Failure) for part in parts(node)):
        return Failure(node.type)
    if any(isinstance(part, Constant) and part.value is None for part in parts(node)):
        return Constant(node.type, None)
    return _computed(node)


def _computed(node: Expression) -> Expression:
    if any(isinstance(part, Failure) for part in parts(node)):
        return Failure(node.type)
    if all(isinstance(part, Constant) for part in parts(node)):
        no_row: Row = ()
        return Constant(node.type, evaluator(node)(no_row))
    return node


def membership(
    operand: Expression, items: Sequence[Constant], *, with_null: bool = False, negated: bool = False
) -> Expression:
    """``items`` are of one type and not NULL."""
    if not items and not with_null:
        return TRUE if negated else FALSE
    if not items and not can_fail(operand):
        return UNKNOWN
    return _strict(Membership(operand, tuple(items), with_null, negated))


def like(operand: Expression, pattern: str, *, negated: bool = False) -> Expression:
    """Raises :class:`leyden.shapes.where.like.BadPattern`."""
    return _strict(Like(operand, pattern, negated))


def null_test(operand: Expression, *, negated: bool = False) -> Expression:
    return _computed(NullTest(operand, negated))


def truth_test(operand: Expression, value: bool, *, negated: bool = False) -> Expression:
    return _computed(TruthTest(operand, value, negated))


def negation(operand: Expression) -> Expression:
    return _computed(Not(operand))


def all_of(operands: Sequence[Expression]) -> Expression:
    """Like the server's planner: a constant false decides, even after an operand that fails."""
    remaining = [one for one in operands if one != TRUE]
    if FALSE in remaining:
        return FALSE
    if not remaining:
        return TRUE
    return remaining[0] if len(remaining) == 1 else _joined(And(tuple(remaining)))


def any_of(operands: Sequence[Expression]) -> Expression:
    """Like the server's planner: a constant true decides, even after an operand that fails."""
    remaining = [one for one in operands if one != FALSE]
    if TRUE in remaining:
        return TRUE
    if not remaining:
        return FALSE
    return remaining[0] if len(remaining) == 1 else _joined(Or(tuple(remaining)))


def _joined(node: And | Or) -> Expression:
    return UNKNOWN if all(one == UNKNOWN for one in node.operands) else node


def rebuilt(node: Expression, new: Sequence[Expression]) -> Expression:
    """``node`` with other parts in place of its own, in the order of :func:`leyden.shapes.where.tree.parts`."""
    match node:
        case Call(operation=operation):
            return call(operation, *new)
        case Comparison(operator=operator):
            return comparison(operator, new[0], new[1])
        case Membership(items=items, with_null=with_null, negated=negated):
            return membership(new[0], items, with_null=with_null, negated=negated)
        case Like(pattern=pattern, negated=negated):
            return like(new[0], pattern, negated=negated)
        case NullTest(negated=negated):
            return null_test(new[0], negated=negated)
        case TruthTest(value=value, negated=negated):
            return truth_test(new[0], value, negated=negated)
        case Not():
            return negation(new[0])
        case And():
            return all_of(new)
        case Or():
            return any_of(new)
        case _:
            return node
