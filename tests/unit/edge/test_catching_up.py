"""Who wants to catch up with Postgres at the same time does so together."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

import psycopg
import pytest

from leyden.edge.catching_up import CatchingUp


class Postgres:
    """Each run of it goes on until it is let go."""

    def __init__(self) -> None:
        self.runs: list[asyncio.Future[None]] = []

    async def catch_up(self) -> None:
        self.runs.append(asyncio.get_running_loop().create_future())
        await self.runs[-1]


@pytest.fixture
def postgres() -> Postgres:
    return Postgres()


@pytest.fixture
def catching_up(postgres: Postgres) -> CatchingUp:
    return CatchingUp(postgres.catch_up)


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_all_who_come_before_it_begins_share_it(postgres: Postgres, catching_up: CatchingUp) -> None:
    waiting = [asyncio.create_task(catching_up()) for _ in range(3)]
    await turns()
    (run,) = postgres.runs
    run.set_result(None)
    await asyncio.gather(*waiting)


async def test_who_comes_while_it_runs_takes_the_next(postgres: Postgres, catching_up: CatchingUp) -> None:
    first = asyncio.create_task(catching_up())
    await turns()
    others = [asyncio.create_task(catching_up()) for _ in range(2)]
    await turns()
    assert len(postgres.runs) == 1
    postgres.runs[0].set_result(None)
    await turns()
    assert [first.done(), *(other.done() for other in others)] == [True, False, False]
    assert len(postgres.runs) == 2
    postgres.runs[1].set_result(None)
    await asyncio.gather(first, *others)


async def test_it_begins_anew_when_nobody_waits(postgres: Postgres, catching_up: CatchingUp) -> None:
    for number in range(2):
        waiting = asyncio.create_task(catching_up())
        await turns()
        postgres.runs[number].set_result(None)
        await waiting


async def test_one_who_gives_up_takes_nothing_away_from_others(postgres: Postgres, catching_up: CatchingUp) -> None:
    gone, stays = (asyncio.create_task(catching_up()) for _ in range(2))
    await turns()
    gone.cancel()
    await turns()
    assert gone.cancelled()
    postgres.runs[0].set_result(None)
    await stays


async def test_a_failure_is_that_of_all_who_waited_for_it(postgres: Postgres, catching_up: CatchingUp) -> None:
    waiting = [asyncio.create_task(catching_up()) for _ in range(2)]
    await turns()
    later = asyncio.create_task(catching_up())
    await turns()
    postgres.runs[0].set_exception(ValueError())
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert list(map(type, outcomes)) == [ValueError, ValueError]
    postgres.runs[1].set_result(None)
    await later


async def test_a_run_that_nobody_waits_for_holds_nobody_up(postgres: Postgres, catching_up: CatchingUp) -> None:
    stuck = asyncio.create_task(catching_up())
    await turns()
    impatient = asyncio.create_task(catching_up())
    await turns()
    for one in (impatient, stuck):
        one.cancel()
    await turns()
    assert postgres.runs[0].cancelled()
    later = asyncio.create_task(catching_up())
    await turns()
    postgres.runs[1].set_result(None)
    await later


async def test_failures_keep_nobody_in_memory(postgres: Postgres, catching_up: CatchingUp) -> None:
    class Caller:
        async def call(self) -> None:
            with contextlib.suppress(ValueError):
                await catching_up()

    callers: list[weakref.ref[Caller]] = []
    gc.disable()
    try:
        waiting = []
        for number in range(5):  # each while the one before it runs
            caller = Caller()
            callers.append(weakref.ref(caller))
            waiting.append(asyncio.create_task(caller.call()))
            del caller
            await turns()
            if number:
                postgres.runs[number - 1].set_exception(ValueError("no"))
                await turns()
        postgres.runs[-1].set_exception(ValueError("no"))
        await asyncio.gather(*waiting)
        waiting.clear()
        postgres.runs.clear()
        await turns()
        assert [one() for one in callers] == [None] * 5
    finally:
        gc.enable()


async def test_at_the_end_nobody_waits_for_ever(postgres: Postgres, catching_up: CatchingUp) -> None:
    waiting = asyncio.create_task(catching_up())
    await turns()
    later = asyncio.create_task(catching_up())
    await turns()
    await catching_up.end()
    outcomes = await asyncio.gather(waiting, later, return_exceptions=True)
    assert list(map(type, outcomes)) == [psycopg.OperationalError] * 2
    with pytest.raises(psycopg.OperationalError):
        await catching_up()
