"""The authenticated connections of this process, found by what may end them.

Owns when a connection has to end: its token's expiry, the longest life of a session, a withdrawn key, a revocation.
All times are wall-clock (Unix seconds) and are compared with the clock at each tick, because a timer would follow
neither a clock that is set nor a machine that slept (docs/authentication-rules.md). Must not know sockets or the
protocol.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from leyden.auth import Identity, RevocationList
from leyden.events import SessionEnd

#: How long a connection may go on after its token's key was withdrawn, so that it can renew with another (seconds).
WITHDRAWAL_GRACE = 60.0


#: Entries of ended sessions that are not worth a sweep.
_SLACK = 100


class Live(Protocol):
    """An authenticated connection."""

    def end_session(self, cause: SessionEnd) -> None:
        """What let the connection in holds no longer. It produces nothing more, and closes as its state allows."""

    def give_way(self) -> None:
        """A newer connection of the same client takes over."""


class Session:
    """What one connection was let in with. ``deadline`` and ``cause`` tell when it has to end, and why."""

    __slots__ = ("_limit", "_withdrawn_at", "cause", "client_id", "connection", "deadline", "identity", "looked_at")

    def __init__(self, connection: Live, client_id: str, identity: Identity, limit: float) -> None:
        #: ``None`` once it is gone: the register looks at a session when its time is over, which can be long after.
        self.connection: Live | None = connection
        self.client_id = client_id
        self.identity = identity
        self._limit = limit
        self._withdrawn_at = math.inf
        self.deadline = math.inf
        self.cause: SessionEnd = "expired"
        #: When the register will look at it next; never later than ``deadline``.
        self.looked_at = math.inf
        self._settle()

    @property
    def is_withdrawn(self) -> bool:
        """Whether its key is not trusted any more."""
        return self._withdrawn_at < math.inf

    def renew(self, identity: Identity) -> None:
        if identity.key_thumbprint != self.identity.key_thumbprint:
            self._withdrawn_at = math.inf
        self.identity = identity
        self._settle()

    def withdraw(self, at: float) -> None:
        self._withdrawn_at = at
        self._settle()

    def _settle(self) -> None:
        expiry = self.identity.deadline
        reasons: list[tuple[float, SessionEnd]] = [
            (math.inf if expiry is None else expiry, "expired"),
            (self._limit, "session_limit"),
            (self._withdrawn_at, "key_withdrawn"),
        ]
        self.deadline, self.cause = min(reasons)


class Sessions:
    """The register of live sessions. Runs in the event loop; every method returns at once."""

    def __init__(self, *, max_session: float = 0, clock: Callable[[], float] = time.time) -> None:
        """``max_session`` is the longest life of a session in seconds, 0 for no limit."""
        self._max_session = max_session
        self._clock = clock
        self._by_client: dict[str, Session] = {}
        self._live: set[Session] = set()
        self._due: list[tuple[float, int, Session]] = []
        self._numbers = itertools.count()

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._live))

    def __len__(self) -> int:
        return len(self._live)

    def make_way(self, client_id: str, user_id: str) -> bool:
        """An older connection of the same client gives way: it is most likely half open, and to refuse the newer one
        would be final for the client. ``False`` if the client is another user's."""
        older = self._by_client.get(client_id)
        if older is None:
            return True
        if older.identity.user_id != user_id:
            return False
        del self._by_client[client_id]
        self._live.discard(older)
        if older.connection is not None:
            older.connection.give_way()
        return True

    def enter(self, connection: Live, client_id: str, identity: Identity) -> Session:
        """A connection was authenticated, and none of the same client is there any more (:meth:`make_way`)."""
        limit = self._clock() + self._max_session if self._max_session else math.inf
        session = Session(connection, client_id, identity, limit)
        self._by_client[client_id] = session
        self._live.add(session)
        self._schedule(session)
        return session

    def leave(self, session: Session) -> None:
        session.connection = None
        self._live.discard(session)
        if self._by_client.get(session.client_id) is session:
            del self._by_client[session.client_id]
        self._sweep()

    def renew(self, session: Session, identity: Identity) -> None:
        """The connection showed another token of the same user; it may end earlier or later than the one before.

        A session that had ended without its connection being closed lives on.
        """
        if self._by_client.get(session.client_id) is not session:
            return  # a newer connection took over
        session.renew(identity)
        self._live.add(session)
        self._schedule(session)

    def expire(self) -> None:
        """Ends every session whose time is over. Costs nothing when there is none."""
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            _, _, session = heapq.heappop(self._due)
            session.looked_at = math.inf
            if session not in self._live:
                continue
            if session.deadline <= now:
                self._end(session, session.cause)
            else:
                self._schedule(session)

    def revoke(self, revocations: RevocationList) -> None:
        """Ends every session that ``revocations`` forbid."""
        now = self._clock()
        for session in self:
            if revocations.matching(session.identity, now) is not None:
                self._end(session, "revoked")

    def withdraw_keys(self, trusted: Collection[str]) -> None:
        """Only keys with the thumbprints ``trusted`` may vouch for anybody: what others vouched for ends soon. A key
        that comes back in time undoes it."""
        at = self._clock() + WITHDRAWAL_GRACE
        for session in self:
            thumbprint = session.identity.key_thumbprint
            if thumbprint is None or thumbprint in trusted:
                session.withdraw(math.inf)
            elif not session.is_withdrawn:
                session.withdraw(at)
            self._schedule(session)

    def _end(self, session: Session, cause: SessionEnd) -> None:
        self._live.discard(session)
        if session.connection is not None:
            session.connection.end_session(cause)

    def _schedule(self, session: Session) -> None:
        # one entry for each session, however often it is renewed: a deadline that moved away is seen when it is due
        if session.deadline < session.looked_at:
            session.looked_at = session.deadline
            heapq.heappush(self._due, (session.deadline, next(self._numbers), session))

    def _sweep(self) -> None:
        """Forgets what is left of sessions that are gone, once that is the greater part."""
        if len(self._due) > 2 * len(self._live) + _SLACK:
            for _, _, session in self._due:
                if session not in self._live:
                    session.looked_at = math.inf
            self._due = [entry for entry in self._due if entry[2] in self._live]
            heapq.heapify(self._due)
