"""A link between a client and a service that takes its time: everything arrives so many seconds later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def slow_link(port: int, delay: float) -> AsyncIterator[str]:
    """The URL under which the service at ``port`` answers, ``delay`` seconds late each way."""
    pipes: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_pipe(reader, writer, delay))
        pipes.add(task)
        task.add_done_callback(pipes.discard)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, there_writer))
        pipe(reader, there_writer)
        pipe(there_reader, writer)

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(pipes):
            task.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.05)  # an aborted transport closes its socket in a moment


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    loop = asyncio.get_running_loop()

    def arrive(data: bytes) -> None:
        if writer.is_closing():
            return
        if data:
            writer.write(data)
        else:
            writer.close()

    data = b"?"
    try:
        while data:
            data = await reader.read(65_536)
            loop.call_later(delay, arrive, data)
    except OSError:
        arrive(b"")
