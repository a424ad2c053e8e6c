"""The whole configuration of one service, read from the environment once at start.

Owns names and defaults of every variable but AUTH_*, which `authentication`, `admission` and `roles` read, and those of
the admin API, which `admin` reads. Variables of the older service that no longer mean anything (its Postgres proxy,
logical publisher, feature flags, telemetry) are accepted and ignored.
"""

from __future__ import annotations

import ipaddress
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from leyden.auth import AuthSettings, KeyRing
from leyden.edge.access.authors import RolePolicy
from leyden.edge.admission import AdmissionPolicy

from .admin import AdminSettings, load_admin_settings
from .admission import load_admission_policy
from .authentication import load_auth_settings
from .database import DatabaseAddress, parse_database_url
from .problems import ConfigurationError, Problem, Unusable
from .roles import load_role_policy
from .values import boolean, choice, integer, size

_EVERY_INTERFACE: Final = "0.0.0.0"  # noqa: S104  the service is there to be reached

LogLevel = Literal["critical", "error", "warning", "info", "debug"]

_LOG_LEVELS: Final[Mapping[str, LogLevel]] = {
    "error": "error",
    "warning": "warning",
    "info": "info",
    "debug": "debug",
    "emergency": "critical",
    "alert": "critical",
    "critical": "critical",
    "warn": "warning",
    "notice": "info",
}


def _log_level(text: str) -> LogLevel:
    return _LOG_LEVELS[choice(text.strip().lower(), tuple(_LOG_LEVELS))]


def _port(text: str) -> int:
    return integer(text, 0, 65_535)


def _retention(text: str) -> int:
    seconds = integer(text, 0, 3_153_600_000)
    if 0 < seconds < 3600:
        raise Unusable("is shorter than an hour", "use 3600 or more, or 0 to keep them for ever")
    return seconds


def _log_format(text: str) -> str:
    return choice(text.strip(), ("text", "json"))


def _write_mode(text: str) -> str:
    if text == "logical_replication":
        raise Unusable("asks for logical_replication, which is not supported", "use direct_writes or unset it")
    return choice(text, ("direct_writes",))


def _database(value: object) -> object:
    return parse_database_url(value) if isinstance(value, str) else value


Size = Annotated[int, BeforeValidator(lambda value: size(value) if isinstance(value, str) else value)]
Flag = Annotated[bool, BeforeValidator(lambda value: boolean(value) if isinstance(value, str) else value)]


class Settings(BaseSettings):
    """Every decision of the operator. Fields are named after their variables; sizes are bytes."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        validate_default=False,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )

    auth: AuthSettings
    auth_env: Mapping[str, str] = Field(default_factory=dict, repr=False)
    """The variables that `auth` was read from: they are read again when a key file changes."""
    admission: AdmissionPolicy
    roles: RolePolicy = RolePolicy()
    admin: AdminSettings | None = None
    """None without ADMIN_TOKENS_FILE: then there is no admin API."""
    http_host: str
    """LEYDEN_HTTP_HOST; without it every interface in secure mode, this machine only in insecure mode."""
    database: Annotated[DatabaseAddress | None, BeforeValidator(_database)] = Field(None, alias="DATABASE_URL")
    """None means the service brings its own Postgres in `data_dir`."""
    database_require_ssl: Flag | None = Field(None, alias="DATABASE_REQUIRE_SSL")
    database_use_ipv6: Flag = Field(False, alias="DATABASE_USE_IPV6")
    """Kept for old environments; libpq tries every address of the host anyway."""
    http_port: Annotated[int, BeforeValidator(_port)] = Field(5133, alias="HTTP_PORT")
    """0 lets the system choose a free port."""
    write_mode: Annotated[str, AfterValidator(_write_mode)] = Field("direct_writes", alias="ELECTRIC_WRITE_TO_PG_MODE")
    resumable_wal_window: Size = Field(2 * 2**30, alias="ELECTRIC_RESUMABLE_WAL_WINDOW")
    txn_cache_size: Size = Field(256 * 2**20, alias="ELECTRIC_TXN_CACHE_SIZE")
    tombstone_retention: Annotated[int, BeforeValidator(_retention)] = Field(
        90 * 86_400, alias="LEYDEN_TOMBSTONE_RETENTION"
    )
    """Seconds; 0 means for ever."""
    instance_id: str = Field(default_factory=lambda: str(uuid.uuid4()), alias="ELECTRIC_INSTANCE_ID")
    log_level: Annotated[LogLevel, BeforeValidator(_log_level)] = Field("info", alias="LOG_LEVEL")
    log_format: Annotated[Literal["text", "json"], BeforeValidator(_log_format)] = Field(
        "text", alias="LEYDEN_LOG_FORMAT"
    )
    data_dir: Path = Field(Path(".leyden"), alias="LEYDEN_DATA_DIR")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The environment is handed over by `load_settings`; nothing may be read behind its back.
        return (init_settings,)

    @property
    def database_conninfo(self) -> str | None:
        """The libpq connection string, password included; None without DATABASE_URL."""
        if self.database is None:
            return None
        return self.database.conninfo(require_ssl=self.database_require_ssl)

    def read_keys_again(self) -> KeyRing:
        """The keys as their files are now; raises `ValueError`, with a text that names no value."""
        try:
            return load_auth_settings(self.auth_env).ring
        except ConfigurationError as error:
            reasons = "; ".join(f"{problem.variable} {problem.message}" for problem in error.problems)
            raise ValueError(reasons) from None


_VARIABLES: Final = tuple(str(field.alias) for field in Settings.model_fields.values() if field.alias)
# Set to nothing at all is a mistake for these; elsewhere blank means unset.
_BLANK_COUNTS: Final = frozenset({"ELECTRIC_WRITE_TO_PG_MODE"})


def load_settings(env: Mapping[str, str] | None = None) -> Settings:
    """The configuration `env` (the process's environment by default) describes.

    Raises `ConfigurationError` with every mistake found, whatever its kind.
    """
    if env is None:
        env = os.environ
    problems: list[Problem] = []
    auth: AuthSettings | None = None
    try:
        auth = load_auth_settings(env)
    except ConfigurationError as error:
        problems += error.problems
    try:
        admission = load_admission_policy(env, auth)
    except ConfigurationError as error:
        problems += error.problems
        admission = AdmissionPolicy(loopback_only=True)
    roles = RolePolicy()
    try:
        roles = load_role_policy(env)
    except ConfigurationError as error:
        problems += error.problems
    admin: AdminSettings | None = None
    try:
        admin = load_admin_settings(env)
    except ConfigurationError as error:
        problems += error.problems
    given: dict[str, Any] = {
        name: env[name] for name in _VARIABLES if name in env and (env[name].strip() or name in _BLANK_COUNTS)
    }
    host = env.get("LEYDEN_HTTP_HOST", "").strip().strip("[]")
    if auth is not None and auth.insecure:
        host = host or "127.0.0.1"
        if not auth.insecure_public and not _is_loopback(host):
            problems.append(
                Problem(
                    "LEYDEN_HTTP_HOST",
                    "opens insecure mode to other machines, where anyone may claim to be any user",
                    "set AUTH_MODE=secure, or unset it; AUTH_INSECURE_PUBLIC=yes allows it knowingly",
                )
            )
    try:
        # The stand-ins let the other fields be judged after AUTH_* failed; they never get out of here.
        settings = Settings(
            auth=auth or AuthSettings("insecure"),
            auth_env={name: value for name, value in env.items() if name.startswith("AUTH_")},
            admission=admission,
            roles=roles,
            admin=admin,
            http_host=host or _EVERY_INTERFACE,
            **given,
        )
    except ValidationError as error:
        problems += [_problem(detail) for detail in error.errors(include_url=False, include_input=False)]
        raise ConfigurationError(tuple(problems)) from None
    if admin is not None and admin.port == settings.http_port != 0:
        problems.append(Problem("LEYDEN_ADMIN_PORT", "is the port of HTTP_PORT as well", "set it to another one"))
    if problems:
        raise ConfigurationError(tuple(problems))
    return settings


def _problem(detail: Any) -> Problem:
    variable = str(detail["loc"][0])
    reason = detail.get("ctx", {}).get("error")
    if isinstance(reason, Unusable):
        return Problem(variable, reason.message, reason.remedy)
    return Problem(variable, "has an invalid value", "see the manual's list of settings")


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
