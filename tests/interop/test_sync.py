"""The thin true path with the stock client: rows down, rows up, drops and restarts."""

from __future__ import annotations

import psycopg

from interop.conftest import Factory, ServiceFactory
from interop.service import Leyden
from interop.tables import complaints, connected, create_items, id_of


async def test_a_table_of_1000_rows_is_synced_whole(service: Leyden, driver: Factory) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 1000)
    await connected(client, service, "a", "items")
    rows = await client("query", client="a", sql="SELECT id, content, n FROM items ORDER BY n")
    assert rows == [{"id": id_of(i), "content": f"row {i}", "n": i} for i in range(1, 1001)]
    assert complaints(client) == []


async def test_insert_update_and_delete_in_postgres_reach_the_client(service: Leyden, driver: Factory) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 2)
        await connected(client, service, "a", "items")
        conn.execute("INSERT INTO items VALUES (%s, 'new', NULL)", [id_of(3)])
        conn.execute("UPDATE items SET content = 'changed' WHERE n = 1")
        conn.execute("DELETE FROM items WHERE n = 2")
    await client("waitRow", client="a", sql="SELECT * FROM items WHERE n = 2", count=0)
    rows = await client("query", client="a", sql="SELECT id, content, n FROM items ORDER BY id")
    assert rows == [
        {"id": id_of(1), "content": "changed", "n": 1},
        {"id": id_of(3), "content": "new", "n": None},
    ]
    assert complaints(client) == []


async def test_a_clients_writes_reach_postgres_and_a_second_client(service: Leyden, driver: Factory) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 2)
        await connected(client, service, "a", "items")
        await connected(client, service, "b", "items")
        await client("run", client="a", sql=f"INSERT INTO items VALUES ('{id_of(3)}', 'mine', 3)")
        await client("run", client="a", sql=f"UPDATE items SET content = 'mine too' WHERE id = '{id_of(1)}'")
        await client("run", client="a", sql=f"DELETE FROM items WHERE id = '{id_of(2)}'")
        await client("waitOplogEmpty", client="a")
        expected = [(id_of(1), "mine too", 1), (id_of(3), "mine", 3)]
        assert conn.execute("SELECT id::text, content, n FROM items ORDER BY n").fetchall() == expected
    await client("waitRow", client="b", sql="SELECT * FROM items WHERE n = 2", count=0)
    rows = await client("query", client="b", sql="SELECT id, content, n FROM items ORDER BY n")
    assert [tuple(row.values()) for row in rows] == expected
    assert complaints(client) == []


async def test_a_client_misses_nothing_over_a_restart_of_the_service(leyden: ServiceFactory, driver: Factory) -> None:
    client = await driver()
    first = await leyden(AUTH_MODE="insecure")
    port = int(first.url.rpartition(":")[2])
    with psycopg.connect(first.dsn, autocommit=True) as conn:
        create_items(conn, 3)
        await connected(client, first, "a", "items")
        conn.execute("UPDATE items SET content = 'before' WHERE n = 1")
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE content = 'before'")
        assert await first.stop() == 0
        conn.execute("UPDATE items SET content = 'meanwhile' WHERE n = 1")
        conn.execute("DELETE FROM items WHERE n = 2")
        conn.execute("INSERT INTO items VALUES (%s, 'meanwhile', 4)", [id_of(4)])
        await client("run", client="a", sql=f"INSERT INTO items VALUES ('{id_of(5)}', 'offline', 5)")
        await leyden(AUTH_MODE="insecure", port=port)
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE n = 4", timeoutMs=20000)
        await client("waitOplogEmpty", client="a")
        in_postgres = conn.execute("SELECT id::text, content, n FROM items ORDER BY n").fetchall()
    rows = await client("query", client="a", sql="SELECT id, content, n FROM items ORDER BY n")
    assert [tuple(row.values()) for row in rows] == in_postgres
    assert [row[2] for row in in_postgres] == [1, 3, 4, 5]
    assert not [e for e in client.events if e["event"] == "shapeStatus" and e.get("status") is None]
    assert complaints(client) == []


async def test_an_abrupt_drop_is_resumed_without_loss_or_reset(service: Leyden, driver: Factory) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 3)
        await connected(client, service, "a", "items")
        conn.execute("UPDATE items SET content = 'one' WHERE n = 1")
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE content = 'one'")
        await client("dropSocket", client="a")
        conn.execute("UPDATE items SET content = 'two' WHERE n = 1")
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE content = 'two'")
    starts = await client("wire", client="a", type="SatInStartReplicationReq", dir="sent")
    assert len(starts) == 2
    assert complaints(client) == []


async def test_unsubscribing_removes_the_rows_and_later_changes_stay_away(service: Leyden, driver: Factory) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 1200)
        await connected(client, service, "a")
        await client("sync", client="a", table="items", key="all", wait=True)
        await client("unsubscribe", client="a", keys=["all"])
        await client("waitRow", client="a", sql="SELECT count(*) AS n FROM items", expect={"n": 0})
        conn.execute("UPDATE items SET content = 'changed'")
        await client("sync", client="a", table="items", key="again", wait=True)
        rows = await client("query", client="a", sql="SELECT count(*) AS n FROM items WHERE content = 'changed'")
    assert rows == [{"n": 1200}]
    assert complaints(client) == []


async def test_truncate_empties_the_clients_table_and_the_stream_goes_on(service: Leyden, driver: Factory) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE items (id uuid PRIMARY KEY, content text, n int4)")
        conn.execute("INSERT INTO items VALUES (%s, 'older than its electrification', 1)", [id_of(1)])
        conn.execute("CALL electric.electrify('items')")
        conn.execute("INSERT INTO items VALUES (%s, 'two', 2)", [id_of(2)])
        await connected(client, service, "a", "items")
        conn.execute("TRUNCATE items")
        await client("waitRow", client="a", sql="SELECT count(*) AS n FROM items", expect={"n": 0})
        conn.execute("INSERT INTO items VALUES (%s, 'three', 3)", [id_of(3)])
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE n = 3")
    assert complaints(client) == []
