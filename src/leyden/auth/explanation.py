"""A verdict with its reasons, for the person who asks why a token is refused.

Owns the walk through the very steps the verifier takes, one by one, noting how each ended. The accepting
and refusing is the steps'; nothing here can change a verdict. An explanation never holds a signature or a
key.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

from .compact import decode_signed, split_signed, unsigned_payload
from .findings import finding, not_asked, shown
from .header import parse_header
from .hints import hints_for
from .hints.form import repaired
from .refusal import Code, Refusal
from .settings import AuthSettings
from .strict_json import NotStrictJson, parse_object
from .verifier import Examination, Step, TokenVerifier, unexpected

T = TypeVar("T")

Outcome = Literal["pass", "fail", "skipped"]

_log: Final = logging.getLogger("leyden.auth")

_ELSEWHERE: Final = ("token is not revoked", "client id is free or this user's")
"""What the service asks its database for every connection besides; no explanation can."""


@dataclass(frozen=True, slots=True)
class Check:
    """How one step ended. `setting` names the environment variable that governs it, if any."""

    name: str
    outcome: Outcome
    detail: str | None = None
    setting: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict and every check in order. Exactly one of `user_id` and `code` is set.

    `header` and `claims` are what could be read, verified or not, if need be out of a token whose text is damaged: for
    display only.
    """

    accepted: bool
    user_id: str | None
    code: Code | None
    checks: tuple[Check, ...]
    hints: tuple[str, ...] = ()
    header: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    claims: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def explain(token: str, now: float, verifier: TokenVerifier) -> Explanation:
    """Judge `token` at `now` (Unix seconds) as `verifier` would, and say how. Never raises on any token."""
    explanation = _explain(token, now, verifier)
    better = _words(lambda: repaired(token), token)
    if explanation.code != "token_malformed" or better in ("", token):
        return explanation
    again = _explain(better, now, verifier)
    if again.code == "token_malformed":
        return explanation
    verdict = "it would be accepted" if again.accepted else f"it would still be refused: {again.code}"
    hints = (*explanation.hints, f"without that damage {verdict}", *again.hints)
    return replace(explanation, hints=hints, header=again.header, claims=again.claims)


def _explain(token: str, now: float, verifier: TokenVerifier) -> Explanation:
    seen = Examination(token, math.floor(now))
    settings = verifier.settings
    checks: list[Check] = []
    refusal: Refusal | None = None
    for step in verifier.steps.all:
        if refusal is not None:
            checks.append(Check(step.name, "skipped", None, _setting(step, verifier)))
            continue
        try:
            step.run(seen, settings, verifier.ring)
        except Refusal as reason:
            refusal = reason
        except Exception as error:
            refusal = unexpected(error)
        checks.append(_check(step, seen, refusal, verifier))
    elsewhere = "not checked here: only the service can ask its database"
    checks += [Check(name, "skipped", elsewhere if refusal is None else None) for name in _ELSEWHERE]
    code = refusal.code if refusal else None
    no_hints: tuple[str, ...] = ()
    hints = _words(lambda: hints_for(code, seen, settings, verifier.ring), no_hints)
    return Explanation(
        accepted=refusal is None,
        user_id=seen.user_id if refusal is None else None,
        code=code,
        checks=tuple(checks),
        hints=hints,
        header=seen.header or _header_of(token),
        claims=seen.claims or _claims_of(token, settings),
    )


def _check(step: Step, seen: Examination, refusal: Refusal | None, verifier: TokenVerifier) -> Check:
    settings, setting = verifier.settings, _setting(step, verifier)
    if refusal is not None:
        instead = _words(lambda: shown(refusal.code, seen, settings), None)
        detail = f"{refusal.message} ({instead})" if instead else refusal.message
        return Check(step.name, "fail", detail, setting)
    if (why := not_asked(step.name, settings)) is not None:
        return Check(step.name, "skipped", why, setting)
    return Check(step.name, "pass", _words(lambda: finding(step.name, seen, settings), None), setting)


def _setting(step: Step, verifier: TokenVerifier) -> str | None:
    """The variable responsible for the step, and for keys the one that this configuration takes them from."""
    if step.setting is None or not step.setting.startswith("AUTH_JWT_KEY"):
        return step.setting
    remote = verifier.settings.remote
    if remote is not None:
        return "AUTH_JWT_JWKS_URL" if remote.jwks_url is not None else "AUTH_JWT_OIDC_ISSUER"
    return "AUTH_JWT_JWKS_FILE" if any(key.kid for key in verifier.ring.keys) else "AUTH_JWT_KEY"


def _words(say: Callable[[], T], otherwise: T) -> T:
    """What `say` says; a sentence is never worth a failure."""
    try:
        return say()
    except Exception as error:
        _log.error("words of an explanation failed with %s", type(error).__name__)
        return otherwise


def _header_of(token: str) -> Mapping[str, Any]:
    try:
        return parse_header(decode_signed(split_signed(token)).header)
    except Refusal:
        return {}


def _claims_of(token: str, settings: AuthSettings) -> Mapping[str, Any]:
    try:
        payload = unsigned_payload(token) if settings.insecure else decode_signed(split_signed(token)).payload
        return parse_object(payload)
    except (Refusal, NotStrictJson):
        return {}
