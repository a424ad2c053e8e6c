"""The first copy of a million rows: its rate beside a bare COPY of the same query in the same run, what it adds to the
memory of the service, and how late another client's transactions are meanwhile.

The service, the other client and Postgres are processes of their own. COPY is psql's, into nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles

import psutil
import psycopg
import pytest
from psycopg import sql

from interop.service import Leyden
from leyden.postgres.catalog import load_tables
from leyden.postgres.embedded import EmbeddedPostgres
from leyden.postgres.sessions import connect, session_conninfo
from leyden.postgres.snapshots import selection
from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import decode, encode
from speaker import SECRET, SUBSCRIPTION, Speaker, token

ROWS = int(os.environ.get("INITIAL_SYNC_ROWS", 1_000_000))
ROUNDS = 3

MOST_TIMES_COPY = 3.0
MOST_GROWTH = 100 << 20

#: Seconds. On two cores everybody waits for a processor now and then, whatever the service does.
LATEST_MEDIAN, LATEST = 0.02, 0.2

COLUMNS = "id uuid PRIMARY KEY, title text NOT NULL, done bool NOT NULL, priority int4, created timestamptz NOT NULL"
FILL = """
INSERT INTO issues SELECT gen_random_uuid(), 'Issue number ' || i || ': the door of room ' || mod(i, 977) || ' sticks',
    mod(i, 3) = 0, CASE WHEN mod(i, 4) > 0 THEN mod(i, 10) END, '2024-01-01 UTC'::timestamptz + i * interval '1.23 s'
FROM generate_series(1, %s) AS i
"""
OTHER_CLIENT = Path(__file__).parent / "other_client.py"


def fill(dsn: str, *, electrified_first: bool) -> None:
    """Rows that are older than the table's electrification have no state beside them; the others have."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f"CREATE TABLE issues ({COLUMNS})")
        conn.execute("CREATE TABLE ticks (id uuid PRIMARY KEY)")
        if electrified_first:
            conn.execute("CALL electric.electrify('issues')")
        conn.execute(FILL, [ROWS])
        conn.execute("CALL electric.electrify('issues')")
        conn.execute("CALL electric.electrify('ticks')")
        conn.execute("VACUUM ANALYZE")
        conn.execute("CHECKPOINT")


@asynccontextmanager
async def serving(dsn: str, log: Path) -> AsyncIterator[Leyden]:
    env = {"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY": SECRET, "LOG_LEVEL": "info"}
    service = await Leyden.start("start", database=dsn, log=log, env=env)
    try:
        yield service
    finally:
        await service.stop()


class OtherClient:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def running(cls, url: str, dsn: str) -> AsyncIterator[OtherClient]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, OTHER_CLIENT, url, token("other"), dsn),
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path])},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )
        assert process.stdout is not None
        try:
            assert await asyncio.wait_for(process.stdout.readline(), 30) == b"ready\n"
            yield cls(process)
        finally:
            await process.communicate(b"")  # the end of its input ends it

    async def delays(self) -> list[float]:
        """Those of its transactions since it was asked last, in seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        delays: list[float] = json.loads(await asyncio.wait_for(self._process.stdout.readline(), 30))
        return delays


class Memory:
    """The resident memory of a process: what it is now, and the most since."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew (proc_pid_clear_refs(5))
        self._before = self._bytes("VmRSS")

    @property
    def growth(self) -> int:
        return self._bytes("VmHWM") - self._before

    def _bytes(self, name: str) -> int:
        match = re.search(rf"^{name}:\s+(\d+) kB$", self._status.read_text(), re.MULTILINE)
        assert match is not None
        return int(match[1]) * 1024


async def copy_command(cluster: EmbeddedPostgres, dsn: str) -> list[str]:
    """psql with the COPY that the service runs for the table."""
    async with await connect(dsn) as conn:
        (issues,) = (table for table in (await load_tables(conn)).values() if table.name == "issues")
        statement = sql.SQL("COPY ({}) TO STDOUT").format(selection(issues, None)).as_string(conn)
    return [cluster.psql_command()[0], session_conninfo(dsn), "-qXc", statement]


async def seconds_of_copy(command: list[str]) -> float:
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    assert await process.wait() == 0
    return time.monotonic() - started


async def seconds_of_sync(url: str, client: str) -> float:
    """From the subscription to the last of the rows, which are counted afterwards."""
    async with Speaker.connected(url) as speaker:
        await speaker.authenticate(token(client), client)
        await speaker.start()
        shape = pb.SatShapeDef(selects=[pb.SatShapeDef.Select(tablename="issues")])
        request = pb.SatSubsReq(
            subscription_id=SUBSCRIPTION, shape_requests=[pb.SatShapeReq(request_id="1", shape_definition=shape)]
        )
        last = encode(pb.SatSubsDataEnd())
        payloads: list[bytes] = []
        started = time.monotonic()
        await speaker.call(rpc.SUBSCRIBE, request)
        while not payloads or payloads[-1] != last:
            payload = await speaker.websocket.recv()
            assert isinstance(payload, bytes)
            payloads.append(payload)
        seconds = time.monotonic() - started
    logs = [message for message in map(decode, payloads) if isinstance(message, pb.SatOpLog)]
    assert len({op.insert.row_data.values[0] for log in logs for op in log.ops}) == ROWS
    return seconds


def milliseconds(delays: list[float]) -> str:
    figures = {"median": median(delays), "99 %": quantiles(delays, n=100)[-1], "latest": max(delays)}
    return ", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in figures.items())


@pytest.mark.parametrize("electrified_first", [False, True], ids=["rows without a state", "rows with a state"])
async def test_initial_sync(
    cluster: EmbeddedPostgres, database: str, tmp_path: Path, *, electrified_first: bool
) -> None:
    fill(database, electrified_first=electrified_first)
    command = await copy_command(cluster, database)
    copies: list[float] = []
    syncs: list[float] = []
    processor: list[float] = []
    meanwhile: list[float] = []
    async with serving(database, tmp_path / "leyden.log") as service:
        url = service.url.replace("http", "ws") + "/ws"
        async with OtherClient.running(url, database) as other:
            await asyncio.sleep(2)
            alone = await other.delays()
            process = psutil.Process(service.process.pid)
            memory = Memory(process.pid)
            for number in range(ROUNDS):
                copies.append(await seconds_of_copy(command))
                await other.delays()
                before = sum(process.cpu_times()[:2])
                syncs.append(await seconds_of_sync(url, f"device-{number}"))
                processor.append(sum(process.cpu_times()[:2]) - before)
                meanwhile += await other.delays()
            growth = memory.growth
        log = service.log
    ratio = median(syncs) / median(copies)
    print(
        f"\n{ROWS:,} rows, {'with' if electrified_first else 'without'} a state:"
        f" {median(syncs):.2f} s, {ratio:.2f} of COPY ({median(copies):.2f} s);"
        f" {median(processor):.2f} s of a processor, memory + {growth / 2**20:.1f} MiB"
        f"\n  another client, alone: {milliseconds(alone)}; meanwhile: {milliseconds(meanwhile)}"
    )
    assert log.count("subscription progress") == ROUNDS * (ROWS // 100_000)
    assert ratio <= MOST_TIMES_COPY
    assert growth <= MOST_GROWTH
    assert median(meanwhile) <= LATEST_MEDIAN
    assert max(meanwhile) <= LATEST
