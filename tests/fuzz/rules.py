"""The rules once more, in other words: what must be true of anything that was accepted.

Written from the specification alone and with nothing of the product but its data types, so that a rule forgotten there
is not forgotten here as well. Slow and plain on purpose.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from leyden.auth import AuthSettings, Family, Identity, VerificationKey

from .material import unsegment

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_NUMBER = re.compile(r"[-+0-9.eE]{65,}")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
# Unicode's Default_Ignorable_Code_Point, as far as category Cf does not cover it.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)


def looseness(raw: bytes) -> str | None:
    """Why `raw` should not have been taken for a strict JSON object (RFC 8259 without its options), or None."""
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_without_repetition, parse_constant=_no_number)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        return f"no strict JSON: {error}"
    outside = _STRING.sub("", text)
    if not isinstance(value, dict) or text[0] == "\ufeff":
        return "no object"
    if depth(value) > 32:
        return "nested too deep"
    return "a number too long" if _NUMBER.search(outside) else None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a member twice")
    return dict(pairs)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def token_breaches(token: str, identity: Identity, settings: AuthSettings, now: int) -> Iterator[str]:
    """What is wrong with having accepted `token` as `identity` under `settings` at `now`."""
    segments = token.split(".")
    if len(token) > settings.max_characters:
        yield "the token is too long"
    if not settings.insecure:
        if len(segments) != 3 or not all(map(_is_canonical, segments)):
            yield "the token has a second spelling"
        raw_header = unsegment(segments[0])
        if loose := looseness(raw_header):
            yield f"the header is {loose}"
            return
        yield from _header_breaches(json.loads(raw_header), settings)
    payload = unsegment(segments[1].replace("+", "-").replace("/", "_").rstrip("="))
    if loose := looseness(payload):
        yield f"the payload is {loose}"
        return
    claims = json.loads(payload)
    if dict(identity.claims) != claims:
        yield "the identity has other claims"
    yield from _time_breaches(claims, identity, settings, now)
    yield from _user_breaches(claims, identity, settings)
    if not settings.insecure:
        yield from _party_breaches(claims, settings)


def _is_canonical(segment: str) -> bool:
    if not _BASE64URL.fullmatch(segment) or len(segment) % 4 == 1:
        return False
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(segment[-1:] or "A")
    return last % {0: 1, 2: 16, 3: 4}[len(segment) % 4] == 0


def _header_breaches(header: Mapping[str, Any], settings: AuthSettings) -> Iterator[str]:
    if header.get("alg") not in [algorithm.name for algorithm in settings.algorithms]:
        yield "the algorithm is none that was configured"
    if {"crit", "enc", "zip"} & header.keys() or header.get("b64", True) is not True:
        yield "the header asks for an extension"
    if not isinstance(header.get("kid", ""), str):
        yield "the kid is no text"
    if settings.types is not None and "typ" in header:
        typ = header["typ"]
        usual = ("jwt", "at+jwt", "application/jwt", "application/at+jwt")
        if not isinstance(typ, str) or not typ.isascii() or typ.casefold() not in usual:
            yield "the token is of another type"


def _time_breaches(claims: Mapping[str, Any], identity: Identity, settings: AuthSettings, now: int) -> Iterator[str]:
    times = {name: claims[name] for name in ("exp", "iat", "nbf") if name in claims}
    if not settings.insecure and not {"exp", "iat"} <= times.keys():
        yield "a time is missing"
        return
    if any(type(value) not in (int, float) or not 0 <= value <= 253402300799 for value in times.values()):
        yield "a time is no time"
        return
    exp, iat = times.get("exp"), times.get("iat")
    if (identity.expires_at, identity.issued_at) != (exp, iat):
        yield "the identity has other times"
    if exp is not None and exp + settings.leeway < now:
        yield "the token has expired"
    if any(times.get(name, 0) > now + settings.leeway for name in ("iat", "nbf")):
        yield "the token is from the future"
    deadline = identity.deadline
    if (deadline is None) != (exp is None):
        yield "the deadline is missing, or made up"
    elif deadline is not None and exp is not None and not deadline - 1 <= exp + settings.leeway < deadline:
        yield "the deadline is wrong"
    if settings.insecure or exp is None or iat is None:
        return
    if settings.max_lifetime and exp - iat > settings.max_lifetime:
        yield "the token lives too long"
    if settings.max_age and now - iat > settings.max_age:
        yield "the token is too old"


def _user_breaches(claims: Mapping[str, Any], identity: Identity, settings: AuthSettings) -> Iterator[str]:
    place = claims if settings.namespace is None else claims.get(settings.namespace)
    if not isinstance(place, dict):
        yield "the namespace is no object"
        return
    user = place.get("sub")
    if user is None or user is False:
        user = place.get("user_id")
    if not isinstance(user, str) or identity.user_id != user:
        yield "the identity is another user, or none"
        return
    if "\0" in user or not user.strip():
        yield "the user id is empty, or holds NUL"
    if settings.user_id_policy == "legacy":
        return
    visible = [c for c in _BLANK.sub("", user) if unicodedata.category(c) not in ("Cf", "Zs", "Zl", "Zp", "Cc")]
    if not visible:
        yield "the user id cannot be seen"
    if user != user.strip():
        yield "the user id has white space around it"
    if any(unicodedata.category(c) == "Cc" for c in user) or len(user.encode()) > 1024:
        yield "the user id has a control character, or is too long"


def _party_breaches(claims: Mapping[str, Any], settings: AuthSettings) -> Iterator[str]:
    if settings.issuer is not None and claims.get("iss") != settings.issuer:
        yield "the token is of another issuer"
    if settings.audience is not None:
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if settings.audience not in audiences or len(audiences) > 64 or not all(isinstance(a, str) for a in audiences):
            yield "the token is for another audience"


# ---- keys -----------------------------------------------------------------------------------------------------------

SMALL_ORDER = [
    *(bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f", b"\xed" + b"\xff" * 30 + b"\x7f"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
]


def weakness(key: VerificationKey) -> str | None:
    """Why `key` should not have been accepted for its algorithm, judged from the library's key object alone."""
    native: Any = key.material.raw_value
    match key.algorithm.family, native:
        case Family.HMAC, bytes():
            return None if len(native) >= key.algorithm.digest_bytes else "a short secret"
        case Family.RSA, RSAPublicKey():
            numbers = native.public_numbers()
            sound = 2048 <= numbers.n.bit_length() <= 16384 and numbers.e % 2 and 65537 <= numbers.e < 2**256
            return None if sound and numbers.n % 2 else "a weak RSA key"
        case Family.EC, EllipticCurvePublicKey():
            wanted = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}[key.algorithm.name]
            return None if native.curve.name == wanted else "a key on another curve"
        case Family.ED25519, Ed25519PublicKey():
            return "a point of small order" if native.public_bytes_raw() in SMALL_ORDER else None
    return "a key of another kind, or a private one"
