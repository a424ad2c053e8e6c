"""Hints at signatures that are not good: over the right content, but written, keyed or padded otherwise.

Owns the tries: each reads the signature as some issuer may have meant it. What fits is said and never accepted.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ..algorithms import ALGORITHMS, Family
from ..compact import CompactToken
from ..findings import named
from ..header import printable
from ..key_ring import KeyRing
from ..keys import VerificationKey
from ..refusal import Refusal
from ..settings import AuthSettings
from ..signature import check_signature
from ..verifier import Examination

_DIGESTS: Final = {32: "sha256", 48: "sha384", 64: "sha512"}


def is_hmac(parts: CompactToken, secret: bytes, digest_bytes: int) -> bool:
    """Whether the signature is the HMAC under `secret`."""
    made = hmac.new(secret, parts.signing_input, _DIGESTS[digest_bytes]).digest()
    return hmac.compare_digest(made, parts.signature)


def signature(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    """The first explanation that the signature itself bears out, else what usually is the cause."""
    parts = seen.parts
    if parts is None or seen.algorithm is None:
        return []
    if not parts.signature:
        return ["the token is unsigned; those are accepted in insecure mode only"]
    for tries in (_der, _secret, _hexadecimal, _other_algorithm):
        if hint := tries(parts, seen.candidates):
            return [hint]
    return [_other_key(parts, seen, ring)]


def _good_under(parts: CompactToken, keys: Iterable[VerificationKey]) -> VerificationKey | None:
    for key in keys:
        try:
            return check_signature(parts, (key,))
        except Refusal:
            continue
        except Exception:  # noqa: S112 - a try that a library objects to is just no explanation
            continue
    return None


def _der(parts: CompactToken, keys: tuple[VerificationKey, ...]) -> str | None:
    curves = [key.algorithm.curve for key in keys if key.algorithm.curve is not None]
    if not curves or parts.signature[:1] != b"\x30":
        return None
    try:
        r, s = decode_dss_signature(parts.signature)
        width = curves[0].width
        raw = r.to_bytes(width, "big") + s.to_bytes(width, "big")
    except (ValueError, OverflowError):
        return None
    hint = "the signature is DER-encoded; JWS wants R and S side by side (RFC 7518 section 3.4)"
    if _good_under(replace(parts, signature=raw), keys):
        return f"{hint}; but for that it is good"
    return f"{hint}, and it was not made with the configured key either"


def _secret(parts: CompactToken, keys: tuple[VerificationKey, ...]) -> str | None:
    for key in keys:
        secret = key.secret()
        if secret is None:
            continue
        for candidate, mistake in _other_readings(secret):
            if candidate and is_hmac(parts, candidate, key.algorithm.digest_bytes):
                return mistake
    return None


def _other_readings(secret: bytes) -> Iterator[tuple[bytes, str]]:
    for encoded in (base64.b64encode(secret), base64.urlsafe_b64encode(secret)):
        for text in (encoded, encoded.rstrip(b"=")):
            yield text, "the token was signed with the base64 text of the secret, not with the decoded secret"
    with suppress(binascii.Error, ValueError):
        decoded = base64.b64decode(secret + b"=" * (-len(secret) % 4), altchars=b"-_" if _is_url_safe(secret) else None)
        yield decoded, "the token was signed with the decoded secret; set AUTH_JWT_KEY_IS_BASE64_ENCODED=true"
    with suppress(binascii.Error, ValueError):
        yield binascii.unhexlify(secret), "the token was signed with the bytes that the secret spells in hexadecimal"
    yield secret.hex().encode(), "the token was signed with the hexadecimal text of the secret"
    for text in (secret + b"\n", secret + b"\r\n", secret.strip()):
        if text != secret:
            yield text, "the issuer's secret and AUTH_JWT_KEY differ by white space or a line break at the end"


def _is_url_safe(secret: bytes) -> bool:
    return b"-" in secret or b"_" in secret


def _hexadecimal(parts: CompactToken, keys: tuple[VerificationKey, ...]) -> str | None:
    try:
        raw = binascii.unhexlify(parts.signature)
    except (binascii.Error, ValueError):
        return None
    if not any(len(raw) == key.signature_bytes for key in keys):
        return None
    return "the signature is written as hexadecimal text; encode its bytes themselves in base64url"


def _other_algorithm(parts: CompactToken, keys: tuple[VerificationKey, ...]) -> str | None:
    """RS* and PS* share keys, and so do the hash sizes of HS*."""
    for key in keys:
        if key.algorithm.family not in (Family.RSA, Family.HMAC):
            continue
        for other in ALGORITHMS.values():
            if other is key.algorithm or other.family is not key.algorithm.family:
                continue
            size = other.digest_bytes if other.family is Family.HMAC else key.signature_bytes
            if _good_under(parts, (replace(key, algorithm=other, signature_bytes=size),)):
                return f"the signature was made by {other.name}, and the header says {key.algorithm.name}"
    return None


def _other_key(parts: CompactToken, seen: Examination, ring: KeyRing) -> str:
    """The key's own name, and how to compare it with the issuer's."""
    others = [key for key in ring.keys if key.algorithm is seen.algorithm and key not in seen.candidates]
    kid = seen.header.get("kid")
    says = f"; the token says {printable(kid)}" if isinstance(kid, str) else ""
    if (key := _good_under(parts, others)) is not None:
        return f"the signature is good under another key of the set, {named(key)}{says}: the issuer writes a wrong kid"
    if any(key.secret() is not None for key in seen.candidates):
        return "the issuer signs with another secret, or the token was changed after it had been signed"
    if seen.algorithm is not None and seen.algorithm.family is Family.RSA:
        sizes = {key.signature_bytes for key in seen.candidates}
        if len(parts.signature) not in sizes and len(parts.signature) >= 128:
            bits = len(parts.signature) * 8
            return f"the token was signed with an RSA key of {bits} bits, which is another key than the configured one"
    keys = ", ".join(named(key) for key in seen.candidates)
    return (
        "the issuer signs with another key, or the token was changed after it had been signed; expected is"
        f" {keys}{says}. `leyden keys check FILE` shows the thumbprint of the issuer's key"
    )
