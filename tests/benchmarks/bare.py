"""The floor of what is sent: a loop that writes ready-made bytes to sockets, and knows nothing.

A program: ``Child.running("benchmarks.bare")``. On request it reads a slot, and writes whenever a transaction commits.
"""

from __future__ import annotations

import asyncio
import time
from typing import cast

import psycopg

from benchmarks.child import answering
from leyden.postgres.replication.wal_stream import Keepalive, WalStream

_COMMIT = ord("C")


class _Peer(asyncio.Protocol):
    def __init__(self, transports: list[asyncio.Transport]) -> None:
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transports.append(cast(asyncio.Transport, transport))


class Program:
    def __init__(self) -> None:
        self._transports: list[asyncio.Transport] = []
        self._following: asyncio.Task[None] | None = None

    async def listen(self) -> int:
        """Returns the port."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Peer(self._transports), "127.0.0.1", 0, backlog=4096)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def accepted(self, count: int) -> None:
        """Returns once so many are connected: their own end believes it sooner."""
        while len(self._transports) < count:  # noqa: ASYNC110 - a moment
            await asyncio.sleep(0.01)

    async def send(self, wire: str, rounds: int, pause: float) -> list[tuple[float, float]]:
        """When each of ``rounds`` of sending to everybody began (the monotonic clock), and its CPU seconds."""
        content = bytes.fromhex(wire)
        spent = []
        for _ in range(rounds):
            started_at, started = time.monotonic(), time.process_time()
            self._write(content)
            spent.append((started_at, time.process_time() - started))
            await asyncio.sleep(pause)
        return spent

    async def follow(self, dsn: str, slot: str, wire: str) -> None:
        """From now on ``wire`` goes to everybody for each transaction that the slot reports."""
        wal = await WalStream.open(dsn)
        await wal.start(slot, 0)
        self._following = asyncio.create_task(self._follow(wal, bytes.fromhex(wire)))

    async def discard(self, dsn: str, slot: str) -> tuple[float, float]:
        """Reads all that waits in the slot and throws it away: the seconds, and those of CPU, from the first byte asked
        for until it has come to where the WAL ended before."""
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            cursor = await conn.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
            row = await cursor.fetchone()
        assert row is not None
        wal = await WalStream.open(dsn)
        await wal.start(slot, 0)
        started, before = time.monotonic(), time.process_time()
        arrived = False
        while not arrived:
            for message in wal.drain():
                if isinstance(message, Keepalive):
                    arrived |= message.position >= row[0]
            if not arrived and not await wal.wait(0.1):
                wal.report(0, ask=True)
        spent = (time.monotonic() - started, time.process_time() - before)
        await wal.close()
        return spent

    async def _follow(self, wal: WalStream, content: bytes) -> None:
        while True:
            for message in wal.drain():
                if isinstance(message, bytes) and message[0] == _COMMIT:
                    self._write(content)
            await wal.wait(1.0)

    def _write(self, content: bytes) -> None:
        for transport in self._transports:
            transport.write(content)


if __name__ == "__main__":
    answering(Program)
