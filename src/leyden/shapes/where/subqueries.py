"""What a SELECT within a policy consists of, in the tree that Postgres' parser makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import Message
from postgast import pg_query_pb2

from leyden.shapes.where.analysis import names_of, shown
from leyden.shapes.where.resolution import Refused
from leyden.shapes.where.syntax import messages_in

#: What may be set in a SELECT besides its tables and its condition.
SELECT_FIELDS = {"target_list", "limit_option", "op"}

_A = pg_query_pb2


def tables_of(items: Sequence[Any], *, finds_public: bool) -> tuple[list[tuple[str, str]], list[Any]]:
    """The tables of a FROM clause, each with the name that it has there, and the conditions of inner joins. With
    ``finds_public``, a table without a schema is that of schema public.

    Raises :class:`leyden.shapes.where.resolution.Refused` for all other tables and joins.
    """
    tables: list[tuple[str, str]] = []
    conditions: list[Any] = []
    pending = list(reversed(items))
    while pending:
        item = pending.pop()
        if item.HasField("range_var"):
            table = item.range_var
            is_public = table.schemaname == "public" or (finds_public and not table.schemaname)
            if not is_public or table.catalogname or not table.inh:
                raise Refused(f"the table {shown(table.relname)} is not in schema public")
            if table.alias.colnames:
                raise Refused("other names for columns are not supported")
            tables.append((table.alias.aliasname or table.relname, table.relname))
        elif item.HasField("join_expr") and item.join_expr.jointype == _A.JOIN_INNER:
            join = item.join_expr
            if join.is_natural or join.using_clause or join.HasField("alias"):
                raise Refused("a join is supported with ON only")
            pending += [join.rarg, join.larg]
            if join.HasField("quals"):
                conditions.append(join.quals)
        else:
            raise Refused("only tables and inner joins can be looked at in a subquery")
    if not tables:
        raise Refused("a subquery without a table is not supported")
    return tables, conditions


def conjuncts(node: Any) -> Iterator[Any]:
    """What is joined by AND in ``node``."""
    if node.HasField("bool_expr") and node.bool_expr.boolop == _A.AND_EXPR:
        for argument in node.bool_expr.args:
            yield from conjuncts(argument)
    else:
        yield node


def named_tables(message: Message) -> Iterator[str]:
    """The names of tables that columns in it are named with; an empty one for a column without."""
    if isinstance(message, _A.ColumnRef):
        names = names_of(message.fields)
        yield names[-2] if len(names) > 1 else ""
        return
    for one in messages_in(message):
        yield from named_tables(one)


def scalar(link: Any) -> Any:
    """The expression of ``(SELECT expression)``; ``None`` for any other subquery."""
    if link.sub_link_type != _A.EXPR_SUBLINK:
        return None
    return only_target(link.subselect)


def only_target(statement: Any) -> Any:
    """The expression of a ``SELECT expression``; ``None`` for any other statement."""
    select = statement.select_stmt
    surplus = {field.name for field, _ in select.ListFields()} - SELECT_FIELDS
    if surplus or len(select.target_list) != 1:
        return None
    return select.target_list[0].res_target.val
