"""Concurrent writes with the stock client: what everybody ends with, on the device and in Postgres."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from interop.conftest import Factory, ServiceFactory
from interop.service import Leyden
from interop.tables import complaints, connected, create_items, id_of


@pytest.mark.parametrize("replaced_by", ["Postgres", "a client"])
async def test_a_row_that_was_replaced_can_be_deleted_afterwards(
    service: Leyden, driver: Factory, replaced_by: str
) -> None:
    """DELETE and INSERT of one key in one transaction: the client must know the new row's tags, or Postgres would take
    its deletion for that of the former row."""
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 1)
        await connected(client, service, "a", "items")
        await connected(client, service, "b", "items")
        delete = f"DELETE FROM items WHERE id = '{id_of(1)}'"
        insert = f"INSERT INTO items VALUES ('{id_of(1)}', 'new', 1)"
        if replaced_by == "Postgres":
            with conn.transaction():
                conn.execute(delete)
                conn.execute(insert)
        else:
            await client("tx", client="b", statements=[{"sql": delete}, {"sql": insert}])
            await client("waitOplogEmpty", client="b")
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE content = 'new'")
        for name in ("a", "b"):
            (shadow,) = await client("shadow", client=name)
            ((tags,),) = conn.execute("SELECT to_jsonb(tags)::text FROM leyden.row_state")
            assert shadow["tags"] == tags
        await client("run", client="a", sql=delete)
        await client("waitOplogEmpty", client="a")
        assert conn.execute("SELECT count(*) FROM items").fetchone() == (0,)
        await client("waitRow", client="b", sql="SELECT * FROM items", count=0)
    assert complaints(client) == []


async def test_an_echo_that_was_lost_with_the_clients_position_comes_again(
    leyden: ServiceFactory, driver: Factory
) -> None:
    """The client starts afresh and keeps what has not come back: without an echo its old value would win for ever."""
    client = await driver()
    service = await leyden(AUTH_MODE="insecure", ELECTRIC_TXN_CACHE_SIZE="10k")
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 2)
        await connected(client, service, "a", "items")
        with psycopg.connect(service.dsn) as other:
            other.execute("SELECT FROM items WHERE n = 1 FOR UPDATE")
            await client("run", client="a", sql=f"UPDATE items SET content = 'mine' WHERE id = '{id_of(1)}'")
            await until(conn, "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            await client("disconnect", client="a")
        await until(conn, "SELECT FROM items WHERE content = 'mine'")
        conn.execute("UPDATE items SET content = 'later' WHERE n = 1")
        for _ in range(20):
            conn.execute("UPDATE items SET content = repeat('x', 1000) WHERE n = 2")
        await client("connect", client="a", timeoutMs=20000)
        await client("waitWire", client="a", match={"body": {"err": {"code": 1}}})
        await client("waitOplogEmpty", client="a", timeoutMs=20000)
        conn.execute("UPDATE items SET n = 3 WHERE n = 1")
        await client("sync", client="a", table="items", wait=True)
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE n = 3 AND content = 'later'")
        (shadow,) = [row for row in await client("shadow", client="a") if id_of(1) in row["primaryKey"]]
        assert [shadow["tags"]] == [row[0] for row in conn.execute(TAGS, [f'["{id_of(1)}"]'])]
    assert complaints(client) == []


#: Of the row with this key, as the client writes them.
TAGS = "SELECT to_jsonb(tags)::text FROM leyden.row_state WHERE pk = %s"


async def until(conn: psycopg.Connection[Any], query: str) -> None:
    """Until there is such a row."""
    async with asyncio.timeout(10):
        while not conn.execute(query).fetchall():  # noqa: ASYNC110 - the database does not tell
            await asyncio.sleep(0.02)
