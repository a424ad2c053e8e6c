"""The shell around a session: what happens when its jobs fail, hang or are ended at once."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import psycopg
import pytest
from google.protobuf.message import Message

from leyden import cancellation
from leyden.auth import Identity
from leyden.edge.access.authenticator import Accepted
from leyden.edge.access.authors import Authors, RolePolicy
from leyden.edge.access.reading import Reading
from leyden.edge.access.sessions import Sessions
from leyden.edge.connection import Connection
from leyden.edge.core import Core
from leyden.edge.delivery.fanout import FanOut
from leyden.edge.endings import ConnectionEnded
from leyden.edge.websocket.socket import Packet
from leyden.events import Event, Peer, UnexpectedError
from leyden.log.memory import MemoryLog
from leyden.model import (
    ClientRecord,
    Column,
    CreateTable,
    Delete,
    Insert,
    Locale,
    Migration,
    Row,
    SnapshotPoint,
    SubscriptionRecord,
    Suspension,
    Table,
    Transaction,
)
from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.encoding import Encoder
from leyden.satellite.frames import decode, encode
from leyden.satellite.positions import Positions
from leyden.shapes.questions import Question
from leyden.shapes.rights import OPEN, Rules

ITEMS = Table(1, "items", (Column("id", "text", True),), ("id",), "items_pkey")
SUBSCRIPTION = "00000000-0000-4000-8000-00000000000a"
OTHER_SUBSCRIPTION = "00000000-0000-4000-8000-00000000000b"
IDENTITY = Identity("alice", {}, None, None, None, None, None, None, None, 0)


async def nothing() -> None: ...


class Stage:
    """A connection, everything around it, and the client at its other end."""

    def __init__(self) -> None:
        self.log = MemoryLog(1 << 20)
        self.events: list[Event] = []
        #: Awaited before the stream starts, before a snapshot, and while the stream catches up with Postgres.
        self.before_start = self.before_snapshot = self.on_catching_up = nothing
        self.positions = Positions("e")
        encoder = Encoder(self.positions)
        self.core = Core(
            world=cast(Any, self),
            authenticator=cast(Any, self),
            authors=Authors(RolePolicy()),
            sessions=Sessions(),
            encoder=encoder,
            fanout=FanOut(self.log, encoder, self.events.append),
            clients=cast(Any, self),
            checkpoints=cast(Any, self),
            snapshots=cast(Any, self),
            loader=cast(Any, self),
            writer=cast(Any, self),
            catch_up=self.catch_up,
            read_rights=nothing,
            emit=self.events.append,
        )
        self.messages: list[Message] = []
        self._incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._numbers = itertools.count(1)
        self.connection = Connection(self.core, cast(Any, self), Peer("::1"), cast(Any, self))

    # ---- world

    instance_id = "leyden-1"
    tables: Mapping[str, Table] = MappingProxyType({"items": ITEMS})
    migrations: Sequence[Migration] = ()
    locale = Locale(order_is_bytes=True)
    suspended: Mapping[str, Suspension] = MappingProxyType({})

    def reopened_since(self, position: int) -> frozenset[str]:
        return frozenset()

    def are_answered_since(self, questions: Iterable[Question], position: int) -> bool:
        return not list(questions)

    @property
    def head(self) -> int:
        return self.log.head

    def rules(self, role: str | None) -> Rules:
        return OPEN

    def holds(self, position: int) -> bool:
        return self.log.holds(position)

    # ---- authenticator, gate

    settings = SimpleNamespace(insecure=True, error_detail="code")

    async def judge(self, token: str, ration: object = None) -> Accepted:
        return Accepted(IDENTITY, None)

    def reconsider(self, identity: Identity) -> None: ...

    async def may_be_verified(self) -> bool:
        return True

    def authenticated(self) -> None: ...

    # ---- socket

    silence = 0.0
    buffered = 0

    def send(self, packet: Packet) -> bool:
        self.messages += map(decode, packet.payloads)
        return True

    async def drain(self) -> None: ...

    async def ping(self, timeout: float) -> bool:  # noqa: ASYNC109
        return True

    def take_at_once(self, take: Callable[[bytes], bool]) -> None:
        self.take = take

    def limit_messages(self, size: int) -> None: ...

    # ---- database

    async def bind(self, client_id: str, user_id: str) -> ClientRecord:
        return ClientRecord(client_id, user_id, b"", ())

    async def forget(self, client_id: str, rescued: object) -> None:
        await self.before_start()

    async def save_subscription(self, client_id: str, subscription: SubscriptionRecord) -> None: ...

    async def confirm_delivery(self, client_id: str, ids: object) -> None: ...

    async def miss_echoes(self, client_id: str) -> None: ...

    async def cancel_subscriptions(self, *_: object) -> int:
        return 1

    async def catch_up(self) -> None:
        await self.on_catching_up()

    async def prepare(self, trees: object) -> None: ...

    async def answered(self, trees: object, position: int) -> None: ...

    async def apply(self, upload: object) -> None: ...

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stage]:
        await self.before_snapshot()
        yield self

    point = SnapshotPoint(1, 1, frozenset(), 0)

    async def newest_version(self) -> str:
        return ""

    async def rows(self, table: Table, condition: object) -> AsyncGenerator[list[tuple[Row, tuple[str, ...]]]]:
        yield [((b"1",), ("t@1",))]

    # ---- the client

    @property
    def delivered(self) -> list[str]:
        """The subscriptions whose data was sent."""
        begun = [message.subscription_id for message in self.messages if isinstance(message, pb.SatSubsDataBegin)]
        ends = [message for message in self.messages if isinstance(message, pb.SatSubsDataEnd)]
        return begun[: len(ends)]

    @property
    def answers_to_subscribe(self) -> list[pb.SatSubsResp]:
        answers = [one for one in self.messages if isinstance(one, pb.SatRpcResponse) and one.method == rpc.SUBSCRIBE]
        return [pb.SatSubsResp.FromString(one.message) for one in answers]

    def call(self, method: str, request: Message) -> None:
        number = next(self._numbers)
        call = pb.SatRpcRequest(method=method, request_id=number, message=request.SerializeToString())
        self._incoming.put_nowait(encode(call))

    def start(self) -> None:
        self.call(rpc.AUTHENTICATE, pb.SatAuthReq(id="device-a", token="t"))
        self.call(rpc.START_REPLICATION, pb.SatInStartReplicationReq())

    def subscribe(self, subscription: str = SUBSCRIPTION) -> None:
        shape = pb.SatShapeDef(selects=[pb.SatShapeDef.Select(tablename="items")])
        request = pb.SatShapeReq(request_id="1", shape_definition=shape)
        self.call(rpc.SUBSCRIBE, pb.SatSubsReq(subscription_id=subscription, shape_requests=[request]))

    def unsubscribe(self) -> None:
        self.call(rpc.UNSUBSCRIBE, pb.SatUnsubsReq(subscription_ids=[SUBSCRIPTION]))

    @property
    def streaming(self) -> bool:
        """Whether the client has been told that its stream starts."""
        return any(isinstance(one, pb.SatRpcRequest) for one in self.messages)

    def go_away(self) -> None:
        self._incoming.put_nowait(None)

    async def serve(self) -> ConnectionEnded:
        async with asyncio.timeout(10):
            return await self.connection.serve(self._incoming.get)


@pytest.fixture
async def stage() -> Stage:
    return Stage()


async def test_a_job_that_overlooks_its_cancellation_does_not_keep_the_connection(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "PATIENCE", 0.01)

    async def overlook() -> None:
        stage.go_away()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    stage.before_snapshot = overlook
    stage.start()
    stage.subscribe()
    assert (await stage.serve()).code == 1000


async def test_a_connection_that_ends_at_once_leaves_no_job_behind_that_never_ran(stage: Stage) -> None:
    async def end() -> None:
        stage.connection.end(1001)
        await asyncio.sleep(0)  # so that it is ended in the very moment in which its jobs have been made

    stage.before_start = end
    stage.start()
    assert (await stage.serve()).code == 1001
    gc.collect()


async def test_one_task_is_enough_for_a_client_that_has_all_it_asked_for(stage: Stage) -> None:
    before = len(asyncio.all_tasks())
    stage.start()
    serving = asyncio.create_task(stage.serve())
    for subscription in (SUBSCRIPTION, OTHER_SUBSCRIPTION):
        stage.subscribe(subscription)
        async with asyncio.timeout(5):
            while subscription not in stage.delivered or len(asyncio.all_tasks()) > before + 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
    stage.go_away()
    await serving


async def test_nothing_is_delivered_after_a_delivery_that_failed(stage: Stage) -> None:
    attempts: list[None] = []

    async def fail() -> None:
        attempts.append(None)
        stage.subscribe(OTHER_SUBSCRIPTION)
        raise RuntimeError

    stage.before_snapshot = fail
    stage.start()
    stage.subscribe()
    assert (await stage.serve()).code == 1011
    assert len(attempts) == 1


async def test_nothing_more_is_sent_to_a_client_whose_rights_cannot_be_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.start()
    stage.subscribe()
    serving = asyncio.create_task(stage.serve())
    while not stage.delivered:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    monkeypatch.setattr(stage, "rules", Mock(side_effect=RecursionError))
    sent = len(stage.messages)
    await Reading(None, lambda: stage.core).change({})
    written = Transaction(1, 1, 1, None, (Insert(ITEMS, (b"9",), ("t",)),))
    stage.log.append(written, 1)
    stage.core.fanout.publish(written)
    await stage.core.fanout.opened()  # for all others
    ended = await serving
    assert (ended.code, ended.detail) == (1011, "RecursionError")
    assert len(stage.messages) == sent
    assert [event.where for event in stage.events if isinstance(event, UnexpectedError)] == ["connection"]


async def test_a_client_whose_position_is_lost_while_its_rows_are_withdrawn_starts_afresh(stage: Stage) -> None:
    async def evict() -> None:
        if stage.delivered:
            stage.log.append(Transaction(1, 1, 1, None, (Delete(ITEMS, (b"9",)),)), 1)
            stage.log.trim(1)

    stage.before_snapshot = evict
    stage.start()
    stage.subscribe()
    stage.unsubscribe()
    ended = await stage.serve()
    assert (ended.code, ended.detail) == (1008, "too far behind: its position is no longer held")
    assert not any(isinstance(event, UnexpectedError) for event in stage.events)


async def test_a_client_that_has_nothing_yet_is_never_too_far_behind(stage: Stage) -> None:
    late = Migration("2", 2, 1, (CreateTable(ITEMS),))

    async def go_on() -> None:
        stage.log.append(Transaction(1, 1, 1, None, (Delete(ITEMS, (b"9",)),)), 1)
        stage.migrations = [*stage.migrations, late]
        stage.log.append(Transaction(2, 2, 1, None, (), migration=late), 1)
        stage.log.trim(2)

    stage.before_start = go_on
    stage.point = SnapshotPoint(3, 3, frozenset(), 2)
    stage.migrations = [Migration("1", 1, 1, (CreateTable(ITEMS),))]
    stage.start()
    stage.subscribe()
    serving = asyncio.create_task(stage.serve())
    async with asyncio.timeout(5):
        while not stage.delivered and not serving.done():  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert stage.delivered == [SUBSCRIPTION]
    versions = [op.migrate.version for log in stage.messages if isinstance(log, pb.SatOpLog) for op in log.ops]
    assert [version for version in versions if version] == ["1", "2"]
    stage.go_away()
    await serving


async def test_a_call_is_answered_though_the_token_ends_while_it_is_looked_again(stage: Stage) -> None:
    stage.tables = {}

    async def expire() -> None:
        stage.connection.end_session("expired")

    stage.on_catching_up = expire
    stage.start()
    stage.subscribe()
    stage.go_away()
    await stage.serve()
    assert len(stage.answers_to_subscribe) == 1


async def test_a_call_that_comes_after_the_end_of_the_token_is_answered_at_once(stage: Stage) -> None:
    stage.tables = {}
    stage.start()
    serving = asyncio.create_task(stage.serve())
    while not stage.streaming:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    stage.connection.end_session("expired")
    stage.subscribe()
    stage.go_away()
    await serving
    assert len(stage.answers_to_subscribe) == 1


async def test_a_call_under_way_is_answered_before_the_connection_ends_with_its_token(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leyden.edge.connection.SETTLING", 0.01)
    stage.tables = {}

    async def expire() -> None:
        monkeypatch.setattr(stage.connection, "_answered_at", float("-inf"))  # long ago
        stage.connection.end_session("expired")

    stage.on_catching_up = expire
    stage.start()
    stage.subscribe()
    assert (await stage.serve()).code == 4000
    assert len(stage.answers_to_subscribe) == 1


async def test_if_postgres_is_gone_a_call_is_answered_by_what_is_known(stage: Stage) -> None:
    stage.tables = {}

    async def fail() -> None:
        raise psycopg.OperationalError

    stage.on_catching_up = fail
    stage.start()
    stage.subscribe()
    stage.go_away()
    assert (await stage.serve()).code == 1000
    assert len(stage.answers_to_subscribe) == 1


async def test_calls_made_at_the_same_time_do_not_wait_one_after_the_other(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leyden.edge.connection.LOOKING_AGAIN", 0.01)
    stage.tables = {}
    looks: list[None] = []

    async def hang() -> None:
        looks.append(None)
        await asyncio.Event().wait()

    stage.on_catching_up = hang
    stage.start()
    for subscription in (SUBSCRIPTION, OTHER_SUBSCRIPTION):
        stage.subscribe(subscription)
    stage.go_away()
    await stage.serve()
    assert (len(stage.answers_to_subscribe), len(looks)) == (2, 1)


@pytest.mark.parametrize("comes", [True, False])
async def test_a_table_that_is_not_known_may_be_on_its_way(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, comes: bool
) -> None:
    monkeypatch.setattr("leyden.edge.connection.LOOKING_AGAIN", 0.01)
    stage.tables = {}

    async def catch_up() -> None:
        if not comes:
            await asyncio.Event().wait()
        stage.tables = {"items": ITEMS}

    stage.on_catching_up = catch_up
    stage.start()
    stage.subscribe()
    serving = asyncio.create_task(stage.serve())
    async with asyncio.timeout(5):
        while len(stage.answers_to_subscribe) == 0:  # noqa: ASYNC110
            await asyncio.sleep(0)
    stage.go_away()
    await serving
    (answer,) = stage.answers_to_subscribe
    refused = [error.message for error in answer.err.shape_request_error]
    assert refused == ([] if comes else ["Unknown table items"])


async def test_an_acknowledgement_is_taken_at_once_when_nothing_else_is_going_on(stage: Stage) -> None:
    ack = encode(pb.SatOpLogAck(lsn=stage.positions.encode(7)))
    taken: list[tuple[str, bool]] = []

    async def look() -> None:
        taken.append(("starting", stage.take(ack)))

    stage.before_start = look
    stage.start()
    serving = asyncio.create_task(stage.serve())
    await asyncio.sleep(0)
    taken.append(("unknown", stage.take(ack)))
    while not stage.streaming:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    taken.append(("streaming", stage.take(ack)))
    assert stage.take(b"nonsense") is False
    stage.go_away()
    await serving
    taken.append(("gone", stage.take(ack)))
    assert taken == [("unknown", False), ("starting", False), ("streaming", True), ("gone", False)]


async def test_each_of_the_first_migrations_leads_to_a_position_of_its_own(stage: Stage) -> None:
    stage.migrations = [Migration(version, 1, 1, (CreateTable(ITEMS),)) for version in ("1", "2", "3")]
    stage.start()
    stage.go_away()
    await stage.serve()
    logs = [message for message in stage.messages if isinstance(message, pb.SatOpLog)]
    lsns = [op.begin.lsn for log in logs for op in log.ops if op.HasField("begin")]
    assert [stage.positions.decode(lsn) for lsn in lsns] == [(0, 0, "1"), (0, 0, "2"), (0, 0, None)]
