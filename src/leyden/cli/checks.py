"""Checks with their outcomes, as commands that explain something show them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from leyden.auth import Check

_MARKS: Final = {"pass": "ok     ", "fail": "FAILED ", "skipped": "-      "}

#: What stands before a line that belongs to the check above.
INDENT: Final = " " * 7


def check_lines(check: Check) -> Iterator[str]:
    """For a person: outcome and name, with the setting responsible in brackets, and what was found."""
    setting = f" [{check.setting}]" if check.setting else ""
    yield f"{_MARKS[check.outcome]}{check.name}{setting}"
    if check.detail:
        yield f"{INDENT}{check.detail}"


def check_members(check: Check) -> dict[str, str | None]:
    """For a program."""
    return {"name": check.name, "outcome": check.outcome, "detail": check.detail, "setting": check.setting}
