"""Failed attempts: each network has a bucket of them, which fills up again with time. Successes cost nothing.

A bucket is one number, the time at which it is full again; there are at most so many, the least recently used goes
first. Who can make us forget his own by coming from many networks has a bucket in each of them anyway.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

#: Failures that a network may have at once; and the time in which one of them is forgiven (seconds).
AT_ONCE: Final = 10
SECONDS_FOR_EACH: Final = 6.0

#: Networks that are remembered.
NETWORKS: Final = 50_000

#: Failures beyond the bucket that are held against a network. Attempts under way when it ran dry go on, as many as
#: the lobby holds for one address; they must not come for nothing. But no burst shuts an office out for longer.
OVERDRAFT: Final = 20

_FULL_TO_DRY: Final = AT_ONCE * SECONDS_FOR_EACH


class FailureBuckets:
    """``clock`` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float], networks: int = NETWORKS) -> None:
        self._clock = clock
        self._networks = networks
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, network: str) -> float:
        """Seconds until ``network`` may try again; 0 when it may now."""
        full_at = self._full_at.get(network)
        if full_at is None:
            return 0.0
        return max(0.0, full_at - self._clock() - (_FULL_TO_DRY - SECONDS_FOR_EACH))

    def is_suspect(self, network: str) -> bool:
        """Whether a failure of ``network`` is not forgiven yet."""
        return self._full_at.get(network, -math.inf) > self._clock()

    def failed(self, network: str) -> None:
        """An attempt from ``network`` was refused."""
        now = self._clock()
        full_at = max(now, self._full_at.get(network, now)) + SECONDS_FOR_EACH
        self._full_at[network] = min(full_at, now + _FULL_TO_DRY + OVERDRAFT * SECONDS_FOR_EACH)
        self._full_at.move_to_end(network)
        if len(self._full_at) > self._networks:
            self._full_at.popitem(last=False)
