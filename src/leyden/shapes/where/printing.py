"""The typed tree → SQL over the row alias ``this``: names quoted, constants typed, operators Postgres' own.

The text depends on the tree alone, never on how the client spelt it. Where the tree can fail, the SQL does not: it
first asks, in the order in which Postgres evaluates, whether an operation is about to raise an error, and such a row
does not match. All SQL that can fail stands behind a CASE, whose order of evaluation Postgres guarantees.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from leyden.shapes.where.casts import AS_PRINTED
from leyden.shapes.where.sqltypes import BOOL, TEXT, SqlType
from leyden.shapes.where.templates import template
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
    Or,
    TruthTest,
    can_fail,
    parts,
)
from leyden.shapes.where.values import codec_of

_NULL_BOOL = template("NULL::pg_catalog.bool")
_TRUE, _FALSE = sql.SQL("true"), sql.SQL("false")

#: The live stream compares texts as the database does by default. So does the SQL, for columns that have a collation of
#: their own as well; for all others this changes nothing, and their indexes are used.
_BY_DEFAULT = sql.SQL('({} COLLATE pg_catalog."default")')

_COMPARISONS = {
    "=": template("({} [=] {})"),
    "<>": template("({} [<>] {})"),
    "<": template("({} [<] {})"),
    "<=": template("({} [<=] {})"),
    ">": template("({} [>] {})"),
    ">=": template("({} [>=] {})"),
}


def key_of(node: Expression) -> str:
    """A text that equal trees share: the SQL without its precautions."""
    return Printer(careful=False).value(node).as_string(None)


def condition(node: Expression) -> sql.Composable:
    """A boolean SQL expression that raises no error for any row."""
    if isinstance(node, And):  # one that fails is as good as one that is false
        return sql.SQL("({})").format(sql.SQL(" AND ").join(map(condition, node.operands)))
    printer = Printer(careful=True)
    if not can_fail(node):
        return printer.value(node)
    return _case([(hazard, _FALSE) for hazard in printer.hazards(node)], printer.after_hazards(node))


def _type_name(kind: SqlType) -> sql.Identifier:
    return sql.Identifier("public" if kind.labels is not None else "pg_catalog", kind.name)


def _column(node: ColumnRef) -> sql.Identifier:
    return sql.Identifier("this", node.name)


def _constant(node: Constant) -> sql.Composable:
    if node.type == BOOL and node.value is not None:
        return _TRUE if node.value else _FALSE
    return sql.SQL("{}::{}").format(_literal(node), _type_name(node.type))


def _literal(node: Constant) -> sql.Composable:
    """A constant without its type."""
    if node.value is None:
        return sql.NULL
    codec = codec_of(node.type)
    if codec is None:
        raise ValueError(f"a constant cannot be of type {node.type.name}")
    return sql.Literal(codec.form(node.value))


def _case(cases: Sequence[tuple[sql.Composable, sql.Composable]], otherwise: sql.Composable) -> sql.Composable:
    branches = sql.SQL(" ").join(sql.SQL("WHEN {} THEN {}").format(*case) for case in cases)
    return sql.SQL("(CASE {} ELSE {} END)").format(branches, otherwise)


class Printer:
    """Prints trees. ``careful``: with precautions, so that no boolean part raises an error, however it is evaluated."""

    def __init__(self, *, careful: bool) -> None:
        self._careful = careful

    def value(self, node: Expression) -> sql.Composable:
        """``node`` as SQL. If careful, a boolean one raises no error: it is NULL instead."""
        plain = self.after_hazards(node)
        if not self._careful or node.type != BOOL:
            return plain
        hazards = self._inner_hazards(node)
        return _case([(hazard, _NULL_BOOL) for hazard in hazards], plain) if hazards else plain

    def after_hazards(self, node: Expression) -> sql.Composable:
        """``node`` as SQL for where none of its hazards is true."""
        match node:
            case Constant():
                return _constant(node)
            case Failure():
                return _NULL_BOOL if self._careful else sql.SQL("error")
            case ColumnRef():
                return _BY_DEFAULT.format(_column(node)) if node.type == TEXT else _column(node)
            case Call(operation=operation, arguments=(ColumnRef() as column,)) if operation is AS_PRINTED:
                return _BY_DEFAULT.format(template("CAST({} AS pg_catalog.text)").format(_column(column)))
            case Call(operation=operation):
                if operation.sql is None:
                    raise ValueError(f"{operation.name} is for constants, which have no operations left")
                return operation.sql.format(*self._inputs(node))
            case Comparison(operator=operator, left=left, right=right):
                return _COMPARISONS[operator].format(self.value(left), self.value(right))
            case Membership():
                return self._membership(node)
            case Like(operand=operand, pattern=pattern, negated=negated):
                form = template("({} [!~~] {})") if negated else template("({} [~~] {})")
                return form.format(self.value(operand), sql.SQL("{}::pg_catalog.text").format(sql.Literal(pattern)))
            case NullTest(operand=operand, negated=negated):
                form = sql.SQL("({} IS NOT NULL)") if negated else sql.SQL("({} IS NULL)")
                return form.format(_column(operand) if isinstance(operand, ColumnRef) else self.value(operand))
            case TruthTest(operand=operand, value=value, negated=negated):
                form = sql.SQL("({} IS NOT {})") if negated else sql.SQL("({} IS {})")
                return form.format(self.value(operand), _TRUE if value else _FALSE)
            case Not(operand=operand):
                return sql.SQL("(NOT {})").format(self.value(operand))
            case And(operands=operands):
                return sql.SQL("({})").format(sql.SQL(" AND ").join(map(self.value, operands)))
            case Or(operands=operands):
                return sql.SQL("({})").format(sql.SQL(" OR ").join(map(self.value, operands)))
            case ClaimRef():
                raise ValueError("claims must be bound before printing")

    def _inputs(self, node: Call) -> list[sql.Composable]:
        return [*map(self.value, node.arguments), *map(_constant, node.operation.constants)]

    def _membership(self, node: Membership) -> sql.Composable:
        kind = node.items[0].type if node.items else node.operand.type
        items = [*node.items, Constant(kind, None)] if node.with_null else node.items
        # Postgres reads the items of an array that is cast as items of that type.
        array = sql.SQL("ARRAY[{}]::{}[]").format(sql.SQL(", ").join(map(_literal, items)), _type_name(kind))
        form = template("({} [<>] ALL ({}))") if node.negated else template("({} [=] ANY ({}))")
        return form.format(self.value(node.operand), array)

    # ---- what can go wrong ----

    def hazards(self, node: Expression) -> list[sql.Composable]:
        """Conditions, to be asked one after the other, of which one is true exactly when evaluating ``node`` fails.

        None of them raises an error as long as those before it are not true.
        """
        if not can_fail(node):
            return []
        match node:
            case Failure():
                return [_TRUE]
            case And(operands=operands):
                return [self._reached(operands, template("(NOT {})"))]
            case Or(operands=operands):
                return [self._reached(operands, template("{}"))]
            case _:
                return [hazard for part in parts(node) for hazard in self.hazards(part)] + self._own_hazards(node)

    def _inner_hazards(self, node: Expression) -> list[sql.Composable]:
        """The hazards of ``node`` without those inside of its boolean parts, which raise no errors any more."""
        values = [part for part in parts(node) if part.type != BOOL]
        return [hazard for part in values for hazard in self._inner_hazards(part)] + self._own_hazards(node)

    def _own_hazards(self, node: Expression) -> list[sql.Composable]:
        if not isinstance(node, Call) or node.operation.hazard is None:
            return []
        present = sql.SQL(" AND ").join(
            sql.SQL("{} IS NOT NULL").format(self.value(argument)) for argument in node.arguments
        )
        return [_case([(present, node.operation.hazard.format(*self._inputs(node)))], _FALSE)]

    def _reached(self, operands: Sequence[Expression], decides: sql.SQL) -> sql.Composable:
        """Whether one of ``operands`` fails before one decides the whole."""
        last = max(place for place, operand in enumerate(operands) if can_fail(operand))
        cases: list[tuple[sql.Composable, sql.Composable]] = []
        for operand in operands[: last + 1]:
            cases += [(hazard, _TRUE) for hazard in self.hazards(operand)]
            cases.append((decides.format(self.value(operand)), _FALSE))
        return _case(cases[:-1], _FALSE)
