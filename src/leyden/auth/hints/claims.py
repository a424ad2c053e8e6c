"""Hints at claims that are missing, of the wrong kind, or meant for somebody else.

Owns the usual mistakes in the payload. Quotes claims, which are for the operator to see, escaped and cut.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..claims import MAX_NUMERIC_DATE
from ..findings import span
from ..header import printable
from ..key_ring import KeyRing
from ..settings import AuthSettings
from ..verifier import Examination

_HOUR: Final = 3600
_SKEW: Final = 300
_DURATION: Final = 10 * 366 * 86_400
"""`exp` up to here is in the seventies: somebody wrote how long instead of until when."""
_DATE_TEXT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ID_TOKEN: Final = frozenset({"nonce", "at_hash", "c_hash", "s_hash"})
"""Claims of OpenID Connect ID tokens (Core §2, §3.3.2.11) that access tokens do not have."""
_USER_LIKE: Final = frozenset(
    {"sub", "subject", "uid", "userid", "user", "username", "email", "id", "oid", "name", "preferredusername", "upn"}
)
_SIMILAR: Final[Mapping[str, frozenset[str]]] = {
    "exp": frozenset({"exp", "expires", "expiry", "expiresat", "expiration", "expiresin", "expire"}),
    "iat": frozenset({"iat", "issuedat", "issued"}),
    "iss": frozenset({"iss", "issuer"}),
    "aud": frozenset({"aud", "audience", "resource"}),
}
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_COMPACT: Final = re.compile(rb'"?eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.')


def payload(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    raw = seen.payload.strip()
    if _COMPACT.match(raw):
        return ["the payload is a token itself (nested JWT); send the inner one"]
    try:
        if base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True).startswith(b"{"):
            return ["the payload was encoded in base64 twice"]
    except (binascii.Error, ValueError):
        pass
    if raw.startswith(b'"{') or raw.startswith(b'"\\u007b'):
        return ["the claims were written as JSON twice: the payload is a text that holds an object"]
    return []


def claim_missing(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    claims = seen.claims
    inner = claims.get(settings.namespace) if settings.namespace is not None else None
    for name, similar in _SIMILAR.items():
        if name in claims or not _is_required(name, settings):
            continue
        if isinstance(inner, Mapping) and name in inner:
            return [f"{name} counts at the top level only, not inside {printable(settings.namespace or '')}"]
        if found := _alike(claims, similar):
            return [f"the token has {printable(found)}; the name of the claim is {name}"]
        match name:
            case "exp":
                return ["a token without an end is never accepted; have the issuer set exp, in seconds since 1970"]
            case "iat":
                return ["many libraries write iat only when asked to; set it to the present time in seconds"]
            case "iss":
                return ["have the issuer write iss, or unset AUTH_JWT_ISS if its name does not matter"]
            case _:
                return ["have the issuer write aud for this service; AUTH_JWT_AUD says what is expected"]
    return []


def _is_required(name: str, settings: AuthSettings) -> bool:
    return not {"iss": settings.issuer is None, "aud": settings.audience is None}.get(name, False)


def claim_invalid(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    hints = []
    for name in ("exp", "iat", "nbf"):
        value = seen.claims.get(name)
        if isinstance(value, str) and value.strip().replace(".", "", 1).isdigit():
            hints.append(f"{name} is a number written as text; leave the quotation marks out")
        elif isinstance(value, str) and _DATE_TEXT.match(value.strip()):
            hints.append(f"{name} is a date written as text; JWT wants seconds since 1970, as a number")
        elif isinstance(value, int | float) and not isinstance(value, bool) and value > MAX_NUMERIC_DATE:
            hints.append(f"{name} looks like {_unit(value)}; JWT counts seconds")
    return hints


def _unit(value: float) -> str:
    if value < 10**14:
        return "milliseconds"
    return "microseconds" if value < 10**17 else "nanoseconds"


def expired(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    times = seen.times
    if times.expires_at is None:
        return []
    if times.expires_at <= _DURATION:
        return ["exp looks like a lifetime; it is the moment of the end: iat plus the lifetime"]
    if times.issued_at is not None and times.expires_at <= times.issued_at:
        return ["exp is not after iat, so that the token was never good; exp is iat plus the lifetime"]
    if seen.now - times.expires_at <= _SKEW:
        return [
            "it ran out only a moment ago: get a fresh token; if a fresh one is refused as well, this machine's clock"
            " may be ahead of the issuer's (AUTH_JWT_LEEWAY forgives up to 60 seconds)"
        ]
    return ["get a fresh token; tokens are good until exp and no longer, connected or not"]


def issued_in_future(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    return _ahead("iat", seen.times.issued_at, seen.now)


def not_yet_valid(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    return _ahead("nbf", seen.times.not_before, seen.now)


def _ahead(name: str, moment: float | None, now: int) -> list[str]:
    if moment is None:
        return []
    ahead = moment - now
    hours = round(ahead / _HOUR)
    if 1 <= hours <= 14 and abs(ahead - hours * _HOUR) <= _SKEW:
        return [f"{name} is {hours} h ahead: the issuer writes local time; JWT counts seconds since 1970 in UTC"]
    return [
        f"{name} is {span(ahead)}: the issuer's clock may be ahead of this machine's; set the clocks"
        " (AUTH_JWT_LEEWAY forgives up to 60 seconds)"
    ]


def lifetime(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    return ["have the issuer make tokens for a shorter time, and the application fetch them more often"]


def issuer(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    if settings.issuer is None:
        return []
    return _near("iss", [seen.claims.get("iss")], settings.issuer) or [
        "the token comes from another issuer, tenant or environment; AUTH_JWT_ISS has to be its iss, character by"
        " character"
    ]


def audience(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    expected = settings.audience
    if expected is None:
        return []
    given = seen.claims.get("aud")
    values = given if isinstance(given, list) else [given]
    hints = _near("aud", values, expected)
    if _ID_TOKEN & seen.claims.keys():
        hints.append("this looks like an OpenID Connect ID token; send an access token made for this service")
    elif not hints and isinstance(given, str) and given in (seen.claims.get("azp"), seen.claims.get("client_id")):
        hints.append("aud is the client itself: ask the issuer for an access token with this service as audience")
    if any(isinstance(value, str) and value in re.split(r"[,\s]+", expected) for value in values):
        hints.append("AUTH_JWT_AUD is one audience, not a list; a token may list several")
    return hints or ["ask the issuer for a token with this service as audience; AUTH_JWT_AUD says what is expected"]


def _near(name: str, values: Iterable[Any], expected: str) -> list[str]:
    """How a text differs from the one that is expected, where that is easily overlooked."""
    for value in values:
        if not isinstance(value, str):
            continue
        if value.strip() == expected.strip():
            return [f"{name} differs from the setting by white space only"]
        if value.rstrip("/") == expected.rstrip("/"):
            return [f"{name} differs from the setting by a slash at the end only"]
        if value.lower() == expected.lower():
            return [f"{name} differs from the setting in upper and lower case only"]
        if _SCHEME.sub("", value) == _SCHEME.sub("", expected):
            return [f"{name} differs from the setting in the scheme (https://, http:// or none) only"]
        if _loosely(value) == _loosely(expected):
            return [f"{name} differs from the setting in scheme, case and slashes only, and each of them counts"]
    return []


def _loosely(text: str) -> str:
    return _SCHEME.sub("", text.strip().lower()).rstrip("/")


def user_missing(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    claims = seen.claims
    if settings.namespace is not None:
        return _namespace(claims, settings.namespace)
    for name, value in claims.items():
        if isinstance(value, dict) and ("sub" in value or "user_id" in value):
            return [
                f"there is a user id inside the claim {printable(name)}; AUTH_JWT_NAMESPACE can name that claim"
                " (one claim, not a path)"
            ]
    return _other_name(claims)


def _namespace(claims: Mapping[str, Any], namespace: str) -> list[str]:
    inner = claims.get(namespace)
    if isinstance(inner, Mapping):
        return _other_name(inner)
    if isinstance(inner, str) and _is_json_object(inner):
        return [f"{printable(namespace)} is a text that holds JSON; the issuer has to write the object itself"]
    hints = [hint for name in claims for hint in _near("the claim " + printable(name), [name], namespace)]
    if namespace not in claims and _reaches(claims, namespace):
        hints.append("AUTH_JWT_NAMESPACE is one literal claim name, not a path with dots")
    if "sub" in claims or "user_id" in claims:
        hints.append("there is a user id at the top level, but AUTH_JWT_NAMESPACE is set and only that place counts")
    return hints or _other_name(claims)


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _reaches(claims: Mapping[str, Any], path: str) -> bool:
    """Whether `path`, read as names with dots or slashes between, leads to an object."""
    place: Any = claims
    for name in re.split(r"[./]", path):
        place = place.get(name) if isinstance(place, Mapping) else None
    return isinstance(place, Mapping)


def _other_name(place: Mapping[str, Any]) -> list[str]:
    if found := _alike(place, _USER_LIKE):
        return [f"the token has {printable(found)}; the user id has to be in sub (or user_id, its former name)"]
    return []


def _alike(place: Mapping[str, Any], names: frozenset[str]) -> str | None:
    """The first member whose name is one of `names` but for case and separators."""
    for name in place:
        if name not in ("sub", "user_id") and re.sub(r"[_-]", "", name).lower() in names:
            return name
    return None


def user_invalid(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    place = seen.claims.get(settings.namespace) if settings.namespace is not None else seen.claims
    if not isinstance(place, Mapping):
        return []
    hints = []
    sub, former = place.get("sub"), place.get("user_id")
    if isinstance(sub, int | float) and not isinstance(sub, bool):
        hints.append("sub is a number; the issuer has to write it as text")
    sub_counts = sub is not None and sub is not False
    if sub_counts and isinstance(former, str) and former.strip():
        hints.append("there is a user_id too, but it is read only when sub is absent: leave sub out or put it right")
    user_id = sub if sub_counts else former
    if settings.user_id_policy == "strict" and isinstance(user_id, str) and user_id != user_id.strip():
        hints.append("AUTH_USER_ID_POLICY=legacy accepts white space around a user id")
    return hints
