"""The AUTH_* variables.

Owns their names, defaults and cross-checks, and turns them into `leyden.auth.AuthSettings`. The rules on
keys and tokens are `leyden.auth`'s; here each refusal gets its variable's name and a remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

from leyden.auth import (
    DEFAULT_LEEWAY,
    DEFAULT_MAX_CHARACTERS,
    DEFAULT_TYPES,
    AuthSettings,
    ErrorDetail,
    UserIdPolicy,
)

from .keys import KEY_VARIABLES, read_keys
from .problems import ConfigurationError, Unusable
from .values import boolean, choice, integer
from .variables import Variables

_JWT_VARIABLES: Final = KEY_VARIABLES | {
    "AUTH_JWT_NAMESPACE",
    "AUTH_JWT_ISS",
    "AUTH_JWT_AUD",
    "AUTH_JWT_TYP",
    "AUTH_JWT_LEEWAY",
    "AUTH_JWT_MAX_BYTES",
    "AUTH_JWT_MAX_LIFETIME",
    "AUTH_JWT_MAX_AGE",
}
_OTHER_VARIABLES: Final = (
    "AUTH_MODE",
    "AUTH_ERROR_DETAIL",
    "AUTH_USER_ID_POLICY",
    "AUTH_INSECURE_PUBLIC",
    "AUTH_REVOCATION_STRICT",
    "AUTH_MAX_SESSION_SECONDS",
    "AUTH_ALLOWED_ORIGINS",
    "AUTH_TRUSTED_PROXIES",
    "AUTH_DB_ROLE",
    "AUTH_DB_ROLE_CLAIM",
    "AUTH_DB_ROLES",
)
_CENTURY: Final = 100 * 366 * 86_400
_ANY_AUDIENCE: Final = "*"


def load_auth_settings(env: Mapping[str, str]) -> AuthSettings:
    """The policy on tokens; looks at AUTH_* alone. Raises `ConfigurationError` with every problem there
    is."""
    variables = Variables(env)
    settings = _read(variables)
    if variables.problems or settings is None:
        raise ConfigurationError(tuple(variables.problems))
    return settings


def _read(variables: Variables) -> AuthSettings | None:
    mode = variables.raw("AUTH_MODE")
    if mode is None:
        mode = "secure"
    detail = cast(ErrorDetail, variables.read("AUTH_ERROR_DETAIL", lambda text: choice(text, ("none", "code")), "code"))
    policy = cast(
        UserIdPolicy,
        variables.read("AUTH_USER_ID_POLICY", lambda text: choice(text, ("strict", "legacy")), "strict"),
    )
    public = variables.read("AUTH_INSECURE_PUBLIC", boolean, False)
    revocation_strict = variables.read("AUTH_REVOCATION_STRICT", boolean, False)
    max_session = variables.read("AUTH_MAX_SESSION_SECONDS", partial(integer, least=0, most=_CENTURY), 0)
    _refuse_misspelt(variables)
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
            revocation_strict=revocation_strict,
            max_session=max_session,
            insecure_public=public,
        )
    _refuse_unknown(variables)
    keys = read_keys(variables)
    issuer, audience = variables.text("AUTH_JWT_ISS"), variables.text("AUTH_JWT_AUD")
    discovered = variables.text("AUTH_JWT_OIDC_ISSUER")
    if discovered is not None and issuer is not None and issuer != discovered:
        variables.problem("AUTH_JWT_ISS", "differs from AUTH_JWT_OIDC_ISSUER", "unset it: the latter implies it")
    if discovered is not None or variables.text("AUTH_JWT_JWKS_URL") is not None:
        if audience is None:
            variables.problem(
                "AUTH_JWT_AUD",
                "is not set, and an issuer with a published key set signs tokens for others as well",
                "set it to the audience of this service's tokens; * lets every audience in, knowingly",
            )
        audience = None if audience == _ANY_AUDIENCE else audience
    types = variables.read("AUTH_JWT_TYP", _types, _Types(DEFAULT_TYPES)).accepted
    leeway = variables.read("AUTH_JWT_LEEWAY", partial(integer, least=0, most=60), DEFAULT_LEEWAY)
    max_characters = variables.read(
        "AUTH_JWT_MAX_BYTES", partial(integer, least=256, most=1_048_576), DEFAULT_MAX_CHARACTERS
    )
    duration = partial(integer, least=0, most=_CENTURY)
    max_lifetime = variables.read("AUTH_JWT_MAX_LIFETIME", duration, 0)
    max_age = variables.read("AUTH_JWT_MAX_AGE", duration, 0)
    if variables.problems or keys is None:
        return None
    return AuthSettings(
        mode="secure",
        algorithms=keys.algorithms,
        ring=keys.ring,
        remote=keys.remote,
        key_files=keys.files,
        namespace=variables.text("AUTH_JWT_NAMESPACE"),
        issuer=discovered or issuer,
        audience=audience,
        types=types,
        leeway=leeway,
        max_characters=max_characters,
        max_lifetime=max_lifetime,
        max_age=max_age,
        user_id_policy=policy,
        error_detail=detail,
        revocation_strict=revocation_strict,
        max_session=max_session,
        insecure_public=public,
    )


def _refuse_key_settings(variables: Variables) -> None:
    """Settings for checking tokens next to AUTH_MODE=insecure mean that someone forgot to switch back."""
    for name in variables.names("AUTH_JWT_"):
        if name != "AUTH_JWT_NAMESPACE" and variables.text(name) is not None:
            variables.problem(
                name,
                "is not valid in insecure mode",
                "did you forget to set AUTH_MODE=secure? Otherwise unset it",
            )


def _refuse_unknown(variables: Variables) -> None:
    """A misspelt check must not be silently left out."""
    for name in variables.names("AUTH_JWT_"):
        if variables.text(name) is not None and name not in _JWT_VARIABLES:
            variables.problem(name, "is not a known setting", "correct the name or unset it")


def _refuse_misspelt(variables: Variables) -> None:
    """Other programs in this environment may have AUTH_ variables of their own, so only what resembles one of ours is
    taken for it."""
    for name in variables.names("AUTH_"):
        if variables.text(name) is None or name in _OTHER_VARIABLES or name.startswith("AUTH_JWT_"):
            continue
        if resembled := difflib.get_close_matches(name, _OTHER_VARIABLES, n=1, cutoff=0.85):
            variables.problem(
                name, "is not a known setting", f"did you mean {resembled[0]}? Correct the name or unset it"
            )


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
