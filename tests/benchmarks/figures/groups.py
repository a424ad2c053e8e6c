"""What a transaction costs the more different filters there are, when it concerns one of them."""

from __future__ import annotations

import asyncio
from statistics import median

from benchmarks.child import Child
from benchmarks.figure import Curve, Figure, Row, Spread
from benchmarks.stage import Session, Stage

GROUPS = (10, 100, 1_000, 10_000)

#: Filters of one client, at most.
EACH = 100

TRANSACTIONS = 200
ROUNDS = 3
WINDOW = 1.5

ABOUT = (
    "Clients subscribe to `this.user_id = …`, each value once; every transaction concerns the filter of one client. CPU"
    f" of the service for one transaction: of a window of time with {TRANSACTIONS} of them less that of one without."
    " Spreads are from the commit to that client."
)


async def measure(stage: Stage) -> Figure:
    figure = Figure("From 10 to 10,000 filters", ABOUT)
    points: list[tuple[float, float]] = []
    with stage.database() as dsn:
        async with (
            stage.service(dsn, "groups") as service,
            Child.running("benchmarks.load") as observer,
            Child.running("benchmarks.load") as others,
            Child.running("benchmarks.commits") as commits,
            Session.open(dsn) as session,
        ):
            await session.create_items()
            await service.connect(observer, ["observer"], [[["items", "this.user_id = 'all'"]]])
            there = 1
            for groups in GROUPS:
                missing = [["items", f"this.user_id = 'user-{number}'"] for number in range(there, groups)]
                filters = [missing[at : at + EACH] for at in range(0, len(missing), EACH)]
                await service.connect(others, [f"client-{groups}-{at}" for at in range(len(filters))], filters)
                there = groups
                await asyncio.sleep(2)
                delays: list[float] = []
                costs: list[float] = []
                for _ in range(ROUNDS):
                    before = service.cpu()
                    await asyncio.sleep(WINDOW)
                    quiet = (service.cpu() - before) / WINDOW
                    await observer.ask("count")
                    before, started = service.cpu(), asyncio.get_running_loop().time()
                    committed = await commits.ask("run", dsn=dsn, rate=TRANSACTIONS / WINDOW, seconds=WINDOW)
                    arrived = (await observer.ask("arrived", transactions=len(committed) + 1, seconds=60))[1:]
                    seconds = asyncio.get_running_loop().time() - started
                    costs.append((service.cpu() - before - quiet * seconds) / (len(committed) + 1) * 1e6)
                    delays += [(arrival - commit) * 1e3 for commit, arrival in zip(committed, arrived, strict=True)]
                spread, cost = Spread.of(delays), median(costs)
                points.append((groups, cost))
                figure.rows.append(
                    Row(
                        f"{groups:,} filters",
                        "µs of CPU a transaction",
                        median(costs),
                        ours_spread=spread,
                        spread_unit="ms",
                    )
                )
            if lost := await others.ask("lost"):
                figure.notes.append(f"{len(lost)} clients were lost: {lost[0]}")
    figure.curves.append(
        Curve("groups", "A transaction that concerns one of many filters", "filters", "µs of CPU", {"Leyden": points})
    )
    return figure
