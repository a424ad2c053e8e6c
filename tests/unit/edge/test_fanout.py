from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from leyden.edge.delivery.fanout import CATCH_UP_BATCH, REOPENED_AT, WINDOW, FanOut, Subscriber
from leyden.edge.websocket.socket import HIGH_WATER_BYTES, Packet
from leyden.events import Event, UnexpectedError
from leyden.log.memory import MemoryLog
from leyden.model import (
    AddColumns,
    Column,
    Correction,
    Delete,
    Insert,
    Migration,
    Row,
    SnapshotPoint,
    Table,
    Transaction,
    Update,
)
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.encoding import Encoder
from leyden.satellite.frames import decode
from leyden.satellite.migrations import Dialect
from leyden.satellite.positions import Positions
from leyden.shapes.groups import Group
from leyden.shapes.sight import Sight
from leyden.shapes.view import View
from views import group, whole

SQLITE = Dialect.SQLITE
POSITIONS = Positions("e")
COLUMNS = (Column("id", "text", True),)
A, B = (Table(number, name, COLUMNS, ("id",), f"{name}_pkey") for number, name in ((1, "a"), (2, "b")))
BOTH = (A, B)


class FakeSocket:
    """Keeps what it was sent; ``room`` False makes it report a full buffer."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.room = True

    def send(self, packet: Packet) -> bool:
        self.packets.append(packet)
        return self.room

    @property
    def buffered(self) -> int:
        return 0 if self.room else HIGH_WATER_BYTES + 1

    async def drain(self) -> None: ...

    async def ping(self, timeout: float) -> bool:  # noqa: ASYNC109
        return True

    def limit_messages(self, size: int) -> None: ...

    @property
    def positions(self) -> list[int]:
        """Of the transactions received, in order."""
        return [POSITIONS.decode(op.begin.lsn)[0] for op in self.operations if op.HasField("begin")]

    @property
    def operations(self) -> list[pb.SatTransOp]:
        messages = (decode(payload) for packet in self.packets for payload in packet.payloads)
        return [op for message in messages if isinstance(message, pb.SatOpLog) for op in message.ops]


class CountingEncoder(Encoder):
    def __init__(self) -> None:
        super().__init__(POSITIONS)
        self.encoded: list[tuple[int, View, bool]] = []
        self.broken = False

    def transaction(self, sight: Sight, view: View, dialect: Dialect, *, for_author: bool = False) -> list[bytes]:
        if self.broken:
            raise RuntimeError("a defect")
        self.encoded.append((sight.transaction.position, view, for_author))
        return super().transaction(sight, view, dialect, for_author=for_author)


class Stage:
    """A log, its fan-out and the clients of a test."""

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        self.log = MemoryLog(max_bytes)
        self.encoder = CountingEncoder()
        self.events: list[Event] = []
        self.fanout = FanOut(self.log, self.encoder, self.events.append)
        self.dropped: list[str] = []

    def client(
        self, client_id: str = "c", tables: Collection[Table] = (A,), position: int = 0, dialect: Dialect = SQLITE
    ) -> tuple[Subscriber, FakeSocket]:
        socket = FakeSocket()
        drop: Callable[[str], None] = lambda reason: self.dropped.append(client_id)  # noqa: E731
        subscriber = Subscriber(client_id, socket, dialect, whole(*tables), position, drop)
        self.fanout.join(subscriber)
        return subscriber, socket

    def commit(self, *tables: Table, origin: str | None = None, position: int | None = None) -> int:
        position = self.log.head + 10 if position is None else position
        changes = tuple(Insert(table, (str(position).encode(),), ()) for table in tables or (A,))
        self.log.append(Transaction(position, position, 1, origin, changes), 1)
        return position


@pytest.fixture
def stage() -> Stage:
    return Stage()


# ---- tables that do not hold any more ----------------------------------------------------------------------------


def test_who_sees_a_table_that_is_suspended_or_asked_for_it_is_let_go_before_its_next_rows(stage: Stage) -> None:
    _, seeing = stage.client("seeing", (A,))
    stage.client("others", (B,))
    asking, _ = stage.client("asking", (B,))
    asking.asked_for = lambda: {A.name}
    stage.fanout.let_go_of(A)
    stage.commit(A)

    assert sorted(stage.dropped) == ["asking", "seeing"]
    assert seeing.packets == []


def test_a_table_that_was_taken_up_again_lets_go_of_who_has_its_rows(stage: Stage) -> None:
    stage.client("seeing", (A,))
    stage.client("others", (B,))
    migration = Migration("01", 5, 1, (AddColumns(A, (), reopens=True),))
    stage.log.append(Transaction(10, 5, 1, None, (), migration), 1)

    assert stage.dropped == ["seeing"]


# ---- the live lane -----------------------------------------------------------------------------------------------


def test_a_transaction_is_encoded_once_for_all_clients_of_a_feed(stage: Stage) -> None:
    clients = [stage.client(f"c{number}") for number in range(50)]
    stage.commit()

    assert stage.encoder.encoded == [(10, whole(A), False)]
    assert {id(socket.packets[0]) for _, socket in clients} == {id(clients[0][1].packets[0])}


def test_a_thousand_clients_of_one_filter_cost_one_evaluation_and_one_encoding(stage: Stage) -> None:
    evaluated: list[Row] = []
    filtered = group(A, "this.id <> 'x'")
    assert filtered.predicate is not None
    matches = filtered.predicate.matches

    def counting(row: Row) -> bool | None:
        evaluated.append(row)
        return matches(row)

    counted = View([Group(A, replace(filtered.predicate, matches=counting))])
    sockets = []
    for number in range(1_000):
        subscriber, socket = stage.client(f"c{number}", tables=())
        stage.fanout.see(subscriber, counted, {})
        sockets.append(socket)
    stage.commit(A)

    assert evaluated == [(b"10",)]
    assert stage.encoder.encoded == [(10, counted, False)]
    assert all(socket.positions == [10] for socket in sockets)
    assert len({id(socket.packets[0]) for socket in sockets}) == 1


def test_of_ten_thousand_filters_on_a_user_one_gets_a_change(stage: Stage) -> None:
    sockets = []
    for number in range(10_000):
        subscriber, socket = stage.client(f"c{number}", tables=())
        stage.fanout.see(subscriber, View([group(A, f"this.id = '{number}'")]), {})
        sockets.append(socket)
    stage.commit(A)

    assert [number for number, socket in enumerate(sockets) if socket.packets] == [10]
    assert len(stage.encoder.encoded) == 1


def test_clients_whose_view_is_older_than_the_owners_of_a_table_are_let_go(stage: Stage) -> None:
    stage.client("a", tables=(A,))
    _, other = stage.client("b", tables=(B,))
    owned = replace(A, columns=(*COLUMNS, Column("electric_user_id", "text", False)))
    changes = (AddColumns(owned, ("electric_user_id",)),)
    stage.log.append(Transaction(10, 10, 1, None, (), Migration("1", 10, 1, changes)), 1)

    assert stage.dropped == ["a"]
    assert other.positions == [10]


def test_a_transaction_may_alter_a_kept_table_and_write_to_it(stage: Stage) -> None:
    stage.fanout.versions.begin(A)
    stage.fanout.versions.complete(A)
    _, socket = stage.client(tables=(B,))
    wider = replace(A, columns=(*COLUMNS, Column("n", "int4", False)))
    migration = Migration("1", 10, 1, (AddColumns(wider, ("n",)),))
    changes = (Insert(wider, (b"1", b"2"), ()), Insert(B, (b"1",), ()))
    stage.log.append(Transaction(10, 10, 1, None, changes, migration), 1)

    assert stage.dropped == []
    assert socket.positions == [9, 10]
    assert A.id not in stage.fanout.versions


def test_clients_that_catch_up_side_by_side_share_encodings(stage: Stage) -> None:
    for _ in range(5):
        stage.commit()
    for number in range(10):
        stage.client(f"c{number}")

    assert len(stage.encoder.encoded) == 5


def test_feeds_differ_by_tables_and_dialect(stage: Stage) -> None:
    stage.client("c1")
    stage.client("c2", tables=BOTH)
    stage.client("c3", dialect=Dialect.POSTGRESQL)
    stage.commit()

    assert len(stage.encoder.encoded) == 3


def test_a_feed_that_a_transaction_does_not_touch_costs_nothing(stage: Stage) -> None:
    _, socket = stage.client(tables=(B,))
    stage.commit(A)

    assert stage.encoder.encoded == []
    assert socket.packets == []


def test_a_migration_reaches_every_feed(stage: Stage) -> None:
    _, socket = stage.client(tables=())
    stage.log.append(Transaction(10, 10, 1, None, (), Migration("1", 10, 1, ())), 1)

    assert socket.positions == [10]


# ---- the author --------------------------------------------------------------------------------------------------


def test_the_author_gets_its_echo_although_it_sees_nothing_of_it(stage: Stage) -> None:
    _, author = stage.client("author", tables=())
    _, other = stage.client("other", tables=())
    stage.commit(A, origin="author")

    assert author.positions == [10]
    assert author.operations[0].begin.origin == "author"
    assert other.packets == []


def test_the_author_gets_one_copy_when_it_sees_the_table(stage: Stage) -> None:
    _, author = stage.client("author")
    _, other = stage.client("other")
    stage.commit(A, origin="author")

    assert author.positions == other.positions == [10]


def test_an_author_that_is_behind_gets_its_echo_later(stage: Stage) -> None:
    subscriber, author = stage.client("author", tables=())
    stage.fanout.hold(subscriber)
    stage.commit(B, origin="author")
    assert author.packets == []

    stage.fanout.release(subscriber)
    assert author.positions == [10]


# ---- the window and slow sockets ---------------------------------------------------------------------------------


def test_a_full_window_stops_sending_until_acknowledgements_reopen_it(stage: Stage) -> None:
    subscriber, socket = stage.client()
    positions = [stage.commit() for _ in range(WINDOW + 20)]
    assert socket.positions == positions[:WINDOW]

    still_closed = WINDOW - REOPENED_AT - 1
    stage.fanout.acknowledge(subscriber, positions[still_closed - 1])
    stage.commit()
    stage.fanout.tick()
    assert socket.positions == positions[:WINDOW]

    stage.fanout.acknowledge(subscriber, positions[still_closed])
    assert socket.positions == positions[: WINDOW + still_closed + 1]


def test_a_window_that_was_never_full_waits_for_nothing(stage: Stage) -> None:
    """The stock client begins to acknowledge with the 21st transaction."""
    subscriber, socket = stage.client()
    positions = [stage.commit() for _ in range(REOPENED_AT + 3)]
    stage.fanout.hold(subscriber)
    positions += [stage.commit() for _ in range(3)]
    stage.fanout.release(subscriber)
    assert socket.positions == positions
    assert subscriber.live


def test_who_has_acknowledged_everything_is_live_again(stage: Stage) -> None:
    subscriber, socket = stage.client()
    positions = [stage.commit() for _ in range(WINDOW + 5)]
    stage.fanout.acknowledge(subscriber, positions[-1])
    assert socket.positions == positions
    assert subscriber.live


def test_the_window_is_counted_while_catching_up_too(stage: Stage) -> None:
    positions = [stage.commit() for _ in range(2 * CATCH_UP_BATCH)]
    subscriber, socket = stage.client()
    assert socket.positions == positions[:WINDOW]

    while not subscriber.live:
        stage.fanout.acknowledge(subscriber, socket.positions[-1])
    assert socket.positions == positions


def test_what_is_not_for_a_client_does_not_fill_its_window(stage: Stage) -> None:
    for _ in range(2 * WINDOW):
        stage.commit(B)
    subscriber, socket = stage.client(tables=(A,))

    assert subscriber.live
    assert socket.packets == []


def test_a_slow_socket_leaves_the_live_lane_and_returns(stage: Stage) -> None:
    subscriber, socket = stage.client()
    _, other = stage.client("other")
    socket.room = False
    positions = [stage.commit() for _ in range(3)]

    assert not subscriber.live
    assert socket.positions == positions[:1]  # the one that filled it
    assert other.positions == positions

    stage.fanout.tick()
    assert socket.positions == positions[:1]
    socket.room = True
    stage.fanout.tick()
    assert socket.positions == positions
    assert subscriber.live


def test_a_client_whose_position_was_evicted_is_dropped_once() -> None:
    stage = Stage(max_bytes=3)
    subscriber, socket = stage.client()
    socket.room = False
    for _ in range(10):
        stage.commit()
    stage.fanout.tick()
    stage.fanout.release(subscriber)

    assert stage.dropped == ["c"]
    assert socket.positions == [10]


def test_a_client_that_joins_at_an_evicted_position_is_dropped() -> None:
    stage = Stage(max_bytes=1)
    for _ in range(3):
        stage.commit()
    _, socket = stage.client(position=0)

    assert stage.dropped == ["c"]
    assert socket.packets == []


# ---- joining, leaving, holding -----------------------------------------------------------------------------------


def test_a_client_gets_what_comes_after_its_position(stage: Stage) -> None:
    positions = [stage.commit() for _ in range(4)]
    _, socket = stage.client(position=positions[1])

    assert socket.positions == positions[2:]


def test_a_held_client_waits_and_misses_nothing(stage: Stage) -> None:
    subscriber, socket = stage.client()
    first = stage.commit()
    assert stage.fanout.hold(subscriber) == first

    later = [stage.commit() for _ in range(3)]
    stage.fanout.tick()
    stage.fanout.acknowledge(subscriber, first)
    assert socket.positions == [first]

    stage.fanout.release(subscriber)
    assert socket.positions == [first, *later]


def test_who_has_left_gets_nothing_whoever_releases_it(stage: Stage) -> None:
    subscriber, socket = stage.client()
    stage.fanout.hold(subscriber)
    stage.fanout.leave(subscriber)
    stage.fanout.release(subscriber)
    stage.fanout.see(subscriber, whole(*BOTH), {})
    stage.commit()
    stage.fanout.tick()

    assert socket.packets == []
    assert not subscriber.live


def test_an_older_connection_that_leaves_does_not_take_the_newer_one_with_it(stage: Stage) -> None:
    older, _ = stage.client("same", tables=())
    _, newer = stage.client("same", tables=())
    stage.fanout.leave(older)
    stage.commit(A, origin="same")

    assert newer.positions == [10]


def test_a_closed_fanout_hears_nothing(stage: Stage) -> None:
    _, socket = stage.client()
    stage.fanout.close()
    stage.commit()

    assert socket.packets == []


# ---- snapshots ---------------------------------------------------------------------------------------------------


def test_what_a_snapshot_saw_is_not_sent_again(stage: Stage) -> None:
    subscriber, socket = stage.client(tables=())
    stage.fanout.hold(subscriber)
    for _ in range(4):  # xids 10, 20, 30, 40
        stage.commit(A)
    point = SnapshotPoint(xmin=20, xmax=40, in_progress=frozenset({20}), wal_position=40)
    stage.fanout.see(subscriber, whole(A), {A.id: point})
    stage.fanout.release(subscriber)
    last = stage.commit(A)

    assert socket.positions == [20, 40, last]
    assert subscriber.filters == {}
    assert subscriber.live


def test_a_refused_write_is_put_right_although_a_snapshot_saw_what_was_refused(stage: Stage) -> None:
    subscriber, socket = stage.client("author", tables=())
    stage.fanout.hold(subscriber)
    truth = Correction(A, (b"1",), (b"1",), ("t@1",))
    stage.log.append(Transaction(10, 10, 1, "author", (), corrections=(truth,)), 1)
    stage.log.append(Transaction(20, 20, 1, None, (Delete(A, (b"1",)),)), 1)
    point = SnapshotPoint(xmin=21, xmax=21, in_progress=frozenset(), wal_position=20)
    stage.fanout.see(subscriber, whole(A), {A.id: point})
    stage.fanout.release(subscriber)

    # the row is as it was when the write was refused, and then as it is
    assert [op.WhichOneof("op") for op in socket.operations] == [
        "begin",
        "insert",
        "commit",
        "begin",
        "delete",
        "commit",
    ]


def test_a_filter_concerns_its_table_alone(stage: Stage) -> None:
    subscriber, socket = stage.client(tables=(B,))
    stage.fanout.hold(subscriber)
    stage.commit(A, B)
    point = SnapshotPoint(xmin=11, xmax=11, in_progress=frozenset(), wal_position=10)
    stage.fanout.see(subscriber, whole(*BOTH), {A.id: point})
    stage.fanout.release(subscriber)

    assert [op.insert.relation_id for op in socket.operations if op.HasField("insert")] == [B.id]


def test_a_table_that_is_no_longer_seen_takes_its_filter_with_it(stage: Stage) -> None:
    subscriber, _ = stage.client(tables=())
    point = SnapshotPoint(xmin=11, xmax=11, in_progress=frozenset(), wal_position=10)
    stage.fanout.see(subscriber, whole(*BOTH), {A.id: point, B.id: point})
    stage.fanout.see(subscriber, whole(B), {})

    assert subscriber.filters == {B.id: point}


def test_whether_a_snapshot_sees_all_that_was_sent(stage: Stage) -> None:
    stage.commit()  # xid 10
    stage.commit()  # xid 20
    point = SnapshotPoint(xmin=15, xmax=30, in_progress=frozenset({20}), wal_position=20)

    assert stage.fanout.is_seen_by(point, 10)
    assert not stage.fanout.is_seen_by(point, 20)


def test_rows_as_they_were_before_they_changed(stage: Stage) -> None:
    wide = replace(A, columns=(*COLUMNS, Column("n", "int4", False)))
    for position, changes in (
        (10, [Update(wide, (b"a", b"1"), (b"a", b"2"), ())]),
        (20, [Update(wide, (b"a", b"2"), (b"a", b"3"), ()), Insert(wide, (b"new", b"1"), ()), Delete(B, (b"b",))]),
        (30, [Delete(wide, (b"a", b"3")), Delete(wide, (b"new", b"1")), Delete(wide, (b"c", None))]),
    ):
        stage.log.append(Transaction(position, position, 1, None, tuple(changes)), 1)

    assert stage.fanout.changed_after(10, {A.id}) == [(wide, (b"a", b"2")), (wide, (b"c", None))]


def test_a_table_is_described_as_it_was_at_a_position(stage: Stage) -> None:
    wider = replace(A, columns=(*COLUMNS, Column("n", "int4", False)))
    stage.commit(B)
    migration = Migration("1", 20, 1, (AddColumns(wider, ("n",)),))
    stage.log.append(Transaction(20, 20, 1, None, (Insert(wider, (b"1", None), ()),), migration), 1)

    # also if only other tables change before the migration: their changes can move its rows
    assert stage.fanout.described_at(0, [wider, B]) == [A, B]
    assert stage.fanout.described_at(10, [wider, B]) == [A, B]
    assert stage.fanout.described_at(20, [wider, B]) == [wider, B]
    stage.log.trim(10)
    assert stage.fanout.described_at(0, [wider, B]) == [wider, B]


# ---- defects -----------------------------------------------------------------------------------------------------


def test_a_transaction_that_cannot_be_distributed_ends_everybody_before_the_next_one(stage: Stage) -> None:
    _, live = stage.client("live")
    held, waiting = stage.client("held")
    stage.fanout.hold(held)
    stage.encoder.broken = True
    stage.commit()
    stage.encoder.broken = False
    stage.fanout.release(held)
    stage.commit()

    assert sorted(stage.dropped) == ["held", "live"]
    assert live.packets == waiting.packets == []
    assert [type(event) for event in stage.events] == [UnexpectedError]


# ---- against a model ---------------------------------------------------------------------------------------------

CLIENTS = ("c0", "c1", "c2")


class FanOutMachine(RuleBasedStateMachine):
    """Whatever happens, each client receives what it may see, once and in order, with no gap."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.history: list[tuple[int, frozenset[int], str | None]] = []
        self.subscribers: dict[str, tuple[Subscriber, FakeSocket, int]] = {}

    def due(self, client: str) -> list[int]:
        subscriber, _, since = self.subscribers[client]
        return [
            position
            for position, tables, origin in self.history
            if position > since and (tables & set(subscriber.view.tables) or origin == client)
        ]

    @rule(client=st.sampled_from(CLIENTS), tables=st.sets(st.sampled_from(BOTH)), back=st.integers(0, 40))
    def connect(self, client: str, tables: set[Table], back: int) -> None:
        if client in self.subscribers:
            self.stage.fanout.leave(self.subscribers[client][0])
        since = max(0, self.stage.log.head - 10 * back)
        subscriber, socket = self.stage.client(client, tables, since)
        self.subscribers[client] = (subscriber, socket, since)

    @rule(
        tables=st.sets(st.sampled_from([A, B])),
        origin=st.sampled_from([None, *CLIENTS]),
        times=st.sampled_from([1, 1, 1, 5, WINDOW + 1]),
    )
    def commit(self, tables: set[Table], origin: str | None, times: int) -> None:
        for _ in range(times):
            position = self.stage.log.head + 10
            changes = tuple(Insert(table, (b"1",), ()) for table in tables)
            # in front: a client may be told while the transaction is being appended
            self.history.append((position, frozenset(table.id for table in tables), origin))
            self.stage.log.append(Transaction(position, position, 1, origin, changes), 1)

    def pick(self, client: str) -> tuple[Subscriber, FakeSocket] | None:
        known = self.subscribers.get(client)
        return None if known is None else known[:2]

    @rule(client=st.sampled_from(CLIENTS), share=st.floats(0, 1))
    def acknowledge(self, client: str, share: float) -> None:
        if (known := self.pick(client)) and known[1].positions:
            positions = known[1].positions
            self.stage.fanout.acknowledge(known[0], positions[int(share * (len(positions) - 1))])

    @rule(client=st.sampled_from(CLIENTS), room=st.booleans())
    def fill_or_empty_socket(self, client: str, room: bool) -> None:
        if known := self.pick(client):
            known[1].room = room

    @rule(client=st.sampled_from(CLIENTS), held=st.booleans())
    def hold_or_release(self, client: str, held: bool) -> None:
        if known := self.pick(client):
            if held:
                self.stage.fanout.hold(known[0])
            else:
                self.stage.fanout.release(known[0])

    @rule()
    def tick(self) -> None:
        self.stage.fanout.tick()

    @rule(client=st.sampled_from(CLIENTS))
    def settle(self, client: str) -> None:
        """A healthy client that acknowledges all gets all."""
        if known := self.pick(client):
            subscriber, socket = known
            socket.room = True
            self.stage.fanout.release(subscriber)
            while not subscriber.live:
                self.stage.fanout.acknowledge(subscriber, socket.positions[-1])
            assert socket.positions == self.due(client)

    @invariant()
    def nobody_misses_or_repeats_a_transaction(self) -> None:
        for client, (subscriber, socket, _) in self.subscribers.items():
            received, due = socket.positions, self.due(client)
            assert received == due[: len(received)]
            assert len(subscriber.unacked) <= WINDOW
            if subscriber.live:
                assert received == due


FanOutMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestFanOutMachine = FanOutMachine.TestCase


# ---- pauses ------------------------------------------------------------------------------------------------------


def test_while_paused_nobody_is_sent_anything_and_afterwards_everything(stage: Stage) -> None:
    live, socket = stage.client("live")
    first = stage.commit()
    stage.fanout.pause()
    others = [stage.commit(), stage.commit(origin="live")]
    _, late = stage.client("late")
    stage.fanout.acknowledge(live, first)
    stage.fanout.hold(live)
    stage.fanout.release(live)
    stage.fanout.tick()
    assert (socket.positions, late.positions) == ([first], [])
    stage.fanout.resume()
    assert (socket.positions, late.positions) == ([first, *others], [first, *others])
    assert live.live
    last = stage.commit()
    assert socket.positions[-1] == late.positions[-1] == last


async def test_other_rows_wait_for_the_end_of_a_pause(stage: Stage) -> None:
    await stage.fanout.opened()
    stage.fanout.pause()
    waiting = asyncio.create_task(stage.fanout.opened())
    await asyncio.sleep(0)
    assert not waiting.done()
    stage.fanout.resume()
    await waiting


@pytest.mark.parametrize("goes_on", ["resume", "tick", "commit"])
def test_a_client_that_cannot_be_sent_what_it_lacks_is_ended_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, goes_on: str
) -> None:
    sockets = {name: stage.client(name, (table,))[1] for name, table in (("broken", A), ("other", B), ("last", B))}
    stage.fanout.pause()
    stage.commit(A, B)
    send_behind = stage.fanout._send_behind

    def send(subscriber: Subscriber, transaction: Transaction) -> None:
        if subscriber.client_id == "broken":
            raise RecursionError
        send_behind(subscriber, transaction)

    monkeypatch.setattr(stage.fanout, "_send_behind", send)
    if goes_on != "resume":
        stage.fanout._open.set()
    {"resume": stage.fanout.resume, "tick": stage.fanout.tick, "commit": stage.commit}[goes_on]()

    assert stage.dropped == ["broken"]
    assert [len(sockets[name].packets) for name in sockets] == [0, 1, 1]
    assert [type(event) for event in stage.events] == [UnexpectedError]
