"""How commands meet a bad configuration: the problems on stderr, exit status 2, nothing else done."""

from __future__ import annotations

import os
import sys
from typing import Final

import click

from leyden.auth import AuthSettings
from leyden.config import ConfigurationError, load_auth_settings

CONFIGURATION_EXIT: Final = 2


def auth_settings() -> AuthSettings:
    """The AUTH_* settings of this process's environment; ends the process when they are wrong."""
    try:
        return load_auth_settings(os.environ)
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(CONFIGURATION_EXIT)
