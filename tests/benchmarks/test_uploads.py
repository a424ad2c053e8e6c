"""What uploads cost beside the bare work in Postgres, and what many at once bring: ratios within one run."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from leyden.model import Author, ClientInsert, Table, Upload
from leyden.postgres.catalog import load_tables
from leyden.postgres.sessions import connect, session_conninfo
from leyden.postgres.writer import Outcome, Writer
from leyden.shapes.where import ownership

ROUNDS = 5
CLIENTS = 8
UPLOADS = 96

_keys = itertools.count(1)


class Bench:
    def __init__(self, conn: psycopg.AsyncConnection[Any], pool: AsyncConnectionPool[Any], table: Table) -> None:
        self._conn = conn
        self._table = table
        self._writer = Writer(pool, ownership)

    async def upload(self, client: str, rows: int) -> None:
        number = next(_keys)
        changes = tuple(
            ClientInsert(self._table, {"id": b"%d-%d" % (number, row), "content": b"x" * 50}, frozenset())
            for row in range(rows)
        )
        upload = Upload(client, "user", number.to_bytes(4, "big"), number, changes)
        assert await self._writer.apply(upload, lambda: Author("user")) is Outcome.APPLIED

    async def one_client(self, uploads: int = UPLOADS, rows: int = 1) -> None:
        for _ in range(uploads):
            await self.upload("alone", rows)

    async def many_clients(self) -> None:
        async def work(client: str) -> None:
            for _ in range(UPLOADS // CLIENTS):
                await self.upload(client, 1)

        await asyncio.gather(*(work(f"client-{number}") for number in range(CLIENTS)))

    async def bare(self, transactions: int = UPLOADS, rows: int = 1) -> None:
        """The same rows as an application in Python would insert them, with the tags that the trigger makes."""
        for _ in range(transactions):
            number = next(_keys)
            async with self._conn.pipeline(), self._conn.transaction():
                for row in range(rows):
                    await self._conn.execute("INSERT INTO items VALUES (%s, %s)", [f"{number}-{row}", "x" * 50])


async def seconds(work: Callable[[], Awaitable[None]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


@pytest.fixture
async def conninfo(database: str) -> str:
    async with await connect(database, autocommit=True) as conn:
        await conn.execute("CREATE TABLE items (id text PRIMARY KEY, content text)")
        await conn.execute("SELECT leyden.enable('items')")
    return session_conninfo(database)


async def test_uploads_beside_bare_inserts(conninfo: str) -> None:
    async with (
        await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as conn,
        AsyncConnectionPool(conninfo, min_size=CLIENTS, max_size=CLIENTS, open=False) as pool,
    ):
        (table,) = (await load_tables(conn)).values()
        bench = Bench(conn, pool, table)
        await bench.one_client(20)
        await bench.bare(20)
        single, parallel, large = [], [], []
        for _ in range(ROUNDS):
            bare, bare_rows = await seconds(bench.bare), await seconds(lambda: bench.bare(1, UPLOADS))
            alone = await seconds(bench.one_client)
            single.append(alone / bare)
            parallel.append(alone / await seconds(bench.many_clients))
            large.append(await seconds(lambda: bench.one_client(1, UPLOADS)) / bare_rows)
    print(f"\nan upload of one row: {median(single):.1f} times an INSERT in a transaction of its own")
    print(f"an upload of {UPLOADS} rows: {median(large):.1f} times as many INSERTs in one transaction")
    print(f"{CLIENTS} clients at once: {median(parallel):.1f} times as many uploads in the same time as one client")
    assert median(single) < 6
    assert median(large) < 6
    assert median(parallel) > 1
