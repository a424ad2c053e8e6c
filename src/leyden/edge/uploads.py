"""The uploads of one connection on their way to the writer: one at a time, in order, bounded by bytes.

What was received whole is applied even when the connection ends before its turn comes; exactly once all the same,
because the writer knows what it has applied when the client sends it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from leyden.model import ClientChange, ClientDelete, ClientInsert, ClientUpdate, Upload

#: Bytes of uploads read ahead of the one being written. A larger one still passes, alone.
READ_AHEAD_BYTES = 4 << 20

#: What a change and each of its values cost besides the value's bytes, in round figures.
_OVERHEAD = 100


class UploadQueue:
    """Feeds ``apply`` with uploads; :meth:`run` works it off, as often as something was put in.

    Most clients upload nothing for most of their time: then nothing runs for them, and no memory is held.
    """

    def __init__(self, apply: Callable[[Upload], Awaitable[object]], limit: int = READ_AHEAD_BYTES) -> None:
        self._apply = apply
        self._limit = limit
        #: Not a deque, which takes 700 bytes while it is empty; nothing costs to take from beside what writing costs.
        self._queue: list[tuple[Upload, int]] = []
        self._bytes = 0
        self._closed = False
        #: Set when there may be room again; ``None`` while nobody waits for it.
        self._room: asyncio.Event | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing waits or is being written."""
        return self._bytes == 0 and not self._queue

    @property
    def waiting(self) -> bool:
        """Whether something waits: :meth:`run` must follow, unless it is under way."""
        return bool(self._queue)

    async def put(self, upload: Upload) -> None:
        """Adds ``upload``; waits while there is no room for it."""
        size = size_of(upload)
        while not (self._closed or self.empty or self._bytes + size <= self._limit):
            self._room = self._room or asyncio.Event()
            await self._room.wait()
        if not self._closed:
            self._queue.append((upload, size))
            self._bytes += size

    async def run(self) -> None:
        """Until everything that waits is applied. What ``apply`` raises ends it for good: what comes after an upload
        must not be applied without it."""
        try:
            while self._queue:
                upload, size = self._queue.pop(0)
                await self._apply(upload)
                self._bytes -= size
                self._wake()
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """What waits is dropped at once, and nothing more is taken."""
        self._queue.clear()
        self.finish()

    def finish(self) -> None:
        """No more will come. What waits is still applied."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None


def size_of(upload: Upload) -> int:
    """The memory that ``upload`` occupies, in bytes, about."""
    return _OVERHEAD + sum(map(_size_of_change, upload.changes))


def _size_of_change(change: ClientChange) -> int:
    match change:
        case ClientInsert(row=row):
            rows = [row]
        case ClientUpdate(old=old, new=new):
            rows = [old, new]
        case ClientDelete(old=old):
            rows = [old]
        case _:
            rows = [change.key]
    values = sum(_OVERHEAD + len(value or b"") for row in rows for value in row.values())
    return values + sum(_OVERHEAD + len(tag) for tag in change.observed)
