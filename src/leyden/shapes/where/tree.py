"""The typed tree: what a clause means once every name, type and operator is resolved.

Plain immutable data. Built by ``analysis``, put into normal form by ``normal_form``, turned into Python by
``evaluation`` and into SQL by ``printing``. Every node has a ``type``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from psycopg.sql import SQL

from leyden.shapes.where.sqltypes import BOOL, TEXT, SqlType


@dataclass(frozen=True, slots=True)
class Constant:
    """``value`` is in the Python form of :mod:`leyden.shapes.where.values`, ``None`` for NULL."""

    type: SqlType
    value: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """A constant that cannot be computed, because of what a claim holds: an evaluation error on every row."""

    type: SqlType


@dataclass(frozen=True, slots=True)
class ColumnRef:
    """``index`` is the column's place in a row."""

    index: int
    name: str
    type: SqlType


@dataclass(frozen=True, slots=True)
class ClaimRef:
    """A claim of the client's token as text. ``path`` leads into the claims; an empty one is ``auth.sub``. They are a
    jsonb document, or a json document, in which parts that are no scalars have another text."""

    path: tuple[str | int, ...]
    is_json: bool = False
    type: ClassVar[SqlType] = TEXT


@dataclass(frozen=True, slots=True)
class Operation:
    """A strict function of Postgres: NULL for any NULL argument, otherwise what ``evaluate`` gives.

    ``sql`` computes it from its arguments, ``{0}`` and so on. ``hazard`` is true for those values of the arguments
    for which that would raise an error, and so ``evaluate`` raises ``Unevaluable``; it raises none itself. The
    values of ``constants`` follow the arguments in both. Without ``sql`` all arguments must be constants.
    """

    name: str
    result: SqlType
    evaluate: Callable[..., Any]
    sql: SQL | None = None
    hazard: SQL | None = None
    constants: tuple[Constant, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    operation: Operation
    arguments: tuple[Expression, ...]

    @property
    def type(self) -> SqlType:
        return self.operation.result


@dataclass(frozen=True, slots=True)
class Comparison:
    """``operator`` is one of ``= <> < <= > >=``. Both sides are of one type, both integers, or both dates or stamps."""

    operator: str
    left: Expression
    right: Expression
    type: ClassVar[SqlType] = BOOL


@dataclass(frozen=True, slots=True)
class Membership:
    """``operand IN (items)``; ``with_null`` when NULL was among the items, which are not NULL themselves."""

    operand: Expression
    items: tuple[Constant, ...]
    with_null: bool = False
    negated: bool = False
    type: ClassVar[SqlType] = BOOL


@dataclass(frozen=True, slots=True)
class Like:
    """``pattern`` has the meaning it has in Postgres and ends in no lone backslash."""

    operand: Expression
    pattern: str
    negated: bool = False
    type: ClassVar[SqlType] = BOOL


@dataclass(frozen=True, slots=True)
class NullTest:
    operand: Expression
    negated: bool = False
    type: ClassVar[SqlType] = BOOL


@dataclass(frozen=True, slots=True)
class TruthTest:
    """``operand IS [NOT] TRUE`` or ``FALSE``."""

    operand: Expression
    value: bool
    negated: bool = False
    type: ClassVar[SqlType] = BOOL


@dataclass(frozen=True, slots=True)
class Not:
    operand: Expression
    type: ClassVar[SqlType] = BOOL


@dataclass(frozen=True, slots=True)
class And:
    operands: tuple[Expression, ...]
    type: ClassVar[SqlType] = BOOL


@dataclass(frozen=True, slots=True)
class Or:
    operands: tuple[Expression, ...]
    type: ClassVar[SqlType] = BOOL


Expression = (
    Constant
    | Failure
    | ColumnRef
    | ClaimRef
    | Call
    | Comparison
    | Membership
    | Like
    | NullTest
    | TruthTest
    | Not
    | And
    | Or
)

TRUE = Constant(BOOL, True)
FALSE = Constant(BOOL, False)
UNKNOWN = Constant(BOOL, None)


def parts(node: Expression) -> tuple[Expression, ...]:
    """The expressions that ``node`` is made of."""
    match node:
        case Call(arguments=arguments):
            return arguments
        case Comparison(left=left, right=right):
            return (left, right)
        case And(operands=operands) | Or(operands=operands):
            return operands
        case Membership() | Like() | NullTest() | TruthTest() | Not():
            return (node.operand,)
        case _:
            return ()


def walk(node: Expression) -> Iterator[Expression]:
    yield node
    for part in parts(node):
        yield from walk(part)


def is_constant(node: Expression) -> bool:
    """Whether the value is the same for every row, though it may depend on the client's claims."""
    return not any(isinstance(one, ColumnRef) for one in walk(node))


def uses_claims(node: Expression) -> bool:
    return any(isinstance(one, ClaimRef) for one in walk(node))


def is_hazardous(node: Expression) -> bool:
    """Whether the operation itself raises an error for some arguments."""
    return isinstance(node, Failure) or (isinstance(node, Call) and node.operation.hazard is not None)


def can_fail(node: Expression) -> bool:
    """Whether there can be a row for which Postgres would raise an error."""
    return any(map(is_hazardous, walk(node)))
