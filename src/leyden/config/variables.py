"""The environment while it is being read, and the problems found so far."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from .problems import Problem, Unusable

T = TypeVar("T")

MAX_FILE_BYTES: Final = 262_144
"""Largest file that a variable may name."""


class Variables:
    """Texts by variable name. Blank counts as unset. Nothing is trimmed: white space is part of a secret."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.problems: list[Problem] = []

    def text(self, name: str) -> str | None:
        """The value as it stands, or None when it is unset or blank."""
        value = self._env.get(name)
        return value if value is not None and value.strip() else None

    def raw(self, name: str) -> str | None:
        """The value, blank or not."""
        return self._env.get(name)

    def names(self, *prefixes: str) -> list[str]:
        """The variables that begin with one of `prefixes`, sorted."""
        return sorted(name for name in self._env if name.startswith(prefixes))

    def problem(self, variable: str, message: str, remedy: str) -> None:
        self.problems.append(Problem(variable, message, remedy))

    def faulty(self, *prefixes: str) -> bool:
        """Whether a problem was noted for a variable that begins with one of `prefixes`."""
        return any(problem.variable.startswith(prefixes) for problem in self.problems)

    def read(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """`parse` applied to the value, or `default` when it is unset or unusable (then with a problem
        noted)."""
        text = self.text(name)
        if text is None:
            return default
        try:
            return parse(text)
        except Unusable as reason:
            self.problem(name, reason.message, reason.remedy)
            return default

    def file(self, name: str) -> bytes | None:
        """The content of the file the variable names; None when it is unset, or unusable (then with a problem
        noted)."""
        path = self.text(name)
        if path is None:
            return None
        try:
            with Path(path).open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
                writable_by_all = os.fstat(file.fileno()).st_mode & stat.S_IWOTH
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "unusable path"
            self.problem(name, f"names a file that cannot be read: {reason}", "check its path and permissions")
            return None
        if not content.strip() or len(content) > MAX_FILE_BYTES:
            self.problem(name, "names a file that is empty or too large", "check what was written to it")
            return None
        if writable_by_all:
            self.problem(name, "names a file that everybody may write to", "take that right away: chmod o-w")
            return None
        return content
