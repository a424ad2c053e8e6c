"""Why a token is refused, and how much of that the peer may learn.

Owns the closed list of reason codes and the exception that carries one. Knows nothing of tokens, keys or
settings: every check of this package raises `Refusal`, and whoever answers the peer asks `wire_message`.
"""

from __future__ import annotations

from typing import Final, Literal

Code = Literal[
    "token_missing",
    "token_too_large",
    "token_malformed",
    "token_encrypted",
    "header_invalid",
    "alg_mismatch",
    "crit_unsupported",
    "b64_unsupported",
    "header_unsupported",
    "typ_rejected",
    "key_unknown",
    "key_unavailable",
    "signature_invalid",
    "payload_invalid",
    "claim_missing",
    "claim_invalid",
    "expired",
    "not_yet_valid",
    "issued_in_future",
    "lifetime_too_long",
    "too_old",
    "issuer_mismatch",
    "audience_mismatch",
    "user_missing",
    "user_invalid",
    "revoked",
    "internal",
]
"""Stable reason codes, in the order of the checks that give them. Metrics may use them as labels."""

ErrorDetail = Literal["none", "code"]

BEFORE_SIGNATURE: Final[frozenset[str]] = frozenset(
    {
        "token_missing",
        "token_too_large",
        "token_malformed",
        "token_encrypted",
        "header_invalid",
        "alg_mismatch",
        "crit_unsupported",
        "b64_unsupported",
        "header_unsupported",
        "typ_rejected",
        "key_unknown",
        "key_unavailable",
        "signature_invalid",
        "internal",
    }
)
"""Codes given to a caller who has not yet shown that a trusted issuer signed anything for him."""


class Refusal(Exception):
    """A token was not accepted.

    `code` is stable and safe to log and to count. `message` is one sentence for the operator's log and
    for `leyden token explain`; it never holds the token, its signature or key material.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code: Code = code
        self.message = message


class UnknownKey(Refusal):
    """No key of the ring may judge the token. `kid` is the name it gives, not escaped; None when it gives none."""

    def __init__(self, message: str, kid: str | None) -> None:
        super().__init__("key_unknown", message)
        self.kid = kid


def wire_message(refusal: Refusal, detail: ErrorDetail, *, insecure: bool = False) -> str | None:
    """The text for the error answer, or None for an answer without text.

    With `detail` "code" the reason goes out only when the signature was good: before that point the peer
    may be anyone, and learns the constant "invalid token" alone. In insecure mode nothing is secret and the
    code always goes out.
    """
    if insecure:
        return refusal.code
    if detail == "none":
        return None
    return "invalid token" if refusal.code in BEFORE_SIGNATURE else refusal.code
