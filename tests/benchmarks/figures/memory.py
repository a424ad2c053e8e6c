"""The memory of a client that does nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from benchmarks.child import Child, answering
from benchmarks.figure import Figure, Goal, Row
from benchmarks.processes import resident_bytes
from benchmarks.stage import Session, Stage

#: Clients that are there before anything is measured, and those that come then.
BEFORE, CLIENTS = 200, 1_000
GOAL = Goal(2.0)

ABOUT = (
    f"How much the resident memory of the service grows by {CLIENTS:,} more clients, idle, authenticated and"
    f" subscribed to one shape, after {BEFORE} others; and that of a bare uvicorn with a WebSocket application that"
    " only accepts."
)

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


async def measure(stage: Stage) -> Figure:
    figure = Figure("Memory of an idle client", ABOUT)
    with stage.database() as dsn:
        async with (
            stage.service(dsn, "memory") as service,
            Child.running("benchmarks.load") as load,
            Session.open(dsn) as session,
        ):
            await session.create_items()
            names = [f"client-{number}" for number in range(BEFORE + CLIENTS)]
            await service.connect(load, names[:BEFORE], [[["items"]]] * BEFORE)
            await asyncio.sleep(3)
            before = service.resident_bytes
            await service.connect(load, names[BEFORE:], [[["items"]]] * CLIENTS)
            await asyncio.sleep(3)  # deliveries are confirmed
            ours = (service.resident_bytes - before) / CLIENTS
    # the clients end first, or the application would complain of each
    async with Child.running(__name__) as bare, Child.running("benchmarks.load") as load:
        port = await bare.ask("listen")
        await load.ask("upgrade", port=port, count=BEFORE)
        before = resident_bytes(bare.pid)
        await load.ask("upgrade", port=port, count=CLIENTS)
        await asyncio.sleep(1)
        floor = (resident_bytes(bare.pid) - before) / CLIENTS
    figure.rows.append(Row("one shape", "KiB each", ours / 1024, floor / 1024, GOAL))
    return figure


async def _accept(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "electric.0.12"})
        while (await receive())["type"] != "websocket.disconnect":
            pass


class Program:
    """The floor: uvicorn as the service configures it, but for the service."""

    def __init__(self) -> None:
        self._serving: asyncio.Task[None] | None = None

    async def listen(self) -> int:
        config = uvicorn.Config(
            _accept,
            host="127.0.0.1",
            port=0,
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            ws_ping_interval=None,
            log_config=None,
            access_log=False,
            lifespan="off",
        )
        server = uvicorn.Server(config)
        self._serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn offers nothing else
            await asyncio.sleep(0.01)
        gc.collect()
        port: int = server.servers[0].sockets[0].getsockname()[1]
        return port


if __name__ == "__main__":
    answering(Program)
