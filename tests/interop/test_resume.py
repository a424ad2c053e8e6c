"""Migrations that happen while the stock client is away, or between its subscription and its data."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from interop.client import Driver, DriverError
from interop.conftest import Factory, ServiceFactory
from interop.tables import ITEMS, complaints, connected, create_items, id_of

#: ``items`` and a table beside it.
BOTH = {"tables": {**ITEMS["tables"], "other": {"columns": {"id": "uuid"}, "pk": ["id"]}}, "migrations": []}

ROWS = "SELECT id, content, n, note FROM items ORDER BY id"


async def caught_up(driver: Driver, conn: psycopg.Connection[Any], client: str = "a") -> None:
    """Waits for a last row, then compares the client's table with Postgres'."""
    conn.execute("INSERT INTO items (id, content) VALUES (%s, 'last')", [id_of(99)])
    await driver("waitRow", client=client, sql="SELECT * FROM items WHERE content = 'last'", timeoutMs=20000)
    rows = await driver("query", client=client, sql=ROWS)
    expected = conn.execute("SELECT id::text, content, n, note FROM items ORDER BY id").fetchall()
    assert [tuple(row.values()) for row in rows] == expected
    assert complaints(driver) == []


def change_and_migrate(conn: psycopg.Connection[Any]) -> None:
    """Rows with the old columns, the migration, rows with the new one."""
    conn.execute("UPDATE items SET content = 'before' WHERE n = 1")
    conn.execute("INSERT INTO items VALUES (%s, 'before', 4)", [id_of(4)])
    conn.execute("ALTER TABLE items ADD COLUMN note text")
    conn.execute("INSERT INTO items VALUES (%s, 'after', 5, 'new')", [id_of(5)])
    conn.execute("UPDATE items SET note = 'noted' WHERE n = 2")


@pytest.mark.parametrize("restart", [False, True], ids=["same process", "after a restart"])
async def test_a_client_resumes_across_a_migration(leyden: ServiceFactory, driver: Factory, *, restart: bool) -> None:
    client = await driver()
    service = await leyden(AUTH_MODE="insecure")
    port = int(service.url.rpartition(":")[2])
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 3)
        await connected(client, service, "a", "items")
        conn.execute("UPDATE items SET content = 'seen' WHERE n = 3")
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE content = 'seen'")
        await client("disconnect", client="a")
        change_and_migrate(conn)
        if restart:
            assert await service.stop() == 0
            await leyden(AUTH_MODE="insecure", port=port)
        await client("connect", client="a", timeoutMs=10000)
        await caught_up(client, conn)
        await client("run", client="a", sql=f"UPDATE items SET note = 'mine' WHERE id = '{id_of(1)}'")
        await client("waitOplogEmpty", client="a")
        assert conn.execute("SELECT note FROM items WHERE n = 1").fetchone() == ("mine",)


async def test_a_client_resumes_across_a_transaction_that_writes_before_its_own_migration(
    leyden: ServiceFactory, driver: Factory
) -> None:
    client = await driver()
    service = await leyden(AUTH_MODE="insecure")
    port = int(service.url.rpartition(":")[2])
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 3)
        await connected(client, service, "a", "items")
        await client("disconnect", client="a")
        with conn.transaction():
            change_and_migrate(conn)
        conn.execute("ALTER TABLE items ADD COLUMN more int4")
        conn.execute("UPDATE items SET more = 7, note = 'with more' WHERE n = 3")
        assert await service.stop() == 0
        await leyden(AUTH_MODE="insecure", port=port)
        await client("connect", client="a", timeoutMs=10000)
        await caught_up(client, conn)
        rows = await client("query", client="a", sql="SELECT more FROM items WHERE n = 3")
        assert rows == [{"more": 7}]


async def test_initial_data_of_a_client_that_is_behind_a_migration_has_the_new_column(
    leyden: ServiceFactory, driver: Factory
) -> None:
    client = await driver()
    service = await leyden(AUTH_MODE="insecure")
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 3)
        conn.execute("CREATE TABLE other (id uuid PRIMARY KEY); CALL electric.electrify('other')")
        await connected(client, service, "a", "other", schema=BOTH)
        await client("disconnect", client="a")
        change_and_migrate(conn)
        await client("connect", client="a", timeoutMs=10000)
        await client("sync", client="a", table="items", wait=True, timeoutMs=10000)
        await caught_up(client, conn)


async def test_a_migration_while_clients_subscribe_loses_nothing(leyden: ServiceFactory, driver: Factory) -> None:
    client = await driver()
    service = await leyden(AUTH_MODE="insecure")
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 3)
        await connected(client, service, "a")
        await client("sync", client="a", table="items")
        change_and_migrate(conn)
        await client("waitRow", client="a", sql="SELECT count(*) AS n FROM items", expect={"n": 5}, timeoutMs=20000)
        await caught_up(client, conn)


async def test_a_table_given_up_gets_nothing_more_and_is_refused_to_new_subscribers(
    leyden: ServiceFactory, driver: Factory
) -> None:
    client = await driver()
    service = await leyden(AUTH_MODE="insecure")
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 3)
        conn.execute("CREATE TABLE other (id uuid PRIMARY KEY); CALL electric.electrify('other')")
        await connected(client, service, "a", "items", "other", schema=BOTH)
        conn.execute("SELECT leyden.disable('items')")
        conn.execute("DELETE FROM items WHERE n = 1")
        conn.execute("INSERT INTO other VALUES (%s)", [id_of(1)])
        await client("waitRow", client="a", sql="SELECT * FROM other", count=1)
        assert len(await client("query", client="a", sql="SELECT id FROM items")) == 3
        await connected(client, service, "b")
        with pytest.raises(DriverError, match="Unknown table items"):
            await client("sync", client="b", table="items", wait=True, timeoutMs=5000)
