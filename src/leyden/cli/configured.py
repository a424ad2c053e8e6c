"""How commands meet a bad configuration: the problems on stderr, exit status 2, nothing else done."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click

from leyden.auth import AuthSettings
from leyden.config import ConfigurationError, DatabaseSettings, load_auth_settings, load_database_settings

CONFIGURATION_EXIT: Final = 2


def auth_settings() -> AuthSettings:
    """The AUTH_* settings of this process's environment; ends the process when they are wrong."""
    try:
        return load_auth_settings(os.environ)
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(CONFIGURATION_EXIT)


def database_settings() -> DatabaseSettings:
    """Where this process's environment says that the database is; ends the process when it says it wrongly."""
    try:
        return load_database_settings(os.environ)
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(CONFIGURATION_EXIT)


def conninfo(settings: DatabaseSettings, data_dir: Path | None = None) -> str:
    """Connection string of the configured database, or without one of the embedded Postgres that a service runs here.

    `data_dir` counts instead of LEYDEN_DATA_DIR. Raises `click.ClickException` when there is neither.
    """
    if settings.conninfo is not None:
        if data_dir is not None:
            raise click.UsageError(
                "DATABASE_URL is set: leave --data-dir out, or unset it to use the embedded Postgres"
            )
        return settings.conninfo
    # Imported late: it is needed for development only.
    from leyden.postgres.embedded import running_dsn

    directory = data_dir or settings.data_dir
    found = running_dsn(directory.resolve() / "postgres")
    if found is None:
        raise click.ClickException(
            f"DATABASE_URL is not set, and no embedded Postgres runs in {directory}; set DATABASE_URL as for the"
            " service, or start the service"
        )
    return found
