"""Which algorithms a key's type and curve allow, before its quality is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from .algorithms import ALGORITHMS, Algorithm, Family

PUBLIC_KEY_ALGORITHMS: Final = tuple(one for one in ALGORITHMS.values() if one.family is not Family.HMAC)


def fitting(key: PublicKeyTypes, algorithms: Sequence[Algorithm] = PUBLIC_KEY_ALGORITHMS) -> list[Algorithm]:
    """Those of `algorithms` that a key of this type and curve is for, in their order."""
    match key:
        case RSAPublicKey():
            return [one for one in algorithms if one.family is Family.RSA]
        case EllipticCurvePublicKey():
            return [one for one in algorithms if one.curve is not None and one.curve.native == key.curve.name]
        case Ed25519PublicKey():
            return [one for one in algorithms if one.family is Family.ED25519]
        case _:
            return []
