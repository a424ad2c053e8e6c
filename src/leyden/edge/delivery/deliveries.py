"""Initial data, GONE batches and repairs for one connection, one at a time and never interleaved with transactions.

The splice is by visibility (docs/architecture.md): the client's stream is held at a position that the snapshot
certainly covers; afterwards the transactions that the snapshot already saw are left out for the table, all others
follow. A client that has other rows of the table already gets those too.

A migration must not fall between the two. The client would not have its columns yet, and what the snapshot saw of them
would not come again. So the client is brought past every migration known before it is held, and a snapshot that sees a
newer one is given back.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
    Set,
)
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace

from leyden.edge.delivery.covering import covering
from leyden.edge.delivery.fanout import FanOut, Subscriber
from leyden.edge.delivery.loading import TableLoader
from leyden.edge.delivery.repairing import Repairing
from leyden.edge.websocket.socket import Packet
from leyden.events import Emit, SubscriptionDelivered, SubscriptionProgress
from leyden.model import Row, SubscriptionRecord, Table
from leyden.postgres.clients import ClientStore
from leyden.postgres.reading.snapshots import Snapshot, Snapshots
from leyden.satellite.actions import Repair, World
from leyden.satellite.encoding import Encoder, key_image
from leyden.shapes.groups import Group
from leyden.shapes.request import Shape
from leyden.shapes.traversal import batches
from leyden.shapes.tree import Tree
from leyden.shapes.versions import AsOf
from leyden.shapes.view import Part, View

#: How long the client may take to prove that it has recorded the subscription (seconds).
BARRIER_TIMEOUT = 2.0

#: Pause before a client that did not answer is asked again whether it has the initial data (seconds).
CONFIRMATION_PAUSE = 1.0

#: Bytes of initial data that are gathered before they are sent. What fits into one write is hardly ever cut.
PARCEL_BYTES = 65_536

#: Pause between looks at whether the client has been sent what the log held (seconds).
BEHIND_PAUSE = 0.02

PROGRESS_ROWS = 100_000

#: The table's id and the primary key of a row.
RowKey = tuple[int, Row]


class ClientLeftError(Exception):
    """The client is sent nothing any more."""


class Deliveries:
    """The queue of deliveries of one connection; :meth:`run` works it off.

    It must follow whatever adds to the queue, unless it is under way. Most clients wait for nothing for most of their
    time, and nothing runs for them then.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        fanout: FanOut,
        encoder: Encoder,
        snapshots: Snapshots,
        loader: TableLoader,
        clients: ClientStore,
        world: World,
        catch_up: Callable[[], Awaitable[None]],
        emit: Emit,
        connection: int,
        cancellation: int,
    ) -> None:
        self._subscriber = subscriber
        self._fanout = fanout
        self._encoder = encoder
        self._snapshots = snapshots
        self._loader = loader
        self._clients = clients
        self._world = world
        self._catch_up = catch_up
        self._emit = emit
        self._connection = connection
        #: The last that the client was told of.
        self._cancellation = cancellation
        self._queue: list[_Delivery | _Withdrawal | Repairing] = []
        #: Subscriptions whose initial data was sent, and may be on its way.
        self._unconfirmed: list[str] = []

    @property
    def waiting(self) -> int:
        """Deliveries asked for and not begun."""
        return len(self._queue)

    def deliver(self, subscription: SubscriptionRecord, shapes: Sequence[Shape]) -> None:
        self._queue.append(_Delivery(subscription, tuple(shapes)))

    def withdraw(self, ids: Sequence[str], gone: frozenset[Part]) -> None:
        self._queue.append(_Withdrawal(tuple(ids), gone))

    def repair(self, repair: Repair) -> None:
        """The client is held from now on until it is brought up to date with this moment."""
        self._fanout.hold(self._subscriber)
        self._queue.append(
            Repairing(
                repair,
                self._subscriber,
                self._fanout,
                self._encoder,
                self._snapshots,
                self._world,
                self._emit,
                self._connection,
            )
        )

    async def run(self) -> None:
        """Until nothing waits, and the client has all that was sent."""
        while self._queue:
            job = self._queue.pop(0)
            if isinstance(job, _Delivery):
                try:
                    await self._deliver(job)
                except ClientLeftError:
                    return  # its connection is about to be closed
            elif isinstance(job, _Withdrawal):
                await self._withdraw(job)
            else:
                await job.run()
            while self._unconfirmed and not self._queue:
                if not await self._confirm():
                    await asyncio.sleep(CONFIRMATION_PAUSE)

    async def _confirm(self) -> bool:
        """Whether the client has, as its PONG proves, everything that was sent."""
        subscriber, ids = self._subscriber, tuple(self._unconfirmed)
        if not await subscriber.socket.ping(BARRIER_TIMEOUT):
            return False
        if ids:
            await self._clients.confirm_delivery(subscriber.client_id, ids)
            del self._unconfirmed[: len(ids)]
        return True

    # ---- initial data --------------------------------------------------------------------------------------------

    async def _deliver(self, job: _Delivery) -> None:
        started = time.monotonic()
        subscriber, fanout = self._subscriber, self._fanout
        # Data that reaches the client in one read with the answer to `subscribe` is processed before the client has
        # recorded the subscription, and is lost. Its PONG proves that the answer was handled.
        await self._confirm()
        rows = 0
        parts = [shape.part for shape in job.shapes]
        async with self._splice(parts) as splice:
            position, snapshot, tables = splice.position, splice.snapshot, splice.tables
            before = view = subscriber.view
            spliced = set(parts) - splice.kept - view.parts
            changed = {table_id for part in spliced for table_id in part.tables}
            held = await self._changed_but_held(position, changed)
            known = {id_: tables[id_] for part in parts for id_ in part.tables if id_ in tables}
            # As late as may be: whoever is cut off from now on is taken to have got a part of it.
            await self._clients.save_subscription(subscriber.client_id, job.subscription)
            parcel = _Parcel(job.subscription)
            parcel.add(self._encoder.relations(known.values()))
            parcel.add([self._encoder.subscription_begin(job.subscription.id, position, self._cancellation)])
            for shape in job.shapes:
                parcel.add([self._encoder.shape_begin(shape.request_id)])
                part = shape.part
                # Tables given up since are delivered empty.
                if part not in view.parts and part.tables.keys() <= tables.keys():
                    if part in spliced:
                        assert isinstance(part, Group)
                        batches_of = self._snapshot_rows(part, tables[part.table.id], snapshot, view, held)
                    else:
                        batches_of = self._kept_rows(part, splice.at, view)
                    async with aclosing(batches_of):
                        async for payloads, number in batches_of:
                            parcel.add(payloads)
                            await self._send_if_full(parcel)
                            await asyncio.sleep(0)  # a fast client and a fast database would leave nobody else a turn
                            reported = rows // PROGRESS_ROWS
                            rows += number
                            if rows // PROGRESS_ROWS > reported:
                                self._emit(SubscriptionProgress(self._connection, job.subscription.id, rows))
                    view = view.with_parts([part])
                parcel.add([self._encoder.SHAPE_END])
            parcel.add([self._encoder.SUBSCRIPTION_END])
            await fanout.opened()
            self._send(parcel.taken())
            self._unconfirmed.append(job.subscription.id)
        # Of a table that is new to the client it has all that the snapshot saw. Of one that it has rows of, these are
        # as of its position: what follows is sent for all of the table, and what the snapshot saw of it once more,
        # which ends in the same.
        replayed = changed & before.tables
        fanout.see(subscriber, view, dict.fromkeys(changed - replayed, snapshot.point), replayed)
        fanout.release(subscriber)
        seconds = time.monotonic() - started
        self._emit(SubscriptionDelivered(self._connection, job.subscription.id, rows, seconds))

    def _is_kept(self, part: Part) -> bool:
        """Whether the rows of ``part`` at any position are known here. Then no snapshot is needed, nor a splice."""
        return all(table_id in self._fanout.versions for table_id in part.needed)

    async def _kept_rows(self, part: Part, at: AsOf, held: View) -> AsyncGenerator[tuple[list[bytes], int]]:
        """The rows of ``part`` that are not in ``held``, as messages, and how many."""
        view = View([part])
        for batch in batches(part, at, held):
            payloads: list[bytes] = []
            for table, versions in itertools.groupby(batch, key=lambda version: version.table):
                rows = [(view.shown(table, one.row), one.tags) for one in versions]
                payloads += self._encoder.initial_rows(table, rows)
            yield payloads, len(batch)

    async def _snapshot_rows(
        self, group: Group, table: Table, snapshot: Snapshot, view: View, held: Collection[RowKey]
    ) -> AsyncGenerator[tuple[list[bytes], int]]:
        """The rows of ``group``, without those that the client has already, for being in ``view`` or ``held``: sent
        again they would be ignored, and their tags replaced."""
        if view.holds_all(table):
            return

        def is_news(row: Row) -> bool:
            return not view.holds(table, row) and (table.id, table.key_of(row)) not in held

        overlaps, of_group = table.id in view.tables, View([group])
        hides = of_group.hides(table)
        async for batch in snapshot.rows(table, group.condition):
            news = [(row, tags) for row, tags in batch if is_news(row)] if overlaps else batch
            if hides:
                news = [(of_group.shown(table, row), tags) for row, tags in news]
            yield self._encoder.initial_rows(table, news), len(news)

    async def _changed_but_held(self, position: int, tables: Set[int]) -> Collection[RowKey]:
        """On ``tables``, the rows that the client has and that have changed since its ``position``. What a snapshot
        shows of them does not tell that it has them; what became of them comes with the stream."""
        view = self._subscriber.view
        overlap = view.tables & tables
        if not overlap:
            return ()
        await self._catch_up()
        changed = self._fanout.changed_after(position, overlap)
        return {(table.id, table.key_of(row)) for table, row in changed if view.holds(table, row)}

    @asynccontextmanager
    async def _splice(self, parts: Sequence[Part]) -> AsyncIterator[_Splice]:
        """Holds the client at a position from which ``parts`` can be delivered."""
        subscriber, fanout = self._subscriber, self._fanout
        trees = [part for part in parts if isinstance(part, Tree)]
        questions = [question for tree in trees for question in tree.questions]
        while True:
            await self._loader.prepare(trees)
            kept = frozenset(part for part in parts if self._is_kept(part))
            if kept:
                # The client must have the same of each table at its position, also of those from earlier snapshots.
                await self._catch_up()
            # In one step: what is known of tables and versions is what the log holds up to its head.
            head = fanout.head
            newest = max((migration.version for migration in self._world.migrations), default="")
            tables = {table.id: table for table in self._world.tables.values()}
            while not subscriber.live and subscriber.position < head:  # noqa: ASYNC110 - it depends on the client
                await asyncio.sleep(BEHIND_PAUSE)
            position = fanout.hold(subscriber)
            if subscriber.left:
                # A table that it sees was altered, and it has not been told: it must not get rows with the new columns.
                raise ClientLeftError
            if kept:
                subscriber.filters.clear()  # it has been sent all that they could concern
            await self._loader.answered(trees, position)
            async with self._covering(position) as snapshot:
                # A table that is kept is forgotten when it is altered. So are answers; those that another client needed
                # then hold from a later position on.
                is_current = await snapshot.newest_version() <= newest
                is_kept = all(map(self._is_kept, kept))
                if is_current and is_kept and fanout.questions.are_known_since(questions, position):
                    yield _Splice(position, snapshot, tables, kept, fanout.versions.as_of(position))
                    return
            fanout.release(subscriber)
            await self._catch_up()

    def _covering(self, position: int) -> AbstractAsyncContextManager[Snapshot]:
        return covering(self._snapshots, self._fanout, position)

    async def _send_if_full(self, parcel: _Parcel) -> None:
        """Sends what was gathered, unless it is little, and returns when there is room for more."""
        if parcel.size >= PARCEL_BYTES:
            if not parcel.is_further:
                in_parts = replace(parcel.subscription, in_parts=True)
                await self._clients.save_subscription(self._subscriber.client_id, in_parts)
            await self._fanout.opened()
            self._send(parcel.taken())
        await self._subscriber.socket.drain()

    def _send(self, payloads: Iterable[bytes]) -> None:
        self._subscriber.socket.send(Packet(payloads))

    # ---- GONE ----------------------------------------------------------------------------------------------------

    async def _withdraw(self, job: _Withdrawal) -> None:
        """Tells the client which rows to drop: those it holds for groups that it gave up, and for no other."""
        subscriber, fanout = self._subscriber, self._fanout
        position = fanout.hold(subscriber)
        number = await self._clients.cancel_subscriptions(subscriber.client_id, job.ids, position)
        if subscriber.left:
            return  # a table that it sees was altered
        gone = View(job.gone & subscriber.view.parts)
        remaining = subscriber.view.without(gone.parts)
        rows: list[tuple[Table, Row]] = []
        # Not those that others alone see in a tree: such a table may be forgotten while this client stays.
        kept = [part for part in gone.parts if part.tables.keys() <= subscriber.view.tables_of_trees]
        at = fanout.versions.as_of(position)
        for part in kept:
            for versions in batches(part, at, remaining):
                rows += [(version.table, version.key[1]) for version in versions]
                await asyncio.sleep(0)
        others = gone.without(kept)
        if others.parts:
            async with self._covering(position) as snapshot:
                for group in others.parts:
                    assert isinstance(group, Group)  # the tables of trees are kept as long as anybody sees them
                    table = group.table
                    if not remaining.holds_all(table):
                        async for batch in snapshot.rows(table, group.condition):
                            rows += [(table, table.key_of(row)) for row, _ in batch if not remaining.holds(table, row)]
            # A row that left the group between the client's position and the snapshot is in neither the snapshot nor,
            # from now on, the client's stream.
            await self._catch_up()
            rows += [
                (table, table.key_of(row))
                for table, row in fanout.changed_after(position, others.tables)
                if others.holds(table, row) and not remaining.holds(table, row)
            ]
        # In the newest description: the client may know fewer columns than a key comes with, but not more.
        newest = {table.id: table for table, _ in rows} | {table.id: table for table in self._world.tables.values()}
        images = dict.fromkeys((newest[table.id], key_image(newest[table.id], key)) for table, key in rows)
        before, self._cancellation = self._cancellation, number
        for payloads in self._encoder.gone_batches(job.ids, position, images, before=before, cancellation=number):
            self._send(payloads)
            await subscriber.socket.drain()
        fanout.see(subscriber, remaining, {})
        fanout.release(subscriber)


@dataclass(frozen=True, slots=True)
class _Splice:
    """A position at which the client is held, and from what it is served there."""

    position: int
    #: Covers the position. The client has been sent every migration that it sees.
    snapshot: Snapshot
    #: By id, as they are described at both.
    tables: Mapping[int, Table]
    #: Whose rows are taken from ``at``, the others' from the snapshot. All trees are among them.
    kept: frozenset[Part]
    at: AsOf


class _Parcel:
    """Initial data of ``subscription`` that is gathered before it is sent."""

    def __init__(self, subscription: SubscriptionRecord) -> None:
        self.subscription = subscription
        self.size = 0
        #: Whether an earlier part was sent.
        self.is_further = False
        self._payloads: list[bytes] = []

    def add(self, payloads: Iterable[bytes]) -> None:
        for payload in payloads:
            self._payloads.append(payload)
            self.size += len(payload)

    def taken(self) -> list[bytes]:
        payloads, self._payloads, self.size, self.is_further = self._payloads, [], 0, True
        return payloads


@dataclass(frozen=True, slots=True)
class _Delivery:
    subscription: SubscriptionRecord
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class _Withdrawal:
    ids: tuple[str, ...]
    gone: frozenset[Part]
