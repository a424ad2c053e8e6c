"""When published keys are read next, and how long they are trusted."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.auth.issuer.schedule import Schedule

DAY = 86_400


def schedule(*, max_stale: float = DAY, random: float = 0.5) -> Schedule:
    return Schedule(0.0, max_stale=max_stale, random=lambda: random)


def test_the_first_read_is_due_at_once_and_nothing_is_trusted_before() -> None:
    fresh = schedule()
    assert fresh.until_read(0) == 0
    assert fresh.until_drop(0) == math.inf
    assert not fresh.trusted(0)


@pytest.mark.parametrize(
    ("max_age", "fresh_for"),
    [(None, 600), (0, 60), (59, 60), (61, 61), (3_600, 3_600), (DAY, DAY), (10**9, DAY)],
)
def test_the_issuer_decides_on_freshness_within_limits(max_age: int | None, fresh_for: float) -> None:
    timetable = schedule()
    assert timetable.succeeded(0, max_age) == fresh_for
    assert timetable.until_read(0) == pytest.approx(0.8 * fresh_for)


def test_the_next_read_comes_at_four_fifths_of_freshness_give_or_take_a_tenth_of_that() -> None:
    for random, share in ((0.0, 0.72), (0.25, 0.76), (1.0, 0.88)):
        timetable = schedule(random=random)
        timetable.succeeded(0, 1_000)
        assert timetable.until_read(0) == pytest.approx(share * 1_000)


def test_failures_are_retried_after_growing_pauses_until_one_works() -> None:
    timetable = schedule()
    assert [timetable.failed(0) for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    timetable.succeeded(0, None)
    assert timetable.failed(100) == 1
    assert timetable.until_read(100.25) == 0.75


def test_pauses_stay_finite_however_long_the_issuer_is_away() -> None:
    timetable = schedule()
    assert {timetable.failed(0) for _ in range(5_000)} >= {60}


def test_keys_are_trusted_up_to_the_allowed_age_and_not_a_moment_longer() -> None:
    timetable = schedule(max_stale=500)
    timetable.succeeded(10, None)
    assert timetable.trusted(509.9)
    assert not timetable.trusted(510)
    assert timetable.until_drop(500) == 10
    assert timetable.until_drop(600) == 0
    assert timetable.age(600) == 590


def test_a_short_trust_brings_the_next_read_forward() -> None:
    timetable = schedule(max_stale=100, random=1.0)
    assert timetable.succeeded(0, DAY) == 100
    assert timetable.until_read(0) < 100


@given(
    max_age=st.none() | st.integers(0, 10**10),
    max_stale=st.integers(60, 30 * DAY),
    random=st.floats(0, 1, exclude_max=True),
)
def test_keys_are_read_again_before_they_expire_but_never_in_a_hurry(
    max_age: int | None, max_stale: int, random: float
) -> None:
    timetable = schedule(max_stale=max_stale, random=random)
    timetable.succeeded(0, max_age)
    assert 43 <= timetable.until_read(0) < timetable.until_drop(0)
