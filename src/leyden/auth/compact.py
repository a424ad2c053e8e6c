"""The compact serialisation: three base64url segments between dots (RFC 7515 §7.1).

Owns length, alphabet, segment count and decoding: what can be said of a token without reading any JSON.
Every signed content has exactly one accepted spelling per signature, so nothing is padded, trimmed or
forgiven.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Final

from .refusal import Refusal

_ALPHABET: Final = re.compile(r"[A-Za-z0-9_.-]*\Z", re.ASCII)
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*\Z", re.ASCII)
_LAST_SEXTET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_UNUSED_BITS: Final = {2: 0b1111, 3: 0b11}
_EITHER_ALPHABET: Final = re.compile(r"[A-Za-z0-9_+/-]+={0,2}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class CompactToken:
    """The decoded segments, and the bytes the signature covers (as received, RFC 7515 §5.2)."""

    header: bytes
    payload: bytes
    signature: bytes
    signing_input: bytes


def check_size(token: str, max_characters: int) -> None:
    """Raise `token_missing` for an empty token and `token_too_large` beyond `max_characters`."""
    if not token:
        raise Refusal("token_missing", "there is no token")
    if len(token) > max_characters:
        raise Refusal("token_too_large", f"the token has {len(token)} characters, more than {max_characters}")


def split_signed(token: str) -> tuple[str, str, str]:
    """The three segments of a signed token, still encoded.

    Raises `token_malformed` for a foreign character or another number of segments, `token_encrypted` for five
    (a JWE, RFC 7516 §7.1: no code that decrypts or inflates can be reached).
    """
    if not _ALPHABET.match(token):
        position = next(i for i, c in enumerate(token) if not _ALPHABET.match(c))
        raise Refusal("token_malformed", f"the character at position {position} cannot be part of a compact token")
    segments = token.split(".")
    if len(segments) == 5:
        raise Refusal("token_encrypted", "five segments are an encrypted token (JWE), which is not supported")
    if len(segments) != 3:
        raise Refusal("token_malformed", f"a signed token has three segments, this one has {len(segments)}")
    header, payload, signature = segments
    return header, payload, signature


def decode_signed(segments: tuple[str, str, str]) -> CompactToken:
    """Decode the three segments; raises `token_malformed` unless each is canonical base64url.

    Header and payload may not be empty. An empty signature is left to the signature check, which can then say
    that the token is unsigned rather than damaged.
    """
    header, payload, signature = segments
    if not header or not payload:
        raise Refusal("token_malformed", "the header or the payload segment is empty")
    return CompactToken(
        header=_decode(header, "header"),
        payload=_decode(payload, "payload"),
        signature=_decode(signature, "signature"),
        signing_input=f"{header}.{payload}".encode("ascii"),
    )


def unsigned_payload(token: str) -> bytes:
    """The decoded payload of a token in insecure mode; raises `token_malformed` or `token_encrypted`.

    Development tools write such tokens by hand: two segments will do, header and signature are not looked at,
    and the payload may use either base64 alphabet, with or without padding.
    """
    segments = token.split(".")
    if len(segments) == 5:
        raise Refusal("token_encrypted", "five segments are an encrypted token (JWE), which is not supported")
    if len(segments) not in (2, 3):
        raise Refusal("token_malformed", f"an unsigned token has two or three segments, this one has {len(segments)}")
    payload = segments[1]
    bare = payload.rstrip("=")
    padding = len(payload) - len(bare)
    if not _EITHER_ALPHABET.match(payload) or len(bare) % 4 == 1 or (padding and (len(bare) + padding) % 4 != 0):
        raise Refusal("token_malformed", "the payload segment is not base64")
    return base64.urlsafe_b64decode(bare.replace("+", "-").replace("/", "_").encode("ascii") + b"=" * (-len(bare) % 4))


def _decode(segment: str, name: str) -> bytes:
    try:
        return canonical_base64url(segment)
    except ValueError as reason:
        raise Refusal("token_malformed", f"the {name} segment {reason}") from None


def canonical_base64url(text: str) -> bytes:
    """Decode base64url without padding (RFC 7515 §2), in its one canonical spelling.

    Raises `ValueError`, completing "the text …", for padding, foreign characters and non-zero unused bits (RFC 4648
    §3.5 allows refusing those).
    """
    remainder = len(text) % 4
    if remainder == 1:
        raise ValueError("has an impossible length for base64url")
    if not _BASE64URL.match(text):
        raise ValueError("is not base64url")
    if remainder and _LAST_SEXTET.index(text[-1]) & _UNUSED_BITS[remainder]:
        raise ValueError("has unused last bits that are not zero")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
