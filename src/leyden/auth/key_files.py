"""What a key file holds, and what of it a service could use.

Owns the telling apart of key formats, for the person who has a file and wonders. Fitness is decided by the very loaders
a service uses; nothing here accepts a key.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from .algorithms import ALGORITHMS, Family
from .fitting import fitting
from .jwk_report import report_on_jwk
from .key_report import KeyReport, report_on_keys
from .keys import UNREADABLE, KeyRejected, VerificationKey, load_keys

MAX_FILE_BYTES: Final = 262_144

_SECRETS: Final = tuple(one for one in ALGORITHMS.values() if one.family is Family.HMAC)
_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,64})-----(.*?)-----END \1-----", re.DOTALL)
_PUBLIC_LABELS: Final = frozenset({"PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"})
_SSH: Final = (b"ssh-", b"ecdsa-sha2-")
_CURVE_NAMES: Final = {one.curve.native: one.curve.name for one in ALGORITHMS.values() if one.curve is not None}


def report_on_file(raw: bytes, *, is_base64: bool = False) -> tuple[KeyReport, ...]:
    """What the content of a file is: PEM, a JWK or a JWK Set, DER, SSH, or else a shared secret.

    `is_base64` reads it as AUTH_JWT_KEY_IS_BASE64_ENCODED would have the service read it. Never raises.
    """
    if not raw.strip():
        return (KeyReport("empty file", problems=("is empty",)),)
    if len(raw) > MAX_FILE_BYTES:
        return (KeyReport("large file", problems=(f"is larger than {MAX_FILE_BYTES} bytes",)),)
    if is_base64 and b"-----BEGIN" in (decoded := _base64(raw)):
        raw = decoded
    if b"-----BEGIN" in raw:
        return _pem_blocks(raw.decode("utf-8", "replace"))
    if raw.startswith(b"\x30") and (report := _der(raw)) is not None:
        return (report,)
    if raw.lstrip().startswith(_SSH):
        return (_ssh_public(raw.strip()),)
    if raw.lstrip().startswith(b"{") and (b'"kty"' in raw or b'"keys"' in raw):
        return report_on_jwk(raw)
    return (_secret(raw.decode("utf-8", "surrogateescape").rstrip("\r\n"), is_base64=is_base64),)


def _base64(raw: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(raw.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""


# ---- PEM, DER, SSH --------------------------------------------------------------------------------------------------


def _pem_blocks(text: str) -> tuple[KeyReport, ...]:
    text = text.replace("\\r\\n", "\n").replace("\\n", "\n")
    blocks = [(match.group(1), match.group(2)) for match in _BLOCK.finditer(text)]
    if not blocks or len(blocks) != text.count("-----BEGIN"):
        private = "PRIVATE KEY-----" in text
        return (KeyReport("damaged PEM", problems=("is not a complete PEM text; copy all of it",), private=private),)
    return tuple(_pem_block(label, body) for label, body in blocks if label != "EC PARAMETERS")


def _pem_block(label: str, body: str) -> KeyReport:
    if label.endswith("PRIVATE KEY"):
        return _pem_private(label, body)
    if label not in _PUBLIC_LABELS:
        return KeyReport(f"PEM block labelled {label}", problems=("is no key; give a public key or a certificate",))
    kind = "certificate with an " if label == "CERTIFICATE" else ""
    try:
        der = _base64(body.encode("ascii"))
        native = x509.load_der_x509_certificate(der).public_key() if kind else load_der_public_key(der)
    except UNREADABLE:
        return KeyReport(f"{kind}unknown key", problems=("is damaged or of an unsupported kind",))
    report = _public(native, f"-----BEGIN {label}-----{body}-----END {label}-----")
    return replace(report, kind=kind + report.kind)


def _pem_private(label: str, body: str) -> KeyReport:
    if label == "OPENSSH PRIVATE KEY":
        pem = f"-----BEGIN {label}-----{body}-----END {label}-----\n".encode("ascii", "replace")
        report = _private(lambda: load_ssh_private_key(pem, password=None).public_key())
        why = "is in OpenSSH's own format; convert a copy with `ssh-keygen -p -m PKCS8 -f COPY`"
        return replace(report, problems=report.problems or (why,), algorithms=())
    if label.startswith("ENCRYPTED") or "ENCRYPTED" in body:
        why = "is encrypted, so that nothing can be said about it; check its public half"
        return KeyReport("encrypted private key", problems=(why,), private=True)
    der = _base64(body.encode("ascii", "replace"))
    return _private(lambda: load_der_private_key(der, password=None).public_key())


def _private(load: Callable[[], PublicKeyTypes]) -> KeyReport:
    """A private key, judged by its public half, which `load` reads."""
    try:
        native = load()
        text = native.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
    except (*UNREADABLE, AttributeError):
        why = "is damaged, encrypted or of an unsupported kind"
        return KeyReport("private key", problems=(why,), private=True)
    report = _public(native, text)
    return replace(report, kind=report.kind.replace("public", "private"), private=True)


def _public(native: PublicKeyTypes, pem: str) -> KeyReport:
    """A public key under every algorithm of its type and curve."""
    kind: str
    size: str | None
    match native:
        case RSAPublicKey():
            kind, size = "RSA public key", f"{native.key_size} bits"
        case EllipticCurvePublicKey():
            kind, size = "EC public key", _CURVE_NAMES.get(native.curve.name, native.curve.name)
        case Ed25519PublicKey():
            kind, size = "Ed25519 public key", None
        case _:
            kind, size = f"{type(native).__name__.removesuffix('PublicKey')} public key", None
    keys: list[VerificationKey] = []
    rejections: list[str] = []
    for algorithm in fitting(native):
        try:
            keys += load_keys(pem, algorithm)
        except KeyRejected as rejected:
            rejections.append(f"{rejected.message}; {rejected.remedy}")
    if keys:
        names = tuple(key.algorithm.name for key in keys)
        return KeyReport(kind, size, names, keys[0].thumbprint)
    return KeyReport(kind, size, problems=tuple(rejections[:1]) or ("is of a kind that no algorithm here uses",))


def _der(raw: bytes) -> KeyReport | None:
    """A binary key; None when it is none."""
    readers: tuple[tuple[Callable[[], PublicKeyTypes], bool], ...] = (
        (lambda: load_der_public_key(raw), False),
        (lambda: x509.load_der_x509_certificate(raw).public_key(), False),
        (lambda: load_der_private_key(raw, password=None).public_key(), True),
    )
    for read, private in readers:
        try:
            report = _public(read(), "")
        except (*UNREADABLE, AttributeError):
            continue
        why = "is binary (DER), and a service reads PEM; convert it with `openssl pkey` and `-inform DER`"
        kind = report.kind.replace("public", "private") if private else report.kind
        return replace(report, kind=kind, problems=(why,), private=private)
    return None


def _ssh_public(raw: bytes) -> KeyReport:
    why = "is in SSH's format, and a service reads PEM; convert it with `ssh-keygen -e -m PKCS8 -f FILE`"
    try:
        report = _public(load_ssh_public_key(raw), "")
    except UNREADABLE:
        return KeyReport("SSH public key", problems=(why,))
    return replace(report, problems=(why,))


# ---- secrets --------------------------------------------------------------------------------------------------------


def _secret(text: str, *, is_base64: bool) -> KeyReport:
    keys: list[VerificationKey] = []
    rejections: list[str] = []
    for algorithm in _SECRETS:
        try:
            keys += load_keys(text, algorithm, is_base64=is_base64)
        except KeyRejected as rejected:
            rejections.append(f"{rejected.message}; {rejected.remedy}")
    notes = ["it is no PEM, JWK or SSH file, so that it is read as a shared secret"]
    if text != text.strip():
        notes.append("white space at its ends is part of it")
    if not is_base64 and len(decoded := _base64(text.encode("utf-8", "surrogateescape"))) >= 32:
        notes.append(f"it could be base64 of {len(decoded)} bytes; --base64 reads it so")
    if keys:
        return replace(report_on_keys(keys), notes=tuple(notes))
    size = None if is_base64 else f"{len(text.encode('utf-8', 'surrogateescape'))} bytes"
    return KeyReport("shared secret", size, problems=tuple(rejections[:1]), notes=tuple(notes))
