"""How often Postgres is waited for: what counts when it is a network away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Counter:
    """A link to Postgres that counts how often something is sent after an answer has come."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._answered = True
        self.round_trips = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def between(cls, database: str) -> AsyncIterator[tuple[Self, str]]:
        """With the connection string that leads through it to ``database``."""
        parts = conninfo_to_dict(database)
        counter = cls(Path(str(parts["host"])) / f".s.PGSQL.{parts.get('port', 5432)}")
        async with counter._port() as port:
            yield counter, make_conninfo(database, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")

    @contextlib.asynccontextmanager
    async def _port(self) -> AsyncIterator[int]:
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
