"""Initial data and GONE batches for one connection, one at a time and never interleaved with transactions.

The splice is by visibility (shapes.md §5.2): the client's stream is held at a position that the snapshot certainly
covers; afterwards the transactions that the snapshot already saw are left out for the table, all others follow.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from leyden.edge.fanout import FanOut, Subscriber
from leyden.edge.socket import Packet
from leyden.events import Emit, SubscriptionDelivered, SubscriptionProgress
from leyden.model import Row, SubscriptionRecord, Table
from leyden.postgres.clients import ClientStore
from leyden.postgres.snapshots import Snapshot, Snapshots
from leyden.satellite.encoding import Encoder
from leyden.shapes.request import Shape

#: How long the client may take to prove that it has recorded the subscription (seconds).
BARRIER_TIMEOUT = 2.0

#: Pauses between attempts at a snapshot that sees all that the client was sent (seconds).
SNAPSHOT_PAUSES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

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
        catch_up: Callable[[], Awaitable[None]],
        emit: Emit,
        connection: int,
    ) -> None:
        self._subscriber = subscriber
        self._fanout = fanout
        self._encoder = encoder
        self._snapshots = snapshots
        self._clients = clients
        self._catch_up = catch_up
        self._emit = emit
        self._connection = connection
        self._queue: asyncio.Queue[_Delivery | _Withdrawal] = asyncio.Queue()

    def deliver(self, subscription: SubscriptionRecord, shapes: Sequence[Shape]) -> None:
        self._queue.put_nowait(_Delivery(subscription, tuple(shapes)))

    def withdraw(self, ids: Sequence[str], gone: Sequence[Table]) -> None:
        self._queue.put_nowait(_Withdrawal(tuple(ids), tuple(gone)))

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
        position = fanout.hold(subscriber)
        rows = 0
        new = [shape for shape in job.shapes if shape.table.id not in subscriber.tables]
        async with self._covering(position) as snapshot:
            self._send(self._encoder.relations(dict.fromkeys(shape.table for shape in job.shapes)))
            self._send([self._encoder.subscription_begin(job.subscription.id, position)])
            delivered: set[int] = set()
            for shape in job.shapes:
                self._send([self._encoder.shape_begin(shape.request_id)])
                # a row that the client already holds must not be sent again: it would be ignored, its tags replaced
                if shape in new and shape.table.id not in delivered:
                    delivered.add(shape.table.id)
                    rows += await self._send_rows(snapshot, job.subscription.id, shape.table, rows)
                self._send([self._encoder.SHAPE_END])
            self._send([self._encoder.SUBSCRIPTION_END])
            filters = dict.fromkeys(delivered, snapshot.point)
        fanout.see(subscriber, subscriber.tables | filters.keys(), filters)
        fanout.release(subscriber)
        seconds = time.monotonic() - started
        self._emit(SubscriptionDelivered(self._connection, job.subscription.id, rows, seconds))

    async def _send_rows(self, snapshot: Snapshot, subscription: str, table: Table, before: int) -> int:
        rows = 0
        async for batch in snapshot.rows(table):
            self._send(self._encoder.initial_rows(table, batch))
            await self._subscriber.socket.drain()
            reported = (before + rows) // PROGRESS_ROWS
            rows += len(batch)
            if (before + rows) // PROGRESS_ROWS > reported:
                self._emit(SubscriptionProgress(self._connection, subscription, before + rows))
        return rows

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
        """Tells the client which rows to drop: those it holds of the tables that nothing holds any more."""
        subscriber, fanout = self._subscriber, self._fanout
        await self._clients.cancel_subscriptions(subscriber.client_id, job.ids)
        position = fanout.hold(subscriber)
        gone = [table for table in job.gone if table.id in subscriber.tables]
        rows: list[tuple[Table, Row]] = []
        if gone:
            async with self._covering(position) as snapshot:
                for table in gone:
                    async for batch in snapshot.rows(table):
                        rows += [(table, _key_image(table, row)) for row, _ in batch]
            # A row deleted between the client's position and the snapshot is in neither the snapshot nor, from now
            # on, the client's stream.
            await self._catch_up()
            rows += [(table, _key_image(table, row)) for table, row in fanout.deleted_after(position, gone)]
        for payloads in self._encoder.gone_batches(job.ids, position, dict.fromkeys(rows)):
            self._send(payloads)
            await subscriber.socket.drain()
        fanout.see(subscriber, subscriber.tables - {table.id for table in gone}, {})
        fanout.release(subscriber)


def _key_image(table: Table, row: Row) -> Row:
    keys = frozenset(table.key_positions)
    return tuple(value if position in keys else None for position, value in enumerate(row))


@dataclass(frozen=True, slots=True)
class _Delivery:
    subscription: SubscriptionRecord
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class _Withdrawal:
    ids: tuple[str, ...]
    gone: tuple[Table, ...]
