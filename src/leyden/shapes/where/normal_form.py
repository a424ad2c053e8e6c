"""The one tree that stands for all spellings of a predicate.

NOT is moved down to the comparisons, AND and OR are flattened and their operands sorted, constants stand on the
right and have the narrowest type that does, equalities of one thing are collected into a list. What is equal then
has equal SQL, and so one group of subscribers.

Operands are left in their order where one of them can fail, because then the order decides which rows fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from leyden.shapes.where import folding
from leyden.shapes.where.numbers import INTEGER_RANGES
from leyden.shapes.where.printing import key_of
from leyden.shapes.where.sqltypes import INTEGERS, SqlType
from leyden.shapes.where.tree import (
    And,
    Comparison,
    Constant,
    Expression,
    Like,
    Membership,
    Not,
    NullTest,
    Or,
    TruthTest,
    can_fail,
    parts,
)

_INVERSE = {"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_CONVERSE = {"=": "=", "<>": "<>", "<": ">", ">": "<", "<=": ">=", ">=": "<="}


def normal_form(node: Expression, negated: bool = False) -> Expression:
    """The normal form of ``node``, or of its negation. Claims must be bound."""
    match node:
        case Not(operand=operand):
            return normal_form(operand, not negated)
        case And() | Or():
            both = isinstance(node, And) != negated
            return _joined(both, [*_operands(node, negated, both)])
        case Comparison(operator=operator, left=left, right=right):
            return _comparison(_INVERSE[operator] if negated else operator, normal_form(left), normal_form(right))
        case Membership(operand=operand, items=items, with_null=with_null):
            return _membership(normal_form(operand), items, with_null, node.negated != negated)
        case Like(operand=operand, pattern=pattern):
            return folding.like(normal_form(operand), pattern, negated=node.negated != negated)
        case NullTest(operand=operand):
            return folding.null_test(normal_form(operand), negated=node.negated != negated)
        case TruthTest(operand=operand, value=value):
            return folding.truth_test(normal_form(operand), value, negated=node.negated != negated)
        case _:
            same = folding.rebuilt(node, [normal_form(part) for part in parts(node)])
            return folding.negation(same) if negated else same


# ---- comparisons ------------------------------------------------------------------------------------------------


def _comparison(operator: str, left: Expression, right: Expression) -> Expression:
    if isinstance(left, Constant) or (not isinstance(right, Constant) and key_of(left) > key_of(right)):
        left, right, operator = right, left, _CONVERSE[operator]
    if isinstance(right, Constant):
        (right,) = _fitted(left.type, (right,))
    return folding.comparison(operator, left, right)


def _membership(operand: Expression, items: Sequence[Constant], with_null: bool, negated: bool) -> Expression:
    by_key = {key_of(item): item for item in _fitted(operand.type, items)}
    if len(by_key) == 1 and not with_null:
        return _comparison("<>" if negated else "=", operand, next(iter(by_key.values())))
    return folding.membership(operand, [by_key[key] for key in sorted(by_key)], with_null=with_null, negated=negated)


def _fitted(kind: SqlType, constants: Sequence[Constant]) -> list[Constant]:
    """Integer constants compared with an integer, in its type or the next wider one that holds them all."""
    if kind not in INTEGERS or any(one.type not in INTEGERS or one.value is None for one in constants):
        return list(constants)
    for wider in INTEGERS[INTEGERS.index(kind) :]:
        least, greatest = INTEGER_RANGES[wider.name]
        if all(least <= one.value <= greatest for one in constants):
            return [Constant(wider, one.value) for one in constants]
    return list(constants)


# ---- AND and OR -------------------------------------------------------------------------------------------------


def _operands(node: Expression, negated: bool, both: bool) -> Iterator[Expression]:
    """What AND (OR, if not ``both``) joins in ``node``, or in its negation; also within each other, and all that before
    anything is sorted. De Morgan holds for three values too, and keeps the order of evaluation."""
    match node:
        case Not(operand=operand):
            yield from _operands(operand, not negated, both)
        case And(operands=operands) | Or(operands=operands) if (isinstance(node, And) != negated) == both:
            for operand in operands:
                yield from _operands(operand, negated, both)
        case _:
            yield normal_form(node, negated)


def _joined(both: bool, operands: Sequence[Expression]) -> Expression:
    same = And if both else Or
    flat: dict[str, Expression] = {}
    for operand in operands:
        for one in operand.operands if isinstance(operand, same) else (operand,):
            flat.setdefault(key_of(one), one)
    if not any(map(can_fail, flat.values())):
        flat = dict(sorted(_collected(both, flat).items()))
    return folding.all_of(list(flat.values())) if both else folding.any_of(list(flat.values()))


def _collected(both: bool, operands: Mapping[str, Expression]) -> dict[str, Expression]:
    """``a = 1 OR a = 2`` as ``a IN (1, 2)``, and ``a <> 1 AND a <> 2`` as ``a NOT IN (1, 2)``; each with its key."""
    lists: dict[tuple[str, str], dict[str, tuple[Expression, Sequence[Constant]]]] = {}
    result = dict(operands)
    for key, operand in operands.items():
        items: Sequence[Constant]
        match operand:
            case Comparison(operator=operator, left=member, right=Constant() as constant):
                if operator != ("<>" if both else "="):
                    continue
                items = (constant,)
            case Membership(operand=member, items=items, with_null=False, negated=negated):
                if negated != both:
                    continue
            case _:
                continue
        family = "integer" if items[0].type in INTEGERS else items[0].type.name
        lists.setdefault((key_of(member), family), {})[key] = (member, items)
    for found in lists.values():
        if len(found) > 1:
            for key in found:
                del result[key]
            member = next(iter(found.values()))[0]
            merged = _membership(member, [item for _, items in found.values() for item in items], False, both)
            result[key_of(merged)] = merged
    return result
