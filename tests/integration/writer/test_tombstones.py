"""What is kept of deleted rows, and how it is forgotten after a while."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from leyden import events
from leyden.postgres import tombstones
from leyden.postgres.sessions import session_conninfo
from leyden.postgres.tombstones import collect_tombstones, forget_tombstones
from leyden.postgres.writing.writer import Outcome
from stream_reader import Reader

CLIENT = "11111111-1111-4111-8111-111111111111"
DAY = 86_400


async def age(world: Any, days: float) -> None:
    """As if everything up to now had happened so long ago."""
    await world.sql("UPDATE leyden.row_state SET touched = touched - make_interval(secs => %s)", days * DAY)


async def test_every_page_of_the_table_is_looked_at(items: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tombstones, "PAGES_AT_ONCE", 1)
    await items.sql("INSERT INTO items SELECT n FROM generate_series(1, 600) AS n")
    await items.sql("DELETE FROM items WHERE id <> '300'")
    assert await collect_tombstones(items.pool, older_than=DAY) == 0
    await age(items, 2)
    assert await collect_tombstones(items.pool, older_than=DAY) == 599
    assert await items.sql("SELECT pk FROM leyden.row_state") == [('["300"]',)]
    assert await collect_tombstones(items.pool, older_than=DAY) == 0


async def test_the_time_counts_from_the_last_deletion(items: Any) -> None:
    await items.sql("INSERT INTO items VALUES ('Z')")
    await age(items, 2)
    await items.sql("DELETE FROM items")
    assert await collect_tombstones(items.pool, older_than=DAY) == 0


async def test_a_row_that_is_being_revived_keeps_its_state(items: Any, database: str) -> None:
    await items.sql("INSERT INTO items VALUES ('Z', 'a')")
    await items.sql("DELETE FROM items")
    await age(items, 2)
    async with await psycopg.AsyncConnection.connect(session_conninfo(database)) as application:
        await application.execute("INSERT INTO items VALUES ('Z', 'b')")
        collecting = asyncio.create_task(collect_tombstones(items.pool, older_than=DAY))
        await items.blocked()
        await application.commit()
        assert await collecting == 0
    assert len(await items.tags("items", "Z")) == 1


async def test_clients_hear_nothing_of_it(items: Any, database: str) -> None:
    await items.sql("INSERT INTO items VALUES ('Z')")
    await items.sql("DELETE FROM items")
    await age(items, 2)
    async with Reader.running(database) as reader:
        assert await collect_tombstones(items.pool, older_than=DAY) == 1
        await items.sql("INSERT INTO items VALUES ('next')")
        await reader.next()
        assert len(reader.log.after(reader.log.floor)) == 1


async def test_a_write_to_a_forgotten_row_makes_it_of_what_the_client_sends(items: Any) -> None:
    await items.sql("INSERT INTO items VALUES ('Z', 'the last version')")
    (seen,) = await items.tags("items", "Z")
    await items.sql("DELETE FROM items")
    await age(items, 2)
    await collect_tombstones(items.pool, older_than=DAY)
    old = {"id": "Z", "content": "as the client had it", "content_b": None}
    assert await items.apply(items.update("items", old, seen, content_b="new"), ms=7) is Outcome.APPLIED
    assert await items.rows("items") == [("Z", "as the client had it", "new")]
    assert await items.tags("items", "Z") == [f"{CLIENT}@7"]


async def test_passes_are_repeated_whatever_goes_wrong(items: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tombstones, "INTERVAL", 0.01)
    told: asyncio.Queue[events.Event] = asyncio.Queue()
    await items.sql("INSERT INTO items VALUES ('Z')")
    await items.sql("DELETE FROM items")
    await age(items, 2)
    await items.sql("ALTER TABLE leyden.row_state RENAME COLUMN touched TO elsewhere")
    forgetting = asyncio.create_task(forget_tombstones(items.pool, told.put_nowait, older_than=DAY))
    async with asyncio.timeout(10):
        failure = await told.get()
        assert isinstance(failure, events.DatabaseUnavailable)
        assert "42703" in failure.reason
        await items.sql("ALTER TABLE leyden.row_state RENAME COLUMN elsewhere TO touched")
        while await told.get() != events.TombstonesForgotten(1):
            pass
    forgetting.cancel()
    assert await items.tags("items", "Z") is None
