"""Keys that were read from files, and are read again when the files change.

Owns noticing the change, and that a bad new version never replaces a good one. What the files hold, and how it is
read, is the caller's: for this module a file is something that looks different than before.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from .key_ring import KeyRing
from .key_source import OnChange, tell_changes
from .notices import KeySetFailed, KeySetRefreshed, Notify
from .pause import Clock, Sleep, until

CHECK_SECONDS: Final = 10.0
"""Time between two looks at the files."""
SEEK_SECONDS: Final = 1.0
"""Least time since the last look before an unknown key name is worth another."""

_log: Final = logging.getLogger("leyden.auth")

Appearance = tuple[tuple[int, ...] | None, ...]


class WatchedKeys:
    """A `KeySource` over files. Belongs to one event loop."""

    def __init__(
        self,
        source: str,
        ring: KeyRing,
        paths: Collection[Path],
        load: Callable[[], KeyRing],
        notify: Notify,
        *,
        now: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`source` names the files in notices, `ring` is what was read from them. `load` reads them again; it raises
        `OSError`, or `ValueError` with a text that is safe to log."""
        self.ring = ring
        self.available = True
        self._source = source
        self._paths = tuple(paths)
        self._load = load
        self._notify = notify
        self._now = now
        self._sleep = sleep
        self._on_change: OnChange = lambda ring: None
        # None: they may have changed since the ring was read, so the first look reads them
        self._seen: Appearance | None = None
        self._complaint: tuple[Appearance, str] | None = None
        self._looked_at = now()
        self._reload = False
        self._nudge: asyncio.Future[None] | None = None

    async def run(self, on_change: OnChange) -> None:
        self._on_change = on_change
        while True:
            self._look()
            if not self._reload:
                self._nudge = asyncio.get_running_loop().create_future()
                await until(self._nudge, CHECK_SECONDS, self._sleep)

    async def seek(self, kid: str) -> bool:
        if not kid or self._knows(kid) or self._now() - self._looked_at < SEEK_SECONDS:
            return False
        self._look()
        return self._knows(kid)

    def reload(self) -> None:
        self._reload = True
        if self._nudge is not None and not self._nudge.done():
            self._nudge.set_result(None)

    def _knows(self, kid: str) -> bool:
        return any(key.kid == kid for key in self.ring.keys)

    def _look(self) -> None:
        """Read the files if they look different, or were found bad before, or somebody says so."""
        self._looked_at = self._now()
        # Before reading: what is written meanwhile shows at the next look.
        appearance = tuple(_appearance(path) for path in self._paths)
        if appearance == self._seen and self._complaint is None and not self._reload:
            return
        self._seen, self._reload = appearance, False
        try:
            ring = self._load()
        except Exception as error:
            self._complain(appearance, _reason(error))
            return
        if not ring:
            self._complain(appearance, "no key is left")
            return
        self._complaint = None
        old, changed = self.ring, ring != self.ring
        if changed:
            self.ring = ring
        self._notify(KeySetRefreshed(self._source, len(ring.keys), changed, None))
        if changed:
            tell_changes(self._source, old, ring, self._notify)
            self._on_change(ring)

    def _complain(self, appearance: Appearance, reason: str) -> None:
        """Report a bad version once, however often it is tried."""
        complaint = (appearance, reason)
        if complaint != self._complaint:
            self._complaint = complaint
            self._notify(KeySetFailed(self._source, reason, CHECK_SECONDS))


def _appearance(path: Path) -> tuple[int, ...] | None:
    """What tells two versions of a file apart, links followed: a mounted secret is swapped by changing a link above
    it. None when there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _reason(error: Exception) -> str:
    match error:
        case UnicodeError():  # its text quotes the content
            return "the content is not text"
        case ValueError():
            return str(error)
        case OSError():
            return f"the file cannot be read ({error.strerror})"
        case _:
            _log.error("reading keys from files failed with %s", type(error).__name__)
            return "an internal error occurred"
