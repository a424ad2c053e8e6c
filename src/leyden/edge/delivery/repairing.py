"""Brings a client up to date that was away for longer than the log reaches back.

The client is held at a position. What it may lack at that position, or hold and should not, is told from the rows that
were written since a checkpoint: of tables without trees as a snapshot sees them, of others as they were at the
position. It is sent as transactions that say that the client has come no further than before, and a last one, without
rows, that says where it stands. So one that is cut off in between is brought up to date once more, from the beginning.

Transactions that come while this goes on follow when the client is released. What it uploads meanwhile is among them.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from contextlib import closing

from leyden.edge.delivery.covering import covering
from leyden.edge.delivery.fanout import FanOut, Subscriber
from leyden.edge.websocket.socket import Packet
from leyden.events import ClientRepaired, Emit
from leyden.model import Migration, Row, SnapshotPoint, Table
from leyden.postgres.reading.snapshots import Snapshot, Snapshots
from leyden.postgres.reading.written import WrittenRow
from leyden.satellite.actions import Repair, World
from leyden.satellite.encoding import Encoder
from leyden.shapes.aftermath import Aftermath, Telling, may_have_held
from leyden.shapes.versions import Version

#: Operations of a transaction. The client applies it as a whole, and holds it in memory until then.
TRANSACTION_OPERATIONS = 5_000


class RepairInterruptedError(Exception):
    """It has to be begun anew, for the reason given; the client comes back for it."""


class Repairing:
    """One repair. Made when the client is held: what is known of tables is then what the log holds up to there."""

    def __init__(
        self,
        repair: Repair,
        subscriber: Subscriber,
        fanout: FanOut,
        encoder: Encoder,
        snapshots: Snapshots,
        world: World,
        emit: Emit,
        connection: int,
    ) -> None:
        self._repair = repair
        self._subscriber = subscriber
        self._fanout = fanout
        self._encoder = encoder
        self._snapshots = snapshots
        self._emit = emit
        self._connection = connection
        self._position = subscriber.position
        self._tables = {table.id: table for table in world.tables.values()}
        self._migrations = _missed(world.migrations, repair)
        self._newest = max((migration.version for migration in world.migrations), default="")
        self._transaction = _Transaction(subscriber, encoder, repair.lsn)

    async def run(self) -> None:
        started = time.monotonic()
        subscriber, view = self._subscriber, self._subscriber.view
        for id_, table in view.described.items():
            if self._tables.get(id_, table) != table:
                raise RepairInterruptedError("a table was altered while a client came back to it")
        position = self._position
        of_trees = [self._tables[id_] for id_ in view.tables_of_trees if id_ in self._tables]
        others = [self._tables[id_] for id_ in view.tables - view.tables_of_trees if id_ in self._tables]
        with closing(Aftermath(view, self._fanout.versions, position, self._repair.user_id)) as aftermath:
            async with covering(self._snapshots, self._fanout, position) as snapshot:
                await self._require_whole_story(snapshot)
                self._announce(snapshot.point, [*of_trees, *others])
                for table in of_trees:
                    async for keys in snapshot.written_keys(table, self._repair.checkpoint.xid):
                        aftermath.wrote(table, keys)
                        await self._others_turn()
                for table in others:
                    telling = Telling(table, self._repair.user_id)
                    async for rows in snapshot.written_rows(table, self._repair.checkpoint.xid):
                        await self._tell(table, telling, rows)
            await self._tell_of_trees(aftermath)
        await self._transaction.end()
        self._send([self._encoder.repair_begin(lsn := self._encoder.lsn(position), self._transaction.xid)])
        self._send([self._encoder.repair_end(lsn)])
        # Of these tables it has what the snapshot saw.
        self._fanout.see(subscriber, view, dict.fromkeys((table.id for table in others), snapshot.point))
        self._fanout.release(subscriber)
        transaction, seconds = self._transaction, time.monotonic() - started
        self._emit(ClientRepaired(self._connection, self._repair.position, transaction.rows, transaction.gone, seconds))

    async def _require_whole_story(self, snapshot: Snapshot) -> None:
        if await snapshot.newest_version() > self._newest:
            # The client would not have the columns of its rows.
            raise RepairInterruptedError("the schema changed while a client came back")
        if not await snapshot.can_tell_since(self._repair.position):
            raise RepairInterruptedError("what a client missed was forgotten while it came back")

    def _announce(self, point: SnapshotPoint, tables: Sequence[Table]) -> None:
        self._transaction.xid = max(point.xmin - 1, 1)
        payloads: list[bytes] = []
        for migration in self._migrations:
            payloads += self._encoder.missed_migration(migration, self._subscriber.dialect, self._repair.lsn)
        self._send(payloads + self._encoder.relations(tables))

    def _send(self, payloads: Sequence[bytes]) -> None:
        if payloads:
            self._subscriber.socket.send(Packet(payloads))

    async def _others_turn(self) -> None:
        await asyncio.sleep(0)
        if self._subscriber.left:
            raise RepairInterruptedError("the client can be served no further")

    # ---- tables without trees ------------------------------------------------------------------------------------

    async def _tell(self, table: Table, telling: Telling, written: Sequence[WrittenRow]) -> None:
        view = self._subscriber.view
        groups = view.groups_on(table.id)
        staying = [one for one in written if one.row is not None and view.holds(table, one.row)]
        held = {one.key for one in staying}
        leaving = [
            one.key
            for one in written
            if one.key not in held
            and telling.allowed(one.row, one.former)
            and any(may_have_held(group, one.row, one.former) for group in groups)
        ]
        rows = [(view.shown(table, one.row), one.tags) for one in staying if one.row is not None]
        await self._fanout.opened()
        await self._transaction.add(table, rows, leaving)
        await self._others_turn()

    # ---- tables of trees -----------------------------------------------------------------------------------------

    async def _tell_of_trees(self, aftermath: Aftermath) -> None:
        for _ in aftermath.follow():
            await self._others_turn()
        view = self._subscriber.view
        for versions in aftermath.staying():
            for table, rows in itertools.groupby(versions, key=_table_of):
                shown = [(view.shown(table, one.row), one.tags) for one in rows]
                await self._fanout.opened()
                await self._transaction.add(table, shown, [])
            await self._others_turn()
        for leaving in aftermath.leaving():
            for table, keys in itertools.groupby(leaving, key=lambda one: one.table):
                await self._transaction.add(self._tables.get(table.id, table), [], [one.key for one in keys])
            await self._others_turn()


class _Transaction:
    """Collects operations into transactions, and sends them as they come."""

    def __init__(self, subscriber: Subscriber, encoder: Encoder, lsn: bytes) -> None:
        self._subscriber = subscriber
        self._encoder = encoder
        self._lsn = lsn
        self._operations = 0
        #: Of no transaction that follows: the client acknowledges none twice in a row.
        self.xid = 1
        self.rows = 0
        self.gone = 0

    async def add(self, table: Table, rows: Sequence[tuple[Row, tuple[str, ...]]], gone: Sequence[Row]) -> None:
        if not rows and not gone:
            return
        payloads = [] if self._operations else [self._encoder.repair_begin(self._lsn, self.xid)]
        payloads += self._encoder.initial_rows(table, rows)
        payloads += self._encoder.gone((table, key) for key in gone)
        self._subscriber.socket.send(Packet(payloads))
        self._operations += len(rows) + len(gone)
        self.rows += len(rows)
        self.gone += len(gone)
        if self._operations >= TRANSACTION_OPERATIONS:
            await self.end()
        else:
            await self._subscriber.socket.drain()

    async def end(self) -> None:
        if self._operations:
            self._subscriber.socket.send(Packet([self._encoder.repair_end(self._lsn)]))
            self._operations = 0
        await self._subscriber.socket.drain()


def _missed(migrations: Sequence[Migration], repair: Repair) -> tuple[Migration, ...]:
    """Those that the client may lack. The client skips those that it has."""
    version = repair.version
    return tuple(
        one for one in migrations if one.xid >= repair.checkpoint.xid or (version is not None and one.version > version)
    )


def _table_of(version: Version) -> Table:
    return version.table
