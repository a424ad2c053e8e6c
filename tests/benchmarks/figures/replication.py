"""How fast the stream of changes is read and decoded."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from benchmarks.child import Child
from benchmarks.figure import Figure, Goal, Row
from benchmarks.floors import SLOT
from benchmarks.stage import Session, Stage

CHANGES = 20_000
ROUNDS = 3
GOAL = Goal(0.5, at_least=True)

#: Changes in one transaction.
SIZES = (1, 100)

ABOUT = (
    f"{CHANGES:,} inserted rows wait in the slot while the service is stopped (SIGSTOP); from SIGCONT until a"
    " client has the transaction behind them. Nobody subscribes to their table, so they are read, decoded and kept"
    " in the log. The floor reads a slot of its own for the same changes and throws all of it away. CPU is for one"
    " change."
)

FILL = """
DO $$ BEGIN
    FOR number IN 1..{transactions} LOOP
        INSERT INTO others SELECT gen_random_uuid(), repeat('x', 200) FROM generate_series(1, {rows});
        COMMIT;
    END LOOP;
END $$
"""


async def measure(stage: Stage) -> Figure:
    figure = Figure("Reading the stream of changes", ABOUT)
    with stage.database() as dsn:
        async with (
            stage.service(dsn, "replication") as service,
            Child.running("benchmarks.load") as load,
            Child.running("benchmarks.bare") as bare,
            Session.open(dsn) as session,
        ):
            await session.create_items()
            await session.conn.execute("CREATE TABLE others (id uuid PRIMARY KEY, content text)")
            await session.conn.execute("CALL electric.electrify('others')")
            await service.connect(load, ["client"], [[["items"]]])
            await asyncio.sleep(1)
            for size in SIZES:
                ours: list[tuple[float, float]] = []
                floor: list[tuple[float, float]] = []
                for _ in range(ROUNDS):
                    await session.conn.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [SLOT])
                    await load.ask("count")
                    os.kill(service.pid, signal.SIGSTOP)
                    try:
                        await session.conn.execute(FILL.format(transactions=CHANGES // size, rows=size))
                        await session.commit()
                        seconds, cpu = await bare.ask("discard", dsn=dsn, slot=SLOT)
                        floor.append((seconds, cpu))
                        before = service.cpu()
                    finally:
                        os.kill(service.pid, signal.SIGCONT)
                    started = time.monotonic()
                    (arrived,) = await load.ask("arrived", transactions=1, seconds=120)
                    ours.append((arrived - started, service.cpu() - before))
                    await session.conn.execute("SELECT pg_drop_replication_slot(%s)", [SLOT])
                (seconds, cpu), (bare_seconds, bare_cpu) = sorted(ours)[ROUNDS // 2], sorted(floor)[ROUNDS // 2]
                figure.rows.append(
                    Row(
                        f"{size} in a transaction" if size > 1 else "each in a transaction of its own",
                        "changes/s",
                        CHANGES / seconds,
                        CHANGES / bare_seconds,
                        GOAL,
                        ours_cpu=cpu / CHANGES * 1e6,
                        floor_cpu=bare_cpu / CHANGES * 1e6,
                    )
                )
    return figure
