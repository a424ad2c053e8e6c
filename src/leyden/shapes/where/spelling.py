"""The typed tree → a text for people, in the language itself: what is spelt can be used as a clause again.

Unlike ``printing``, which makes SQL for the server, it leaves out what a reader takes for granted (most types of
literals, the schema of operators) and takes no precautions. Whatever the clause and the values hold, the text has
printable characters only, and nothing can end its own quotation.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from leyden.shapes.where import folding, letter_case, temporal
from leyden.shapes.where.intervals import interval_text
from leyden.shapes.where.numbers import INTEGER_RANGES
from leyden.shapes.where.sqltypes import BOOL, FLOAT8, FLOATS, INT4, INT8, INTEGERS, INTERVAL, NUMERIC, TEXT, SqlType
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
    Operation,
    Or,
    TruthTest,
    parts,
)
from leyden.shapes.where.values import codec_of

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_NUMBER = re.compile(r"-?[0-9.]+(?:e[+-]?[0-9]+)?")
_OPERATOR = re.compile(r"OPERATOR\(pg_catalog\.([^)]+)\)")

#: Operations that are computed before any SQL is made, where they are not casts.
_OF_CONSTANTS = {
    temporal.INTERVAL_PLUS.name: "({0} + {1})",
    temporal.INTERVAL_MINUS.name: "({0} - {1})",
    temporal.INTERVAL_NEGATED.name: "(- {0})",
    letter_case.REQUIRE_ASCII.name: "{0}",
}


def spelled(node: Expression) -> str:
    """``node`` as somebody would write it."""
    match node:
        case Constant():
            return _constant(node)
        case Failure():
            return "error"
        case ColumnRef(name=name):
            return f"this.{_name(name)}"
        case ClaimRef(path=path):
            return _claim(path)
        case Call(operation=operation, arguments=arguments):
            return _pattern(operation).format(*map(_argument, arguments), *map(_argument, operation.constants))
        case Comparison(operator=operator, left=left, right=right):
            return f"{_operand(left, right.type)} {operator} {_operand(right, left.type)}"
        case Membership(operand=operand, items=items, with_null=with_null, negated=negated):
            # one NULL by itself would be a comparison
            nulls = ["NULL"] * (1 if items else 2) if with_null else []
            listed = [*(_literal(item, operand.type) for item in items), *nulls]
            return f"{_operand(operand)} {'NOT IN' if negated else 'IN'} ({', '.join(listed)})"
        case Like(operand=operand, pattern=pattern, negated=negated):
            return f"{_operand(operand)} {'NOT LIKE' if negated else 'LIKE'} {quoted(pattern)}"
        case NullTest(operand=operand, negated=negated):
            return f"{_operand(operand)} IS {'NOT ' if negated else ''}NULL"
        case TruthTest(operand=operand, value=value, negated=negated):
            return f"{_operand(operand)} IS {'NOT ' if negated else ''}{'TRUE' if value else 'FALSE'}"
        case Not(operand=operand):
            return f"NOT {_operand(operand)}"
        case And(operands=operands):
            return " AND ".join(map(_joined, operands))
        case Or(operands=operands):
            return " OR ".join(map(_joined, operands))


def form_of(kind: SqlType, value: Any) -> str | None:
    """The text form of a computed value, ``None`` for NULL."""
    codec = codec_of(kind)
    if value is None or codec is None:
        return None
    return interval_text(value) if kind == INTERVAL else codec.form(value)


def as_written(node: Expression) -> Expression:
    """``node`` with its negations where people write them: ``a <> 1`` rather than ``NOT (a = 1)``."""
    node = folding.rebuilt(node, [as_written(part) for part in parts(node)])
    match node:
        case Not(operand=Comparison(operator="=", left=left, right=right)):
            return Comparison("<>", left, right)
        case Not(operand=Membership() as membership):
            return replace(membership, negated=not membership.negated)
        case Not(operand=Like() as like):
            return replace(like, negated=not like.negated)
        case _:
            return node


def value_text(kind: SqlType, form: str | None) -> str:
    """A value of type ``kind``, given in its text form (``None``: NULL), as a literal."""
    if form is None:
        return "NULL"
    if kind == BOOL:
        return "true" if form == "t" else "false"
    if (kind in INTEGERS or kind in FLOATS or kind == NUMERIC) and _NUMBER.fullmatch(form):
        return form
    return quoted(form)


def quoted(text: str) -> str:
    """``text`` as a literal. Where it holds characters that are not printed as themselves: one with escapes."""
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return "E'" + "".join(_escaped(character) for character in text) + "'"


def _escaped(character: str) -> str:
    if character in "'\\":
        return character * 2
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _name(name: str) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return name
    doubled = name.replace('"', '""')
    if doubled.isprintable():
        return f'"{doubled}"'
    escaped = "".join(
        character if character.isprintable() and character != "\\" else f"\\+{ord(character):06x}"
        for character in doubled
    )
    return f'U&"{escaped}"'


def _claim(path: tuple[str | int, ...]) -> str:
    if not path:
        return "auth.sub"
    *before, last = [quoted(step) if isinstance(step, str) else str(step) for step in path]
    return "auth.claims" + "".join(f" -> {step}" for step in before) + f" ->> {last}"


# ---- operands ---------------------------------------------------------------------------------------------------


def _operand(node: Expression, beside: SqlType | None = None) -> str:
    """``node`` within something that binds more tightly than AND. ``beside`` is the type that a literal takes there."""
    if isinstance(node, Constant):
        return _literal(node, beside)
    text = spelled(node)
    return text if isinstance(node, ColumnRef | ClaimRef | Call | Failure) else f"({text})"


def _argument(node: Expression) -> str:
    """``node`` within an operation, where a literal without a type is a text."""
    text = _operand(node, TEXT)
    return f"({text})" if isinstance(node, ClaimRef) and node.path else text


def _joined(node: Expression) -> str:
    text = spelled(node)
    return f"({text})" if isinstance(node, And | Or) else text


# ---- constants --------------------------------------------------------------------------------------------------


def _constant(node: Constant) -> str:
    """A constant that is of its type wherever it stands."""
    kind, form = node.type, form_of(node.type, node.value)
    if form is None:
        return f"NULL::{_type(kind)}"
    if kind == BOOL or _is_read_as(kind, form):
        return value_text(kind, form)
    return f"{quoted(form)}::{_type(kind)}"


def _literal(node: Constant, beside: SqlType | None) -> str:
    """A constant where a literal without a type would take the type ``beside``."""
    form = form_of(node.type, node.value)
    if form is None or node.type != beside:
        return _constant(node)
    if beside in (BOOL, FLOAT8) or _is_read_as(beside, form):
        return value_text(beside, form)
    return quoted(form)


def _is_read_as(kind: SqlType, form: str) -> bool:
    """Whether ``form`` without quotation marks is a number of type ``kind``."""
    if kind == NUMERIC:
        return "." in form or not _within(INT8, form)
    return (kind == INT4) or (kind == INT8 and not _within(INT4, form))


def _within(kind: SqlType, digits: str) -> bool:
    least, greatest = INTEGER_RANGES[kind.name]
    return least <= int(digits) <= greatest


def _type(kind: SqlType) -> str:
    return kind.name if kind.labels is None else _name(kind.name)


# ---- operations -------------------------------------------------------------------------------------------------


def _pattern(operation: Operation) -> str:
    """How ``operation`` is written, with its arguments as ``{0}`` and so on."""
    if operation.sql is None:
        return _OF_CONSTANTS.get(operation.name) or f"CAST({{0}} AS {_type(operation.result)})"
    text = _OPERATOR.sub(r"\1", operation.sql.as_string(None)).replace("pg_catalog.", "").replace(' COLLATE "C"', "")
    return text.replace(" ~~ ", " LIKE ")
