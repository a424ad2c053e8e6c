"""Brings the tables of trees into memory's reach: from a snapshot, then up to the head of the log."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from leyden.edge.delivery.asking import Asking
from leyden.edge.delivery.fanout import FanOut
from leyden.events import Emit, TablesLoaded
from leyden.log import OutsideWindow, TransactionLog
from leyden.model import AddColumns, SnapshotPoint, Table, Transaction
from leyden.postgres.reading.snapshots import Snapshots
from leyden.postgres.replication.suspension import TableStrayed
from leyden.satellite.actions import World
from leyden.shapes.tree import Tree
from leyden.shapes.versions import VersionedTables

#: Pauses before attempts (seconds). Another one is needed when a table was altered or truncated meanwhile, when the
#: snapshot did not yet see what the log had, or when the log did not reach back to it any more.
PAUSES = (0.0, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0)

#: Transactions looked at before others have their turn.
SLICE = 200


class TablesNotLoaded(Exception):
    """The tables went on changing under the loading."""


class TableLoader:
    """Loads tables into the versions that the fan-out keeps. One loading at a time, whoever asks for it."""

    def __init__(
        self,
        fanout: FanOut,
        log: TransactionLog,
        snapshots: Snapshots,
        world: World,
        catch_up: Callable[[], Awaitable[None]],
        emit: Emit,
        asking: Asking | None = None,
    ) -> None:
        """``asking`` is needed for shapes that depend on questions."""
        self._fanout = fanout
        self._log = log
        self._snapshots = snapshots
        self._world = world
        self._catch_up = catch_up
        self._emit = emit
        self._asking = asking
        self._turn = asyncio.Lock()

    async def prepare(self, trees: Collection[Tree]) -> None:
        """Returns once all that ``trees`` need is kept, tables and answers. With nothing awaited in between, it mostly
        still is.

        Raises what :meth:`Asking.ensure` does, and what :meth:`ensure` does.
        """
        if self._asking is not None:
            await self._asking.ensure(question for tree in trees for question in tree.questions)
        await self.ensure(table for tree in trees for table in tree.needed.values() if table.id > 0)

    async def answered(self, trees: Iterable[Tree], position: int) -> None:
        """Returns once all that ``trees`` depend on is known up to ``position``."""
        if self._asking is not None:
            await self._asking.answered((question for tree in trees for question in tree.questions), position)

    async def ensure(self, tables: Iterable[Table]) -> None:
        """Returns once all ``tables`` are kept. With nothing awaited in between, they still are.

        Raises:
            TablesNotLoaded: it did not succeed in several attempts.
            psycopg.Error: the database is not available.
        """
        wanted = {table.id for table in tables}
        if all(table_id in self._versions for table_id in wanted):
            return
        async with self._turn:
            for pause in PAUSES:
                await asyncio.sleep(pause)
                with contextlib.suppress(TableStrayed):  # altered, or about to be suspended
                    # Others may have been altered while the missing ones were loaded.
                    while missing := self._missing(wanted):
                        if not await self._load(missing):
                            break
                    else:
                        return
        raise TablesNotLoaded

    def _missing(self, wanted: set[int]) -> list[Table]:
        described = {table.id: table for table in self._world.tables.values()}
        return [described[one] for one in wanted if one in described and one not in self._versions]

    @property
    def _versions(self) -> VersionedTables:
        return self._fanout.versions

    async def _load(self, tables: Sequence[Table]) -> bool:
        started = asyncio.get_running_loop().time()
        head, rows = self._log.head, 0
        async with self._snapshots.open() as snapshot:
            point = snapshot.point
            if not self._fanout.is_seen_by(point, head):
                return False
            for table in tables:
                self._versions.begin(table)
                async for batch in snapshot.rows(table):
                    self._versions.load(table, batch)
                    rows += len(batch)
                    await asyncio.sleep(0)
        await self._catch_up()
        try:
            if not await self._follow(tables, point, head):
                return False
        except OutsideWindow:
            return False
        if any(self._world.tables.get(table.name) != table for table in tables):
            return False
        for table in tables:
            self._versions.complete(table)
        seconds = asyncio.get_running_loop().time() - started
        self._emit(TablesLoaded(tuple(table.name for table in tables), rows, seconds))
        return True

    async def _follow(self, tables: Sequence[Table], point: SnapshotPoint, head: int) -> bool:
        """Whether the tables are now as the log tells; not if one of them was altered after the snapshot."""
        ids = {table.id for table in tables}
        position = self._log.floor
        if position > head:
            return False  # something that the snapshot does not see may have left the log
        seen: list[Transaction] = []
        unseen: list[Transaction] = []
        while batch := self._log.after(position, SLICE):
            position = batch[-1].position
            for transaction in batch:
                if _concerns(transaction, ids):
                    (seen if point.sees(transaction.xid) else unseen).append(transaction)
            if position > point.wal_position:
                break
            await asyncio.sleep(0)
        if any(_has_more(transaction, tables) for transaction in seen):
            return False
        for number, transaction in enumerate(reversed(seen)):
            for table in tables:
                self._versions.take_back(table, transaction)
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        while True:
            for transaction in unseen:
                # The snapshot may see an alteration of which `tables` do not tell yet.
                if _alters(transaction, ids) or not _fits(transaction, tables):
                    return False
                # An empty table is what a snapshot shows of one that was truncated after it was taken.
                if not all(self._versions.follow(table, transaction) for table in tables):
                    return False
            # In the end nothing is awaited between the last look at the log and the return.
            batch = self._log.after(position, SLICE)
            unseen = [one for one in batch if _concerns(one, ids)]
            if not batch:
                return True
            position = batch[-1].position
            if len(batch) == SLICE:
                await asyncio.sleep(0)


def _concerns(transaction: Transaction, ids: set[int]) -> bool:
    return any(change.table.id in ids for change in transaction.changes) or _alters(transaction, ids)


def _fits(transaction: Transaction, tables: Sequence[Table]) -> bool:
    described = {table.id: table for table in tables}
    return all(described.get(change.table.id, change.table) == change.table for change in transaction.changes)


def _has_more(transaction: Transaction, tables: Sequence[Table]) -> bool:
    """Whether its rows have columns that ``tables`` do not tell of yet."""
    widths = {table.id: len(table.columns) for table in tables}
    return any(len(change.table.columns) > widths.get(change.table.id, sys.maxsize) for change in transaction.changes)


def _alters(transaction: Transaction, ids: set[int]) -> bool:
    migration = transaction.migration
    changes = () if migration is None else migration.changes
    return any(isinstance(change, AddColumns) and change.table.id in ids for change in changes)
