"""The budget of signature checks, in a time of its own: nobody sleeps."""

from __future__ import annotations

import asyncio
import heapq
import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from leyden.edge.admission import SignatureBudget
from leyden.edge.admission.signatures import AT_ONCE, LONGEST_WAIT, SIGNATURES_PER_SECOND


class Time:
    """A clock that stands still until :meth:`advance` moves it and wakes whoever slept until then."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._numbers), woken))
        await woken

    @property
    def sleeping(self) -> int:
        return len(self._sleepers)

    async def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while self._sleepers and self._sleepers[0][0] <= until:
            self.now, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
            await settle()
        self.now = until
        await settle()


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_checks_that_come_now_and_then_do_not_wait() -> None:
    time = Time()
    budget = SignatureBudget(time, time.sleep)
    for _ in range(1_000):
        assert await budget.take()  # would hang if it slept
        time.now += 1 / SIGNATURES_PER_SECOND


async def test_a_flood_is_served_in_order_at_the_rate_and_the_rest_is_sent_away_at_once() -> None:
    time = Time()
    budget = SignatureBudget(time, time.sleep)
    served: list[tuple[float, int]] = []
    refused: list[int] = []

    async def ask(number: int) -> None:
        if await budget.take():
            served.append((time.now, number))
        else:
            refused.append(number)

    asking = [asyncio.ensure_future(ask(number)) for number in range(2_000)]
    await settle()
    assert len(served) == AT_ONCE
    assert time.sleeping <= SIGNATURES_PER_SECOND
    assert len(refused) == 2_000 - len(served) - time.sleeping
    await time.advance(LONGEST_WAIT)
    await asyncio.gather(*asking)
    assert [number for _, number in served] == list(range(len(served)))
    assert SIGNATURES_PER_SECOND <= len(served) <= SIGNATURES_PER_SECOND + AT_ONCE
    assert refused == list(range(len(served), 2_000))


async def test_a_taker_that_goes_away_holds_nobody_up() -> None:
    time = Time()
    budget = SignatureBudget(time, time.sleep, per_second=1, at_once=1)
    assert await budget.take()
    gone = asyncio.ensure_future(budget.take())
    await settle()
    gone.cancel()
    assert await budget.take() is False  # the moment is used up
    await time.advance(1.5)
    next_one = asyncio.ensure_future(budget.take())
    await settle()
    await time.advance(1)
    assert next_one.result()


@given(st.lists(st.floats(0, 0.5), max_size=60))
@example(gaps=[0.5, 0.4159031693327331, 0.3524757481088127, 0.0, 0.0, 0.0])
def test_no_second_sees_more_checks_than_allowed_and_nobody_waits_for_longer(gaps: list[float]) -> None:
    now, waits = 0.0, list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def run() -> list[float]:
        nonlocal now
        budget = SignatureBudget(lambda: now, sleep, per_second=10, at_once=2)
        moments = []
        for gap in gaps:
            now += gap
            for _ in range(3):
                waits.clear()
                if await budget.take():
                    moments.append(now + sum(waits))
                assert all(0 < wait <= LONGEST_WAIT for wait in waits)
        return moments

    moments = asyncio.run(run())
    assert moments == sorted(moments)
    for first, eleventh in zip(moments, moments[10:], strict=False):
        assert eleventh - first >= 1 - 1e-9
