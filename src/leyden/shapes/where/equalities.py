"""For which values of a column a predicate can be true at all, for an index from values to predicates."""

from __future__ import annotations

from collections.abc import Mapping

from leyden.shapes.where.evaluation import same_look
from leyden.shapes.where.tree import (
    And,
    ColumnRef,
    Comparison,
    Constant,
    Expression,
    Membership,
    NullTest,
    Or,
    TruthTest,
)

#: Text forms of a column's values, ``None`` for NULL.
Forms = frozenset[bytes | None]


def equalities(node: Expression) -> Mapping[str, Forms]:
    """Text forms by column name: where the column's is not among them, ``node`` (in normal form) is not true."""
    match node:
        case Comparison(operator="=", left=ColumnRef(name=name) as column, right=Constant() as constant):
            forms = same_look(column, constant)
            return {} if forms is None else {name: frozenset(forms)}
        case Membership(operand=ColumnRef(name=name) as column, items=items, negated=False):
            forms = same_look(column, *items)
            return {} if forms is None else {name: frozenset(forms)}
        case NullTest(operand=ColumnRef(name=name), negated=False):
            return {name: frozenset((None,))}
        case TruthTest(operand=operand, value=True, negated=False):
            return equalities(operand)
        case And(operands=operands):
            found: dict[str, Forms] = {}
            for operand in operands:
                for name, some in equalities(operand).items():
                    found[name] = found[name] & some if name in found else some
            return found
        case Or(operands=operands):
            first, *others = map(equalities, operands)
            return {
                name: some.union(*(other[name] for other in others))
                for name, some in first.items()
                if all(name in other for other in others)
            }
        case _:
            return {}
