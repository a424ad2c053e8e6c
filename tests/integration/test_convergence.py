"""Convergence: five simulated clients and two SQL sessions write to the same rows; all end with what Postgres has.

The clients' clocks are wrong by days, they go off line and come back, cut connections, repeat themselves, and fall
behind what the service remembers; the service is killed on the way. ``CONVERGENCE_OPERATIONS`` says how many
transactions there are (``make convergence`` asks for 100,000), ``CONVERGENCE_SEED`` repeats the writes of an earlier
run.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
from joserfc.jwk import OctKey

from convergence.device import Device, TableSchema
from convergence.link import Link
from convergence.simulation import (
    SCHEMA,
    SKEWS,
    STATEMENTS,
    Application,
    Clock,
    User,
    differences,
    of_device,
    of_postgres,
    run,
    settle,
)
from interop.service import Leyden
from leyden.auth import ALGORITHMS, mint_token

OPERATIONS = int(os.environ.get("CONVERGENCE_OPERATIONS", "2000"))
SEED = os.environ.get("CONVERGENCE_SEED") or str(random.SystemRandom().getrandbits(32))

#: Transactions until all fall silent and are compared.
ROUND = 400
#: Rounds between two crashes of the service; the first one comes in the third.
BETWEEN_CRASHES = 20

SECRET = "k7!" * 30
ENVIRONMENT = {
    "AUTH_JWT_ALG": "HS256",
    "AUTH_JWT_KEY": SECRET,
    "DATABASE_REQUIRE_SSL": "false",
    "LOG_LEVEL": "warning",
}
#: So little is remembered that who is away for a while has to start afresh.
FORGETFUL = {"ELECTRIC_TXN_CACHE_SIZE": "100k"}


def token(user: str) -> str:
    now = int(time.time())
    claims = {"sub": user, "iat": now - 60, "exp": now + 86_400}
    return mint_token(claims, algorithm=ALGORITHMS["HS256"], key=OctKey.import_key(SECRET.encode()))


class Host:
    """The service, and what becomes of it."""

    def __init__(self, database: str, log: Path) -> None:
        self.database = database
        self.port = 0
        self._log = log
        self._service: Leyden | None = None

    async def start(self, **env: str) -> None:
        self._service = await Leyden.start(
            "start", database=self.database, log=self._log, env={**ENVIRONMENT, **env}, port=self.port
        )
        self.port = int(self._service.url.rpartition(":")[2])

    async def crash(self) -> None:
        await self.stop(signal.SIGKILL)
        await self.start(**FORGETFUL)

    async def stop(self, number: int = signal.SIGTERM) -> None:
        if self._service is not None:
            await self._service.stop(number)


def user(number: int, port: int) -> User:
    clock = Clock(SKEWS[number])
    device = Device(f"device-{number}", {**SCHEMA, "finished": TableSchema(("id",))}, clock)
    link = Link(device, f"ws://127.0.0.1:{port}/ws", lambda: token(f"user-{number}"))
    return User(f"{SEED}/{number}", device, clock, link)


@asynccontextmanager
async def everybody(host: Host) -> AsyncIterator[tuple[list[User], list[Application]]]:
    users = [user(number, host.port) for number in range(len(SKEWS))]
    applications = [Application(f"{SEED}/application {number}", host.database) for number in range(2)]
    try:
        yield users, applications
    finally:
        for one in users:
            await one.link.disconnect()
        for application in applications:
            await application.close()


async def test_all_have_what_postgres_has_in_the_end(empty_database: str, tmp_path: Path) -> None:
    print(f"\nCONVERGENCE_SEED={SEED}")
    host = Host(empty_database, tmp_path / "leyden.log")
    try:
        await host.start()
        async with (
            await psycopg.AsyncConnection.connect(empty_database, autocommit=True) as conn,
            everybody(host) as (users, applications),
        ):
            # Transactions that lock rows in any order are the point, not to wait a second for each that collides.
            await conn.execute(f"ALTER DATABASE {conn.info.dbname} SET deadlock_timeout = '20ms'")
            for statement in STATEMENTS:
                await conn.execute(statement)
            await _rounds(host, conn, users, applications)
    finally:
        await host.stop()


async def _rounds(
    host: Host, conn: psycopg.AsyncConnection[Any], users: list[User], applications: list[Application]
) -> None:
    left = OPERATIONS
    for number in range(-(-OPERATIONS // ROUND)):
        operations = min(ROUND, left)
        left -= operations
        await run([*users, *applications], operations // 2)
        if number % BETWEEN_CRASHES == 2:
            await host.crash()
        await run([*users, *applications], operations - operations // 2)
        await settle(users, conn, number)
        expected = await of_postgres(conn)
        for one in users:
            assert differences(expected, of_device(one.device)) == {}, f"round {number} of {SEED}: {one}"
            # Each of its transactions came back, applied or refused, and none more often than it was sent.
            assert one.device.echoes.keys() == one.link.sent.keys()
            assert one.device.echoes <= one.link.sent
    cursor = await conn.execute("SELECT DISTINCT sqlstate FROM leyden.rejected")
    assert {sqlstate for (sqlstate,) in await cursor.fetchall()} <= {"23503"}
    if OPERATIONS >= 2000:
        assert all(one.link.connections > 3 for one in users)
        assert len(expected) > 10
