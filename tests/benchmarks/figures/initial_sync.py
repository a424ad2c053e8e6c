"""The first copy of a large table."""

from __future__ import annotations

import asyncio
import subprocess
import time
from statistics import median

from psycopg import sql

from benchmarks.child import Child
from benchmarks.figure import Figure, Goal, Row, Spread
from benchmarks.issues import create_issues
from benchmarks.processes import PeakMemory
from benchmarks.stage import Session, Stage
from databases import install_schema
from leyden.postgres.catalog import load_tables
from leyden.postgres.reading.snapshots import selection
from leyden.postgres.sessions import connect, session_conninfo

ROWS = 1_000_000
ROUNDS = 3
GOAL = Goal(0.33, at_least=True)

#: Of growth in memory (MiB).
MOST_GROWTH = 100

#: Of another client, meanwhile: transactions a second, and for how long (s).
RATE = 50
MEANWHILE = 1.5

ABOUT = (
    f"{ROWS:,} rows of five columns to one client, from its call to subscribe to the last row. The floor is psql"
    " with COPY TO STDOUT of the query that the service runs for the table, into nothing. Rows have a state (tags)"
    f" beside them if they were written since the table was electrified. Spreads are seconds of {ROUNDS} rounds, CPU"
    f" is for one row. The memory of the service may grow by {MOST_GROWTH} MiB, which stands in for a floor. Another"
    f" client gets {RATE} transactions a second meanwhile, from the commit to its message."
)


async def measure(stage: Stage) -> Figure:
    figure = Figure("Initial sync", ABOUT)
    for electrified_first in (False, True):
        with stage.database() as dsn:
            await install_schema(dsn)
            create_issues(dsn, ROWS, electrified_first=electrified_first)
            figure.rows += await _measured(stage, dsn, "with a state" if electrified_first else "without a state")
    return figure


async def _measured(stage: Stage, dsn: str, case: str) -> list[Row]:
    command = await _copy_command(stage, dsn)
    copies: list[float] = []
    syncs: list[float] = []
    spent: list[float] = []
    delays: list[float] = []
    async with (
        stage.service(dsn, "initial-sync") as service,
        Child.running("benchmarks.load") as observer,
        Child.running("benchmarks.commits") as commits,
        Session.open(dsn) as session,
    ):
        await session.create_items()
        await service.connect(observer, ["observer"], [[["items"]]])
        await asyncio.sleep(1)
        memory = PeakMemory(service.pid)
        for number in range(ROUNDS):
            copies.append(await _seconds_of(command))
            async with Child.running("benchmarks.load") as load:
                await service.connect(load, [f"client-{number}"], [[]])
                before = service.cpu()
                await observer.ask("count")
                meanwhile = asyncio.create_task(commits.ask("run", dsn=dsn, rate=RATE, seconds=MEANWHILE))
                seconds, rows = await load.ask("subscribe", filters=[["issues"]], number=1)
                spent.append((service.cpu() - before) / ROWS * 1e6)
                assert rows == ROWS
                syncs.append(seconds)
                committed = await meanwhile
                arrived = (await observer.ask("arrived", transactions=len(committed) + 1, seconds=60))[1:]
                delays += [(arrival - commit) * 1e3 for commit, arrival in zip(committed, arrived, strict=True)]
        growth = memory.growth
    ours, floor = Spread.of(syncs), Spread.of(copies)
    rate = Row(
        f"rows {case}",
        "rows/s",
        ROWS / ours.median,
        ROWS / floor.median,
        GOAL,
        ours_spread=ours,
        floor_spread=floor,
        spread_unit="s",
        ours_cpu=median(spent),
    )
    spread = Spread.of(delays)
    return [
        rate,
        Row(f"rows {case}", "MiB more of memory at most", growth / 2**20, MOST_GROWTH, Goal(1)),
        Row(f"another client, rows {case}", "ms, p99", spread.p99, ours_spread=spread, spread_unit="ms"),
    ]


async def _copy_command(stage: Stage, dsn: str) -> list[str]:
    """psql with the COPY that the service runs for the table."""
    async with await connect(dsn) as conn:
        (issues,) = (await load_tables(conn)).values()
        statement = sql.SQL("COPY ({}) TO STDOUT").format(selection(issues, None)).as_string(conn)
    return [stage.cluster.psql_command()[0], session_conninfo(dsn), "-qXc", statement]


async def _seconds_of(command: list[str]) -> float:
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    assert await process.wait() == 0
    return time.monotonic() - started
