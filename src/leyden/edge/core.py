"""What the connections of one history of the database share."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from leyden.auth import Identity
from leyden.edge.access.authenticator import Authenticator
from leyden.edge.access.authors import Authors
from leyden.edge.access.sessions import Session, Sessions
from leyden.edge.delivery.fanout import FanOut
from leyden.edge.delivery.loading import TableLoader
from leyden.edge.first_calls import FirstCalls
from leyden.edge.turns import Turns
from leyden.events import Emit, Peer
from leyden.postgres.checkpoints import Checkpoints
from leyden.postgres.clients import ClientStore
from leyden.postgres.reading.snapshots import Snapshots
from leyden.postgres.writing.writer import Writer
from leyden.satellite.actions import World
from leyden.satellite.encoding import Encoder


class OpenConnection(Protocol):
    """What others may know of a connection, and do to it."""

    number: int
    peer: Peer
    connected_at: float

    @property
    def client_id(self) -> str | None: ...

    @property
    def user_id(self) -> str | None: ...

    @property
    def identity(self) -> Identity | None:
        """Who was let in, by the newest token; ``None`` before authentication, like the session."""

    @property
    def session(self) -> Session | None: ...

    def rights_changed(self) -> None:
        """What database roles may read has changed: if it may see other rows now, it is sent nothing more and ended."""

    def end(self, code: int, reason: str = "", detail: str = "") -> None:
        """Asks for it to be closed; ``detail`` is for the log."""

    def cut_off(self, code: int, reason: str = "", detail: str = "") -> None:
        """The same, and it is sent nothing more but answers to its calls."""


@dataclass(slots=True)
class Core:
    """The ready parts that connections share."""

    world: World
    authenticator: Authenticator
    authors: Authors
    sessions: Sessions
    encoder: Encoder
    fanout: FanOut
    clients: ClientStore
    checkpoints: Checkpoints
    snapshots: Snapshots
    loader: TableLoader
    writer: Writer
    #: Returns once the log holds everything that has committed so far. Needs none of the connections that snapshots
    #: are read on: who waits for it may hold one of those.
    catch_up: Callable[[], Awaitable[None]]
    #: Returns once what database roles may read is known as it is now, or cannot be read for a while.
    read_rights: Callable[[], Awaitable[None]]
    emit: Emit
    clock: Callable[[], float] = time.time
    first_calls: FirstCalls = field(default_factory=FirstCalls)
    turns: Turns = field(default_factory=Turns)
    #: Every connection, authenticated or not.
    open: set[OpenConnection] = field(default_factory=set)
    #: What works off the uploads of each connection; it outlives the connection until all of them are written.
    writes: set[asyncio.Future[Any]] = field(default_factory=set)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def idle(self) -> None:
        """Returns once no connection is open and nothing is being written."""
        while self.open or self.writes:  # noqa: ASYNC110 - only while stopping
            await asyncio.sleep(0.01)
