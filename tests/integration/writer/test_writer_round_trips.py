"""How often an upload waits for Postgres: what counts when it is a network away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool

from leyden.postgres.sessions import session_conninfo
from leyden.postgres.writing.writer import Outcome, Writer
from leyden.shapes.where import ownership
from round_trips import Counter


@pytest.fixture
async def link(items: Any, database: str) -> AsyncIterator[tuple[Counter, Writer]]:
    async with Counter().to(database) as (counter, conninfo):
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(session_conninfo(conninfo), min_size=1, open=False)
        async with pool:
            await pool.wait()
            yield counter, Writer(pool, ownership)


@pytest.mark.parametrize("rows", [1, 50])
async def test_the_usual_upload_waits_three_times_whatever_its_size(
    items: Any, link: tuple[Counter, Writer], rows: int
) -> None:
    counter, writer = link
    waits = []
    for number in range(1, 9):
        changes = [items.insert("items", id=f"{number}-{row}", content="x") for row in range(rows)]
        before = counter.round_trips
        assert await writer.apply(items.upload(*changes, ms=number), lambda: items.author) is Outcome.APPLIED
        waits.append(counter.round_trips - before)
    # a statement that is used again and again is prepared, which is one of the first things queued
    assert waits == [3] * 8


async def test_an_upload_that_is_refused_waits_a_few_times_more(items: Any, link: tuple[Counter, Writer]) -> None:
    counter, writer = link
    await items.sql("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$")
    await items.sql("CREATE TRIGGER no BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION no()")
    upload = items.upload(items.insert("items", id="Z"))
    before = counter.round_trips
    assert await writer.apply(upload, lambda: items.author) is Outcome.REFUSED
    assert counter.round_trips - before < 20
