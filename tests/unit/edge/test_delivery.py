"""How initial data is spliced into the stream when a migration comes between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
from google.protobuf.message import Message

from leyden.edge.delivery import deliveries
from leyden.edge.delivery.deliveries import Deliveries
from leyden.edge.delivery.fanout import FanOut, Subscriber
from leyden.edge.websocket.socket import HIGH_WATER_BYTES, Packet
from leyden.events import Event, SubscriptionProgress
from leyden.log.memory import MemoryLog
from leyden.model import (
    AddColumns,
    Column,
    Locale,
    Migration,
    Policy,
    ReadingRights,
    Row,
    ShapeRecord,
    SnapshotPoint,
    SubscriptionRecord,
    Table,
    Update,
)
from leyden.model import Transaction as Committed
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.encoding import Encoder
from leyden.satellite.frames import decode
from leyden.satellite.migrations import Dialect
from leyden.satellite.positions import Positions
from leyden.shapes.groups import Group
from leyden.shapes.request import Select, Shape, planned
from leyden.shapes.rights import rules_for
from leyden.shapes.tree import Tree
from leyden.shapes.view import View
from leyden.shapes.where import Claims
from views import group

SUBSCRIPTION = SubscriptionRecord("s", (ShapeRecord("items"),))


def items(*columns: str) -> Table:
    return Table(1, "items", tuple(Column(name, "text", False) for name in columns), ("id",), "items_pkey")


BEFORE, AFTER = items("id"), items("id", "note")


class Stage:
    """One client, and a database of one table in which a migration can be seen before it is in the log."""

    def __init__(self) -> None:
        self.log = MemoryLog(1 << 20)
        self.encoder = Encoder(Positions("e"))
        self.fanout = FanOut(self.log, self.encoder)
        self.tables = {"items": BEFORE}
        self.migrations: list[Migration] = []
        #: The newest version in the database.
        self.newest = ""
        self.committed = 0
        self.read: list[Table] = []
        #: Committed, and not in the log yet.
        self.not_caught_up: list[Committed] = []
        self.packets: list[Packet] = []
        self.room = True
        self.drained = asyncio.Event()
        self.drained.set()
        self.events: list[Event] = []
        self.pings = self.pings_unanswered = 0
        self.saved: list[SubscriptionRecord] = []
        self.confirmed: list[str] = []
        #: In how many batches of one row a table comes.
        self.batches = 1
        #: Called while Postgres is asked about policies.
        self.while_answered: Callable[[], None] = lambda: None
        self.subscriber = Subscriber("c", cast(Any, self), Dialect.SQLITE, View(), 0, lambda reason: None)
        self.deliveries = Deliveries(
            self.subscriber,
            self.fanout,
            self.encoder,
            cast(Any, self),
            cast(Any, self),
            cast(Any, self),
            cast(Any, self),
            self.catch_up,
            self.events.append,
            1,
            0,
        )

    # ---- socket, client store

    def send(self, packet: Packet) -> bool:
        self.packets.append(packet)
        return self.room

    @property
    def buffered(self) -> int:
        return 0 if self.room else HIGH_WATER_BYTES + 1

    async def drain(self) -> None:
        await self.drained.wait()

    async def prepare(self, trees: Collection[Tree]) -> None: ...

    async def answered(self, trees: Iterable[Tree], position: int) -> None:
        self.while_answered()

    async def ping(self, timeout: float) -> bool:  # noqa: ASYNC109
        self.pings += 1
        return self.pings > self.pings_unanswered

    async def save_subscription(self, client_id: str, subscription: SubscriptionRecord) -> None:
        self.saved.append(subscription)

    async def confirm_delivery(self, client_id: str, ids: Collection[str]) -> None:
        self.confirmed += ids

    # ---- snapshots

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stage]:
        yield self

    @property
    def point(self) -> SnapshotPoint:
        return SnapshotPoint(self.committed + 1, self.committed + 1, frozenset(), self.committed)

    async def newest_version(self) -> str:
        return self.newest

    async def rows(self, table: Table, condition: object) -> AsyncIterator[list[tuple[Row, tuple[str, ...]]]]:
        self.read.append(table)
        for _ in range(self.batches):
            yield [(tuple(column.name.encode() for column in table.columns), ("t@1",))]

    # ---- what happens

    def migrate(self) -> None:
        """The migration commits; the stream has not brought it yet."""
        self.newest = "01"
        self.committed = 10

    async def catch_up(self) -> None:
        while self.not_caught_up:
            self.log.append(self.not_caught_up.pop(0), 1)
        if self.newest and not self.migrations:
            self.migrations.append(Migration("01", 10, 1, (AddColumns(AFTER, ("note",)),)))
            self.tables["items"] = AFTER
            self.log.append(Committed(10, 10, 1, None, (), self.migrations[0]), 1)

    @contextmanager
    def running(self) -> Iterator[None]:
        task = asyncio.create_task(self.deliveries.run())
        try:
            yield
        finally:
            task.cancel()

    def deliver(self) -> None:
        self.deliveries.deliver(SUBSCRIPTION, [Shape("r", Group(BEFORE), ShapeRecord("items"))])

    @property
    def messages(self) -> list[Message]:
        return [decode(payload) for packet in self.packets for payload in packet.payloads]

    @property
    def delivered(self) -> bool:
        return any(isinstance(message, pb.SatSubsDataEnd) for message in self.messages)

    @property
    def inserts(self) -> int:
        logs = [message for message in self.messages if isinstance(message, pb.SatOpLog)]
        return sum(op.HasField("insert") for log in logs for op in log.ops)

    def index(self, matches: Callable[[Any], bool]) -> int:
        return next(number for number, message in enumerate(self.messages) if matches(message))

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not reached():  # noqa: ASYNC110 - the delivery tells nobody
                await asyncio.sleep(0)

    async def until_delivered(self) -> None:
        await self.until(lambda: self.delivered)


def is_migration(message: Any) -> bool:
    return isinstance(message, pb.SatOpLog) and any(op.HasField("migrate") for op in message.ops)


async def test_a_snapshot_that_sees_a_migration_the_client_lacks_is_given_back() -> None:
    stage = Stage()
    stage.fanout.join(stage.subscriber)
    stage.migrate()
    stage.deliver()
    with stage.running():
        await stage.until_delivered()
    assert stage.read == [AFTER]
    assert stage.index(is_migration) < stage.index(lambda one: isinstance(one, pb.SatSubsDataBegin))


async def test_a_client_that_is_behind_gets_its_data_after_the_migration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "BEHIND_PAUSE", 0.0)
    stage = Stage()
    stage.room = False
    stage.fanout.join(stage.subscriber)
    stage.migrate()
    await stage.catch_up()
    stage.deliver()
    with stage.running():
        for _ in range(20):
            await asyncio.sleep(0)
        assert stage.messages == []
        stage.room = True
        stage.fanout.tick()
        await stage.until_delivered()
    assert stage.read == [AFTER]
    assert stage.index(is_migration) < stage.index(lambda one: isinstance(one, pb.SatSubsDataBegin))


async def test_a_client_that_was_let_go_is_sent_no_data() -> None:
    """What it has not been told, a migration for instance, is not in its stream any more."""
    stage = Stage()
    stage.fanout.join(stage.subscriber)
    stage.fanout.leave(stage.subscriber)
    stage.deliver()
    await asyncio.wait_for(stage.deliveries.run(), 5)
    assert stage.messages == []
    assert stage.read == []


async def test_a_question_that_was_asked_anew_meanwhile_is_no_reason_to_let_a_client_go() -> None:
    """Another client has needed it. Its answers are those of a later position than that at which this one is held."""
    stage = Stage()
    policy = Policy("obscure", True, "public.visible(id)")
    rights = {"reader": {1: ReadingRights(policies=(policy,))}}
    rules = rules_for(rights, "reader", None, Locale(order_is_bytes=True), stage.tables)
    shape = planned("r", Select("items"), stage.tables, Claims("ann", {}), Locale(order_is_bytes=True), rules)
    (question,) = shape.part.questions
    versions, questions = stage.fanout.versions, stage.fanout.questions
    versions.begin(BEFORE)
    versions.complete(BEFORE)

    def ask() -> None:
        stage.fanout.forget([question])
        versions.begin(question.answers)
        versions.complete(question.answers)
        questions.begin(question)
        stage.committed += 10
        stage.log.append(Committed(stage.committed, stage.committed, 1, None, ()), 1)
        questions.know(question, stage.log.head, lambda xid: True)

    def ask_once_more() -> None:
        stage.while_answered = lambda: None
        ask()

    stage.while_answered = ask_once_more
    ask()
    stage.fanout.join(stage.subscriber)
    stage.deliveries.deliver(SUBSCRIPTION, [shape])
    with stage.running():
        await stage.until_delivered()
        await asyncio.sleep(0)
    assert (stage.subscriber.left, stage.subscriber.live) == (False, True)


async def test_a_row_that_the_client_holds_in_an_older_version_is_not_delivered_but_updated() -> None:
    stage = Stage()
    stage.tables["items"] = AFTER
    mine, other = group(AFTER, "this.note = 'mine'"), group(AFTER, "this.note = 'note'")
    stage.subscriber.view = View([mine])
    stage.fanout.join(stage.subscriber)
    # The snapshot sees the row's new version, the stream has not brought it yet.
    changed = Update(AFTER, (b"id", b"mine"), (b"id", b"note"), ("t@1",))
    stage.committed = 10
    stage.not_caught_up.append(Committed(10, 10, 1, None, (changed,)))
    stage.deliveries.deliver(SUBSCRIPTION, [Shape("r", other, ShapeRecord("items"))])
    with stage.running():
        await stage.until_delivered()
    logs = [message for message in stage.messages if isinstance(message, pb.SatOpLog)]
    assert [op.WhichOneof("op") for log in logs for op in log.ops] == ["begin", "update", "commit"]


async def test_a_table_given_up_meanwhile_is_delivered_empty() -> None:
    stage = Stage()
    stage.fanout.join(stage.subscriber)
    stage.deliver()
    stage.tables.clear()
    with stage.running():
        await stage.until_delivered()
    assert stage.read == []
    assert [type(message) for message in stage.messages] == [
        pb.SatSubsDataBegin,
        pb.SatShapeDataBegin,
        pb.SatShapeDataEnd,
        pb.SatSubsDataEnd,
    ]


async def test_others_have_their_turn_between_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "PARCEL_BYTES", 1)
    stage = Stage()
    stage.batches = 4
    stage.fanout.join(stage.subscriber)
    stage.deliver()
    seen = []
    with stage.running():
        while not stage.delivered:
            await asyncio.sleep(0)
            seen.append(stage.inserts)
    assert {1, 2, 3, 4} <= set(seen)


async def test_the_next_batch_is_made_when_the_client_has_taken_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "PARCEL_BYTES", 1)
    stage = Stage()
    stage.batches = 3
    stage.drained.clear()
    stage.fanout.join(stage.subscriber)
    stage.deliver()
    with stage.running():
        for _ in range(50):
            await asyncio.sleep(0)
        assert stage.inserts == 1
        stage.drained.set()
        await stage.until_delivered()
    assert stage.inserts == 3


async def test_progress_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "PROGRESS_ROWS", 2)
    stage = Stage()
    stage.batches = 5
    stage.fanout.join(stage.subscriber)
    stage.deliver()
    with stage.running():
        await stage.until_delivered()
    assert [event.rows for event in stage.events if isinstance(event, SubscriptionProgress)] == [2, 4]


async def test_few_rows_are_sent_in_one_packet() -> None:
    stage = Stage()
    stage.batches = 5
    stage.fanout.join(stage.subscriber)
    stage.deliver()
    with stage.running():
        await stage.until_delivered()
    (packet,) = stage.packets
    assert stage.saved == [SUBSCRIPTION]
    kinds = [type(decode(payload)) for payload in packet.payloads]
    assert kinds[-1] is pb.SatSubsDataEnd
    assert kinds.count(pb.SatOpLog) == 5


async def test_many_rows_are_sent_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "PARCEL_BYTES", 200)
    stage = Stage()
    stage.batches = 50
    stage.fanout.join(stage.subscriber)
    stage.deliver()
    with stage.running():
        await stage.until_delivered()
    sizes = [sum(map(len, packet.payloads)) for packet in stage.packets]
    assert len(sizes) > 5
    assert all(200 <= size < 300 for size in sizes[:-1])
    assert stage.inserts == 50
    assert stage.saved == [SUBSCRIPTION, replace(SUBSCRIPTION, in_parts=True)]


async def test_a_delivery_is_confirmed_when_the_client_has_answered_after_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deliveries, "CONFIRMATION_PAUSE", 0)
    stage = Stage()
    stage.fanout.join(stage.subscriber)
    stage.deliver()
    stage.pings_unanswered = 5
    with stage.running():
        await stage.until_delivered()
        assert (stage.saved, stage.confirmed) == ([SUBSCRIPTION], [])
        await stage.until(lambda: bool(stage.confirmed))
        assert (stage.pings, stage.confirmed) == (6, ["s"])
        await asyncio.sleep(0.01)
    assert (stage.pings, stage.confirmed) == (6, ["s"])


async def test_deliveries_are_confirmed_by_the_answer_that_the_next_one_waits_for() -> None:
    stage = Stage()
    stage.fanout.join(stage.subscriber)
    stage.deliver()
    stage.deliveries.deliver(SubscriptionRecord("t", ()), [])
    with stage.running():
        await stage.until(lambda: len(stage.confirmed) == 2)
    assert (stage.pings, stage.confirmed) == (3, ["s", "t"])
