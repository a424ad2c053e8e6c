"""Why a row does or does not reach a client: the checks that the service makes, in order, each with its result.

Pure. :mod:`~leyden.shapes.understanding` says what the subscription is; with what Postgres then tells of its rows, one
of the functions here makes the :class:`Explanation`. Whether a row is in the shape is asked of the service's own
:class:`~leyden.shapes.groups.Group`, and compared with the other ways to know it: a difference is a defect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from psycopg.sql import Composable

from leyden.auth import Check, printable
from leyden.model import Row, Table
from leyden.shapes.request import Shape
from leyden.shapes.understanding import Understanding, skipped
from leyden.shapes.versions import AsOf
from leyden.shapes.where import OWNER_COLUMN, Claims, owner_predicate
from leyden.shapes.where.explanation import Finding, decisive, examine, operands
from leyden.shapes.where.spelling import quoted, value_text
from leyden.shapes.where.sqltypes import type_of_column

#: ``explained`` when no row was asked for, ``defect`` when Leyden and Postgres differ about one.
Verdict = Literal["reaches", "withheld", "absent", "refused", "explained", "defect"]

PASSING_CHECK = "row passes the filter"

_PRESENCE_CHECK = "row is in Postgres"
_OWNED_CHECK = "row is the user's or nobody's"
_POLICIES_CHECK = "policies let the row through"
_AGREEMENT_CHECK = "Postgres says the same"

#: Columns and claims that a sentence names, and characters of a key.
_MOST_NAMED = 6
_LONGEST_KEY = 256


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict in one sentence, and all it follows from. Names of columns and what Postgres says stand in the texts
    as they are, so that whoever prints them has to escape them."""

    verdict: Verdict
    sentence: str
    checks: tuple[Check, ...]
    position: int | None = None
    """The character of the filter at which it was refused, if that is what was refused."""
    claims: tuple[Finding, ...] = ()
    """Those that the filter uses, with their values."""
    filter: Finding | None = None
    """Its nodes with their values for the row."""
    row: tuple[tuple[str, str | None, str], ...] = ()
    """Each column: its name, the value's text form, and the value as a literal."""
    count: int | None = None
    """How many rows the subscription selects at present, if it was asked."""
    condition: Composable | None = None
    """What selects its rows in Postgres, on the alias ``this``; ``None`` for all of them."""
    notes: tuple[str, ...] = ()

    @property
    def reaches(self) -> bool | None:
        """``None`` when no row was asked for, or nobody can tell."""
        return None if self.verdict in ("explained", "defect") else self.verdict == "reaches"


def explain_refusal(understanding: Understanding) -> Explanation:
    """Of a subscription that is refused."""
    failed = next(check for check in understanding.checks if check.outcome == "fail")
    return Explanation(
        "refused",
        f"Refused, so that no row reaches the client: {failed.detail}",
        understanding.checks,
        position=understanding.position,
    )


def explain_count(understanding: Understanding, count: int) -> Explanation:
    """Of a subscription that selects ``count`` rows at present."""
    shape = _shape_of(understanding)
    reach = "1 row reaches" if count == 1 else f"{count} rows reach"
    return Explanation(
        "explained",
        f"At present {reach} such a client through a subscription to {printable(shape.table.name)}",
        understanding.checks,
        claims=understanding.claims_used,
        count=count,
        condition=understanding.condition,
        notes=understanding.notes,
    )


def explain_absence(understanding: Understanding, key: str) -> Explanation:
    """Of a row that Postgres does not have; ``key`` is how it was asked for."""
    missing = f"there is no row with the key {printable(key, _LONGEST_KEY)}"
    rest = skipped(_OWNED_CHECK, PASSING_CHECK, _AGREEMENT_CHECK)
    return Explanation(
        "absent",
        f"Does not reach the client: {missing}",
        (*understanding.checks, Check(_PRESENCE_CHECK, "fail", missing), *rest),
        claims=understanding.claims_used,
        condition=understanding.condition,
        notes=understanding.notes,
    )


def explain_row(understanding: Understanding, row: Row, selected: bool, at: AsOf | None = None) -> Explanation:
    """Of ``row``, which Postgres has, and of which it says whether the subscription's condition is true. ``at`` has the
    tables that policies look at."""
    shape, where, claims = _shape_of(understanding), understanding.where, understanding.claims
    table = shape.table
    values = tuple(shown(table, row))
    literals = {name: literal for name, _, literal in values}
    found = None if where is None else examine(where.tree, row, claims)
    owner, passing = _owner(table, row, claims, literals), _passing(found)
    policed = _policed(understanding, row, at)
    judged = shape.root.holds(row, at)
    # Three ways to one answer: by the service's own predicate, by Postgres, and node by node.
    outcomes = [owner.outcome, passing.outcome, *(one.outcome for one in policed)]
    agreed = judged == selected == ("fail" not in outcomes)
    verdict: Verdict = "defect" if not agreed else "reaches" if judged else "withheld"
    return Explanation(
        verdict,
        _reason(judged, [owner, *policed], found) if agreed else _defect(judged, selected),
        (
            *understanding.checks,
            Check(_PRESENCE_CHECK, "pass", ", ".join(f"{name} is {literals[name]}" for name in table.primary_key)),
            owner,
            *policed,
            passing,
            Check(_AGREEMENT_CHECK, "pass" if agreed else "fail", _selection(selected)),
        ),
        claims=understanding.claims_used,
        filter=found,
        row=values,
        condition=understanding.condition,
        notes=understanding.notes,
    )


def _shape_of(understanding: Understanding) -> Shape:
    if understanding.shape is None:
        raise ValueError("a subscription that is refused selects no rows")
    return understanding.shape


def shown(table: Table, row: Row) -> list[tuple[str, str | None, str]]:
    shown = []
    for column, value in zip(table.columns, row, strict=True):
        form = None if value is None else value.decode()
        shown.append((column.name, form, value_text(type_of_column(column, table), form)))
    return shown


def _owner(table: Table, row: Row, claims: Claims, literals: dict[str, str]) -> Check:
    own = None if claims.user_id is None else owner_predicate(table, claims.user_id)
    if own is None or claims.user_id is None:
        return Check(_OWNED_CHECK, "skipped", "it has no owner")
    owner = f"{OWNER_COLUMN} is {literals[OWNER_COLUMN]}"
    if own.matches(row) is True:
        return Check(_OWNED_CHECK, "pass", owner)
    return Check(_OWNED_CHECK, "fail", f"{owner}, and the client's user is {quoted(claims.user_id)}")


def _policed(understanding: Understanding, row: Row, at: AsOf | None) -> list[Check]:
    if understanding.role is None:
        return []
    group, role = understanding.policed, printable(understanding.role)
    if group is None:
        return [Check(_POLICIES_CHECK, "skipped", "there are none, or they let every row through")]
    if group.holds(row, at):
        return [Check(_POLICIES_CHECK, "pass", f"the policies for role {role} let it through")]
    return [Check(_POLICIES_CHECK, "fail", f"the policies for role {role} do not let it through")]


def _passing(found: Finding | None) -> Check:
    if found is None:
        return Check(PASSING_CHECK, "skipped", "there is none")
    return Check(PASSING_CHECK, "pass" if found.is_true else "fail")


def _selection(selected: bool) -> str:
    return "it selects the row" if selected else "it does not select the row"


def _defect(judged: bool, selected: bool) -> str:
    own = f"by its own judgement the row {'reaches' if judged else 'does not reach'} the client"
    other = f"Postgres says that {_selection(selected)}" if judged != selected else "the filter's nodes say otherwise"
    return f"A DEFECT OF LEYDEN: {own}, but {other}. Please report it, with all of this"


def _reason(reaches: bool, rights: list[Check], found: Finding | None) -> str:
    if reaches:
        why = "the subscription is to all rows" if found is None else "the filter is true for the row"
        return f"Reaches the client: {why}" + "".join(f", and {one.detail}" for one in rights if one.outcome == "pass")
    failed = next((one for one in rights if one.outcome == "fail"), None)
    if failed is not None or found is None:
        return f"Does not reach the client: {(failed or rights[0]).detail}"
    cause = decisive(found)
    looked_at = [one.sentence for one in operands(cause)][:_MOST_NAMED]
    values = f" ({', '.join(looked_at)})" if looked_at else ""
    only = "; only true passes" if cause.failed or cause.form is None else ""
    return f"Does not reach the client: {cause.sentence}{values}{only}"
