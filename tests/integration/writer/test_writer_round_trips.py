"""How often an upload waits for Postgres: what counts when it is a network away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from leyden.postgres.sessions import session_conninfo
from leyden.postgres.writer import Outcome, Writer
from leyden.shapes.where import ownership


class Counter:
    """A link to Postgres that counts how often something is sent after an answer has come."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._answered = True
        self.round_trips = 0

    @contextlib.asynccontextmanager
    async def port(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.05)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(str(self._socket))
        self._writers += [writer, there_writer]
        for pipe in (self._pipe(reader, there_writer, answers=False), self._pipe(there_reader, writer, answers=True)):
            self._tasks.add(asyncio.create_task(pipe))

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        while data := await reader.read(65_536):
            if not answers and self._answered:
                self.round_trips += 1
            self._answered = answers
            writer.write(data)
        writer.close()


@pytest.fixture
async def link(items: Any, database: str) -> AsyncIterator[tuple[Counter, Writer]]:
    parts = conninfo_to_dict(database)
    counter = Counter(Path(str(parts["host"])) / f".s.PGSQL.{parts.get('port', 5432)}")
    async with counter.port() as port:
        conninfo = make_conninfo(database, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(session_conninfo(conninfo), min_size=1, open=False)
        async with pool:
            await pool.wait()
            yield counter, Writer(pool, ownership)


@pytest.mark.parametrize("rows", [1, 50])
async def test_the_usual_upload_waits_three_times_whatever_its_size(
    items: Any, link: tuple[Counter, Writer], rows: int
) -> None:
    counter, writer = link
    waits = []
    for number in range(1, 9):
        changes = [items.insert("items", id=f"{number}-{row}", content="x") for row in range(rows)]
        before = counter.round_trips
        assert await writer.apply(items.upload(*changes, ms=number), lambda: items.author) is Outcome.APPLIED
        waits.append(counter.round_trips - before)
    # a statement that is used again and again is prepared, which is one of the first things queued
    assert waits == [3] * 8


async def test_an_upload_that_is_refused_waits_a_few_times_more(items: Any, link: tuple[Counter, Writer]) -> None:
    counter, writer = link
    await items.sql("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$")
    await items.sql("CREATE TRIGGER no BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION no()")
    upload = items.upload(items.insert("items", id="Z"))
    before = counter.round_trips
    assert await writer.apply(upload, lambda: items.author) is Outcome.REFUSED
    assert counter.round_trips - before < 20
