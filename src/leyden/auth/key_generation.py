"""New keys for every algorithm a configuration may choose.

Owns sizes and formats of generated keys; writes no file and reads no setting.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field
from typing import Final

from joserfc.jwk import ECKey, OKPKey, RSAKey

from .algorithms import ALGORITHMS, Family

RSA_BITS: Final = 3072
"""NIST SP 800-57 part 1: the size matching 128-bit security."""
SECRET_BYTES: Final = 64
"""Enough for every HS algorithm."""


@dataclass(frozen=True, slots=True)
class GeneratedKey:
    """A new key. For HS* there is only `secret`, URL-safe text to be used byte for byte; else a pair of
    PEM texts."""

    algorithm: str
    secret: str | None = field(default=None, repr=False)
    private_pem: str | None = field(default=None, repr=False)
    public_pem: str | None = None


def generate_key(algorithm: str) -> GeneratedKey:
    """A new key for the algorithm of that name; raises `KeyError` for an unknown one."""
    chosen = ALGORITHMS[algorithm]
    pair: RSAKey | ECKey | OKPKey
    match chosen.family:
        case Family.HMAC:
            raw = secrets.token_bytes(SECRET_BYTES)
            return GeneratedKey(algorithm, secret=base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii"))
        case Family.RSA:
            pair = RSAKey.generate_key(RSA_BITS)
        case Family.EC:
            assert chosen.curve is not None
            pair = ECKey.generate_key(chosen.curve.name)
        case Family.ED25519:
            pair = OKPKey.generate_key("Ed25519")
    return GeneratedKey(
        algorithm,
        private_pem=pair.as_pem(private=True).decode("ascii"),
        public_pem=pair.as_pem(private=False).decode("ascii"),
    )
