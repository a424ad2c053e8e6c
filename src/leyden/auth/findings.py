"""What each check looked at, in words, for the person who reads an explanation.

Owns the sentences on checks that passed or had nothing to check. Shows only what is harmless: lengths, header
members, times, names of keys; never a signature or a key. Decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from .claims import as_date
from .header import printable
from .keys import VerificationKey
from .settings import AuthSettings
from .verifier import Examination

_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def finding(check: str, seen: Examination, settings: AuthSettings) -> str | None:
    """What the check of this name found in a token that passed it."""
    describe = _FINDINGS.get(check)
    return describe(seen, settings) if describe else None


def not_asked(check: str, settings: AuthSettings) -> str | None:
    """Why the check of this name has nothing to do under these settings; None when it has."""
    if check == "issuer is the configured one" and settings.issuer is None:
        return "not looked at, because AUTH_JWT_ISS is not set"
    if check == "audience includes the configured one" and settings.audience is None:
        return "not looked at, because AUTH_JWT_AUD names no audience"
    if check == "lifetime and age are within limits" and not (settings.max_lifetime or settings.max_age):
        return "no limit is set"
    return None


def shown(code: str, seen: Examination, settings: AuthSettings) -> str | None:
    """What the token has instead, for a refusal where that helps and is harmless."""
    match code:
        case "issuer_mismatch":
            return f"the token has {_value(seen.claims.get('iss'))}"
        case "audience_mismatch":
            return f"the token has {_value(seen.claims.get('aud'))}"
        case "user_invalid":
            return f"the token has {_value(_place(seen, settings).get(_user_claim(seen, settings)))}"
        case "expired" if seen.times.expires_at is not None:
            return span(seen.times.expires_at - seen.now)
        case "not_yet_valid" if seen.times.not_before is not None:
            return span(seen.times.not_before - seen.now)
        case "issued_in_future" if seen.times.issued_at is not None:
            return span(seen.times.issued_at - seen.now)
        case _:
            return None


def date_of(claim: object) -> str | None:
    """A time claim as a date, or None when it is no number of seconds a calendar knows."""
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        return None
    try:
        return as_date(claim)
    except (ValueError, OverflowError, OSError):
        return None


def dated_claims(claims: Mapping[str, Any], now: float) -> tuple[str, ...]:
    """A sentence for each time claim: its date, and how far that is from `now` (Unix seconds)."""
    words = {"iat": ("issued", "issued"), "nbf": ("became valid", "becomes valid"), "exp": ("expired", "expires")}
    sentences = []
    for name, (past, future) in words.items():
        value = claims.get(name)
        if (date := date_of(value)) is not None and isinstance(value, int | float):
            word = past if value <= now else future
            distance = span(value - now)
            sentences.append(f"{name} {date} ({word} {distance})")
    return tuple(sentences)


def span(seconds: float) -> str:
    """A distance in time, in the largest unit that leaves at least one."""
    amount = abs(seconds)
    for size, unit in _UNITS:
        if amount >= size:
            return f"{int(amount // size)} {unit} ago" if seconds < 0 else f"in {int(amount // size)} {unit}"
    return "now"


def named(key: VerificationKey) -> str:
    """A key as a person may recognise it: algorithm, name in its set, RFC 7638 thumbprint.

    Not that of a secret: explanations get shown around, and on a thumbprint guesses can be tried out.
    """
    if key.secret() is not None:
        return f"{key.algorithm.name} with a shared secret"
    name = f" {printable(key.kid)}" if key.kid else ""
    return f"{key.algorithm.name}{name} (thumbprint {key.thumbprint})"


def _value(value: object) -> str:
    """A claim's value as a refusal may show it: short, escaped, and for anything nested its kind only."""
    match value:
        case str():
            return printable(value)
        case None | bool() | int() | float():
            return json.dumps(value)
        case list() if value and all(isinstance(one, str) for one in value):
            listed = ", ".join(printable(one) for one in value[:5])
            return listed + (f" and {len(value) - 5} more" if len(value) > 5 else "")
        case list():
            return "a list" if value else "an empty list"
        case _:
            return "an object"


def _place(seen: Examination, settings: AuthSettings) -> Mapping[str, Any]:
    inner = seen.claims.get(settings.namespace) if settings.namespace is not None else seen.claims
    return inner if isinstance(inner, Mapping) else {}


def _user_claim(seen: Examination, settings: AuthSettings) -> str:
    sub = _place(seen, settings).get("sub")
    return "user_id" if sub is None or sub is False else "sub"


# ---- one function for each check ------------------------------------------------------------------------------------


def _size(seen: Examination, settings: AuthSettings) -> str:
    return f"{len(seen.token)} characters of at most {settings.max_characters}"


def _segments(seen: Examination, settings: AuthSettings) -> str:
    return "header, payload and signature"


def _decoded(seen: Examination, settings: AuthSettings) -> str | None:
    parts = seen.parts
    if parts is None:
        return None
    return f"{len(parts.header)} + {len(parts.payload)} + {len(parts.signature)} bytes"


def _unsigned(seen: Examination, settings: AuthSettings) -> str:
    return f"{len(seen.payload)} bytes"


def _header(seen: Examination, settings: AuthSettings) -> str:
    return "members: " + ", ".join(printable(name) for name in list(seen.header)[:20])


def _algorithm(seen: Examination, settings: AuthSettings) -> str | None:
    return seen.algorithm.name if seen.algorithm else None


def _extensions(seen: Examination, settings: AuthSettings) -> str:
    return "no crit, no unencoded payload"


def _kind(seen: Examination, settings: AuthSettings) -> str:
    typ = seen.header.get("typ")
    return f"typ {_value(typ)}" if "typ" in seen.header else "no typ"


def _key(seen: Examination, settings: AuthSettings) -> str:
    return "; ".join(named(key) for key in seen.candidates)


def _signature(seen: Examination, settings: AuthSettings) -> str | None:
    return f"made with {named(seen.key)}" if seen.key else None


def _payload(seen: Examination, settings: AuthSettings) -> str:
    return f"{len(seen.claims)} claims"


def _present(seen: Examination, settings: AuthSettings) -> str:
    names = [name for name in ("iat", "nbf", "exp") if name in seen.claims]
    return ", ".join(names) if names else "there are none"


def _times(seen: Examination, settings: AuthSettings) -> str:
    judged = datetime.fromtimestamp(seen.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    dates = dated_claims(seen.claims, seen.now)
    return "; ".join((*dates, f"judged at {judged} with {settings.leeway} s leeway"))


def _lifetime(seen: Examination, settings: AuthSettings) -> str | None:
    times = seen.times
    if times.issued_at is None or times.expires_at is None:
        return None
    lifetime, age = times.expires_at - times.issued_at, max(0, seen.now - times.issued_at)
    limits = [
        f"{what} {value:.0f} s of at most {limit}"
        for what, value, limit in (
            ("lifetime", lifetime, settings.max_lifetime),
            ("age", age, settings.max_age),
        )
        if limit
    ]
    return ", ".join(limits)


def _issuer(seen: Examination, settings: AuthSettings) -> str:
    return _value(seen.claims.get("iss"))


def _audience(seen: Examination, settings: AuthSettings) -> str:
    return _value(seen.claims.get("aud"))


def _user(seen: Examination, settings: AuthSettings) -> str:
    where = f" in {printable(settings.namespace)}" if settings.namespace is not None else ""
    return f"{_value(seen.user_id)} from {_user_claim(seen, settings)}{where}"


_FINDINGS: Final[Mapping[str, Callable[[Examination, AuthSettings], str | None]]] = {
    "token is present and not too long": _size,
    "token has three segments": _segments,
    "segments are canonical base64url": _decoded,
    "token has a payload": _unsigned,
    "header is strict JSON": _header,
    "algorithm is a configured one": _algorithm,
    "no critical extension is asked for": _extensions,
    "token is of an accepted type": _kind,
    "key is known": _key,
    "signature is good": _signature,
    "payload is strict JSON": _payload,
    "time claims are present and numbers": _present,
    "token is valid now": _times,
    "lifetime and age are within limits": _lifetime,
    "issuer is the configured one": _issuer,
    "audience includes the configured one": _audience,
    "user id is usable": _user,
}
