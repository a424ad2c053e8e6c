"""A database with electrified tables, and a writer on it."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from leyden.events import Event
from leyden.model import (
    Author,
    ClientChange,
    ClientCompensation,
    ClientDelete,
    ClientInsert,
    ClientUpdate,
    Table,
    Upload,
)
from leyden.postgres.catalog import load_tables
from leyden.postgres.sessions import connect, session_conninfo
from leyden.postgres.writing.writer import Outcome, Writer
from leyden.shapes.where import ownership

CLIENT = "11111111-1111-4111-8111-111111111111"
Values = Mapping[str, str | None]


def encoded(values: Values) -> dict[str, bytes | None]:
    return {name: None if value is None else value.encode() for name, value in values.items()}


class World:
    """One database, seen from all sides: as its application, as a client, as the replication stream."""

    def __init__(self, conn: psycopg.AsyncConnection[Any], pool: AsyncConnectionPool[Any]) -> None:
        self.conn = conn
        self.pool = pool
        self.events: list[Event] = []
        self.naps: list[float] = []
        self.napped = asyncio.Event()
        self.writer = Writer(pool, ownership, self.events.append, sleep=self._nap)
        #: In whose name uploads are written.
        self.author = Author("user")
        self.tables: dict[str, Table] = {}
        self._lsn = 0

    async def _nap(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.napped.set()
        await asyncio.sleep(0.01)

    async def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        cursor = await self.conn.execute(statement, parameters or None)
        return await cursor.fetchall() if cursor.description else []

    async def electrify(self, *statements: str) -> None:
        for statement in statements:
            await self.sql(statement)
        for (name,) in await self.sql(
            "SELECT oid::regclass::text FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            " AND oid NOT IN (SELECT table_id FROM leyden.tables) ORDER BY pg_class.oid"
        ):
            await self.conn.execute("SELECT leyden.enable(%s::text::regclass)", [name])
        self.tables = {table.name: table for table in (await load_tables(self.conn)).values()}

    def insert(self, table: str, observed: tuple[str, ...] = (), **row: str | None) -> ClientInsert:
        return ClientInsert(self.tables[table], encoded(row), frozenset(observed))

    def update(self, table: str, old: Values, *observed: str, **new: str | None) -> ClientUpdate:
        return ClientUpdate(self.tables[table], encoded(old), encoded({**old, **new}), frozenset(observed))

    def delete(self, table: str, old: Values, *observed: str) -> ClientDelete:
        return ClientDelete(self.tables[table], encoded(old), frozenset(observed))

    def compensate(self, table: str, key: Values, *observed: str) -> ClientCompensation:
        return ClientCompensation(self.tables[table], encoded(key), frozenset(observed))

    def upload(
        self,
        *changes: ClientChange,
        ms: int = 5_000_000_000_000,
        client: str = CLIENT,
        lsn: int | None = None,
    ) -> Upload:
        if lsn is None:
            self._lsn += 1
            lsn = self._lsn
        return Upload(client, "user", lsn.to_bytes(4, "big"), ms, changes)

    async def apply(
        self,
        *changes: ClientChange,
        ms: int = 5_000_000_000_000,
        client: str = CLIENT,
        lsn: int | None = None,
    ) -> Outcome:
        return await self.write(self.upload(*changes, ms=ms, client=client, lsn=lsn))

    async def write(self, upload: Upload) -> Outcome:
        return await self.writer.apply(upload, lambda: self.author)

    async def rows(self, table: str) -> list[tuple[Any, ...]]:
        cursor = await self.conn.execute(sql.SQL("SELECT * FROM {} ORDER BY 1").format(sql.Identifier(table)))
        return await cursor.fetchall()

    async def tags(self, table: str, *key: str) -> list[str] | None:
        found = await self.sql(
            "SELECT tags FROM leyden.row_state WHERE table_id = %s AND pk = %s",
            self.tables[table].id,
            json.dumps(key, ensure_ascii=False),
        )
        return found[0][0] if found else None

    async def blocked(self) -> None:
        """Until some session of this database waits for a lock."""
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        for _ in range(500):
            if await self.sql(waiting):
                return
            await asyncio.sleep(0.01)
        raise TimeoutError

    async def watch(self) -> None:
        """Begin to look at the stream; :meth:`stream` returns what was committed since."""
        await self.sql("SELECT pg_create_logical_replication_slot('watch_' || current_database(), 'pgoutput')")

    async def stream(self) -> list[Any]:
        """Letters of pgoutput messages, a ``leyden.tx`` message as its parsed content."""
        seen: list[Any] = []
        for (data,) in await self.sql(
            "SELECT data FROM pg_logical_slot_get_binary_changes('watch_' || current_database(), NULL, NULL,"
            " 'proto_version', '1', 'publication_names', 'leyden', 'messages', 'true')"
        ):
            letter = data[:1].decode()
            if letter == "M":
                prefix, _, rest = data[10:].partition(b"\0")
                assert prefix.startswith(b"leyden.tx ")
                (length,) = struct.unpack(">I", rest[:4])
                seen.append(json.loads(rest[4 : 4 + length]))
            elif letter != "R":
                seen.append(letter)
        return seen


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with await connect(database, autocommit=True) as conn:
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            session_conninfo(make_conninfo(database, options="-c deadlock_timeout=50ms")),
            min_size=1,
            max_size=8,
            open=False,
        )
        async with pool:
            yield World(conn, pool)


@pytest.fixture
async def items(world: World) -> World:
    await world.electrify("CREATE TABLE items (id text PRIMARY KEY, content text, content_b text)")
    return world
