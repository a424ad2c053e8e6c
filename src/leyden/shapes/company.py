"""Why a row comes along with others, or does not: an explanation for rows that hang on those that were asked for."""

from __future__ import annotations

from leyden.auth import Check, printable
from leyden.model import Row, Table
from leyden.shapes.explanation import Explanation, shown
from leyden.shapes.groups import Group
from leyden.shapes.reasons import Step, way
from leyden.shapes.standing import Standing
from leyden.shapes.tree import Tree
from leyden.shapes.understanding import Understanding
from leyden.shapes.versions import AsOf, Version, version_of
from leyden.shapes.where import owner_predicate

_COMPANY_CHECK = "row comes along"


def tables_needed(understanding: Understanding, table: Table) -> list[Table]:
    """The tables whose rows tell whether a row of ``table`` comes along; none if it never does."""
    part = None if understanding.shape is None else understanding.shape.part
    if part is None or isinstance(part, Group) or table.id not in part.tables:
        return []
    return list(part.needed.values())


def explain_stranger(understanding: Understanding, table: Table) -> Explanation:
    """Of any row of ``table``, when none comes along with such a subscription."""
    assert understanding.shape is not None
    asked = printable(understanding.shape.table.name)
    reason = f"no foreign key leads to {printable(table.name)} from a subscription to {asked} and what it includes"
    return Explanation(
        "withheld",
        f"Does not reach the client: {reason}",
        (*understanding.checks, Check(_COMPANY_CHECK, "fail", reason)),
        claims=understanding.claims_used,
    )


def explain_company(understanding: Understanding, table: Table, row: Row, at: AsOf) -> Explanation:
    """Of ``row`` of ``table``; ``at`` has the tables needed."""
    assert understanding.shape is not None
    part = understanding.shape.part
    assert isinstance(part, Tree)
    steps = way(Standing(part, at), version_of(table, row))
    if steps is None:
        reason = _refusal(understanding, part, table, row, at)
        outcome, sentence = Check(_COMPANY_CHECK, "fail", reason), f"Does not reach the client: {reason}"
    else:
        reason = _told(steps) or "the filter of the subscription is true for it"
        outcome, sentence = Check(_COMPANY_CHECK, "pass", reason), f"Reaches the client: {reason}"
    return Explanation(
        "withheld" if steps is None else "reaches",
        sentence,
        (*understanding.checks, outcome),
        claims=understanding.claims_used,
        row=tuple(shown(table, row)),
    )


def _told(steps: list[Step]) -> str:
    parts = []
    for number, step in enumerate(steps):
        this = "it" if not number else _named(step.version)
        columns = ", ".join(step.edge.child.columns[place].name for place in step.edge.child_places)
        if _refers(step.other, step, step.version):
            parts.append(f"{_named(step.other)} refers to {this} ({columns})")
        else:
            parts.append(f"{this} refers to {_named(step.other)} ({columns}), with which such rows are included")
    if parts:
        parts.append(f"the filter of the subscription is true for {_named(steps[-1].other)}")
    return "; ".join(parts)


def _refers(child: Version, step: Step, parent: Version) -> bool:
    edge = step.edge
    if (child.table.id, parent.table.id) != (edge.child.id, edge.parent.id):
        return False
    here = [child.row[place] for place in edge.child_places]
    return here == [parent.row[place] for place in edge.parent_places]


def _refusal(understanding: Understanding, tree: Tree, table: Table, row: Row, at: AsOf) -> str:
    user_id = understanding.claims.user_id
    own = None if user_id is None else owner_predicate(table, user_id)
    if own is not None and own.matches(row) is not True:
        return "it belongs to another user, so that it does not come along even if other rows refer to it"
    rights = tree.owners.get(table.id)
    if rights is not None and not rights.holds(row, at):
        return "policies do not let it through, so that it does not come along even if other rows refer to it"
    if tree.root.table.id == table.id:
        return "the filter of the subscription is not true for it, and no row that the client has brings it along"
    return "no row that the client has brings it along"


def _named(version: Version) -> str:
    literals = {name: literal for name, _, literal in shown(version.table, version.row)}
    return f"{printable(version.table.name)} {', '.join(literals[name] for name in version.table.primary_key)}"
