"""ALTER TABLE under the feet of stock clients, on a database whose host gives no event triggers: nothing is corrupted,
and in the end everybody has what Postgres has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from interop.client import Driver, DriverError
from interop.conftest import Factory
from interop.service import Leyden
from interop.tables import ITEMS, complaints, connected, create_items, id_of

BOTH = {"tables": {**ITEMS["tables"], "other": {"columns": {"id": "uuid"}, "pk": ["id"]}}, "migrations": []}

Connection = psycopg.Connection[Any]


@pytest.fixture
async def service(unguarded_database: str, tmp_path: Path) -> AsyncIterator[Leyden]:
    running = await Leyden.start(
        "start", database=unguarded_database, log=tmp_path / "leyden.log", env={"AUTH_MODE": "insecure"}
    )
    yield running
    await running.stop()


@pytest.fixture
def conn(service: Leyden) -> Iterator[Connection]:
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 3)
        conn.execute("CREATE TABLE other (id uuid PRIMARY KEY); CALL electric.electrify('other')")
        yield conn


async def status(service: Leyden) -> str:
    async with httpx.AsyncClient() as http:
        return (await http.get(f"{service.url}/api/status")).text


async def until_status(service: Leyden, text: str, there: bool = True) -> str:
    async with asyncio.timeout(10):
        while (text in (found := await status(service))) is not there:  # noqa: ASYNC110 - it is asked
            await asyncio.sleep(0.05)
    return found


async def started_afresh(client: Driver) -> None:
    """Until it was reset and is connected for good: what is subscribed to in between is lost in the stock client."""
    async with asyncio.timeout(30):
        while not await client("logs", contains="resetting client state"):  # noqa: ASYNC110 - it is asked
            await asyncio.sleep(0.05)
        settled = 0
        while settled < 10:
            settled = settled + 1 if (await client("status", client="a"))["isConnected"] else 0
            await asyncio.sleep(0.1)


async def held(client: Driver, name: str = "a") -> list[tuple[Any, ...]]:
    rows = await client("query", client=name, sql="SELECT id, content, n FROM items ORDER BY id")
    return [(row["id"], row["content"], row["n"]) for row in rows]


def stored(conn: Connection) -> list[tuple[Any, ...]]:
    return conn.execute("SELECT id::text, content, n FROM items ORDER BY id").fetchall()


async def test_an_alter_table_corrupts_nothing_and_everybody_has_all_in_the_end(
    service: Leyden, conn: Connection, driver: Factory
) -> None:
    client = await driver()
    await connected(client, service, "a", "items", "other", schema=BOTH)
    before = stored(conn)
    assert await held(client) == before
    assert "DDL is not guarded: let a superuser start Leyden once" in await status(service)

    conn.execute("ALTER TABLE items RENAME COLUMN content TO text")
    conn.execute("INSERT INTO items VALUES (%s, 'new', 9)", [id_of(9)])
    line = "Table items is suspended: column content is dropped, renamed or in another place"
    assert "leave the column as it is" in await until_status(service, line)
    conn.execute("UPDATE items SET text = 'renamed' WHERE n = 1")
    conn.execute("DELETE FROM items WHERE n = 2")

    # others go on, both ways
    conn.execute("INSERT INTO other VALUES (%s)", [id_of(1)])
    await client("waitRow", client="a", sql=f"SELECT * FROM other WHERE id = '{id_of(1)}'", timeoutMs=20000)
    assert await held(client) == before
    await client("run", client="a", sql="UPDATE items SET n = 77 WHERE n = 1")
    await client("waitOplogEmpty", client="a", timeoutMs=20000)
    await client("run", client="a", sql=f"INSERT INTO other VALUES ('{id_of(2)}')")
    await client("waitOplogEmpty", client="a", timeoutMs=20000)
    assert conn.execute("SELECT count(*) FROM other").fetchone() == (2,)
    assert conn.execute("SELECT n FROM items WHERE id = %s", [id_of(1)]).fetchone() == (1,)
    assert conn.execute(
        "SELECT sqlstate, message LIKE 'table items is suspended:%' FROM leyden.rejected"
    ).fetchall() == [("55000", True)]

    # nobody gets it anew
    await connected(client, service, "b", "other", schema=BOTH)
    with pytest.raises(DriverError, match="Table items is suspended: column content"):
        await client("sync", client="b", table="items", wait=True, timeoutMs=5000)

    conn.execute("ALTER TABLE items RENAME COLUMN text TO content")
    await until_status(service, "suspended", there=False)
    await started_afresh(client)
    await client("sync", client="a", table="items", wait=True, timeoutMs=10000)
    assert await held(client) == stored(conn)
    await client("run", client="a", sql="UPDATE items SET content = 'again' WHERE n = 9")
    await client("waitOplogEmpty", client="a", timeoutMs=20000)
    assert conn.execute("SELECT content FROM items WHERE n = 9").fetchone() == ("again",)
    await client("sync", client="b", table="items", wait=True, timeoutMs=10000)
    assert await held(client, "b") == stored(conn)
    assert complaints(client) == []
    assert "unexpected error" not in service.log


async def test_a_column_that_is_recorded_late_reaches_clients_with_what_was_written_before(
    service: Leyden, conn: Connection, driver: Factory
) -> None:
    client = await driver()
    await connected(client, service, "a", "items", schema=BOTH)
    conn.execute("ALTER TABLE items ADD COLUMN note text")
    conn.execute("UPDATE items SET note = 'of before' WHERE n = 1")
    await until_status(service, "CALL electric.electrify('items') records it")
    conn.execute("CALL electric.electrify('items')")
    column = "SELECT * FROM pragma_table_info('items') WHERE name = 'note'"
    await client("waitRow", client="a", sql=column, timeoutMs=20000)
    await started_afresh(client)
    await client("sync", client="a", table="items", wait=True, timeoutMs=10000)
    assert len(await client("query", client="a", sql="SELECT * FROM items WHERE note = 'of before'")) == 1
    assert await held(client) == stored(conn)
    assert complaints(client) == []
    assert "unexpected error" not in service.log
