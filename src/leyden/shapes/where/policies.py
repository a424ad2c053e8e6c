"""The condition of a row-level security policy, as Postgres prints it → the typed tree that filters have.

The same grammar and the same types as in a client's filter. Otherwise written are columns, by their bare names, and the
claims: as settings of the session (``current_setting('request.jwt.claims', true)::jsonb ->> 'org'``) or through
functions that wrap those, such as ``auth.uid()``. What a function means is read from its body, never from its name.

``pg_get_expr`` must have printed the text with nothing but ``pg_catalog`` on the search path: then a bare name of a
function, type or operator is Postgres' own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from google.protobuf.message import DecodeError
from postgast import PgQueryError, parse, pg_query_pb2

from leyden.model import Function, Table
from leyden.shapes.where import folding, resolution
from leyden.shapes.where.analysis import MAX_ITEMS, Analysis, bounded, check_fields, names_of, shown
from leyden.shapes.where.claims import UNSET_SETTINGS, USER_SETTINGS
from leyden.shapes.where.resolution import Operand, Refused, Untyped
from leyden.shapes.where.sqltypes import BY_NAME, INT4, TEXT
from leyden.shapes.where.syntax import Source, WhereError
from leyden.shapes.where.tree import ClaimRef, ColumnRef, Constant, Expression, walk

#: Functions whose bodies lead to functions, within each other.
MAX_DEPTH = 4

_A = pg_query_pb2
_CLAIMS = "request.jwt.claims"
_SCOPED_CLAIMS = "leyden.claims"
_SELECT_FIELDS = {"target_list", "limit_option", "op"}


@dataclass(frozen=True, slots=True)
class Reader:
    """For whom a policy is understood: the database role, and the claim whose object holds the claims about the user,
    if they have one of their own."""

    role: str
    namespace: str | None = None


def parse_policy(
    text: str,
    table: Table,
    reader: Reader,
    functions: Sequence[Function] = (),
    *,
    collation_is_c: bool,
    loosely_compared: frozenset[str] = frozenset(),
) -> Expression:
    """The condition ``text`` of a policy on ``table``; ``functions`` are those that it may call, ``loosely_compared``
    columns whose collation finds different texts equal.

    Raises :class:`leyden.shapes.where.syntax.WhereError` for what cannot be expressed here.
    """
    source = Source(text, subqueries=True)
    by_name = {function.name: function for function in functions}
    tree = bounded(_Policy(source, table, reader, by_name, collation_is_c).condition(source.expression()))
    loose = sorted(one.name for one in walk(tree) if isinstance(one, ColumnRef) and one.name in loosely_compared)
    if loose:
        raise WhereError(f"the collation of {shown(loose[0])} is not deterministic", 0)
    return tree


@dataclass(frozen=True, slots=True)
class _Document:
    """A part of the claims, as json or as jsonb."""

    path: tuple[str | int, ...]
    is_json: bool


class _Policy(Analysis):
    understood: ClassVar[Mapping[str, frozenset[str]]] = {
        **Analysis.understood,
        "sub_link": frozenset(("sub_link_type", "testexpr", "oper_name", "subselect", "location")),
        "coalesce_expr": frozenset(("args", "location")),
        "sqlvalue_function": frozenset(("op", "typmod", "location")),
    }

    def __init__(
        self,
        source: Source,
        table: Table,
        reader: Reader,
        functions: Mapping[str, Function],
        text_has_order: bool,
        depth: int = 0,
    ) -> None:
        super().__init__(source, table, text_has_order)
        self._reader = reader
        self._functions = functions
        self._depth = depth

    # ---- names -------------------------------------------------------------------------------------------------------

    def _column_ref(self, reference: Any) -> Operand:
        match names_of(reference.fields):
            case [name] if name in self._columns:
                return self._column(name)
            case [table, name] if table == self._table.name and name in self._columns:
                return self._column(name)
            case [*_, name]:
                raise Refused(f"{shown(name)} is no column of the table as clients know it")
        raise Refused("a name is missing")

    def _sqlvalue_function(self, function: Any) -> Expression:
        if function.op in (_A.SVFOP_CURRENT_USER, _A.SVFOP_CURRENT_ROLE, _A.SVFOP_USER):
            return Constant(TEXT, self._reader.role)
        raise Refused("a value that changes with the time or the session is not supported")

    def _func_call(self, call: Any) -> Expression:
        names = names_of(call.funcname)
        if names in (["current_setting"], ["pg_catalog", "current_setting"]):
            return self._setting(call)
        called = self._called(call)
        if called is None:
            return super()._func_call(call)
        function, body = called
        result = self._inside().operand(body)
        if isinstance(result, Untyped) or result.type != BY_NAME.get(function.returns):
            raise Refused(f"the function {shown(function.name)} gives a value of another type than its body")
        return result

    def _setting(self, call: Any) -> Expression:
        name = _setting_name(call)
        if name in USER_SETTINGS:
            return ClaimRef(())
        if name in (_CLAIMS, _SCOPED_CLAIMS):
            raise Refused(f"of the setting {name} only members can be used, as in ::jsonb ->> 'org'")
        if len(call.args) == 2 and UNSET_SETTINGS.fullmatch(name):
            return Constant(TEXT, None)
        raise Refused(f"the setting {shown(name)} is not known here")

    # ---- functions of the database -------------------------------------------------------------------------------

    def _called(self, call: Any) -> tuple[Function, Any] | None:
        """A function that can be looked into, and the expression that it stands for."""
        function = self._functions.get(".".join(names_of(call.funcname)))
        if function is None or call.args:
            return None
        if self._depth >= MAX_DEPTH:
            raise Refused(f"the function {shown(function.name)} leads to too many others")
        return function, _body(function)

    def _inside(self) -> _Policy:
        """For the body of a function, which sees no columns."""
        nothing = Table(self._table.id, "", (), (), "")
        return _Policy(
            self._source, nothing, self._reader, self._functions, self._text_has_order, depth=self._depth + 1
        )

    # ---- what needs no other value than the claims ---------------------------------------------------------------

    def _sub_link(self, link: Any) -> Operand:
        value = _scalar(link)
        if value is None:
            raise Refused("a subquery on a table is not supported")
        return self.operand(value)

    def _coalesce_expr(self, coalesce: Any) -> Operand:
        *others, last = coalesce.args
        for argument in others:
            value = self.operand(argument)
            if value == ClaimRef(()):  # everybody has a user id
                return value
            if not isinstance(value, Constant) or value.value is not None:
                raise Refused("COALESCE is not supported here")
        return self.operand(last)

    def _a_expr(self, expression: Any) -> Expression:
        if expression.kind == _A.AEXPR_NULLIF:
            value = self.operand(expression.lexpr)
            is_known = value == ClaimRef(()) or (isinstance(value, Constant) and value.value is None)
            if not is_known or isinstance(value, Untyped) or not self._is_empty_text(expression.rexpr):
                raise Refused("NULLIF is not supported here")
            return value
        if expression.kind in (_A.AEXPR_OP_ANY, _A.AEXPR_OP_ALL):
            return self._in_array(expression)
        return super()._a_expr(expression)

    def _is_empty_text(self, node: Any) -> bool:
        match self.operand(node):
            case Untyped(text="") | Constant(value=""):
                return True
        return False

    # ---- lists, which Postgres prints as arrays ------------------------------------------------------------------

    def _in_array(self, expression: Any) -> Expression:
        (sign,) = names_of(expression.name) if len(expression.name) == 1 else ("",)
        is_any = expression.kind == _A.AEXPR_OP_ANY
        if sign != ("=" if is_any else "<>"):
            raise Refused(f"{'ANY' if is_any else 'ALL'} is supported with {'=' if is_any else '<>'} only")
        operand = self.operand(expression.lexpr)
        items = [resolution.Item(item, has_column=False) for item in self._array(expression.rexpr)]
        if len(items) == 1:
            # An array of one is still an array: its item has the type that it was given.
            result = resolution.compare("=", operand, items[0].operand, text_has_order=self._text_has_order)
        else:
            result = resolution.membership(operand, items, text_has_order=self._text_has_order)
        return result if is_any else folding.negation(result)

    def _array(self, node: Any) -> list[Operand]:
        """The items of a literal array, each of the type that the array is cast to."""
        if node.HasField("type_cast"):
            cast = node.type_cast
            names = names_of(cast.type_name.names)
            kind = BY_NAME.get(names[-1]) if names[:-1] in ([], ["pg_catalog"]) else None
            if len(cast.type_name.array_bounds) != 1 or kind is None:
                raise Refused("an array of this type is not supported")
            return [resolution.cast(item, kind) for item in self._array(cast.arg)]
        if not node.HasField("a_array_expr"):
            raise Refused("an array that is not written out is not supported")
        elements = node.a_array_expr.elements
        if len(elements) > MAX_ITEMS:
            raise Refused(f"a list of more than {MAX_ITEMS} items is not supported")
        before = self._mentions
        items = [self.operand(element) for element in elements]
        if self._mentions != before:
            raise Refused("an array with columns in it is not supported")
        return items

    # ---- claims --------------------------------------------------------------------------------------------------

    def _claim(self, sign: str, expression: Any) -> Expression:
        if sign == "->":
            raise Refused("-> gives no text: use ->> for the last step")
        document = self._document(expression.lexpr)
        if document is None:
            raise Refused("->> is supported on the claims only")
        return ClaimRef((*document.path, self._step(expression.rexpr)), document.is_json)

    def _step(self, node: Any) -> str | int:
        match self.operand(node):
            case Untyped(text=str(name)):
                return name
            case Constant(value=str(name), type=kind) if kind == TEXT:
                return name
            case Constant(value=int(place), type=kind) if kind == INT4:
                return place
        raise Refused("the name of a claim must be a literal")

    def _document(self, node: Any) -> _Document | None:
        """``node`` as a part of the claims, if it is one."""
        match node.WhichOneof("node"):
            case "type_cast":
                kind = names_of(node.type_cast.type_name.names)[-1]
                root = self._claims_text(node.type_cast.arg) if kind in ("json", "jsonb") else None
                return None if root is None else _Document(root, kind == "json")
            case "a_expr" if names_of(node.a_expr.name) == ["->"]:
                outer = self._document(node.a_expr.lexpr)
                return outer and _Document((*outer.path, self._step(node.a_expr.rexpr)), outer.is_json)
            case "func_call":
                called = self._called(node.func_call)
                if called is None or called[0].returns not in ("json", "jsonb"):
                    return None
                document = self._inside()._document(called[1])
                return document if document and document.is_json == (called[0].returns == "json") else None
            case "sub_link":
                value = _scalar(node.sub_link)
                return None if value is None else self._document(value)
        return None

    def _claims_text(self, node: Any) -> tuple[str, ...] | None:
        """Where in the claims the object is whose JSON text ``node`` stands for, if it does. Such a text is never empty
        and never NULL."""
        match node.WhichOneof("node"):
            case "func_call" if names_of(node.func_call.funcname)[-1] == "current_setting":
                name = _setting_name(node.func_call)
                if name == _SCOPED_CLAIMS and self._reader.namespace is not None:
                    return (self._reader.namespace,)
                return () if name == _CLAIMS else None
            case "a_expr" if node.a_expr.kind == _A.AEXPR_NULLIF:
                is_plain = self._is_empty_text(node.a_expr.rexpr)
                return self._claims_text(node.a_expr.lexpr) if is_plain else None
            case "coalesce_expr":
                for argument in node.coalesce_expr.args:
                    root = self._claims_text(argument)
                    if root == ():
                        return root
                    value = None if root is not None else self.operand(argument)
                    if not isinstance(value, Constant) or value.value is not None:
                        return None
        return None


def _setting_name(call: Any) -> str:
    check_fields(call, Analysis.understood["func_call"])
    if not 1 <= len(call.args) <= 2:
        raise Refused("current_setting has one argument or two")
    name = call.args[0]
    if name.HasField("type_cast"):  # 'request.jwt.claims'::text
        name = name.type_cast.arg
    if not name.HasField("a_const") or name.a_const.WhichOneof("val") != "sval":
        raise Refused("the name of a setting must be a literal")
    # Postgres takes the names of settings without regard to case.
    return str(name.a_const.sval.sval).lower()


def _scalar(link: Any) -> Any:
    """The expression of ``(SELECT expression)``; ``None`` for any other subquery."""
    if link.sub_link_type != _A.EXPR_SUBLINK:
        return None
    return _only_target(link.subselect)


def _only_target(statement: Any) -> Any:
    select = statement.select_stmt
    surplus = {field.name for field, _ in select.ListFields()} - _SELECT_FIELDS
    if surplus or len(select.target_list) != 1:
        return None
    return select.target_list[0].res_target.val


def _body(function: Function) -> Any:
    """The expression that a function in SQL consists of."""
    try:
        statements = parse(function.body).stmts
    except (PgQueryError, DecodeError):
        statements = []
    value = _only_target(statements[0].stmt) if len(statements) == 1 else None
    if value is None:
        raise Refused(f"the function {shown(function.name)} is more than one expression")
    return value


__all__ = ["Reader", "WhereError", "parse_policy"]
