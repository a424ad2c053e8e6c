"""The protected header: what a token says about itself before its signature is known to be good.

Owns the rules on header members (RFC 7515 §4). Nothing read here can widen what is accepted: the algorithm is
compared, never chosen, and embedded or referenced keys (`jwk`, `jku`, `x5u`, `x5c`) are never read (RFC
8725 §3.10).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from typing import Any, Final

from .refusal import Refusal
from .strict_json import NotStrictJson, parse_object

DEFAULT_TYPES: Final[frozenset[str]] = frozenset({"jwt", "at+jwt"})
"""Accepted `typ` values in lower case without `application/`. Anything else is another kind of token made
with the same key: a DPoP proof, a logout token, a security event (RFC 8725 §3.11)."""


def parse_header(raw: bytes) -> dict[str, Any]:
    """The header object; raises `header_invalid`. A `kid` must be text (RFC 7515 §4.1.4)."""
    try:
        header = parse_object(raw)
    except NotStrictJson as reason:
        raise Refusal("header_invalid", f"the header {reason}") from None
    if "kid" in header and not isinstance(header["kid"], str):
        raise Refusal("header_invalid", "the kid in the header is not a string")
    return header


def check_algorithm(header: Mapping[str, Any], allowed: Collection[str]) -> str:
    """The token's `alg`, which must be exactly one of `allowed` (RFC 8725 §3.1); raises `alg_mismatch`."""
    alg = header.get("alg")
    expected = " or ".join(allowed)
    if not isinstance(alg, str):
        raise Refusal("alg_mismatch", f"the header names no algorithm; {expected} is configured")
    if alg not in allowed:
        raise Refusal("alg_mismatch", f"the header names {printable(alg)}; {expected} is configured")
    return alg


def check_extensions(header: Mapping[str, Any]) -> None:
    """No critical extension is understood here (RFC 7515 §4.1.11), and JWTs may not use an unencoded payload
    (RFC 7797 §7); raises `crit_unsupported` or `b64_unsupported`."""
    if "crit" in header:
        raise Refusal("crit_unsupported", "the header has crit, and no critical extension is supported")
    if "b64" in header and header["b64"] is not True:
        raise Refusal("b64_unsupported", "the header asks for an unencoded payload (b64)")


def check_kind(header: Mapping[str, Any], types: Set[str] | None) -> None:
    """Refuse marks of an encrypted token and kinds of token that are not for us.

    `types` holds lower-case media types without `application/`; None accepts any. Raises
    `header_unsupported` or `typ_rejected`.
    """
    for member in ("enc", "zip"):
        if member in header:
            raise Refusal("header_unsupported", f"the header has {member}, the mark of an encrypted token")
    if types is None or "typ" not in header:
        return
    typ = header["typ"]
    if not isinstance(typ, str):
        raise Refusal("typ_rejected", "the typ in the header is not a string")
    # Media types compare without case, and application/ may be left out (RFC 7515 §4.1.9).
    if not typ.isascii() or typ.lower().removeprefix("application/") not in types:
        raise Refusal("typ_rejected", f"the token is of type {printable(typ)}")


def printable(text: str, limit: int = 128) -> str:
    """`text` quoted for a log line: non-printing and bidirectional characters escaped, cut to `limit`."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    return '"' + "".join(c if c.isprintable() and c != '"' else ascii(c)[1:-1] for c in cut) + '"'
