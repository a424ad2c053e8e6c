"""The AUTH_* variables.

Owns their names, defaults and cross-checks, and turns them into `leyden.auth.AuthSettings`. The rules on
keys and tokens are `leyden.auth`'s; here each refusal gets its variable's name and a remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, cast

from leyden.auth import (
    ALGORITHMS,
    DEFAULT_LEEWAY,
    DEFAULT_MAX_CHARACTERS,
    DEFAULT_TYPES,
    Algorithm,
    AuthSettings,
    ErrorDetail,
    KeyRejected,
    UserIdPolicy,
    VerificationKey,
    load_keys,
)

from .problems import ConfigurationError, Problem, Unusable
from .values import boolean, choice, integer

T = TypeVar("T")

_JWT_VARIABLES: Final = (
    "AUTH_JWT_ALG",
    "AUTH_JWT_KEY",
    "AUTH_JWT_KEY_FILE",
    "AUTH_JWT_KEY_IS_BASE64_ENCODED",
    "AUTH_JWT_KEY_PREVIOUS",
    "AUTH_JWT_KEY_PREVIOUS_FILE",
    "AUTH_JWT_NAMESPACE",
    "AUTH_JWT_ISS",
    "AUTH_JWT_AUD",
    "AUTH_JWT_TYP",
    "AUTH_JWT_LEEWAY",
    "AUTH_JWT_MAX_BYTES",
    "AUTH_JWT_MAX_LIFETIME",
    "AUTH_JWT_MAX_AGE",
)
_KEY_SET_PREFIXES: Final = ("AUTH_JWT_JWKS_", "AUTH_JWT_OIDC_")
_CENTURY: Final = 100 * 366 * 86_400
_NOT_YET: Final = (
    "AUTH_ALLOWED_ORIGINS",
    "AUTH_TRUSTED_PROXIES",
    "AUTH_MAX_SESSION_SECONDS",
    "AUTH_DB_ROLE",
    "AUTH_DB_ROLE_CLAIM",
    "AUTH_DB_ROLES",
    "AUTH_REVOCATION_STRICT",
)
_MAX_KEY_FILE_BYTES: Final = 262_144
_NEW_KEY: Final = (
    "make a pair with `leyden keys new ES256` and use the two settings it prints"
    " (AUTH_MODE=insecure does without, for development)"
)


class _Variables:
    """The environment while it is being read, and the problems found so far."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.problems: list[Problem] = []

    def text(self, name: str) -> str | None:
        """The value as it stands; blank counts as unset. Nothing is trimmed: white space is part of a
        secret."""
        value = self._env.get(name)
        return value if value is not None and value.strip() else None

    def raw(self, name: str) -> str | None:
        return self._env.get(name)

    def names(self, *prefixes: str) -> list[str]:
        return sorted(name for name in self._env if name.startswith(prefixes))

    def problem(self, variable: str, message: str, remedy: str) -> None:
        self.problems.append(Problem(variable, message, remedy))

    def read(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """`parse` applied to the value, or `default` when it is unset or unusable (then with a problem
        noted)."""
        text = self.text(name)
        if text is None:
            return default
        try:
            return parse(text)
        except Unusable as reason:
            self.problem(name, reason.message, reason.remedy)
            return default


def load_auth_settings(env: Mapping[str, str]) -> AuthSettings:
    """The policy on tokens; looks at AUTH_* alone. Raises `ConfigurationError` with every problem there
    is."""
    variables = _Variables(env)
    settings = _read(variables)
    if variables.problems or settings is None:
        raise ConfigurationError(tuple(variables.problems))
    return settings


def _read(variables: _Variables) -> AuthSettings | None:
    mode = variables.raw("AUTH_MODE")
    if mode is None:
        mode = "secure"
    detail = cast(ErrorDetail, variables.read("AUTH_ERROR_DETAIL", lambda text: choice(text, ("none", "code")), "code"))
    policy = cast(
        UserIdPolicy,
        variables.read("AUTH_USER_ID_POLICY", lambda text: choice(text, ("strict", "legacy")), "strict"),
    )
    public = variables.read("AUTH_INSECURE_PUBLIC", boolean, False)
    for name in _NOT_YET:
        if variables.text(name) is not None:
            variables.problem(name, "is not supported by this version", "unset it")
    if mode not in ("secure", "insecure"):
        variables.problem(
            "AUTH_MODE",
            "has an invalid value" if mode else "is set to an empty value",
            "use exactly secure or insecure, or leave it unset for secure",
        )
        return None
    if mode == "insecure":
        _refuse_key_settings(variables)
        return AuthSettings(
            mode="insecure",
            namespace=variables.text("AUTH_JWT_NAMESPACE"),
            user_id_policy=policy,
            error_detail=detail,
            insecure_public=public,
        )
    _refuse_unknown(variables)
    algorithm = _algorithm(variables)
    keys = _keys(variables, algorithm)
    types = variables.read("AUTH_JWT_TYP", _types, _Types(DEFAULT_TYPES)).accepted
    leeway = variables.read("AUTH_JWT_LEEWAY", partial(integer, least=0, most=60), DEFAULT_LEEWAY)
    max_characters = variables.read(
        "AUTH_JWT_MAX_BYTES", partial(integer, least=256, most=1_048_576), DEFAULT_MAX_CHARACTERS
    )
    max_lifetime = variables.read("AUTH_JWT_MAX_LIFETIME", partial(integer, least=0, most=_CENTURY), 0)
    max_age = variables.read("AUTH_JWT_MAX_AGE", partial(integer, least=0, most=_CENTURY), 0)
    if variables.problems or algorithm is None or not keys:
        return None
    return AuthSettings(
        mode="secure",
        algorithm=algorithm,
        keys=keys,
        namespace=variables.text("AUTH_JWT_NAMESPACE"),
        issuer=variables.text("AUTH_JWT_ISS"),
        audience=variables.text("AUTH_JWT_AUD"),
        types=types,
        leeway=leeway,
        max_characters=max_characters,
        max_lifetime=max_lifetime,
        max_age=max_age,
        user_id_policy=policy,
        error_detail=detail,
        insecure_public=public,
    )


def _refuse_key_settings(variables: _Variables) -> None:
    """Settings for checking tokens next to AUTH_MODE=insecure mean that someone forgot to switch back."""
    for name in variables.names("AUTH_JWT_"):
        if name != "AUTH_JWT_NAMESPACE" and variables.text(name) is not None:
            variables.problem(
                name,
                "is not valid in insecure mode",
                "did you forget to set AUTH_MODE=secure? Otherwise unset it",
            )


def _refuse_unknown(variables: _Variables) -> None:
    """A misspelt or unsupported check must not be silently left out."""
    for name in variables.names("AUTH_JWT_"):
        if variables.text(name) is None or name in _JWT_VARIABLES:
            continue
        if name.startswith(_KEY_SET_PREFIXES):
            variables.problem(
                name,
                "is not supported by this version",
                "give the issuer's public key in AUTH_JWT_KEY instead",
            )
        else:
            variables.problem(name, "is not a known setting", "correct the name or unset it")


def _algorithm(variables: _Variables) -> Algorithm | None:
    name = variables.text("AUTH_JWT_ALG")
    known = ", ".join(ALGORITHMS)
    if name is None:
        variables.problem("AUTH_JWT_ALG", "is not set", f"set it to one of: {known}")
        return None
    if name not in ALGORITHMS:
        message = "lists several algorithms" if "," in name else "has an invalid value"
        variables.problem("AUTH_JWT_ALG", message, f"use exactly one of: {known}")
        return None
    return ALGORITHMS[name]


def _keys(variables: _Variables, algorithm: Algorithm | None) -> tuple[VerificationKey, ...]:
    is_base64 = variables.read("AUTH_JWT_KEY_IS_BASE64_ENCODED", boolean, False)
    current = _key_text(variables, "AUTH_JWT_KEY")
    previous = _key_text(variables, "AUTH_JWT_KEY_PREVIOUS")
    if current is None and not any(problem.variable.startswith("AUTH_JWT_KEY") for problem in variables.problems):
        variables.problem("AUTH_JWT_KEY", "is not set", _NEW_KEY)
    if algorithm is None:
        return ()
    loaded: list[VerificationKey] = []
    for given in (current, previous):
        if given is None:
            continue
        name, text = given
        try:
            loaded += load_keys(text, algorithm, is_base64=is_base64)
        except KeyRejected as reason:
            whose = "names a file whose key " if name.endswith("_FILE") else ""
            variables.problem(name, whose + reason.message, reason.remedy)
    return tuple(loaded)


def _key_text(variables: _Variables, name: str) -> tuple[str, str] | None:
    """(variable, text) of a key given directly or in a file; None when neither is set or usable."""
    file_name = f"{name}_FILE"
    text, path = variables.text(name), variables.text(file_name)
    if text is not None and path is not None:
        variables.problem(file_name, f"is set together with {name}", f"keep one of {name} and {file_name}")
        return None
    if text is not None:
        return name, text
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_KEY_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "unusable path"
        variables.problem(file_name, f"names a file that cannot be read: {reason}", "check its path and permissions")
        return None
    # As the shell's $(cat file) does: editors and echo end a file with a newline nobody means to be a secret.
    stripped = content.decode("utf-8", "surrogateescape").rstrip("\r\n")
    if not stripped.strip() or len(content) > _MAX_KEY_FILE_BYTES:
        variables.problem(file_name, "names a file that is empty or too large", "put nothing but the key into it")
        return None
    return file_name, stripped


@dataclass(frozen=True, slots=True)
class _Types:
    """A parsed AUTH_JWT_TYP; None accepts any."""

    accepted: frozenset[str] | None


def _types(text: str) -> _Types:
    """`any`, or a comma list of token types."""
    if text.strip().lower() == "any":
        return _Types(None)
    types = frozenset(part.strip().lower().removeprefix("application/") for part in text.split(","))
    if "" in types or not text.isascii():
        raise Unusable("is not a list of token types", "use names like JWT,at+jwt, or any")
    return _Types(types)
