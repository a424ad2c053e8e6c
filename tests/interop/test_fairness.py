"""Clients that write side by side: what one of them does wrong must not cost the others much."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from interop.conftest import ServiceFactory
from interop.service import Leyden
from leyden.satellite import satellite_pb2 as pb
from speaker import SECRET, Speaker, token

pytestmark = pytest.mark.alone

#: How much slower an innocent client's write may become. The bound is the project's own; 1.0 to 1.2 is usual.
MOST = 1.5

#: The two states are looked at in turns, because the machine has other things to do as well.
ROUNDS = 12
WRITES = 20

#: Refused by a trigger, in the same way as by any constraint, and accepted for everybody else.
TABLES = """
CREATE TABLE items (id text PRIMARY KEY, content text);
CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id LIKE 'bad%' THEN RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION guard();
CALL electric.electrify('items');
"""


class Writer:
    """A client that uploads rows as the stock one does, each in a transaction, and hears of them by their echo."""

    def __init__(self, speaker: Speaker, name: str) -> None:
        self._speaker = speaker
        self._name = name
        self._numbers = itertools.count(1)
        self._echoes: set[int] = set()

    @classmethod
    @asynccontextmanager
    async def connected(cls, service: Leyden, name: str) -> AsyncIterator[Writer]:
        async with Speaker.connected(f"{service.url.replace('http', 'ws')}/ws") as speaker:
            await speaker.authenticate(token(name), name)
            await speaker.start()
            await speaker.start_uploading()
            columns = [
                pb.SatRelationColumn(name="id", type="TEXT", primaryKey=True),
                pb.SatRelationColumn(name="content", type="TEXT", is_nullable=True),
            ]
            await speaker.send(pb.SatRelation(schema_name="public", table_name="items", columns=columns))
            yield cls(speaker, name)

    async def send(self) -> int:
        number = next(self._numbers)
        row = pb.SatOpRow(nulls_bitmask=b"\x40", values=[f"{self._name}-{number}".encode(), b""])
        log = pb.SatOpLog()
        log.ops.add().begin.CopyFrom(pb.SatOpBegin(lsn=number.to_bytes(4, "big"), commit_timestamp=number))
        log.ops.add().insert.CopyFrom(pb.SatOpInsert(row_data=row))
        log.ops.add().commit.CopyFrom(pb.SatOpCommit())
        await self._speaker.send(log)
        return number

    async def echo(self, number: int) -> None:
        while number not in self._echoes:
            message = await self._speaker.receive()
            if isinstance(message, pb.SatOpLog):
                for op in message.ops:
                    if op.HasField("begin"):
                        lsn = op.begin.lsn
                        if op.begin.origin == self._name:
                            self._echoes.add(op.begin.commit_timestamp)
                await self._speaker.send(pb.SatOpLogAck(lsn=lsn))

    async def times(self, writes: int) -> list[float]:
        """Seconds from a write to its echo, one write after another."""
        seconds = []
        for _ in range(writes):
            started = time.perf_counter()
            await self.echo(await self.send())
            seconds.append(time.perf_counter() - started)
        return seconds

    async def flood(self, window: int) -> None:
        """Writes without end, ``window`` of them on their way at any time."""
        while True:
            numbers = [await self.send() for _ in range(window)]
            await self.echo(numbers[-1])


@pytest.mark.parametrize("window", [1, 20], ids=["one at a time", "as fast as it can"])
async def test_a_client_whose_writes_are_refused_does_not_slow_another(leyden: ServiceFactory, window: int) -> None:
    service = await leyden(AUTH_JWT_ALG="HS256", AUTH_JWT_KEY=SECRET)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute(TABLES)
        async with Writer.connected(service, "good") as good, Writer.connected(service, "bad") as bad:
            await good.times(WRITES)  # everything is warm
            alone: list[float] = []
            beside: list[float] = []
            for _ in range(ROUNDS):
                alone += await good.times(WRITES)
                flooding = asyncio.create_task(bad.flood(window))
                beside += await good.times(WRITES)
                flooding.cancel()
                await asyncio.wait([flooding])
                await bad.echo(await bad.send())  # nothing is on its way any more
            refused = conn.execute("SELECT count(*) FROM leyden.rejected").fetchone()
    ratio = statistics.median(beside) / statistics.median(alone)
    print(f"window {window}: {ratio:.2f} times as slow beside {refused} refused writes")
    assert refused is not None
    assert refused[0] > ROUNDS
    assert ratio < MOST
