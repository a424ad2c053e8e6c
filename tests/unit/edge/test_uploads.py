"""The queue of uploads: in order, bounded by bytes, finished after the connection."""

from __future__ import annotations

import asyncio

import pytest

from leyden.edge.uploads import UploadQueue
from leyden.model import ClientInsert, Column, Table, Upload

TABLE = Table(1, "items", (Column("id", "text", True),), ("id",), "items_pkey")


def upload(number: int, size: int = 10) -> Upload:
    changes = (ClientInsert(TABLE, {"id": bytes(size)}, frozenset()),)
    return Upload("client", "user", number.to_bytes(4, "big"), 0, changes)


class Writer:
    def __init__(self) -> None:
        self.applied: list[int] = []
        self.may_go_on = asyncio.Event()

    async def apply(self, upload: Upload) -> None:
        await self.may_go_on.wait()
        self.applied.append(int.from_bytes(upload.lsn, "big"))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_reading_ahead_is_bounded_by_bytes() -> None:
    writer = Writer()
    queue = UploadQueue(writer.apply, limit=5_000)
    await queue.put(upload(1, 4_000))
    running = asyncio.create_task(queue.run())
    blocked = asyncio.create_task(queue.put(upload(2, 4_000)))
    await settle()
    assert not blocked.done()
    writer.may_go_on.set()
    await asyncio.wait_for(blocked, 1)
    queue.finish()
    await asyncio.wait_for(running, 1)
    await asyncio.wait_for(queue.run(), 1)
    assert writer.applied == [1, 2]


async def test_an_upload_above_the_limit_passes_alone() -> None:
    writer = Writer()
    queue = UploadQueue(writer.apply, limit=100)
    await asyncio.wait_for(queue.put(upload(1, 4_000)), 1)
    writer.may_go_on.set()
    queue.finish()
    await asyncio.wait_for(queue.run(), 1)
    assert writer.applied == [1]


async def test_what_was_received_is_applied_after_the_connection_ended() -> None:
    writer = Writer()
    queue = UploadQueue(writer.apply)
    for number in (1, 2, 3):
        await queue.put(upload(number))
    running = asyncio.create_task(queue.run())
    await settle()
    queue.finish()
    writer.may_go_on.set()
    await asyncio.wait_for(running, 1)
    assert writer.applied == [1, 2, 3]


async def test_what_waits_can_be_abandoned_at_once_and_nothing_more_is_taken() -> None:
    writer = Writer()
    queue = UploadQueue(writer.apply)
    for number in (1, 2, 3):
        await queue.put(upload(number))
    running = asyncio.create_task(queue.run())
    await settle()
    queue.abandon()
    await queue.put(upload(4))
    writer.may_go_on.set()
    queue.finish()
    await asyncio.wait_for(running, 1)
    assert writer.applied == [1]  # it was being written


async def test_what_follows_an_upload_that_failed_is_not_applied_without_it() -> None:
    attempts = []

    async def fail(one: Upload) -> None:
        attempts.append(one)
        raise RuntimeError

    queue = UploadQueue(fail, limit=1_000)
    for number in (1, 2):
        await queue.put(upload(number))
    blocked = asyncio.create_task(queue.put(upload(3, 4_000)))
    await settle()
    with pytest.raises(RuntimeError):
        await queue.run()
    await asyncio.wait_for(blocked, 1)
    await queue.put(upload(4))
    assert not queue.waiting
    assert len(attempts) == 1
