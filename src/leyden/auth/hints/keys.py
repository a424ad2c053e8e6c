"""Hints at tokens whose algorithm or key is not a configured one.

Owns the mix-ups between what an issuer signs with and what the service was told. Names keys by `kid` and
thumbprint, which are public.
"""

from __future__ import annotations

from typing import Final

from joserfc.jwk import OctKey

from ..algorithms import ALGORITHMS, Algorithm, Family
from ..findings import named
from ..header import printable
from ..key_ring import KeyRing
from ..keys import VerificationKey
from ..settings import AuthSettings
from ..verifier import Examination
from .signatures import is_hmac

_MAX_LISTED: Final = 20


def algorithm(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    """`alg` is none of the configured ones."""
    alg = seen.header.get("alg")
    if not isinstance(alg, str):
        return []
    if alg.lower() == "none":
        return ["the token is unsigned; those are accepted in insecure mode only"]
    configured = settings.algorithms
    names = {one.name for one in configured}
    if {"EdDSA", "Ed25519"} & names and alg in ("EdDSA", "Ed25519"):
        return [
            "EdDSA and Ed25519 name one algorithm (RFC 9864);"
            " set AUTH_JWT_ALG to the spelling your issuer writes, with a key set to both"
        ]
    for name in names:
        if alg.lower().replace("-", "") == name.lower():
            return [f"algorithm names are spelled exactly: {name}, not {printable(alg)}"]
    other = ALGORITHMS.get(alg)
    if other is None:
        return [f"{printable(alg)} is not supported; have the issuer sign with {' or '.join(sorted(names))}"]
    families = {one.family for one in configured}
    if other.family is Family.HMAC and other.family not in families:
        return _secret_for_a_public_key(seen, other, ring)
    if other.family is not Family.HMAC and Family.HMAC in families:
        return ["the token was signed with a private key, but a shared secret is configured"]
    if other.family is Family.RSA and other.family in families:
        return [f"the same RSA key serves {alg} as well: set AUTH_JWT_ALG={alg} if that is what your issuer signs with"]
    if other.family is Family.HMAC:
        return [f"set AUTH_JWT_ALG={alg} if that is what your issuer signs with; the secret must be long enough for it"]
    return [f"set AUTH_JWT_ALG={alg}, and its key, if that is what your issuer signs with"]


def _secret_for_a_public_key(seen: Examination, other: Algorithm, ring: KeyRing) -> list[str]:
    hints = ["the token was signed with a shared secret, but a public key is configured"]
    if any(_is_signed_with_public_text(seen, other, key) for key in ring.keys):
        hints.append(
            "and that secret was the text of the public key: the issuer was given the public key and HS* where it"
            " needs the private key, or somebody tries to forge tokens (RFC 8725 section 2.1)"
        )
    return hints


def _is_signed_with_public_text(seen: Examination, other: Algorithm, key: VerificationKey) -> bool:
    if seen.parts is None or isinstance(key.material, OctKey):
        return False
    text = key.material.as_pem(private=False)
    return any(is_hmac(seen.parts, secret, other.digest_bytes) for secret in (text, text.strip()))


def key_unknown(seen: Examination, settings: AuthSettings, ring: KeyRing) -> list[str]:
    """No key of the set is for this token."""
    kid = seen.header.get("kid")
    hints = []
    if not isinstance(kid, str):
        hints.append("the token names no key (kid); have the issuer write the kid of the key that signs")
    else:
        hints += _near_misses(kid, seen, ring)
    if ring:
        listed = ", ".join(named(key) for key in ring.keys[:_MAX_LISTED])
        more = f" and {len(ring.keys) - _MAX_LISTED} more" if len(ring.keys) > _MAX_LISTED else ""
        hints.append(f"the key set has: {listed}{more}")
    if isinstance(kid, str):
        hints.append(
            "if the issuer has changed its keys, the set given here is old; if the token comes from another issuer or"
            " environment, its key will never be in this set"
        )
    return hints


def _near_misses(kid: str, seen: Examination, ring: KeyRing) -> list[str]:
    for key in ring.keys:
        if key.kid == kid:
            signs = seen.algorithm.name if seen.algorithm else "another algorithm"
            return [f"the key {printable(kid)} is in the set, but for {key.algorithm.name} and not for {signs}"]
    for key in ring.keys:
        if key.kid and key.kid.strip().lower() == kid.strip().lower():
            return [f"kid differs from {printable(key.kid)} in upper and lower case or white space only"]
    for key in ring.keys:
        if key.thumbprint == kid:
            name = f"is called {printable(key.kid)} there" if key.kid else "has no kid there"
            return [f"kid is the thumbprint of a key of the set that {name}; give the key that kid in the set"]
    return []
