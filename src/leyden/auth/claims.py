"""The registered claims: may this token be used now, here (RFC 7519 §4.1).

Owns the rules on `exp`, `iat`, `nbf`, `iss` and `aud`. Works on parsed claims and a clock reading it is
given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from .header import printable
from .refusal import Refusal

MAX_NUMERIC_DATE: Final = 253402300799
"""Last second of the year 9999. Larger numbers are milliseconds or mistakes."""

MAX_AUDIENCES: Final = 64


@dataclass(frozen=True, slots=True)
class Times:
    """The time claims of a token in Unix seconds; each may be absent."""

    expires_at: float | None
    issued_at: float | None
    not_before: float | None


def read_times(claims: Mapping[str, Any], *, required: bool) -> Times:
    """Read the time claims; raises `claim_missing` (`exp` and `iat`, when `required`) or `claim_invalid`."""
    if required:
        for name in ("exp", "iat"):
            if name not in claims:
                raise Refusal("claim_missing", f"the claim {name} is missing")
    return Times(
        expires_at=_numeric_date(claims, "exp"),
        issued_at=_numeric_date(claims, "iat"),
        not_before=_numeric_date(claims, "nbf"),
    )


def _numeric_date(claims: Mapping[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refusal("claim_invalid", f"the claim {name} is not a number of seconds since 1970")
    # Written so that a NaN, should one ever get here, fails too.
    if not 0 <= value <= MAX_NUMERIC_DATE:
        raise Refusal("claim_invalid", f"the claim {name} is outside 0 … {MAX_NUMERIC_DATE} seconds since 1970")
    return value


def check_times(times: Times, now: int, leeway: int) -> None:
    """Compare with the clock, in whole seconds, `leeway` forgiven on every side.

    Raises `expired`, `not_yet_valid` or `issued_in_future`, the first that applies.
    """
    if times.expires_at is not None and now > times.expires_at + leeway:
        raise Refusal("expired", f"the token expired at {as_date(times.expires_at)}")
    if times.not_before is not None and times.not_before > now + leeway:
        raise Refusal("not_yet_valid", f"the token is valid only from {as_date(times.not_before)}")
    if times.issued_at is not None and times.issued_at > now + leeway:
        raise Refusal("issued_in_future", f"the token was issued in the future, at {as_date(times.issued_at)}")


def check_lifetime(times: Times, now: int, *, max_lifetime: int, max_age: int) -> None:
    """The operator's own limits in seconds, 0 for none; raises `lifetime_too_long` or `too_old`."""
    if times.issued_at is None:
        return
    if max_lifetime and times.expires_at is not None and times.expires_at - times.issued_at > max_lifetime:
        raise Refusal("lifetime_too_long", f"exp is more than {max_lifetime} seconds after iat")
    if max_age and now - times.issued_at > max_age:
        raise Refusal("too_old", f"the token was issued more than {max_age} seconds ago")


def check_issuer(claims: Mapping[str, Any], expected: str | None) -> None:
    """`iss` must equal `expected` character by character (RFC 7519 §4.1.1); None means it is not looked at.

    Raises `claim_missing` or `issuer_mismatch`.
    """
    if expected is None:
        return
    if "iss" not in claims:
        raise Refusal("claim_missing", f"the claim iss is missing; {printable(expected)} is required")
    if claims["iss"] != expected:
        raise Refusal("issuer_mismatch", f"the claim iss is not {printable(expected)}")


def check_audience(claims: Mapping[str, Any], expected: str | None) -> None:
    """`aud` must be `expected`, or a list of texts that contains it (RFC 7519 §4.1.3); None means not
    looked at.

    Raises `claim_missing` or `audience_mismatch`.
    """
    if expected is None:
        return
    if "aud" not in claims:
        raise Refusal("claim_missing", f"the claim aud is missing; {printable(expected)} is required")
    audience = claims["aud"]
    if isinstance(audience, str):
        audience = [audience]
    if not isinstance(audience, list) or not all(isinstance(one, str) for one in audience):
        raise Refusal("audience_mismatch", "the claim aud is neither a text nor a list of texts")
    if len(audience) > MAX_AUDIENCES:
        raise Refusal("audience_mismatch", f"the claim aud lists more than {MAX_AUDIENCES} audiences")
    if expected not in audience:
        raise Refusal("audience_mismatch", f"the claim aud does not contain {printable(expected)}")


def as_date(seconds: float) -> str:
    """Unix seconds as an ISO 8601 date in UTC, for sentences."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
