"""Verification keys: from the text a person configures to something that may judge a signature.

Owns the accepted spellings of a key (PEM as environment files mangle it, shared secrets, their base64)
and every reason to turn a key away at start-up. Knows algorithms, but not which setting or file a text
came from.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_public_key,
)
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from .algorithms import Algorithm, Family
from .weak_keys import ed25519_weakness, rsa_weakness, secret_weakness

MAX_CHARACTERS: Final = 65_536
"""Longest text taken for keys; about ten times a bundle anybody would configure."""

_LABEL: Final = re.compile(r"[A-Z0-9 ]{1,64}\Z")
_PRIVATE_BLOCK: Final = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE")
_PUBLIC_LABELS: Final = frozenset({"PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"})
_ID_EC_PUBLIC_KEY: Final = bytes.fromhex("06072a8648ce3d0201")
_ID_RSASSA_PSS: Final = ("1.2.840.113549.1.1.10", bytes.fromhex("06092a864886f70d01010a"))
#: What cryptography raises for bytes that are no key, or a key beyond it; `InternalError` when OpenSSL can read them,
#: but makes no key of them.
UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, InternalError, x509.InvalidVersion)
_KEY_MARKS: Final = (b"-----BEGIN", b"---- BEGIN ")
_KEY_AS_SECRET: Final = ("is a PEM or SSH key, not a shared secret", "set AUTH_JWT_ALG to the key's algorithm")
_PEM_SHAPE: Final = 'a PEM text from "-----BEGIN PUBLIC KEY-----" to "-----END PUBLIC KEY-----"'


class KeyRejected(ValueError):
    """A configured key cannot be used. `message` completes "the key …"; `remedy` says what to do.

    Neither ever holds any part of the key.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"the key {message}; {remedy}")
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One key fit for one algorithm. Its representation shows the thumbprint only."""

    algorithm: Algorithm
    signature_bytes: int
    """Exact length of a signature under this key."""
    thumbprint: str
    """RFC 7638, SHA-256."""
    warning: str | None
    """Why a shared secret looks guessable although it is long enough; completes "the key …"."""
    material: OctKey | RSAKey | ECKey | OKPKey = field(repr=False, compare=False)
    kid: str | None = None
    """Its name in a JWK Set; None for a key that was configured by hand."""

    def secret(self) -> bytes | None:
        """The shared secret, or None for a public key."""
        return self.material.raw_value if isinstance(self.material, OctKey) else None


def load_keys(text: str, algorithm: Algorithm, *, is_base64: bool = False) -> tuple[VerificationKey, ...]:
    """The keys written in `text`, in order; raises `KeyRejected`.

    For HS* the text is the secret itself, byte for byte, or its standard base64 when `is_base64`. For the
    other algorithms it is one or more PEM blocks, every one of which must fit: several are all tried, for
    rotation. A PEM may be indented, on one line, or with `\\n` spelled out, as environment files leave
    it; with `is_base64` the whole PEM may be base64.
    """
    if len(text) > MAX_CHARACTERS:
        raise KeyRejected(f"is longer than {MAX_CHARACTERS} characters", "give the text of the key alone")
    if algorithm.family is Family.HMAC:
        return (_load_secret(text, algorithm, is_base64),)
    return _load_public_keys(text, algorithm, is_base64)


def _load_secret(text: str, algorithm: Algorithm, is_base64: bool) -> VerificationKey:
    try:
        # An environment variable that is not UTF-8 arrives with its bytes escaped as lone surrogates.
        secret = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise KeyRejected("is not a text of bytes or characters", "make a new one") from None
    _refuse_key_document(secret)
    if is_base64:
        decoded = _standard_base64(text)
        if decoded is None:
            raise KeyRejected("has invalid base64 encoding", "use the standard alphabet without line breaks")
        secret = decoded
        _refuse_key_document(secret)
    if len(secret) < algorithm.digest_bytes:
        raise KeyRejected(
            f"has to be at least {algorithm.digest_bytes} bytes long for {algorithm.name}",
            f"make one with `leyden keys new {algorithm.name}`",
        )
    try:
        material = OctKey.import_key(secret)
    except UNREADABLE:  # joserfc knows some more forms of public keys
        raise KeyRejected(*_KEY_AS_SECRET) from None
    return VerificationKey(
        algorithm=algorithm,
        signature_bytes=algorithm.digest_bytes,
        thumbprint=material.thumbprint(),
        warning=secret_weakness(secret),
        material=material,
    )


def _refuse_key_document(secret: bytes) -> None:
    """A public key is known to everyone: as a shared secret it would let everyone sign (RFC 8725 §2.1)."""
    candidates = [secret]
    compact = b"".join(secret.split())
    if decoded := _standard_base64(compact.decode("latin-1")):
        candidates.append(decoded)
    for candidate in candidates:
        if any(mark in candidate for mark in _KEY_MARKS) or candidate.startswith((b"ssh-", b"ecdsa-sha2-")):
            raise KeyRejected(*_KEY_AS_SECRET)
        if _is_der_key(candidate):
            raise KeyRejected("is an encoded public or private key", "use random bytes as shared secret")
        if _is_jwk(candidate):
            raise KeyRejected("is a JSON Web Key, not a shared secret", "use the bytes of its member k")


def _is_der_key(candidate: bytes) -> bool:
    if not candidate.startswith(b"\x30"):
        return False
    for load in (load_der_public_key, x509.load_der_x509_certificate, _load_der_private_key):
        try:
            load(candidate)
        except (TypeError, InternalError, x509.InvalidVersion):
            # An encrypted private key, which asks for its password; a private key or a certificate with a fault.
            return True
        except UNREADABLE:
            continue
        return True
    return False


def _load_der_private_key(candidate: bytes) -> object:
    # Whether it is a good key does not matter, and finding that out takes time.
    return load_der_private_key(candidate, password=None, unsafe_skip_rsa_key_validation=True)


def _is_jwk(candidate: bytes) -> bool:
    try:
        document = json.loads(candidate.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and ("kty" in document or "keys" in document)


def _standard_base64(text: str) -> bytes | None:
    """RFC 4648 §4 with or without padding; unused bits may be anything. None for anything else."""
    bare = text.rstrip("=")
    padding = len(text) - len(bare)
    if len(bare) % 4 == 1 or (padding and (len(bare) + padding) % 4 != 0) or padding > 2:
        return None
    try:
        return base64.b64decode(bare.encode("ascii") + b"=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _load_public_keys(text: str, algorithm: Algorithm, is_base64: bool) -> tuple[VerificationKey, ...]:
    if is_base64 and "-----BEGIN" not in text:
        decoded = _standard_base64("".join(text.split()))
        if decoded is None:
            raise KeyRejected("has invalid base64 encoding", "use the standard alphabet")
        text = decoded.decode("utf-8", "replace")
    # First of all, and even in a damaged text: a private key here has already been handed around.
    if _PRIVATE_BLOCK.search(text):
        raise KeyRejected(
            "is a private key, and only the issuer of tokens may hold that",
            "give the public half, for example from `openssl pkey -in private.pem -pubout`",
        )
    blocks = _pem_blocks(text)
    for label, _ in blocks:
        if label not in _PUBLIC_LABELS:
            raise KeyRejected(f'holds a PEM block labelled "{label}", not a public key', f"give {_PEM_SHAPE}")
    return tuple(_load_public_key(label, body, algorithm) for label, body in blocks)


def _pem_blocks(text: str) -> list[tuple[str, str]]:
    """(label, body) of every block of RFC 7468; text around blocks is allowed there and ignored here."""
    text = text.replace("\\r\\n", "\n").replace("\\n", "\n")
    incomplete = KeyRejected("is not a complete PEM text", f"give {_PEM_SHAPE}")
    blocks = []
    for part in text.split("-----BEGIN ")[1:]:
        label, _, rest = part.partition("-----")
        body, end, _ = rest.partition(f"-----END {label}-----")
        if not end or not _LABEL.match(label):
            raise incomplete
        blocks.append((label, body))
    if not blocks or len(blocks) != text.count("-----BEGIN") or len(blocks) != text.count("-----END"):
        raise incomplete
    return blocks


def _native_key(label: str, der: bytes) -> PublicKeyTypes:
    if label == "CERTIFICATE":
        return x509.load_der_x509_certificate(der).public_key()
    # With its label: the loader of bare DER would take the form of an RSA PUBLIC KEY under PUBLIC KEY (RFC 7468 §13).
    armour = label.encode("ascii")
    return load_pem_public_key(b"-----BEGIN %s-----\n%s-----END %s-----\n" % (armour, base64.encodebytes(der), armour))


def _load_public_key(label: str, body: str, algorithm: Algorithm) -> VerificationKey:
    der = _standard_base64("".join(body.split()))
    unreadable = KeyRejected("is damaged or of an unsupported kind", f"give {_PEM_SHAPE} for {algorithm.name}")
    if der is None:
        raise unreadable
    try:
        native = _native_key(label, der)
    except UNREADABLE:
        raise unreadable from None
    # RFC 4055 §1.2: a key marked for PSS may not be used with PKCS#1 v1.5.
    if isinstance(native, RSAPublicKey) and algorithm.name.startswith("RS") and _is_reserved_for_pss(label, der):
        raise KeyRejected("is reserved for RSASSA-PSS", "set AUTH_JWT_ALG to PS256, PS384 or PS512")
    key = verification_key(native, algorithm)
    # Spelled-out curve parameters are how CVE-2020-0601 smuggled in a generator of the attacker's choice.
    if algorithm.curve is not None and _ID_EC_PUBLIC_KEY + algorithm.curve.object_identifier not in der:
        raise KeyRejected("spells out its curve's parameters", "export it with a named curve")
    return key


def verification_key(native: PublicKeyTypes, algorithm: Algorithm, kid: str | None = None) -> VerificationKey:
    """`native` as a key for `algorithm`; raises `KeyRejected` when it does not fit or protects nothing."""
    signature_bytes: int
    material: RSAKey | ECKey | OKPKey
    match algorithm.family, native:
        case Family.RSA, RSAPublicKey():
            numbers = native.public_numbers()
            if weakness := rsa_weakness(numbers.n, numbers.e):
                raise KeyRejected(weakness, f"make a new pair with `leyden keys new {algorithm.name}`")
            signature_bytes, material = (numbers.n.bit_length() + 7) // 8, RSAKey.import_key(native)
        case Family.EC, EllipticCurvePublicKey():
            curve = algorithm.curve
            if curve is None or native.curve.name != curve.native:
                needed = f"{curve.native} ({curve.name})" if curve else "another"
                raise KeyRejected(
                    f"is on the curve {native.curve.name}, and {algorithm.name} needs {needed}",
                    "set AUTH_JWT_ALG to the algorithm of that curve, or give another key",
                )
            signature_bytes, material = 2 * curve.width, ECKey.import_key(native)
        case Family.ED25519, Ed25519PublicKey():
            if weakness := ed25519_weakness(native.public_bytes(Encoding.Raw, PublicFormat.Raw)):
                raise KeyRejected(weakness, "make a new pair with `leyden keys new Ed25519`")
            signature_bytes, material = 64, OKPKey.import_key(native)
        case _:
            raise KeyRejected(
                f"does not fit {algorithm.name}, which needs {algorithm.family.value}",
                "set AUTH_JWT_ALG to the algorithm the key was made for, or give another key",
            )
    return VerificationKey(algorithm, signature_bytes, material.thumbprint(), None, material, kid)


def _is_reserved_for_pss(label: str, der: bytes) -> bool:
    dotted, encoded = _ID_RSASSA_PSS
    if label == "CERTIFICATE":
        # Its own signature may well be PSS; what counts is the key inside.
        return x509.load_der_x509_certificate(der).public_key_algorithm_oid.dotted_string == dotted
    return encoded in der[:40]
