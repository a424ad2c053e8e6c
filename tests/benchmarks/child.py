"""Programs beside the one that measures: a line of JSON asks for something, a line of JSON answers.

:class:`Child` is the asking side; :func:`answering` the program's. A program ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import uvloop

from benchmarks.processes import CpuClock, raise_file_limit

#: Seconds. Nothing that is asked for takes longer on a machine that works.
PATIENCE = 180.0


class ChildError(Exception):
    """What the program said when it could not do what it was asked for."""


class Child:
    """A running program."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()
        self.cpu = CpuClock(process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    @asynccontextmanager
    async def running(cls, module: str, *arguments: str) -> AsyncIterator[Self]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=1 << 28,
        )
        try:
            yield cls(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
            assert process.stdout is not None
            await process.stdout.read()

    async def ask(self, command: str, **arguments: Any) -> Any:
        """The answer of the program.

        Raises:
            ChildError: it could not, or is gone.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._turn:
            self._process.stdin.write(json.dumps([command, arguments]).encode() + b"\n")
            line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
        if not line:
            raise ChildError(f"the program ended at {command}")
        answer, error = json.loads(line)
        if error is not None:
            raise ChildError(f"{command}: {error}")
        return answer


def answering(make_program: Callable[[], object]) -> None:
    """Runs the program that ``make_program`` makes within its event loop: its public methods are what it can be asked
    for, until its standard input ends."""
    raise_file_limit()
    uvloop.run(_answer(make_program))


async def _answer(make_program: Callable[[], object]) -> None:
    program = make_program()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command, arguments = json.loads(line)
        try:
            answer = [await getattr(program, command)(**arguments), None]
        except Exception as error:  # told to who asked
            answer = [None, f"{type(error).__name__}: {error}"]
        print(json.dumps(answer), flush=True)
