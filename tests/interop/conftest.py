"""Fixtures of the interop tests: stock client, bare protocol speaker and browser, each as a factory."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from interop.client import Driver

#: Starts one more program; all are ended with the test.
Factory = Callable[[], Awaitable[Driver]]


# ---- the service under test -------------------------------------------------------------------------
# (fixtures `service` and `demo` belong here)


# ---- the other side ---------------------------------------------------------------------------------


@pytest.fixture
async def driver() -> AsyncIterator[Factory]:
    """``await driver()`` -> a process in which the unmodified npm client runs."""
    running: list[Driver] = []

    async def start() -> Driver:
        running.append(await Driver.start("driver.mjs"))
        return running[-1]

    yield start
    for program in running:
        await program.stop()


@pytest.fixture
async def raw() -> AsyncIterator[Factory]:
    """``await raw()`` -> a process that speaks the protocol without the client, to break the rules."""
    running: list[Driver] = []

    async def start() -> Driver:
        running.append(await Driver.start("raw.mjs"))
        return running[-1]

    yield start
    for program in running:
        await program.stop()


@pytest.fixture(scope="session")
def chromium_directory() -> Iterator[Path]:
    """Where Chromium is unpacked, once for the run (200 MB), and keeps its profiles; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="leyden-chromium-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture
async def browser(chromium_directory: Path) -> AsyncIterator[Factory]:
    """``await browser()`` -> a process with a headless Chromium running."""
    running: list[Driver] = []

    async def start() -> Driver:
        program = await Driver.start("browser.mjs")
        running.append(program)
        await program("launch", directory=str(chromium_directory))
        return program

    yield start
    for program in running:
        await program.stop()
