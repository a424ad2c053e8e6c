"""The signature check.

Owns the form a signature must have before any mathematics is tried on it. Knows keys and bytes, and
nothing of what the bytes say.
"""

from __future__ import annotations

from collections.abc import Sequence

from .algorithms import Algorithm, Family
from .compact import CompactToken
from .keys import VerificationKey
from .refusal import Refusal


def check_signature(token: CompactToken, keys: Sequence[VerificationKey]) -> VerificationKey:
    """The first of `keys` under which the signature is good; raises `signature_invalid`."""
    signature = token.signature
    if not signature:
        raise Refusal("signature_invalid", "the token is not signed")
    if not any(len(signature) == key.signature_bytes for key in keys):
        expected = " or ".join(str(length) for length in sorted({key.signature_bytes for key in keys}))
        raise Refusal("signature_invalid", f"the signature has {len(signature)} bytes instead of {expected}")
    for key in keys:
        if (
            len(signature) == key.signature_bytes
            and _in_range(signature, key.algorithm)
            and key.algorithm.verify(token.signing_input, signature, key.material)
        ):
            return key
    raise Refusal("signature_invalid", "the signature was not made with the configured key over this content")


def _in_range(signature: bytes, algorithm: Algorithm) -> bool:
    """Numbers a sound signer never writes: R or S outside 1 … n-1 (FIPS 186-5 §6.4.2; CVE-2022-21449
    shows what trusting the primitive with them can cost). RSA and Ed25519 ranges are checked by OpenSSL
    (RFC 8017 §5.2.2, RFC 8032 §5.1.7)."""
    if algorithm.family is not Family.EC or algorithm.curve is None:
        return True
    width, order = algorithm.curve.width, algorithm.curve.order
    r = int.from_bytes(signature[:width], "big")
    s = int.from_bytes(signature[width:], "big")
    return 0 < r < order and 0 < s < order
