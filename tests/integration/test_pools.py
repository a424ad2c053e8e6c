"""A pool whose users are cancelled at any moment."""

from __future__ import annotations

import asyncio
from random import Random

from leyden.postgres.pools import Pool

ROUNDS = 600


async def test_cancelled_tasks_leave_the_pool_its_connection(empty_database: str) -> None:
    random = Random(0)
    async with Pool(empty_database, min_size=1, max_size=1) as pool:

        async def use() -> None:
            async with pool.connection() as conn:
                await conn.execute("SELECT 1")

        for _ in range(ROUNDS):
            tasks = [asyncio.create_task(use()) for _ in range(3)]
            for task in tasks:
                await asyncio.sleep(random.uniform(0, 0.0006))
                task.cancel()
            for _ in range(random.randrange(3)):  # once more while they end
                await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
            _, waiting = await asyncio.wait(tasks, timeout=10)
            assert not waiting
        async with pool.connection(timeout=10) as conn:
            assert (await (await conn.execute("SELECT 1")).fetchone()) == (1,)
