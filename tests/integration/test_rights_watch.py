"""What database roles may read is known soon after it changes, and it is told when it is not known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg import sql

from leyden.events import Event, ReadingRightsUnavailable
from leyden.model import RightsByRole
from leyden.postgres.reading.rights import RightsWatch, Timing

TIMING = Timing(poll=0.05, patience=0.5, look=0.02, answer=1.0, retry=0.05)


class Watched:
    def __init__(self, dsn: str, role: str) -> None:
        self.role = role
        self.told: list[str] = []
        self.rights: RightsByRole = {}
        self.events: list[Event] = []
        self.watch = RightsWatch(
            dsn,
            [role],
            self.events.append,
            on_change=self._change,
            on_doubt=lambda: self.told.append("doubt"),
            on_certainty=lambda: self.told.append("certainty"),
            timing=TIMING,
        )

    async def _change(self, rights: RightsByRole) -> None:
        self.rights = rights
        self.told.append("change")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - looked at from outside
            await asyncio.sleep(0.01)


@pytest.fixture
async def conn(database: str) -> AsyncIterator[psycopg.AsyncConnection[tuple[object, ...]]]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        await conn.execute("CREATE TABLE items (id int PRIMARY KEY)")
        await conn.execute("CALL electric.electrify('items')")
        role = sql.Identifier(f"reader_{conn.info.dbname}")
        await conn.execute(sql.SQL("CREATE ROLE {}; GRANT SELECT ON items TO {}").format(role, role))
        yield conn
        await conn.execute(sql.SQL("DROP OWNED BY {}").format(role))
        await conn.execute(sql.SQL("DROP ROLE {}").format(role))


@asynccontextmanager
async def watching(database: str, conn: psycopg.AsyncConnection[tuple[object, ...]]) -> AsyncIterator[Watched]:
    watched = Watched(database, f"reader_{conn.info.dbname}")
    running = asyncio.create_task(watched.watch.run())
    try:
        await until(lambda: watched.told == ["change", "certainty"])
        yield watched
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_change_is_told_once(database: str, conn: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
    async with watching(database, conn) as watched:
        (rights,) = next(iter(watched.rights.values())).values()
        assert rights.policies is None
        await conn.execute("ALTER TABLE items ENABLE ROW LEVEL SECURITY")
        await until(lambda: watched.told.count("change") == 2)
        (rights,) = next(iter(watched.rights.values())).values()
        assert rights.policies == ()
        await asyncio.sleep(0.3)
        assert watched.told == ["change", "certainty", "change"]


async def test_what_was_changed_before_a_question_is_known_after_it(
    database: str, conn: psycopg.AsyncConnection[tuple[object, ...]]
) -> None:
    async with watching(database, conn) as watched:
        for number in range(10):
            switch = "ENABLE" if number % 2 == 0 else "DISABLE"
            await conn.execute(f"ALTER TABLE items {switch} ROW LEVEL SECURITY")  # type: ignore[arg-type]
            await watched.watch.read_anew()
            (rights,) = next(iter(watched.rights.values())).values()
            assert (rights.policies is not None) is (switch == "ENABLE")


async def test_a_question_is_not_waited_for_while_the_catalog_cannot_be_read(
    database: str, conn: psycopg.AsyncConnection[tuple[object, ...]]
) -> None:
    async with watching(database, conn) as watched:
        async with conn.transaction():
            await conn.execute("LOCK TABLE leyden.tables IN ACCESS EXCLUSIVE MODE")
            await watched.watch.read_anew()
        assert "doubt" in watched.told


async def test_what_was_read_too_long_ago_is_doubted_until_it_is_read_again(
    database: str, conn: psycopg.AsyncConnection[tuple[object, ...]]
) -> None:
    async with watching(database, conn) as watched:
        async with conn.transaction():
            await conn.execute("LOCK TABLE leyden.tables IN ACCESS EXCLUSIVE MODE")
            await until(lambda: watched.told[-1] == "doubt")
            assert not watched.watch.is_certain
        await until(lambda: watched.told == ["change", "certainty", "doubt", "certainty"])


async def test_a_lost_connection_is_made_again(
    database: str, conn: psycopg.AsyncConnection[tuple[object, ...]]
) -> None:
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with watching(database, conn) as watched:
        await conn.execute("REVOKE SELECT ON items FROM PUBLIC")
        await conn.execute(f"SELECT pg_terminate_backend(pid) {others} AND backend_type = 'client backend'")  # type: ignore[arg-type]
        await until(lambda: any(isinstance(one, ReadingRightsUnavailable) for one in watched.events))
        await conn.execute("ALTER TABLE items ENABLE ROW LEVEL SECURITY")
        await until(lambda: watched.told.count("change") == 2)


async def test_a_doubt_from_elsewhere_ends_with_a_reading_that_has_seen_the_change(
    database: str, conn: psycopg.AsyncConnection[tuple[object, ...]]
) -> None:
    async with watching(database, conn) as watched:
        async with conn.transaction():
            await conn.execute(sql.SQL("REVOKE SELECT ON items FROM {}").format(sql.Identifier(watched.role)))
            cursor = await conn.execute("SELECT pg_current_xact_id()::text")
            (xid,) = await cursor.fetchone() or ("",)
            # as when the stream brings the commit before Postgres makes it visible
            watched.watch.doubt(int(str(xid)))
            assert watched.told[-1] == "doubt"
            await asyncio.sleep(0.3)
            assert watched.told[-1] == "doubt"
        await until(lambda: watched.told == ["change", "certainty", "doubt", "change", "certainty"])


async def test_what_another_history_committed_is_not_waited_for(
    database: str, conn: psycopg.AsyncConnection[tuple[object, ...]]
) -> None:
    async with watching(database, conn) as watched:
        watched.watch.doubt(2**40)
        await watched.watch.read_anew()
        assert watched.told[-1] == "doubt"
        watched.watch.begin_history()
        await until(lambda: watched.told[-1] == "certainty")
