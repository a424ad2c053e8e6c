"""What the interop tests share: a table, clients that hold it, and what must never happen to an app."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg

from interop.client import Driver
from interop.service import Leyden

ITEMS: Mapping[str, Any] = {
    "tables": {"items": {"columns": {"id": "uuid", "content": "text", "n": "int4"}, "pk": ["id"]}},
    "migrations": [],
}


def id_of(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def create_items(conn: psycopg.Connection, rows: int = 0) -> None:
    """The electrified table ``items`` with rows 1 to ``rows``."""
    conn.execute("CREATE TABLE items (id uuid PRIMARY KEY, content text, n int4)")
    conn.execute("CALL electric.electrify('items')")
    conn.execute(
        "INSERT INTO items SELECT ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 'row ' || i, i"
        " FROM generate_series(1, %s) i",
        [rows],
    )


async def open_client(
    driver: Driver,
    service: Leyden,
    client: str,
    *,
    schema: Mapping[str, Any] = ITEMS,
    client_id: str | None = None,
) -> None:
    """Opens a client with an empty local database; it is not connected yet."""
    config = {"auth": {"clientId": client_id or f"device-{client}"}}
    await driver("open", client=client, url=service.url, schema=schema, config=config)


async def connected(
    driver: Driver,
    service: Leyden,
    client: str,
    *tables: str,
    schema: Mapping[str, Any] = ITEMS,
    token: str | None = None,
) -> None:
    """Opens a client, connects it (as its own user of an insecure service, without ``token``), syncs ``tables``."""
    await open_client(driver, service, client, schema=schema)
    if token is None:
        token = (await driver("token", claims={"sub": f"user-{client}"}))["token"]
    await driver("connect", client=client, token=token, timeoutMs=10000)
    for table in tables:
        await driver("sync", client=client, table=table, wait=True, timeoutMs=10000)


def complaints(driver: Driver) -> list[dict[str, Any]]:
    """What an app would have crashed with. A lost socket is none: the client reconnects by itself."""
    return [
        event
        for event in driver.events
        if event["event"] in ("unhandledRejection", "uncaughtException")
        or (event["event"] == "clientError" and event["error"].get("codeName") != "SOCKET_ERROR")
    ]
