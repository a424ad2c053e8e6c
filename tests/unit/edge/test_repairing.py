"""A repair as the client gets it: what it is told, in which transactions, and what follows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from google.protobuf.message import Message

from leyden.edge.delivery import repairing
from leyden.edge.delivery.deliveries import Deliveries
from leyden.edge.delivery.fanout import FanOut, Subscriber
from leyden.edge.delivery.repairing import RepairInterruptedError
from leyden.edge.websocket.socket import Packet
from leyden.events import ClientRepaired, Event
from leyden.log.memory import MemoryLog
from leyden.model import (
    AddColumns,
    Change,
    Checkpoint,
    Column,
    CreateTable,
    Insert,
    Migration,
    Row,
    SnapshotPoint,
    Table,
    Transaction,
    Update,
)
from leyden.postgres.reading.written import Former, WrittenRow
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.actions import Repair
from leyden.satellite.encoding import Encoder
from leyden.satellite.frames import decode
from leyden.satellite.migrations import Dialect
from leyden.satellite.positions import Positions
from leyden.shapes.request import Select
from leyden.shapes.view import Part, View
from linked_tables import ISSUES, PROJECTS, TABLES, USERS, include, part, row
from views import group

ITEMS = Table(
    90,
    "items",
    (Column("id", "text", True), Column("kind", "text", False), Column("electric_user_id", "text", False)),
    ("id",),
    "p",
)
OLD = b"e-5-20240101"
HEAD = 50


class Stage:
    """A client whose position the log does not hold, and a database."""

    def __init__(self, *parts: Part, user_id: str | None = None) -> None:
        self.log = MemoryLog(1 << 20, floor=HEAD)
        self.encoder = Encoder(Positions("e"))
        self.events: list[Event] = []
        self.fanout = FanOut(self.log, self.encoder, self.events.append)
        self.tables = {"items": ITEMS, **TABLES}
        self.migrations: list[Migration] = []
        #: What the snapshot sees of the schema, and whether anything was forgotten.
        self.newest = ""
        self.can_tell = True
        self.seen = HEAD
        self.written: dict[int, list[WrittenRow]] = {}
        self.messages: list[Message] = []
        self.dropped: list[str] = []
        self.subscriber = Subscriber("c", cast(Any, self), Dialect.SQLITE, View(parts), HEAD, self.dropped.append)
        self.repair = Repair(OLD, 5, "20240101", Checkpoint(4, 3), user_id)
        self.deliveries = Deliveries(
            self.subscriber,
            self.fanout,
            self.encoder,
            cast(Any, self),
            cast(Any, self),
            cast(Any, self),
            cast(Any, self),
            cast(Any, None),
            self.events.append,
            1,
            0,
        )

    # ---- socket

    buffered = 0

    def send(self, packet: Packet) -> bool:
        self.messages += map(decode, packet.payloads)
        return True

    async def drain(self) -> None:
        await asyncio.sleep(0)

    # ---- snapshots

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stage]:
        yield self

    @property
    def point(self) -> SnapshotPoint:
        return SnapshotPoint(self.seen + 1, self.seen + 1, frozenset(), self.seen)

    async def newest_version(self) -> str:
        return self.newest

    async def can_tell_since(self, position: int) -> bool:
        assert position == self.repair.position
        return self.can_tell

    async def written_rows(self, table: Table, xid: int) -> AsyncGenerator[list[WrittenRow]]:
        assert xid == self.repair.checkpoint.xid
        for one in self.written.get(table.id, ()):
            yield [one]

    async def written_keys(self, table: Table, xid: int) -> AsyncGenerator[list[tuple[Row, Former]]]:
        async for rows in self.written_rows(table, xid):
            yield [(one.key, one.former) for one in rows]

    # ---- what happens

    def load(self, rows: Iterable[tuple[Table, Row]]) -> None:
        """The tables of trees are kept."""
        versions = self.fanout.versions
        for table in TABLES.values():
            versions.begin(table)
            versions.load(table, [(one, ("t@1",)) for other, one in rows if other is table])
            versions.complete(table)

    def wrote(self, table: Table, key: str, *values: str | None, **former: Sequence[str | None]) -> None:
        image = None if not values else tuple(None if one is None else one.encode() for one in (key, *values))
        ties = {name: [None if one is None else one.encode() for one in ones] for name, ones in former.items()}
        self.written.setdefault(table.id, []).append(WrittenRow((key.encode(),), ties, image, ("t@2",)))

    def commit(self, position: int, *changes: Change) -> None:
        self.log.append(Transaction(position, position, 7, None, changes), 1)

    async def run(self) -> None:
        """Repairs, then waits until the client is released."""
        self.deliveries.repair(self.repair)
        self.fanout.join(self.subscriber)
        async with asyncio.timeout(10):
            await self.deliveries._queue.pop(0).run()  # type: ignore[union-attr]

    # ---- what the client got

    @property
    def transactions(self) -> list[tuple[bytes, list[str]]]:
        """Of each, the position and what is in it."""
        found: list[tuple[bytes, list[str]]] = []
        is_open = False
        for log in (message for message in self.messages if isinstance(message, pb.SatOpLog)):
            for op in log.ops:
                kind = op.WhichOneof("op")
                if kind == "begin":
                    assert not is_open
                    assert op.begin.transaction_id
                    assert op.begin.origin
                    is_open = True
                    found.append((op.begin.lsn, []))
                elif kind == "commit":
                    assert is_open
                    is_open = False
                else:
                    found[-1][1].append(_shown(op))
        assert not is_open
        return found


def _shown(op: pb.SatTransOp) -> str:
    match op.WhichOneof("op"):
        case "insert":
            return "+" + op.insert.row_data.values[0].decode()
        case "update":
            return "~" + op.update.row_data.values[0].decode()
        case "gone":
            assert not any(op.gone.pk_data.values[1:])
            return "-" + op.gone.pk_data.values[0].decode()
        case "migrate":
            return op.migrate.version
    return str(op.WhichOneof("op"))


async def test_rows_that_pass_are_sent_and_others_go_and_the_client_ends_at_the_head() -> None:
    stage = Stage(group(ITEMS, "this.kind = 'a'"))
    stage.wrote(ITEMS, "1", "a", None)
    stage.wrote(ITEMS, "2", "b", None)
    stage.wrote(ITEMS, "3")
    await stage.run()
    assert stage.transactions == [(OLD, ["+1", "-2", "-3"]), (b"e-50", [])]
    assert isinstance(stage.messages[0], pb.SatRelation)
    (event,) = stage.events
    assert isinstance(event, ClientRepaired)
    assert (event.connection, event.position, event.rows, event.gone) == (1, 5, 1, 2)


async def test_what_was_never_the_clients_is_not_named() -> None:
    stage = Stage(group(ITEMS, "this.kind = 'a' AND this.electric_user_id = 'me'"), user_id="me")
    stage.wrote(ITEMS, "mine", "a", "me")
    stage.wrote(ITEMS, "was mine", "a", "you", electric_user_id=["me"])
    stage.wrote(ITEMS, "was everybody's", "a", "you", electric_user_id=[None, "we"])
    stage.wrote(ITEMS, "yours", "a", "you")
    stage.wrote(ITEMS, "yours, now dead", electric_user_id=["you"])
    await stage.run()
    # the filter says that it cannot have had those of everybody
    assert stage.transactions == [(OLD, ["+mine", "-was mine"]), (b"e-50", [])]


async def test_much_comes_in_several_transactions_of_which_only_the_last_leads_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(repairing, "TRANSACTION_OPERATIONS", 2)
    stage = Stage(group(ITEMS))
    for key in "12345":
        stage.wrote(ITEMS, key, "a", None)
    await stage.run()
    assert stage.transactions == [(OLD, ["+1", "+2"]), (OLD, ["+3", "+4"]), (OLD, ["+5"]), (b"e-50", [])]


async def test_the_migrations_that_it_may_lack_come_first_each_in_a_transaction_of_its_own() -> None:
    stage = Stage(group(ITEMS))
    # the second and third came after the checkpoint; the client says that it has none after the first
    for version, xid in (("20240101", 2), ("20240102", 3), ("20240103", 9), ("20240104", 1)):
        stage.migrations.append(Migration(version, xid, 1, (CreateTable(ITEMS),)))
    stage.newest = "20240104"
    stage.wrote(ITEMS, "1", "a", None)
    await stage.run()
    versions = [(OLD, [version]) for version in ("20240102", "20240103", "20240104")]
    assert stage.transactions == [*versions, (OLD, ["+1"]), (b"e-50", [])]


async def test_a_client_without_subscriptions_is_told_where_it_stands() -> None:
    stage = Stage()
    await stage.run()
    assert stage.transactions == [(b"e-50", [])]
    assert stage.subscriber.live


async def test_what_comes_meanwhile_follows_as_far_as_it_was_not_seen() -> None:
    stage = Stage(group(ITEMS))
    stage.wrote(ITEMS, "1", "seen", None)
    stage.seen = 60
    stage.deliveries.repair(stage.repair)
    stage.fanout.join(stage.subscriber)
    stage.commit(60, Update(ITEMS, (b"1", None, None), (b"1", b"seen", None), ("t@2",)))
    stage.commit(70, Insert(ITEMS, (b"2", None, None), ("t@3",)))
    assert stage.messages == []
    await stage.deliveries._queue.pop(0).run()  # type: ignore[union-attr]
    assert stage.transactions == [(OLD, ["+1"]), (b"e-50", []), (b"e-70", ["+2"])]
    stage.commit(80, Insert(ITEMS, (b"3", None, None), ("t@3",)))
    assert stage.transactions[-1] == (b"e-80", ["+3"])


@pytest.mark.parametrize("reason", ["schema", "forgotten", "altered"])
async def test_what_cannot_be_told_wholly_is_not_begun(reason: str) -> None:
    stage = Stage(group(ITEMS))
    stage.wrote(ITEMS, "1", "a", None)
    if reason == "schema":
        stage.newest = "20240102"  # the stream has not brought it yet
    elif reason == "forgotten":
        stage.can_tell = False
    else:
        altered = Table(90, "items", (*ITEMS.columns, Column("more", "text", False)), ("id",), "p")
        stage.tables["items"] = altered
        stage.migrations.append(Migration("20240102", 9, 1, (AddColumns(altered, ("more",)),)))
    with pytest.raises(RepairInterruptedError):
        await stage.run()
    assert stage.messages == []
    assert not stage.subscriber.live


# ---- trees -------------------------------------------------------------------------------------------------------

MINE = part(Select("projects", "this.owner_id = 1", (include("project_id", Select("issues")),)))
ROWS = [
    *((USERS, row(key, "u", None)) for key in (1, 2, 3)),
    (PROJECTS, row(10, "open", 2)),
    (PROJECTS, row(11, "open", 1)),
    (ISSUES, row(100, "x", 10, 3)),
    (ISSUES, row(110, "x", 11, 1)),
]


async def test_of_trees_what_moved_comes_parents_first_and_goes_children_first() -> None:
    stage = Stage(MINE, group(ITEMS))
    stage.load(ROWS)
    stage.wrote(PROJECTS, "10", "open", "2", owner_id=["1"])  # it was mine
    stage.wrote(PROJECTS, "11", "open", "1", owner_id=["2"])
    stage.wrote(ITEMS, "1", "a", None)
    await stage.run()
    first, _ = stage.transactions
    assert first == (OLD, ["+1", "+1", "+11", "+110", "-100", "-10", "-2", "-3"])


async def test_of_trees_the_client_gets_the_rows_of_its_position_and_all_that_follows() -> None:
    stage = Stage(MINE)
    stage.load(ROWS)
    stage.wrote(ISSUES, "110", "y", "11", "1")
    stage.seen = 60
    stage.deliveries.repair(stage.repair)
    stage.fanout.join(stage.subscriber)
    stage.commit(60, Update(ISSUES, row(110, "x", 11, 1), row(110, "y", 11, 1), ("t@2",)))
    stage.log.append(Transaction(70, 70, 7, None, (Insert(USERS, row(4, "u", None), ("t@3",)),)), 1)
    stage.log.trim(60)
    stage.fanout.tick()  # what it still has to be sent is kept
    await stage.deliveries._queue.pop(0).run()  # type: ignore[union-attr]
    logs = [message for message in stage.messages if isinstance(message, pb.SatOpLog)]
    issues = [op.insert.row_data.values[1] for log in logs for op in log.ops if op.insert.relation_id == ISSUES.id]
    assert issues == [b"x"]
    # The log has gone on without it: it comes back to be repaired once more, from here.
    assert stage.transactions[-1] == (b"e-50", [])
    assert stage.dropped == ["too far behind: its position is no longer held"]


async def test_a_table_altered_in_the_middle_ends_it() -> None:
    stage = Stage(MINE)
    stage.load(ROWS)
    for key in range(100):
        stage.wrote(ISSUES, str(key + 200))
    stage.deliveries.repair(stage.repair)
    stage.fanout.join(stage.subscriber)
    running = asyncio.ensure_future(stage.deliveries._queue.pop(0).run())  # type: ignore[union-attr]
    for _ in range(10):
        await asyncio.sleep(0)
    altered = Table(ISSUES.id, "issues", (*ISSUES.columns, Column("more", "text", False)), ("id",), "p")
    migration = Migration("20240102", 60, 1, (AddColumns(altered, ("more",)),))
    stage.log.append(Transaction(60, 60, 7, None, (), migration), 1)
    with pytest.raises(RepairInterruptedError):
        await running
    assert stage.dropped == ["a table it sees was altered"]
    assert (b"e-50", []) not in stage.transactions
