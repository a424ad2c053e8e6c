"""Runs an application under uvicorn until a signal: what ``start`` and ``demo`` have in common."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click
import uvicorn
from starlette.applications import Starlette

from leyden.config import ConfigurationError, Settings, load_settings
from leyden.edge.server import uvicorn_config
from leyden.events import ServiceReady
from leyden.service import Service

OnReady = Callable[[Service, str], Coroutine[Any, Any, None]]


def settings_or_exit(env: dict[str, str]) -> Settings:
    """The settings of ``env``; all their mistakes are printed and the exit status is 2."""
    try:
        return load_settings(env)
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(2)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        return listener
    except OSError as error:
        reason = error.strerror or "cannot be opened"
        click.echo(
            f"HTTP_PORT: {host} port {port}: {reason}. Stop what listens there, or set HTTP_PORT to a free port.",
            err=True,
        )
        sys.exit(1)


class _Server(uvicorn.Server):
    """uvicorn raises the signal once more after its shutdown, which would end us with a signal's status."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def serve(service: Service, app: Starlette, on_ready: OnReady) -> None:
    """Serves ``app`` until SIGTERM or SIGINT; ``on_ready`` is told the URL once connections are accepted."""
    settings = service.settings
    listener = _listen(settings.http_host, settings.http_port)
    port = listener.getsockname()[1]
    host = f"[{settings.http_host}]" if ":" in settings.http_host else settings.http_host
    host = "localhost" if settings.http_host in ("0.0.0.0", "::", "127.0.0.1", "::1") else host  # noqa: S104
    url = f"http://{host}:{port}"
    server = _Server(uvicorn_config(app, settings.http_host, port))

    async def announce() -> None:
        try:
            await service.ready_event.wait()
            service.emit(ServiceReady(url))
            await on_ready(service, url)
        except Exception:
            server.should_exit = True
            raise

    async def watch() -> None:
        await service.failed.wait()
        server.should_exit = True

    async def run() -> None:
        tasks = [asyncio.create_task(announce()), asyncio.create_task(watch())]
        try:
            await server.serve(sockets=[listener])
        finally:
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome

    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(run())
    if service.failed.is_set():
        sys.exit(1)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
