"""Service and Postgres killed with SIGKILL at random moments while stock clients write: nothing that was acknowledged
is lost, nothing is applied twice.

``CRASHES`` says how many times (5; ``make crash`` does 50), ``CRASH_SEED`` repeats the choice of moments and victims.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from interop.client import Driver, DriverError
from interop.conftest import Factory
from interop.service import Leyden
from interop.tables import ITEMS
from leyden.postgres.embedded import EmbeddedPostgres

CRASHES = int(os.environ.get("CRASHES", "5"))
SEED = int(os.environ.get("CRASH_SEED", str(random.randrange(10**6))))

CLIENTS = ("a", "b")

#: Entries of a client's log that it has not heard of, at which it waits before it writes more.
BACKLOG = 300

#: Longest time until clients' writes arrive again after a crash (seconds).
RECOVERY = 60.0

#: The stock client's back-off, without its long waits.
IMPATIENT = {"delayFirstAttempt": False, "startingDelay": 50, "maxDelay": 400, "numOfAttempts": 100_000}

#: What happens to rows, as Postgres sees it: an upload applied twice shows as a second entry.
LEDGER = """
CREATE TABLE items (id uuid PRIMARY KEY, content text, n int4);
CREATE TABLE ledger (op text, id uuid);
CREATE FUNCTION enter() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.ledger VALUES (TG_OP, NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER ledger AFTER INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION enter();
CALL electric.electrify('items');
"""


class Postgres:
    """A cluster of its own, which may be killed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cluster = EmbeddedPostgres(directory)
        self._cluster.start()
        self.dsn = self._cluster.dsn()

    def kill(self) -> None:
        postmaster = psutil.Process(int((self._directory / "postmaster.pid").read_text().splitlines()[0]))
        family = [postmaster, *postmaster.children(recursive=True)]
        postmaster.kill()
        _, alive = psutil.wait_procs(family, timeout=20)  # the others notice, and end
        assert alive == []

    def start_again(self) -> None:
        self._cluster._server.start()

    def stop(self) -> None:
        self._cluster.stop()


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="leyden-", ignore_cleanup_errors=True) as directory:
        running = Postgres(Path(directory) / "pg")
        yield running
        running.stop()


class Author:
    """A stock client that inserts a row every few milliseconds, and now and then updates one of its own."""

    def __init__(self, driver: Driver, name: str) -> None:
        self._driver = driver
        self.name = name
        self.written: list[str] = []
        self.updates = 0
        self.over = False
        #: How the keys of its rows begin.
        self.letter = f"{CLIENTS.index(name) + 1:08x}"

    async def state(self) -> tuple[str, Any, list[Any]]:
        """For the message of a failure: its status, and what happened to it last."""
        events = [e for e in self._driver.events if e.get("client") == self.name and e["event"] != "dataChange"]
        return self.name, await self._driver("status", client=self.name), events[-12:]

    async def write(self) -> None:
        letter = self.letter
        await self._run(f"INSERT INTO items VALUES ('{letter}-0000-4000-8000-{0:012d}', 'counter {self.name}', 0)")
        while not self.over:
            number = len(self.written) + 1
            key = f"{letter}-0000-4000-8000-{number:012d}"
            await self._run(f"INSERT INTO items VALUES ('{key}', 'row of {self.name}', {number})")
            self.written.append(key)
            if number % 10 == 0:
                self.updates += 1
                await self._run(f"UPDATE items SET n = {self.updates} WHERE content = 'counter {self.name}'")
                while len(await self._waiting()) > BACKLOG and not self.over:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            await asyncio.sleep(0.01)

    async def _run(self, sql: str) -> None:
        await self._driver("run", client=self.name, sql=sql)

    async def acknowledged(self) -> set[str]:
        """The rows that the client has heard of, and will not send again."""
        written = set(self.written)
        return written - {entry["primaryKey"].split('"')[3] for entry in await self._waiting()}

    async def _waiting(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = await self._driver("oplog", client=self.name)
        return entries


def stored(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as conn:
        return {key for (key,) in conn.execute("SELECT id::text FROM items")}


async def progress(dsn: str, authors: list[Author]) -> None:
    """Until rows of each of ``authors`` arrive that were not there before."""
    before: set[str] | None = None
    late = {author.letter: author for author in authors}
    deadline = time.monotonic() + RECOVERY
    while late:
        if time.monotonic() > deadline:
            states = [await author.state() for author in late.values()]
            raise TimeoutError(f"no write arrives any more of {states}")
        with contextlib.suppress(psycopg.OperationalError):
            now = stored(dsn)
            if before is not None:
                for letter in {key[: len(letter)] for key in now - before for letter in late}:
                    late.pop(letter, None)
            before = now if before is None else before
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def writing(authors: list[Author]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(author.write()) for author in authors]
    try:
        yield
        assert [task for task in tasks if task.done()] == []
    finally:
        for author in authors:
            author.over = True
        await asyncio.gather(*tasks)


async def test_no_acknowledged_write_is_lost_and_none_is_applied_twice(
    postgres: Postgres, driver: Factory, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    log = tmp_path / "leyden.log"

    async def serve(port: int = 0) -> Leyden:
        env = {"AUTH_MODE": "insecure", "AUTH_TRUSTED_PROXIES": "127.0.0.1,::1", "LOG_LEVEL": "info"}
        return await Leyden.start("start", database=postgres.dsn, log=log, env=env, port=port)

    service = await serve()
    port = int(service.url.rpartition(":")[2])
    with psycopg.connect(postgres.dsn, autocommit=True) as conn:
        conn.execute(LEDGER)
    client = await driver()
    authors = [Author(client, name) for name in CLIENTS]
    for author in authors:
        config = {"auth": {"clientId": f"device-{author.name}"}, "connectionBackOffOptions": IMPATIENT}
        await client("open", client=author.name, url=service.url, schema=ITEMS, config=config)
        token = (await client("token", claims={"sub": f"user-{author.name}"}))["token"]
        await client("connect", client=author.name, token=token, timeoutMs=10000)
    killed: list[str] = []
    try:
        async with writing(authors):
            for _ in range(CRASHES):
                await progress(postgres.dsn, authors)
                await asyncio.sleep(chance.uniform(0, 0.5))
                known = [await author.acknowledged() for author in authors]
                victim = chance.choice(["service", "postgres", "both"])
                killed.append(victim)
                if victim != "postgres":
                    await service.stop(signal.SIGKILL)
                if victim != "service":
                    await asyncio.to_thread(postgres.kill)
                    await asyncio.to_thread(postgres.start_again)
                if victim != "postgres":
                    service = await serve(port)
                lost = set().union(*known) - stored(postgres.dsn)
                assert lost == set(), f"seed {SEED}: lost after {killed}"
            await progress(postgres.dsn, authors)
        for author in authors:
            with contextlib.suppress(DriverError):
                await client("connect", client=author.name, timeoutMs=5000)
            await client("waitOplogEmpty", client=author.name, timeoutMs=60000)
        written = {key for author in authors for key in author.written}
        counters = {f"counter {author.name}": author.updates for author in authors}
        with psycopg.connect(postgres.dsn) as conn:
            rows = conn.execute(
                "SELECT id::text, count(*) FROM items WHERE content LIKE 'row %' GROUP BY id"
            ).fetchall()
            entered: list[Any] = conn.execute(
                "SELECT id::text, array_agg(op) FROM ledger JOIN items USING (id) WHERE content LIKE 'row %'"
                " GROUP BY id HAVING array_agg(op) <> '{INSERT}'"
            ).fetchall()
            assert (
                dict(conn.execute("SELECT content, n FROM items WHERE content LIKE 'counter %'").fetchall()) == counters
            )
            refused = conn.execute("SELECT sqlstate, message FROM leyden.rejected").fetchall()
        print(f"seed {SEED}: {len(killed)} crashes, {len(written)} rows of {len(authors)} clients; {killed}")
        assert {key for key, _ in rows} == written, f"seed {SEED}"
        assert entered == [], f"seed {SEED}: applied more than once"
        assert refused == []
        assert len(written) > 5 * CRASHES
    finally:
        await service.stop()
