"""Fixtures of the interop tests: stock client, bare protocol speaker and browser, each as a factory."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from databases import fresh_database
from interop.client import Driver
from interop.service import Leyden
from leyden.postgres.embedded import EmbeddedPostgres

#: Starts one more program; all are ended with the test.
Factory = Callable[..., Awaitable[Driver]]

#: Starts a service with further environment variables.
ServiceFactory = Callable[..., Awaitable[Leyden]]


# ---- the service under test -------------------------------------------------------------------------


@pytest.fixture
def new_database(cluster: EmbeddedPostgres) -> Iterator[str]:
    """Connection string of an empty database; the service prepares it itself."""
    yield from fresh_database(cluster, "template1")


@pytest.fixture
async def leyden(new_database: str, tmp_path: Path) -> AsyncIterator[ServiceFactory]:
    """``await leyden(port=0, **env)`` -> a running ``leyden start`` on the test's database; all end with the test."""
    running: list[Leyden] = []

    async def start(port: int = 0, **env: str) -> Leyden:
        log = tmp_path / f"leyden-{len(running)}.log"
        running.append(await Leyden.start("start", database=new_database, log=log, env=env, port=port))
        return running[-1]

    yield start
    for service in running:
        await service.stop()


@pytest.fixture
async def service(leyden: ServiceFactory) -> Leyden:
    """A service in insecure mode, behind a proxy of this machine."""
    return await leyden(AUTH_MODE="insecure", AUTH_TRUSTED_PROXIES="127.0.0.1,::1")


@pytest.fixture(scope="session")
def demo_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="leyden-demo-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture
async def demo(demo_directory: Path) -> AsyncIterator[Leyden]:
    """A running ``leyden demo``; its data outlives it, for the next test."""
    log = demo_directory / "demo.log"
    running = await Leyden.start("demo", "--data-dir", str(demo_directory / "data"), database=None, log=log)
    yield running
    await running.stop()


# ---- the other side ---------------------------------------------------------------------------------


@pytest.fixture
async def driver() -> AsyncIterator[Factory]:
    """``await driver()`` -> a process in which the unmodified npm client runs; ``clock_ahead`` (seconds) makes it
    wrong about the time."""
    running: list[Driver] = []

    async def start(clock_ahead: float = 0) -> Driver:
        running.append(await Driver.start("driver.mjs", env={"DRIVER_CLOCK": str(round(clock_ahead * 1000))}))
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
