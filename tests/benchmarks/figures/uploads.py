"""Transactions that clients write."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from benchmarks.child import Child
from benchmarks.figure import Figure, Goal, Row, Spread
from benchmarks.stage import Session, Stage
from leyden.service import POOL_SIZE

CLIENTS = (1, 10, 50)
SECONDS = 5.0
UNDER_WAY = 8
GOAL = Goal(0.4, at_least=True)

#: What each upload comes to, written by hand: whose it is, that it is done, and the row, whose trigger tags it.
STATEMENTS = """\
\\set number random(1, 1000000000)
BEGIN;
SELECT leyden.announce('{"client": "pgbench", "ms": 1800000000000, "corrections": []}');
INSERT INTO leyden.client_uploads AS stored (client_id, user_id, lsn, ms) \
VALUES ('pgbench-' || :client_id, 'pgbench', int4send(:number), 1) \
ON CONFLICT (client_id) DO UPDATE SET lsn = EXCLUDED.lsn, applied_at = EXCLUDED.applied_at, echo_missed = false;
INSERT INTO items VALUES (gen_random_uuid(), 'client', repeat('x', 200));
COMMIT;
"""

ABOUT = (
    f"Transactions of one row, echoed by the service; each client has {UNDER_WAY} under way. The floor is pgbench"
    " with prepared statements that come to the same, without a service, on as many connections as the service has"
    f" for so many clients: at most {POOL_SIZE}. Spreads are from sending to the echo, and of pgbench's"
    " transactions."
)


async def measure(stage: Stage) -> Figure:
    figure = Figure("Uploads", ABOUT)
    script = stage.directory / "upload.sql"
    script.write_text(STATEMENTS)
    ours: dict[int, tuple[float, Spread, float]] = {}
    with stage.database() as dsn:
        async with stage.service(dsn, "uploads") as service, Session.open(dsn) as session:
            await session.create_items()
            for clients in CLIENTS:
                async with Child.running("benchmarks.load") as load:
                    await service.connect(load, [f"client-{clients}-{at}" for at in range(clients)], [[]] * clients)
                    await load.ask("upload", table="items", under_way=UNDER_WAY, size=200, seconds=1)
                async with Child.running("benchmarks.load") as load:
                    await service.connect(load, [f"writer-{clients}-{at}" for at in range(clients)], [[]] * clients)
                    before = service.cpu()
                    seconds, delays = await load.ask(
                        "upload", table="items", under_way=UNDER_WAY, size=200, seconds=SECONDS
                    )
                    spent = service.cpu() - before
                    if lost := await load.ask("lost"):
                        figure.notes.append(f"{len(lost)} of {clients} clients were lost: {lost[0]}")
                spread = Spread.of([delay * 1e3 for delay in delays])
                ours[clients] = len(delays) / seconds, spread, spent / len(delays) * 1e6
        for clients in CLIENTS:
            rate, spread, cpu = ours[clients]
            bare_rate, bare_spread = await _pgbench(stage, dsn, script, min(clients, POOL_SIZE))
            case = f"{clients} clients" if clients > 1 else "1 client"
            figure.rows.append(
                Row(case, "transactions/s", rate, bare_rate, GOAL, spread, bare_spread, "ms", ours_cpu=cpu)
            )
    return figure


async def _pgbench(stage: Stage, dsn: str, script: Path, connections: int) -> tuple[float, Spread]:
    program = Path(stage.cluster.psql_command()[0]).with_name("pgbench")
    logs = stage.directory / f"pgbench-{connections}"
    command = [str(program), "-n", "-M", "prepared", "-c", str(connections), "-T", f"{SECONDS:.0f}", "-f", str(script)]
    process = await asyncio.create_subprocess_exec(
        *(*command, "-l", "--log-prefix", str(logs), dsn), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    # client, number, duration (µs), script, end (s and µs)
    lines = [line.split() for log in stage.directory.glob(f"{logs.name}.*") for line in log.read_text().splitlines()]
    ends = [int(line[4]) + int(line[5]) / 1e6 for line in lines]
    return len(lines) / (max(ends) - min(ends)), Spread.of([int(line[2]) / 1e3 for line in lines])
