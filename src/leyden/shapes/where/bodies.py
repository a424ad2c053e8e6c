"""What a function in SQL consists of, in the tree that Postgres' parser makes of its body."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError, Message
from postgast import PgQueryError, parse, pg_query_pb2

from leyden.model import Function
from leyden.shapes.where.analysis import names_of, shown
from leyden.shapes.where.resolution import Refused
from leyden.shapes.where.subqueries import inner, only_target

_A = pg_query_pb2
_BETWEEN = frozenset(
    (_A.AEXPR_BETWEEN, _A.AEXPR_NOT_BETWEEN, _A.AEXPR_BETWEEN_SYM, _A.AEXPR_NOT_BETWEEN_SYM),
)


def expression_of(function: Function) -> Any:
    """The expression that ``function`` consists of.

    Raises :class:`leyden.shapes.where.resolution.Refused` if it is more than that, or may mean another one than it
    seems.
    """
    try:
        statements = parse(function.body).stmts
    except (PgQueryError, DecodeError):
        statements = []
    value = only_target(statements[0].stmt) if len(statements) == 1 else None
    if value is None:
        raise Refused(f"the function {shown(function.name)} is more than one expression")
    ambiguous = function.ambiguous and function.ambiguous.intersection(_operations(value))
    if ambiguous:
        name = shown(min(ambiguous))
        raise Refused(f"in the function {shown(function.name)}, {name} may be another one than Postgres' own")
    return value


def _operations(message: Message) -> Iterator[str]:
    """The functions and operators in it that are named without a schema."""
    match message:
        case _A.FuncCall() if len(message.funcname) == 1:
            yield from names_of(message.funcname)
        case _A.A_Expr() if message.kind in _BETWEEN:
            yield from ("<", "<=", ">", ">=")
        case _A.A_Expr() if len(message.name) == 1:
            yield from names_of(message.name)
        case _A.SubLink() if len(message.oper_name) <= 1:
            yield from names_of(message.oper_name) or ("=",)  # IN
    for one in inner(message):
        yield from _operations(one)
