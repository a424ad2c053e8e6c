"""Keys that parse, and even verify, but protect nothing.

Owns the arithmetic on public numbers: RSA exponents and moduli, Ed25519 points, guessable secrets. Takes
plain numbers and bytes, knows neither PEM nor settings, and answers with a sentence or None.
"""

from __future__ import annotations

import re
from typing import Final

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 16384

# From OpenSSL's rsa.h: with a modulus above the one size it takes no exponent above the other.
_SMALL_MODULUS_BITS: Final = 3072
_LARGE_MODULUS_EXPONENT_BITS: Final = 64

_ODD_PRIMES: Final = tuple(n for n in range(3, 168, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2)))


def _powers_of_65537(prime: int) -> frozenset[int]:
    powers, power = {1}, 65537 % prime
    while power not in powers:
        powers.add(power)
        power = power * 65537 % prime
    return frozenset(powers)


_ROCA_RESIDUES: Final = tuple((prime, _powers_of_65537(prime)) for prime in _ODD_PRIMES)

_FIELD: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _FIELD) % _FIELD

_UUID: Final = re.compile(rb"(?i)\{?[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\}?")
_PUBLISHED: Final = (b"your-256-bit-secret", b"secret", b"changeme", b"password", b"example", b"default")


def rsa_weakness(modulus: int, exponent: int) -> str | None:
    """What is wrong with an RSA public key, or None.

    Sizes: RFC 7518 §3.3. Exponent: FIPS 186-5 §5.1 asks for an odd e with 2^16 < e < 2^256; e = 1 makes every
    padded digest its own signature, and with a large modulus OpenSSL refuses every signature under a large
    exponent. ROCA: CVE-2017-15361, the modulus is a power of 65537 modulo each of the first 38 odd primes (about
    one sound key in 2^150 would be caught as well).
    """
    bits = modulus.bit_length()
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        return f"is an RSA key of {bits} bits, and {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted"
    if exponent % 2 == 0 or not 2**16 < exponent < 2**256:
        return "has an unsafe RSA exponent: it must be odd and at least 65537"
    if bits > _SMALL_MODULUS_BITS and exponent.bit_length() > _LARGE_MODULUS_EXPONENT_BITS:
        return f"has an RSA exponent of more than {_LARGE_MODULUS_EXPONENT_BITS} bits, too large for its modulus"
    if modulus % 2 == 0 or any(modulus % prime == 0 for prime in _ODD_PRIMES):
        return "is not a sound RSA key: its modulus has a small factor"
    if all(modulus % prime in residues for prime, residues in _ROCA_RESIDUES):
        return "was made by a flawed key generator (ROCA, CVE-2017-15361) and can be factored"
    return None


def ed25519_weakness(encoded: bytes) -> str | None:
    """What is wrong with an Ed25519 public key of 32 bytes, or None.

    Under a point of small order anyone can write signatures that verify; OpenSSL accepts such points. A
    point has small order when y is 0, 1 or -1 (order 1, 2, 4), or when its double has y = 0, that is d·y⁴
    + 2y² = 1 (order 8). A y beyond the field or without an x on the curve fails decoding by RFC 8032
    §5.1.3.
    """
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    if y >= _FIELD:
        return "is not a canonical Ed25519 public key"
    if y in (0, 1, _FIELD - 1) or (_D * y**4 + 2 * y * y - 1) % _FIELD == 0:
        return "is an Ed25519 point of small order: signatures under it can be forged by anyone"
    x_squared = (y * y - 1) * pow(_D * y * y + 1, -1, _FIELD) % _FIELD
    if pow(x_squared, (_FIELD - 1) // 2, _FIELD) != 1:
        return "is not a point on the Ed25519 curve"
    return None


def secret_weakness(secret: bytes) -> str | None:
    """Why a shared secret of sufficient length looks guessable, or None. A warning, not a refusal."""
    if len(set(secret)) < 8:
        return "has fewer than 8 different bytes"
    if _UUID.fullmatch(secret):
        return "is a UUID, which holds at most 122 random bits"
    folded = secret.lower()
    if any(word in folded for word in _PUBLISHED):
        return "contains a word found in published examples"
    return None
