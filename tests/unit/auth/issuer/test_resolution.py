"""Asking the system's resolver."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from leyden.auth import FetchFailed
from leyden.auth.issuer.resolution import SystemResolver


class Lookups:
    """Stands in for the event loop's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.questions: list[str] = []
        self.answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._ask)

    async def _ask(self, host: str, port: int, **_: object) -> list[Any]:
        self.questions.append(host)
        return await self.answer


def found(*addresses: str) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]


async def test_addresses_come_in_order_and_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = Lookups(monkeypatch)
    lookups.answer.set_result(found("9.9.9.9", "1.1.1.1", "9.9.9.9"))
    assert await SystemResolver()("a.example", 443) == ["9.9.9.9", "1.1.1.1"]


@pytest.mark.parametrize("error", [socket.gaierror(-2, "a.example unknown"), UnicodeError("label too long")])
async def test_a_name_without_address_is_an_ordinary_failure(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    lookups = Lookups(monkeypatch)
    lookups.answer.set_exception(error)
    with pytest.raises(FetchFailed, match="cannot be resolved"):
        await SystemResolver()("a.example", 443)


async def test_a_resolver_that_hangs_is_asked_once_however_often_somebody_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lookups, resolver = Lookups(monkeypatch), SystemResolver()
    for _ in range(10):
        waiting = asyncio.ensure_future(resolver("a.example", 443))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert lookups.questions == ["a.example"]
    lookups.answer.set_result(found("1.1.1.1"))
    assert await resolver("a.example", 443) == ["1.1.1.1"]
    await resolver("a.example", 443)
    assert lookups.questions == ["a.example", "a.example"]
