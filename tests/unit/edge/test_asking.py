"""What is asked of Postgres about policies, when, and what becomes of the answers; Postgres is played here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, cast

import psycopg
import pytest

from leyden.edge.delivery import asking
from leyden.edge.delivery.asking import LOOK_INTERVAL, Asking, QuestionNotAnswered, TooManyQuestions
from leyden.edge.delivery.fanout import FanOut
from leyden.events import Event, QuestionFailed, UnexpectedError
from leyden.log.memory import MemoryLog
from leyden.model import Author, Column, Insert, Policy, ReadingRights, Row, SnapshotPoint, Table, Transaction
from leyden.satellite.encoding import Encoder
from leyden.satellite.positions import Positions
from leyden.shapes.questions import Question, unknown
from speaker import until

DOCS = Table(1, "docs", (Column("id", "text", True),), ("id",), "docs_pkey")
OBSCURE = Policy("obscure", True, "public.visible(id)", relations=frozenset({1}))


def question(user: str = "ann", looks_at: frozenset[int] | None = frozenset()) -> Question:
    asked = unknown(DOCS, "reader", None, {1: ReadingRights(policies=(OBSCURE,))}, "why").of(user, {})
    return Question(asked.key, asked.table, asked.reader, looks_at, asked.why)


def nothing() -> None: ...


class Database:
    """Rows that everybody may see. What happens while they are read is up to the test."""

    def __init__(self) -> None:
        self.log = MemoryLog(1 << 20)
        self.fanout = FanOut(self.log, Encoder(Positions("e")))
        self.events: list[Event] = []
        self.now = 0.0
        self.rows: list[Row] = []
        #: Users of whom it was asked, with the keys; ``None`` for all.
        self.asked: list[tuple[str, set[Row] | None]] = []
        #: Called while the rows are read: after the first batch.
        self.meanwhile: Callable[[], None] = nothing
        self.when_caught_up: Callable[[], None] = nothing
        #: Raised after the first batch, or before it, for so many queries.
        self.failure: psycopg.Error | None = None
        self.failures, self.failures_early = 0, False
        self.is_lost = False
        self.asking = Asking(
            self.fanout, self.log, cast(Any, self), self.catch_up, self.moment, self.events.append, lambda: self.now
        )

    # ---- what the service does

    async def catch_up(self) -> None:
        await asyncio.sleep(0)
        self.when_caught_up()

    async def moment(self) -> None:
        self.commit()

    # ---- snapshots

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Database]:
        yield self

    @property
    def point(self) -> SnapshotPoint:
        return SnapshotPoint(self.log.head + 1, self.log.head + 1, frozenset(), self.log.head)

    async def keys_for(
        self,
        table: Table,
        reader: Author,
        timeout: float,  # noqa: ASYNC109
        keys: Collection[Row] | None = None,
    ) -> AsyncGenerator[list[Row]]:
        self.asked.append((reader.user_id, None if keys is None else set(keys)))
        found = [row for row in self.rows if keys is None or row in keys]
        fails = self.failures > 0
        self.failures -= fails
        if self.failure is not None and fails and self.failures_early:
            raise self.failure
        yield found[:1]
        self.meanwhile()
        if self.failure is not None and fails:
            raise self.failure
        yield found[1:]

    # ---- what happens

    def commit(self, *keys: bytes) -> int:
        position = self.log.head + 10
        self.rows += [(key,) for key in keys]
        changes = tuple(Insert(DOCS, (key,), ()) for key in keys)
        self.log.append(Transaction(position, position, 1, None, changes), 1)
        return position

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.asking.run())
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def settled(self) -> None:
        questions = self.fanout.questions
        await until(lambda: all(map(questions.is_at_rest, questions.known)))

    async def look(self, number: int) -> None:
        """The time for the next look at an only question comes, and it is looked at."""
        self.now += LOOK_INTERVAL
        await until(lambda: len(self.asked) == 1 + number)
        for _ in range(10):
            await asyncio.sleep(0)

    def shown(self, one: Question) -> set[Row]:
        at = self.fanout.versions.as_of(self.log.head)
        return {row.row for batch in at.batches(one.id, {}) for row in batch}

    def once(self, what: Callable[[], object]) -> None:
        def happens() -> None:
            self.meanwhile = nothing
            what()

        self.meanwhile = happens


@pytest.fixture
def database() -> Database:
    return Database()


def keys(*texts: bytes) -> set[Row]:
    return {(text,) for text in texts}


# ---- what is kept of questions ---------------------------------------------------------------------------------------


async def test_nothing_is_kept_of_questions_that_were_forgotten_or_put_off(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "TICK", 0.001)
    monkeypatch.setattr(asking, "MOST_QUESTIONS", 2)
    kept, forgotten, put_off = question("ann"), question("bob"), question("eve")
    async with database.serving():
        await database.asking.ensure([kept, forgotten])
        database.now += LOOK_INTERVAL
        await until(lambda: len(database.asked) == 4)  # they were looked at
        with pytest.raises(TooManyQuestions):
            await database.asking.ensure([put_off])
        assert remembered(database) == {kept, forgotten}
        database.fanout.forget([forgotten])
        await until(lambda: remembered(database) == {kept})
        database.fanout.questions.clear()
        await until(lambda: remembered(database) == set())


def remembered(database: Database) -> set[Question]:
    """All that is kept by question."""
    kept = [value for value in vars(database.asking).values() if isinstance(value, dict)]
    return {key for one in kept for key in one if isinstance(key, Question)}


# ---- the first time --------------------------------------------------------------------------------------------------


async def test_whoever_was_up_to_date_with_earlier_answers_does_not_go_on_with_those_that_were_asked_anew(
    database: Database,
) -> None:
    asked = question()
    database.commit(b"a")
    await database.asking.ensure([asked])
    client_at = database.log.head
    database.fanout.forget([asked])
    database.rows = []  # for a reason that is not in the stream
    await database.asking.ensure([asked])
    since = database.fanout.questions.since(asked)
    assert since is not None
    assert client_at < since <= database.log.head


# ---- answers that are cut off ----------------------------------------------------------------------------------------


async def test_an_answer_that_is_cut_off_while_it_is_read_is_no_refusal_and_asked_for_again(database: Database) -> None:
    asked = question(looks_at=None)
    database.commit(b"a", b"b")
    async with database.serving():
        await database.asking.ensure([asked])
        database.failure, database.failures = psycopg.errors.QueryCanceled(), 3
        database.commit(b"c")
        await database.settled()
        assert database.shown(asked) == keys(b"a", b"b", b"c")
    assert not [event for event in database.events if isinstance(event, QuestionFailed)]


async def test_an_answer_that_is_cut_off_again_and_again_is_a_refusal_in_the_end(database: Database) -> None:
    asked = question(looks_at=None)
    database.commit(b"a", b"b")
    async with database.serving():
        await database.asking.ensure([asked])
        database.failure, database.failures = psycopg.errors.QueryCanceled(), 1_000
        database.commit(b"c")
        await database.settled()
        assert database.shown(asked) == set()
    assert [event.sqlstate for event in database.events if isinstance(event, QuestionFailed)] == ["57014"]


async def test_a_query_that_is_cut_off_before_the_first_row_twice_is_refused(database: Database) -> None:
    asked = question(looks_at=None)
    database.commit(b"a", b"b")
    async with database.serving():
        await database.asking.ensure([asked])
        database.failure, database.failures, database.failures_early = psycopg.errors.QueryCanceled(), 2, True
        database.commit(b"c")
        await database.settled()
        assert database.shown(asked) == set()


async def test_a_first_answer_that_is_cut_off_does_not_pass_for_an_empty_one(database: Database) -> None:
    asked = question()
    database.commit(b"a", b"b")
    database.failure, database.failures = psycopg.errors.QueryCanceled(), 2
    with pytest.raises(QuestionNotAnswered):
        await database.asking.ensure([asked])
    await database.asking.ensure([asked])
    assert database.shown(asked) == keys(b"a", b"b")


async def test_a_look_that_is_cut_off_changes_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "TICK", 0.001)
    asked = question()
    database.commit(b"a", b"b")
    async with database.serving():
        await database.asking.ensure([asked])
        head = database.log.head
        database.failure, database.failures = psycopg.errors.QueryCanceled(), 2
        for looks in (1, 2, 3):
            await database.look(looks)
        assert (database.log.head, database.shown(asked)) == (head, keys(b"a", b"b"))


async def test_when_rights_change_answers_are_looked_at_before_their_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "TICK", 0.001)
    asked = question()
    database.commit(b"a", b"b")
    async with database.serving():
        await database.asking.ensure([asked])
        await database.look(1)
        database.rows = [(b"a",)]

        database.asking.look_soon()
        assert database.asking.is_to_look
        await until(lambda: not database.asking.is_to_look)
        await until(lambda: database.shown(asked) == keys(b"a"))

        # A look that has begun before does not count.
        database.once(lambda: (database.asking.look_soon(), database.rows.append((b"c",))))
        await database.asking._look([asked])
        assert database.asking.is_to_look
        await until(lambda: database.shown(asked) == keys(b"a", b"c"))


async def test_a_first_answer_of_before_a_change_of_rights_is_looked_at_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "TICK", 0.001)
    asked = question()
    database.commit(b"a", b"b")
    database.once(lambda: (database.asking.look_soon(), database.rows.clear()))
    async with database.serving():
        await database.asking.ensure([asked])
        await until(lambda: not database.asking.is_to_look)
        await until(lambda: database.shown(asked) == set())


async def test_what_may_fail_if_all_rows_are_looked_at_is_always_asked_of_all(database: Database) -> None:
    some, whole = question("ann"), replace(question("bob"), is_whole=True)
    async with database.serving():
        await database.asking.ensure([some, whole])
        database.asked.clear()
        database.commit(b"a")
        await database.settled()
        assert sorted(database.asked, key=str) == [("ann", {(b"a",)}), ("bob", None)]


# ---- questions that are forgotten meanwhile --------------------------------------------------------------------------


async def test_a_question_that_is_forgotten_while_it_is_asked_for_the_first_time_is_not_answered(
    database: Database,
) -> None:
    asked = question()
    database.commit(b"a", b"b")
    database.once(lambda: database.fanout.forget([asked]))
    with pytest.raises(QuestionNotAnswered):
        await database.asking.ensure([asked])
    assert (len(database.fanout.questions), asked.id in database.fanout.versions) == (0, False)
    await database.asking.ensure([asked])
    assert database.shown(asked) == keys(b"a", b"b")


@pytest.mark.parametrize("looks_at", [frozenset(), None])
async def test_a_question_that_is_forgotten_while_others_are_asked_costs_them_nothing(
    database: Database, looks_at: frozenset[int] | None
) -> None:
    forgotten, other = question("ann", looks_at), question("bob", looks_at)
    async with database.serving():
        await database.asking.ensure([other])
        await database.asking.ensure([forgotten])
        database.once(lambda: database.fanout.forget([forgotten]))
        database.commit(b"a")
        await database.settled()
        assert (forgotten in database.fanout.questions, other in database.fanout.questions) == (False, True)
        assert database.shown(other) == keys(b"a")
    assert not [event for event in database.events if isinstance(event, UnexpectedError)]


async def test_an_answer_is_not_taken_for_that_to_a_question_that_was_begun_anew(database: Database) -> None:
    """The rows are those of the new question, for which Postgres has not been asked about the last transaction."""
    asked = question()

    def anew() -> None:
        versions, questions = database.fanout.versions, database.fanout.questions
        database.fanout.forget([asked])
        versions.begin(asked.answers)
        versions.complete(asked.answers)
        questions.begin(asked)
        questions.know(asked, database.log.head, lambda xid: True)
        database.rows = []  # and nobody may see anything any more
        database.commit()
        position = database.log.head + 10
        database.log.append(Transaction(position, position, 1, None, (Insert(DOCS, (b"b",), ()),)), 1)

    async with database.serving():
        await database.asking.ensure([asked])
        database.commit(b"a")
        database.once(anew)
        await database.settled()
        assert [found for _, found in database.asked] == [None, keys(b"a"), keys(b"b")]
        assert database.shown(asked) == set()


async def test_an_answer_that_only_lacks_its_verdicts_is_dropped_with_its_question(database: Database) -> None:
    asked = question(looks_at=None)
    versions, questions = database.fanout.versions, database.fanout.questions

    def anew() -> None:
        database.fanout.forget([asked])
        versions.begin(asked.answers)
        versions.complete(asked.answers)
        questions.begin(asked)
        questions.know(asked, database.log.head, lambda xid: True)

    def soon() -> None:
        database.when_caught_up = nothing
        asyncio.get_running_loop().call_soon(anew)  # when others have their turn next

    async with database.serving():
        await database.asking.ensure([asked])
        database.when_caught_up = soon
        database.commit(b"a")
        generation = questions.generation(asked)
        await until(lambda: questions.generation(asked) != generation)
        await database.settled()
        assert database.shown(asked) == set()
    assert not [event for event in database.events if isinstance(event, UnexpectedError)]


async def test_who_waits_for_an_answer_goes_on_when_the_question_is_forgotten(database: Database) -> None:
    asked = question()
    for forget in (lambda: database.fanout.forget([asked]), database.fanout.questions.clear):
        await database.asking.ensure([asked])
        waiting = asyncio.create_task(database.asking.answered([asked], database.commit(b"a")))
        await asyncio.sleep(0)
        assert not waiting.done()
        forget()
        await asyncio.wait_for(waiting, 1)


async def test_a_look_at_a_question_that_is_forgotten_is_given_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "TICK", 0.001)
    forgotten, other = question("ann"), question("bob")
    database.failure = psycopg.errors.SerializationFailure()
    async with database.serving():
        await database.asking.ensure([forgotten])
        await database.asking.ensure([other])
        database.failures = 1
        database.once(lambda: database.fanout.forget([forgotten]))
        database.now += 20
        await until(lambda: len(database.asked) == 4)
        assert other in database.fanout.questions
    assert not [event for event in database.events if isinstance(event, UnexpectedError)]
