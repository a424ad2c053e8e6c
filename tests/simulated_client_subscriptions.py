"""What the stock client knows of its subscriptions, and what of that it remembers when it starts again.

Each has a key that the app gave it, and an id that the client gives it anew whenever it asks for it. That the rows of a
cancelled one are gone is not remembered by itself: it stays cancelled until something else is written down.
"""

from __future__ import annotations

import json

from random_shapes import Shape


class Subscriptions:
    """``shapes`` are the app's: what it asks for under each key."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Shape, ...]] = {}
        #: Ids by key; ``None`` while the answer to the call is awaited.
        self.known: dict[str, str | None] = {}
        #: Keys of those whose data has not come on this connection.
        self.requested: set[str] = set()
        #: Keys of those whose data has come.
        self.active: set[str] = set()
        #: Ids of those that the server knows to be given up.
        self.cancelled: set[str] = set()
        #: Keys of those whose data had not come when the connection before this one ended.
        self.unfulfilled: set[str] = set()

    def key_of(self, id_: str) -> str | None:
        return next((key for key, known in self.known.items() if known == id_), None)

    def ids_of(self, keys: set[str]) -> list[str]:
        return [id_ for key in sorted(keys) if (id_ := self.known.get(key)) is not None]

    @property
    def held(self) -> list[str]:
        """Keys of those that the client has the rows of."""
        return [key for key, id_ in self.known.items() if key in self.active and id_ not in self.cancelled]

    def ask(self, key: str) -> None:
        self.known[key] = None
        self.requested.add(key)

    def fail_unanswered(self) -> None:
        """The connection is lost, and the app is told that its calls failed."""
        for key in [key for key in self.requested if self.known.get(key) is None]:
            self.forget(key)

    def deliver(self, key: str) -> None:
        self.requested.discard(key)
        self.active.add(key)

    def drop(self, id_: str) -> None:
        """Its rows are gone."""
        key = self.key_of(id_)
        if key is not None:
            self.forget(key)
            self.active.discard(key)
            self.cancelled.discard(id_)

    def forget(self, key: str) -> None:
        self.known.pop(key, None)
        self.requested.discard(key)

    def clear(self) -> None:
        self.known.clear()
        self.requested.clear()
        self.active.clear()
        self.cancelled.clear()

    # ---- across connections --------------------------------------------------------------------------------------

    def written(self) -> str:
        """What is remembered."""
        return json.dumps(
            {
                "known": self.known,
                "requested": sorted(self.requested),
                "active": sorted(self.active),
                "cancelled": sorted(self.cancelled),
            }
        )

    def read(self, written: str | None) -> None:
        """A connection begins: all that was not remembered is forgotten."""
        state = json.loads(written or "{}")
        self.known = state.get("known", {})
        self.unfulfilled = set(state.get("requested", ()))
        self.active = set(state.get("active", ()))
        self.cancelled = set(state.get("cancelled", ()))
        self.requested = set()
