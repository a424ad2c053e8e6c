"""The program in which a fleet runs: ``Child.running("benchmarks.load")``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from benchmarks.child import answering
from benchmarks.load.client import Filter
from benchmarks.load.fleet import Fleet
from benchmarks.load.misconduct import KINDS
from benchmarks.load.uploads import Uploads
from leyden.satellite import satellite_pb2 as pb


class Program:
    def __init__(self) -> None:
        self._fleet = Fleet()
        self._misconduct: list[asyncio.Task[None]] = []

    async def connect(
        self, port: int, names: Sequence[str], filters: Sequence[Sequence[Sequence[str]]], private_pem: str
    ) -> float:
        """Returns the seconds that it took."""
        wanted = [[Filter(*one) for one in each] for each in filters]
        return await self._fleet.connect(port, names, wanted, private_pem)

    async def connect_bare(self, port: int, count: int) -> None:
        await self._fleet.connect_bare(port, count)

    async def upgrade(self, port: int, count: int) -> None:
        await self._fleet.upgrade(port, count)

    async def count(self) -> None:
        self._fleet.count()

    async def arrived(self, transactions: int, seconds: float) -> list[float]:
        return await self._fleet.arrived(transactions, seconds)

    async def acknowledge_later(self) -> None:
        self._fleet.acknowledge_later()

    async def acknowledge(self) -> None:
        self._fleet.acknowledge()

    async def upload(self, table: str, under_way: int, size: int, seconds: float) -> tuple[float, list[float]]:
        """Every client writes rows with ``size`` bytes of text, with so many uploads under way; returns the seconds
        until the last was echoed, and how long each took from sending to echo."""
        started = time.monotonic()
        uploads = [Uploads(client, table, under_way, b"x" * size) for client in self._fleet.clients]
        await asyncio.sleep(seconds)
        for each in uploads:
            each.end()
        while any(each.outbox.under_way for each in uploads) and not self._fleet.lost():  # noqa: ASYNC110 - no event is worth it
            await asyncio.sleep(0.005)
        return time.monotonic() - started, [delay for each in uploads for delay in each.outbox.delays]

    async def subscribe(self, filters: Sequence[Sequence[str]], number: int) -> tuple[float, int]:
        """The first client subscribes: the seconds until all the initial data is there, and its rows."""
        client = self._fleet.clients[0]
        started = time.monotonic()
        await client.subscribe([Filter(*one) for one in filters], number)
        seconds = time.monotonic() - started
        payloads, client.initial = client.initial, []
        return seconds, sum(len(pb.SatOpLog.FromString(payload[1:]).ops) for payload in payloads)

    async def misbehave(self, kind: str, tables: list[str]) -> None:
        """From now on all clients do what no client should; returns at once."""
        self._misconduct = [asyncio.create_task(KINDS[kind](client, tables)) for client in self._fleet.clients]

    async def refused(self) -> list[str]:
        """What clients were told that were refused something and stayed."""
        return [client.refused for client in self._fleet.clients if client.refused]

    async def frame(self) -> str:
        """The newest message with a transaction, in hexadecimal."""
        return self._fleet.inbox.newest.hex()

    async def lost(self) -> list[str]:
        return self._fleet.lost()

    async def close(self) -> None:
        self._fleet.close()


if __name__ == "__main__":
    answering(Program)
