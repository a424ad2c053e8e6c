"""What is wrong with a configuration, said so that it can be put right.

Owns the error a bad environment gives: every mistake at once, each under its variable's name with its
remedy. No value of a variable is ever part of a sentence, because any of them may be a secret pasted into
the wrong place.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: `message` completes the sentence begun by `variable`; `remedy` says what to do."""

    variable: str
    message: str
    remedy: str


class ConfigurationError(Exception):
    """The environment does not make a configuration. Commands print it and exit with status 2."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return self.format()

    def format(self) -> str:
        """All problems as text for a terminal, ending without a newline."""
        lines = ["CONFIGURATION ERROR", ""]
        for problem in self.problems:
            lines += [f"  {problem.variable} {problem.message}", f"      → {problem.remedy}"]
        return "\n".join(lines)


class Unusable(ValueError):
    """A value does not follow its variable's rule; becomes a `Problem` once the variable is known."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
