"""A running ``leyden start`` or ``leyden demo`` as a Python object: a subprocess with a log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

import secrecy

#: Seconds until the line "leyden ready on …" must have come.
START_TIMEOUT = 60.0


def database_url(conninfo: str) -> str:
    """``conninfo`` as a DATABASE_URL: a Unix socket's directory becomes a percent-encoded host."""
    parts = conninfo_to_dict(conninfo)
    host = quote(str(parts["host"]), safe="")
    port = parts.get("port", 5432)
    return f"postgresql://{parts['user']}@{host}:{port}/{quote(str(parts['dbname']), safe='')}"


def free_port() -> int:
    """Below those that the system gives to connections going out: a service that ends and starts anew finds its own
    still free, whatever runs beside it."""
    for port in iter(lambda: random.randrange(10_000, 32_000), None):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


class Leyden:
    """One process of the command ``leyden``."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, dsn: str, log: Path) -> None:
        self.process = process
        #: ``http://localhost:PORT``
        self.url = url
        self.dsn = dsn
        self._log = log

    @classmethod
    async def start(
        cls,
        *arguments: str,
        database: str | None,
        log: Path,
        env: Mapping[str, str] | None = None,
        port: int = 0,
        launcher: Sequence[str] = ("-m", "leyden"),
    ) -> Self:
        """Starts ``leyden ARGUMENTS --port PORT``, at a free one if ``port`` is 0; ``database`` as conninfo, ``None``
        for the embedded one.

        ``launcher`` is what Python runs, for instance a profiler that runs ``leyden``.

        Raises:
            RuntimeError: it ended, or did not become ready in time; with the end of its log.
        """
        keep = {"PYTHONPATH", "PATH", "HOME", "LANG", "TMPDIR", "XDG_RUNTIME_DIR"}
        variables = {name: value for name, value in os.environ.items() if name in keep}
        if database is not None:
            variables["DATABASE_URL"] = database_url(database)
        variables |= {"LOG_LEVEL": "debug", **(env or {})}
        with log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *(*launcher, *arguments, "--port", str(port or free_port())),
                env=variables,
                stdout=subprocess.PIPE,
                stderr=sink,
            )
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT)
        except TimeoutError:
            line = b""
        match = re.fullmatch(r"leyden ready on (http://\S+)\n", line.decode())
        if match is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise RuntimeError(f"leyden did not become ready: {line!r}\n{log.read_text()[-4000:]}")  # noqa: ASYNC240
        dsn = database or await cls._announced_database(process)
        return cls(process, match[1], dsn, log)

    @staticmethod
    async def _announced_database(process: asyncio.subprocess.Process) -> str:
        """The connection string in the psql line that the demo prints."""
        assert process.stdout is not None
        while line := (await asyncio.wait_for(process.stdout.readline(), 10)).decode():
            if (match := re.search(r"psql '?(postgresql://[^'\s]+)", line)) is not None:
                return match[1]
        raise RuntimeError("the demo printed no psql line")

    @property
    def base_url(self) -> str:
        return self.url

    @property
    def log(self) -> str:
        """Everything it logged so far."""
        return self._log.read_text()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends the process and returns its exit status."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)
            try:
                await asyncio.wait_for(self.process.wait(), 20)
            except TimeoutError:
                self.process.kill()
        # drains the pipe, so that its transport is closed
        if self.process.stdout is not None:
            await self.process.stdout.read()
        secrecy.note(f"log {self._log}", self.log)
        return await self.process.wait()
