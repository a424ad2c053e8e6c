"""What a client should not do to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from benchmarks.load.client import Filter, LoadClient, Lost, Refused
from benchmarks.load.uploads import Uploads

#: What uploads without pause have under way at first, each being followed by another: TCP holds back the rest.
UNDER_WAY = 200


async def stop_reading(client: LoadClient, tables: list[str]) -> None:
    client.transport.pause_reading()


async def never_acknowledge(client: LoadClient, tables: list[str]) -> None:
    client.acknowledges = False


async def subscribe_to_everything(client: LoadClient, tables: list[str]) -> None:
    """All the tables, over and over, until the service will not have it any more."""
    number = 1
    while True:
        number += 1
        try:
            await client.subscribe([Filter(table) for table in tables], number)
        except Refused as refused:
            client.refused = str(refused)
            return
        except Lost:
            return
        client.initial.clear()


async def upload_without_pause(client: LoadClient, tables: list[str]) -> None:
    Uploads(client, tables[0], UNDER_WAY, b"x" * 200)
    await asyncio.Event().wait()


KINDS: Mapping[str, Callable[[LoadClient, list[str]], Coroutine[Any, Any, None]]] = {
    each.__name__: each for each in (stop_reading, never_acknowledge, subscribe_to_everything, upload_without_pause)
}
