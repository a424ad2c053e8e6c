"""Guesses at what went wrong when a token is refused.

Owns the usual mistakes of people who make tokens. A hint never decides anything: it is a sentence for the
operator of `leyden token explain`, drawn from the refused token and the settings.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping
from typing import Any, Final

from .algorithms import ALGORITHMS, Family
from .claims import MAX_NUMERIC_DATE
from .key_ring import KeyRing
from .settings import AuthSettings
from .verifier import Examination

_DIGESTS: Final = {32: "sha256", 48: "sha384", 64: "sha512"}


def hints_for(code: str, seen: Examination, settings: AuthSettings, ring: KeyRing) -> tuple[str, ...]:
    """Likely causes of the refusal `code`, most likely first; often none."""
    hint = _HINTS.get(code)
    return tuple(hint(seen, settings, ring)) if hint else ()


def _malformed(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    token = seen.token
    hints = []
    if token.lower().startswith("bearer "):
        hints.append('the token begins with "Bearer "; give only what follows')
    elif token != token.strip():
        hints.append("there is white space or a line break around the token")
    elif token[:1] in "\"'":
        hints.append("there are quotation marks around the token")
    elif "=" in token:
        hints.append(f'base64 padding ("=") at position {token.index("=")}; segments of a token are never padded')
    elif "+" in token or "/" in token:
        hints.append('the token uses the standard base64 alphabet; tokens use "-" and "_" instead of "+" and "/"')
    elif token.count(".") == 1:
        hints.append("two segments are an unsigned token; those are accepted in insecure mode only")
    return hints


def _algorithm(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    alg = seen.header.get("alg")
    if not isinstance(alg, str):
        return []
    if alg.lower() == "none":
        return ["the token is unsigned; those are accepted in insecure mode only"]
    names = {algorithm.name for algorithm in settings.algorithms}
    if {"EdDSA", "Ed25519"} & names and alg in ("EdDSA", "Ed25519"):
        return ["EdDSA and Ed25519 name one algorithm; set AUTH_JWT_ALG to the spelling your issuer writes"]
    other = ALGORITHMS.get(alg)
    secret_expected = any(algorithm.family is Family.HMAC for algorithm in settings.algorithms)
    if other and other.family is Family.HMAC and not secret_expected:
        return ["the token was signed with a shared secret, but a public key is configured"]
    if other and other.family is not Family.HMAC and secret_expected:
        return ["the token was signed with a private key, but a shared secret is configured"]
    return []


def _signature(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    if seen.parts is None or seen.algorithm is None:
        return []
    signature = seen.parts.signature
    if seen.algorithm.family is Family.EC and signature[:1] == b"\x30" and len(signature) >= 68:
        return ["the signature is DER-encoded; JWS wants R and S side by side (RFC 7518 section 3.4)"]
    digest = _DIGESTS[seen.algorithm.digest_bytes]
    for key in seen.candidates:
        secret = key.secret()
        if secret is None:
            continue
        for candidate, mistake in _other_readings(secret):
            made = hmac.new(candidate, seen.parts.signing_input, digest).digest()
            if hmac.compare_digest(made, signature):
                return [mistake]
    return []


def _other_readings(secret: bytes) -> list[tuple[bytes, str]]:
    encoded = base64.b64encode(secret)
    readings = [
        (text, "the token was signed with the base64 text of the secret, not with the decoded secret")
        for text in (encoded, encoded.rstrip(b"="))
    ]
    try:
        decoded = base64.b64decode(secret + b"=" * (-len(secret) % 4), altchars=b"-_")
    except (binascii.Error, ValueError):
        decoded = b""
    if decoded:
        mistake = "the token was signed with the decoded secret; set AUTH_JWT_KEY_IS_BASE64_ENCODED=true"
        readings.append((decoded, mistake))
    return readings


def _claim_invalid(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    hints = []
    for name in ("exp", "iat", "nbf"):
        value = seen.claims.get(name)
        if isinstance(value, str) and value.replace(".", "", 1).isdigit():
            hints.append(f"{name} is a number written as text; leave the quotation marks out")
        elif isinstance(value, int | float) and not isinstance(value, bool) and value > MAX_NUMERIC_DATE:
            hints.append(f"{name} looks like milliseconds; JWT counts seconds")
    return hints


def _future(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    return ["the issuer's clock may be ahead of this machine's; AUTH_JWT_LEEWAY forgives up to 60 seconds"]


def _issuer(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    return _near("iss", [seen.claims.get("iss")], settings.issuer)


def _audience(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    audience = seen.claims.get("aud")
    hints = _near("aud", audience if isinstance(audience, list) else [audience], settings.audience)
    if "nonce" in seen.claims or "at_hash" in seen.claims:
        hints.append("this looks like an OpenID Connect ID token; send an access token made for this service")
    return hints


def _near(name: str, values: list[Any], expected: str | None) -> list[str]:
    if expected is None:
        return []
    hints = []
    for value in values:
        if not isinstance(value, str):
            continue
        if value.rstrip("/") == expected.rstrip("/"):
            hints.append(f"{name} differs from the setting by a slash at the end only")
        elif value.lower() == expected.lower():
            hints.append(f"{name} differs from the setting in upper and lower case only")
    return hints


def _user_missing(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    if settings.namespace is not None and ("sub" in seen.claims or "user_id" in seen.claims):
        return ["there is a user id at the top level, but AUTH_JWT_NAMESPACE is set and only that place counts"]
    if settings.namespace is None:
        for value in seen.claims.values():
            if isinstance(value, dict) and ("sub" in value or "user_id" in value):
                return ["there is a user id inside another claim; AUTH_JWT_NAMESPACE can name that claim"]
    return []


def _user_invalid(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    place = seen.claims.get(settings.namespace) if settings.namespace else seen.claims
    sub = place.get("sub") if isinstance(place, Mapping) else None
    if isinstance(sub, int | float) and not isinstance(sub, bool):
        return ["sub is a number; the issuer has to write it as text"]
    return []


_HINTS: Final[Mapping[str, Callable[[Examination, AuthSettings, KeyRing], list[str]]]] = {
    "token_malformed": _malformed,
    "alg_mismatch": _algorithm,
    "signature_invalid": _signature,
    "claim_invalid": _claim_invalid,
    "issued_in_future": _future,
    "issuer_mismatch": _issuer,
    "audience_mismatch": _audience,
    "user_missing": _user_missing,
    "user_invalid": _user_invalid,
}
