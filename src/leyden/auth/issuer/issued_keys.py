"""Keys that an issuer publishes and changes as it likes, kept up to date while the service runs.

Owns the life of one issuer's ring: the first read, refreshes in the background, reads for the sake of an unknown key
name, and the end of trust when the issuer has not been heard of for too long. At most one read is under way at any
time. Must not know how a document is fetched, nor of tokens or connections.

One object serves one configured issuer: keys of different issuers never meet in a ring, so a key of one can never
vouch for tokens of another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from ..algorithms import Algorithm
from ..jwk_set import MAX_KID_CHARACTERS, InvalidJwkSet, SkippedKey, parse_jwk_set
from ..key_ring import KeyRing
from ..key_source import OnChange, tell_changes
from ..notices import KeySetFailed, KeySetRefreshed, KeySetStale, KeySkipped, Notify
from ..pause import Clock, Sleep, until
from .failure import FetchFailed
from .fetching import Fetched, Version
from .schedule import Schedule
from .unknown_kids import UnknownKids

SEEK_SECONDS: Final = 2.0
"""Longest wait for the sake of an unknown key name. The stock client gives up on its request after three seconds, and
never comes back with a token that was refused."""

LONGEST_WAIT: Final = 3_600.0
"""Nothing waits longer, in seconds, without looking at the clock again."""

ReadKeySet = Callable[[Version | None], Awaitable[Fetched]]
"""One read of the issuer's key set, given the version of it that is known; raises `FetchFailed`, in bounded time."""

_log: Final = logging.getLogger("leyden.auth")


@dataclass(slots=True)
class _Read:
    """A read under way, or just ended."""

    began: float
    answered: bool = False
    """Whether it brought word of the issuer's keys."""
    task: asyncio.Task[None] = field(init=False)


def _nobody(ring: KeyRing) -> None:
    pass


class IssuedKeys:
    """A `KeySource` over the key set of one issuer. Belongs to one event loop."""

    def __init__(
        self,
        source: str,
        read: ReadKeySet,
        algorithms: Collection[Algorithm],
        notify: Notify,
        *,
        max_stale: float,
        now: Clock,
        sleep: Sleep,
        random: Callable[[], float],
    ) -> None:
        """`source` names the issuer in notices. Keys older than `max_stale` seconds are not trusted. `random` gives
        numbers from 0 up to 1."""
        self.ring = KeyRing(kids_select=True)
        self._source = source
        self._read_key_set = read
        self._algorithms = algorithms
        self._notify = notify
        self._now = now
        self._sleep = sleep
        self._schedule = Schedule(now(), max_stale=max_stale, random=random)
        self._unknown = UnknownKids()
        self._version: Version | None = None
        self._max_age: float | None = None
        self._skipped: frozenset[SkippedKey] = frozenset()
        self._on_change: OnChange = _nobody
        self._running = False
        self._reload = False
        self._read: _Read | None = None
        self._nudge: asyncio.Future[None] | None = None

    @property
    def available(self) -> bool:
        return self._schedule.trusted(self._now())

    async def run(self, on_change: OnChange) -> None:
        self._on_change = on_change
        self._running = True
        try:
            while True:
                await self._step()
        finally:
            self._running = False
            self._on_change = _nobody
            if self._read is not None:
                self._read.task.cancel()
                await asyncio.wait((self._read.task,))

    def reload(self) -> None:
        self._reload = True
        self._wake()

    async def seek(self, kid: str) -> bool:
        asked = self._now()
        if not self._running or not 0 < len(kid) <= MAX_KID_CHARACTERS or self._knows(kid):
            return False
        if self._unknown.is_absent(kid, asked):
            return False
        deadline = asked + SEEK_SECONDS
        while self._running and (now := self._now()) < deadline:
            read = self._read
            if read is None:
                if not self._unknown.may_ask(now):
                    return False
                read = self._start_read(due=False)
            await until(read.task, deadline - now, self._sleep)
            if self._knows(kid):
                return True
            # A read that began before the question can bring a yes, but its no may be out of date.
            if read.task.done() and read.began >= asked:
                if read.answered:
                    self._unknown.note_absent(kid, self._now())
                return False
        return False

    def _knows(self, kid: str) -> bool:
        return any(key.kid == kid for key in self.ring.keys)

    def _wake(self) -> None:
        if self._nudge is not None and not self._nudge.done():
            self._nudge.set_result(None)

    async def _step(self) -> None:
        """Do what is due, or wait until something may be."""
        now = self._now()
        until_drop = self._schedule.until_drop(now)
        if until_drop <= 0:
            self._drop(now)
        elif self._read is not None:
            await until(self._read.task, min(until_drop, LONGEST_WAIT), self._sleep)
        elif self._reload or self._schedule.until_read(now) <= 0:
            self._reload = False
            self._start_read(due=True)
        else:
            self._nudge = asyncio.get_running_loop().create_future()
            wait = min(self._schedule.until_read(now), until_drop, LONGEST_WAIT)
            await until(self._nudge, wait, self._sleep)

    def _drop(self, now: float) -> None:
        """Trust nothing any more: keys that the issuer withdrew in the meantime may be in the wrong hands."""
        old, age = self.ring, self._schedule.age(now)
        self.ring = KeyRing(kids_select=True)
        self._version = None
        self._schedule.dropped()
        self._notify(KeySetStale(self._source, age))
        self._tell(old)

    def _start_read(self, *, due: bool) -> _Read:
        self._read = read = _Read(self._now())
        read.task = asyncio.create_task(self._run_read(read, due=due))
        return read

    async def _run_read(self, read: _Read, *, due: bool) -> None:
        """Read the key set. A failure moves the timetable only when the read was `due`: a stranger who invents key
        names must not cause retries."""
        try:
            fetched = await self._read_key_set(self._version)
            ring = self._ring_in(fetched)
        except FetchFailed as failure:
            self._failed(failure.reason, due=due)
        except Exception as error:
            # Its text might quote the answer.
            _log.error("reading published keys failed with %s", type(error).__name__)
            self._failed("an internal error occurred", due=due)
        else:
            read.answered = True
            self._accept(read.began, fetched, ring)
        finally:
            self._read = None
            self._wake()

    def _ring_in(self, fetched: Fetched) -> KeyRing:
        """The ring that the answer stands for; raises `FetchFailed` for a bad document."""
        if fetched.body is None:
            if not self.ring:
                raise FetchFailed("the answer says that nothing has changed, but nothing is known")
            return self.ring
        try:
            parsed = parse_jwk_set(fetched.body, self._algorithms)
        except InvalidJwkSet as reason:
            raise FetchFailed(f"the key set {reason}") from None
        self._tell_skipped(parsed.skipped)
        if not parsed.keys:
            raise FetchFailed("the key set has no usable key")
        return KeyRing(parsed.keys, kids_select=True)

    def _accept(self, began: float, fetched: Fetched, ring: KeyRing) -> None:
        # An answer without content leaves standing what an earlier one said (RFC 9111 §4.3.4).
        if fetched.body is not None or fetched.max_age is not None:
            self._max_age = fetched.max_age
        self._version = fetched.version
        old, changed = self.ring, ring != self.ring
        if changed:
            self.ring = ring
        fresh_for = self._schedule.succeeded(began, self._max_age)
        self._notify(KeySetRefreshed(self._source, len(self.ring.keys), changed, fresh_for))
        if changed:
            self._tell(old)

    def _failed(self, reason: str, *, due: bool) -> None:
        now = self._now()
        retry_in = self._schedule.failed(now) if due else self._schedule.until_read(now)
        self._notify(KeySetFailed(self._source, reason, retry_in))

    def _tell(self, old: KeyRing) -> None:
        tell_changes(self._source, old, self.ring, self._notify)
        self._on_change(self.ring)

    def _tell_skipped(self, skipped: Collection[SkippedKey]) -> None:
        """Report keys that were left out, once: not again while they stay in the set."""
        for key in skipped:
            if key not in self._skipped:
                self._notify(KeySkipped(self._source, key.kid, key.reason, key.leaked))
        self._skipped = frozenset(skipped)
