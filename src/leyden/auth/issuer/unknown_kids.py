"""Key names that nobody knows, and how often they are worth a question to the issuer.

Owns the ration of such questions and the memory of names that were asked about in vain. Anybody can invent names, so
both are bounded whatever comes in. Must not know how the question is put.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

QUESTIONS: Final = 2
"""Questions in any `PERIOD` seconds: one in 30 seconds on average, and two in a row."""
PERIOD: Final = 60.0
ABSENT_FOR: Final = 60.0
"""Seconds for which a name that the issuer did not know is not asked about again."""
MAX_ABSENT: Final = 1_000


class UnknownKids:
    """Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._asked: deque[float] = deque(maxlen=QUESTIONS)
        self._absent: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._absent)

    def may_ask(self, now: float) -> bool:
        """Whether the issuer may be asked now; when so, that counts as asking."""
        if len(self._asked) == QUESTIONS and now - self._asked[0] < PERIOD:
            return False
        self._asked.append(now)
        return True

    def is_absent(self, kid: str, now: float) -> bool:
        """Whether the issuer was lately found not to know `kid`."""
        until = self._absent.get(kid)
        if until is None:
            return False
        if now >= until:
            del self._absent[kid]
            return False
        self._absent.move_to_end(kid)
        return True

    def note_absent(self, kid: str, now: float) -> None:
        """The issuer does not know `kid`. The name that was of no interest for longest gives way."""
        self._absent[kid] = now + ABSENT_FOR
        self._absent.move_to_end(kid)
        if len(self._absent) > MAX_ABSENT:
            self._absent.popitem(last=False)
