"""What clients that misbehave do to all others, and what becomes of them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from benchmarks.child import Child
from benchmarks.figure import Figure, Goal, Row, Spread
from benchmarks.issues import create_issues
from benchmarks.processes import PeakMemory
from benchmarks.stage import Service, Session, Stage
from databases import install_schema

GOOD, CULPRITS = 100, 5
RATE = 20.0
SECONDS = 8.0
GOAL = Goal(2.0)

ROWS = 50_000

#: What the table grows by to which only culprits subscribe.
BULK_RATE, BULK_BYTES = 10.0, 200_000

#: Small, so that whoever is left behind is out of reach within seconds.
LOG_BYTES = "8M"

KINDS = {
    "stop_reading": "stop reading",
    "never_acknowledge": "never acknowledge",
    "subscribe_to_everything": "subscribe to everything, over and over",
    "upload_without_pause": "upload without pause",
}

ABOUT = (
    f"{GOOD} good clients of one shape get {RATE:.0f} transactions a second; a table that they do not see grows by"
    f" {BULK_RATE * BULK_BYTES / 1e6:.0f} MB a second. Then {CULPRITS} clients who see that table misbehave. The delay"
    " from the commit to the last of the good ones, 99 of 100, beside that just before, when those clients behaved. The"
    f" service keeps {LOG_BYTES}iB of transactions (`ELECTRIC_TXN_CACHE_SIZE`). CPU is for one second."
)


async def measure(stage: Stage) -> Figure:
    figure = Figure("Slow and greedy neighbours", ABOUT)
    for kind, words in KINDS.items():
        with stage.database() as dsn:
            await install_schema(dsn)
            create_issues(dsn, ROWS, electrified_first=False)
            env = {"ELECTRIC_TXN_CACHE_SIZE": LOG_BYTES, "LEYDEN_LOG_FORMAT": "json"}
            async with stage.service(dsn, f"neighbours-{kind}", **env) as service:
                await _misconduct(figure, service, dsn, kind, words)
    return figure


async def _misconduct(figure: Figure, service: Service, dsn: str, kind: str, words: str) -> None:
    async with (
        Session.open(dsn) as session,
        Child.running("benchmarks.commits") as commits,
        Child.running("benchmarks.load") as good,
        Child.running("benchmarks.load") as culprits,
    ):
        await session.create_items()
        await session.conn.execute("CREATE TABLE bulk (id uuid PRIMARY KEY, user_id text, content text)")
        await session.conn.execute("CALL electric.electrify('bulk')")
        await service.connect(good, [f"good-{at}" for at in range(GOOD)], [[["items"]]] * GOOD)
        seen = [] if kind == "upload_without_pause" else [["bulk"]]
        await service.connect(culprits, [f"culprit-{at}" for at in range(CULPRITS)], [seen] * CULPRITS)
        await asyncio.sleep(2)
        await commits.ask("start_bulk", dsn=dsn, table="bulk", rate=BULK_RATE, size=BULK_BYTES)
        quiet = await _delays(good, commits, dsn)
        memory = PeakMemory(service.pid)
        before = service.cpu()
        await culprits.ask("misbehave", kind=kind, tables=["bulk", "items", "issues"])
        loud = await _delays(good, commits, dsn)
        cpu = (service.cpu() - before) / SECONDS * 1e6
        growth = memory.growth
        lost = await good.ask("lost")
        refused = await culprits.ask("refused")
    figure.rows += [
        Row(f"{CULPRITS} clients {words}", "ms, p99", loud.p99, quiet.p99, GOAL, loud, quiet, "ms", ours_cpu=cpu),
        Row(f"{CULPRITS} clients {words}", "MiB more of memory at most", growth / 2**20),
    ]
    ends = _ends(service.process.log)
    told = [f"{number} ended: {reason}" for reason, number in ends.items()]
    told += [f"{number} told: {text}" for text, number in Counter(refused).items()]
    told += [f"{len(lost)} good clients were lost: {lost[0]}"] if lost else []
    figure.notes.append(f"{words}: " + ("; ".join(told) or "nobody was dropped"))


async def _delays(good: Child, commits: Child, dsn: str) -> Spread:
    await good.ask("count")
    committed = await commits.ask("run", dsn=dsn, rate=RATE, seconds=SECONDS)
    arrived = (await good.ask("arrived", transactions=len(committed) + 1, seconds=60))[1:]
    return Spread.of([(arrival - commit) * 1e3 for commit, arrival in zip(committed, arrived, strict=True)])


def _ends(log: str) -> Counter[str]:
    """Why the service ended connections of which it was not the client who went away."""
    events = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
    reasons = (event["reason"] for event in events if event.get("event") == "client disconnected")
    return Counter(reason for reason in reasons if reason != "the client went away")
