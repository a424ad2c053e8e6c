"""The variables of the admin API: ADMIN_TOKENS_FILE, which switches it on, LEYDEN_ADMIN_HOST and LEYDEN_ADMIN_PORT.

The rules on credentials are `leyden.edge.admin`'s; here each refusal gets its variable's name and a remedy.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from leyden.edge.admin.credentials import Credential, InvalidCredentials, parse_credentials
from leyden.edge.admission import is_loopback_host

from .problems import ConfigurationError
from .values import integer
from .variables import Variables

DEFAULT_ADMIN_HOST: Final = "127.0.0.1"
DEFAULT_ADMIN_PORT: Final = 5134

_FILE: Final = "ADMIN_TOKENS_FILE"
_HOST: Final = "LEYDEN_ADMIN_HOST"
_PORT: Final = "LEYDEN_ADMIN_PORT"
_REMEDY: Final = "`leyden admin token new NAME --scope SCOPE` prints such lines"


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """Where the admin API listens, and who may call it."""

    host: str
    port: int
    """0 lets the system choose a free one."""
    credentials: tuple[Credential, ...]
    warnings: tuple[str, ...] = ()
    """Sentences to log at every start."""

    @property
    def loopback_only(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback_host(f"[{self.host}]" if ":" in self.host else self.host)


def load_admin_settings(env: Mapping[str, str]) -> AdminSettings | None:
    """The admin API, None without ADMIN_TOKENS_FILE. Raises `ConfigurationError` with every problem there is."""
    variables = Variables(env)
    settings = _read(variables)
    if variables.problems:
        raise ConfigurationError(tuple(variables.problems))
    return settings


def _read(variables: Variables) -> AdminSettings | None:
    path = variables.text(_FILE)
    if path is None:
        for name in (_HOST, _PORT):
            if variables.text(name) is not None:
                variables.problem(name, f"has no effect without {_FILE}", f"set {_FILE} as well, or unset it")
        return None
    credentials = _credentials(variables)
    host = (variables.text(_HOST) or DEFAULT_ADMIN_HOST).strip().strip("[]")
    port = variables.read(_PORT, partial(integer, least=0, most=65_535), DEFAULT_ADMIN_PORT)
    warnings = _permissions(Path(path)) if credentials else []
    settings = AdminSettings(host, port, credentials)
    if not settings.loopback_only:
        warnings.append(
            f"{_HOST} opens the admin API to other machines without TLS: whoever listens on the way learns its"
            " secrets, so keep it on a private network or behind a proxy with TLS"
        )
    return AdminSettings(host, port, credentials, tuple(warnings))


def _credentials(variables: Variables) -> tuple[Credential, ...]:
    content = variables.file(_FILE)
    if content is None:
        return ()
    try:
        return parse_credentials(content.decode("utf-8"))
    except UnicodeDecodeError:
        variables.problem(_FILE, "names a file that is not UTF-8", _REMEDY)
    except InvalidCredentials as reason:
        variables.problem(_FILE, f"names a file that {reason}", _REMEDY)
    return ()


def _permissions(path: Path) -> list[str]:
    """Warnings about who may read the file."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return []  # it was read a moment ago
    if mode & stat.S_IROTH:
        return [f"{_FILE} can be read by everybody on this machine: chmod 640 it"]
    return []
