"""Making tokens, for development, tests and small installations.

Owns the one spelling of a token the stock client can read: it decodes the payload itself with a decoder
that knows only the standard base64 alphabet, so the segment may contain neither "-" nor "_".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from .algorithms import Algorithm, Family
from .keys import KeyRejected, load_keys

# With pure ASCII, sextets 62 and 63 arise only from these four characters.
_ESCAPED: Final = {ord(c): f"\\u{ord(c):04x}" for c in ">?~\x7f"}

SigningKey = OctKey | RSAKey | ECKey | OKPKey


def load_private_key(pem: bytes, algorithm: Algorithm) -> SigningKey:
    """The signing key in a PEM file, held to the same rules as its public half; raises `KeyRejected`."""
    remedy = f"give an unencrypted PEM private key made for {algorithm.name}"
    try:
        native = load_pem_private_key(_after_parameters(pem), password=None)
        public = native.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        raise KeyRejected("cannot be read as a private key", remedy) from None
    load_keys(public.decode("ascii"), algorithm)
    kind: type[RSAKey] | type[ECKey] | type[OKPKey]
    match algorithm.family:
        case Family.RSA:
            kind = RSAKey
        case Family.EC:
            kind = ECKey
        case _:
            kind = OKPKey
    return kind.import_key(_after_parameters(pem))


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
