"""Postgres' parse tree → the typed tree: names looked up, operations resolved, everything else refused by name.

Only what is listed here is understood. A kind of node, a field of a node, an operator or a function that is not
listed is refused with its place in the text, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from google.protobuf.message import Message
from postgast import pg_query_pb2

from leyden.model import Table
from leyden.shapes.where import folding, operators, resolution
from leyden.shapes.where.numbers import INTEGER_RANGES, NotANumber, read_numeric
from leyden.shapes.where.predicate import Where
from leyden.shapes.where.resolution import Operand, Refused, Untyped
from leyden.shapes.where.sqltypes import BOOL, BY_NAME, INT4, INT8, NUMERIC, TEXT, SqlType, enum_type, type_of_column
from leyden.shapes.where.syntax import Source, WhereError
from leyden.shapes.where.tree import ClaimRef, ColumnRef, Constant, Expression, is_hazardous, walk

#: Items of one IN list.
MAX_ITEMS = 2000

#: Nodes of the tree inside operations that can fail, counted once for each such operation around them.
MAX_GUARDED = 1000

#: A number as every supported server reads it, perhaps after a sign.
_PLAIN_NUMBER = re.compile(r"[-+\s(]*(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.])")

_A = pg_query_pb2
_COMPARISONS = frozenset(("=", "<>", "<", "<=", ">", ">="))
_LIKE = {"~~": (False, False), "!~~": (False, True), "~~*": (True, False), "!~~*": (True, True)}
_OPERATORS = frozenset(("+", "-", "*", "/", "%", "&", "|", "#", "||", "@", "~"))

_KINDS_OF_OPERATOR = {
    _A.AEXPR_OP_ANY: "ANY",
    _A.AEXPR_OP_ALL: "ALL",
    _A.AEXPR_NULLIF: "NULLIF",
    _A.AEXPR_SIMILAR: "SIMILAR TO",
}
_BETWEEN = {
    _A.AEXPR_BETWEEN: (False, False),
    _A.AEXPR_NOT_BETWEEN: (False, True),
    _A.AEXPR_BETWEEN_SYM: (True, False),
    _A.AEXPR_NOT_BETWEEN_SYM: (True, True),
}
_NODES = {
    "sub_link": "a subquery",
    "param_ref": "a parameter such as $1",
    "coalesce_expr": "COALESCE",
    "min_max_expr": "GREATEST or LEAST",
    "sqlvalue_function": "a value that changes with the time or the session, such as current_date,",
    "row_expr": "a row value",
    "a_array_expr": "ARRAY",
    "collate_clause": "COLLATE",
    "a_indirection": "a subscript or field",
    "case_expr": "CASE",
    "set_to_default": "DEFAULT",
}


def parse_where(text: str, table: Table, *, collation_is_c: bool) -> Where:
    """The clause ``text`` on ``table``.

    ``collation_is_c``: the database orders texts by their code points (C, POSIX, ucs_basic, or a C.UTF-8); otherwise
    no order of texts is supported. Raises :class:`leyden.shapes.where.syntax.WhereError`.
    """
    source = Source(text)
    return Where(bounded(Analysis(source, table, collation_is_c).condition(source.expression())))


def bounded(tree: Expression) -> Expression:
    """``tree``, if the SQL of it is not too long. Raises :class:`leyden.shapes.where.syntax.WhereError`."""
    # SQL asks of each operation that can fail whether it will, with all that is inside of it.
    if sum(sum(1 for _ in walk(one)) for one in walk(tree) if is_hazardous(one)) > MAX_GUARDED:
        raise WhereError("too many operations that can fail, such as divisions and sums, or too deep in each other", 0)
    return tree


class Analysis:
    """The analysis of one clause."""

    #: The nodes that are understood, and the fields of each that may be set.
    understood: ClassVar[Mapping[str, frozenset[str]]] = {
        "a_const": frozenset(("isnull", "ival", "fval", "boolval", "sval", "bsval", "location")),
        "column_ref": frozenset(("fields", "location")),
        "type_cast": frozenset(("arg", "type_name", "location")),
        "bool_expr": frozenset(("boolop", "args", "location")),
        "null_test": frozenset(("arg", "nulltesttype", "location")),
        "boolean_test": frozenset(("arg", "booltesttype", "location")),
        "a_expr": frozenset(("kind", "name", "lexpr", "rexpr", "rexpr_list_start", "rexpr_list_end", "location")),
        "func_call": frozenset(("funcname", "args", "funcformat", "location")),
    }

    def __init__(self, source: Source, table: Table, text_has_order: bool) -> None:
        self._source = source
        self._text_has_order = text_has_order
        self._table = table
        self._mentions = 0  # of columns, so far
        self._columns = {
            column.name: ColumnRef(index, column.name, type_of_column(column, table))
            for index, column in enumerate(table.columns)
        }

    def condition(self, node: Any) -> Expression:
        result = self.operand(node)
        if isinstance(result, Untyped) or result.type != BOOL:
            kind = "a literal" if isinstance(result, Untyped) else f"of type {result.type.name}"
            raise self._source.error(f"the clause must be boolean, it is {kind}", location_of(node))
        return result

    def operand(self, node: Any) -> Operand:
        name = node.WhichOneof("node") or "nothing"
        understand = getattr(self, f"_{name}", None) if name in self.understood else None
        location = location_of(node)
        if understand is None:
            raise self._source.error(f"{_NODES.get(name, name.replace('_', ' '))} is not supported", location)
        try:
            inner = getattr(node, name)
            check_fields(inner, self.understood[name])
            result: Operand = understand(inner)
        except Refused as refusal:
            place = location if refusal.location is None else refusal.location
            raise self._source.error(refusal.reason, place) from None
        return result

    def _boolean(self, node: Any, around: str) -> Expression:
        operand = self.operand(node)
        if not isinstance(operand, Untyped) and operand.type != BOOL:
            raise self._source.error(f"{around} needs a boolean, not {operand.type.name}", location_of(node))
        try:
            return resolution.typed(operand, BOOL)
        except Refused as refusal:
            raise self._source.error(refusal.reason, location_of(node)) from None

    # ---- leaves ----

    def _a_const(self, constant: Any) -> Operand:
        if constant.isnull:
            return Untyped(None, constant.location)
        match constant.WhichOneof("val"):
            case "sval":
                return Untyped(constant.sval.sval, constant.location)
            case "boolval":
                return Constant(BOOL, constant.boolval.boolval)
            case "ival":
                self._check_number(constant.location)
                return Constant(INT4, constant.ival.ival)
            case "fval":
                self._check_number(constant.location)
                return _number(constant.fval.fval)
        raise Refused("a bit string is not supported")

    def _check_number(self, location: int) -> None:
        # The parser has already turned 0x1f and 1_000 into what newer servers take them for.
        if not _PLAIN_NUMBER.match(self._text_from(location)):
            raise Refused("a number must be written in decimal digits, right after its sign")

    def _text_from(self, location: int) -> str:
        return self._source.at(location)

    def _column_ref(self, reference: Any) -> Operand:
        names = names_of(reference.fields)
        match names:
            case ["this", name] if name in self._columns:
                return self._column(name)
            case ["this", name]:
                raise Refused(f"there is no column this.{shown(name)}")
            case ["auth", "sub"]:
                return ClaimRef(())
            case ["auth", "claims"]:
                raise Refused("of auth.claims only members can be used, as in auth.claims ->> 'org'")
            case ["auth", name]:
                raise Refused(f"there is no auth.{shown(name)}, only auth.sub and auth.claims")
            case [name] if name in self._columns:
                raise Refused(f"a column is written with its row: did you mean this.{shown(name)}?")
            case ["this"]:
                raise Refused("the whole row is not a value here: name a column, as in this.id")
            case ["this", *_]:
                raise Refused("fields of columns are not supported")
            case [name, *_]:
                raise Refused(f"{shown(name)} is unknown: columns are written this.name, claims auth.claims ->> 'name'")
        raise Refused("a name is missing")

    def _column(self, name: str) -> ColumnRef:
        self._mentions += 1
        return self._columns[name]

    def _type_cast(self, cast: Any) -> Operand:
        return resolution.cast(self.operand(cast.arg), self._type(cast.type_name))

    def _type(self, name: Any) -> SqlType:
        parts = names_of(name.names)
        check_fields(name, _TYPE_FIELDS)
        if name.typemod != -1:
            raise Refused("a modifier of a type is not supported")
        kind = None
        if len(parts) == 1 or parts[:-1] == ["pg_catalog"]:
            kind = BY_NAME.get(parts[-1])
        if kind is None and (len(parts) == 1 or parts[:-1] == ["public"]):
            kind = enum_type(parts[-1], self._table)
        if kind is None:
            raise Refused(f"the type {shown(parts[-1])} is not supported")
        return kind

    # ---- logic ----

    def _bool_expr(self, expression: Any) -> Expression:
        name, combine = {
            _A.AND_EXPR: ("AND", folding.all_of),
            _A.OR_EXPR: ("OR", folding.any_of),
            _A.NOT_EXPR: ("NOT", lambda operands: folding.negation(operands[0])),
        }[expression.boolop]
        return combine([self._boolean(argument, name) for argument in expression.args])

    def _null_test(self, test: Any) -> Expression:
        operand = self.operand(test.arg)
        if isinstance(operand, Untyped):
            operand = Constant(TEXT, operand.text)
        return folding.null_test(operand, negated=test.nulltesttype == _A.IS_NOT_NULL)

    def _boolean_test(self, test: Any) -> Expression:
        operand = self._boolean(test.arg, "IS")
        match test.booltesttype:
            case _A.IS_TRUE | _A.IS_NOT_TRUE:
                return folding.truth_test(operand, True, negated=test.booltesttype == _A.IS_NOT_TRUE)
            case _A.IS_FALSE | _A.IS_NOT_FALSE:
                return folding.truth_test(operand, False, negated=test.booltesttype == _A.IS_NOT_FALSE)
        return folding.null_test(operand, negated=test.booltesttype == _A.IS_NOT_UNKNOWN)

    # ---- operators ----

    def _a_expr(self, expression: Any) -> Expression:
        names = names_of(expression.name)
        if len(names) != 1:
            raise Refused("an operator with a schema is not supported")
        (sign,) = names
        match expression.kind:
            case _A.AEXPR_OP:
                return self._operator(sign, expression)
            case _A.AEXPR_LIKE | _A.AEXPR_ILIKE:
                return self._operator(sign, expression)
            case _A.AEXPR_DISTINCT:
                return folding.negation(self._same(expression))
            case _A.AEXPR_NOT_DISTINCT:
                return self._same(expression)
            case _A.AEXPR_IN:
                return self._in(sign, expression)
        if expression.kind in _BETWEEN:
            return self._between(expression)
        raise Refused(f"{_KINDS_OF_OPERATOR.get(expression.kind, 'this operator')} is not supported")

    def _operator(self, sign: str, expression: Any) -> Expression:
        if sign in ("->", "->>"):
            return self._claim(sign, expression)
        if sign not in _COMPARISONS | _LIKE.keys() | _OPERATORS:
            raise Refused(f"the operator {sign[:16]} is not supported")
        if not expression.HasField("lexpr"):
            return operators.unary(sign, self.operand(expression.rexpr))
        left, right = self.operand(expression.lexpr), self.operand(expression.rexpr)
        if sign in _COMPARISONS:
            return self._compared(sign, left, right)
        if sign in _LIKE:
            caseless, negated = _LIKE[sign]
            result = resolution.like(left, right, caseless=caseless)
            return folding.negation(result) if negated else result
        return operators.binary(sign, left, right)

    def _compared(self, sign: str, left: Operand, right: Operand) -> Expression:
        return resolution.compare(sign, left, right, text_has_order=self._text_has_order)

    def _same(self, expression: Any) -> Expression:
        return resolution.distinct(self.operand(expression.lexpr), self.operand(expression.rexpr))

    def _in(self, sign: str, expression: Any) -> Expression:
        nodes = expression.rexpr.list.items
        if len(nodes) > MAX_ITEMS:
            raise Refused(f"a list of more than {MAX_ITEMS} items is not supported")
        operand = self.operand(expression.lexpr)
        items: list[resolution.Item] = []
        for node in nodes:
            before = self._mentions
            item = self.operand(node)
            items.append(resolution.Item(item, has_column=self._mentions != before))
        result = resolution.membership(operand, items, text_has_order=self._text_has_order)
        return folding.negation(result) if sign == "<>" else result

    def _between(self, expression: Any) -> Expression:
        symmetric, negated = _BETWEEN[expression.kind]
        operand = self.operand(expression.lexpr)
        first, second = map(self.operand, expression.rexpr.list.items)
        pairs = [(first, second), (second, first)] if symmetric else [(first, second)]
        result = folding.any_of(
            [
                folding.all_of([self._compared(">=", operand, low), self._compared("<=", operand, high)])
                for low, high in pairs
            ]
        )
        return folding.negation(result) if negated else result

    # ---- claims ----

    def _claim(self, sign: str, expression: Any) -> Expression:
        if sign == "->":
            raise Refused("-> gives no text: use ->> for the last step, as in auth.claims -> 'app' ->> 'org'")
        path = self._claim_path(expression)
        if path is None:
            raise Refused("->> is supported on auth.claims only")
        return ClaimRef(path)

    def _claim_path(self, expression: Any) -> tuple[str | int, ...] | None:
        """The steps from ``auth.claims``, if that is where they begin."""
        left = expression.lexpr
        before: tuple[str | int, ...] | None = None
        if left.HasField("column_ref") and names_of(left.column_ref.fields) == ["auth", "claims"]:
            before = ()
        elif left.HasField("a_expr") and names_of(left.a_expr.name) == ["->"] and left.a_expr.HasField("lexpr"):
            before = self._claim_path(left.a_expr)
        if before is None:
            return None
        match self.operand(expression.rexpr):
            case Untyped(text=str(name)):
                return (*before, name)
            case Constant(value=int(place), type=kind) if kind == INT4:
                return (*before, place)
        raise Refused("the name of a claim must be a literal")

    # ---- functions ----

    def _func_call(self, call: Any) -> Expression:
        *schema, name = names_of(call.funcname)
        if schema not in ([], ["pg_catalog"]):
            raise Refused(f"the function {shown(name)} of another schema is not supported")
        return operators.function(shown(name), [self.operand(argument) for argument in call.args])


# ---- the parse tree ---------------------------------------------------------------------------------------------

_FIELDS = {"typmods": "a length or precision", "array_bounds": "an array type", "agg_star": "*", "over": "OVER"}
_TYPE_FIELDS = frozenset(("names", "typemod", "location"))


def check_fields(message: Message, allowed: frozenset[str]) -> None:
    for field, _ in message.ListFields():
        if field.name not in allowed:
            name = _FIELDS.get(field.name, field.name.replace("_", " "))
            raise Refused(f"{name} is not supported here")


def names_of(nodes: Any) -> list[str]:
    if any(not node.HasField("string") for node in nodes):
        raise Refused("a * is not a value here: name a column, as in this.id")
    return [node.string.sval for node in nodes]


def location_of(node: Any) -> int:
    name = node.WhichOneof("node")
    return getattr(getattr(node, name), "location", -1) if name else -1


def shown(name: str) -> str:
    """A client's name for an error message: short, and printable."""
    return "".join(one if one.isprintable() else "?" for one in name[:63])


def _number(text: str) -> Constant:
    """A number that the parser did not take for an int4: Postgres makes it an int8 if it can, else a numeric."""
    if text.lstrip("-").isdecimal():
        for kind in (INT4, INT8):
            least, greatest = INTEGER_RANGES[kind.name]
            if len(text) <= 20 and least <= int(text) <= greatest:
                return Constant(kind, int(text))
    try:
        return Constant(NUMERIC, read_numeric(text))
    except NotANumber:
        raise Refused("the number is too large or too long") from None
