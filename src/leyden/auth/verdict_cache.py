"""Tokens whose signature was found good: so that thousands of clients that come back at once cost no second check.

Owns what is remembered, for how long and how much. Only the proof of who wrote a token is kept: its times, and
whatever else may change, are judged again at each use. Belongs to one ring of keys: another ring needs a fresh cache.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from .verifier import Authentic, Identity

MAX_VERDICTS: Final = 10_000
MAX_CHARACTERS: Final = 16 << 20
"""Of the tokens that are remembered, in sum: what a token holds takes many times its length once it is parsed."""


class VerdictCache:
    """SHA-256 of a token's text → what it says. The text identifies only itself: the same claims can be written in
    several texts (an ECDSA signature has two forms), so nothing but this cache may go by it."""

    def __init__(self, capacity: int = MAX_VERDICTS, characters: int = MAX_CHARACTERS) -> None:
        self._capacity = capacity
        self._free = characters
        self._verdicts: OrderedDict[bytes, tuple[Authentic, float | None, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._verdicts)

    def find(self, token: str, now: float) -> Authentic | None:
        """What is known of `token` at `now` (Unix seconds)."""
        digest = _digest(token)
        verdict = self._verdicts.get(digest)
        if verdict is None:
            return None
        authentic, deadline, _ = verdict
        if deadline is not None and now >= deadline:
            self._forget(digest)
            return None
        self._verdicts.move_to_end(digest)
        return authentic

    def keep(self, token: str, authentic: Authentic, identity: Identity) -> None:
        """Remember that `token` was accepted; those that were not used for longest make room."""
        digest = _digest(token)
        if digest in self._verdicts:
            self._forget(digest)
        self._verdicts[digest] = (authentic, identity.deadline, len(token))
        self._free -= len(token)
        while len(self._verdicts) > self._capacity or self._free < 0:
            self._forget(next(iter(self._verdicts)))

    def _forget(self, digest: bytes) -> None:
        self._free += self._verdicts.pop(digest)[2]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
