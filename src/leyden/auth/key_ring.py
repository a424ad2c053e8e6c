"""The keys that may judge tokens at one moment, and which of them may judge a given one.

Owns the choice of candidates by algorithm and `kid`. Immutable: a changed set of keys is a new ring. Must not
know where keys come from or when they change.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .algorithms import Algorithm
from .header import printable
from .keys import VerificationKey
from .refusal import UnknownKey

MAX_CANDIDATES: Final = 5
"""Keys tried for a token that names none. More would make one bad token cost many signature checks."""


class KeyRing:
    """Verification keys by algorithm and, for a JWK Set, by `kid`."""

    __slots__ = ("_by_algorithm", "_by_kid", "_kids_select", "keys", "thumbprints")

    def __init__(self, keys: Iterable[VerificationKey] = (), *, kids_select: bool = False) -> None:
        """`kids_select` is for JWK Sets. Among keys configured by hand a `kid` selects nothing: it is only
        the sender's word (RFC 8725 §3.10)."""
        self.keys: Final[tuple[VerificationKey, ...]] = tuple(keys)
        self.thumbprints: Final[frozenset[str]] = frozenset(key.thumbprint for key in self.keys)
        self._kids_select = kids_select
        self._by_algorithm: dict[Algorithm, tuple[VerificationKey, ...]] = {}
        self._by_kid: dict[tuple[Algorithm, str], VerificationKey] = {}
        for key in self.keys:
            self._by_algorithm[key.algorithm] = (*self._by_algorithm.get(key.algorithm, ()), key)
            if key.kid:
                self._by_kid[key.algorithm, key.kid] = key

    def __bool__(self) -> bool:
        return bool(self.keys)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KeyRing):
            return NotImplemented
        return self._kids_select == other._kids_select and set(self.keys) == set(other.keys)

    def __hash__(self) -> int:
        return hash(frozenset(self.keys))

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(f'{key.algorithm.name} {key.thumbprint}' for key in self.keys)})"

    def candidates(self, algorithm: Algorithm, kid: str | None) -> tuple[VerificationKey, ...]:
        """The keys under which a token of this algorithm may be signed; raises `UnknownKey`.

        In a JWK Set a named key is that key and no other; without a name every key of the algorithm is tried, of
        at most `MAX_CANDIDATES`.
        """
        fitting = self._by_algorithm.get(algorithm, ())
        if self._kids_select and kid is not None:
            named = self._by_kid.get((algorithm, kid))
            if named is None:
                raise UnknownKey(f"no key {printable(kid)} for {algorithm.name} is in the key set", kid)
            return (named,)
        if not fitting:
            raise UnknownKey(f"no key for {algorithm.name} is known", kid)
        if len(fitting) > MAX_CANDIDATES and self._kids_select:
            raise UnknownKey(f"the token names no key, and {len(fitting)} keys fit {algorithm.name}", None)
        return fitting
