"""Asks Postgres what readers may see whose policies are not understood, and keeps the answers up to date.

A question is asked for the first time when somebody needs it, as a table is loaded; then for each transaction that may
have changed its answer; and again every few seconds, because not all that policies look at is in the stream. Whoever
depends on it is sent a transaction when it is answered, and not before. Everybody else is sent it at once.

Fails closed: of what Postgres refuses to say, the reader sees nothing.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import Literal

import psycopg
from psycopg_pool import PoolTimeout

from leyden.cancellation import cancel
from leyden.edge.delivery.covering import SnapshotTooOld, covering
from leyden.edge.delivery.fanout import FanOut
from leyden.events import DatabaseUnavailable, Emit, QuestionAnswered, QuestionFailed, UnexpectedError
from leyden.log import OutsideWindow, TransactionLog
from leyden.model import Row
from leyden.postgres.reading.snapshots import Snapshot, Snapshots
from leyden.postgres.writing.sqlstates import is_contention, is_cut_off, is_server_trouble
from leyden.shapes.answers import Questions, Taken, Verdict, WrittenKeys, verdicts
from leyden.shapes.questions import Question
from leyden.shapes.versions import BATCH, Comparison

#: Questions in use at a time. Each costs a query for each transaction that may change its answer.
MOST_QUESTIONS = 1_000

#: Questions asked of one snapshot, and such rounds at a time, each on a connection of its own.
QUESTIONS_AT_ONCE = 20
ROUNDS_AT_ONCE = 3

#: For one query to answer (seconds), and attempts at one that Postgres did not get through.
QUERY_TIMEOUT = 10.0
ATTEMPTS = 2

#: Rounds in which an answer may be cut off before it counts as refused.
CUT_OFF_ROUNDS = 5

#: Pause before another attempt (seconds).
RETRY_PAUSE = 0.5

#: Between two looks at whether an answer is still the same (seconds), and how many times longer than the look itself.
LOOK_INTERVAL = 5.0
LOOK_SHARE = 10.0

#: For which a question is kept up to date that nobody depends on, as somebody may come back (seconds).
KEPT_UNUSED = 60.0

#: Between two reports of the same failure (seconds).
REPORT_INTERVAL = 60.0

#: Pause between looks at what is to be done (seconds).
TICK = 0.5

#: What Postgres said: the keys found of those that were asked for, or all of them, compared with what was known.
_Answer = set[Row] | Comparison


class TooManyQuestions(Exception):
    """There are too many readers whose policies have to be asked of Postgres."""


class QuestionNotAnswered(Exception):
    """Postgres did not make visible in time what it had already committed, its answer was not read in time, or the
    question was forgotten meanwhile."""


class _Forgotten(Exception):
    """Nobody needs the answer any more."""


class _CutOff(Exception):
    """All rows were asked for, and some had come when the time was over. Perhaps we were too slow in reading them."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__()
        self.error = error


class Asking:
    """Asks the questions that the fan-out depends on. :meth:`run` works on them until it is cancelled."""

    def __init__(
        self,
        fanout: FanOut,
        log: TransactionLog,
        snapshots: Snapshots,
        catch_up: Callable[[], Awaitable[None]],
        moment: Callable[[], Awaitable[None]],
        emit: Emit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``catch_up`` returns once the log holds everything that has committed so far, and ``moment`` causes it to
        hold one more transaction soon, though that changes nothing."""
        self._fanout = fanout
        self._log = log
        self._snapshots = snapshots
        self._catch_up = catch_up
        self._moment = moment
        self._emit = emit
        self._clock = clock
        #: Questions that are being asked for the first time.
        self._first: dict[Question, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        #: Set when there is another answer, or none to come any more, and replaced then.
        self._progress = asyncio.Event()
        self._slots = asyncio.Semaphore(ROUNDS_AT_ONCE)
        self._rounds: set[asyncio.Task[None]] = set()
        #: When a question is to be looked at again, and the WAL's end at the last look: while that is the same, so is
        #: the answer.
        self._look_at: dict[Question, float] = {}
        self._looked_until: dict[Question, int] = {}
        #: How often that was forgotten.
        self._changes = 0
        #: In how many rounds since the last answer it was cut off.
        self._cut_off: dict[Question, int] = {}
        #: When a question was last in use.
        self._used_at: dict[Question, float] = {}
        #: Failures by table, role and SQLSTATE: when they were told last, and how many there were since.
        self._failures: dict[tuple[str, str, str], tuple[float, int]] = {}
        #: Whether it was told that Postgres is away.
        self._is_away = False
        self._questions.on_unanswered = self._wake.set
        self._questions.on_forgotten = self._tell_progress

    @property
    def _questions(self) -> Questions:
        return self._fanout.questions

    # ---- for those who depend on answers -------------------------------------------------------------------------

    async def ensure(self, questions: Iterable[Question]) -> None:
        """Returns once all ``questions`` were asked. With nothing awaited in between, their answers are still kept.

        Raises:
            TooManyQuestions: there would be more than the service keeps up with.
            QuestionNotAnswered: it did not succeed in several attempts.
            psycopg.Error: the database is not available.
        """
        wanted = set(questions)
        if not wanted:
            return
        while True:
            # Shared, and not cancelled with whoever wanted it first.
            missing = [question for question in wanted if self._questions.since(question) is None]
            asking = [self._asking_first(question) for question in missing]
            # Not before: of those for which there is no room, nothing is kept.
            self._used_at |= dict.fromkeys(wanted, self._clock())
            if not asking:
                return
            await asyncio.wait(asking)
            try:
                for task in asking:
                    task.result()
            finally:
                del asking, task  # an error that refers to them through this frame would keep its reader's connection

    async def answered(self, questions: Iterable[Question], position: int) -> None:
        """Returns once all ``questions`` are answered for every transaction up to ``position``, or forgotten."""
        wanted = tuple(questions)
        while (first := self._questions.first_unanswered(wanted)) is not None and first <= position:
            await self._progress.wait()

    def _tell_progress(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

    # ---- the first time ------------------------------------------------------------------------------------------

    def _asking_first(self, question: Question) -> asyncio.Task[None]:
        task = self._first.get(question)
        if task is None:
            if len(self._questions) >= MOST_QUESTIONS:
                raise TooManyQuestions
            self._questions.begin(question)
            task = self._first[question] = asyncio.create_task(self._ask_first(question))
            task.add_done_callback(lambda done: self._asked_first(question, done))
        return task

    def _asked_first(self, question: Question, task: asyncio.Task[None]) -> None:
        self._first.pop(question, None)
        if not task.cancelled():
            task.exception()  # is that of whoever waits for it, and of nobody if they have left

    async def _ask_first(self, question: Question) -> None:
        async with self._slots:
            await self._load_answers(question)

    async def _load_answers(self, question: Question) -> None:
        questions, versions, changes = self._questions, self._fanout.versions, self._changes
        try:
            self._begin_loading(question)
            started = self._clock()
            async with covering(self._snapshots, self._fanout, self._log.head) as snapshot:
                point = snapshot.point
                await self._load(question, snapshot)
            # Whoever was served by earlier answers, which may have been others, is at a position before this moment,
            # even if it is the head of the log, or was served by an earlier process.
            await self._moment()
            await self._catch_up()
            since = self._log.head
            self._require(question)
            versions.complete(question.answers)
            questions.know(question, since, point.sees)
            self._tell_progress()
        except BaseException as error:
            questions.forget(question)
            versions.forget(question.id)
            if isinstance(error, SnapshotTooOld | _Forgotten | _CutOff):
                raise QuestionNotAnswered from None
            raise
        seconds = self._clock() - started
        if changes == self._changes:
            self._put_off_look(question, seconds)
        self._emit(QuestionAnswered(question.table.name, "first", seconds))

    def _begin_loading(self, question: Question) -> None:
        self._require(question)
        self._fanout.versions.begin(question.answers)

    def _require(self, question: Question) -> None:
        if question not in self._questions:
            raise _Forgotten

    async def _load(self, question: Question, snapshot: Snapshot) -> None:
        """Loads the keys of the rows that the reader sees: none if Postgres refuses the query, as to the reader."""
        versions = self._fanout.versions
        for attempt in range(1, ATTEMPTS + 1):
            has_begun = False
            try:
                async with aclosing(self._keys(question, snapshot)) as batches:
                    async for keys in batches:
                        has_begun = has_begun or bool(keys)
                        self._require(question)
                        versions.load(question.answers, ((key, ()) for key in keys))
                        await asyncio.sleep(0)
                return
            except psycopg.Error as error:
                self._begin_loading(question)  # without what came before the failure
                if snapshot.is_lost:
                    raise
                if attempt == ATTEMPTS or not _may_pass(error):
                    if has_begun and is_cut_off(error):
                        raise _CutOff(error) from None
                    self._tell_failure(question, error)
                    return

    # ---- from then on --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        looking = asyncio.create_task(self._keep_looking())
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._questions.has_work:
                    await self._slots.acquire()
                    # Taken when a connection is free for it: what comes until then is asked along.
                    task = asyncio.create_task(self._round(self._questions.take(QUESTIONS_AT_ONCE)))
                    self._rounds.add(task)
                    task.add_done_callback(self._rounds.discard)
        finally:
            await cancel(looking, *self._rounds, *self._first.values())

    async def _round(self, taken: Sequence[Taken]) -> None:
        try:
            await self._answer(taken)
        except (psycopg.Error, PoolTimeout, OSError, SnapshotTooOld) as error:
            if not self._is_away:
                self._is_away = True
                reason = f"Postgres was not asked about policies: {type(error).__name__}"
                self._emit(DatabaseUnavailable(reason, RETRY_PAUSE))
            await asyncio.sleep(RETRY_PAUSE)
        except OutsideWindow:
            self._forget(taken)
        except Exception as error:
            # A defect of ours. What is not known is not sent.
            trace = "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__
            self._emit(UnexpectedError("asking", trace))
            self._forget(taken)
        finally:
            self._slots.release()
            for one in taken:
                self._questions.put_back(one)
            self._tell_progress()

    def _forget(self, taken: Iterable[Taken]) -> None:
        self._fanout.forget([one.question for one in taken if self._questions.is_current(one)])

    async def _answer(self, taken: Sequence[Taken]) -> None:
        answers: list[tuple[Taken, _Answer, float]] = []
        async with covering(self._snapshots, self._fanout, self._log.head) as snapshot:
            point = snapshot.point
            for one in taken:
                if not self._questions.is_current(one):
                    continue
                started = self._clock()
                keys = {key for item in one.unanswered for key in item.keys}
                is_whole = any(item.is_whole for item in one.unanswered)
                with suppress(_Forgotten):
                    try:
                        answer = await self._asked(one.question, snapshot, None if is_whole else keys)
                        self._cut_off.pop(one.question, None)
                    except _CutOff as cut_off:
                        rounds = self._cut_off[one.question] = self._cut_off.get(one.question, 0) + 1
                        if rounds < CUT_OFF_ROUNDS:
                            continue
                        self._tell_failure(one.question, cut_off.error)
                        answer = self._comparison(one.question)
                    answers.append((one, answer, self._clock() - started))
        self._is_away = False
        # What the answers saw of transactions that came after those they are for.
        await self._catch_up()
        asked_for = [one.unanswered[-1].position for one, *_ in answers if self._questions.is_current(one)]
        since = self._log.after(min(asked_for, default=self._log.head))
        written = WrittenKeys([transaction for transaction in since if point.sees(transaction.xid)])
        for one, answer, seconds in answers:
            if not self._questions.is_current(one):
                continue
            later = written.after(one.unanswered[-1].position, one.question.table)
            with suppress(_Forgotten):
                await self._apply(one, answer, later)
                self._questions.answered(one)
            kind: Literal["rows", "all"] = "rows" if isinstance(answer, set) else "all"
            self._emit(QuestionAnswered(one.question.table.name, kind, seconds))
        self._fanout.answered([one.question for one, *_ in answers])

    async def _asked(self, question: Question, snapshot: Snapshot, keys: Collection[Row] | None) -> _Answer:
        """The keys that the reader may see of ``keys``; a comparison with all that he may see without these. None of
        them if Postgres refuses the query.

        Raises :class:`_CutOff` and :class:`_Forgotten`.
        """
        for attempt in range(1, ATTEMPTS + 1):
            comparison = self._comparison(question) if keys is None else None
            found: set[Row] = set()
            has_begun = False
            try:
                async with aclosing(self._keys(question, snapshot, keys)) as batches:
                    async for batch in batches:
                        has_begun = has_begun or bool(batch)
                        if comparison is None:
                            found.update(batch)
                        else:
                            comparison.load(batch)
                        await asyncio.sleep(0)
                return found if comparison is None else comparison
            except psycopg.Error as error:
                if snapshot.is_lost:
                    raise
                if keys is None and has_begun and is_cut_off(error):
                    raise _CutOff(error) from None
                if attempt == ATTEMPTS or not _may_pass(error):
                    self._tell_failure(question, error)
                    return set() if keys is not None else self._comparison(question)
        raise AssertionError

    def _comparison(self, question: Question) -> Comparison:
        if question.id not in self._fanout.versions:
            raise _Forgotten
        return self._fanout.versions.comparison(question.answers)

    async def _apply(self, taken: Taken, answer: _Answer, later: Collection[Row]) -> None:
        unanswered = taken.unanswered
        written = {key for one in unanswered for key in one.keys}
        if isinstance(answer, set):
            for verdict in verdicts(unanswered, answer, later):
                self._decide(taken, verdict)
            return
        # Before anything is decided: that would be among the differences.
        missing = [key for batch in answer.missing() for key in batch]
        await asyncio.sleep(0)
        surplus = [key for batch in answer.surplus() for key in batch]
        visible = answer.present(written)
        for verdict in verdicts(unanswered, visible, later):
            self._decide(taken, verdict)
        position = unanswered[-1].position
        # A row that was written after the last of them and before the answer is not known to be visible here.
        unknown = [key for key in later if key not in written]
        shown = [key for key in missing if key not in written and key not in later]
        hidden = [*(key for key in surplus if key not in written), *unknown]
        for start in range(0, max(len(shown), len(hidden)), BATCH):
            end = start + BATCH
            self._decide(taken, Verdict(position, shown[start:end], hidden[start:end]))
            await asyncio.sleep(0)

    def _decide(self, taken: Taken, verdict: Verdict) -> None:
        if not self._questions.is_current(taken):
            raise _Forgotten  # while others had their turn
        self._fanout.versions.decide(taken.question.id, verdict.position, verdict.shown, verdict.hidden)

    # ---- looking again -------------------------------------------------------------------------------------------

    def look_soon(self) -> None:
        """Other rights are in force, and so there may be other answers, though nothing was written."""
        self._look_at.clear()
        self._looked_until.clear()
        self._changes += 1

    @property
    def is_to_look(self) -> bool:
        """Whether there are answers of before :meth:`look_soon`."""
        return any(question not in self._look_at for question in self._questions.known)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            due: list[Question] = []
            try:
                self._forget_unused()
                due = self._due()
                if due:
                    await self._look(due)
            except (psycopg.Error, PoolTimeout, OSError, SnapshotTooOld):
                continue  # of which others tell
            except Exception as error:
                trace = "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__
                self._emit(UnexpectedError("looking at policies", trace))
                self._fanout.forget(due)

    def _due(self) -> list[Question]:
        now = self._clock()
        return [
            question
            for question in self._questions.known
            if self._look_at.get(question, 0.0) <= now and self._questions.is_at_rest(question)
        ][:QUESTIONS_AT_ONCE]

    async def _look(self, due: Sequence[Question]) -> None:
        """Asks all of each question. If the answer is not what is known, it is to be asked with the next transaction,
        which comes soon."""
        differing, changes = [], self._changes
        async with covering(self._snapshots, self._fanout, self._log.head) as snapshot:
            position = snapshot.point.wal_position
            for question in due:
                if not self._questions.is_at_rest(question):
                    continue
                if self._looked_until.get(question) == position:
                    self._look_at[question] = self._clock() + LOOK_INTERVAL
                    continue
                started = self._clock()
                generation = self._questions.generation(question)
                answer: _Answer | None = None
                try:
                    answer = await self._asked(question, snapshot, None)
                except _Forgotten:
                    continue
                except _CutOff:
                    pass
                if changes != self._changes:
                    break  # all are due again
                if generation != self._questions.generation(question):
                    continue
                seconds = self._clock() - started
                self._put_off_look(question, seconds)
                if answer is None:
                    continue
                self._looked_until[question] = position
                self._emit(QuestionAnswered(question.table.name, "look", seconds))
                # What was written meanwhile is asked about anyway, and its answer is still to come.
                if self._questions.is_at_rest(question) and isinstance(answer, Comparison) and answer.differs:
                    differing.append(question)
        for question in differing:
            self._questions.doubt(question)
        if differing:
            await self._moment()

    def _put_off_look(self, question: Question, seconds: float) -> None:
        """It was asked about all rows a moment ago, which took so many ``seconds``."""
        self._look_at[question] = self._clock() + max(LOOK_INTERVAL, LOOK_SHARE * seconds)

    def _forget_unused(self) -> None:
        for what in (self._look_at, self._looked_until, self._cut_off, self._used_at):
            for question in [one for one in what if one not in self._questions]:
                del what[question]
        now, known = self._clock(), self._questions.known
        if not known:
            return
        self._used_at |= dict.fromkeys(self._fanout.questions_in_use, now)
        unused = [one for one in known if now - self._used_at.setdefault(one, now) > KEPT_UNUSED]
        if unused:
            self._fanout.forget(unused)

    # ---- one query -----------------------------------------------------------------------------------------------

    def _keys(
        self, question: Question, snapshot: Snapshot, keys: Collection[Row] | None = None
    ) -> AsyncGenerator[list[Row]]:
        return snapshot.keys_for(question.table, question.reader, QUERY_TIMEOUT, keys)

    def _tell_failure(self, question: Question, error: psycopg.Error) -> None:
        failure = (question.table.name, question.reader.role or "", error.sqlstate or "")
        now = self._clock()
        told_at, untold = self._failures.get(failure, (float("-inf"), 0))
        if now - told_at < REPORT_INTERVAL:
            self._failures[failure] = (told_at, untold + 1)
            return
        self._failures[failure] = (now, 0)
        self._emit(QuestionFailed(*failure, times=untold + 1))


def _may_pass(error: psycopg.Error) -> bool:
    return is_contention(error) or is_server_trouble(error)
