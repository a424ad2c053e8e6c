"""Many clients in one process, and what their arrivals tell.

A transaction is known by its number since :meth:`Fleet.count`: all clients of a fleet get the same ones, in one order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from benchmarks.load.client import Filter, LoadClient
from benchmarks.load.inbox import Inbox
from leyden.auth import ALGORITHMS, load_private_key, mint_token
from raw_websocket import upgrade_request

#: Attempts to connect under way. The service checks some hundred strangers' signatures a second and lets others wait.
AT_ONCE = 25


class Issuer:
    """Makes a token for each client: as long as they were made alike, one could be remembered for all."""

    def __init__(self, private_pem: str) -> None:
        self._key = load_private_key(private_pem.encode(), ALGORITHMS["ES256"])

    def token(self, user: str) -> str:
        now = int(time.time())
        claims = {"sub": user, "iat": now, "exp": now + 7200}
        return mint_token(claims, algorithm=ALGORITHMS["ES256"], key=self._key)


async def let_in(client: LoadClient, port: int, number: int, token: str, name: str) -> None:
    """Upgrades and authenticates, as from behind a proxy: each ``number`` from an address of its own."""
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    await client.upgraded(upgrade_request(port, X_Forwarded_For=address))
    await client.authenticate(token, name)


class Fleet:
    def __init__(self) -> None:
        self.inbox = Inbox()
        self.clients: list[LoadClient] = []
        self._arrived: dict[int, int] = {}
        self._last_at: dict[int, float] = {}
        self._complete = asyncio.Event()
        self._wanted = 0

    # ---- connecting ----------------------------------------------------------------------------------------------

    async def connect(
        self, port: int, names: Sequence[str], filters: Sequence[Sequence[Filter]], private_pem: str
    ) -> float:
        """A client for each of ``names``, subscribed to its ``filters`` if there are any; returns the seconds."""
        issuer = Issuer(private_pem)
        tokens = [issuer.token(name) for name in names]
        room = asyncio.Semaphore(AT_ONCE)

        async def one(number: int, name: str, token: str, wanted: Sequence[Filter]) -> LoadClient:
            async with room:
                client = await self._connected(port)
                await let_in(client, port, number, token, name)
                await client.start()
                if wanted:
                    await client.subscribe(wanted)
                return client

        first = len(self.clients)
        started = time.monotonic()
        self.clients += await asyncio.gather(
            *(
                one(first + at, name, token, wanted)
                for at, (name, token, wanted) in enumerate(zip(names, tokens, filters, strict=True))
            )
        )
        return time.monotonic() - started

    async def connect_bare(self, port: int, count: int) -> None:
        """Clients of a bare loop, which sends frames and is told nothing."""
        self.clients += await asyncio.gather(*(self._connected(port, bare=True) for _ in range(count)))

    async def upgrade(self, port: int, count: int) -> None:
        """WebSockets on which nothing is said."""
        for _ in range(count):
            client = await self._connected(port)
            await client.upgraded(upgrade_request(port))
            self.clients.append(client)

    async def _connected(self, port: int, *, bare: bool = False) -> LoadClient:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(
            lambda: LoadClient(self.inbox, self._arrivals, bare=bare), "127.0.0.1", port
        )
        return client

    def acknowledge_later(self) -> None:
        """From now on nobody acknowledges anything until :meth:`acknowledge`."""
        for client in self.clients:
            client.acknowledges = False

    def acknowledge(self) -> None:
        """Every client acknowledges the newest transaction, and with it all others."""
        frame = self.inbox.newest_acknowledgement
        for client in self.clients:
            client.transport.write(frame)

    def lost(self) -> list[str]:
        """Why clients are gone that should be there."""
        return [client.lost for client in self.clients if client.lost is not None]

    def close(self) -> None:
        for client in self.clients:
            client.transport.abort()
        self.clients.clear()

    # ---- counting ------------------------------------------------------------------------------------------------

    def count(self) -> None:
        """From now on transactions are counted, the next one being the first."""
        self._arrived.clear()
        self._last_at.clear()
        for client in self.clients:
            client.counted = 0

    async def arrived(self, transactions: int, seconds: float) -> list[float]:
        """For each of the first ``transactions``, when the last client had it (the monotonic clock, which all
        processes share).

        Raises:
            TimeoutError: they had not all come after ``seconds``.
        """
        self._wanted = transactions
        self._complete.clear()
        if not self._all_there():
            async with asyncio.timeout(seconds):
                await self._complete.wait()
        return [self._last_at[number] for number in range(1, transactions + 1)]

    def _all_there(self) -> bool:
        return self._arrived.get(self._wanted, 0) >= len(self.clients)

    def _arrivals(self, client: LoadClient, transactions: int) -> None:
        now = time.monotonic()
        for number in range(client.counted - transactions + 1, client.counted + 1):
            self._arrived[number] = self._arrived.get(number, 0) + 1
            self._last_at[number] = now
        if self._wanted and self._all_there():
            self._complete.set()
