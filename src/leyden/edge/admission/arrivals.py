"""New connections, judged by their address alone before a byte of them is read.

To read a request and to refuse it costs several times what it costs to close a socket at once. Somebody who opens
thousands a second and waits for no answer would take all the time that there is, and others would not be accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from leyden.events import Emit, RateLimited

from .address import counted_as, peer_address
from .buckets import ARRIVALS, Allowance, Buckets
from .policy import AdmissionPolicy

#: Refusals (429) that those get in all who failed too often; more of them are closed without one.
ANSWERS: Final = Allowance(at_once=512, seconds_for_each=1 / 512)

#: Addresses whose network is remembered.
_ADDRESSES: Final = 10_000


class Arrivals:
    """``failures`` are the failed attempts of each network; ``clock`` gives seconds that never go back."""

    def __init__(self, policy: AdmissionPolicy, failures: Buckets, emit: Emit, *, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._failures = failures
        self._emit = emit
        self._arrivals = Buckets(clock, ARRIVALS)
        self._answers = Buckets(clock, ANSWERS)
        self._counted_under = lru_cache(_ADDRESSES)(self._network)

    def may_be_read(self, peer: str) -> bool:
        """Whether a new connection is to be read at all; ``peer`` is the address of its other end."""
        network = self._counted_under(peer)
        if network is None:
            return True
        if self._arrivals.wait(network) == 0:
            self._arrivals.take(network)
            if self._failures.wait(network) == 0:
                return True
            if self._answers.wait("") == 0:
                self._answers.take("")
                return True
        self._emit(RateLimited(peer, "arrivals"))
        return False

    def authenticated(self, network: str) -> None:
        """One of ``network``'s connections proved who it is, and does not count."""
        self._arrivals.give_back(network)

    def _network(self, peer: str) -> str | None:
        """What ``peer`` is counted under; ``None`` for one that stands for an unknown number of others: a trusted
        proxy, or this machine by its usual address, where an unlisted proxy may be."""
        address = peer_address(peer)
        if address is None or self._policy.trusts(address) or str(address) in ("127.0.0.1", "::1"):
            return None
        return counted_as(address)
