"""Many devices that come and go and write; a program: ``Child.running("benchmarks.load.devices")``."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any

from benchmarks.child import answering
from benchmarks.load.client import Lost
from benchmarks.load.device import Device, Row
from benchmarks.load.fleet import AT_ONCE, Issuer
from benchmarks.load.inbox import Inbox

#: How long a client that was cut off stays away (seconds).
AWAY = (0.1, 10.0)


class Program:
    def __init__(self) -> None:
        self._inbox = Inbox()
        self._devices: list[Device] = []
        self._port = 0
        self._coming_and_going: list[asyncio.Task[None]] = []
        self._drops = self._failures = self._writes = 0
        self._room = asyncio.Semaphore(AT_ONCE)
        self._random = random.Random(1)

    async def connect(self, port: int, private_pem: str, users: list[str]) -> float:
        """A client for each of ``users``; returns the seconds until all are there."""
        issuer = Issuer(private_pem)
        self._port = port
        self._devices = [
            Device(f"client-{at}", issuer.token(f"client-{at}"), at, user, self._inbox) for at, user in enumerate(users)
        ]
        started = time.monotonic()
        await asyncio.gather(*map(self._online, self._devices))
        return time.monotonic() - started

    async def start(self, upload_rate: float, drop_rate: float) -> None:
        """From now on they write, come and go: so many uploads and lost connections a second, of all of them."""
        self._coming_and_going = [
            asyncio.create_task(self._write(upload_rate)),
            asyncio.create_task(self._drop(drop_rate)),
        ]

    async def stop(self) -> None:
        """Nobody writes any more, and everybody comes back."""
        for task in self._coming_and_going:
            task.cancel()
        await asyncio.gather(*map(self._online, self._devices))

    async def state(self) -> dict[str, Any]:
        return {
            "online": sum(device.online for device in self._devices),
            "waiting": sum(device.waits_for_echoes for device in self._devices),
            "writes": self._writes,
            "drops": self._drops,
            "failures": self._failures,
            "resets": sum(device.resets for device in self._devices),
            "losses": Counter(loss for device in self._devices for loss in device.losses),
        }

    async def differing(self, rows: dict[str, list[list[str]]], users: list[str]) -> int:
        """How many clients have other rows than these, by user."""
        known: dict[str, list[Row]] = {}
        for user, of_user in rows.items():
            known[user] = [tuple(value.encode() for value in row) for row in of_user]
        return sum(device.differs_from(known.get(user, ())) for device, user in zip(self._devices, users, strict=True))

    async def _online(self, device: Device) -> None:
        """As the stock client does: over and over."""
        while not device.online:
            try:
                async with self._room:
                    await device.connect(self._port)
            except (Lost, OSError):
                self._failures += 1
                await asyncio.sleep(self._random.uniform(0.5, 1.5))

    async def _write(self, rate: float) -> None:
        while True:
            await asyncio.sleep(self._random.expovariate(rate))
            self._random.choice(self._devices).write(b"by a client, %d" % self._random.getrandbits(32))
            self._writes += 1

    async def _drop(self, rate: float) -> None:
        away: set[asyncio.Task[None]] = set()
        try:
            while True:
                await asyncio.sleep(self._random.expovariate(rate))
                device = self._random.choice(self._devices)
                if device.online:
                    device.disconnect()
                    self._drops += 1
                    coming_back = asyncio.create_task(self._come_back(device))
                    away.add(coming_back)
                    coming_back.add_done_callback(away.discard)
        finally:
            for task in away:
                task.cancel()

    async def _come_back(self, device: Device) -> None:
        await asyncio.sleep(self._random.uniform(*AWAY))
        await self._online(device)


if __name__ == "__main__":
    answering(Program)
