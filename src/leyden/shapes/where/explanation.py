"""What a clause makes of one row, node by node, for the person who asks why a row is not in a shape.

Every value comes from the functions that judge rows for clients; nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from leyden.model import Row
from leyden.shapes.where.claims import Claims, bound
from leyden.shapes.where.evaluation import evaluator
from leyden.shapes.where.spelling import as_written, form_of, spelled, value_text
from leyden.shapes.where.sqltypes import BOOL, SqlType
from leyden.shapes.where.tree import And, ClaimRef, ColumnRef, Constant, Expression, parts, walk
from leyden.shapes.where.values import Unevaluable


@dataclass(frozen=True, slots=True)
class Finding:
    """One node with its value for a row. ``parts`` are the nodes that it is made of, but for constants."""

    node: Expression
    form: str | None
    """The value in its text form, ``None`` for NULL."""
    failed: bool = False
    """Postgres would raise an error; there is no value then."""
    parts: tuple[Finding, ...] = ()

    @property
    def type(self) -> SqlType:
        return self.node.type

    @property
    def is_condition(self) -> bool:
        return self.type == BOOL

    @property
    def is_true(self) -> bool:
        return self.form == "t" and self.is_condition

    @property
    def text(self) -> str:
        """The node as somebody would write it."""
        return spelled(self.node)

    @property
    def value(self) -> str:
        """The value as a literal, or the word error."""
        return "error" if self.failed else value_text(self.type, self.form)

    @property
    def sentence(self) -> str:
        """What came of the node."""
        if self.failed and isinstance(self.node, ClaimRef):
            return f"{self.text} has no single text"
        return f"{self.text} cannot be computed" if self.failed else f"{self.text} is {self.value}"


def examine(tree: Expression, row: Row, claims: Claims) -> Finding:
    """Every node of a clause's tree, whose claims are still open, for ``row`` and a client with ``claims``."""
    return _examined(as_written(tree), row, claims)


def _examined(node: Expression, row: Row, claims: Claims) -> Finding:
    found = tuple(_examined(part, row, claims) for part in parts(node) if not isinstance(part, Constant))
    try:
        # A column is shown as the row has it, even where its values are only looked at for NULL.
        if isinstance(node, ColumnRef):
            value = row[node.index]
            return Finding(node, None if value is None else value.decode())
        return Finding(node, form_of(node.type, evaluator(bound(node, claims))(row)), parts=found)
    except Unevaluable:
        return Finding(node, None, failed=True, parts=found)


def decisive(finding: Finding) -> Finding:
    """The smallest part of a clause that is not true because of which the whole is not."""
    if isinstance(finding.node, And):
        for part in finding.parts:
            if (part.form, part.failed) == (finding.form, finding.failed):
                return decisive(part)
    return finding


def operands(finding: Finding) -> Iterator[Finding]:
    """The columns and claims that a node looks at, each once."""
    seen: set[Expression] = set()
    for one in _all(finding):
        if isinstance(one.node, ColumnRef | ClaimRef) and one is not finding and one.node not in seen:
            seen.add(one.node)
            yield one


def _all(finding: Finding) -> Iterator[Finding]:
    yield finding
    for part in finding.parts:
        yield from _all(part)


def claims_in(tree: Expression, claims: Claims) -> tuple[Finding, ...]:
    """The claims that a clause uses, with what a client has there, in the order in which they are written."""
    references = dict.fromkeys(node for node in walk(tree) if isinstance(node, ClaimRef))
    return tuple(_examined(reference, (), claims) for reference in references)
