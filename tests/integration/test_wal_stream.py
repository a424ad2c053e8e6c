"""Waiting for the walsender: neither longer than asked for, nor past what has arrived."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from leyden.postgres.replication.wal_stream import WalStream
from leyden.postgres.sessions import connect

LONG = 60.0


@pytest.fixture
async def wal(database: str) -> AsyncIterator[WalStream]:
    async with await connect(database, autocommit=True) as conn:
        await conn.execute("SELECT pg_create_logical_replication_slot('waited_for', 'pgoutput')")
    wal = await WalStream.open(database)
    await wal.start("waited_for", 0)
    # the walsender tells first how far it is
    while await wal.wait(0.5):
        list(wal.drain())
    yield wal
    await wal.close()


async def test_waiting_ends_in_time_when_nothing_comes(wal: WalStream) -> None:
    before = time.monotonic()
    assert not await wal.wait(0.05)
    assert not await wal.wait(0.05)
    assert 0.1 <= time.monotonic() - before < 5


async def test_waiting_ends_when_something_comes(wal: WalStream) -> None:
    waiting = asyncio.create_task(wal.wait(LONG))
    await asyncio.sleep(0)
    wal.report(0, ask=True)
    assert await asyncio.wait_for(waiting, 5)
    assert list(wal.drain())


async def test_what_came_while_nobody_waited_is_not_waited_for(wal: WalStream) -> None:
    wal.report(0, ask=True)
    await asyncio.sleep(0.5)
    assert await asyncio.wait_for(wal.wait(LONG), 5)
    assert list(wal.drain())


async def test_waiting_can_be_given_up_and_taken_up_again(wal: WalStream) -> None:
    waiting = asyncio.create_task(wal.wait(LONG))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    wal.report(0, ask=True)
    assert await asyncio.wait_for(wal.wait(LONG), 5)
