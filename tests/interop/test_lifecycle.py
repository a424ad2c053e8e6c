"""The process itself: how it starts without a database, refuses a wrong configuration, stops, and who may stay."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import httpx
import psycopg
import pytest

from interop.client import Driver
from interop.conftest import Factory, ServiceFactory
from interop.service import Leyden, database_url
from interop.tables import complaints, connected, create_items, id_of
from leyden.postgres.embedded import EmbeddedPostgres


@dataclass(frozen=True, slots=True)
class Process:
    """``leyden start`` without waiting for it to become ready."""

    process: asyncio.subprocess.Process
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ended(self, seconds: float = 15.0) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        out, err = await asyncio.wait_for(self.process.communicate(), seconds)
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()

    async def get(self, path: str, *, until: int | None = None, seconds: float = 20.0) -> httpx.Response:
        """The answer to GET ``path``: the first one once the port is open, or the first with status ``until``."""
        deadline = time.monotonic() + seconds
        async with httpx.AsyncClient(base_url=self.url) as http:
            while True:
                try:
                    answer = await http.get(path)
                    if until is None or answer.status_code == until or time.monotonic() > deadline:
                        return answer
                except httpx.TransportError:
                    if time.monotonic() > deadline:
                        raise
                await asyncio.sleep(0.05)


StartProcess = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start_process(unused_tcp_port_factory: Callable[[], int]) -> AsyncIterator[StartProcess]:
    """``await start_process(port=…, **env)``; what still runs at the end is killed."""
    running: list[Process] = []

    async def start(port: int | None = None, **env: str) -> Process:
        port = port or unused_tcp_port_factory()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "leyden", "start", "--port", str(port)),
            env={"PATH": os.environ["PATH"], **env},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        running.append(Process(process, port))
        return running[-1]

    yield start
    for started in running:
        if started.process.returncode is None:
            started.process.kill()
            await started.process.communicate()


async def reason_after_first_attempt(running: Process) -> str:
    """Why it is not ready, once it has tried to reach Postgres."""
    async with asyncio.timeout(15):
        while True:
            answer = await running.get("/health/ready")
            assert answer.status_code == 503
            reason: str = answer.json()["reason"]
            if reason != "starting":
                return reason
            await asyncio.sleep(0.02)


# ---- the database -----------------------------------------------------------------------------------


async def test_without_postgres_the_process_stays_up_and_becomes_ready_when_postgres_comes(
    start_process: StartProcess, raw: Factory, cluster: EmbeddedPostgres, new_database: str
) -> None:
    # The database is there, but takes no connections: the same refusal as from a server that is starting.
    name = psycopg.conninfo.conninfo_to_dict(new_database)["dbname"]
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")  # type: ignore[arg-type]
        running = await start_process(AUTH_MODE="insecure", DATABASE_URL=database_url(new_database))
        live = await running.get("/health/live")
        assert (live.status_code, live.json()) == (200, {"status": "live"})
        reason = await reason_after_first_attempt(running)
        assert reason.startswith("Postgres cannot be reached, or refuses the connection")  # its words are for the log
        assert name not in reason
        refused = await (await raw())("open", url=f"ws://127.0.0.1:{running.port}/ws")
        assert (refused["accepted"], refused["status"]) == (False, 503)
        assert refused["body"] == f"Postgres connection is not ready: {reason}"
        assert (await running.get("/api/status")).status_code == 503
        assert (await running.get("/api/migrations?dialect=sqlite")).status_code == 503
        assert running.process.returncode is None

        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")  # type: ignore[arg-type]
    ready = await running.get("/health/ready", until=200)
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    assert (await running.get("/api/status")).text == "Connection to Postgres is up!"
    running.process.send_signal(signal.SIGTERM)
    status, out, err = await running.ended()
    assert status == 0
    assert out == f"leyden ready on http://localhost:{running.port}\n"
    assert err.count("database unavailable") == 1  # told once, not with each attempt
    assert f'database "{name}" is not currently accepting connections' in err


async def test_a_server_that_does_not_answer_is_named_without_the_password(start_process: StartProcess) -> None:
    url = "postgresql://app:hunter2hunter2@127.0.0.1:1/app?sslmode=disable"
    running = await start_process(AUTH_MODE="insecure", DATABASE_URL=url)
    reason = await reason_after_first_attempt(running)
    assert "127.0.0.1" not in reason
    running.process.send_signal(signal.SIGTERM)
    status, _, err = await running.ended()
    assert status == 0
    assert "127.0.0.1" in err
    assert "hunter2" not in reason + err


# ---- configuration ----------------------------------------------------------------------------------


async def test_a_wrong_configuration_ends_with_status_2_naming_every_variable_and_no_value(
    start_process: StartProcess,
) -> None:
    running = await start_process(
        DATABASE_URL="mysql://app:hunter2hunter2@db/app",
        AUTH_JWT_ALG="HS257",
        AUTH_JWT_KEY="correct horse battery staple",
        AUTH_JWT_LEEWAY="lots-of-it",
        LOG_LEVEL="deafening",
        ELECTRIC_WRITE_TO_PG_MODE="logical_replication",
    )
    status, out, err = await running.ended()
    assert (status, out) == (2, "")
    for variable in ("DATABASE_URL", "AUTH_JWT_ALG", "AUTH_JWT_LEEWAY", "LOG_LEVEL", "ELECTRIC_WRITE_TO_PG_MODE"):
        assert variable in err
    for secret in ("hunter2", "mysql", "horse", "HS257", "lots-of-it", "deafening"):
        assert secret not in err
    assert "Traceback" not in err


async def test_secure_mode_without_a_key_does_not_start(start_process: StartProcess) -> None:
    running = await start_process(DATABASE_URL="postgresql://app@127.0.0.1:1/app")
    status, _, err = await running.ended()
    assert status == 2
    assert "AUTH_JWT_ALG" in err
    assert "AUTH_JWT_KEY" in err


async def test_a_taken_port_is_said_plainly(start_process: StartProcess, service: Leyden) -> None:
    port = int(service.url.rpartition(":")[2])
    second = await start_process(port, AUTH_MODE="insecure", DATABASE_URL=database_url(service.dsn))
    status, out, err = await second.ended()
    assert (status, out) == (1, "")
    assert f"port {port}" in err
    assert "HTTP_PORT" in err
    assert "Traceback" not in err


# ---- stopping ---------------------------------------------------------------------------------------


async def test_sigterm_ends_the_process_soon_with_status_0_and_clients_wait_for_it(
    leyden: ServiceFactory, driver: Factory
) -> None:
    client = await driver()
    service = await leyden(AUTH_MODE="insecure")
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 10)
    await connected(client, service, "a", "items")
    started = time.monotonic()
    assert await service.stop() == 0
    assert time.monotonic() - started < 3.0
    closed = await client.wait_for_event(event="socketClose")
    assert closed["code"] == 1001
    assert complaints(client) == []


# ---- who may stay -----------------------------------------------------------------------------------


async def test_the_newer_connection_of_a_client_replaces_the_older(
    service: Leyden, driver: Factory, raw: Factory
) -> None:
    client, older = await driver(), await raw()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 1)
        # a connection of the same device that looks alive, as a half-open one does
        token = (await older("token", claims={"sub": "user-a"}))["token"]
        await older("open", url=f"{service.url.replace('http', 'ws')}/ws")
        await older("login", token=token, clientId="device-a")
        await connected(client, service, "a", "items")
        closed = await older("waitClosed")
        assert (closed["code"], closed["reason"]) == (1008, "")
        conn.execute("INSERT INTO items VALUES (%s, 'new', 2)", [id_of(2)])
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE n = 2")
    assert len(await client("wire", client="a", type="SatAuthReq", dir="sent")) == 1
    assert complaints(client) == []


# ---- positions --------------------------------------------------------------------------------------


async def start_from(raw: Driver, service: Leyden, conn: str, lsn: str) -> str:
    """Resumes from ``lsn``; the error's name, or ``""`` when it is good. A refused connection must be closed."""
    token = (await raw("token", claims={"sub": "user"}))["token"]
    await raw("open", conn=conn, url=f"{service.url.replace('http', 'ws')}/ws")
    start = {"lsn": {"$text": lsn}, "sqlDialect": 0}
    answer = (await raw("login", conn=conn, token=token, clientId="device", start=start))["start"]["body"]
    if answer.get("err") is None:
        return ""
    assert (await raw("waitClosed", conn=conn))["code"] == 1007
    return CODES[answer["err"]["code"]]


#: docs/protocol.md, SatInStartReplicationResp.ReplicationError.Code
CODES = {0: "CODE_UNSPECIFIED", 1: "BEHIND_WINDOW", 2: "INVALID_POSITION", 3: "SUBSCRIPTION_NOT_FOUND"}


async def test_a_position_that_is_not_held_is_behind_the_window(service: Leyden, driver: Factory, raw: Factory) -> None:
    client, speaker = await driver(), await raw()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 1)
    await connected(client, service, "a", "items")
    good = (await client("meta", client="a"))["lsnText"]
    epoch, _, position = good.partition("-")
    assert await start_from(speaker, service, "held", good) == ""
    assert await start_from(speaker, service, "foreign", f"{'x' * len(epoch)}-{position}") == "BEHIND_WINDOW"
    assert await start_from(speaker, service, "below", f"{epoch}-1") == "BEHIND_WINDOW"
    assert await start_from(speaker, service, "future", f"{epoch}-{int(position) + 2**40}") == "BEHIND_WINDOW"
    assert await start_from(speaker, service, "malformed", "no position") == "INVALID_POSITION"


async def test_a_client_with_a_position_of_another_history_starts_afresh(
    leyden: ServiceFactory, driver: Factory
) -> None:
    client = await driver()
    service = await leyden(AUTH_MODE="insecure")
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 3)
        await connected(client, service, "a", "items")
        port = int(service.url.rpartition(":")[2])
        assert await service.stop() == 0
        conn.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
        )
        conn.execute("DELETE FROM items WHERE n = 1")  # of this nobody will ever be told
        conn.execute("INSERT INTO items VALUES (%s, 'unseen', 4)", [id_of(4)])
    await client("run", client="a", sql=f"INSERT INTO items VALUES ('{id_of(5)}', 'offline', 5)")
    await leyden(port=port, AUTH_MODE="insecure")
    await client("waitWire", client="a", match={"body": {"err": {"code": 1}}}, timeoutMs=20000)
    # The stock client empties its tables, connects anew, and forgets its subscriptions on the way: the app syncs again.
    await client("waitOplogEmpty", client="a", timeoutMs=20000)
    await client("sync", client="a", table="items", wait=True)
    rows = await client("query", client="a", sql="SELECT n FROM items ORDER BY n")
    assert [row["n"] for row in rows] == [2, 3, 4, 5]
    assert complaints(client) == []
