"""The embedded server's life, and that the schema works on the older version that comes with it."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from leyden.postgres import requirements, schema, sessions
from leyden.postgres.embedded import EmbeddedPostgres


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="leyden-", ignore_cleanup_errors=True) as directory:
        yield Path(directory) / "data"


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ends(pid: int) -> bool:
    """Whether the process is gone, if not at once then soon: a server removes its pid file a moment before."""
    deadline = time.monotonic() + 5.0
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(pid)


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postmaster.pid").read_text().splitlines()[0])


def test_a_server_is_ready_for_replication_ends_with_stop_and_keeps_its_data(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, version=16)
    with pytest.raises(RuntimeError):
        server.dsn()
    server.start()
    try:
        pid = postmaster(data_dir)
        children = psutil.Process(pid).children()

        async def use() -> None:
            async with await sessions.connect(server.dsn(), autocommit=True) as conn:
                await requirements.require(conn)
                await schema.install(conn)
                await conn.execute("CREATE TABLE items (id text PRIMARY KEY, n int4)")
                await conn.execute("CALL electric.electrify('items')")
                await conn.execute("INSERT INTO items VALUES ('x'); UPDATE items SET n = 1; DELETE FROM items")
                await conn.execute("ALTER TABLE items ADD COLUMN t text")
                with pytest.raises(psycopg.errors.FeatureNotSupported):
                    await conn.execute("DROP TABLE items")

        asyncio.run(use())
    finally:
        server.stop()
    assert ends(pid)
    assert all(ends(child.pid) for child in children)

    server.start()
    try:
        command = [*server.psql_command(), "-XAtc", "SELECT count(*) FROM leyden.versions"]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "2\n"
    finally:
        server.stop()
    assert ends(pid)
    server.stop()


def test_ids_of_users_that_died_do_not_keep_the_server_alive(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    server.start()
    pid = postmaster(data_dir)
    dead = subprocess.Popen(["/bin/true"])
    dead.wait()
    (data_dir / ".handle_pids.json").write_text(f"[{dead.pid}, {psutil.Process().pid}]")
    server.stop()
    assert ends(pid)
