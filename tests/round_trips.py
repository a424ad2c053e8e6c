"""How often Postgres is waited for: what counts when it is a network away."""

from __future__ import annotations

from postgres_link import Ends, Link


class Counter(Link):
    """Counts how often something is sent after an answer has come."""

    def __init__(self) -> None:
        super().__init__()
        self._answered = True
        self.round_trips = 0

    def sent(self, data: bytes, ends: Ends) -> bool:
        self.round_trips += self._answered
        self._answered = False
        return True

    def answered(self, data: bytes, ends: Ends) -> bool:
        self._answered = True
        return True
