"""Repairs from a real database: of what was written, all that is needed and not much more, in little memory."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from leyden.edge.delivery.deliveries import Deliveries
from leyden.edge.delivery.fanout import FanOut, Subscriber
from leyden.edge.delivery.loading import TableLoader
from leyden.edge.websocket.socket import Packet
from leyden.events import ClientRepaired, Event
from leyden.postgres.checkpoints import Checkpoints, oldest_running, store
from leyden.postgres.reading.snapshots import Snapshots
from leyden.postgres.sessions import connect, session_conninfo
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.actions import Repair
from leyden.satellite.encoding import Encoder
from leyden.satellite.frames import decode
from leyden.satellite.migrations import Dialect
from leyden.satellite.positions import Positions
from leyden.shapes.request import Include, Select, planned
from leyden.shapes.view import Part, View
from leyden.shapes.where import Claims
from stream_reader import Reader
from views import BYTES

ROWS = 50_000

#: What a repair may need besides what is being sent, whatever its size (bytes).
LITTLE = 16 << 20


class Socket:
    """Takes everything, and keeps count."""

    buffered = 0

    def __init__(self) -> None:
        self.bytes = 0
        self.kinds: dict[str, int] = {}
        #: Operations of the largest transaction.
        self.largest = 0
        self._operations = 0

    def send(self, packet: Packet) -> bool:
        for payload in packet.payloads:
            self.bytes += len(payload)
            message = decode(payload)
            for op in message.ops if isinstance(message, pb.SatOpLog) else ():
                kind = op.WhichOneof("op") or ""
                self.kinds[kind] = self.kinds.get(kind, 0) + 1
                self._operations = 0 if kind == "begin" else self._operations + 1
                self.largest = max(self.largest, self._operations)
        return True

    async def drain(self) -> None:
        await asyncio.sleep(0)


class World:
    """A database with a log, and what brings clients up to date."""

    def __init__(self, conn: psycopg.AsyncConnection[Any], pool: AsyncConnectionPool[Any], reader: Reader) -> None:
        self.conn = conn
        self.snapshots = Snapshots(pool)
        self.checkpoints = Checkpoints(pool)
        self.reader = reader
        self.encoder = Encoder(Positions(reader.replication.epoch))
        self.fanout = FanOut(reader.log, self.encoder)
        self.events: list[Event] = []

    @property
    def tables(self) -> dict[str, Any]:
        return {table.name: table for table in self.reader.replication.tables.values()}

    @property
    def migrations(self) -> list[Any]:
        return self.reader.replication.migrations

    async def catch_up(self) -> None:
        position = await self.reader.replication.mark(self.conn)
        await self.reader.replication.reach(position)

    async def checkpoint(self) -> int:
        """Taken at the head, where a client stops to listen."""
        xid = await oldest_running(self.conn)
        await self.catch_up()
        await store(self.conn, self.fanout.head, xid)
        return self.fanout.head

    async def move_on(self) -> None:
        """The log forgets all."""
        await self.catch_up()
        self.reader.log.trim(self.fanout.head)

    def part(self, select: Select) -> Part:
        return planned("r", select, self.tables, Claims(None, {}), BYTES).part

    async def repair(self, position: int, *parts: Part) -> tuple[ClientRepaired, Socket]:
        world, socket, view = cast(Any, self), Socket(), View(parts)
        loader = TableLoader(self.fanout, self.reader.log, self.snapshots, world, self.catch_up, self.events.append)
        await loader.ensure(table for tree in view.trees for table in tree.tables.values())
        checkpoint = await self.checkpoints.find(position)
        assert checkpoint is not None
        subscriber = Subscriber("c", cast(Any, socket), Dialect.SQLITE, view, self.fanout.head, lambda reason: None)
        deliveries = Deliveries(
            subscriber,
            self.fanout,
            self.encoder,
            self.snapshots,
            loader,
            world,
            world,
            self.catch_up,
            self.events.append,
            1,
            0,
        )
        deliveries.repair(Repair(b"old", position, None, checkpoint, None))
        self.fanout.join(subscriber)
        running = asyncio.create_task(deliveries.run())
        async with asyncio.timeout(120):
            while not (done := [event for event in self.events if isinstance(event, ClientRepaired)]):
                assert not running.done(), running.exception()
                await asyncio.sleep(0.01)
        running.cancel()
        self.fanout.leave(subscriber)
        self.events.clear()
        return done[0], socket


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with (
        await connect(database, autocommit=True) as conn,
        AsyncConnectionPool(session_conninfo(database), min_size=1, max_size=3, open=False) as pool,
        Reader.running(database) as reader,
    ):
        await conn.execute("CREATE TABLE projects (id int4 PRIMARY KEY, status text, note text)")
        await conn.execute("CREATE TABLE issues (id int4 PRIMARY KEY, project_id int4 REFERENCES projects, note text)")
        await conn.execute("CREATE TABLE items (id int4 PRIMARY KEY, kind text, note text)")
        await conn.execute("CREATE INDEX ON issues (project_id)")
        for name in ("projects", "issues", "items"):
            await conn.execute("SELECT leyden.enable(%s::text::regclass)", [name])
        world = World(conn, pool, reader)
        yield world
        world.fanout.close()


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < LITTLE


async def test_a_filtered_table_of_many_rows_takes_little_memory(world: World) -> None:
    await world.conn.execute(
        "INSERT INTO items SELECT n, 'a', repeat('x', 1000) FROM generate_series(1, %s) n", [2 * ROWS]
    )
    position = await world.checkpoint()
    await world.conn.execute("UPDATE items SET kind = 'b' WHERE id <= %s", [ROWS // 2])
    await world.conn.execute("DELETE FROM items WHERE id > %s AND id <= %s", [ROWS // 2, ROWS])
    await world.conn.execute(
        "INSERT INTO items SELECT 1000000 + n, 'a', repeat('y', 1000) FROM generate_series(1, %s) n", [ROWS]
    )
    await world.move_on()
    part = world.part(Select("items", "this.kind = 'a'"))
    with little_memory():
        event, socket = await world.repair(position, part)
    # Nothing of those that nobody wrote.
    assert (event.rows, event.gone) == (ROWS, ROWS)
    assert (socket.kinds["insert"], socket.kinds["gone"]) == (ROWS, ROWS)
    assert socket.kinds["begin"] == socket.kinds["commit"] > 10
    assert socket.largest <= 5_500
    assert socket.bytes > 1_000 * ROWS


async def test_a_tree_of_many_rows_takes_little_memory(world: World) -> None:
    await world.conn.execute("INSERT INTO projects VALUES (1, 'open', ''), (2, 'closed', ''), (3, 'open', '')")
    await world.conn.execute(
        "INSERT INTO issues SELECT n, 1 + n %% 3, repeat('x', 1000) FROM generate_series(1, %s) n", [ROWS]
    )
    position = await world.checkpoint()
    await world.conn.execute("UPDATE projects SET status = CASE id WHEN 1 THEN 'closed' ELSE 'open' END WHERE id < 3")
    await world.move_on()
    part = world.part(Select("projects", "this.status = 'open'", (Include(("project_id",), Select("issues")),)))
    first, _ = await world.repair(position, part)  # the tables are loaded, which is for all clients
    with little_memory():
        event, socket = await world.repair(position, part)
    assert (event.rows, event.gone) == (first.rows, first.gone)
    # Those of the third project are where they were.
    assert event.rows == pytest.approx(ROWS / 3, abs=2)
    assert event.gone == pytest.approx(ROWS / 3, abs=2)
    assert socket.bytes > 300 * ROWS


async def test_what_nobody_wrote_costs_nothing(world: World) -> None:
    await world.conn.execute("INSERT INTO projects VALUES (1, 'open', '')")
    await world.conn.execute("INSERT INTO issues SELECT n, 1 FROM generate_series(1, 1000) n")
    await world.conn.execute("INSERT INTO items SELECT n, 'a' FROM generate_series(1, 1000) n")
    position = await world.checkpoint()
    await world.move_on()
    event, socket = await world.repair(position, world.part(Select("issues")), world.part(Select("items")))
    assert (event.rows, event.gone) == (0, 0)
    assert socket.kinds == {"begin": 1, "commit": 1}
