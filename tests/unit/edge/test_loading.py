"""The tables of trees are loaded until all are there, whatever is altered meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from leyden.edge.fanout import FanOut
from leyden.edge.loading import TableLoader
from leyden.log.memory import MemoryLog
from leyden.model import Column, Row, SnapshotPoint, Table
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
        self.loader = TableLoader(
            self.fanout, self.log, cast(Any, self), cast(Any, self), self.catch_up, lambda event: None
        )

    async def catch_up(self) -> None: ...

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stage]:
        yield self

    @property
    def point(self) -> SnapshotPoint:
        return SnapshotPoint(1, 1, frozenset(), 0)

    async def rows(self, table: Table) -> AsyncIterator[list[tuple[Row, tuple[str, ...]]]]:
        self.read.append(table.id)
        yield [((b"a",), ("t@0",))]
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


async def test_what_is_there_is_not_loaded_again_and_what_is_gone_not_waited_for() -> None:
    stage = Stage()
    await stage.loader.ensure(stage.tables.values())
    await stage.loader.ensure([*stage.tables.values(), table(3)])

    assert sorted(stage.read) == [1, 2]
