from __future__ import annotations

import asyncio

from leyden.cancellation import cancel


async def stubborn(times: int) -> str:
    """Overlooks its cancellation so many times."""
    for _ in range(times):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()
    return "never"


async def failing() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise RuntimeError("while leaving things in order")


async def test_a_cancellation_that_got_lost_is_repeated() -> None:
    tasks = [asyncio.create_task(stubborn(times)) for times in (0, 1, 3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await cancel(*tasks, patience=0.01)
    assert all(task.cancelled() for task in tasks)


async def test_a_task_may_end_in_any_way_and_may_have_ended_before() -> None:
    ended = asyncio.create_task(asyncio.sleep(0))
    await ended
    failed = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await cancel(ended, failed)
    assert isinstance(failed.exception(), RuntimeError)
    await cancel()
