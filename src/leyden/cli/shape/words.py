"""An explanation of a shape, for people and for programs.

Rows, claims, filters and names may be anybody's: whatever is printed here goes through :func:`visible`, or is JSON in
ASCII, so that nothing of it can move the cursor, begin a line or turn the direction of writing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from leyden.shapes.explanation import PASSING_CHECK, Explanation
from leyden.shapes.understanding import FILTER_CHECK
from leyden.shapes.where.explanation import Finding

from ..checks import INDENT, check_lines, check_members

#: Characters of a line that are shown, and of a filter on each side of the place where it was refused.
_LONGEST: Final = 500
_AROUND: Final = 40


def visible(text: str) -> str:
    """`text` with every character that is not printed as itself escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def sentences(explanation: Explanation, where: str) -> Iterator[str]:
    """The explanation for a terminal; `where` is the filter as it was given."""
    for line in _sentences(explanation, where):
        yield visible(line if len(line) <= _LONGEST else line[:_LONGEST] + "…")
    if explanation.verdict == "defect" and explanation.condition is not None:
        yield visible(f"Condition: {explanation.condition.as_string(None)}")


def _sentences(explanation: Explanation, where: str) -> Iterator[str]:
    for check in explanation.checks:
        yield from check_lines(check)
        if check.name == FILTER_CHECK and explanation.position is not None:
            yield from _excerpt(where, explanation.position)
        if check.name == PASSING_CHECK and explanation.filter is not None:
            yield from _nodes(explanation.filter)
    if explanation.row:
        yield ""
        yield "The row:"
        for name, _, literal in explanation.row:
            yield f"  {name} = {literal}"
    yield ""
    yield explanation.sentence
    for note in explanation.notes:
        yield f"Note: {note}"


def _excerpt(where: str, position: int) -> Iterator[str]:
    start = max(position - _AROUND, 0)
    before = ("…" if start else "") + visible(where[start:position])
    after = visible(where[position : position + _AROUND]) + ("…" if len(where) > position + _AROUND else "")
    yield f"{INDENT}{before}{after}"
    yield f"{INDENT}{' ' * len(before)}^"


def _nodes(finding: Finding, depth: int = 0) -> Iterator[str]:
    """Conditions with their values in front, whatever else they are made of with its value behind."""
    if finding.is_condition:
        yield f"{INDENT}{finding.value:<6} {'  ' * depth}{finding.text}"
    else:
        yield f"{INDENT}{'':<6} {'  ' * depth}{finding.sentence}"
    for part in finding.parts:
        yield from _nodes(part, depth + 1)


# ---- JSON -------------------------------------------------------------------------------------------------------


def json_line(explanation: Explanation) -> str:
    condition = explanation.condition
    return json.dumps(
        {
            "verdict": explanation.verdict,
            "reaches": explanation.reaches,
            "reason": explanation.sentence,
            "checks": [check_members(check) for check in explanation.checks],
            "position": explanation.position,
            "claims": [_members(claim) for claim in explanation.claims],
            "filter": None if explanation.filter is None else _members(explanation.filter),
            "row": {name: form for name, form, _ in explanation.row} or None,
            "count": explanation.count,
            "condition": None if condition is None else condition.as_string(None),
            "notes": list(explanation.notes),
        }
    )


def _members(finding: Finding) -> dict[str, Any]:
    """`value` is a boolean for conditions, else the value's text form; `failed` tells an error from NULL."""
    value = finding.is_true if finding.is_condition and finding.form is not None else finding.form
    return {
        "node": finding.text,
        "type": finding.type.name,
        "value": value,
        "failed": finding.failed,
        "parts": [_members(part) for part in finding.parts],
    }
