"""What Postgres' answers make of the rows that readers may see, at each position."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.model import (
    Call,
    Change,
    Column,
    Delete,
    Insert,
    Policy,
    ReadingRights,
    Table,
    Transaction,
    Update,
)
from leyden.shapes.answers import Questions, Unanswered, Verdict, WrittenKeys, verdicts
from leyden.shapes.questions import Question, unknown
from leyden.shapes.versions import VersionedTables

DOCS = Table(1, "docs", (Column("body", "text", False), Column("id", "float8", True)), ("id",), "docs_pkey")
MEMBERS = Table(2, "members", (Column("id", "text", True),), ("id",), "members_pkey")
OBSCURE = Policy("obscure", True, "public.visible(body)", relations=frozenset({1}))
RIGHTS = {1: ReadingRights(policies=(OBSCURE,)), 2: ReadingRights()}


def question(user: str = "ann", looks_at: frozenset[int] | None = frozenset(), **claims: object) -> Question:
    asked = unknown(DOCS, "reader", None, RIGHTS, "why").of(user, claims)
    return Question(asked.key, asked.table, asked.reader, looks_at, asked.why)


def insert(position: int, key: bytes, body: bytes = b"") -> Transaction:
    return Transaction(position, position, 1, None, (Insert(DOCS, (body, key), ()),))


def change_of(table: Table, position: int) -> Transaction:
    return Transaction(position, position, 1, None, (Insert(table, (b"m",), ()),))


# ---- which questions are the same ------------------------------------------------------------------------------------


def test_questions_of_equal_readers_are_one_whatever_token_they_have() -> None:
    assert question(org="a", iat=1, exp=2, nbf=3, jti="4") == question(org="a", iat=5)
    assert question(org="a").id == question(org="a").id < 0
    assert len({question(), question("bob"), question(org="a"), question(org="b")}) == 4


def test_another_policy_or_another_function_in_it_is_another_question() -> None:
    asked = {
        unknown(DOCS, role, None, {1: ReadingRights(policies=policies)}, "").of("ann", {})
        for role, policies in (
            ("reader", (OBSCURE,)),
            ("writer", (OBSCURE,)),
            ("reader", (Policy("obscure", False, OBSCURE.using),)),
            ("reader", (Policy("obscure", True, "public.visible(id)"),)),
            ("reader", (Policy("obscure", True, OBSCURE.using, calls=(Call("public.visible", True, "1"),)),)),
            ("reader", (Policy("obscure", True, OBSCURE.using, calls=(Call("public.visible", True, "2"),)),)),
        )
    }
    assert len(asked) == 6


@pytest.mark.parametrize("calls", [(), (Call("public.visible", False, "1"),)], ids=["by name", "by a function"])
def test_other_rights_to_what_the_policies_look_at_make_another_question(calls: tuple[Call, ...]) -> None:
    looking = Policy("p", True, "", relations=frozenset({1, 2} if not calls else {1}), calls=calls)
    own = Policy("own", True, "(person = 1)")
    asked = {
        unknown(DOCS, "reader", None, {1: ReadingRights(policies=(looking,))} | others, "").of("ann", {})
        for others in (
            {},
            {2: ReadingRights()},
            {2: ReadingRights(policies=())},
            {2: ReadingRights(policies=(own,))},
            {2: ReadingRights(columns=frozenset({"id"}), policies=(own,))},
        )
    }
    assert len(asked) == 5


def test_rights_to_what_they_do_not_look_at_do_not() -> None:
    rights = {1: ReadingRights(policies=(Policy("p", True, "", relations=frozenset({1, 2})),)), 2: ReadingRights()}
    more = rights | {3: ReadingRights()}
    one, other = (unknown(DOCS, "reader", None, each, "").of("ann", {}) for each in (rights, more))
    assert one == other


def test_what_the_policies_of_other_tables_look_at_counts_too() -> None:
    far = Policy("far", True, "true", relations=frozenset({2, 3}))
    rights = {
        1: ReadingRights(policies=(Policy("p", True, "", relations=frozenset({1, 2})),)),
        2: ReadingRights(policies=(far,)),
    }
    assert unknown(DOCS, "reader", None, rights, "").looks_at == {2, 3}


# ---- what a transaction leaves unanswered ----------------------------------------------------------------------------


def known(*asked: Question) -> Questions:
    questions = Questions()
    for one in asked:
        questions.begin(one)
        questions.know(one, 0, lambda xid: False)
    return questions


def test_a_transaction_that_writes_other_tables_leaves_nothing_unanswered() -> None:
    asked = question()
    questions = known(asked)
    assert questions.note(change_of(MEMBERS, 10)) == []
    assert questions.first_unanswered([asked]) is None


def test_rows_written_are_asked_about_and_all_rows_when_another_table_decides() -> None:
    narrow, wide, anywhere = question(), question("bob", frozenset({2})), question("eve", None)
    questions = known(narrow, wide, anywhere)
    assert questions.note(insert(10, b"1")) == [narrow, wide, anywhere]
    assert questions.note(change_of(MEMBERS, 20)) == [wide, anywhere]
    assert {one.question: one.unanswered for one in questions.take(9)} == {
        narrow: (Unanswered(10, 10, {(b"1",)}),),
        wide: (Unanswered(10, 10, {(b"1",)}), Unanswered(20, 20, set(), True)),
        anywhere: (Unanswered(10, 10, {(b"1",)}, True), Unanswered(20, 20, set(), True)),
    }
    assert questions.take(9) == []


def test_the_keys_that_a_transaction_wrote_are_kept_once_for_all_questions() -> None:
    questions = known(question("ann"), question("bob"), question("eve", None))
    questions.note(insert(10, b"1"))
    assert len({id(one.unanswered[0].keys) for one in questions.take(9)}) == 1


def test_what_is_noted_while_it_is_asked_stays_unanswered() -> None:
    asked = question()
    questions = known(asked)
    questions.note(insert(10, b"1"))
    (taken,) = questions.take(1)
    questions.note(insert(20, b"2"))
    questions.answered(taken)
    assert questions.first_unanswered([asked]) == 20
    assert questions.take(1) == []  # it is still in work
    questions.put_back(taken)
    assert [(one.question, one.unanswered) for one in questions.take(1)] == [(asked, (Unanswered(20, 20, {(b"2",)}),))]


def test_who_was_given_a_question_before_it_was_forgotten_has_no_say_when_it_was_begun_anew() -> None:
    asked = question()
    questions = known(asked)
    questions.note(insert(10, b"1"))
    (stale,) = questions.take(1)
    questions.forget(asked)
    assert not questions.is_current(stale)
    questions.begin(asked)
    questions.know(asked, 10, lambda xid: True)
    questions.note(insert(20, b"2"))
    (taken,) = questions.take(1)
    questions.answered(stale)
    questions.put_back(stale)
    assert (questions.is_current(stale), questions.is_current(taken)) == (False, True)
    assert (questions.first_unanswered([asked]), questions.take(1)) == (20, [])


def test_however_many_there_are_each_has_its_turn() -> None:
    asked = {question(user) for user in "abcd"}
    questions, answered = known(*asked), set()
    for position in (10, 20):
        questions.note(insert(position, b"1"))
        for one in questions.take(2):
            answered.add(one.question)
            questions.answered(one)
            questions.put_back(one)
    assert answered == asked


def test_the_first_answer_holds_for_what_it_saw() -> None:
    asked, questions = question(), Questions()
    questions.begin(asked)
    questions.note(insert(10, b"1"))
    questions.note(insert(20, b"2"))
    assert questions.take(1) == []
    assert questions.since(asked) is None
    questions.know(asked, 10, lambda xid: xid == 10)
    assert (questions.since(asked), questions.first_unanswered([asked])) == (10, 20)


def test_the_first_answer_does_not_hold_for_what_comes_after_something_that_it_did_not_see() -> None:
    """Otherwise the rows that it saw would count as written since when it is asked about what it did not see."""
    asked, questions = question(), Questions()
    questions.begin(asked)
    for position in (10, 20, 30):
        questions.note(insert(position, b"1"))
    questions.know(asked, 30, lambda xid: xid != 20)
    (taken,) = questions.take(1)
    assert [one.position for one in taken.unanswered] == [20, 30]


def test_a_doubtful_question_is_asked_as_a_whole_with_the_next_transaction_once() -> None:
    asked = question()
    questions = known(asked)
    questions.doubt(asked)
    questions.note(Transaction(10, 10, 1, None, ()))
    questions.note(Transaction(20, 20, 1, None, ()))
    assert [one.unanswered for one in questions.take(1)] == [(Unanswered(10, 10, set(), True),)]


# ---- verdicts --------------------------------------------------------------------------------------------------------


def test_a_version_that_was_written_over_before_the_answer_is_hidden_though_the_last_is_visible() -> None:
    one, two = (b"1",), (b"2",)
    unanswered = [Unanswered(10, 10, {one, two}), Unanswered(20, 20, {one})]
    assert [*verdicts(unanswered, {one, two}, set())] == [Verdict(10, [two], {one}), Verdict(20, [one], set())]
    assert [*verdicts(unanswered, {one, two}, {one})] == [Verdict(10, [two], {one}), Verdict(20, [], {one})]
    assert [*verdicts(unanswered, {one}, set())] == [Verdict(10, [], {one, two}), Verdict(20, [one], set())]


Steps = list[list[tuple[bytes, bytes | None]]]
BODIES = st.none() | st.sampled_from([b"open", b"shut"])


@given(st.lists(st.lists(st.tuples(st.sampled_from([b"1", b"2", b"3"]), BODIES), max_size=3), max_size=12), st.data())
def test_at_each_position_only_what_an_answer_showed_of_that_version_is_visible(
    steps: Steps, data: st.DataObject
) -> None:
    """Rows of which the body is ``open`` may be seen. Answers come at any time, about all that came before, and see
    any part of what has not come yet."""
    asked, questions, versions = question(), Questions(), VersionedTables()
    versions.begin(DOCS)
    versions.complete(DOCS)
    versions.begin(asked.answers)
    versions.complete(asked.answers)
    questions.begin(asked)
    questions.know(asked, 0, lambda xid: True)
    state: dict[bytes, bytes] = {}
    states = [dict(state)]
    transactions: list[Transaction] = []
    for number, writes in enumerate(steps, 1):
        changes: list[Change] = []
        for key, body in dict(writes).items():
            before = state.pop(key, None)
            if body is None and before is not None:
                changes.append(Delete(DOCS, (before, key)))
            elif body is not None:
                state[key] = body
                new = (body, key)
                changes.append(Insert(DOCS, new, ()) if before is None else Update(DOCS, (before, key), new, ()))
        transactions.append(Transaction(number * 10, number, 1, None, tuple(changes)))
        states.append(dict(state))
    come = 0
    while come < len(transactions):
        for _ in range(data.draw(st.integers(1, len(transactions) - come))):
            versions.apply(transactions[come])
            questions.note(transactions[come])
            come += 1
        sees = data.draw(st.integers(come, len(transactions)))
        for one in questions.take(1):
            written = {key for item in one.unanswered for key in item.keys}
            visible = {key for key in written if states[sees].get(key[0] or b"") == b"open"}
            later = WrittenKeys(transactions[:sees]).after(come * 10, DOCS)
            for verdict in verdicts(one.unanswered, visible, later):
                versions.decide(asked.id, verdict.position, verdict.shown, verdict.hidden)
            questions.answered(one)
            questions.put_back(one)
    for number, then in enumerate(states):
        at = versions.as_of(number * 10)
        shown = {row.row[0] for batch in at.batches(asked.id, {}) for row in batch}
        assert shown <= {key for key, body in then.items() if body == b"open"}
    if transactions:
        # The last answer is about the last state, or nobody was there to tell otherwise.
        assert shown == {key for key, body in state.items() if body == b"open"}
