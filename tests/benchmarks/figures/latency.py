"""How long a commit takes to reach the last of many clients."""

from __future__ import annotations

import asyncio

from benchmarks.child import Child
from benchmarks.figure import Figure, Goal, Row, Spread
from benchmarks.floors import following
from benchmarks.processes import CpuClock
from benchmarks.stage import Session, Stage
from leyden.edge.websocket.socket import server_frame

CLIENTS = 1_000
RATES = (10, 100)
SECONDS = 5.0
GOAL = Goal(2.0)

ABOUT = (
    f"From the moment at which a COMMIT is sent to Postgres until the last of {CLIENTS:,} clients of one shape has"
    " the transaction. The floor is the bare loop, which reads a slot of its own and writes the same bytes when a"
    " transaction ends; its clients acknowledge nothing. CPU is for one transaction."
)


async def measure(stage: Stage) -> Figure:
    figure = Figure("From a commit to the last client", ABOUT)
    with stage.database() as dsn:
        async with (
            stage.service(dsn, "latency") as service,
            Child.running("benchmarks.load") as load,
            Session.open(dsn) as session,
        ):
            await session.create_items()
            await service.connect(load, [f"client-{number}" for number in range(CLIENTS)], [[["items"]]] * CLIENTS)
            await asyncio.sleep(2)
            ours = {rate: await _delays(load, service.cpu, dsn, rate) for rate in RATES}
            if lost := await load.ask("lost"):
                figure.notes.append(f"{len(lost)} clients were lost: {lost[0]}")
            wire = server_frame(bytes.fromhex(await load.ask("frame"))).hex()
        async with following(dsn, CLIENTS, wire) as (load, bare):
            floor = {rate: await _delays(load, bare.cpu, dsn, rate) for rate in RATES}
    for rate in RATES:
        (mine, cpu), (bares, bare_cpu) = ours[rate], floor[rate]
        row = Row(
            f"{rate} transactions/s", "ms, p50", mine.median, bares.median, GOAL, mine, bares, "ms", cpu, bare_cpu
        )
        figure.rows += [row, Row(f"{rate} transactions/s", "ms, p99", mine.p99, bares.p99)]
    return figure


async def _delays(load: Child, cpu: CpuClock, dsn: str, rate: float) -> tuple[Spread, float]:
    """Of the transactions (ms), and the CPU for one (µs)."""
    async with Child.running("benchmarks.commits") as commits:
        await load.ask("count")
        before = cpu()
        committed = await commits.ask("run", dsn=dsn, rate=rate, seconds=SECONDS)
        # the first one is a rehearsal
        arrived = (await load.ask("arrived", transactions=len(committed) + 1, seconds=120))[1:]
        spent = cpu() - before
    delays = [(arrival - commit) * 1e3 for commit, arrival in zip(committed, arrived, strict=True)]
    return Spread.of(delays), spent / len(committed) * 1e6
