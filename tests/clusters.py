"""Postgres clusters that come to grief: backed up, restored, promoted, copied. Each is a data directory of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from leyden.postgres.embedded import EmbeddedPostgres

SETTINGS = """
listen_addresses = ''
wal_level = logical
fsync = off
full_page_writes = on
autovacuum = off
restore_command = 'false'
"""


class Cluster:
    """A data directory under ``path``, which is created by :meth:`initialise`, :meth:`backup` or :meth:`copy`."""

    def __init__(self, path: Path, like: EmbeddedPostgres) -> None:
        """The programs, and who runs them, are those of ``like``, which is running."""
        self.path = path
        self._like = like
        self._programs = Path(like.psql_command()[0]).parent
        # Postgres does not run as root; its files are whose they are.
        owner = Path(like.dsn().partition("host=")[2].partition("&")[0]).stat()
        self._user: dict[str, Any] = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
        #: Not in the data directory: a backup would take the lock along.
        self._sockets = path.with_name(f"{path.name}.s")
        for one in (path, self._sockets):
            one.mkdir(mode=0o700)
            self._give(one)

    def _give(self, path: Path) -> None:
        """Makes ``path`` belong to whom Postgres runs as."""
        if self._user:
            os.chown(path, self._user["user"], self._user["group"])

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", **self._user)
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def initialise(self) -> None:
        self._run("initdb", "-D", str(self.path), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "-N")
        with (self.path / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS)

    def start(self) -> None:
        # The server would inherit the pipes, and never close them: so it has a log.
        options = f"-k {self._sockets}"
        command = [str(self._programs / "pg_ctl"), "-D", str(self.path), "-l", str(self.path / "log"), "-w"]
        subprocess.run(
            [*command, "-o", options, "start"],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **self._user,
        )

    def stop(self) -> None:
        if (self.path / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", str(self.path), "-m", "fast", "-w", "stop")

    def dsn(self, database: str = "postgres") -> str:
        return make_conninfo(host=str(self._sockets), user="postgres", dbname=database)

    def backup(self, path: Path, *options: str) -> Cluster:
        """A base backup, as of now."""
        other = Cluster(path, self._like)
        source = ["-h", str(self._sockets), "-U", "postgres"]
        self._run("pg_basebackup", "-D", str(path), *source, "-X", "stream", "-c", "fast", *options)
        return other

    def copy(self, path: Path) -> Cluster:
        """The same files in another place. Only of a cluster that is stopped."""
        other = Cluster(path, self._like)
        shutil.copytree(self.path, path, dirs_exist_ok=True)
        for one in path.rglob("*"):
            self._give(one)
        return other

    def signal(self, name: str) -> None:
        """What a start is to be: ``recovery.signal``, ``standby.signal``."""
        (self.path / name).touch()
        self._give(self.path / name)

    def change_identity(self) -> None:
        """Another system identifier, as if it had been initialised by itself. Only of one that was stopped in order."""
        control = self.path / "global" / "pg_control"
        content = bytearray(control.read_bytes())
        content[0] ^= 0xFF  # the identifier comes first; the checksum does not fit any more
        control.write_bytes(content)
        self._run("pg_resetwal", "-f", "-D", str(self.path))

    def value(self, query: str, database: str = "postgres") -> Any:
        with psycopg.connect(self.dsn(database), autocommit=True) as conn:
            row = conn.execute(query).fetchone()
        return None if row is None else row[0]
