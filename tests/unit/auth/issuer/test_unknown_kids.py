"""The ration of questions about unknown key names, and the memory of those asked in vain."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from leyden.auth.issuer.unknown_kids import MAX_ABSENT, UnknownKids


def test_two_questions_may_follow_each_other_and_then_there_is_a_pause() -> None:
    kids = UnknownKids()
    assert [kids.may_ask(moment) for moment in (0, 1, 2, 30, 59.9)] == [True, True, False, False, False]
    assert [kids.may_ask(moment) for moment in (60, 60, 61, 61)] == [True, False, True, False]


@given(st.lists(st.floats(0, 20), max_size=200))
def test_no_minute_sees_more_than_two_questions(pauses: list[float]) -> None:
    kids, now, asked = UnknownKids(), 0.0, []
    for pause in pauses:
        now += pause
        if kids.may_ask(now):
            asked.append(now)
    assert all(later - earlier >= 60 for earlier, later in zip(asked, asked[2:], strict=False))


def test_an_absent_name_is_remembered_for_a_minute() -> None:
    kids = UnknownKids()
    kids.note_absent("a", 0)
    assert kids.is_absent("a", 59.9)
    assert not kids.is_absent("b", 0)
    assert not kids.is_absent("a", 60)
    assert len(kids) == 0


def test_the_memory_is_bounded_and_forgets_what_nobody_asks_for() -> None:
    kids = UnknownKids()
    for number in range(MAX_ABSENT):
        kids.note_absent(f"kid-{number}", 0)
    assert kids.is_absent("kid-0", 1)
    for number in range(50_000):
        kids.note_absent(f"invented-{number}", 1)
        kids.is_absent("kid-0", 1)
    assert len(kids) == MAX_ABSENT
    assert kids.is_absent("kid-0", 2)
    assert not kids.is_absent("kid-1", 2)
