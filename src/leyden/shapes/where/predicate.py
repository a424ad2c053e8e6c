"""A clause made ready: one predicate in Python, in SQL and as a key, bound to the claims of a client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from psycopg.sql import Composable

from leyden.model import Row
from leyden.shapes.where import folding
from leyden.shapes.where.claims import Claims, bound
from leyden.shapes.where.equalities import Forms, equalities
from leyden.shapes.where.evaluation import Evaluator, evaluator
from leyden.shapes.where.normal_form import normal_form
from leyden.shapes.where.printing import condition, key_of
from leyden.shapes.where.tree import ClaimRef, ColumnRef, Expression, uses_claims, walk
from leyden.shapes.where.values import Unevaluable


@dataclass(frozen=True, slots=True)
class Predicate:
    """Which rows of one table a client is to have. Two with equal keys are the same predicate.

    ``matches`` takes a row and gives ``True``, ``False`` or ``None`` (NULL); only ``True`` is in the shape. An
    evaluation error is ``False``. ``sql`` gives the same for the row alias ``this``, in a session with the settings
    of :mod:`leyden.postgres.sessions`, and never raises an error. It goes into parentheses; a ``%`` in it is a
    character, so it is to be executed without parameters or with a raw cursor. ``equalities`` names columns whose
    text form must be among those given (``None``: NULL) for the predicate to be true.
    """

    key: str
    matches: Callable[[Row], bool | None] = field(compare=False, repr=False)
    equalities: Mapping[str, Forms] = field(compare=False, repr=False)
    tree: Expression = field(compare=False, repr=False)

    @property
    def sql(self) -> Composable:
        """Made anew each time, which takes longer than all the rest: only who reads a table needs it."""
        return condition(self.tree)


def predicate(node: Expression) -> Predicate:
    """The predicate that a boolean expression with all claims bound stands for."""
    tree = normal_form(node)
    return Predicate(
        key=key_of(tree),
        matches=_guarded(evaluator(tree)),
        equalities=equalities(tree),
        tree=tree,
    )


def conjunction(left: Predicate, right: Predicate) -> Predicate:
    """The rows that both predicates, on the same table, let pass."""
    return predicate(folding.all_of((left.tree, right.tree)))


def _guarded(function: Evaluator) -> Evaluator:
    def matches(row: Row) -> bool | None:
        try:
            value: bool | None = function(row)
        except Unevaluable:
            return False
        return value

    return matches


class Where:
    """A clause that was understood, its claims still open."""

    __slots__ = ("_paths", "_same_for_all", "tree", "uses_claims")

    def __init__(self, tree: Expression) -> None:
        self.tree = tree
        self._paths = sorted({one.path for one in walk(tree) if isinstance(one, ClaimRef) and one.path}, key=repr)
        self.uses_claims = uses_claims(tree)
        self._same_for_all = None if self.uses_claims else predicate(tree)

    @property
    def columns(self) -> frozenset[str]:
        """The names of the columns that it looks at."""
        return frozenset(one.name for one in walk(self.tree) if isinstance(one, ColumnRef))

    def bind(self, claims: Claims) -> Predicate:
        """The predicate for one client; one and the same object for all if no claims are used."""
        return self._same_for_all or predicate(bound(self.tree, claims))

    def claims_used(self, claims: Claims) -> str:
        """Stands for the values of the claims that this clause uses, so that a change of them is noticed; empty when
        it uses none. The user himself (``auth.sub``) is left out: a client never changes hands."""
        if not self._paths:
            return ""
        values = [(path, repr(bound(ClaimRef(path), claims))) for path in self._paths]
        return sha256(repr(values).encode("utf-8", "surrogatepass")).hexdigest()
