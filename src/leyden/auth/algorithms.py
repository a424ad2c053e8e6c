"""The signature algorithms a configuration may choose, as data.

Owns what RFC 7518 §3, RFC 8037 and RFC 9864 fix for each name: family, curve, exact signature length,
least key size. The mathematics is joserfc's; this table decides what may reach it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from joserfc.jws import JWSRegistry


class Family(Enum):
    """The kind of key an algorithm works with."""

    HMAC = "a shared secret"
    RSA = "an RSA key"
    EC = "an elliptic-curve key"
    ED25519 = "an Ed25519 key"


@dataclass(frozen=True, slots=True)
class Curve:
    """A named curve of RFC 7518 §6.2.1.1."""

    name: str
    """Name in a JWK and, as cryptography spells it, in `native`."""
    native: str
    object_identifier: bytes
    """The curve's DER object identifier, as it stands in a key with a named curve."""
    order: int
    width: int
    """Bytes of one coordinate, and of R and of S in a signature."""


P256: Final = Curve(
    name="P-256",
    native="secp256r1",
    object_identifier=bytes.fromhex("06082a8648ce3d030107"),
    order=0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    width=32,
)
P384: Final = Curve(
    name="P-384",
    native="secp384r1",
    object_identifier=bytes.fromhex("06052b81040022"),
    order=0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    width=48,
)
P521: Final = Curve(
    name="P-521",
    native="secp521r1",
    object_identifier=bytes.fromhex("06052b81040023"),
    order=int(
        "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa"
        "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
        16,
    ),
    width=66,
)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One value of `alg`. `digest_bytes` is the hash size, which is also the least size of an HMAC secret."""

    name: str
    family: Family
    digest_bytes: int
    curve: Curve | None = None

    def verify(self, signing_input: bytes, signature: bytes, key: object) -> bool:
        """Whether `signature` is good; `key` is the joserfc key of this family. May raise what joserfc
        raises."""
        return JWSRegistry.algorithms[self.name].verify(signing_input, signature, key)

    def sign(self, signing_input: bytes, key: object) -> bytes:
        """The raw signature under a joserfc private key or secret of this family."""
        return JWSRegistry.algorithms[self.name].sign(signing_input, key)


ALGORITHMS: Final[Mapping[str, Algorithm]] = MappingProxyType(
    {
        algorithm.name: algorithm
        for algorithm in (
            Algorithm("HS256", Family.HMAC, 32),
            Algorithm("HS384", Family.HMAC, 48),
            Algorithm("HS512", Family.HMAC, 64),
            Algorithm("RS256", Family.RSA, 32),
            Algorithm("RS384", Family.RSA, 48),
            Algorithm("RS512", Family.RSA, 64),
            Algorithm("PS256", Family.RSA, 32),
            Algorithm("PS384", Family.RSA, 48),
            Algorithm("PS512", Family.RSA, 64),
            Algorithm("ES256", Family.EC, 32, P256),
            Algorithm("ES384", Family.EC, 48, P384),
            Algorithm("ES512", Family.EC, 64, P521),
            # Two spellings of one algorithm; a configuration that names one accepts only that one.
            Algorithm("EdDSA", Family.ED25519, 64),
            Algorithm("Ed25519", Family.ED25519, 64),
        )
    }
)
