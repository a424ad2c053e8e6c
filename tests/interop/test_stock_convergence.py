"""Convergence with three stock clients, each with a clock of its own, and an SQL session: whenever all are quiet, the
clients have what Postgres has, tags included.

A few seconds in ``make test``; ``make convergence`` takes five minutes (CONVERGENCE_SECONDS, CONVERGENCE_SEED).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from typing import Any

import psycopg

from convergence.device import RowName
from convergence.simulation import (
    COMMITTING,
    KEYS,
    SCHEMA,
    STATEMENTS,
    Application,
    Standing,
    Writer,
    differences,
    of_postgres,
)
from interop.client import Driver, DriverError
from interop.conftest import Factory
from interop.service import Leyden
from interop.tables import complaints, connected

SECONDS = float(os.environ.get("CONVERGENCE_SECONDS", "10"))
SEED = os.environ.get("CONVERGENCE_SEED") or str(random.SystemRandom().getrandbits(32))

#: Seconds by which the clocks of the clients are ahead.
CLOCKS = {"a": -86_400.0, "b": 0.0, "c": 3_600.0}

#: Steps of each between two looks at what they have.
STEPS = 15

PATIENCE_MS = 60_000

#: What the client throws when it is told to disconnect while it sends or connects, or loses its socket in between.
OF_ITS_OWN_MAKING = {
    "sending a transaction while outbound replication has not started",
    "Connection cancelled by 'disconnect'",
    "socket error",
}

TABLES: dict[str, Any] = {
    table: {
        "columns": {column: "int4" if column == "notes" else "text" for column in schema.columns},
        "pk": ["id"],
        "fks": [{"columns": [one.column], "table": one.parent, "refColumns": ["id"]} for one in schema.references],
    }
    for table, schema in SCHEMA.items()
} | {"finished": {"columns": {"id": "int4"}, "pk": ["id"]}}


class StockUser(Writer):
    """Somebody with the published client."""

    def __init__(self, name: str, driver: Driver) -> None:
        super().__init__(f"{SEED}/{name}")
        self.name = name
        self.driver = driver
        self.away = False

    async def do(self, command: str, **arguments: Any) -> Any:
        return await self.driver(command, client=self.name, **arguments)

    async def patiently(self, command: str, **arguments: Any) -> None:
        try:
            await self.do(command, **arguments, timeoutMs=PATIENCE_MS)
        except DriverError as error:
            happened = [event for event in self.driver.events if event["event"] != "dataChange"][-15:]
            raise AssertionError(f"{self.name}: {error}\n{await self.do('status')}\n{happened}") from None

    async def act(self) -> None:
        statements = [{"sql": self.statement()} for _ in range(self.random.choice((1, 1, 2)))]
        try:
            await self.do("tx", statements=statements)
        except DriverError as error:
            if "constraint failed" not in error.message:
                raise  # a foreign key is no mishap: nothing of it happened
        dice = self.random.random()
        if self.away and dice < 0.3:
            await self.come_back()
        elif not self.away and dice < 0.1 and await self.is_connected():
            await self.do("disconnect" if dice < 0.05 else "dropSocket")
            self.away = dice < 0.05

    async def is_connected(self) -> bool:
        """Both ways. One that loses its socket while it connects may call itself connected without one from then on."""
        status = await self.do("status")
        return bool(status["socketOpen"] and status["inbound"] == status["outbound"] == "ACTIVE")

    async def come_back(self) -> None:
        if self.away:
            await self.do("connect", timeoutMs=PATIENCE_MS)
            self.away = False

    def statement(self) -> str:
        table = self.table()
        key = self.random.choice(KEYS[table])
        columns = [column for column in SCHEMA[table].columns if column != "id"]
        values = {column: _literal(self.value(table, column, KEYS)) for column in columns}
        one = self.random.choice(columns)
        (kind,) = self.random.choices(("insert", "update", "delete"), (4, 5, 2))
        if kind == "insert":
            given = ", ".join((f"'{key}'", *values.values()))
            return f"INSERT INTO {table} (id, {', '.join(columns)}) VALUES ({given}) ON CONFLICT DO NOTHING"
        if kind == "update":
            return f"UPDATE {table} SET {one} = {values[one]} WHERE id = '{key}'"
        return f"DELETE FROM {table} WHERE id = '{key}'"

    async def has(self) -> dict[RowName, Standing]:
        tags = {
            (shadow["tablename"], json.loads(shadow["primaryKey"])["id"]): frozenset(json.loads(shadow["tags"]))
            for shadow in await self.do("shadow")
        }
        found = {}
        for table, schema in SCHEMA.items():
            for row in await self.do("query", sql=f"SELECT {', '.join(schema.columns)} FROM {table}"):
                values = tuple(None if value is None else str(value) for value in row.values())
                name = table, row["id"]
                found[name] = Standing(values, tags.get(name, frozenset()))
        return found


def _literal(value: str | None) -> str:
    return "NULL" if value is None else f"'{value}'"


async def look(users: list[StockUser], conn: psycopg.AsyncConnection[Any], number: int) -> None:
    for user in users:
        await user.come_back()
    for user in users:
        await user.patiently("waitOplogEmpty")
    await conn.execute("INSERT INTO finished VALUES (%s)", (number,))
    for user in users:
        await user.patiently("waitRow", sql=f"SELECT * FROM finished WHERE id = {number}")
    # A commit is streamed from the moment it is in the WAL, a moment before other sessions see it.
    while await (await conn.execute(COMMITTING)).fetchone():  # noqa: ASYNC110 - the database does not tell
        await asyncio.sleep(0.01)
    expected = await of_postgres(conn)
    for user in users:
        assert differences(expected, await user.has()) == {}, f"look {number}, client {user.name}, seed {SEED}"
        assert {one["error"]["message"] for one in complaints(user.driver)} <= OF_ITS_OWN_MAKING


async def test_three_stock_clients_end_with_what_postgres_has(service: Leyden, driver: Factory) -> None:
    print(f"\nCONVERGENCE_SEED={SEED}")
    async with await psycopg.AsyncConnection.connect(service.dsn, autocommit=True) as conn:
        await conn.execute(f"ALTER DATABASE {conn.info.dbname} SET deadlock_timeout = '20ms'")
        for statement in STATEMENTS:
            await conn.execute(statement)
        users = [StockUser(name, await driver(clock_ahead=ahead)) for name, ahead in CLOCKS.items()]
        for user in users:
            schema = {"tables": TABLES, "migrations": []}
            await connected(user.driver, service, user.name, *TABLES, schema=schema)
        application = Application(f"{SEED}/application", service.dsn)
        actors: list[StockUser | Application] = [*users, application]

        async def work(actor: StockUser | Application) -> None:
            for _ in range(STEPS):
                await actor.act()
                await asyncio.sleep(actor.random.random() * 0.1)

        try:
            end, looks = time.monotonic() + SECONDS, 0
            while time.monotonic() < end or looks < 2:
                async with asyncio.TaskGroup() as working:
                    for actor in actors:
                        working.create_task(work(actor))
                looks += 1
                await look(users, conn, looks)
        finally:
            await application.close()
        cursor = await conn.execute("SELECT DISTINCT sqlstate FROM leyden.rejected")
        assert {sqlstate for (sqlstate,) in await cursor.fetchall()} <= {"23503"}
    print(f"{looks} looks")
