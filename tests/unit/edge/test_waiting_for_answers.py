"""Who depends on what Postgres is still to be asked is sent a transaction later; all others at once."""

from __future__ import annotations

from collections.abc import Iterable

from leyden.edge.delivery.fanout import FanOut, Subscriber
from leyden.edge.websocket.socket import Packet
from leyden.log.memory import MemoryLog
from leyden.model import Column, Delete, Insert, Locale, Policy, ReadingRights, Row, Table, Transaction
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.encoding import Encoder
from leyden.satellite.frames import decode
from leyden.satellite.migrations import Dialect
from leyden.satellite.positions import Positions
from leyden.shapes.questions import Question
from leyden.shapes.request import Select, planned
from leyden.shapes.rights import rules_for
from leyden.shapes.view import View
from leyden.shapes.where import Claims
from views import whole

COLUMNS = (Column("id", "text", True),)
DOCS, MEMBERS = Table(1, "docs", COLUMNS, ("id",), ""), Table(2, "members", COLUMNS, ("id",), "")
TABLES = {"docs": DOCS, "members": MEMBERS}
OBSCURE = Policy("obscure", True, "public.visible(id)", relations=frozenset({1, 2}))
RIGHTS = {1: ReadingRights(policies=(OBSCURE,)), 2: ReadingRights()}
LOCALE = Locale(order_is_bytes=True)


class Device:
    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.buffered = 0

    def send(self, packet: Packet) -> bool:
        self.packets.append(packet)
        return True

    async def drain(self) -> None: ...

    async def ping(self, timeout: float) -> bool:  # noqa: ASYNC109
        return True

    def limit_messages(self, size: int) -> None: ...

    @property
    def received(self) -> list[tuple[str, str]]:
        messages = (decode(payload) for packet in self.packets for payload in packet.payloads)
        ops = [op for message in messages if isinstance(message, pb.SatOpLog) for op in message.ops]
        return [
            ("insert", op.insert.row_data.values[0].decode())
            if op.HasField("insert")
            else ("gone", op.gone.pk_data.values[0].decode())
            for op in ops
            if op.HasField("insert") or op.HasField("gone")
        ]


class Stage:
    def __init__(self) -> None:
        self.log = MemoryLog(1 << 20)
        self.fanout = FanOut(self.log, Encoder(Positions("e")))
        self.dropped: list[str] = []
        for table in (DOCS, MEMBERS):
            self.fanout.versions.begin(table)
            self.fanout.versions.complete(table)

    def view(self, user: str) -> tuple[View, Question]:
        rules = rules_for({"reader": RIGHTS}, "reader", None, LOCALE, TABLES)
        view = View([planned("r", Select("docs"), TABLES, Claims(user, {}), LOCALE, rules).part])
        (question,) = view.questions
        return view, question

    def know(self, question: Question, since: int = 0) -> None:
        self.fanout.versions.begin(question.answers)
        self.fanout.versions.complete(question.answers)
        self.fanout.questions.begin(question)
        self.fanout.questions.know(question, since, lambda xid: True)

    def join(self, view: View, position: int = 0, name: str = "c") -> tuple[Subscriber, Device]:
        device = Device()
        subscriber = Subscriber(name, device, Dialect.SQLITE, view, position, self.dropped.append)
        self.fanout.join(subscriber)
        return subscriber, device

    def commit(self, *rows: str, table: Table = DOCS, gone: Iterable[str] = ()) -> int:
        position = self.log.head + 10
        changes = (
            *(Insert(table, (row.encode(),), ()) for row in rows),
            *(Delete(table, (row.encode(),)) for row in gone),
        )
        self.log.append(Transaction(position, position, 1, None, changes), 1)
        return position

    def answer(self, question: Question, position: int, *shown: str, hidden: Iterable[str] = ()) -> None:
        """All that is unanswered is answered: from ``position`` on."""
        keys: list[Row] = [(row.encode(),) for row in shown]
        self.fanout.versions.decide(question.id, position, keys, [(row.encode(),) for row in hidden])
        for one in self.fanout.questions.take(9):
            if one.question == question:
                self.fanout.questions.answered(one)
            self.fanout.questions.put_back(one)
        self.fanout.answered([question])


def test_only_who_depends_on_the_answer_waits_for_it() -> None:
    stage = Stage()
    view, question = stage.view("ann")
    stage.know(question)
    _, ann = stage.join(view)
    others = [stage.join(whole(DOCS), name=f"{number}")[1] for number in range(100)]
    position = stage.commit("a", "b")

    assert all(other.received == [("insert", "a"), ("insert", "b")] for other in others)
    assert ann.received == []

    stage.answer(question, position, "a")

    assert ann.received == [("insert", "a")]


def test_nobody_waits_for_a_transaction_that_changes_no_answer() -> None:
    stage = Stage()
    view, question = stage.view("ann")
    stage.know(question)
    subscriber, _ = stage.join(view)
    elsewhere = Table(3, "elsewhere", COLUMNS, ("id",), "")
    stage.commit("x", table=elsewhere)

    assert subscriber.live


def test_the_answers_for_one_reader_do_not_make_another_go_on() -> None:
    stage = Stage()
    devices = {}
    for user in ("ann", "bob"):
        view, question = stage.view(user)
        stage.know(question)
        devices[user] = stage.join(view, name=user)[1]
    position = stage.commit("a")
    stage.answer(question, position, "a")

    assert devices["bob"].received == [("insert", "a")]
    assert devices["ann"].received == []


def test_rows_come_and_go_that_another_table_decided_about() -> None:
    stage = Stage()
    view, question = stage.view("ann")
    stage.know(question)
    _, ann = stage.join(view)
    stage.answer(question, stage.commit("a", "b"))
    stage.answer(question, stage.commit("m", table=MEMBERS), "a", "b")
    assert sorted(ann.received) == [("insert", "a"), ("insert", "b")]
    stage.answer(question, stage.commit(table=MEMBERS, gone=["m"]), hidden=["a"])
    assert ann.received[2:] == [("gone", "a")]


def test_transactions_are_sent_in_order_as_far_as_they_are_answered() -> None:
    stage = Stage()
    view, question = stage.view("ann")
    stage.know(question)
    _, ann = stage.join(view)
    first = stage.commit("a")
    (taken,) = stage.fanout.questions.take(1)
    stage.commit("b")
    stage.fanout.versions.decide(question.id, first, [(b"a",), (b"b",)], [])
    stage.fanout.questions.answered(taken)
    stage.fanout.answered([question])

    assert ann.received == [("insert", "a")]


def test_whoever_comes_back_to_answers_that_are_younger_than_its_position_is_let_go() -> None:
    stage = Stage()
    view, question = stage.view("ann")
    stage.commit("a")
    stage.know(question, since=10)
    stage.join(view, position=0)
    assert len(stage.dropped) == 1
    subscriber, _ = stage.join(view, position=10)
    assert subscriber.live


def test_whoever_depends_on_a_forgotten_question_is_let_go() -> None:
    stage = Stage()
    view, question = stage.view("ann")
    stage.know(question)
    subscriber, ann = stage.join(view)
    stage.fanout.forget([question])
    stage.commit("a")
    assert (len(stage.dropped), subscriber.left, ann.received) == (1, True, [])


def test_answers_about_a_table_whose_changes_are_missed_are_forgotten() -> None:
    stage = Stage()
    (view, question), (_, other) = stage.view("ann"), stage.view("bob")
    stage.know(question)
    stage.know(other)
    stage.join(view)
    stage.fanout.let_go_of(MEMBERS)  # which the policy looks at
    assert len(stage.dropped) == 1
    assert (stage.fanout.questions.since(question), stage.fanout.questions.since(other)) == (None, None)
    assert len(stage.fanout.questions) == 0
