"""Revocations in the database: how they are written, and how soon every process knows them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import MappingProxyType
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from databases import install_schema
from leyden.auth import Identity, InvalidRevocation, RevocationList
from leyden.events import (
    Event,
    RevocationAdded,
    RevocationRemoved,
    RevocationsRead,
    RevocationsUnavailable,
    UnexpectedError,
)
from leyden.postgres.revocation_watch import RevocationWatch, WatchTiming
from leyden.postgres.revocations import RevocationStore
from leyden.postgres.sessions import session_conninfo

pytestmark = pytest.mark.alone

THUMBPRINT = "gRn3Vh8GJYmkn1hjkMaXnSmDl0tBC7wXSzBFxkNeXW4"
FOREVER = 253_402_300_799

#: What a revocation may take to be in force everywhere (seconds).
PROMISED = 1.0

#: Nothing is polled for: what these watches know, they were told.
TOLD = WatchTiming(poll=3600.0)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(session_conninfo(database), min_size=1, max_size=4, open=False)
    async with pool:
        yield pool


@pytest.fixture
def store(pool: AsyncConnectionPool[Any]) -> RevocationStore:
    return RevocationStore(pool.connection)


@pytest.fixture
def by_hand(database: str) -> Iterator[psycopg.Connection[Any]]:
    """A session of an operator, as psql would open it."""
    with psycopg.connect(database, autocommit=True) as conn:
        yield conn


def identity(user_id: str, *, issued_at: float = 0.0) -> Identity:
    return Identity(user_id, MappingProxyType({}), None, issued_at, None, None, None, None, None, 2)


# ---- writing ---------------------------------------------------------------------------------------------------------


async def test_an_entry_is_stored_as_it_was_meant(store: RevocationStore) -> None:
    before = await store.now()
    entries = [
        await store.add("user", "alice"),
        await store.add("user", "bob", issued_before=1_700_000_000, lifetime=60),
        await store.add("jti", "ü" * 8192),
        await store.add("key", THUMBPRINT),
        await store.add("all", issued_before=0),
    ]
    assert [(e.kind, e.value, e.issued_before) for e in entries] == [
        ("user", "alice", None),
        ("user", "bob", 1_700_000_000),
        ("jti", "ü" * 8192, None),
        ("key", THUMBPRINT, None),
        ("all", None, 0),
    ]
    assert [round(e.expires_at - e.created_at, -1) for e in entries] == [90_000, 60, 90_000, 90_000, 90_000]
    assert all(before <= e.created_at <= before + 10 for e in entries)
    assert await store.list() == tuple(entries)


async def test_the_lifetime_of_entries_can_be_set_for_all(pool: AsyncConnectionPool[Any]) -> None:
    entry = await RevocationStore(pool.connection, lifetime=120).add("user", "alice")
    assert 119 <= entry.expires_at - entry.created_at <= 121


async def test_an_entry_for_the_same_target_is_widened(store: RevocationStore) -> None:
    first = await store.add("user", "alice", issued_before=1_700_000_000, lifetime=100)
    wider = await store.add("user", "alice", issued_before=1_700_000_500, lifetime=50)
    assert (wider.id, wider.issued_before, wider.expires_at) == (first.id, 1_700_000_500, first.expires_at)
    longer = await store.add("user", "alice", issued_before=1_600_000_000, lifetime=1000)
    assert (longer.id, longer.issued_before) == (first.id, 1_700_000_500)
    assert longer.expires_at > first.expires_at + 800
    assert longer.created_at > first.created_at
    assert await store.list() == (longer,)


async def test_targets_that_differ_have_entries_of_their_own(store: RevocationStore) -> None:
    blocked = await store.add("user", "alice")
    others = [
        await store.add("user", "alice", issued_before=1_700_000_000),
        await store.add("user", "Alice"),
        await store.add("user", "a\u0301lice"),
        await store.add("user", "álice"),
        await store.add("jti", "alice"),
        await store.add("all", issued_before=1),
    ]
    assert (await store.add("all", issued_before=2)).id == others[-1].id
    assert len({blocked.id, *(entry.id for entry in others)}) == 7
    assert len(await store.list()) == 7


async def test_an_expired_entry_widens_nothing_and_is_cleared_away(
    store: RevocationStore, by_hand: psycopg.Connection[Any]
) -> None:
    by_hand.execute(
        "INSERT INTO leyden.revocations (kind, value, issued_before, expires_at)"
        " VALUES ('user', 'alice', '2030-01-01', now() - interval '1 second')"
    )
    entry = await store.add("user", "alice", issued_before=1_700_000_000)
    assert entry.issued_before == 1_700_000_000
    assert by_hand.execute("SELECT count(*) FROM leyden.revocations").fetchone() == (1,)


async def test_additions_at_the_same_time_make_one_entry(store: RevocationStore) -> None:
    entries = await asyncio.gather(*(store.add("user", "alice", lifetime=60 + number) for number in range(8)))
    assert len({entry.id for entry in entries}) == 1
    assert len(await store.list()) == 1


async def test_an_entry_can_be_taken_back_once(store: RevocationStore) -> None:
    entry = await store.add("user", "alice")
    assert await store.remove(entry.id) == entry
    assert await store.remove(entry.id) is None
    assert await store.list() == ()


async def test_only_what_expired_is_purged(store: RevocationStore, by_hand: psycopg.Connection[Any]) -> None:
    kept = await store.add("user", "alice")
    by_hand.execute(
        "INSERT INTO leyden.revocations (kind, value, expires_at)"
        " SELECT 'jti', n::text, now() FROM generate_series(1, 3) n"
    )
    assert await store.list() == (kept,)
    assert await store.purge() == 3
    assert await store.purge() == 0
    assert by_hand.execute("SELECT id FROM leyden.revocations").fetchall() == [(kept.id,)]


async def test_senseless_entries_are_refused_before_they_reach_the_database(store: RevocationStore) -> None:
    with pytest.raises(InvalidRevocation):
        await store.add("user", "")
    with pytest.raises(InvalidRevocation):
        await store.add("user", "alice", lifetime=0)


@pytest.mark.parametrize(
    ("kind", "value", "issued_before"),
    [
        ("nobody", "alice", None),
        ("user", None, None),
        ("user", "", None),
        ("user", "é" * 8193, None),
        ("jti", "x", "now"),
        ("key", THUMBPRINT, "now"),
        ("key", THUMBPRINT[1:], None),
        ("key", f"{THUMBPRINT}\n", None),
        ("all", None, None),
        ("all", "alice", "now"),
    ],
)
def test_senseless_entries_made_by_hand_are_refused_by_the_database(
    by_hand: psycopg.Connection[Any], kind: str, value: str | None, issued_before: str | None
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        by_hand.execute(
            "INSERT INTO leyden.revocations (kind, value, issued_before) VALUES (%s, %s, %s)",
            (kind, value, issued_before),
        )


async def test_times_written_by_hand_may_be_infinite_and_fractions_count_for_the_revocation(
    store: RevocationStore, by_hand: psycopg.Connection[Any]
) -> None:
    by_hand.execute(
        "INSERT INTO leyden.revocations (kind, value, issued_before, created_at, expires_at) VALUES"
        " ('user', 'a', 'infinity', '-infinity', 'infinity'),"
        " ('user', 'b', '-infinity', '1970-01-01 00:00:01.25Z', '9000-01-01 00:00:00.5Z'),"
        " ('user', 'c', '2024-01-01 00:00:00.75Z', '1970-01-01Z', '9000-01-01Z')"
    )
    year_9000 = 221_845_392_000
    assert [(e.issued_before, e.created_at, e.expires_at) for e in await store.list()] == [
        (FOREVER, 0.0, FOREVER),
        (0, 1.25, year_9000 + 1),
        (1_704_067_200, 0.0, year_9000),
    ]


def test_the_table_is_neither_published_nor_open_to_others(by_hand: psycopg.Connection[Any]) -> None:
    published = by_hand.execute("SELECT tablename FROM pg_publication_tables WHERE schemaname = 'leyden'").fetchall()
    assert ("revocations",) not in published
    others = by_hand.execute(
        "SELECT bool_or(has_table_privilege(r.oid, 'leyden.revocations', p)) FROM pg_roles r,"
        " unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p"
        " WHERE NOT rolsuper AND rolname NOT LIKE 'pg\\_%'"
    ).fetchone()
    assert others is not None
    assert not others[0]


# ---- watching --------------------------------------------------------------------------------------------------------


class Watched:
    """A watch at work, and everything it said."""

    def __init__(self, dsn: str, timing: WatchTiming, on_change: Callable[[RevocationList], None] | None) -> None:
        self.events: list[Event] = []
        self.lists: list[RevocationList] = []
        self._changed = asyncio.Event()
        self._on_change = on_change
        self.watch = RevocationWatch(dsn, self._take, self._hear, timing=timing)

    def _take(self, current: RevocationList) -> None:
        if self._on_change is not None:
            self._on_change(current)
        self.lists.append(current)
        self._changed.set()

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    def refuses(self, user_id: str) -> bool:
        return bool(self.lists) and self.lists[-1].matching(identity(user_id), time.time()) is not None

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> float:
        """How long it took for ``condition`` to come true (seconds)."""
        started = time.monotonic()
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()
        return time.monotonic() - started


@contextlib.asynccontextmanager
async def watching(
    dsn: str, timing: WatchTiming = TOLD, on_change: Callable[[RevocationList], None] | None = None
) -> AsyncIterator[Watched]:
    watched = Watched(dsn, timing, on_change)
    task = asyncio.create_task(watched.watch.run())
    try:
        yield watched
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def loaded(dsn: str, timing: WatchTiming = TOLD) -> AsyncIterator[Watched]:
    async with watching(dsn, timing) as watched:
        await asyncio.wait_for(watched.watch.loaded.wait(), 10)
        yield watched


async def test_an_entry_is_in_force_in_every_process_within_a_second(database: str, store: RevocationStore) -> None:
    async with loaded(database) as one, loaded(database) as other:
        for user in ("alice", "bob", "carol"):
            assert not one.refuses(user)
            started = time.monotonic()
            entry = await store.add("user", user)
            for watched in (one, other):
                await watched.until(lambda watched=watched, user=user: watched.refuses(user))
            assert time.monotonic() - started < PROMISED
            assert RevocationAdded(entry.id, "user", user, None, entry.expires_at) in one.events
        await store.remove(entry.id)
        for watched in (one, other):
            assert await watched.until(lambda watched=watched: not watched.refuses("carol")) < PROMISED
            assert watched.refuses("alice")
        await one.until(lambda: RevocationRemoved(entry.id, "user", "carol") in one.events)


async def test_entries_changed_by_hand_count_at_once(database: str, by_hand: psycopg.Connection[Any]) -> None:
    async with loaded(database) as watched:
        by_hand.execute("INSERT INTO leyden.revocations (kind, value) VALUES ('user', 'alice')")
        assert await watched.until(lambda: watched.refuses("alice")) < PROMISED
        by_hand.execute("UPDATE leyden.revocations SET value = 'bob'")
        assert await watched.until(lambda: watched.refuses("bob")) < PROMISED
        assert not watched.refuses("alice")
        by_hand.execute("DELETE FROM leyden.revocations")
        assert await watched.until(lambda: not watched.refuses("bob")) < PROMISED
        by_hand.execute("SET session_replication_role = replica")
        by_hand.execute("INSERT INTO leyden.revocations (kind, value) VALUES ('user', 'carol')")
        assert await watched.until(lambda: watched.refuses("carol")) < PROMISED
        by_hand.execute("TRUNCATE leyden.revocations")
        assert await watched.until(lambda: not watched.refuses("carol")) < PROMISED
        await watched.until(lambda: len(watched.of(RevocationRemoved)) == 3)
        told = [(type(event), event.value) for event in watched.events if not isinstance(event, RevocationsRead)]
        assert told == [
            (RevocationAdded, "alice"),
            (RevocationRemoved, "alice"),
            (RevocationAdded, "bob"),
            (RevocationRemoved, "bob"),
            (RevocationAdded, "carol"),
            (RevocationRemoved, "carol"),
        ]


async def test_entries_of_a_transaction_count_when_it_commits(database: str, by_hand: psycopg.Connection[Any]) -> None:
    async with loaded(database) as watched:
        with by_hand.transaction():
            by_hand.execute("INSERT INTO leyden.revocations (kind, value) VALUES ('user', 'alice')")
            with pytest.raises(psycopg.errors.CheckViolation), by_hand.transaction():
                by_hand.execute("INSERT INTO leyden.revocations (kind) VALUES ('all')")
            assert not watched.refuses("alice")
        assert await watched.until(lambda: watched.refuses("alice")) < PROMISED


async def test_what_is_there_at_the_start_is_in_force_and_not_told_one_by_one(
    database: str, store: RevocationStore
) -> None:
    await store.add("user", "alice")
    async with loaded(database) as watched:
        assert watched.refuses("alice")
        assert watched.watch.current.matching(identity("alice"), time.time()) is not None
        assert watched.events[:1] == [RevocationsRead(1, None)]
        assert not watched.of(RevocationAdded)


async def test_the_lag_is_told_when_something_is_new(database: str, store: RevocationStore) -> None:
    async with loaded(database) as watched:
        entry = await store.add("user", "alice")
        await watched.until(lambda: len(watched.of(RevocationsRead)) == 2)
        lag = watched.of(RevocationsRead)[1].lag
        assert 0 <= lag < PROMISED
        await store.remove(entry.id)
        await watched.until(lambda: len(watched.of(RevocationsRead)) == 3)
        assert watched.of(RevocationsRead)[2] == RevocationsRead(0, None)


async def test_a_widened_entry_is_told_as_added(database: str, store: RevocationStore) -> None:
    first = await store.add("user", "alice", lifetime=60)
    async with loaded(database) as watched:
        longer = await store.add("user", "alice", lifetime=600)
        await watched.until(lambda: bool(watched.of(RevocationAdded)))
        assert watched.of(RevocationAdded) == [RevocationAdded(first.id, "user", "alice", None, longer.expires_at)]
        assert not watched.of(RevocationRemoved)


def disconnect(by_hand: psycopg.Connection[Any], name: str) -> None:
    """End the sessions of that application name, and see them gone."""
    ended = by_hand.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", (name,)
    ).fetchall()
    assert ended == [(True,)]


async def test_nothing_is_lost_while_the_listening_connection_is_gone(
    database: str, by_hand: psycopg.Connection[Any], store: RevocationStore
) -> None:
    timing = WatchTiming(poll=3600.0, shortest_retry=0.3)
    taken_back = await store.add("user", "carol")
    async with loaded(make_conninfo(database, application_name="watch"), timing) as watched:
        await store.add("user", "alice")
        await watched.until(lambda: watched.refuses("alice"))
        disconnect(by_hand, "watch")
        await store.add("user", "bob")
        await store.remove(taken_back.id)
        await watched.until(lambda: bool(watched.of(RevocationsUnavailable)))
        assert watched.refuses("alice")
        assert await watched.until(lambda: watched.refuses("bob")) < PROMISED
        assert not watched.refuses("carol")
        await watched.until(lambda: bool(watched.of(RevocationRemoved)))
        assert [event.value for event in watched.of(RevocationAdded)] == ["alice", "bob"]
        assert [event.value for event in watched.of(RevocationRemoved)] == ["carol"]
        (failure,) = watched.of(RevocationsUnavailable)
        assert "connection" in failure.reason
        assert 0 <= failure.since < 10
        # and it listens again
        await store.add("user", "dave")
        assert await watched.until(lambda: watched.refuses("dave")) < PROMISED


async def test_a_lost_announcement_is_made_up_for_by_polling(database: str, by_hand: psycopg.Connection[Any]) -> None:
    by_hand.execute("ALTER TABLE leyden.revocations DISABLE TRIGGER announce")
    async with loaded(database, WatchTiming(poll=0.2)) as watched:
        by_hand.execute("INSERT INTO leyden.revocations (kind, value) VALUES ('user', 'alice')")
        await watched.until(lambda: watched.refuses("alice"))


async def test_an_entry_past_its_time_is_dropped_without_any_change(
    database: str, by_hand: psycopg.Connection[Any]
) -> None:
    by_hand.execute(
        "INSERT INTO leyden.revocations (kind, value, expires_at)"
        " VALUES ('user', 'alice', clock_timestamp() + interval '1 second')"
    )
    async with loaded(database, WatchTiming(poll=0.2)) as watched:
        assert len(watched.lists[-1]) == 1
        await watched.until(lambda: bool(watched.of(RevocationRemoved)))
        assert len(watched.lists[-1]) == 0


async def test_a_burst_of_changes_costs_few_readings(database: str, by_hand: psycopg.Connection[Any]) -> None:
    async with loaded(database, WatchTiming(poll=3600.0, pause=0.2)) as watched:
        started = time.monotonic()
        for number in range(300):
            by_hand.execute("INSERT INTO leyden.revocations (kind, value) VALUES ('user', %s)", (f"user-{number}",))
        await watched.until(lambda: watched.refuses("user-299"))
        took = time.monotonic() - started
        assert len(watched.of(RevocationsRead)) <= 3 + took / 0.2
        assert all(watched.refuses(f"user-{number}") for number in range(300))


async def test_a_hundred_thousand_entries_keep_the_promise(
    database: str, store: RevocationStore, by_hand: psycopg.Connection[Any]
) -> None:
    by_hand.execute(
        "INSERT INTO leyden.revocations (kind, value) SELECT 'user', 'user-' || n FROM generate_series(1, 100000) n"
    )
    async with loaded(database) as watched:
        assert watched.refuses("user-1")
        assert watched.refuses("user-100000")
        await store.add("user", "alice")
        assert await watched.until(lambda: watched.refuses("alice")) < PROMISED


async def test_before_the_schema_is_there_nothing_is_loaded(empty_database: str) -> None:
    timing = WatchTiming(shortest_retry=0.05, longest_retry=0.1)
    async with watching(empty_database, timing) as watched:
        await watched.until(lambda: len(watched.of(RevocationsUnavailable)) >= 2)
        assert not watched.watch.loaded.is_set()
        assert watched.watch.age(time.monotonic()) == math.inf
        assert 'relation "leyden.revocations" does not exist' in watched.of(RevocationsUnavailable)[0].reason
        await install_schema(empty_database)
        await asyncio.wait_for(watched.watch.loaded.wait(), 10)
        assert len(watched.lists) == 1


async def test_the_age_is_that_of_the_last_reading(database: str) -> None:
    async with loaded(database) as watched:
        now = time.monotonic()
        assert 0 <= watched.watch.age(now) < 10
        assert watched.watch.age(now + 300) >= 300


async def test_a_listener_that_fails_is_given_the_change_again(database: str, store: RevocationStore) -> None:
    failures = iter(["", "secret", "secret"])

    def fails_sometimes(current: RevocationList) -> None:
        if failure := next(failures, ""):
            raise ValueError(failure)

    timing = WatchTiming(poll=3600.0, shortest_retry=0.05)
    async with watching(database, timing, fails_sometimes) as watched:
        await asyncio.wait_for(watched.watch.loaded.wait(), 10)
        await store.add("user", "alice")
        await watched.until(lambda: watched.refuses("alice"))
        assert len(watched.of(UnexpectedError)) == 2
        assert "secret" not in repr(watched.events)


class Network:
    """A way to the database that can fall silent without closing anything, as a broken network does."""

    def __init__(self, dsn: str) -> None:
        parts = conninfo_to_dict(dsn)
        self._socket = f"{parts['host']}/.s.PGSQL.{parts.get('port', 5432)}"
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent = asyncio.Event()

    async def __aenter__(self) -> Network:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def dsn(self, dsn: str) -> str:
        assert self._server is not None
        return make_conninfo(dsn, host="127.0.0.1", port=self._server.sockets[0].getsockname()[1], sslmode="disable")

    def fall_silent(self) -> None:
        """For connections that are open now. New ones work."""
        self._silent.set()
        self._silent = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._socket)
        silent = self._silent
        tasks = [asyncio.create_task(_forward(*pair, silent)) for pair in ((reader, back), (there, writer))]
        self._tasks.update(tasks)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(tasks)
        for stream in (writer, back):
            stream.close()


async def _forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter, silent: asyncio.Event) -> None:
    while data := await source.read(65_536):
        if silent.is_set():
            await asyncio.get_running_loop().create_future()
        sink.write(data)


async def test_a_connection_that_fell_silent_is_noticed_and_replaced(database: str, store: RevocationStore) -> None:
    timing = WatchTiming(poll=0.2, answer=0.3, shortest_retry=0.05)
    async with Network(database) as network, loaded(network.dsn(database), timing) as watched:
        await store.add("user", "alice")
        await watched.until(lambda: watched.refuses("alice"))
        network.fall_silent()
        await store.add("user", "bob")
        assert await watched.until(lambda: watched.refuses("bob")) < 3
        assert watched.of(RevocationsUnavailable)[0].reason == "no answer within 0.3 s"
