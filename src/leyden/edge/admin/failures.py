"""Wrong secrets: an address has a bucket of them, which fills up again with time. Good ones cost nothing."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

#: Failures that an address may have at once; and the time in which one of them is forgiven (seconds).
AT_ONCE: Final = 10
SECONDS_FOR_EACH: Final = 6.0

#: Addresses that are remembered; the least recently used goes first.
ADDRESSES: Final = 50_000


class Failures:
    """``clock`` gives seconds that never go back. A bucket is one number: when it is full again."""

    def __init__(self, clock: Callable[[], float], addresses: int = ADDRESSES) -> None:
        self._clock = clock
        self._addresses = addresses
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, address: str) -> float:
        """Seconds until ``address`` may try again; 0 when it may now."""
        full_at = self._full_at.get(_counted_as(address))
        if full_at is None:
            return 0.0
        return max(0.0, full_at - self._clock() - (AT_ONCE - 1) * SECONDS_FOR_EACH)

    def failed(self, address: str) -> None:
        """A secret from ``address`` was wrong."""
        counted, now = _counted_as(address), self._clock()
        self._full_at[counted] = max(now, self._full_at.get(counted, now)) + SECONDS_FOR_EACH
        self._full_at.move_to_end(counted)
        if len(self._full_at) > self._addresses:
            self._full_at.popitem(last=False)


def _counted_as(address: str) -> str:
    """An IPv6 address counts as its /64, of which a subscriber chooses the rest as he likes (RFC 6177)."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
