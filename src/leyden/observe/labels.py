"""The closed lists that labels of metrics and sums of the audit are drawn from.

A label that could hold what somebody outside sends would let him grow the memory of whoever collects it, so what is
on no list becomes :data:`OTHER`.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Final, get_args, get_type_hints

from leyden.auth import ALGORITHMS, Code
from leyden.events import RateLimited, SessionEnd

OTHER: Final = "other"

#: Stands where there is nothing to tell: a token that nobody signed, an outcome that needs no reason.
NONE: Final = "none"

#: Why a client is refused: codes of tokens, and those of connections (docs/authentication-rules.md).
REASONS: Final[Set[str]] = frozenset(get_args(Code)) | {
    "client_id_missing",
    "client_id_invalid",
    "client_id_mismatch",
    "client_id_taken",
    "revocations_unknown",
    "user_mismatch",
    "renewal_too_frequent",
    "role_missing",
    "role_not_allowed",
}

#: Why a live connection ends with its token.
ENDS: Final[Set[str]] = frozenset(get_args(SessionEnd))

LIMITS: Final[Set[str]] = frozenset(get_args(get_type_hints(RateLimited)["limit"]))

ALGORITHM_NAMES: Final[Set[str]] = frozenset(ALGORITHMS)

#: Why a call of the admin API is denied.
DENIALS: Final[Set[str]] = frozenset({"credential", "scope", "host", "origin", "request", "unavailable", "internal"})

#: Close codes that are ours or the clients' (RFC 6455 §7.4).
CLOSE_CODES: Final[Set[str]] = frozenset(
    {"1000", "1001", "1003", "1007", "1008", "1009", "1011", "1012", "1013", "4000"}
)

#: HTTP status of a refused upgrade.
STATUSES: Final[Set[str]] = frozenset({"400", "403", "404", "429", "503"})


def bounded(value: Any, allowed: Set[str]) -> str:
    """``value`` as a text, if it is among ``allowed``."""
    text = str(value)
    return text if text in allowed else OTHER
