"""A verdict with its reasons, for the person who asks why a token is refused.

Owns the walk through the very steps the verifier takes, one by one, noting how each ended. The accepting
and refusing is the steps'; nothing here can change a verdict. An explanation never holds a signature or a
key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from .claims import as_date
from .compact import decode_signed, split_signed
from .header import parse_header
from .hints import hints_for
from .refusal import Code, Refusal
from .strict_json import NotStrictJson, parse_object
from .verifier import Examination, TokenVerifier, unexpected

Outcome = Literal["pass", "fail", "skipped"]


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

    `header` and `claims` are what could be read, verified or not: for display only.
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
    seen = Examination(token, math.floor(now))
    settings = verifier.settings
    checks: list[Check] = []
    refusal: Refusal | None = None
    for step in verifier.steps.all:
        if refusal is not None:
            checks.append(Check(step.name, "skipped", None, step.setting))
            continue
        try:
            step.run(seen, settings, verifier.ring)
        except Refusal as reason:
            refusal = reason
        except Exception as error:
            refusal = unexpected(error)
        else:
            checks.append(Check(step.name, "pass", None, step.setting))
            continue
        checks.append(Check(step.name, "fail", refusal.message, step.setting))
    if refusal is None:
        return Explanation(
            accepted=True,
            user_id=seen.user_id,
            code=None,
            checks=tuple(checks),
            hints=_stock_client_hint(seen),
            header=seen.header,
            claims=seen.claims,
        )
    try:
        hints = hints_for(refusal.code, seen, settings, verifier.ring)
    except Exception:  # a hint is never worth a failure
        hints = ()
    return Explanation(
        accepted=False,
        user_id=None,
        code=refusal.code,
        checks=tuple(checks),
        hints=hints,
        header=seen.header or _readable(seen, "header"),
        claims=seen.claims or _readable(seen, "payload"),
    )


def date_of(claim: object) -> str | None:
    """A time claim as a date, or None when it is no number of seconds a calendar knows."""
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        return None
    try:
        return as_date(claim)
    except (ValueError, OverflowError, OSError):
        return None


def _stock_client_hint(seen: Examination) -> tuple[str, ...]:
    """The stock client decodes the payload itself and knows only the standard alphabet."""
    payload = seen.token.split(".")[1]
    if "-" in payload or "_" in payload:
        return (
            'the payload segment contains "-" or "_": good, but the stock client cannot decode such a token; '
            "escape > ? ~ and everything outside ASCII when writing the claims",
        )
    return ()


def _readable(seen: Examination, part: Literal["header", "payload"]) -> Mapping[str, Any]:
    try:
        parts = seen.parts or decode_signed(split_signed(seen.token))
        return parse_header(parts.header) if part == "header" else parse_object(parts.payload)
    except (Refusal, NotStrictJson):
        return {}
