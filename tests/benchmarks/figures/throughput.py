"""How many transactions a second reach 200 clients without their falling behind more and more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from statistics import median

from benchmarks.child import Child
from benchmarks.figure import Figure, Goal, Row, Spread
from benchmarks.floors import following
from benchmarks.processes import CpuClock
from benchmarks.stage import Session, Stage
from leyden.edge.websocket.socket import server_frame

CLIENTS = 200
GOAL = Goal(0.6, at_least=True)

SECONDS = 3.0

#: That commit, so that Postgres is not what is measured.
SESSIONS = 4

#: Transactions a second that are tried at first, by how much more each next time, and how often in between afterwards.
FIRST_RATE, STEP, REFINEMENTS = 20.0, 1.6, 2

#: Somebody keeps step who is, at the end, not this much later than he was at the beginning (ms).
TOLERANCE = 40.0

ABOUT = (
    f"The highest rate of transactions of one row, tried for {SECONDS:.0f} s each, at which the last of {CLIENTS}"
    f" clients of one shape is not more than {TOLERANCE:.0f} ms later at the end than it was at the beginning, and"
    " at which Postgres took them. The floor is the bare loop behind a slot of its own. Spreads are the delays at"
    " that rate, CPU is for one transaction."
)


async def measure(stage: Stage) -> Figure:
    figure = Figure("Transactions a second to 200 clients", ABOUT)
    with stage.database() as dsn:
        async with (
            stage.service(dsn, "throughput") as service,
            Child.running("benchmarks.load") as load,
            Session.open(dsn) as session,
        ):
            await session.create_items()
            await service.connect(load, [f"client-{number}" for number in range(CLIENTS)], [[["items"]]] * CLIENTS)
            await asyncio.sleep(2)
            ours, limit = await _most(load, service.cpu, dsn)
            wire = server_frame(bytes.fromhex(await load.ask("frame"))).hex()
        async with following(dsn, CLIENTS, wire) as (load, bare):
            floor, floors_limit = await _most(load, bare.cpu, dsn)
    figure.rows.append(
        Row(
            f"{CLIENTS} clients",
            "transactions/s",
            ours.rate,
            floor.rate,
            GOAL,
            ours.delays,
            floor.delays,
            "ms",
            ours.cpu,
            floor.cpu,
        )
    )
    figure.notes.append(f"at higher rates: {limit}; with the bare loop: {floors_limit}")
    return figure


@dataclass(frozen=True, slots=True)
class _Trial:
    #: As Postgres took them.
    rate: float
    delays: Spread
    cpu: float
    #: Why the rate is too high, if it is.
    limit: str


async def _most(load: Child, cpu: CpuClock, dsn: str) -> tuple[_Trial, str]:
    """The trial with the highest rate that was sustained, and why no higher one was."""
    async with Child.running("benchmarks.commits") as commits:
        rate = FIRST_RATE
        best = trial = await _try(load, cpu, commits, dsn, rate)
        while not trial.limit:
            best, rate = trial, rate * STEP
            trial = await _try(load, cpu, commits, dsn, rate)
        low, high, limit = rate / STEP, rate, trial.limit
        for _ in range(REFINEMENTS):
            middle = (low + high) / 2
            trial = await _try(load, cpu, commits, dsn, middle)
            if trial.limit:
                high, limit = middle, trial.limit
            else:
                best, low = trial, middle
    return best, limit


async def _try(load: Child, cpu: CpuClock, commits: Child, dsn: str, rate: float) -> _Trial:
    await load.ask("count")
    before = cpu()
    committed = await commits.ask("run", dsn=dsn, rate=rate, seconds=SECONDS, sessions=SESSIONS)
    rehearsed = SESSIONS
    arrived = (await load.ask("arrived", transactions=len(committed) + rehearsed, seconds=120))[rehearsed:]
    spent = cpu() - before
    delays = [(arrival - commit) * 1e3 for commit, arrival in zip(committed, arrived, strict=True)]
    taken = (len(committed) - 1) / (committed[-1] - committed[0])
    fifth = len(delays) // 5
    limit = ""
    if taken < 0.95 * rate:
        limit = "Postgres took no more"
    elif median(delays[-fifth:]) > median(delays[:fifth]) + TOLERANCE:
        limit = "clients fell behind"
    return _Trial(taken, Spread.of(delays), spent / len(committed) * 1e6, limit)
