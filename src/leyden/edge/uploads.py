"""The uploads of one connection on their way to the writer: one at a time, in order, bounded by bytes.

What was received whole is applied even when the connection ends before its turn comes; exactly once all the same,
because the writer knows what it has applied when the client sends it again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from leyden.model import ClientChange, ClientDelete, ClientInsert, ClientUpdate, Upload

#: Bytes of uploads read ahead of the one being written. A larger one still passes, alone.
READ_AHEAD_BYTES = 4 << 20

#: What a change and each of its values cost besides the value's bytes, in round figures.
_OVERHEAD = 100


class UploadQueue:
    """Feeds ``apply`` with uploads; :meth:`run` works it off."""

    def __init__(self, apply: Callable[[Upload], Awaitable[object]], limit: int = READ_AHEAD_BYTES) -> None:
        self._apply = apply
        self._limit = limit
        self._queue: deque[tuple[Upload, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = asyncio.Condition()

    @property
    def empty(self) -> bool:
        """Whether nothing waits or is being written."""
        return self._bytes == 0 and not self._queue

    async def put(self, upload: Upload) -> None:
        """Adds ``upload``; waits while there is no room for it."""
        size = size_of(upload)
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self.empty or self._bytes + size <= self._limit)
            if self._closed:
                return
            self._queue.append((upload, size))
            self._bytes += size
            self._changed.notify_all()

    async def run(self) -> None:
        """Until :meth:`finish` was called and everything is applied. What ``apply`` raises ends it."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._closed or bool(self._queue))
                if not self._queue:
                    return
                upload, size = self._queue.popleft()
            await self._apply(upload)
            async with self._changed:
                self._bytes -= size
                self._changed.notify_all()

    def abandon(self) -> None:
        """What waits is dropped at once, and nothing more is taken; :meth:`finish` must follow."""
        self._closed = True
        self._queue.clear()

    async def finish(self, *, abandon: bool = False) -> None:
        """No more will come. With ``abandon`` what waits is dropped, because its author is sending it again."""
        async with self._changed:
            self._closed = True
            if abandon:
                self._queue.clear()
            self._changed.notify_all()


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
