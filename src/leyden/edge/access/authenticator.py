"""Who a token speaks for, in this process and at this moment.

Joins what changes while a service runs (keys, revocations) to the rules that do not (:mod:`leyden.auth`), and rations
what a stranger may cost. Must not know connections.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from leyden.auth import (
    Authentic,
    AuthSettings,
    Identity,
    KeyRing,
    KeySource,
    Refusal,
    RevocationList,
    TokenVerifier,
    UnknownKey,
    VerdictCache,
)

#: How long revocations may have gone unread before strict mode lets nobody in (seconds).
REVOCATIONS_TOO_OLD = 300.0


class TryAgainLater(Exception):
    """The token can be neither accepted nor refused now. A refusal would be final for the client."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """``seconds`` is what checking the signature took; None when it was not necessary."""

    identity: Identity
    seconds: float | None


class Authenticator:
    """Judges tokens by the keys and revocations that hold now."""

    def __init__(
        self,
        settings: AuthSettings,
        keys: KeySource,
        *,
        clock: Callable[[], float] = time.time,
        revocations_age: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.settings = settings
        self.revocations = RevocationList()
        self._keys = keys
        self._clock = clock
        self._revocations_age = revocations_age
        self._verifier = TokenVerifier(settings, keys.ring)
        self._verdicts = VerdictCache()

    @property
    def thumbprints(self) -> Collection[str]:
        """Of the keys that are trusted now."""
        return self._verifier.ring.thumbprints

    def use(self, ring: KeyRing) -> None:
        """From now on these keys are trusted, and no others."""
        self._verifier = TokenVerifier(self.settings, ring)
        self._verdicts = VerdictCache()

    async def judge(self, token: str, ration: Callable[[], Awaitable[bool]] | None = None) -> Accepted:
        """The identity that ``token`` stands for now.

        May take some seconds: for a key that has just been published, or for a turn when ``ration``, which tells
        whether one more signature may be checked, makes callers wait.

        Raises:
            Refusal: the token is not good.
            TryAgainLater: keys or revocations are not known, or too many signatures are to be checked.
        """
        self._require_keys()
        if self.settings.revocation_strict and self._revocations_age() > REVOCATIONS_TOO_OLD:
            raise TryAgainLater("revocations_unknown")
        remembered = self._verdicts.find(token, self._clock())
        if remembered is not None:
            return Accepted(self._judge(remembered), None)
        return await self._examine(token, ration)

    async def _examine(self, token: str, ration: Callable[[], Awaitable[bool]] | None) -> Accepted:
        sought, rationed = False, ration is None
        while True:
            # taken anew after each wait: what was read under keys that have been replaced is worth nothing
            verifier = self._verifier
            try:
                seen = verifier.read(token)
            except UnknownKey as unknown:
                self._require_keys()
                if sought or unknown.kid is None or not await self._keys.seek(unknown.kid):
                    raise
                sought = True
                continue
            if not rationed:
                assert ration is not None
                if not await ration():
                    raise TryAgainLater("overloaded")
                rationed = True
                if self._verifier is not verifier:
                    continue
            started = time.perf_counter()
            authentic = verifier.authenticate(seen)
            seconds = time.perf_counter() - started
            identity = self._judge(authentic)
            if not self.settings.insecure:
                self._verdicts.keep(token, authentic, identity)
            return Accepted(identity, seconds)

    def _judge(self, authentic: Authentic) -> Identity:
        now = self._clock()
        identity = self._verifier.judge(authentic, now)
        self.revocations.check(identity, now)
        return identity

    def _require_keys(self) -> None:
        if not self._keys.available:
            raise TryAgainLater("key_unavailable")

    def reconsider(self, identity: Identity) -> None:
        """Whether what was found true a moment ago still is: for callers that had to wait for something meanwhile.

        Raises:
            Refusal: the token has expired, was revoked, or its key is not trusted any more.
            TryAgainLater: keys have become unknown.
        """
        self._require_keys()
        now = self._clock()
        if identity.deadline is not None and now >= identity.deadline:
            raise Refusal("expired", "the token expired while it was being judged")
        if identity.key_thumbprint is not None and identity.key_thumbprint not in self.thumbprints:
            raise Refusal("key_unknown", "the token's key was withdrawn while it was being judged")
        self.revocations.check(identity, now)
