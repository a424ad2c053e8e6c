"""Concurrent writes with the stock client: what everybody ends with, on the device and in Postgres."""

from __future__ import annotations

import psycopg
import pytest

from interop.conftest import Factory
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
