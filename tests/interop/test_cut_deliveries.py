"""Connections that are lost while initial data comes: the stock client gets all of it when it is back, in the same
process and in a new one, and keeps what it had."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from interop.choked_link import ChokedLink, choked_link
from interop.client import Driver, DriverError
from interop.conftest import Factory, ServiceFactory
from interop.service import Leyden
from interop.tables import ITEMS, complaints, create_items, id_of
from interop.test_migrations import wait_for_migrations

ROWS = 10_000

#: Bytes after which a delivery of so many rows is in its midst.
SOME = 200_000

NOTES = {"columns": {"id": "int4", "content": "text"}, "pk": ["id"]}
SCHEMA: dict[str, Any] = {"tables": {**ITEMS["tables"], "notes": NOTES}, "migrations": []}

#: What the client does when it takes what came for a part of a delivery that was cut off.
RESET = "resetting client state"


@pytest.fixture
async def service(leyden: ServiceFactory) -> Leyden:
    return await leyden(AUTH_MODE="insecure")


@pytest.fixture
def conn(service: Leyden) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, ROWS)
        conn.execute("CREATE TABLE notes (id int4 PRIMARY KEY, content text)")
        conn.execute("CALL electric.electrify('notes')")
        conn.execute("INSERT INTO notes VALUES (1, 'kept')")
        yield conn


@pytest.fixture
async def link(service: Leyden) -> AsyncIterator[ChokedLink]:
    """What the clients of these tests connect through."""
    async with choked_link(port_of(service)) as link:
        yield link


def port_of(service: Leyden) -> int:
    return int(service.url.rpartition(":")[2])


async def until(reached: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "in vain"
        await asyncio.sleep(0.02)


async def opened(driver: Driver, link: ChokedLink, path: str = ":memory:", schema: Any = SCHEMA) -> None:
    config = {"auth": {"clientId": "device-a"}}
    await driver("open", client="a", url=link.url, schema=schema, config=config, dbPath=path)


async def with_notes(driver: Driver, service: Leyden, link: ChokedLink, path: str = ":memory:") -> None:
    """The client is connected and has the notes."""
    await opened(driver, link, path)
    await connect(driver)
    await wait_for_migrations(driver, "a", service)
    await driver("sync", client="a", table="notes", wait=True, timeoutMs=10000)


async def connect(driver: Driver) -> None:
    token = (await driver("token", claims={"sub": "user-a"}))["token"]
    await driver("connect", client="a", token=token, timeoutMs=20000)


async def half_of_the_items(driver: Driver, link: ChokedLink) -> None:
    """The client has got a part of the items, and nothing more comes. It changes something itself."""
    link.choke_after(SOME)
    await driver("sync", client="a", table="items", key="items")
    await asyncio.wait_for(link.was_choked.wait(), 10)
    await driver("run", client="a", sql="UPDATE notes SET content = 'mine' WHERE id = 1")


async def reset(driver: Driver) -> bool:
    return bool(await driver("logs", contains=RESET))


async def has(driver: Driver, *keys: str, seconds: float = 30.0) -> None:
    """Waits until all of these subscriptions has come. What ``sync`` promised the client forgets when it is cut off."""

    end, missing = time.monotonic() + seconds, set(keys)
    while missing:
        assert not await reset(driver), [line["text"] for line in await driver("logs", limit=20)]
        statuses = {key: await driver("syncStatus", client="a", key=key) for key in missing}
        assert time.monotonic() < end, statuses
        missing = {key for key, status in statuses.items() if (status or {}).get("status") != "active"}
        await asyncio.sleep(0.02)


async def until_known(driver: Driver, key: str, status: Any) -> None:
    end = time.monotonic() + 10
    while (seen := await driver("syncStatus", client="a", key=key)) != status:
        assert time.monotonic() < end, seen
        await asyncio.sleep(0.02)


async def is_right(driver: Driver, conn: psycopg.Connection[Any]) -> None:
    """The client has what Postgres has, and Postgres what the client wrote; what happens from now on comes as well."""
    await driver("waitOplogEmpty", client="a", timeoutMs=20000)
    conn.execute("INSERT INTO items VALUES (%s, 'last', 0)", [id_of(ROWS + 1)])
    conn.execute("INSERT INTO notes VALUES (2, 'last')")
    for table in ("items", "notes"):
        last = f"SELECT 1 FROM {table} WHERE content = 'last'"
        await driver("waitRow", client="a", sql=last, timeoutMs=20000)
        rows = await driver("query", client="a", sql=f"SELECT id, content FROM {table} ORDER BY id")
        expected = conn.execute(f"SELECT id::text, content FROM {table} ORDER BY {table}.id").fetchall()
        assert [(str(row["id"]), row["content"]) for row in rows] == expected
    assert conn.execute("SELECT content FROM notes WHERE id = 1").fetchone() == ("mine",)
    assert not await reset(driver)
    assert complaints(driver) == []


def was_held(service: Leyden) -> int:
    """How often a client was to let go of a delivery."""
    return service.log.count("client held")


@pytest.mark.parametrize("by", ["the network", "the client's end", "the app"])
async def test_a_delivery_that_was_cut_off_comes_in_full_afterwards(
    service: Leyden, conn: psycopg.Connection[Any], link: ChokedLink, driver: Factory, by: str
) -> None:
    client = await driver()
    await with_notes(client, service, link)
    await half_of_the_items(client, link)
    if by == "the app":
        await client("disconnect", client="a")
        link.release()
        await client("connect", client="a", timeoutMs=20000)
    else:
        link.cut() if by == "the network" else await client("dropSocket", client="a")
        link.release()
    await has(client, "items")
    await is_right(client, conn)
    assert was_held(service) == 1


async def test_a_delivery_that_is_cut_off_more_than_once(
    service: Leyden, conn: psycopg.Connection[Any], link: ChokedLink, driver: Factory
) -> None:
    client = await driver()
    await with_notes(client, service, link)
    await half_of_the_items(client, link)
    for _ in range(2):
        link.cut_after(SOME)
        link.was_cut.clear()
        link.cut()
        link.release()
        await asyncio.wait_for(link.was_cut.wait(), 20)
    await has(client, "items")
    await is_right(client, conn)
    assert was_held(service) == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_delivery_that_was_cut_off_by_the_service_comes_in_full_afterwards(
    leyden: ServiceFactory,
    service: Leyden,
    conn: psycopg.Connection[Any],
    link: ChokedLink,
    driver: Factory,
    number: int,
) -> None:
    client = await driver()
    await with_notes(client, service, link)
    await half_of_the_items(client, link)
    await service.stop(number)
    link.cut()
    link.release()
    next_one = await leyden(AUTH_MODE="insecure", port=port_of(service))
    await has(client, "items")
    await is_right(client, conn)
    assert was_held(next_one) == 1


async def test_the_first_subscription_of_a_client_that_brings_its_migrations_along(
    service: Leyden, conn: psycopg.Connection[Any], link: ChokedLink, driver: Factory
) -> None:
    """Then there is no position to go on from."""
    client = await driver()
    await with_notes(client, service, link)  # so that the service has heard of all migrations
    await client("close", client="a")
    await opened(client, link, schema={"migrations": {"endpoint": service.url}})
    await connect(client)
    link.choke_after(SOME)
    await client("sync", client="a", table="items", key="items")
    await asyncio.wait_for(link.was_choked.wait(), 10)
    assert (await client("status", client="a"))["lsn"] is None
    link.cut()
    link.release()
    await has(client, "items")
    await client("sync", client="a", table="notes", wait=True, timeoutMs=10000)
    await client("run", client="a", sql="UPDATE notes SET content = 'mine' WHERE id = 1")
    await is_right(client, conn)
    assert was_held(service) == 1


async def test_several_subscriptions_that_wait_for_their_data(
    service: Leyden, conn: psycopg.Connection[Any], link: ChokedLink, driver: Factory
) -> None:
    client = await driver()
    await with_notes(client, service, link)
    with conn.transaction():
        conn.execute("LOCK TABLE leyden.client_subscriptions")  # which deliveries begin with
        for key, where in (("low", "this.n <= 9000"), ("high", "this.n > 9000"), ("none", "this.n < 0")):
            await client("sync", client="a", table="items", key=key, where=where)
        await client("sync", client="a", table="items", key="new", where="this.content = 'last'")
        link.choke_after(SOME)
    await asyncio.wait_for(link.was_choked.wait(), 10)
    await client("run", client="a", sql="UPDATE notes SET content = 'mine' WHERE id = 1")
    link.cut()
    link.release()
    await has(client, "low", "high", "none", "new", seconds=60)
    await is_right(client, conn)


@pytest.mark.parametrize("in_parts", [True, False])
async def test_a_client_that_gave_up_another_subscription_meanwhile(
    service: Leyden, conn: psycopg.Connection[Any], link: ChokedLink, driver: Factory, *, in_parts: bool
) -> None:
    """Then it forgets on its way back what it lacks, until that was granted once."""
    client = await driver()
    await with_notes(client, service, link)
    await client("sync", client="a", table="notes", key="second", where="this.id < 0", wait=True)
    with conn.transaction():
        conn.execute("LOCK TABLE leyden.client_subscriptions")  # which a delivery begins with
        await client("sync", client="a", table="items", key="first", where="" if in_parts else "this.n < 10")
        await client("sync", client="a", table="items", key="items", where="" if not in_parts else "this.n < 10")
        await client("unsubscribe", client="a", key="second")
        await client("run", client="a", sql="UPDATE notes SET content = 'mine' WHERE id = 1")
        link.choke_after(SOME if in_parts else 0)
    await asyncio.wait_for(link.was_choked.wait(), 10)
    stored = "SELECT 1 FROM leyden.client_subscriptions WHERE asked_by > 0 AND shapes::text LIKE '%items%'"
    await until(lambda: conn.execute(stored).fetchone() is not None)
    link.cut()
    link.release()
    await has(client, "items")
    status = await client("syncStatus", client="a", key="first")
    if in_parts:
        # what it was told on: it lacks it until the app asks for it
        assert status is None
        await client("sync", client="a", table="items", key="first", wait=True)
    assert was_held(service) == 1
    await until_known(client, "second", None)
    await is_right(client, conn)


async def test_a_new_process_subscribes_anew_and_is_not_held(
    service: Leyden, conn: psycopg.Connection[Any], link: ChokedLink, driver: Factory, tmp_path: Path
) -> None:
    path = str(tmp_path / "device.db")
    first = await driver()
    await with_notes(first, service, link, path)
    await half_of_the_items(first, link)
    link.cut()
    await first.stop()
    link.release()
    second = await driver()
    await opened(second, link, path)
    await connect(second)
    await has(second, "items")
    await is_right(second, conn)
    assert was_held(service) == 0


async def test_a_new_process_that_needs_several_attempts_is_not_held(
    service: Leyden, conn: psycopg.Connection[Any], link: ChokedLink, driver: Factory, tmp_path: Path
) -> None:
    path = str(tmp_path / "device.db")
    first = await driver()
    await with_notes(first, service, link, path)
    await half_of_the_items(first, link)
    link.cut()
    await first.stop()
    link.release()
    second = await driver()
    await opened(second, link, path)
    expired = (await second("token", claims={"sub": "user-a", "exp": 1}))["token"]
    for _ in range(6):
        with pytest.raises(DriverError):
            await second("connect", client="a", token=expired, timeoutMs=10000)
    await connect(second)
    calls = await second("wire", client="a", dir="sent", type="SatAuthReq")
    assert [call["requestId"] for call in calls] == [1, 2, 3, 4, 5, 6, 7]
    await has(second, "items")
    await is_right(second, conn)
    assert was_held(service) == 0


@pytest.mark.parametrize("recorded", [False, True])
async def test_a_connection_lost_before_the_data_begins(
    service: Leyden, conn: psycopg.Connection[Any], link: ChokedLink, driver: Factory, *, recorded: bool
) -> None:
    client = await driver()
    await with_notes(client, service, link)
    with conn.transaction():
        conn.execute("LOCK TABLE leyden.client_subscriptions")  # which a delivery begins with
        await client("sync", client="a", table="items", key="items")
        await client("run", client="a", sql="UPDATE notes SET content = 'mine' WHERE id = 1")
        link.choke()
        if not recorded:
            link.cut()
            link.release()
            await until(lambda: "client disconnected" in service.log)
    if recorded:
        # not that of the notes, which may wait for the lock to be confirmed
        stored = "SELECT 1 FROM leyden.client_subscriptions WHERE asked_by > 0 AND shapes::text LIKE '%items%'"
        await until(lambda: conn.execute(stored).fetchone() is not None)
        link.cut()
        link.release()
    await has(client, "items")
    await is_right(client, conn)
    assert was_held(service) == recorded
