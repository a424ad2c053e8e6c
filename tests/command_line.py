"""The command line as a shell would drive it, for tests."""

from __future__ import annotations

import os

from click.testing import CliRunner, Result

from leyden.cli import main


def run(*arguments: str, env: dict[str, str] | None = None, stdin: str | bytes | None = None) -> Result:
    """`leyden ARGUMENTS` with the settings of `env` and no others."""
    ours = ("AUTH_", "DATABASE_", "LEYDEN_")
    environment: dict[str, str | None] = {name: None for name in os.environ if name.startswith(ours)}
    result = CliRunner().invoke(main, arguments, env=environment | (env or {}), input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def settings_in(output: str) -> dict[str, str]:
    """Lines NAME=value as an environment."""
    return dict(line.split("=", 1) for line in output.splitlines())
