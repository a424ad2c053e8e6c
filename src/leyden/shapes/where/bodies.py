"""What a function in SQL consists of, in the tree that Postgres' parser makes of its body, and what it and a policy may
mean by names that others than Postgres have used as well."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from google.protobuf.message import DecodeError, Message
from postgast import PgQueryError, parse, pg_query_pb2

from leyden.model import Function
from leyden.shapes.where.analysis import names_of, shown
from leyden.shapes.where.resolution import Refused
from leyden.shapes.where.subqueries import only_target
from leyden.shapes.where.syntax import messages_in

_A = pg_query_pb2
_BETWEEN = frozenset(
    (_A.AEXPR_BETWEEN, _A.AEXPR_NOT_BETWEEN, _A.AEXPR_BETWEEN_SYM, _A.AEXPR_NOT_BETWEEN_SYM),
)
#: Postgres prints these without the operator that they compare with.
_HIDING = frozenset((_A.AEXPR_DISTINCT, _A.AEXPR_NOT_DISTINCT, _A.AEXPR_NULLIF))

#: Among ``namesakes``: what is meant is not to be seen anywhere (see :class:`leyden.model.Function`).
UNSEEN = "::"


def expression_of(function: Function) -> Any:
    """The expression that ``function`` consists of.

    Raises :class:`leyden.shapes.where.resolution.Refused` if it is more than that.
    """
    try:
        statements = parse(function.body).stmts
    except (PgQueryError, DecodeError):
        statements = []
    value = only_target(statements[0].stmt) if len(statements) == 1 else None
    if value is None:
        raise Refused(f"the function {shown(function.name)} is more than one expression")
    return value


def refuse_namesakes(node: Message, namesakes: Collection[str], *, is_printed: bool) -> None:
    """Raises :class:`leyden.shapes.where.resolution.Refused` if ``node`` may mean one of them. If it ``is_printed`` by
    Postgres, what has no schema is Postgres' own, unless the operator is not to be seen."""
    found = namesakes and {UNSEEN, *_operations(node, is_printed)}.intersection(namesakes)
    if found:
        raise Refused(f"{shown(min(found))} may be another than Postgres' own")


def _operations(message: Message, is_printed: bool) -> Iterator[str]:
    """The functions and operators in it that are named without a schema."""
    match message:
        case _A.A_Expr() if message.kind in _HIDING or (message.kind not in _BETWEEN and not is_printed):
            yield from names_of(message.name) if len(message.name) == 1 else ()
        case _A.A_Expr() if not is_printed:
            yield from ("<", "<=", ">", ">=")
        case _A.FuncCall() if not is_printed:
            yield from names_of(message.funcname) if len(message.funcname) == 1 else ()
        case _A.SubLink() if not is_printed and message.sub_link_type == _A.ANY_SUBLINK:
            yield from names_of(message.oper_name) or ("=",)  # IN
    for one in messages_in(message):
        yield from _operations(one, is_printed)
