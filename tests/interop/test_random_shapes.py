"""Three stock clients whose shapes, connections and service come and go while Postgres changes at random: whenever it
is quiet, each has exactly what its shapes select and all that this refers to.

A few seconds in ``make test``; ``make clients`` takes five minutes (CLIENTS_SECONDS, CLIENTS_SEED).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import deque
from pathlib import Path
from typing import Any

import psycopg

from interop.client import Driver, DriverError
from interop.conftest import Factory, ServiceFactory
from interop.service import Leyden
from interop.tables import complaints, connected
from leyden.shapes.request import Select
from linked_tables import TABLES, WAYS, Rows, expected, filtered, include, row

SECONDS = float(os.environ.get("CLIENTS_SECONDS", "12"))
SEED = int(os.environ.get("CLIENTS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)

CLIENTS = ("a", "b", "c")
IDS = range(1, 9)

#: How long what was asked for last may take (seconds).
SETTLING = 10.0

#: Steps between two looks at what the clients have.
STEPS = 25


def _type(table: str, column: str) -> str:
    return next(one.type for one in TABLES[table].columns if one.name == column)


SCHEMA: dict[str, Any] = {
    "tables": {
        **{
            name: {
                "columns": {column.name: column.type for column in table.columns},
                "pk": ["id"],
                "fks": [
                    {"columns": list(key.columns), "table": key.ref_table, "refColumns": ["id"]}
                    for key in table.foreign_keys
                ],
            }
            for name, table in TABLES.items()
        },
        "markers": {"columns": {"id": "int4"}, "pk": ["id"]},
    },
    "migrations": [],
}


def _created(conn: psycopg.Connection[Any]) -> None:
    for name, table in TABLES.items():
        columns = [f"{one.name} {one.type}" for one in table.columns]
        columns += [f"FOREIGN KEY ({key.columns[0]}) REFERENCES {key.ref_table}" for key in table.foreign_keys]
        conn.execute(f"CREATE TABLE {name} ({', '.join(columns)}, PRIMARY KEY (id))")  # type: ignore[arg-type]
        conn.execute("CALL electric.electrify(%s)", [name])
    conn.execute("CREATE TABLE markers (id int4 PRIMARY KEY)")
    conn.execute("CALL electric.electrify('markers')")


class Drawn:
    """What is drawn, all of it from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def statement(self) -> str:
        draw = self.random
        table = draw.choice(list(TABLES.values()))
        kind = draw.random()
        key = draw.choice(IDS)
        columns = [one.name for one in table.columns]
        values = [str(key), f"'{draw.choice('ab')}'", *(draw.choice([*map(str, IDS), "NULL"]) for _ in columns[2:])]
        if kind < 0.55:
            new = ", ".join(f"{one} = excluded.{one}" for one in columns[1:])
            return f"INSERT INTO {table.name} VALUES ({', '.join(values)}) ON CONFLICT (id) DO UPDATE SET {new}"
        place = draw.randrange(1, len(columns))
        if kind < 0.75:
            return f"UPDATE {table.name} SET {columns[place]} = {values[place]} WHERE id = {key}"
        if kind < 0.85:
            return f"UPDATE {table.name} SET {columns[place]} = {values[place]} WHERE id % 3 = {key % 3}"
        if kind < 0.98:
            return f"DELETE FROM {table.name} WHERE id = {key}"
        return "TRUNCATE comments"

    def select(self, table: str | None = None, depth: int = 2, *, may_filter: bool = True) -> Select:
        draw = self.random
        here = TABLES[table or draw.choice(list(TABLES))]
        includes = []
        ways = [(column, child, True) for child, column, parent in WAYS if parent is here]
        ways += [(column, parent, False) for child, column, parent in WAYS if child is here and parent is not here]
        for column, other, down in draw.sample(ways, min(len(ways), draw.choice([0, 1, 2]))) if depth else ():
            includes.append(include(column, self.select(other.name, depth - 1, may_filter=down)))
        value = draw.choice(["", "", "a", "b"]) if may_filter else ""
        return Select(here.name, filtered(here, value), tuple(includes))


def _shape(select: Select) -> dict[str, Any]:
    shape: dict[str, Any] = {"tablename": select.table, "where": select.where}
    shape["include"] = [
        {"foreignKey": list(one.foreign_key), "select": _shape(one.select)} for one in select.includes if one.select
    ]
    return shape


class Play:
    """The clients and what each should have."""

    def __init__(
        self, driver: Driver, service: Leyden, conn: psycopg.Connection[Any], drawn: Drawn, record: Path
    ) -> None:
        self.driver = driver
        self.service = service
        self.conn = conn
        self.drawn = drawn
        self.shapes: dict[str, dict[str, Select]] = {client: {} for client in CLIENTS}
        self.away: set[str] = set()
        self.markers = 0
        self.keys = 0
        self.arrived: set[str] = set()
        self.trail: deque[str] = deque(maxlen=60)
        self.record = record

    async def step(self) -> None:
        draw = self.drawn.random
        kind, client = draw.random(), draw.choice(CLIENTS)
        if kind < 0.75:
            try:
                with self.conn.transaction():
                    for _ in range(draw.choice([1, 1, 2, 5])):
                        self.conn.execute(self.drawn.statement())  # type: ignore[arg-type]
            except psycopg.errors.IntegrityError:
                pass  # a foreign key: nothing of it happened
        elif kind < 0.83:
            if client not in self.away and len(self.shapes[client]) < 4:
                self.keys += 1
                key, select = f"shape-{self.keys}", self.drawn.select()
                self.trail.append(f"{client}: sync {key} {select}")
                await self.driver("sync", client=client, shapes=[_shape(select)], key=key, wait=draw.random() < 0.5)
                self.shapes[client][key] = select
        elif kind < 0.88:
            # The client forgets that it was to give up what had not arrived yet.
            arrived = sorted(self.shapes[client].keys() & self.arrived)
            if client not in self.away and arrived:
                key = draw.choice(arrived)
                self.trail.append(f"{client}: unsubscribe {key}")
                await self.driver("unsubscribe", client=client, keys=[key])
                del self.shapes[client][key]
        elif client in self.away:
            self.trail.append(f"{client}: connect")
            await self.driver("connect", client=client, timeoutMs=20000)
            self.away.discard(client)
        else:
            self.trail.append(f"{client}: disconnect")
            await self.driver("disconnect", client=client)
            self.away.add(client)

    async def look(self, number: int) -> None:
        for client in sorted(self.away):
            await self.driver("connect", client=client, timeoutMs=20000)
        self.away.clear()
        self.markers += 1
        self.conn.execute("INSERT INTO markers VALUES (%s)", [self.markers])
        rows: Rows = {}
        for table in TABLES.values():
            cursor = psycopg.ClientCursor(self.conn)
            for found in cursor.execute(f"SELECT * FROM {table.name}").fetchall():  # type: ignore[arg-type]
                values = row(*found)
                rows[table.id, values[:1]] = values
        for client in CLIENTS:
            marker = f"SELECT id FROM markers WHERE id = {self.markers}"
            try:
                await self.driver("waitRow", client=client, sql=marker, timeoutMs=30000)
            except DriverError:
                print(await self._told(f"look {number}, client {client}, seed {SEED}", client))
                raise
            due = expected(rows, list(self.shapes[client].values()))
            end = time.monotonic() + SETTLING
            # what was asked for last may still be on its way
            while (has := await self._rows_of(client)) != due and time.monotonic() < end:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            assert has == due, await self._told(f"look {number}, client {client}, seed {SEED}", client)
            assert await self.driver("query", client=client, sql="PRAGMA foreign_key_check") == []
            self.arrived |= self.shapes[client].keys()
        assert complaints(self.driver) == []

    async def _rows_of(self, client: str) -> Rows:
        found: Rows = {}
        for table in TABLES.values():
            rows = await self.driver("query", client=client, sql=f"SELECT * FROM {table.name}")
            for one in rows:
                values = row(*one.values())
                found[table.id, values[:1]] = values
        return found

    async def _told(self, title: str, client: str) -> str:
        """What was done last, and what went over the wire, for whoever has to find out what went wrong."""
        frames = await self.driver("wire", client=client, limit=5_000)
        self.record.write_text("\n".join(json.dumps(frame) for frame in frames))
        status = await self.driver("status", client=client)
        log = [line["text"] for line in await self.driver("logs", limit=20)]
        return "\n".join((title, *self.trail, *log, f"status: {status}", f"frames: {self.record}"))


async def test_three_clients_have_exactly_what_their_shapes_select(
    leyden: ServiceFactory, driver: Factory, tmp_path: Path
) -> None:
    service, program = await leyden(AUTH_MODE="insecure"), await driver()
    port = int(service.url.rpartition(":")[2])
    end = time.monotonic() + SECONDS
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        _created(conn)
        for client in CLIENTS:
            await connected(program, service, client, "markers", schema=SCHEMA)
        play, looks = Play(program, service, conn, Drawn(SEED), tmp_path / "frames.jsonl"), 0
        while time.monotonic() < end or looks < 2:
            for _ in range(STEPS):
                await play.step()
            if looks % 8 == 3:
                await play.service.stop(play.drawn.random.choice([signal.SIGTERM, signal.SIGKILL]))
                for _ in range(5):
                    conn.execute("SELECT 1")
                    with conn.transaction():
                        conn.execute("INSERT INTO users VALUES (99, 'b') ON CONFLICT (id) DO UPDATE SET name = 'b'")
                play.service = await leyden(AUTH_MODE="insecure", port=port)
            looks += 1
            await play.look(looks)
    print(f"{looks} looks, seed {SEED}")
