"""Goals are judged by the ratio, and figures are shown with three digits."""

from __future__ import annotations

import pytest

from benchmarks.figure import Curve, Figure, Goal, Row, Spread
from benchmarks.report import number, page


@pytest.mark.parametrize(
    ("goal", "ratio", "met"),
    [
        (Goal(1.3), 1.3, True),
        (Goal(1.3), 1.31, False),
        (Goal(0.6, at_least=True), 0.6, True),
        (Goal(0.6, at_least=True), 0.59, False),
    ],
)
def test_a_goal_is_a_bound_of_the_ratio(goal: Goal, ratio: float, met: bool) -> None:
    assert Row("case", "unit", ratio * 8, 8.0, goal).met is met


def test_without_a_floor_there_is_nothing_to_judge() -> None:
    assert Row("case", "unit", 1.0, goal=Goal(2)).met is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1,234"), (-0.5, "-0.500")],
)
def test_three_digits_count(value: float, text: str) -> None:
    assert number(value) == text


def test_a_spread_is_made_of_percentiles() -> None:
    assert Spread.of(list(range(101))) == Spread(50, 95, 99)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_the_page_says_what_was_missed_and_what_failed_and_shows_pictures() -> None:
    curve = Curve("growth", "How it grows", "clients", "µs", {"ours": [(1, 2.0), (1_000, 3.0)]})
    figure = Figure("Sending", "About it.", [Row("many", "µs", 4.0, 2.0, Goal(1.3))], [curve], failed="not measured: x")
    text = page([figure], "18.0", {"growth": "benchmarks/growth.png"})
    assert "| many | µs | 4.00 | 2.00 | 2.00 | ≤ 1.3 | missed |" in text
    assert "![How it grows](benchmarks/growth.png)" in text
    assert "| 1,000 | 3.00 |" in text
    assert "not measured: x" in text
