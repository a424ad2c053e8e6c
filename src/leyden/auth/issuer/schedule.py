"""When published keys are read next, and how long they may be trusted.

Owns freshness, retries and age as arithmetic over times it is told: seconds of one monotonic clock. Must not know
how keys are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

DEFAULT_FRESHNESS: Final = 600
"""Seconds for which keys are fresh when the issuer does not say."""
LEAST_FRESHNESS: Final = 60
MOST_FRESHNESS: Final = 86_400
LONGEST_RETRY: Final = 60

_REFRESH_AT: Final = 0.8
_JITTER: Final = 0.1


class Schedule:
    """One key set's timetable. A first read is due at once."""

    def __init__(self, now: float, *, max_stale: float, random: Callable[[], float]) -> None:
        """`max_stale` is the greatest age in seconds of trusted keys; `random` gives numbers from 0 up to 1."""
        self._max_stale = max_stale
        self._random = random
        self._due = now
        self._read_at: float | None = None
        self._failures = 0

    def succeeded(self, began: float, max_age: float | None) -> float:
        """A read that began then brought keys; says for how many seconds they are fresh.

        `max_age` is what the issuer said about that. Keys are never called fresh for longer than they may be trusted.
        """
        wanted = DEFAULT_FRESHNESS if max_age is None else max_age
        fresh_for = min(max(wanted, LEAST_FRESHNESS), MOST_FRESHNESS, self._max_stale)
        self._failures = 0
        self._read_at = began
        # Many processes that started together must not come back together.
        self._due = began + fresh_for * _REFRESH_AT * (1 - _JITTER + 2 * _JITTER * self._random())
        return fresh_for

    def failed(self, now: float) -> float:
        """A read that was due failed; says after how many seconds it is due again: 1, 2, 4 … 60."""
        retry_in = min(2.0 ** min(self._failures, 6), LONGEST_RETRY)
        self._failures += 1
        self._due = now + retry_in
        return retry_in

    def dropped(self) -> None:
        """The keys are trusted no more."""
        self._read_at = None

    def trusted(self, now: float) -> bool:
        """Whether there are keys, and not too old ones."""
        return self._read_at is not None and now - self._read_at < self._max_stale

    def age(self, now: float) -> float:
        """Seconds since the keys were known to be the issuer's; 0 when there are none."""
        return 0.0 if self._read_at is None else now - self._read_at

    def until_read(self, now: float) -> float:
        """Seconds until a read is due, 0 when it is."""
        return max(0.0, self._due - now)

    def until_drop(self, now: float) -> float:
        """Seconds until the keys must not be trusted any more, 0 when that time has come; infinite without keys."""
        return math.inf if self._read_at is None else max(0.0, self._read_at + self._max_stale - now)
