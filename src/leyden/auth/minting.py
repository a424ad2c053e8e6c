"""Making tokens, for development, tests and small installations.

Owns the claims a configured service expects, the choice of algorithm for a private key, and the one spelling of a
token the stock client can read: it decodes the payload itself with a decoder that knows only the standard base64
alphabet, so the segment may contain neither "-" nor "_". Reads no clock and no file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from .algorithms import Algorithm, Family
from .fitting import fitting
from .key_ring import KeyRing
from .keys import UNREADABLE, KeyRejected, VerificationKey, load_keys
from .settings import AuthSettings

RESERVED_CLAIMS: Final = frozenset({"sub", "user_id", "iat", "exp", "nbf", "iss", "aud"})
"""Claims that `claims_for` writes; nobody else may, or a token would say two things."""

# With pure ASCII, sextets 62 and 63 arise only from these four characters.
_ESCAPED: Final = {ord(c): f"\\u{ord(c):04x}" for c in ">?~\x7f"}

SigningKey = OctKey | RSAKey | ECKey | OKPKey


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that signs, with the algorithm it signs by and its public half, or its own self if it is a secret."""

    algorithm: Algorithm
    key: SigningKey = field(repr=False)
    public: VerificationKey
    """Under its name in the key set, if it has one there."""


def claims_for(
    user_id: str, settings: AuthSettings, *, now: int, ttl: int, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The claims with which a service of these settings accepts `user_id` from `now` for `ttl` seconds.

    `extra` claims stand first; one named like the namespace is an object to which the user id is added. Raises
    `ValueError`, with a sentence for the user, when an extra claim clashes with one of `RESERVED_CLAIMS` or the
    namespace does.
    """
    claims = dict(extra or {})
    if taken := sorted(RESERVED_CLAIMS & claims.keys()):
        raise ValueError(f"the claim {taken[0]} is set by the user id, the lifetime or the settings")
    if settings.namespace is None:
        claims["sub"] = user_id
    else:
        inner = claims.get(settings.namespace, {})
        if settings.namespace in RESERVED_CLAIMS - {"sub", "user_id"}:
            raise ValueError("AUTH_JWT_NAMESPACE is the name of another claim that every token needs")
        if not isinstance(inner, dict) or {"sub", "user_id"} & inner.keys():
            raise ValueError("the claim named by AUTH_JWT_NAMESPACE must be an object, and without a user id")
        claims[settings.namespace] = {**inner, "sub": user_id}
    claims |= {"iat": now, "nbf": now, "exp": now + ttl}
    if settings.issuer is not None:
        claims["iss"] = settings.issuer
    if settings.audience is not None:
        claims["aud"] = settings.audience
    return claims


def load_private_key(pem: bytes, algorithm: Algorithm) -> SigningKey:
    """The signing key in a PEM file, held to the same rules as its public half; raises `KeyRejected`."""
    return _signer(pem, _private_key(pem, [algorithm]), algorithm).key


def signer_for(pem: bytes, algorithms: Sequence[Algorithm], ring: KeyRing) -> Signer:
    """The private key in a PEM file, signing by the one of `algorithms` that fits; raises `KeyRejected`.

    When several fit (RS256 and PS256, say), the one under which `ring` holds the public half wins; the key's name
    there, if any, is the signer's.
    """
    native = _private_key(pem, algorithms)
    suitable = fitting(native.public_key(), algorithms)
    if not suitable and len(algorithms) > 1:
        needed = " or ".join(algorithm.name for algorithm in algorithms)
        raise KeyRejected("fits none of the configured algorithms", f"give the private key of a pair made for {needed}")
    signers = [_signer(pem, native, algorithm) for algorithm in suitable or algorithms]
    for signer in signers:
        for known in ring.keys:
            if (known.algorithm, known.thumbprint) == (signer.algorithm, signer.public.thumbprint):
                return replace(signer, public=known)
    return signers[0]


def _private_key(pem: bytes, algorithms: Iterable[Algorithm]) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(_after_parameters(pem), password=None)
    except UNREADABLE:
        needed = " or ".join(algorithm.name for algorithm in algorithms)
        raise KeyRejected(
            "cannot be read as a private key", f"give an unencrypted PEM private key made for {needed}"
        ) from None


def _signer(pem: bytes, native: PrivateKeyTypes, algorithm: Algorithm) -> Signer:
    try:
        public_pem = native.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    except (*UNREADABLE, AttributeError):
        raise KeyRejected("is of an unsupported kind", f"give a private key made for {algorithm.name}") from None
    public = load_keys(public_pem.decode("ascii"), algorithm)[0]
    kind: type[RSAKey] | type[ECKey] | type[OKPKey]
    match algorithm.family:
        case Family.RSA:
            kind = RSAKey
        case Family.EC:
            kind = ECKey
        case _:
            kind = OKPKey
    return Signer(algorithm, kind.import_key(_after_parameters(pem)), public)


def _after_parameters(pem: bytes) -> bytes:
    """`openssl ecparam -genkey` writes the curve in a block of its own before the key."""
    end = b"-----END EC PARAMETERS-----"
    return pem.partition(end)[2].lstrip() if end in pem else pem


def mint_token(
    claims: Mapping[str, Any],
    *,
    algorithm: Algorithm | None = None,
    key: SigningKey | None = None,
    typ: str = "JWT",
    kid: str | None = None,
) -> str:
    """A compact token over `claims`; unsigned (`alg` none, empty signature) without an algorithm.

    Raises `ValueError` when only one of `algorithm` and `key` is given, or a claim is not JSON.
    """
    if (algorithm is None) != (key is None):
        raise ValueError("a signed token needs both an algorithm and a key")
    header = {"alg": algorithm.name if algorithm else "none", "typ": typ}
    if kid is not None:
        header["kid"] = kid
    signing_input = f"{_segment(header)}.{_segment(claims)}"
    signature = algorithm.sign(signing_input.encode("ascii"), key) if algorithm else b""
    return f"{signing_input}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode('ascii')}"


def _segment(members: Mapping[str, Any]) -> str:
    text = json.dumps(members, ensure_ascii=True, allow_nan=False, separators=(",", ":")).translate(_ESCAPED)
    return base64.urlsafe_b64encode(text.encode("ascii")).rstrip(b"=").decode("ascii")
