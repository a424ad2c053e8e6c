"""The tables of trees are loaded until all are there, whatever is altered meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from leyden.edge.delivery.fanout import FanOut
from leyden.edge.delivery.loading import TableLoader
from leyden.log.memory import MemoryLog
from leyden.model import Column, Delete, Insert, Row, SnapshotPoint, Table, Transaction
from leyden.satellite.encoding import Encoder
from leyden.satellite.positions import Positions


def table(number: int) -> Table:
    return Table(number, f"t{number}", (Column("id", "text", True),), ("id",), f"t{number}_pkey")


class Stage:
    """A database of two tables; reading one of them can make the other one go."""

    def __init__(self) -> None:
        self.tables = {one.name: one for one in (table(1), table(2))}
        self.log = MemoryLog(1 << 20)
        self.fanout = FanOut(self.log, Encoder(Positions("e")))
        self.read: list[int] = []
        self.forgotten_while_read: dict[int, int] = {}
        #: Committed while the first snapshot is read, which shows no rows then.
        self.committing: Transaction | None = None
        self.xmax = 1
        self.loader = TableLoader(
            self.fanout, self.log, cast(Any, self), cast(Any, self), self.catch_up, lambda event: None
        )

    async def catch_up(self) -> None:
        if self.committing is not None:
            self.log.append(self.committing, 1)
            self.tables |= {change.table.name: change.table for change in self.committing.changes}
            self.committing, self.xmax = None, 6

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stage]:
        yield self

    @property
    def point(self) -> SnapshotPoint:
        return SnapshotPoint(self.xmax, self.xmax, frozenset(), 0)

    async def rows(self, table: Table) -> AsyncIterator[list[tuple[Row, tuple[str, ...]]]]:
        self.read.append(table.id)
        row = (b"b", *(None for _ in table.columns[1:]))
        yield [] if self.committing is not None else [(row, ("t@0",))]
        other = self.forgotten_while_read.pop(table.id, None)
        if other is not None:
            self.fanout.versions.forget(other)


async def test_a_table_that_goes_while_another_is_loaded_is_loaded_again() -> None:
    stage = Stage()
    await stage.loader.ensure([stage.tables["t1"]])
    stage.forgotten_while_read = {2: 1}

    await stage.loader.ensure(stage.tables.values())

    assert stage.read == [1, 2, 1]
    assert sorted(stage.fanout.versions.kept) == [1, 2]


async def test_a_table_truncated_after_the_snapshot_was_taken_is_loaded_again() -> None:
    stage = Stage()
    truncated = stage.tables["t1"]
    stage.committing = Transaction(10, 5, 1, None, (Delete(truncated, (b"a",)),))

    await stage.loader.ensure([truncated])

    assert stage.read == [1, 1]
    keys = {
        position: sorted(row.row for batch in stage.fanout.versions.as_of(position).batches(1, {}) for row in batch)
        for position in (9, 10)
    }
    assert keys == {9: [(b"a",), (b"b",)], 10: [(b"b",)]}


async def test_rows_with_a_column_that_is_not_known_yet_are_no_reason_to_fail() -> None:
    stage = Stage()
    known = stage.tables["t1"]
    altered = Table(1, "t1", (*known.columns, Column("note", "text", False)), ("id",), "t1_pkey")
    stage.committing = Transaction(10, 5, 1, None, (Insert(altered, (b"a", b"x"), ("t@1",)),))

    await stage.loader.ensure([known])

    assert stage.read == [1, 1]
    assert list(stage.fanout.versions.kept) == [1]


async def test_rows_seen_by_the_snapshot_with_a_column_that_is_not_known_yet_are_none_either() -> None:
    stage = Stage()
    known = stage.tables["t1"]
    altered = Table(1, "t1", (*known.columns, Column("note", "text", False)), ("id",), "t1_pkey")
    stage.committing, stage.xmax = Transaction(10, 5, 1, None, (Delete(altered, (b"a", b"x")),)), 6

    await stage.loader.ensure([known])

    assert stage.read == [1, 1]
    assert list(stage.fanout.versions.kept) == [1]


async def test_what_is_there_is_not_loaded_again_and_what_is_gone_not_waited_for() -> None:
    stage = Stage()
    await stage.loader.ensure(stage.tables.values())
    await stage.loader.ensure([*stage.tables.values(), table(3)])

    assert sorted(stage.read) == [1, 2]
