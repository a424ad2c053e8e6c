"""What each network may do so many times at once, and so often from then on: fail, or open a connection.

Each has a bucket, which fills up again with time. A bucket is one number, the time at which it is full again; there
are at most so many, the least recently used goes first. Who can make us forget his own by coming from many networks
has a bucket in each of them anyway.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

#: Networks that are remembered.
NETWORKS: Final = 50_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one bucket holds: ``at_once``, each of which comes back after ``seconds_for_each``."""

    at_once: int
    seconds_for_each: float
    overdraft: int = 0
    """What is taken beyond the bucket and held against it. Attempts under way when it ran dry go on, as many as the
    lobby holds for one address; they must not come for nothing. But no burst shuts an office out for longer."""

    @property
    def full_to_dry(self) -> float:
        """Seconds until a dry bucket is full."""
        return self.at_once * self.seconds_for_each

    @property
    def longest(self) -> float:
        """Seconds until the emptiest bucket is full."""
        return self.full_to_dry + self.overdraft * self.seconds_for_each


#: Refused tokens and broken protocols; successes cost nothing.
FAILURES: Final = Allowance(at_once=10, seconds_for_each=6.0, overdraft=20)

#: New connections, before a byte of them is read. Who authenticates gets his back, so that an office that comes back
#: after an outage is stopped by its strangers alone.
ARRIVALS: Final = Allowance(at_once=100, seconds_for_each=1 / 64)


class Buckets:
    """``clock`` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float], allowance: Allowance, networks: int = NETWORKS) -> None:
        self._clock = clock
        self._allowance = allowance
        self._networks = networks
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, network: str) -> float:
        """Seconds until ``network`` may try again; 0 when it may now."""
        full_at = self._full_at.get(network)
        if full_at is None:
            return 0.0
        allowance = self._allowance
        return max(0.0, full_at - self._clock() - (allowance.full_to_dry - allowance.seconds_for_each))

    def is_full(self, network: str) -> bool:
        """Whether everything that ``network`` took has come back."""
        return self._full_at.get(network, -math.inf) <= self._clock()

    def take(self, network: str) -> None:
        """Takes one out, whether there is one or not."""
        now = self._clock()
        allowance = self._allowance
        full_at = max(now, self._full_at.get(network, now)) + allowance.seconds_for_each
        self._full_at[network] = min(full_at, now + allowance.longest)
        self._full_at.move_to_end(network)
        if len(self._full_at) > self._networks:
            self._full_at.popitem(last=False)

    def give_back(self, network: str) -> None:
        """Puts one back in."""
        full_at = self._full_at.get(network)
        if full_at is not None:
            self._full_at[network] = full_at - self._allowance.seconds_for_each
