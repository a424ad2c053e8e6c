"""The condition of a row-level security policy, as Postgres prints it → the typed tree that filters have.

The same grammar and the same types as in a client's filter. Otherwise written are columns, by their bare names, and the
claims: as settings of the session (``current_setting('request.jwt.claims', true)::jsonb ->> 'org'``) or through
functions that wrap those, such as ``auth.uid()``. What a function means is read from its body, never from its name.

``pg_get_expr`` must have printed the text with nothing but ``pg_catalog`` on the search path: then a bare name of a
function, type or operator is Postgres' own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from postgast import pg_query_pb2

from leyden.model import Function, Table
from leyden.shapes.where import folding, resolution
from leyden.shapes.where.analysis import MAX_ITEMS, Analysis, bounded, check_fields, location_of, names_of, shown
from leyden.shapes.where.bodies import expression_of, refuse_namesakes
from leyden.shapes.where.claims import UNSET_SETTINGS, USER_SETTINGS
from leyden.shapes.where.conditions import Condition, Related, flag, moved
from leyden.shapes.where.resolution import Operand, Refused, Untyped
from leyden.shapes.where.sqltypes import BY_NAME, INT4, INTEGERS, TEXT, SqlType, type_of_column
from leyden.shapes.where.subqueries import SELECT_FIELDS, conjuncts, named_tables, scalar, tables_of
from leyden.shapes.where.syntax import Source, WhereError
from leyden.shapes.where.tree import TRUE, And, ClaimRef, ColumnRef, Constant, Expression, Or, parts, walk

#: Functions whose bodies lead to functions, and tables that are looked at, within each other.
MAX_DEPTH = 4
MAX_TABLES = 6

#: Operations of a condition with functions in it, and how deep they may be in each other.
MAX_NODES = 2_000
MAX_NESTING = 100

_A = pg_query_pb2
_CLAIMS = "request.jwt.claims"
_SCOPED_CLAIMS = "leyden.claims"
_CURRENT_SETTING = (["current_setting"], ["pg_catalog", "current_setting"])
_NO_TABLE = Table(0, "", (), (), "")


@dataclass(frozen=True, slots=True)
class Other:
    """Another table, as a policy sees it that looks at it: with the policies and privileges that its reader has there.
    ``columns`` are ``None`` for all."""

    table: Table
    condition: Condition | None = None
    columns: frozenset[str] | None = None
    collated: frozenset[str] = frozenset()


#: Another table by its name, and the function in whose body it is looked at, if there is one: its search path holds for
#: the policies of that table as well. Raises :class:`leyden.shapes.where.resolution.Refused` for one that cannot be
#: looked at.
Find = Callable[[str, Function | None], Other]


def _find_as_owner(function: Function, find: Find, name: str, caller: Function | None) -> Other:
    """The table called ``name`` for a function that runs as its owner."""
    other = find(name, caller)
    if other.table.id not in function.bypasses:
        raise Refused(f"the owner of the function {shown(function.name)} does not read all of table {shown(name)}")
    return replace(other, condition=None, columns=None)


def _nothing_else(name: str, _caller: Function | None) -> Other:
    raise Refused(f"the table {shown(name)} is not known here")


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
    collated: frozenset[str] = frozenset(),
    namesakes: Collection[str] = (),
    find: Find = _nothing_else,
    caller: Function | None = None,
    related: list[Related] | None = None,
) -> Expression:
    """The condition ``text`` of a policy on ``table``; ``functions`` are those that it may call, ``collated``
    columns with a collation of their own, ``namesakes`` as in :class:`leyden.model.Policy`. ``caller`` is the
    function in whose body the table is looked at, if there is one. What the policy asks of other tables is added to
    ``related``, which may hold that of other policies on the same table.

    Raises :class:`leyden.shapes.where.syntax.WhereError` for what cannot be expressed here.
    """
    source = Source(text, subqueries=True)
    by_name: dict[str, list[Function]] = {}
    for function in functions:
        by_name.setdefault(function.name, []).append(function)
    surroundings = _Surroundings(reader, by_name, find, caller, collation_is_c)
    scope = _Scope(table.name, Other(table, collated=collated), 0)
    policy = _Policy(source, surroundings, (scope,), scope.width, [] if related is None else related)
    node = source.expression()
    try:
        refuse_namesakes(node, namesakes, is_printed=True)
    except Refused as refused:
        raise source.error(refused.reason, location_of(node)) from None
    return bounded(policy.whole(node))


@dataclass(frozen=True, slots=True)
class _Surroundings:
    reader: Reader
    functions: Mapping[str, Sequence[Function]]
    find: Find
    caller: Function | None
    text_has_order: bool


@dataclass(frozen=True, slots=True)
class _Scope:
    """A table by the name that it has in the text, and where its columns begin."""

    alias: str
    other: Other
    offset: int

    @property
    def width(self) -> int:
        return self.offset + len(self.other.table.columns)


@dataclass(frozen=True, slots=True)
class _Body:
    """The body of a function that is being looked into, and what its arguments are."""

    function: Function
    arguments: tuple[Expression, ...]
    depth: int
    #: Columns of the row outside.
    width: int

    def argument(self, name: str) -> Expression | None:
        names = [one for one, _ in self.function.arguments]
        return self.arguments[names.index(name)] if name in names else None


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
        "param_ref": frozenset(("number", "location")),
    }

    def __init__(
        self,
        source: Source,
        surroundings: _Surroundings,
        scopes: tuple[_Scope, ...],
        width: int,
        related: list[Related],
        body: _Body | None = None,
    ) -> None:
        """``scopes`` are the tables whose columns can be named, the innermost last; in the ``body`` of a function not
        those outside of it. ``width`` is that of the row, which has them all, and ``related`` what its flags mean."""
        table = scopes[-1].other.table if scopes else _NO_TABLE
        super().__init__(source, table, surroundings.text_has_order)
        self._surroundings = surroundings
        self._scopes = scopes
        self._width = width
        self._related = related
        self._body = body
        #: Flags that are false where SQL has NULL.
        self._only_if_true: set[int] = set()

    def whole(self, node: Any) -> Expression:
        """The condition that is to be true."""
        return self.checked(self.condition(node))

    def checked(self, tree: Expression) -> Expression:
        if self._only_if_true & _elsewhere(tree):
            raise WhereError("IN with a subquery is supported within AND and OR only, not within NOT", 0)
        return tree

    # ---- names -------------------------------------------------------------------------------------------------------

    def _column_ref(self, reference: Any) -> Operand:
        scopes: tuple[_Scope, ...]
        argument: Expression | None = None
        match names_of(reference.fields):
            case [name]:
                # Printing a policy, Postgres names the table as soon as there are two. Not so who wrote a function.
                scopes = self._scopes if self._body is not None or len(self._scopes) == 1 else ()
                argument = None if self._body is None else self._body.argument(name)
            case [alias, name]:
                scopes = tuple(scope for scope in self._scopes if scope.alias == alias)[-1:]
                if not scopes and self._body is not None and self._body.function.name.endswith(f".{alias}"):
                    argument = self._body.argument(name)
            case _:
                raise Refused("fields of columns are not supported")
        for scope in reversed(scopes):  # a column comes before an argument of the same name
            other, table = scope.other, scope.other.table
            for place, column in enumerate(table.columns):
                if column.name == name:
                    if name in other.collated:
                        raise Refused(f"the collation of {shown(name)} is one of its own")
                    if other.columns is not None and name not in other.columns:
                        raise Refused(f"permission denied for column {shown(name)} of table {shown(table.name)}")
                    self._mentions += 1
                    return ColumnRef(scope.offset + place, name, type_of_column(column, table))
        if argument is not None:
            return self._argument(argument)
        raise Refused(f"{shown(name)} is no column of the table as clients know it")

    def _param_ref(self, parameter: Any) -> Expression:
        if self._body is None or not 1 <= parameter.number <= len(self._body.arguments):
            raise Refused("a parameter is not supported here")
        return self._argument(self._body.arguments[parameter.number - 1])

    def _argument(self, argument: Expression) -> Expression:
        if self._scopes:
            self._refuse_flags(argument, 0 if self._body is None else self._body.width)
        self._mentions += any(isinstance(one, ColumnRef) for one in walk(argument))
        return argument

    def _sqlvalue_function(self, function: Any) -> Expression:
        if function.op in (_A.SVFOP_CURRENT_USER, _A.SVFOP_CURRENT_ROLE, _A.SVFOP_USER):
            return Constant(TEXT, self._surroundings.reader.role)
        raise Refused("a value that changes with the time or the session is not supported")

    def _func_call(self, call: Any) -> Expression:
        names = names_of(call.funcname)
        if names in _CURRENT_SETTING:
            return self._setting(call)
        called = self._called(call)
        if called is None:
            return super()._func_call(call)
        function, body = called
        arguments = []
        for argument, (_, kind) in zip(call.args, function.arguments, strict=True):
            if kind not in BY_NAME:
                raise Refused(f"the function {shown(function.name)} takes a {shown(kind)}")
            arguments.append(_passed(self.operand(argument), BY_NAME[kind]))
        inside = self._inside(function, tuple(arguments))
        try:
            result = inside.operand(body)
        except WhereError as error:  # whose place is one in the body
            raise Refused(f"in the function {shown(function.name)}, {error.reason}") from None
        self._only_if_true |= inside._only_if_true
        if not isinstance(result, Untyped):
            _refuse_large(result)
        if isinstance(result, Untyped) or result.type != BY_NAME.get(function.returns):
            raise Refused(f"the function {shown(function.name)} gives a value of another type than its body")
        return result

    def _setting(self, call: Any) -> Expression:
        name = _setting_name(call)
        if name in USER_SETTINGS:
            return ClaimRef(())
        if name in (_CLAIMS, _SCOPED_CLAIMS):
            raise Refused(f"of the setting {name} only members can be used, as in ::jsonb ->> 'org'")
        if UNSET_SETTINGS.fullmatch(name) and self._may_be_unset(call):
            return Constant(TEXT, None)
        raise Refused(f"the setting {shown(name)} is not known here")

    def _may_be_unset(self, call: Any) -> bool:
        """Whether ``current_setting`` is told to give NULL then, not an error."""
        return len(call.args) == 2 and self.operand(call.args[1]) == TRUE

    def _text_from(self, location: int) -> str:
        if self._body is None:
            return super()._text_from(location)
        return self._body.function.body.encode()[max(location, 0) :].decode("utf-8", "ignore")

    @staticmethod
    def _refuse_flags(operand: Operand, width: int) -> None:
        """The flags of a row of so many columns stand where a longer row has columns."""
        if not isinstance(operand, Untyped) and any(
            isinstance(one, ColumnRef) and one.index >= width for one in walk(operand)
        ):
            raise Refused("what EXISTS gives is not supported within another subquery")

    # ---- functions of the database -------------------------------------------------------------------------------

    def _called(self, call: Any) -> tuple[Function, Any] | None:
        """A function that can be looked into, and the expression that it stands for."""
        named = self._surroundings.functions.get(".".join(names_of(call.funcname)), ())
        fitting = [one for one in named if len(one.arguments) == len(call.args)]
        if len(fitting) != 1:
            return None
        (function,) = fitting
        check_fields(call, self.understood["func_call"])
        if self._surroundings.reader.role not in function.callers:
            raise Refused(f"permission denied for function {shown(function.name)}")
        if self._body is not None and self._body.depth >= MAX_DEPTH:
            raise Refused(f"the function {shown(function.name)} leads to too many others")
        body = expression_of(function)
        refuse_namesakes(body, self._inherited(function).namesakes, is_printed=False)
        return function, body

    @property
    def _outside(self) -> Function | None:
        """In whose body this stands, be it in the policy of a table that is looked at there."""
        return self._surroundings.caller if self._body is None else self._body.function

    def _inherited(self, function: Function) -> Function:
        """``function`` with what it finds by name: on its own search path, or on that of the one which calls it."""
        outside = self._outside
        if function.has_own_path or outside is None:
            return function
        return replace(function, finds_public=outside.finds_public, namesakes=outside.namesakes)

    def _inside(self, function: Function, arguments: tuple[Expression, ...] = ()) -> _Policy:
        """For the body of ``function``, which sees no columns but those of its own."""
        depth = 1 if self._body is None else self._body.depth + 1
        surroundings = self._surroundings
        if function.owner is not None:
            reader = replace(surroundings.reader, role=function.owner)
            surroundings = replace(
                surroundings, reader=reader, find=partial(_find_as_owner, function, surroundings.find)
            )
        body = _Body(self._inherited(function), arguments, depth, self._width)
        return _Policy(self._source, surroundings, (), self._width, self._related, body)

    # ---- what needs no other value than the claims ---------------------------------------------------------------

    def _sub_link(self, link: Any) -> Operand:
        value = scalar(link)
        if value is not None:
            return self.operand(value)
        select = link.subselect.select_stmt
        if link.sub_link_type == _A.EXISTS_SUBLINK:
            return self._exists(select)
        if link.sub_link_type == _A.ANY_SUBLINK and [one.string.sval for one in link.oper_name] in ([], ["="]):
            found = self._exists(select, self.operand(link.testexpr))
            self._only_if_true.add(found.index)
            return found
        raise Refused("a subquery is supported after EXISTS and IN only")

    # ---- other tables --------------------------------------------------------------------------------------------

    def _exists(self, select: Any, wanted: Operand | None = None) -> ColumnRef:
        """Whether ``select`` has a row; one that is equal to ``wanted``, if that is given."""
        surplus = {field.name for field, _ in select.ListFields()} - SELECT_FIELDS - {"from_clause", "where_clause"}
        if surplus:
            raise Refused(f"{min(surplus).replace('_', ' ')} in a subquery is not supported")
        body = self._body
        tables, conditions = tables_of(select.from_clause, finds_public=body is not None and body.function.finds_public)
        if select.HasField("where_clause"):
            conditions.append(select.where_clause)
        aliases = [alias for alias, _ in tables]
        # Each condition is looked at as soon as the tables are there that it names.
        by_level: list[list[Any]] = [[] for _ in tables]
        for one in itertools.chain.from_iterable(map(conjuncts, conditions)):
            named = list(named_tables(one))
            last = len(tables) - 1 if "" in named and body is not None else 0
            by_level[max([last, *(aliases.index(alias) for alias in named if alias in aliases)])].append(one)
        targets = [target.res_target.val for target in select.target_list]
        return self._level(tables, by_level, targets, wanted)

    def _level(
        self, tables: list[tuple[str, str]], conditions: list[list[Any]], targets: list[Any], wanted: Operand | None
    ) -> ColumnRef:
        (alias, name), *others = tables
        if wanted is not None:
            self._refuse_flags(wanted, self._width)
        if len(self._scopes) > MAX_TABLES:
            raise Refused("too many tables within each other")
        scope = _Scope(alias, self._surroundings.find(name, self._outside), self._width)
        scopes = (*self._scopes, scope)
        inside = _Policy(self._source, self._surroundings, scopes, scope.width, [], self._body)
        found = [inside.condition(one) for one in conditions[0]]
        if others:
            found.append(inside._level(others, conditions[1:], targets, wanted))
        elif wanted is None:
            for target in targets:
                inside.operand(target)  # which its reader must be allowed to see
        else:
            (target,) = targets
            found.append(inside._compared("=", wanted, inside.operand(target)))
        own = scope.other.condition
        if own is not None:
            width = len(scope.other.table.columns)
            policies = moved(own, scope.offset, width, len(inside._related))
            inside._related.extend(policies.related)
            found.append(policies.tree)
        tree = inside.checked(folding.all_of(found))
        self._related.append(Related(scope.other.table, scope.offset, Condition(tree, tuple(inside._related))))
        return flag(self._width + len(self._related) - 1)

    def _coalesce_expr(self, coalesce: Any) -> Operand:
        kinds: set[SqlType] = set()
        for place, argument in enumerate(coalesce.args, 1):
            value = self.operand(argument)
            is_null = value.text is None if isinstance(value, Untyped) else value == Constant(value.type, None)
            if not isinstance(value, Untyped):
                kinds.add(value.type)
            if value == ClaimRef(()):  # everybody has a user id
                break
            if not is_null and place < len(coalesce.args):
                raise Refused("COALESCE is not supported here")
        if len(kinds) > 1:
            raise Refused("COALESCE of several types is not supported")
        return resolution.typed(value, *kinds) if kinds else value  # NULLs have a say in the type, too

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
                if called[0].arguments:
                    return None
                document = self._inside(called[0])._document(called[1])
                return document if document and document.is_json == (called[0].returns == "json") else None
            case "sub_link":
                value = scalar(node.sub_link)
                return None if value is None else self._document(value)
        return None

    def _claims_text(self, node: Any) -> tuple[str, ...] | None:
        """Where in the claims the object is whose JSON text ``node`` stands for, if it does. Such a text is never empty
        and never NULL."""
        match node.WhichOneof("node"):
            case "func_call" if names_of(node.func_call.funcname) in _CURRENT_SETTING:
                name = _setting_name(node.func_call)
                namespace = self._surroundings.reader.namespace
                # Without such claims it is not set.
                if name == _SCOPED_CLAIMS and namespace is not None and self._may_be_unset(node.func_call):
                    return (namespace,)
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


def _refuse_large(tree: Expression) -> None:
    """With the bodies of functions in place of their calls, a short text can stand for any number of operations."""
    pending, size = [(tree, 1)], 0
    while pending:
        node, depth = pending.pop()
        size += 1
        if size > MAX_NODES or depth > MAX_NESTING:
            raise Refused("with the bodies of functions it is too long, or nested too deep")
        pending += ((part, depth + 1) for part in parts(node))


def _passed(operand: Operand, kind: SqlType) -> Expression:
    """``operand`` as an argument of type ``kind``: as Postgres passes it without being told to cast."""
    if not isinstance(operand, Untyped) and operand.type != kind:
        widened = INTEGERS[: INTEGERS.index(kind)] if kind in INTEGERS else ()
        if operand.type not in widened:
            raise Refused(f"an argument of type {kind.name} is needed, not {operand.type.name}")
    return resolution.typed(operand, kind)


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


def _elsewhere(tree: Expression) -> set[int]:
    """Columns that stand in ``tree`` elsewhere than within AND and OR."""
    match tree:
        case ColumnRef():
            return set()
        case And() | Or():
            return {index for one in tree.operands for index in _elsewhere(one)}
    return {one.index for one in walk(tree) if isinstance(one, ColumnRef)}


__all__ = ["Find", "Other", "Reader", "WhereError", "parse_policy"]
