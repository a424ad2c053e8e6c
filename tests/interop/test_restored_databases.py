"""A database that is not the one which gave out a client's position, though it looks like it: the position is refused,
the client starts afresh, and nobody goes on in a history that was never his."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from clusters import Cluster
from interop.client import Driver
from interop.conftest import Factory
from interop.service import Leyden
from interop.tables import complaints, connected, create_items, id_of
from interop.test_lifecycle import start_from
from leyden.postgres.embedded import EmbeddedPostgres
from leyden.postgres.replication.publication import slot_name

SLOT = slot_name("postgres")

Start = Callable[[Cluster, int], Awaitable[Leyden]]


class Disaster:
    """``prepare`` what there is beforehand; what is there ``afterwards`` in its place."""

    timeline = 1

    def prepare(self, primary: Cluster, directory: Path) -> None:
        """Before the last rows that the client sees."""

    def afterwards(self, primary: Cluster) -> Cluster:
        """The service and the database are stopped."""
        raise NotImplementedError


class BackupPromoted(Disaster):
    """Restored from a base backup, which ends its recovery with a new timeline."""

    timeline = 2

    def prepare(self, primary: Cluster, directory: Path) -> None:
        self.backup = primary.backup(directory / "backup")

    def afterwards(self, primary: Cluster) -> Cluster:
        self.backup.signal("recovery.signal")
        self.backup.start()
        return self.backup


class BackupAsItIs(Disaster):
    """A base backup that is just started: the same system, the same timeline, no slots."""

    def prepare(self, primary: Cluster, directory: Path) -> None:
        self.backup = primary.backup(directory / "backup")

    def afterwards(self, primary: Cluster) -> Cluster:
        self.backup.start()
        return self.backup


class Failover(Disaster):
    """A standby takes over, which has everything, and a slot of the same name."""

    timeline = 2

    def prepare(self, primary: Cluster, directory: Path) -> None:
        self.standby = primary.backup(directory / "standby", "-R")
        self.standby.start()

    def afterwards(self, primary: Cluster) -> Cluster:
        primary.start()
        # Until this has come by, no slot can be made on the standby.
        with (
            psycopg.connect(self.standby.dsn(), autocommit=True) as conn,
            psycopg.connect(primary.dsn(), autocommit=True) as other,
            conn.pipeline(),
        ):
            conn.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [SLOT])
            conn.pgconn.flush()
            other.execute("SELECT pg_log_standby_snapshot()")
        end = primary.value("SELECT pg_current_wal_flush_lsn()")
        with psycopg.connect(self.standby.dsn(), autocommit=True) as conn:
            while conn.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [end]).fetchone() != (True,):
                pass
        primary.stop()
        assert self.standby.value("SELECT pg_promote()")
        return self.standby


class SlotMadeAgain(Disaster):
    """Somebody dropped the slot, and made one of the same name."""

    def afterwards(self, primary: Cluster) -> Cluster:
        primary.start()
        with psycopg.connect(primary.dsn(), autocommit=True) as conn:
            conn.execute("SELECT pg_drop_replication_slot(%s)", [SLOT])
            conn.execute("DELETE FROM items WHERE n = 1")  # of this nobody will be told
            conn.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [SLOT])
        return primary


class Clone(Disaster):
    """A copy of the files, slot and all, that has become a system of its own."""

    def prepare(self, primary: Cluster, directory: Path) -> None:
        self.path = directory / "clone"

    def afterwards(self, primary: Cluster) -> Cluster:
        clone = primary.copy(self.path)
        clone.change_identity()
        clone.start()
        assert clone.value("SELECT count(*) FROM pg_replication_slots") == 1
        return clone


DISASTERS = [BackupPromoted, BackupAsItIs, Failover, SlotMadeAgain, Clone]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path, for sockets, that Postgres' user can enter."""
    path = Path(tempfile.mkdtemp(prefix="ly-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def primary(cluster: EmbeddedPostgres, directory: Path) -> Iterator[Cluster]:
    made = Cluster(directory / "primary", cluster)
    made.initialise()
    made.start()
    yield made
    # Whatever was made of it as well.
    for path in directory.iterdir():
        if (path / "postmaster.pid").exists():
            os.kill(int((path / "postmaster.pid").read_text().split()[0]), 3)  # immediate shutdown


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    running: list[Leyden] = []

    async def start(cluster: Cluster, port: int = 0) -> Leyden:
        log = tmp_path / f"leyden-{len(running)}.log"
        service = await Leyden.start("start", database=cluster.dsn(), log=log, env={"AUTH_MODE": "insecure"}, port=port)
        running.append(service)
        return service

    yield start
    for service in running:
        await service.stop()


async def rows(client: Driver, name: str) -> list[tuple[object, ...]]:
    found = await client("query", client=name, sql="SELECT n, content FROM items ORDER BY n")
    return [tuple(row.values()) for row in found]


@pytest.mark.parametrize("kind", DISASTERS)
async def test_a_position_of_another_history_is_refused_and_new_clients_are_served(
    kind: type[Disaster], primary: Cluster, directory: Path, start: Start, driver: Factory, raw: Factory
) -> None:
    disaster, client, speaker = kind(), await driver(), await raw()
    service = await start(primary, 0)
    port = int(service.url.rpartition(":")[2])
    with psycopg.connect(primary.dsn(), autocommit=True) as conn:
        create_items(conn, 3)
        await connected(client, service, "a", "items")
        disaster.prepare(primary, directory)
        conn.execute("INSERT INTO items VALUES (%s, 'seen by the client', 4)", [id_of(4)])
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE n = 4", timeoutMs=20000)
    before = (await client("meta", client="a"))["lsnText"]
    await client("disconnect", client="a")
    assert await service.stop() == 0
    primary.stop()

    after = disaster.afterwards(primary)
    wal_file = after.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
    assert int(wal_file[:8], 16) == disaster.timeline
    with psycopg.connect(after.dsn(), autocommit=True) as conn:
        conn.execute("INSERT INTO items VALUES (%s, 'of the new history', 5)", [id_of(5)])
        service = await start(after, port)
        assert await start_from(speaker, service, "old", before) == "BEHIND_WINDOW"
        # No number of the new history makes the old one good.
        for position in range(4):
            conn.execute("UPDATE items SET content = %s WHERE n = 5", [f"write {position}"])
        assert await start_from(speaker, service, "still old", before) == "BEHIND_WINDOW"

        await connected(client, service, "b", "items")
        expected = conn.execute("SELECT n, content FROM items ORDER BY n").fetchall()
        assert await rows(client, "b") == expected
        assert (await client("meta", client="b"))["lsnText"].partition("-")[0] != before.partition("-")[0]

        await client("connect", client="a", timeoutMs=20000)
        assert await rows(client, "a") == []  # it let go of all, and the app asks anew
        await client("sync", client="a", table="items", wait=True, timeoutMs=20000)
        conn.execute("INSERT INTO items VALUES (%s, 'for both', 6)", [id_of(6)])
        for name in ("a", "b"):
            await client("waitRow", client=name, sql="SELECT * FROM items WHERE n = 6", timeoutMs=20000)
            assert await rows(client, name) == [*expected, (6, "for both")]
    assert complaints(client) == []
    await service.stop()
