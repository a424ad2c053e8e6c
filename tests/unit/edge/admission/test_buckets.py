"""So many at once, so many a minute, and a bounded memory of it; with the numbers of failed attempts."""

from __future__ import annotations

import pytest

from leyden.edge.admission.buckets import FAILURES, NETWORKS, Buckets

AT_ONCE, SECONDS_FOR_EACH, OVERDRAFT = FAILURES.at_once, FAILURES.seconds_for_each, FAILURES.overdraft


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(buckets: Buckets, network: str, number: int) -> None:
    for _ in range(number):
        buckets.take(network)


def test_ten_failures_at_once_are_forgiven(clock: Clock) -> None:
    buckets = Buckets(clock, FAILURES)
    fail(buckets, "a", AT_ONCE - 1)
    assert buckets.wait("a") == 0
    buckets.take("a")
    assert buckets.wait("a") == pytest.approx(SECONDS_FOR_EACH)
    assert buckets.wait("b") == 0


def test_ten_a_minute_from_then_on(clock: Clock) -> None:
    buckets = Buckets(clock, FAILURES)
    fail(buckets, "a", AT_ONCE)
    attempts = 0
    for _ in range(600):
        clock.now += 1
        if buckets.wait("a") == 0:
            attempts += 1
            buckets.take("a")
    assert attempts == 100


def test_the_wait_is_exact(clock: Clock) -> None:
    buckets = Buckets(clock, FAILURES)
    fail(buckets, "a", AT_ONCE + 3)
    wait = buckets.wait("a")
    clock.now += wait - 0.01
    assert buckets.wait("a") > 0
    clock.now += 0.02
    assert buckets.wait("a") == 0


def test_the_bucket_holds_no_more_than_ten_however_long_nobody_failed(clock: Clock) -> None:
    buckets = Buckets(clock, FAILURES)
    buckets.take("a")
    clock.now += 86_400
    fail(buckets, "a", AT_ONCE)
    assert buckets.wait("a") > 0


def test_attempts_under_way_when_the_bucket_ran_dry_are_held_against_the_network(clock: Clock) -> None:
    """Or twenty connections at a time would get twenty attempts out of each that is forgiven."""
    buckets = Buckets(clock, FAILURES)
    fail(buckets, "a", AT_ONCE - 1)
    attempts = 0
    for _ in range(3_600):
        clock.now += 1
        if buckets.wait("a") == 0:
            attempts += 20
            fail(buckets, "a", 20)
    assert attempts <= 3_600 / SECONDS_FOR_EACH + 20


def test_no_burst_of_failures_shuts_a_network_out_for_longer(clock: Clock) -> None:
    buckets = Buckets(clock, FAILURES)
    fail(buckets, "a", 10_000)
    assert buckets.wait("a") == pytest.approx((OVERDRAFT + 1) * SECONDS_FOR_EACH)


def test_the_least_recently_failed_network_is_forgotten_first(clock: Clock) -> None:
    buckets = Buckets(clock, FAILURES, networks=2)
    for network in ("a", "b", "a", "c"):
        fail(buckets, network, AT_ONCE)
    assert len(buckets) == 2
    assert buckets.wait("b") == 0
    assert buckets.wait("a") > 0
    assert buckets.wait("c") > 0


def test_memory_is_bounded(clock: Clock) -> None:
    buckets = Buckets(clock, FAILURES)
    for number in range(NETWORKS + 1_000):
        buckets.take(str(number))
    assert len(buckets) == NETWORKS


def test_what_is_given_back_may_be_taken_again(clock: Clock) -> None:
    buckets = Buckets(clock, FAILURES)
    buckets.give_back("a")
    fail(buckets, "a", AT_ONCE)
    buckets.give_back("a")
    assert buckets.wait("a") == 0
    buckets.take("a")
    assert buckets.wait("a") == pytest.approx(SECONDS_FOR_EACH)


def test_nothing_given_back_makes_a_bucket_larger(clock: Clock) -> None:
    buckets = Buckets(clock, FAILURES)
    buckets.take("a")
    for _ in range(5):
        buckets.give_back("a")
    fail(buckets, "a", AT_ONCE)
    assert buckets.wait("a") > 0
