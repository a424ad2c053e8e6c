"""A client over many connections: it keeps its rows, resumes where it was, and sends again what was not echoed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from benchmarks.load.client import Filter, LoadClient, Lost, OutOfSync, apply, subscription_id
from benchmarks.load.fleet import let_in
from benchmarks.load.inbox import Inbox, understood
from benchmarks.load.uploads import Outbox

Row = tuple[bytes, ...]


class Device:
    """Sees the rows of ``items`` of one user. ``number`` is its address's."""

    def __init__(self, name: str, token: str, number: int, user: str, inbox: Inbox) -> None:
        self._name = name
        self._token = token
        self._number = number
        self._user = user
        self._inbox = inbox
        self._client: LoadClient | None = None
        self._subscribed = False
        self._lsn = b""
        self._outbox = Outbox("items")
        self.rows: dict[bytes, Row] = {}
        #: How often it had to start afresh.
        self.resets = 0
        #: Why connections ended that it did not end itself.
        self.losses: list[str] = []

    @property
    def online(self) -> bool:
        return self._client is not None and self._client.lost is None

    @property
    def waits_for_echoes(self) -> bool:
        return self._outbox.under_way > 0

    async def connect(self, port: int) -> None:
        """Returns once it has, or goes on getting, everything that it subscribed to.

        Raises:
            Lost: it could not.
        """
        self._note_loss()
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(
            lambda: LoadClient(self._inbox, lambda client, number: None), "127.0.0.1", port
        )
        try:
            await self._converse(client, port)
        except Lost:
            client.transport.abort()
            raise

    async def _converse(self, client: LoadClient, port: int) -> None:
        client.rows = self.rows
        client.on_echoes = self._outbox.echoed
        await let_in(client, port, self._number, self._token, self._name)
        subscriptions = [subscription_id(1)] if self._subscribed else []
        try:
            reached = await client.start(self._lsn, subscriptions)
        except OutOfSync:
            self.resets += 1
            self._subscribed, self._lsn = False, b""
            self.rows.clear()
            raise
        self._outbox.resume(client, reached)
        if not self._subscribed:
            await client.subscribe([Filter("items", f"this.user_id = '{self._user}'")])
            for payload in client.initial:
                apply(understood(payload).operations, self.rows)
            client.initial.clear()
            self._subscribed = True
        self._client = client

    def disconnect(self) -> None:
        """Drops the connection, as when a network goes away."""
        client, self._client = self._client, None
        self._outbox.interrupt()
        if client is not None and client.lost is None:
            self._lsn = client.lsn
            client.transport.abort()

    def write(self, content: bytes) -> None:
        self._outbox.write(self._user, content)

    def differs_from(self, rows: Iterable[Row]) -> bool:
        return self.rows != {row[0]: row for row in rows}

    def _note_loss(self) -> None:
        client, self._client = self._client, None
        self._outbox.interrupt()
        if client is not None and client.lost is not None:
            self._lsn = client.lsn
            self.losses.append(client.lost)
