"""First copies of tables that do not fit into memory's reach, by clients that are slow, or gone in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, LiteralString

import psycopg
import pytest
from websockets.asyncio.client import connect

from interop.service import database_url
from leyden import service as service_module
from leyden.config import Settings, load_settings
from leyden.events import MigrationSeen, SubscriptionDelivered, SubscriptionProgress
from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from speaker import SECRET, SUBSCRIPTION, Running, Speaker, serving, token, until

ROWS, WIDTH = 100_000, 1_000

#: Bytes. What the buffers of two sockets on this machine and the service itself may hold of a table of 100 MB.
HELD = 30 << 20

COPYING = """
SELECT wait_event, bytes_processed FROM pg_stat_progress_copy JOIN pg_stat_activity USING (pid)
WHERE pg_stat_activity.datname = current_database()
"""


@pytest.fixture
def settings(database: str) -> Settings:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("CREATE TABLE large (id int4 PRIMARY KEY, content text)")
        conn.execute("INSERT INTO large SELECT i, repeat('x', %s) FROM generate_series(1, %s) i", [WIDTH, ROWS])
        conn.execute("CALL electric.electrify('large')")
        conn.execute("CREATE TABLE items (id text PRIMARY KEY, content text)")
        conn.execute("CALL electric.electrify('items')")
    return load_settings(
        {
            "DATABASE_URL": database_url(database),
            "AUTH_JWT_ALG": "HS256",
            "AUTH_JWT_KEY": SECRET,
            "DATABASE_REQUIRE_SSL": "false",
        }
    )


@pytest.fixture
async def running(settings: Settings) -> AsyncIterator[Running]:
    async with serving(settings) as running:
        yield running


@pytest.fixture
async def conn(database: str, settings: Settings) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        yield conn


@asynccontextmanager
async def started(running: Running, client: str) -> AsyncIterator[Speaker]:
    """A client that takes messages of any size, and takes them when it is asked to."""
    options: dict[str, Any] = {"subprotocols": ["electric.0.12"], "compression": None, "close_timeout": 1}
    async with connect(running.url, max_size=None, max_queue=1, **options) as websocket:
        speaker = Speaker(websocket)
        await speaker.authenticate(token(client), client)
        await speaker.start()
        yield speaker


async def ask(speaker: Speaker, table: str) -> None:
    """Subscribes to ``table``, and takes the answer, which must be good, only."""
    shape = pb.SatShapeDef(selects=[pb.SatShapeDef.Select(tablename=table)])
    request = pb.SatSubsReq(
        subscription_id=SUBSCRIPTION, shape_requests=[pb.SatShapeReq(request_id="1", shape_definition=shape)]
    )
    answer = await speaker.call(rpc.SUBSCRIBE, request)
    assert not pb.SatSubsResp.FromString(answer.message).HasField("err")


async def keys(speaker: Speaker) -> list[int]:
    """The keys of all rows that come."""
    logs = [message for message in await speaker.until(pb.SatSubsDataEnd) if isinstance(message, pb.SatOpLog)]
    return [int(op.insert.row_data.values[0]) for log in logs for op in log.ops]


async def found(conn: psycopg.AsyncConnection[Any], query: LiteralString) -> None:
    """Returns once ``query`` has a row."""
    while await (await conn.execute(query)).fetchone() is None:  # noqa: ASYNC110 - looked at from outside
        await asyncio.sleep(0.02)


async def stuck(conn: psycopg.AsyncConnection[Any], copies: int = 1) -> list[int]:
    """Waits until nothing moves any more in so many first copies; the bytes that each has taken from its table."""
    before: list[tuple[str, int]] = []
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(0.2)
            now = await (await conn.execute(COPYING)).fetchall()
            if len(now) == copies and now == before and all(waits == "ClientWrite" for waits, _ in now):
                return [taken for _, taken in now]
            before = now


async def test_a_client_that_takes_nothing_costs_little_and_delays_nobody(
    running: Running, conn: psycopg.AsyncConnection[Any]
) -> None:
    async with started(running, "slow") as slow, started(running, "other") as other:
        await other.subscribe("items")
        await ask(slow, "large")
        assert 0 < (await stuck(conn))[0] < HELD
        await conn.execute("INSERT INTO items VALUES ('1', 'meanwhile')")
        async with asyncio.timeout(2):
            await other.until(pb.SatOpLog)
        await conn.execute("UPDATE large SET content = 'after the snapshot' WHERE id = 1")
        assert sorted(await keys(slow)) == [*range(1, ROWS + 1)]
        (update,) = [op.update for op in (await slow.until(pb.SatOpLog))[-1].ops if op.HasField("update")]
        assert [*update.row_data.values] == [b"1", b"after the snapshot"]
    assert [event.rows for event in running.of(SubscriptionProgress)] == [ROWS]
    assert [event.rows for event in running.of(SubscriptionDelivered)] == [0, ROWS]


async def test_clients_that_take_nothing_leave_the_database_to_others(
    settings: Settings, conn: psycopg.AsyncConnection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "POOL_SIZE", 3)
    monkeypatch.setattr(service_module, "SNAPSHOTS", 3)
    async with serving(settings) as running, AsyncExitStack() as stack:
        for number in range(3):
            slow = await stack.enter_async_context(started(running, f"slow-{number}"))
            await ask(slow, "large")
        await stuck(conn, 3)
        async with asyncio.timeout(5), started(running, "other") as other:
            await other.start_uploading()
            await other.upload("a")
            await found(conn, "SELECT FROM items WHERE id = 'a'")


@pytest.mark.parametrize("leave", [lambda ws: ws.close(), lambda ws: ws.transport.abort()], ids=["closes", "vanishes"])
async def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(
    running: Running, conn: psycopg.AsyncConnection[Any], leave: Callable[[Any], Any]
) -> None:
    async with started(running, "device") as speaker:
        await ask(speaker, "large")
        await speaker.until(pb.SatOpLog)
        await stuck(conn)
        left = leave(speaker.websocket)
        if left is not None:
            await left
    async with asyncio.timeout(10):
        await found(conn, f"SELECT WHERE NOT EXISTS ({COPYING})")
        async with started(running, "device") as speaker:
            await ask(speaker, "large")
            assert sorted(await keys(speaker)) == [*range(1, ROWS + 1)]


async def test_a_huge_row_arrives(running: Running, conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.execute("CREATE TABLE huge (id int4 PRIMARY KEY, content text)")
    await conn.execute(
        r"INSERT INTO huge SELECT i, repeat(E'é\t\\', n) FROM (VALUES (1, 1), (2, 5000000), (3, 1)) AS rows (i, n)"
    )
    known = len(running.of(MigrationSeen))
    await conn.execute("CALL electric.electrify('huge')")
    await until(lambda: len(running.of(MigrationSeen)) > known)
    async with started(running, "device") as speaker:
        await ask(speaker, "huge")
        messages = await speaker.until(pb.SatSubsDataEnd)
    rows = [op.insert.row_data.values for message in messages if isinstance(message, pb.SatOpLog) for op in message.ops]
    text = "é\t\\".encode()
    assert sorted(map(tuple, rows)) == [(b"1", text), (b"2", text * 5_000_000), (b"3", text)]
