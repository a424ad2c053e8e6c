"""Where the keys of a running service come from: the interface of all sources, and the one that never changes.

Owns what a source promises. Must not know tokens or connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .key_ring import KeyRing
from .notices import KeyAdded, KeyWithdrawn, Notify

OnChange = Callable[[KeyRing], None]


class KeySource(Protocol):
    """Keys that may change while the service runs. All methods belong to one event loop."""

    @property
    def ring(self) -> KeyRing:
        """The keys that are trusted now; empty while none are, see `available`."""

    @property
    def available(self) -> bool:
        """Whether the keys are known and fresh enough. Without them nobody can be told that a token is bad."""

    async def run(self, on_change: OnChange) -> None:
        """Keep the ring up to date until cancelled; `on_change` is called after each change of it."""

    async def seek(self, kid: str) -> bool:
        """A token names the unknown key `kid`: whether looking again is worth it, because the ring has changed.

        May take up to two seconds, when the keys are being read again for its sake.
        """

    def reload(self) -> None:
        """Read the keys again soon, because somebody says that they have changed."""


class FixedKeys:
    """Keys that were given once and for all."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring
        self.available = True

    async def run(self, on_change: OnChange) -> None:
        pass

    async def seek(self, kid: str) -> bool:
        return False

    def reload(self) -> None:
        pass


def tell_changes(source: str, old: KeyRing, new: KeyRing, notify: Notify) -> None:
    """Report every key that `new` has and `old` had not, and the other way round."""
    before = {(key.algorithm.name, key.kid, key.thumbprint) for key in old.keys}
    after = {(key.algorithm.name, key.kid, key.thumbprint) for key in new.keys}
    for algorithm, kid, thumbprint in sorted(after - before, key=str):
        notify(KeyAdded(source, algorithm, kid, thumbprint))
    for algorithm, kid, thumbprint in sorted(before - after, key=str):
        notify(KeyWithdrawn(source, algorithm, kid, thumbprint))
