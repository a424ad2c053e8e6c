"""The command line: one module per command, none of which knows how things work inside."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version

import click

_COMMANDS = {
    "check": ("leyden.cli.check", "check"),
    "start": ("leyden.cli.start", "start"),
    "demo": ("leyden.cli.demo", "demo"),
    "keys": ("leyden.cli.keys", "keys"),
    "token": ("leyden.cli.token", "token"),
    "shape": ("leyden.cli.shape", "shape"),
    "revoke": ("leyden.cli.revoke", "revoke"),
    "rejected": ("leyden.cli.rejected", "rejected"),
    "sessions": ("leyden.cli.sessions", "sessions"),
    "admin": ("leyden.cli.admin", "admin"),
}


class _Lazy(click.Group):
    """Loads a command's module when it is asked for: `leyden token explain` needs no service."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("leyden"), prog_name="leyden")
def main() -> None:
    """Keeps a SQLite database in every user's browser in step with one Postgres.

    \b
    Try it:         leyden demo
    Run it:         leyden keys new ES256   (prints the settings to use)
                    DATABASE_URL=postgresql://… AUTH_JWT_ALG=ES256 AUTH_JWT_KEY=… leyden start
    """
