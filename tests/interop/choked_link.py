"""A link between a client and a service that can be choked: what the service sends is then not read, and the client
hears nothing, while everything that the client sends arrives. Either happens at once, or after so many bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class ChokedLink:
    """Answers under :attr:`url` in place of the service at ``port``."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = asyncio.Event()
        self._open.set()
        #: How many bytes may pass from the service to its clients before everything is cut, or choked, once.
        self._bytes_left: int | None = None
        self._then_cut = True
        self.was_cut = asyncio.Event()
        self.was_choked = asyncio.Event()
        self._pipes: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def choke(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def cut_after(self, number: int) -> None:
        """Once so many more bytes have come from the service, all connections end. New ones are whole again."""
        self._bytes_left, self._then_cut = number, True

    def choke_after(self, number: int) -> None:
        """Once so many more bytes have come from the service, it is choked."""
        self._bytes_left, self._then_cut = number, False

    def cut(self) -> None:
        """Ends all connections at once; what was choked is lost."""
        for task in tuple(self._pipes):
            task.cancel()
        for writer in tuple(self._writers):
            writer.transport.abort()
        self._writers.clear()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there_writer}
        for one in (self._up(reader, there_writer), self._down(there_reader, writer)):
            task = asyncio.create_task(one)
            self._pipes.add(task)
            task.add_done_callback(self._pipes.discard)

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
                if self._bytes_left is not None:
                    self._bytes_left -= len(data)
                    if self._bytes_left < 0:
                        self._bytes_left = None
                        if self._then_cut:
                            self.was_cut.set()
                            self.cut()
                            return
                        self.was_choked.set()
                        self.choke()
        writer.close()

    async def __aenter__(self) -> ChokedLink:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        pipes = tuple(self._pipes)
        self.cut()
        await asyncio.gather(*pipes, return_exceptions=True)
        await asyncio.sleep(0.05)  # an aborted transport closes its socket in a moment


@contextlib.asynccontextmanager
async def choked_link(port: int) -> AsyncIterator[ChokedLink]:
    async with ChokedLink(port) as link:
        yield link
