"""Initial data and GONE batches for one connection, one at a time and never interleaved with transactions.

The splice is by visibility (docs/architecture.md): the client's stream is held at a position that the snapshot
certainly covers; afterwards the transactions that the snapshot already saw are left out for the table, all others
follow. A client that has other rows of the table already gets those too.

A migration must not fall between the two. The client would not have its columns yet, and what the snapshot saw of them
would not come again. So the client is brought past every migration known before it is held, and a snapshot that sees a
newer one is given back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from leyden.edge.fanout import FanOut, Subscriber
from leyden.edge.socket import Packet
from leyden.events import Emit, SubscriptionDelivered, SubscriptionProgress
from leyden.model import Row, SubscriptionRecord, Table
from leyden.postgres.clients import ClientStore
from leyden.postgres.snapshots import Snapshot, Snapshots
from leyden.satellite.actions import World
from leyden.satellite.encoding import Encoder
from leyden.shapes.groups import Group
from leyden.shapes.request import Shape
from leyden.shapes.view import View

#: How long the client may take to prove that it has recorded the subscription (seconds).
BARRIER_TIMEOUT = 2.0

#: Pauses between attempts at a snapshot that sees all that the client was sent (seconds).
SNAPSHOT_PAUSES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

#: Pause between looks at whether the client has been sent what the log held (seconds).
BEHIND_PAUSE = 0.02

PROGRESS_ROWS = 100_000


class SnapshotTooOld(Exception):
    """Postgres did not make visible in time what it had already committed."""


class Deliveries:
    """The queue of deliveries of one connection; :meth:`run` works it off."""

    def __init__(
        self,
        subscriber: Subscriber,
        fanout: FanOut,
        encoder: Encoder,
        snapshots: Snapshots,
        clients: ClientStore,
        world: World,
        catch_up: Callable[[], Awaitable[None]],
        emit: Emit,
        connection: int,
    ) -> None:
        self._subscriber = subscriber
        self._fanout = fanout
        self._encoder = encoder
        self._snapshots = snapshots
        self._clients = clients
        self._world = world
        self._catch_up = catch_up
        self._emit = emit
        self._connection = connection
        self._queue: asyncio.Queue[_Delivery | _Withdrawal] = asyncio.Queue()

    @property
    def waiting(self) -> int:
        """Deliveries asked for and not begun."""
        return self._queue.qsize()

    def deliver(self, subscription: SubscriptionRecord, shapes: Sequence[Shape]) -> None:
        self._queue.put_nowait(_Delivery(subscription, tuple(shapes)))

    def withdraw(self, ids: Sequence[str], gone: frozenset[Group]) -> None:
        self._queue.put_nowait(_Withdrawal(tuple(ids), gone))

    async def run(self) -> None:
        while True:
            job = await self._queue.get()
            if isinstance(job, _Delivery):
                await self._deliver(job)
            else:
                await self._withdraw(job)

    # ---- initial data --------------------------------------------------------------------------------------------

    async def _deliver(self, job: _Delivery) -> None:
        started = time.monotonic()
        subscriber, fanout = self._subscriber, self._fanout
        await self._clients.save_subscription(subscriber.client_id, job.subscription)
        # Data that reaches the client in one read with the answer to `subscribe` is processed before the client has
        # recorded the subscription, and is lost. Its PONG proves that the answer was handled.
        await subscriber.socket.ping(BARRIER_TIMEOUT)
        rows = 0
        async with self._splice() as (position, snapshot, tables):
            known = dict.fromkeys(tables[shape.table.id] for shape in job.shapes if shape.table.id in tables)
            self._send(self._encoder.relations(known))
            self._send([self._encoder.subscription_begin(job.subscription.id, position)])
            before = view = subscriber.view
            for shape in job.shapes:
                self._send([self._encoder.shape_begin(shape.request_id)])
                # A table given up since is delivered empty.
                table = tables.get(shape.table.id)
                if table is not None and shape.group not in view.groups:
                    rows += await self._send_rows(snapshot, job.subscription.id, table, shape.group, view, rows)
                    view = view.with_groups([shape.group])
                self._send([self._encoder.SHAPE_END])
            self._send([self._encoder.SUBSCRIPTION_END])
            changed = {group.table.id for group in view.groups - before.groups}
        # Of a table that is new to the client it has all that the snapshot saw. Of one that it has rows of, these are
        # as of its position: what follows is sent for all of the table, and what the snapshot saw of it once more,
        # which ends in the same.
        replayed = changed & before.tables
        fanout.see(subscriber, view, dict.fromkeys(changed - replayed, snapshot.point), replayed)
        fanout.release(subscriber)
        seconds = time.monotonic() - started
        self._emit(SubscriptionDelivered(self._connection, job.subscription.id, rows, seconds))

    async def _send_rows(
        self, snapshot: Snapshot, subscription: str, table: Table, group: Group, held: View, before: int
    ) -> int:
        """The rows of ``group``, without those that the client has already for being in ``held``: sent again they would
        be ignored, and their tags replaced."""
        if held.holds_all(table):
            return 0
        overlaps = table.id in held.tables
        rows = 0
        async for batch in snapshot.rows(table, group.condition):
            news = [(row, tags) for row, tags in batch if not held.holds(table, row)] if overlaps else batch
            self._send(self._encoder.initial_rows(table, news))
            await self._subscriber.socket.drain()
            await asyncio.sleep(0)  # a client and a database that are fast would leave nobody else a turn
            reported = (before + rows) // PROGRESS_ROWS
            rows += len(news)
            if (before + rows) // PROGRESS_ROWS > reported:
                self._emit(SubscriptionProgress(self._connection, subscription, before + rows))
        return rows

    @asynccontextmanager
    async def _splice(self) -> AsyncIterator[tuple[int, Snapshot, Mapping[int, Table]]]:
        """Holds the client at a position; with it a snapshot that covers it, and the tables by id as they are described
        at both. The client has been sent every migration that the snapshot sees."""
        subscriber, fanout = self._subscriber, self._fanout
        while True:
            # In one step: what is known of tables and versions is what the log holds up to its head.
            head = fanout.head
            newest = max((migration.version for migration in self._world.migrations), default="")
            tables = {table.id: table for table in self._world.tables.values()}
            while not subscriber.live and subscriber.position < head:  # noqa: ASYNC110 - it depends on the client
                await asyncio.sleep(BEHIND_PAUSE)
            position = fanout.hold(subscriber)
            async with self._covering(position) as snapshot:
                if await snapshot.newest_version() <= newest:
                    yield position, snapshot, tables
                    return
            fanout.release(subscriber)
            await self._catch_up()

    @asynccontextmanager
    async def _covering(self, position: int) -> AsyncIterator[Snapshot]:
        """A snapshot that sees every transaction up to ``position``."""
        for pause in SNAPSHOT_PAUSES:
            await asyncio.sleep(pause)
            async with self._snapshots.open() as snapshot:
                if self._fanout.is_seen_by(snapshot.point, position):
                    yield snapshot
                    return
        raise SnapshotTooOld

    def _send(self, payloads: Iterable[bytes]) -> None:
        self._subscriber.socket.send(Packet(payloads))

    # ---- GONE ----------------------------------------------------------------------------------------------------

    async def _withdraw(self, job: _Withdrawal) -> None:
        """Tells the client which rows to drop: those it holds for groups that it gave up, and for no other."""
        subscriber, fanout = self._subscriber, self._fanout
        await self._clients.cancel_subscriptions(subscriber.client_id, job.ids)
        position = fanout.hold(subscriber)
        gone = View(job.gone & subscriber.view.groups)
        remaining = subscriber.view.without(gone.groups)
        rows: list[tuple[Table, Row]] = []
        if gone.groups:
            async with self._covering(position) as snapshot:
                for group in gone.groups:
                    table = group.table
                    if not remaining.holds_all(table):
                        async for batch in snapshot.rows(table, group.condition):
                            rows += [(table, table.key_of(row)) for row, _ in batch if not remaining.holds(table, row)]
            # A row that left the group between the client's position and the snapshot is in neither the snapshot nor,
            # from now on, the client's stream.
            await self._catch_up()
            rows += [
                (table, table.key_of(row))
                for table, row in fanout.changed_after(position, gone.tables)
                if gone.holds(table, row) and not remaining.holds(table, row)
            ]
        # In the newest description: the client may know fewer columns than a key comes with, but not more.
        newest = {table.id: table for table, _ in rows} | {table.id: table for table in self._world.tables.values()}
        images = dict.fromkeys((newest[table.id], _key_image(newest[table.id], key)) for table, key in rows)
        for payloads in self._encoder.gone_batches(job.ids, position, images):
            self._send(payloads)
            await subscriber.socket.drain()
        fanout.see(subscriber, remaining, {})
        fanout.release(subscriber)


def _key_image(table: Table, key: Row) -> Row:
    """A row of which only the primary key is known."""
    row: list[bytes | None] = [None] * len(table.columns)
    for position, value in zip(table.key_positions, key, strict=True):
        row[position] = value
    return tuple(row)


@dataclass(frozen=True, slots=True)
class _Delivery:
    subscription: SubscriptionRecord
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class _Withdrawal:
    ids: tuple[str, ...]
    gone: frozenset[Group]
