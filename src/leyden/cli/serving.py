"""Runs the servers of one process under uvicorn until a signal: what ``start`` and ``demo`` have in common."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import click
import uvicorn
from starlette.applications import Starlette

from leyden.administration import Administration
from leyden.config import AdminSettings, ConfigurationError, Settings, load_settings
from leyden.edge.admin.app import admin_server_config, create_admin_app
from leyden.edge.websocket.server import BACKLOG, uvicorn_config
from leyden.events import AdminListening, ServiceReady
from leyden.service import Service

#: Objects that may come before the garbage collector looks at the youngest.
GC_ALLOCATIONS = 20_000

OnReady = Callable[[Service, str], Coroutine[Any, Any, None]]


def settings_or_exit(env: dict[str, str]) -> Settings:
    """The settings of ``env``; all their mistakes are printed and the exit status is 2."""
    try:
        return load_settings(env)
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(2)


@dataclass(frozen=True, slots=True)
class _Listening:
    """A server whose socket accepts connections already."""

    server: uvicorn.Server
    socket: socket.socket
    url: str

    async def serve(self) -> None:
        await self.server.serve(sockets=[self.socket])


def _listen(host: str, port: int, variable: str) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        reason = error.strerror or "cannot be opened"
        click.echo(
            f"{variable}: {host} port {port}: {reason}. Stop what listens there, or set {variable} to a free port.",
            err=True,
        )
        sys.exit(1)


class _Server(uvicorn.Server):
    """Signals are for all servers of the process, and uvicorn would raise them once more after its shutdown, which
    would end us with a signal's status."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _for_clients(app: Starlette, settings: Settings) -> _Listening:
    listener = _listen(settings.http_host, settings.http_port, "HTTP_PORT")
    port = listener.getsockname()[1]
    host = f"[{settings.http_host}]" if ":" in settings.http_host else settings.http_host
    host = "localhost" if settings.http_host in ("0.0.0.0", "::", "127.0.0.1", "::1") else host  # noqa: S104
    server = _Server(uvicorn_config(app, settings.http_host, port))
    return _Listening(server, listener, f"http://{host}:{port}")


def _for_administrators(service: Service, admin: AdminSettings) -> _Listening:
    listener = _listen(admin.host, admin.port, "LEYDEN_ADMIN_PORT")
    port = listener.getsockname()[1]
    reached_at = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(admin.host, admin.host)  # noqa: S104
    host = f"[{reached_at}]" if ":" in reached_at else reached_at
    app = create_admin_app(Administration(service), admin.credentials, loopback_only=admin.loopback_only)
    return _Listening(_Server(admin_server_config(app, admin.host, port)), listener, f"http://{host}:{port}")


def _spare_the_garbage_collector() -> None:
    """What is there when the service is ready stays: it need not be looked through again. What comes is mostly
    transactions, which refer to nothing in a circle, and are many: it is enough to look rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 50)


def serve(service: Service, app: Starlette, on_ready: OnReady) -> None:
    """Serves ``app``, and the admin API if it is configured, until SIGTERM or SIGINT; ``on_ready`` is told the URL once
    connections are accepted."""
    settings = service.settings
    clients = _for_clients(app, settings)
    admin = None if settings.admin is None else _for_administrators(service, settings.admin)
    everything = [clients] if admin is None else [clients, admin]

    def stop() -> None:
        for listening in everything:
            listening.server.should_exit = True

    def on_signal(number: int) -> None:
        for listening in everything:
            listening.server.handle_exit(number, None)

    async def announce() -> None:
        try:
            await service.ready_event.wait()
            _spare_the_garbage_collector()
            service.emit(ServiceReady(clients.url))
            await on_ready(service, clients.url)
            if admin is not None:
                click.echo(f"leyden admin API on {admin.url}")
        except Exception:
            stop()
            raise

    async def watch() -> None:
        await service.failed.wait()
        stop()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, service.reload)
        if admin is not None:
            service.emit(AdminListening(admin.url))
        tasks = [asyncio.create_task(announce()), asyncio.create_task(watch())]
        serving = [asyncio.create_task(listening.serve()) for listening in everything]
        try:
            await asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
            stop()  # neither goes on without the other
            await asyncio.gather(*serving)
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
