"""Who is let in, and for how long: keys, revocations and live sessions, kept in force while the service runs.

Owns the wiring between what changes (keys that rotate, revocations that arrive, time that passes) and those whom it
concerns. The rules themselves are :mod:`leyden.auth`'s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from leyden.auth import AuthSettings, KeyRing, KeySource, RevocationList
from leyden.edge.access.authenticator import Authenticator
from leyden.edge.access.sessions import Sessions
from leyden.events import Emit
from leyden.postgres.revocation_watch import RevocationWatch


class Access:
    """The parts of one process that decide on access; they outlive changes of the database's history."""

    def __init__(
        self, settings: AuthSettings, keys: KeySource, emit: Emit, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._emit = emit
        self._clock = clock
        self._watch: RevocationWatch | None = None
        self.authenticator = Authenticator(settings, keys, clock=clock, revocations_age=self._revocations_age)
        self.sessions = Sessions(max_session=settings.max_session, clock=clock)
        #: Set once there were keys, and once revocations were read: nobody is let in before.
        self.knows_keys = asyncio.Event()
        self.knows_revocations = asyncio.Event()

    @property
    def reason(self) -> str:
        """Why nobody can be let in, in words that anybody may read; empty when somebody can."""
        return "" if self._keys.available else "the issuer's keys could not be fetched yet (the log says why)"

    async def run_keys(self) -> None:
        """Keeps the keys up to date until cancelled."""
        self._use(self._keys.ring)
        await self._keys.run(self._use)

    async def run_revocations(self, dsn: str) -> None:
        """Keeps revocations up to date until cancelled."""
        self._watch = RevocationWatch(dsn, self._revoke, self._emit)
        await self._watch.run()

    async def run_clock(self) -> None:
        """Ends sessions as their time runs out, until cancelled: once a second, as soon as the second has begun."""
        while True:
            now = self._clock()
            await asyncio.sleep(1.0 - now % 1.0 + 0.001)
            self.sessions.expire()

    def reload(self) -> None:
        """Somebody says that the keys have changed."""
        self._keys.reload()

    def _use(self, ring: KeyRing) -> None:
        self.authenticator.use(ring)
        if self._keys.available:
            self.sessions.withdraw_keys(ring.thumbprints)
            self.knows_keys.set()
        # else they are not withdrawn, merely unknown: nobody new is let in, and nobody is sent away for it

    def _revoke(self, revocations: RevocationList) -> None:
        self.authenticator.revocations = revocations
        self.sessions.revoke(revocations)
        self.knows_revocations.set()

    def _revocations_age(self) -> float:
        return float("inf") if self._watch is None else self._watch.age(time.monotonic())
