"""`leyden admin`: credentials for the admin API.

Owns the tokens file's growth: a line is added, never changed. A secret is printed once and written nowhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from leyden.edge.admin.credentials import (
    SCOPES,
    Credential,
    InvalidCredentials,
    Scope,
    new_credential,
    parse_credentials,
)

_FILE_MODE: Final = 0o640


@click.group()
def admin() -> None:
    """Credentials for the admin API.

    Example: leyden admin token new ops --scope sessions --scope status
    """


@admin.group()
def token() -> None:
    """Make secrets for those who run the service. They are no tokens of users, and no such token opens the admin API.

    Example: leyden admin token new ops --scope sessions --scope status
    """


@token.command("new")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="What it may do: see the status, read metrics, revoke tokens, see and end sessions. May be repeated.",
)
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Add the line to this tokens file, made if missing, instead of printing it.",
)
def new(name: str, scopes: tuple[Scope, ...], path: Path | None) -> None:
    """Print a fresh secret for NAME, and its line for the file that ADMIN_TOKENS_FILE names.

    The secret is shown this once: give it to whoever calls, as a bearer token or as LEYDEN_ADMIN_TOKEN. The line
    holds its hash alone. The service reads the file when it starts.

    \b
    Example:
      umask 077; leyden admin token new grafana --scope metrics --file admin-tokens > grafana.secret
    """
    try:
        credential, secret = new_credential(name, scopes)
    except ValueError as reason:
        raise click.UsageError(str(reason)) from None
    if path is None:
        click.echo("Line for the file of ADMIN_TOKENS_FILE:", err=True)
        click.echo(f"  {credential.line}", err=True)
    else:
        _add(path, credential)
        click.echo(f"Added {name} to {path}; start the service anew with ADMIN_TOKENS_FILE={path}", err=True)
    click.echo("Secret, shown this once:", err=True)
    click.echo(secret)


def _add(path: Path, credential: Credential) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, _FILE_MODE)
        with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
            text = file.read()
            separator = "" if not text or text.endswith("\n") else "\n"
            parse_credentials(f"{text}{separator}{credential.line}\n")
            file.write(f"{separator}{credential.line}\n")
    except InvalidCredentials as reason:
        raise click.ClickException(f"{path} with this line {reason}; nothing was added") from None
    except UnicodeDecodeError:
        raise click.ClickException(f"{path} is not UTF-8; nothing was added") from None
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None
