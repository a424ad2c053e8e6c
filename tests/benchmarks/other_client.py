"""A client beside the one that is measured; run as a program of its own.

    python other_client.py URL TOKEN DSN

It subscribes to the table ``ticks``, inserts a row every few milliseconds, and for each line of its input prints how
late the rows since the last one were: the seconds from before the insert until the transaction arrived, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import psycopg

from leyden.satellite import satellite_pb2 as pb
from speaker import Speaker

PAUSE = 0.01


async def main(url: str, token: str, dsn: str) -> None:
    async with Speaker.connected(url) as speaker:
        await speaker.authenticate(token, "other")
        await speaker.start()
        await speaker.subscribe("ticks")
        delays: list[float] = []
        ended = asyncio.Event()
        ticking = asyncio.create_task(tick(speaker, dsn, delays, ended))
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(delays), flush=True)
            delays.clear()
        ended.set()
        await ticking


async def tick(speaker: Speaker, dsn: str, delays: list[float], ended: asyncio.Event) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        while not ended.is_set():
            await asyncio.sleep(PAUSE)
            started = time.monotonic()
            await conn.execute("INSERT INTO ticks VALUES (gen_random_uuid())")
            log = (await speaker.until(pb.SatOpLog))[-1]
            delays.append(time.monotonic() - started)
            await speaker.send(pb.SatOpLogAck(lsn=log.ops[0].begin.lsn, transaction_id=log.ops[0].begin.transaction_id))


asyncio.run(main(*sys.argv[1:]))
