"""The configuration: environment variables in, one frozen `Settings` or every mistake at once out."""

from .admin import DEFAULT_ADMIN_PORT, AdminSettings
from .authentication import load_auth_settings
from .database import DatabaseAddress, parse_database_url
from .partial import DatabaseSettings, load_database_settings
from .problems import ConfigurationError, Problem
from .roles import load_role_policy
from .settings import LogLevel, Settings, load_settings

__all__ = [
    "DEFAULT_ADMIN_PORT",
    "AdminSettings",
    "ConfigurationError",
    "DatabaseAddress",
    "DatabaseSettings",
    "LogLevel",
    "Problem",
    "Settings",
    "load_auth_settings",
    "load_database_settings",
    "load_role_policy",
    "load_settings",
    "parse_database_url",
]
