"""The transaction log of a single process: an array in memory, bounded by bytes.

Owns eviction by size. What survives a restart is not its business: the replication slot pins the window, and
the reader fills a new log from there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from leyden.log import OutsideWindow, Subscriber
from leyden.model import Transaction

#: Forgotten entries stay in the arrays until they are this many and half of them, so that eviction is O(1)
#: amortised.
_COMPACT_AT = 1024


class MemoryLog:
    """A :class:`~leyden.log.TransactionLog` holding at most ``max_bytes``, but always the newest transaction.

    The newest is kept whatever its size: a reader one transaction behind must not be thrown out by a single
    large commit.
    """

    def __init__(self, max_bytes: int, floor: int = 0) -> None:
        self._max_bytes = max_bytes
        self._floor = floor
        self._head = floor
        self._first = 0
        self._positions: list[int] = []
        self._transactions: list[Transaction | None] = []
        self._sizes: list[int] = []
        self._bytes = 0
        self._subscribers: tuple[Subscriber, ...] = ()

    @property
    def floor(self) -> int:
        return self._floor

    @property
    def head(self) -> int:
        return self._head

    @property
    def size(self) -> int:
        """Bytes held, as told to :meth:`append`."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._positions) - self._first

    def append(self, transaction: Transaction, size: int) -> None:
        position = transaction.position
        if position <= self._head:
            raise ValueError(f"position {position} is not above the head {self._head} of the log")
        self._head = position
        self._positions.append(position)
        self._transactions.append(transaction)
        self._sizes.append(size)
        self._bytes += size
        if self._bytes > self._max_bytes:
            while self._bytes > self._max_bytes and len(self) > 1:
                self._evict_first()
            self._compact()
        for subscriber in self._subscribers:
            subscriber(transaction)

    def after(self, position: int, limit: int | None = None) -> Sequence[Transaction]:
        if position < self._floor:
            raise OutsideWindow(position, self._floor)
        start = bisect_right(self._positions, position, lo=self._first)
        end = None if limit is None else start + limit
        return [transaction for transaction in self._transactions[start:end] if transaction is not None]

    def holds(self, position: int) -> bool:
        return self._floor <= position <= self.head

    def trim(self, position: int) -> None:
        if position < self._floor:
            return  # asked for with every transaction
        while len(self) and self._positions[self._first] <= position:
            self._evict_first()
        self._compact()

    def reset(self, floor: int) -> None:
        self._floor = floor
        self._head = floor
        self._first = 0
        self._positions = []
        self._transactions = []
        self._sizes = []
        self._bytes = 0

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        # A new tuple each time: a subscriber may come or go while the present ones are being told.
        self._subscribers = (*self._subscribers, subscriber)

        def unsubscribe() -> None:
            self._subscribers = tuple(one for one in self._subscribers if one is not subscriber)

        return unsubscribe

    def _evict_first(self) -> None:
        first = self._first
        self._floor = self._positions[first]
        self._bytes -= self._sizes[first]
        self._transactions[first] = None  # frees the rows now, the slot later
        self._first = first + 1

    def _compact(self) -> None:
        if self._first >= _COMPACT_AT and self._first * 2 >= len(self._positions):
            del self._positions[: self._first]
            del self._transactions[: self._first]
            del self._sizes[: self._first]
            self._first = 0
