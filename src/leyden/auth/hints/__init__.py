"""Guesses at what went wrong when a token is refused.

Owns the usual mistakes of people who make tokens and of those who copy them. A hint never decides anything: it is a
sentence for the operator of `leyden token explain`, drawn from the refused token, the settings and the keys. It
never quotes a key or a signature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ..key_ring import KeyRing
from ..settings import AuthSettings
from ..verifier import Examination
from .claims import (
    audience,
    claim_invalid,
    claim_missing,
    expired,
    issued_in_future,
    issuer,
    lifetime,
    not_yet_valid,
    payload,
    user_invalid,
    user_missing,
)
from .form import encrypted, kind, malformed, missing, stock_client
from .keys import algorithm, key_unknown
from .signatures import signature

_Hint = Callable[[Examination, AuthSettings, KeyRing], list[str]]

_HINTS: Final[Mapping[str, _Hint]] = {
    "token_missing": missing,
    "token_malformed": malformed,
    "token_encrypted": encrypted,
    "alg_mismatch": algorithm,
    "header_unsupported": encrypted,
    "typ_rejected": kind,
    "key_unknown": key_unknown,
    "signature_invalid": signature,
    "payload_invalid": payload,
    "claim_missing": claim_missing,
    "claim_invalid": claim_invalid,
    "expired": expired,
    "not_yet_valid": not_yet_valid,
    "issued_in_future": issued_in_future,
    "lifetime_too_long": lifetime,
    "too_old": lifetime,
    "issuer_mismatch": issuer,
    "audience_mismatch": audience,
    "user_missing": user_missing,
    "user_invalid": user_invalid,
}


def hints_for(code: str | None, seen: Examination, settings: AuthSettings, ring: KeyRing) -> tuple[str, ...]:
    """Likely causes of the refusal `code`, most likely first; often none. With None, what may surprise the maker of an
    accepted token."""
    hint = _HINTS.get(code or "")
    hints = hint(seen, settings, ring) if hint else []
    return tuple(dict.fromkeys((*hints, *stock_client(seen), *_both_names(code, seen, settings))))


def _both_names(code: str | None, seen: Examination, settings: AuthSettings) -> list[str]:
    """`user_id` is the former name of `sub`: a token with both speaks for one of them only."""
    place = seen.claims.get(settings.namespace) if settings.namespace is not None else seen.claims
    if code is not None or not isinstance(place, Mapping) or "user_id" not in place:
        return []
    if place["user_id"] is None or place["user_id"] is False or place["user_id"] == seen.user_id:
        return []
    return ["the token has both sub and user_id, and they differ: sub counts"]
