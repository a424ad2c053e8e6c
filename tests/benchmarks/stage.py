"""What the figures are measured on: one Postgres, a database for each figure, and a service on it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self

import psycopg

from benchmarks.child import Child
from benchmarks.processes import CpuClock, resident_bytes
from benchmarks.profiles import top
from databases import fresh_database
from interop.service import Leyden
from leyden.auth import generate_key
from leyden.postgres.embedded import EmbeddedPostgres

#: Without waiting for a disk: the floors do not wait either, so what is compared stands out more.
SETTINGS = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off", "max_connections": "200"}

ITEMS = "CREATE TABLE items (id uuid PRIMARY KEY, user_id text, content text)"

#: One small row.
INSERT = "INSERT INTO items VALUES (gen_random_uuid(), %s, repeat('x', 200))"


@dataclass(frozen=True, slots=True)
class Service:
    """A running service, and the key that its tokens are signed with."""

    process: Leyden
    dsn: str
    private_pem: str
    cpu: CpuClock

    @property
    def port(self) -> int:
        return int(self.process.url.rpartition(":")[2])

    @property
    def pid(self) -> int:
        return self.process.process.pid

    @property
    def resident_bytes(self) -> int:
        return resident_bytes(self.pid)

    async def connect(self, load: Child, names: Sequence[str], filters: Sequence[Sequence[Sequence[str]]]) -> float:
        """Clients of ``load``, each with its filters (a table, and a condition if it is to have one)."""
        return float(
            await load.ask("connect", port=self.port, names=names, filters=filters, private_pem=self.private_pem)
        )


class Stage:
    """``profiles`` is a folder for a profile of each service, which then runs at half its speed or less."""

    def __init__(self, cluster: EmbeddedPostgres, directory: Path, profiles: Path | None) -> None:
        self.cluster = cluster
        self.directory = directory
        self._profiles = profiles
        self._numbers = count(1)

    @classmethod
    @contextmanager
    def built(cls, profiles: Path | None = None) -> Iterator[Self]:
        with tempfile.TemporaryDirectory(prefix="leyden-", ignore_cleanup_errors=True) as directory:
            cluster = EmbeddedPostgres(Path(directory) / "pg", settings=SETTINGS)
            cluster.start()
            try:
                yield cls(cluster, Path(directory), profiles)
            finally:
                cluster.stop()

    @contextmanager
    def database(self) -> Iterator[str]:
        with contextmanager(fresh_database)(self.cluster, "template1") as dsn:
            yield dsn

    @asynccontextmanager
    async def service(self, dsn: str, name: str, **env: str) -> AsyncIterator[Service]:
        """A service on ``dsn``; ``name`` is the profile's. Its clients are told apart as those behind a proxy are."""
        pair = generate_key("ES256")
        assert pair.private_pem is not None
        assert pair.public_pem is not None
        number = next(self._numbers)
        launcher: tuple[str, ...] = ("-m", "leyden")
        profile = None if self._profiles is None else self._profiles / f"{number:02}-{name}.prof"
        if profile is not None:
            launcher = ("-m", "benchmarks.profiles", str(profile))
        process = await Leyden.start(
            "start",
            database=dsn,
            log=self.directory / f"{number:02}-{name}.log",
            env={
                "AUTH_JWT_ALG": "ES256",
                "AUTH_JWT_KEY": pair.public_pem,
                "AUTH_TRUSTED_PROXIES": "127.0.0.1",
                "LOG_LEVEL": "info",
                **env,
            },
            launcher=launcher,
        )
        try:
            yield Service(process, dsn, pair.private_pem, CpuClock(process.process.pid))
        finally:
            await process.stop()
            if profile is not None and profile.exists():
                print(top(profile), flush=True)


class Session:
    """A session with the database: somebody else who writes."""

    def __init__(self, conn: psycopg.AsyncConnection[Any]) -> None:
        self.conn = conn

    @classmethod
    @asynccontextmanager
    async def open(cls, dsn: str) -> AsyncIterator[Self]:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
            yield cls(conn)

    async def create_items(self) -> None:
        await self.conn.execute(ITEMS)
        await self.conn.execute("CREATE INDEX ON items (user_id)")
        await self.conn.execute("CALL electric.electrify('items')")

    async def commit(self, user: str = "all") -> float:
        """Commits a transaction of one small row; returns when its ``COMMIT`` was sent (the monotonic clock)."""
        await self.conn.execute("BEGIN")
        await self.conn.execute(INSERT, [user])
        committed_at = time.monotonic()
        await self.conn.execute("COMMIT")
        return committed_at
