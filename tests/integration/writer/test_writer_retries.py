"""Failures that may pass: tried again with pauses, and exactly once in effect."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Literal

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from leyden import events
from leyden.postgres.sessions import session_conninfo
from leyden.postgres.writing.writer import RETRY_DELAYS, Outcome, Writer
from leyden.shapes.where import ownership
from postgres_link import Ends, Link

CLIENT = "11111111-1111-4111-8111-111111111111"
FUTURE = 5_000_000_000_000

#: Raises `failures` times, each time with the SQLSTATE `code`, on whatever connection.
FAILING = """
CREATE SEQUENCE attempts;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('attempts') <= {failures} THEN
        RAISE EXCEPTION 'not now' USING ERRCODE = '{code}';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fail BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION fail();
"""


async def refused(world: Any) -> list[str]:
    return [state for (state,) in await world.sql("SELECT sqlstate FROM leyden.rejected ORDER BY id")]


@pytest.mark.parametrize(
    "code", ["40001", "40P01", "55P03", "25006", "53100", "53200", "57014", "57P01", "58030", "XX000"]
)
async def test_a_failure_that_passes_leaves_no_trace(items: Any, code: str) -> None:
    await items.sql(FAILING.format(failures=3, code=code))
    assert await items.apply(items.insert("items", id="Z", content="x"), ms=7) is Outcome.APPLIED
    assert await items.rows("items") == [("Z", "x", None)]
    assert await items.tags("items", "Z") == [f"{CLIENT}@7"]
    assert items.naps == list(RETRY_DELAYS[:3])
    assert await refused(items) == []


@pytest.mark.parametrize("code", ["40001", "25006", "57P01"])
async def test_what_is_no_uploads_fault_is_tried_for_as_long_as_it_takes(items: Any, code: str) -> None:
    await items.sql(FAILING.format(failures=50, code=code))
    assert await items.apply(items.insert("items", id="Z")) is Outcome.APPLIED
    assert items.naps == [*RETRY_DELAYS, *[RETRY_DELAYS[-1]] * (50 - len(RETRY_DELAYS))]


@pytest.mark.parametrize("code", ["08001", "53200", "57014", "58030", "XX000"])
async def test_trouble_that_comes_with_one_upload_each_time_does_not_hold_its_author_up_for_ever(
    items: Any, code: str
) -> None:
    await items.sql(FAILING.format(failures=1000, code=code))
    assert await items.apply(items.insert("items", id="Z")) is Outcome.REFUSED
    assert await refused(items) == [code]
    assert sum(items.naps) > 10
    assert items.events[-1] == events.UploadRefused(CLIENT, code)
    await items.sql("DROP TRIGGER fail ON items")
    assert await items.apply(items.insert("items", id="Y")) is Outcome.APPLIED


async def test_an_upload_that_takes_longer_than_the_database_allows_is_refused_in_the_end(
    items: Any, database: str
) -> None:
    await items.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(10); RETURN NEW; END $$"
    )
    await items.sql("CREATE TRIGGER slow BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION slow()")
    await items.sql(f"ALTER DATABASE {items.conn.info.dbname} SET statement_timeout = '50ms'")
    async with _pool(database) as pool:
        writer = Writer(pool, ownership, sleep=items._nap)
        upload = items.upload(items.insert("items", id="Z"))
        assert await writer.apply(upload, lambda: items.author) is Outcome.REFUSED
    assert await refused(items) == ["57014"]


async def test_under_serializable_isolation_each_upload_is_applied_once(items: Any, database: str) -> None:
    await items.sql("ALTER TABLE items ADD COLUMN n int")
    await items.sql("CREATE TABLE counted (total int)")
    await items.sql("INSERT INTO counted VALUES (0)")
    await items.sql(
        "CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN UPDATE counted SET total = total + 1; RETURN NULL; END $$"
    )
    await items.sql("CREATE TRIGGER count_it AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION count_it()")
    strict = make_conninfo(database, options="-c default_transaction_isolation=serializable")
    async with _pool(strict) as pool:
        writer = Writer(pool, ownership, sleep=items._nap)

        async def work(client: str) -> None:
            for number in range(1, 11):
                upload = items.upload(
                    items.insert("items", id=f"{client}-{number}"), ms=number, client=client, lsn=number
                )
                assert await writer.apply(upload, lambda: items.author) is Outcome.APPLIED

        await asyncio.gather(*(work(f"client{number}") for number in range(4)))
    assert items.naps != []
    assert await items.sql("SELECT total, (SELECT count(*) FROM items) FROM counted") == [(40, 40)]


# ---- a connection lost at its worst moment --------------------------------------------------------------------------


class Cutter(Link):
    """Cut once, at a COMMIT: ``before`` it arrives there, or ``after`` it was carried out and before anybody hears of
    it."""

    def __init__(self, moment: Literal["before", "after"]) -> None:
        super().__init__()
        self._moment = moment
        self._committing: Ends | None = None
        self.cuts = 0

    def sent(self, data: bytes, ends: Ends) -> bool:
        if b"COMMIT\0" not in data or self.cuts:
            return True
        self.cuts += 1
        if self._moment == "before":
            ends.abort()
            return False
        self._committing = ends
        return True

    def answered(self, data: bytes, ends: Ends) -> bool:
        if ends is not self._committing:
            return True
        ends.client.transport.abort()
        return False


@contextlib.asynccontextmanager
async def _pool(conninfo: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    async with AsyncConnectionPool(session_conninfo(conninfo), min_size=1, max_size=8, open=False) as pool:
        yield pool


@pytest.mark.parametrize(("moment", "outcome"), [("before", Outcome.APPLIED), ("after", Outcome.ALREADY_APPLIED)])
@pytest.mark.parametrize("refused_by_postgres", [False, True])
async def test_a_connection_lost_at_the_commit_is_no_second_write_and_no_lost_one(
    items: Any, database: str, moment: Literal["before", "after"], outcome: Outcome, refused_by_postgres: bool
) -> None:
    await items.sql(
        "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.content = 'forbidden' THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END $$"
    )
    await items.sql("CREATE TRIGGER guard BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION guard()")
    async with Cutter(moment).to(database) as (cutter, link), _pool(link) as pool:
        writer = Writer(pool, ownership, items.events.append, sleep=items._nap)
        upload = items.upload(items.insert("items", id="Z", content="forbidden" if refused_by_postgres else "x"))
        await items.watch()
        expected = Outcome.REFUSED if refused_by_postgres and outcome is Outcome.APPLIED else outcome
        assert await writer.apply(upload, lambda: items.author) is expected
    assert cutter.cuts == 1
    assert len(await items.rows("items")) == (0 if refused_by_postgres else 1)
    assert await refused(items) == (["P0001"] if refused_by_postgres else [])
    assert [entry for entry in await items.stream() if entry == "C"] == ["C"]
    assert isinstance(items.events[0], events.DatabaseUnavailable)


async def test_an_application_that_locks_a_table_is_waited_for(items: Any, database: str) -> None:
    async with await psycopg.AsyncConnection.connect(session_conninfo(database)) as application:
        await application.execute("LOCK TABLE items")
        patient = make_conninfo(database, options="-c lock_timeout=20ms")
        async with _pool(patient) as pool:
            writer = Writer(pool, ownership, sleep=items._nap)
            upload = items.upload(items.insert("items", id="Z"))
            writing = asyncio.create_task(writer.apply(upload, lambda: items.author))
            while len(items.naps) < 15:  # noqa: ASYNC110 - counted elsewhere
                await asyncio.sleep(0.01)
            await application.commit()
            assert await writing is Outcome.APPLIED
