"""Revocations in the database, for those who obey them: every process knows them as soon as they change.

Owns the connection that hears of changes, and when the entries are read again. What becomes of the connections that an
entry hits is not known here.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Final

import psycopg
from psycopg import sql

from leyden.auth import Revocation, RevocationList
from leyden.events import (
    Emit,
    Event,
    RevocationAdded,
    RevocationRemoved,
    RevocationsRead,
    RevocationsUnavailable,
    UnexpectedError,
)
from leyden.postgres.revocations import Connection, database_time, read_page
from leyden.postgres.sessions import connect

#: Where the trigger of ``leyden.revocations`` announces every change (sql/revocations.sql).
CHANNEL: Final = "leyden_revocations"

#: How much is done before others get their turn, a few milliseconds of work each: entries read, entries sorted in,
#: events told.
_PAGE_SIZE: Final = 1000
_SORTED_IN_AT_ONCE: Final = 5000
_TOLD_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class WatchTiming:
    """Intervals in seconds."""

    #: Between readings when nothing is announced, in case an announcement was lost.
    poll: float = 30.0
    #: After a reading before the next one: so many changes may come in a burst and cost one reading.
    pause: float = 0.1
    #: For Postgres to answer before the connection is given up.
    answer: float = 5.0
    #: Shortest and longest wait before reconnecting.
    shortest_retry: float = 0.1
    longest_retry: float = 10.0


class RevocationWatch:
    """Keeps the list of revocations as the database has it, on a connection of its own.

    ``on_change`` is given the list after the first reading and after each one that found a difference; it must not
    raise. ``clock`` is any clock that runs evenly.
    """

    def __init__(
        self,
        dsn: str,
        on_change: Callable[[RevocationList], None],
        emit: Emit,
        *,
        timing: WatchTiming = WatchTiming(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dsn = dsn
        self._on_change = on_change
        self._emit = emit
        self._timing = timing
        self._clock = clock
        #: What is in force here. Nobody may be let in before :attr:`loaded` is set.
        self.current = RevocationList()
        self.loaded = asyncio.Event()
        #: The list that ``on_change`` was given last.
        self._handed_on = self.current
        self._read_at: float | None = None
        self._retry_in = timing.shortest_retry

    def age(self, now: float) -> float:
        """Seconds since the last successful reading, ``now`` by the clock given; infinite before the first one."""
        return math.inf if self._read_at is None else now - self._read_at

    async def run(self) -> None:
        """Until cancelled. Whatever goes wrong is told to ``emit`` and tried again after a while; what was known stays
        in force meanwhile."""
        started = self._clock()
        while True:
            try:
                await self._session()
            except (psycopg.Error, OSError) as error:
                reason = _first_line(error)
            except Exception as error:
                # A defect of ours. Trying again is all that can be done, and it must be seen.
                reason = f"unexpected {type(error).__name__}"
                self._emit(UnexpectedError("revocations", "".join(traceback.format_tb(error.__traceback__))))
            since = self._clock() - (started if self._read_at is None else self._read_at)
            self._emit(RevocationsUnavailable(reason, since))
            retry_in = self._retry_in
            self._retry_in = min(retry_in * 2, self._timing.longest_retry)
            await asyncio.sleep(retry_in)

    async def _session(self) -> None:
        """From connecting to the failure that ends it."""
        timeout = max(2, math.ceil(self._timing.answer))
        async with await connect(self._dsn, autocommit=True, connect_timeout=timeout) as conn:
            with self._must_answer(conn):
                # Before the first reading: what commits after it is announced.
                await conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
                ahead = await database_time(conn) - self._clock()
            while True:
                await self._read(conn, ahead)
                await asyncio.sleep(self._timing.pause)
                await _change(conn, self._timing.poll)

    async def _read(self, conn: Connection, ahead: float) -> None:
        """Read everything and hand it on. ``ahead`` is what the database's clock shows more than ours."""
        known = self._handed_on
        seen: set[int] = set()
        added: list[Revocation] = []
        async for entry in self._entries(conn):
            seen.add(entry.id)
            if entry != known.get(entry.id):
                added.append(entry)
        removed = [entry for entry in known if entry.id not in seen]
        first = not self.loaded.is_set()
        if first or added or removed:
            current = known.changed((entry.id for entry in removed), ())
            for start in range(0, len(added), _SORTED_IN_AT_ONCE):
                current = current.changed((), added[start : start + _SORTED_IN_AT_ONCE])
                await asyncio.sleep(0)
            self.current = current
            self._on_change(current)
            self._handed_on = current
        self._read_at = self._clock()
        self._retry_in = self._timing.shortest_retry
        self.loaded.set()
        lag = None
        if added and not first:
            newest = max(entry.created_at for entry in added)
            lag = max(0.0, self._clock() + ahead - newest)
        self._emit(RevocationsRead(len(self.current), lag))
        if not first:
            await self._tell(_differences(known, removed, added))

    async def _entries(self, conn: Connection) -> AsyncIterator[Revocation]:
        """All entries in force, read in pages. What changes between two pages is announced and read again."""
        with self._must_answer(conn):
            page = await read_page(conn, limit=_PAGE_SIZE)
        while page:
            for entry in page:
                yield entry
            if len(page) < _PAGE_SIZE:
                break
            with self._must_answer(conn):
                page = await read_page(conn, after=page[-1].id, limit=_PAGE_SIZE)

    async def _tell(self, facts: Iterable[Event]) -> None:
        for number, fact in enumerate(facts, start=1):
            self._emit(fact)
            if number % _TOLD_AT_ONCE == 0:
                await asyncio.sleep(0)

    @contextmanager
    def _must_answer(self, conn: Connection) -> Iterator[None]:
        """Gives a connection up that falls silent, as it does when the network goes without a word.

        Cancelling what waits for the answer would ask the silent server to agree, and wait for that.
        """
        silent = False

        def hang_up() -> None:
            nonlocal silent
            silent = True
            with (
                suppress(OSError, psycopg.Error),
                socket.fromfd(conn.fileno(), socket.AF_INET, socket.SOCK_STREAM) as same,
            ):
                same.shutdown(socket.SHUT_RDWR)

        timer = asyncio.get_running_loop().call_later(self._timing.answer, hang_up)
        try:
            yield
        except psycopg.Error as error:
            if silent:
                raise psycopg.OperationalError(f"no answer within {self._timing.answer:g} s") from error
            raise
        finally:
            timer.cancel()


async def _change(conn: Connection, seconds: float) -> None:
    """Until a change is announced, or so many seconds have passed."""
    announced = False
    # libpq may have read an announcement along with the last answer: the socket would not tell of it.
    while conn.pgconn.notifies() is not None:
        announced = True
    # Announcements come in one go however many there are.
    async for _ in conn.notifies(timeout=0 if announced else seconds, stop_after=1):
        pass


def _differences(known: RevocationList, removed: Iterable[Revocation], added: Iterable[Revocation]) -> Iterator[Event]:
    """What to tell of a change. An entry that was only widened is told as added; one that names somebody else now as
    removed, too."""
    renamed = (
        old
        for new in added
        if (old := known.get(new.id)) is not None and (old.kind, old.value) != (new.kind, new.value)
    )
    for entry in chain(removed, renamed):
        yield RevocationRemoved(entry.id, entry.kind, entry.value)
    for entry in added:
        yield RevocationAdded(entry.id, entry.kind, entry.value, entry.issued_before, entry.expires_at)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
