"""The transaction log: the recent past of the database, in commit order, from which clients catch up.

Owns the interface. It knows positions (commit end LSNs) and :class:`~leyden.model.Transaction`; it must not
know who fills it, who reads it, nor how a position is written on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from leyden.model import Transaction

#: Told of every transaction right after it was appended, in order, synchronously. It must not raise.
Subscriber = Callable[[Transaction], None]


class OutsideWindow(LookupError):
    """A position below the log's floor was asked for: transactions after it are already gone."""

    def __init__(self, position: int, floor: int) -> None:
        super().__init__(f"position {position} is below the floor {floor} of the transaction log")
        self.position = position
        self.floor = floor


class TransactionLog(Protocol):
    """Every transaction with ``position > floor`` up to ``head``, ordered by position."""

    @property
    def floor(self) -> int:
        """Every transaction above this position is held; nothing is promised at or below it."""
        ...

    @property
    def head(self) -> int:
        """Position of the last transaction, or ``floor`` when none is held."""
        ...

    def append(self, transaction: Transaction, size: int) -> None:
        """Add the next transaction and tell the subscribers. ``size`` is its weight in memory, in bytes.

        Raises :class:`ValueError` when its position is not above ``head``.
        """
        ...

    def after(self, position: int, limit: int | None = None) -> Sequence[Transaction]:
        """The transactions above ``position``, oldest first, at most ``limit`` of them.

        Raises :class:`OutsideWindow` when ``position`` is below ``floor``.
        """
        ...

    def holds(self, position: int) -> bool:
        """Whether a reader standing at ``position`` can go on from this log: ``floor <= position <=
        head``."""
        ...

    def trim(self, position: int) -> None:
        """Forget the transactions at or below ``position``; the floor rises to the last one forgotten."""
        ...

    def reset(self, floor: int) -> None:
        """Forget everything and begin again above ``floor`` (start of the service, or a new epoch)."""
        ...

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Hear of every transaction appended from now on. Returns the function that ends it."""
        ...
