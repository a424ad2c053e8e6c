"""A JWK Set document: which of its keys may judge tokens, and why the others may not.

Owns the strict reading of RFC 7517 for public signature keys: one bad key never spoils the set, and never gets
in. Must not know whether the document came from a file or from an issuer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from .algorithms import P256, P384, P521, Algorithm, Curve, Family
from .compact import canonical_base64url
from .header import printable
from .keys import KeyRejected, VerificationKey, verification_key
from .strict_json import NotStrictJson, parse_object
from .weak_keys import MAX_RSA_BITS

MAX_BYTES: Final = 262_144
MAX_KEYS: Final = 100
MAX_KID_CHARACTERS: Final = 1024

_CURVES: Final[Mapping[str, tuple[Curve, EllipticCurve]]] = {
    "P-256": (P256, SECP256R1()),
    "P-384": (P384, SECP384R1()),
    "P-521": (P521, SECP521R1()),
}
_FAMILIES: Final = {"RSA": Family.RSA, "EC": Family.EC, "OKP": Family.ED25519}
#: RFC 7518 §6.2.2, §6.3.2, §6.4, RFC 8037 §2, RFC 9964 §4: members that hold secret material, whatever the key's type.
_SECRET_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})


class InvalidJwkSet(ValueError):
    """The document is not a JWK Set. The text completes "the key set …" and never quotes the document."""


@dataclass(frozen=True, slots=True)
class SkippedKey:
    """A key of the set that may not judge tokens. `reason` completes "the key …"; `kid` is unescaped."""

    kid: str | None
    reason: str
    leaked: bool = False
    """Whether the document gives away secret material: whoever read it can be any user."""


@dataclass(frozen=True, slots=True)
class JwkSet:
    """The usable keys, one for each algorithm that a JWK may serve, and what was left out."""

    keys: tuple[VerificationKey, ...]
    skipped: tuple[SkippedKey, ...]


class _Unusable(Exception):
    def __init__(self, reason: str, *, leaked: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.leaked = leaked


def parse_jwk_set(raw: bytes, algorithms: Collection[Algorithm]) -> JwkSet:
    """The keys in `raw` that fit one of `algorithms`; raises `InvalidJwkSet`.

    Keys of unknown type, for other uses, weak or malformed are skipped (RFC 7517 §5). Of keys with the same
    `kid` none is used. `x5c` and `x5u` are not read.
    """
    if len(raw) > MAX_BYTES:
        raise InvalidJwkSet(f"is larger than {MAX_BYTES} bytes")
    try:
        document = parse_object(raw)
    except NotStrictJson as reason:
        raise InvalidJwkSet(str(reason)) from None
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise InvalidJwkSet('has no list "keys"')
    if len(entries) > MAX_KEYS:
        raise InvalidJwkSet(f"has more than {MAX_KEYS} keys")
    usable: list[tuple[VerificationKey, ...]] = []
    skipped: list[SkippedKey] = []
    for entry in entries:
        try:
            usable.append(_usable_keys(entry, algorithms))
        except _Unusable as unusable:
            skipped.append(SkippedKey(_kid_of(entry), unusable.reason, unusable.leaked))
    names = Counter(keys[0].kid for keys in usable if keys[0].kid is not None)
    kept: list[VerificationKey] = []
    for keys in usable:
        if keys[0].kid is not None and names[keys[0].kid] > 1:
            skipped.append(SkippedKey(keys[0].kid, "shares its kid with another key"))
        else:
            kept += keys
    return JwkSet(tuple(kept), tuple(skipped))


def _kid_of(entry: object) -> str | None:
    kid = entry.get("kid") if isinstance(entry, dict) else None
    return kid if isinstance(kid, str) else None


def _usable_keys(entry: object, algorithms: Collection[Algorithm]) -> tuple[VerificationKey, ...]:
    if not isinstance(entry, dict):
        raise _Unusable("is not an object")
    if entry.get("kty") == "oct":
        raise _Unusable("is a shared secret, and nobody but its two holders may read one", leaked=True)
    if secret := sorted(_SECRET_MEMBERS & entry.keys()):
        raise _Unusable(f"holds the secret member {secret[0]}", leaked=True)
    kid = entry.get("kid")
    if "kid" in entry and (not isinstance(kid, str) or len(kid) > MAX_KID_CHARACTERS):
        raise _Unusable("has a kid that is no text, or an overlong one")
    family = _FAMILIES.get(_text(entry, "kty"))
    if family is None:
        raise _Unusable("is of a type that signs no tokens here")
    _check_purpose(entry)
    fitting = [algorithm for algorithm in algorithms if algorithm.family is family and _is_meant(entry, algorithm)]
    if not fitting:
        raise _Unusable("fits none of the accepted algorithms")
    native = _native_key(entry, family)
    try:
        key = verification_key(native, fitting[0], kid)
    except KeyRejected as rejected:
        raise _Unusable(rejected.message) from None
    # Algorithms that one key fits differ in nothing a key is judged by: it is judged once.
    return (key, *(replace(key, algorithm=other) for other in fitting[1:]))


def _check_purpose(entry: Mapping[str, Any]) -> None:
    """`use` and `key_ops` (RFC 7517 §4.2, §4.3), where present, must allow checking signatures."""
    if "use" in entry and entry["use"] != "sig":
        raise _Unusable("is not meant for signatures (use)")
    if "key_ops" in entry:
        operations = entry["key_ops"]
        if not isinstance(operations, list) or "verify" not in operations:
            raise _Unusable("is not meant for checking signatures (key_ops)")


def _is_meant(entry: Mapping[str, Any], algorithm: Algorithm) -> bool:
    """Whether the key's own `alg` and `crv` agree with `algorithm`."""
    if "alg" in entry and entry["alg"] != algorithm.name:
        return False
    if algorithm.family is Family.EC:
        return algorithm.curve is not None and entry.get("crv") == algorithm.curve.name
    return algorithm.family is not Family.ED25519 or entry.get("crv") == "Ed25519"


def _native_key(entry: Mapping[str, Any], family: Family) -> PublicKeyTypes:
    try:
        match family:
            case Family.RSA:
                return RSAPublicNumbers(e=_number(entry, "e"), n=_number(entry, "n")).public_key()
            case Family.EC:
                curve, native = _CURVES[_text(entry, "crv")]
                x, y = (int.from_bytes(_octets(entry, name, curve.width), "big") for name in ("x", "y"))
                return EllipticCurvePublicNumbers(x, y, native).public_key()
            case _:
                return Ed25519PublicKey.from_public_bytes(_octets(entry, "x", 32))
    except (ValueError, OverflowError, UnsupportedAlgorithm):
        raise _Unusable("has values that are no public key") from None


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise _Unusable(f"has no text {printable(name)}")
    return value


def _octets(entry: Mapping[str, Any], name: str, width: int | None = None) -> bytes:
    """A base64url member (RFC 7518 §6.2.1.2: of exactly the curve's width, leading zeros included)."""
    text = _text(entry, name)
    try:
        octets = canonical_base64url(text)
    except ValueError:
        raise _Unusable(f"has a member {name} that is not base64url") from None
    if width is not None and len(octets) != width:
        raise _Unusable(f"has a member {name} of {len(octets)} bytes instead of {width}")
    return octets


def _number(entry: Mapping[str, Any], name: str) -> int:
    """A positive integer in the fewest octets (RFC 7518 §2, Base64urlUInt)."""
    octets = _octets(entry, name)
    if not 0 < len(octets) <= MAX_RSA_BITS // 8 or octets[0] == 0:
        raise _Unusable(f"has a member {name} that is no number of a usable size")
    return int.from_bytes(octets, "big")
