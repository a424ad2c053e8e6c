"""A link to Postgres on which somebody watches what goes by."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo


@dataclass
class Ends:
    """Those of one connection: to the client, and to Postgres."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Link:
    """For any number of connections at a time."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: list[Ends] = []

    def sent(self, data: bytes, ends: Ends) -> bool:
        """The client has sent ``data``. Whether it is to arrive."""
        return True

    def answered(self, data: bytes, ends: Ends) -> bool:
        """Postgres has sent ``data``. Whether it is to arrive."""
        return True

    @contextlib.asynccontextmanager
    async def to(self, database: str) -> AsyncIterator[tuple[Self, str]]:
        """With the connection string that leads through it to ``database``."""
        parts = conninfo_to_dict(database)
        socket = Path(str(parts["host"])) / f".s.PGSQL.{parts.get('port', 5432)}"

        async def connect(reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
            answers, server = await asyncio.open_unix_connection(str(socket))
            ends = Ends(client, server)
            self._ends.append(ends)
            self._tasks.add(asyncio.create_task(_passed(reader, server, ends, self.sent)))
            self._tasks.add(asyncio.create_task(_passed(answers, client, ends, self.answered)))

        listening = await asyncio.start_server(connect, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        yield self, make_conninfo(database, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        listening.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for ends in self._ends:
            ends.abort()
        await asyncio.sleep(0.05)


async def _passed(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: Ends, watch: Callable[[bytes, Ends], bool]
) -> None:
    while data := await reader.read(65_536):
        if watch(data, ends):
            writer.write(data)
    writer.close()
