"""Parts of the configuration, for commands that need no more: an operator's shell has the database's address, not the
keys.

Owns which variables such a part consists of. What they mean and how they are read is said where the whole
configuration is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from .database import parse_database_url
from .problems import ConfigurationError
from .settings import Settings
from .values import boolean, integer
from .variables import Variables

_CENTURY: Final = 100 * 366 * 86_400


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Where the database is, and how long tokens live that it may have to tell apart."""

    conninfo: str | None = field(repr=False)
    """The libpq connection string, password included; None without DATABASE_URL."""
    data_dir: Path
    """Where the embedded Postgres lies that is used then."""
    max_token_lifetime: int
    """AUTH_JWT_MAX_LIFETIME in seconds; 0 when there is no limit, or none is known here."""


def load_database_settings(env: Mapping[str, str]) -> DatabaseSettings:
    """DATABASE_URL, DATABASE_REQUIRE_SSL, LEYDEN_DATA_DIR and AUTH_JWT_MAX_LIFETIME alone; raises
    `ConfigurationError` with every problem there is."""
    variables = Variables(env)
    address = variables.read("DATABASE_URL", parse_database_url, None)
    require_ssl = variables.read("DATABASE_REQUIRE_SSL", boolean, None)
    max_lifetime = variables.read("AUTH_JWT_MAX_LIFETIME", partial(integer, least=0, most=_CENTURY), 0)
    if variables.problems:
        raise ConfigurationError(tuple(variables.problems))
    data_dir = variables.text("LEYDEN_DATA_DIR")
    return DatabaseSettings(
        conninfo=None if address is None else address.conninfo(require_ssl=require_ssl),
        data_dir=Settings.model_fields["data_dir"].default if data_dir is None else Path(data_dir),
        max_token_lifetime=max_lifetime,
    )
