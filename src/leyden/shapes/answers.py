"""Answers: what Postgres said to the questions that are in use, and what transactions left unanswered.

The answer to a question is of a moment at or after the transactions that it is asked for. So a row counts as visible
from a transaction on only if it has not been written again since, as far as the answer sees; what its reader may see of
a later version is decided at that version's own place. Nothing is ever sent that its reader could not have selected at
some moment between the transaction that wrote it and its delivery.

Pure: who asks, and how, is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import count, dropwhile

from leyden.model import Delete, Insert, Row, Table, Transaction, Update
from leyden.shapes.questions import Question


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A transaction that may have changed the answer: for the rows with the primary keys ``keys``, which it wrote, and
    if it ``is_whole`` for all."""

    position: int
    xid: int
    keys: Collection[Row]
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """From ``position`` on, the rows with the keys ``shown`` may be seen, and those with the keys ``hidden`` not."""

    position: int
    shown: Collection[Row]
    hidden: Collection[Row]


def verdicts(unanswered: Sequence[Unanswered], visible: Collection[Row], later: Collection[Row]) -> Iterator[Verdict]:
    """What becomes of the rows that some transactions wrote, by an answer that sees all of these: ``visible`` are the
    keys of those of them that may be seen, ``later`` those that were written by others since and before the answer."""
    last = {key: one.position for one in unanswered for key in one.keys}
    for one in unanswered:
        shown = [key for key in one.keys if last[key] == one.position and key in visible and key not in later]
        yield Verdict(one.position, shown, set(one.keys).difference(shown))


class WrittenKeys:
    """The primary keys of the rows that some transactions, oldest first, change; looked up once for each table, however
    many ask about it."""

    def __init__(self, transactions: Sequence[Transaction]) -> None:
        self._transactions = transactions
        self._found: dict[Table, list[tuple[int, frozenset[Row]]]] = {}

    def of(self, table: Table) -> Sequence[tuple[int, frozenset[Row]]]:
        """For each transaction its position, and the keys of the rows of ``table``."""
        found = self._found.get(table)
        if found is None:
            found = [(one.position, _keys_written(one, table)) for one in self._transactions]
            self._found[table] = found
        return found

    def after(self, position: int, table: Table) -> set[Row]:
        """The keys of the rows of ``table`` that transactions after ``position`` change."""
        return {key for at, keys in self.of(table) if at > position for key in keys}


def _keys_written(transaction: Transaction, table: Table) -> frozenset[Row]:
    keys: set[Row] = set()
    for change in transaction.changes:
        if change.table.id == table.id:
            match change:
                case Insert():
                    keys.add(table.key_of(change.row))
                case Update() | Delete():
                    keys.add(table.key_of(change.old))
    return frozenset(keys)


@dataclass(frozen=True, slots=True)
class Taken:
    """A question that somebody asks, and what for."""

    question: Question
    unanswered: tuple[Unanswered, ...]
    #: Of the question when it was taken. It may be forgotten meanwhile, and even be begun anew.
    generation: int


@dataclass(slots=True)
class _State:
    question: Question
    #: No two are alike.
    generation: int
    #: Position from which on the answers are known; ``None`` until they were asked for the first time.
    since: int | None = None
    unanswered: list[Unanswered] = field(default_factory=list)
    #: Whether it is being asked.
    is_asked: bool = False


def _deciding(question: Question) -> Iterator[int | None]:
    """The tables (ids) whose changes may concern the answer; ``None`` for any."""
    yield question.table.id
    yield from (None,) if question.looks_at is None else question.looks_at


def _is_to_be_asked(state: _State) -> bool:
    return bool(state.unanswered) and state.since is not None and not state.is_asked


class Questions:
    """The questions that are in use, each with the transactions that it has not been asked for yet."""

    def __init__(self) -> None:
        self._states: dict[int, _State] = {}
        self._generations = count(1)
        #: The same, by the tables (ids) whose changes may concern them; ``None``: of any table.
        self._by_table: dict[int | None, dict[int, _State]] = {}
        #: Those to be asked with the next transaction, whatever it is.
        self._doubted: dict[int, _State] = {}
        #: Called when there is something to ask.
        self.on_unanswered: Callable[[], None] = lambda: None
        #: Called when nothing is to be waited for any more that somebody may be waiting for.
        self.on_forgotten: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, question: Question) -> bool:
        return question.id in self._states

    @property
    def known(self) -> list[Question]:
        """Those whose answers are known from some position on."""
        return [state.question for state in self._states.values() if state.since is not None]

    def since(self, question: Question) -> int | None:
        """The position from which on the answers are known, if they are."""
        state = self._states.get(question.id)
        return None if state is None else state.since

    def generation(self, question: Question) -> int | None:
        """Another one each time that the question is begun; ``None`` if it is not in use."""
        state = self._states.get(question.id)
        return None if state is None else state.generation

    def are_known_since(self, questions: Iterable[Question], position: int) -> bool:
        """Whether the answers to all ``questions`` are known from ``position`` on, or longer."""
        return all((since := self.since(one)) is not None and since <= position for one in questions)

    def begin(self, question: Question) -> None:
        """From now on, what transactions leave unanswered is noted."""
        self.forget(question)
        state = self._states[question.id] = _State(question, next(self._generations))
        for table_id in _deciding(question):
            self._by_table.setdefault(table_id, {})[question.id] = state

    def know(self, question: Question, since: int, is_seen: Callable[[int], bool]) -> None:
        """The answers of a moment are known, which sees the transactions for whose ids ``is_seen`` is true. They hold
        from ``since`` on, which is after all of these."""
        state = self._states[question.id]
        state.since = since
        # The order of the log is not that of visibility. What comes after one that it did not see is asked about again:
        # to the answer for that one, these rows are written since.
        state.unanswered = list(dropwhile(lambda one: is_seen(one.xid), state.unanswered))
        if state.unanswered:
            self.on_unanswered()

    def forget(self, question: Question) -> None:
        if self._states.pop(question.id, None) is None:
            return
        self._doubted.pop(question.id, None)
        for table_id in _deciding(question):
            states = self._by_table[table_id]
            del states[question.id]
            if not states:
                del self._by_table[table_id]
        self.on_forgotten()

    def clear(self) -> None:
        for questions in (self._states, self._by_table, self._doubted):
            questions.clear()
        self.on_forgotten()

    def about(self, table_id: int) -> list[Question]:
        """Those whose answers depend on the table."""
        return [state.question for state in self._concerned({table_id})]

    def _concerned(self, tables: Collection[int]) -> list[_State]:
        found: dict[int, _State] = {}
        for table_id in (*tables, None) if tables else ():
            found |= self._by_table.get(table_id, {})
        return list(found.values())

    def doubt(self, question: Question) -> None:
        """Nothing in the stream tells of it, and yet the answer seems to be another one: it is asked for with the next
        transaction."""
        state = self._states.get(question.id)
        if state is not None:
            self._doubted[question.id] = state

    @property
    def has_doubts(self) -> bool:
        """Whether there are such questions."""
        return bool(self._doubted)

    def note(self, transaction: Transaction) -> list[Question]:
        """The next transaction of the log. Returns the questions that it leaves unanswered."""
        if not self._states:
            return []
        tables = {change.table.id for change in transaction.changes}
        concerned = {state.question.id: state for state in self._concerned(tables)} | self._doubted
        written = WrittenKeys([transaction])
        for state in concerned.values():
            question = state.question
            looks_at = question.looks_at
            is_whole = (
                question.is_whole or question.id in self._doubted or looks_at is None or not looks_at.isdisjoint(tables)
            )
            ((_, keys),) = written.of(question.table)
            state.unanswered.append(Unanswered(transaction.position, transaction.xid, keys, is_whole))
        self._doubted.clear()
        if concerned:
            self.on_unanswered()
        return [state.question for state in concerned.values()]

    def first_unanswered(self, questions: Iterable[Question]) -> int | None:
        """The position of the first transaction for which one of ``questions`` was not asked."""
        states = (self._states.get(question.id) for question in questions)
        return min(
            (state.unanswered[0].position for state in states if state is not None and state.unanswered), default=None
        )

    # ---- asking --------------------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether there is anything to :meth:`take`."""
        return any(map(_is_to_be_asked, self._states.values()))

    def take(self, most: int) -> list[Taken]:
        """At most so many questions that are to be asked: those that have waited longest. They are not given to anybody
        else until they are :meth:`put_back`."""
        waiting = filter(_is_to_be_asked, self._states.values())
        states = nsmallest(most, waiting, key=lambda state: state.unanswered[0].position)
        for state in states:
            state.is_asked = True
        return [Taken(state.question, tuple(state.unanswered), state.generation) for state in states]

    def is_current(self, taken: Taken) -> bool:
        """Whether the question was not forgotten since it was taken."""
        return self.generation(taken.question) == taken.generation

    def answered(self, taken: Taken) -> None:
        """The verdicts on what it was taken for are known."""
        if self.is_current(taken):
            del self._states[taken.question.id].unanswered[: len(taken.unanswered)]

    def put_back(self, taken: Taken) -> None:
        """It may be asked by others again."""
        if self.is_current(taken):
            state = self._states[taken.question.id]
            state.is_asked = False
            if state.unanswered:
                self.on_unanswered()

    def is_at_rest(self, question: Question) -> bool:
        """Whether there is nothing to ask, and nothing being asked."""
        state = self._states.get(question.id)
        return state is not None and state.since is not None and not (state.unanswered or state.is_asked)
