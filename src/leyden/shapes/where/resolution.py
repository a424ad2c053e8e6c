"""Which of Postgres' operations is meant, given the operands: its rules of type resolution, for the types here.

Works on operands that are typed expressions or literals without a type. Where Postgres would choose an operation that
is not supported, or none, the operation is refused; it is never approximated by another. (Postgres manual, chapter
"Type Conversion"; a test compares with the server for every pair of types.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from leyden.shapes.where import folding, operations, sqltypes
from leyden.shapes.where.casts import AS_PRINTED, cast_of
from leyden.shapes.where.letter_case import LOWER, LOWER_EQUALS, LOWER_LIKE, REQUIRE_ASCII, UPPER, UPPER_EQUALS
from leyden.shapes.where.like import BadPattern, matcher
from leyden.shapes.where.sqltypes import (
    BOOL,
    DATE,
    FLOAT4,
    FLOAT8,
    FLOATS,
    INTEGERS,
    INTERVAL,
    JSONB,
    NUMBERS,
    STAMPS,
    TEXT,
    TIME,
    SqlType,
)
from leyden.shapes.where.tree import (
    UNKNOWN,
    Call,
    ColumnRef,
    Constant,
    Expression,
    Operation,
    can_fail,
    is_constant,
    uses_claims,
)
from leyden.shapes.where.values import Unevaluable, codec_of


class Refused(Exception):
    """Why an expression is refused. ``location`` is the parser's, when it is not that of the whole expression."""

    def __init__(self, reason: str, location: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.location = location


@dataclass(frozen=True, slots=True)
class Untyped:
    """A quoted literal, or NULL, whose type follows from where it stands."""

    text: str | None
    location: int


Operand = Expression | Untyped


def kind_of(operand: Operand) -> SqlType | None:
    return None if isinstance(operand, Untyped) else operand.type


def called(operand: Operand) -> str:
    kind = kind_of(operand)
    return "a literal" if kind is None else kind.name


# ---- single operands --------------------------------------------------------------------------------------------


def typed(operand: Operand, kind: SqlType) -> Expression:
    """``operand`` as a value of type ``kind``, which it is, turns into unasked, or is read as."""
    if isinstance(operand, Untyped):
        return read_literal(operand, kind)
    return operand if operand.type == kind else cast(operand, kind)


def text_of(operand: Operand) -> Expression:
    """``operand`` where only a text can stand."""
    if kind_of(operand) not in (TEXT, None):
        raise Refused(f"a text is needed here, not {called(operand)}")
    return typed(operand, TEXT)


def read_literal(literal: Untyped, kind: SqlType) -> Constant:
    """The literal as a value of type ``kind``."""
    if literal.text is None:
        return Constant(kind, None)
    codec = codec_of(kind)
    if codec is None:
        raise Refused(f"values of type {kind.name} are not supported", literal.location)
    try:
        return Constant(kind, codec.read(literal.text))
    except ValueError:
        pass
    hint = ""
    if kind in (DATE, TIME, *STAMPS):
        hint = ": write it as ISO 8601 has it, 2024-01-31 or 2024-01-31T10:00:00Z or 10:00:00"
    elif kind == INTERVAL:
        hint = ": write it as in 1 month -3 days 04:05:06"
    raise Refused(f"the literal is not a value of type {kind.name}{hint}", literal.location)


def cast(operand: Operand, kind: SqlType) -> Expression:
    """``CAST(operand AS kind)``."""
    if isinstance(operand, Untyped):
        return read_literal(operand, kind)
    if operand.type == kind:
        return operand
    if kind == TEXT and isinstance(operand, ColumnRef) and operand.type != BOOL and codec_of(operand.type):
        return call(AS_PRINTED, ColumnRef(operand.index, operand.name, TEXT))
    operation = cast_of(operand.type, kind)
    if operation is None:
        raise Refused(f"a cast from {operand.type.name} to {kind.name} is not supported")
    return call(operation, operand)


def call(operation: Operation, *arguments: Expression) -> Expression:
    for argument in arguments:
        _refuse_case_mapped(argument)
        _refuse_failing_condition(argument)
    if operation.sql is None and not all(map(is_constant, arguments)):
        raise Refused(f"{operation.name} is supported for constants only")
    try:
        return folding.call(operation, *arguments)
    except Unevaluable:
        raise Refused(f"{operation.name} has no result for these constants") from None


def _refuse_case_mapped(node: Expression) -> None:
    if _is_case_mapped(node):
        raise Refused(
            "what lower() and upper() give depends on the database's locale: they can only be compared with"
            " constants in ASCII, by = <> IN and, lower(), by LIKE"
        )


def _refuse_failing_condition(node: Expression) -> None:
    if node.type == BOOL and can_fail(node):
        raise Refused("a condition that can fail can only be combined by AND, OR, NOT and IS")


def _is_case_mapped(node: Expression) -> TypeGuard[Call]:
    return isinstance(node, Call) and (node.operation is LOWER or node.operation is UPPER) and not is_constant(node)


def ascii_only(constant: Expression) -> Expression:
    """``constant`` where only one in ASCII will do, like a pattern or what is compared with lower()."""
    if isinstance(constant, Constant) and isinstance(constant.value, str) and not constant.value.isascii():
        raise Refused("which letters outside ASCII are equal without case depends on the database's locale")
    return call(REQUIRE_ASCII, constant)


# ---- comparisons ------------------------------------------------------------------------------------------------


def compare(operator: str, left: Operand, right: Operand, *, text_has_order: bool) -> Expression:
    """``left operator right``. ``text_has_order``: texts are ordered by their code points."""
    first, second = _comparable(left, right)
    if operator in ("=", "<>"):
        equal = _equal(first, second)
        return folding.negation(equal) if operator == "<>" else equal
    if first.type == TEXT and not text_has_order:
        raise Refused("the order of texts depends on the database's collation; only = and <> are supported")
    _refuse_case_mapped(first)
    _refuse_case_mapped(second)
    return folding.comparison(operator, first, second)


def distinct(left: Operand, right: Operand) -> Expression:
    """``left IS NOT DISTINCT FROM right``."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Untyped) and one.text is None:
            return folding.null_test(other if not isinstance(other, Untyped) else read_literal(other, TEXT))
    first, second = _comparable(left, right)
    both_null = folding.all_of([folding.null_test(first), folding.null_test(second)])
    return folding.any_of([folding.truth_test(_equal(first, second), True), both_null])


@dataclass(frozen=True, slots=True)
class Item:
    """One of an IN list; ``has_column`` as it is written, whatever it comes to."""

    operand: Operand
    has_column: bool


def membership(operand: Operand, items: Sequence[Item], *, text_has_order: bool) -> Expression:
    """``operand IN (items)``. Postgres makes one array of two or more constants and looks into it first; otherwise
    it compares one item after the other."""
    constants = [item.operand for item in items if not item.has_column]
    others = [item.operand for item in items if item.has_column]
    common = sqltypes.common_type([kind_of(operand), *map(kind_of, constants)]) if len(constants) > 1 else None
    if common is None or (not isinstance(operand, Untyped) and _is_case_mapped(operand)):
        in_turn = [item.operand for item in items] if common is None else [*constants, *others]
        return folding.any_of([compare("=", operand, item, text_has_order=text_has_order) for item in in_turn])
    values: list[Constant] = []
    found: list[Expression] = []
    first: Expression | None = None
    with_null = False
    for item in constants:
        first, second = _comparable(operand, typed(item, common))
        if not isinstance(second, Constant):  # a claim, known later
            found.append(_equal(first, second))
        elif second.value is None:
            with_null = True
        else:
            values.append(second)
    if first is not None and (values or with_null):
        found.append(folding.membership(first, values, with_null=with_null))
    found += [compare("=", operand, item, text_has_order=text_has_order) for item in others]
    return folding.any_of(found)


def _comparable(left: Operand, right: Operand) -> tuple[Expression, Expression]:
    """Both sides in the types in which Postgres compares them."""
    kinds = _comparison_kinds(kind_of(left), kind_of(right))
    if kinds is None:
        for kind in filter(None, (kind_of(left), kind_of(right))):
            if kind == JSONB or codec_of(kind) is None:
                raise Refused(f"comparisons of {kind.name} are not supported")
        raise Refused(f"there is no comparison of {called(left)} with {called(right)}: cast one of them")
    first, second = typed(left, kinds[0]), typed(right, kinds[1])
    for one in (first, second):
        _refuse_failing_condition(one)
    return first, second


def _equal(first: Expression, second: Expression) -> Expression:
    for mapped, other in ((first, second), (second, first)):
        if _is_case_mapped(mapped):
            operation = LOWER_EQUALS if mapped.operation is LOWER else UPPER_EQUALS
            return call(operation, mapped.arguments[0], ascii_only(other))
    return folding.comparison("=", first, second)


def _comparison_kinds(left: SqlType | None, right: SqlType | None) -> tuple[SqlType, SqlType] | None:
    left, right = left or right or TEXT, right or left or TEXT
    if left == right:
        return None if left == JSONB or codec_of(left) is None else (left, right)
    if left in INTEGERS and right in INTEGERS:
        return left, right
    if left in NUMBERS and right in NUMBERS:
        kind = common_number(left, right)
        return kind, kind
    days = (DATE, *STAMPS)
    return (left, right) if left in days and right in days else None


def common_number(left: SqlType, right: SqlType) -> SqlType:
    if left in FLOATS or right in FLOATS:
        return FLOAT4 if left == right == FLOAT4 else FLOAT8
    return max(left, right, key=NUMBERS.index)


# ---- LIKE -------------------------------------------------------------------------------------------------------


def like(left: Operand, right: Operand, *, caseless: bool) -> Expression:
    """``left LIKE right``, or ``ILIKE``."""
    if {kind_of(left), kind_of(right)} - {TEXT, None}:
        raise Refused(f"LIKE compares texts, not {called(left)} with {called(right)}: cast to text")
    operand, pattern = typed(left, TEXT), typed(right, TEXT)
    if not isinstance(pattern, Constant):
        if caseless or uses_claims(pattern):
            # Wildcards in a claim would widen what its bearer may see.
            raise Refused("the pattern of LIKE cannot be a claim, and that of ILIKE must be a literal")
        return call(operations.LIKE, operand, pattern)
    if pattern.value is None:
        return UNKNOWN
    try:
        matcher(pattern.value)
    except BadPattern as bad:
        raise Refused(str(bad)) from None
    if caseless:
        return call(LOWER_LIKE, operand, call(LOWER, ascii_only(pattern)))
    if _is_case_mapped(operand) and operand.operation is LOWER:
        return call(LOWER_LIKE, operand.arguments[0], ascii_only(pattern))
    _refuse_case_mapped(operand)
    return folding.like(operand, pattern.value)
