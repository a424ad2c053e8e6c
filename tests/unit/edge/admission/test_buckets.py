"""Failed attempts: so many at once, so many a minute, and a bounded memory of them."""

from __future__ import annotations

import pytest

from leyden.edge.admission import FailureBuckets
from leyden.edge.admission.failures import AT_ONCE, NETWORKS, OVERDRAFT, SECONDS_FOR_EACH


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(buckets: FailureBuckets, network: str, number: int) -> None:
    for _ in range(number):
        buckets.failed(network)


def test_ten_failures_at_once_are_forgiven(clock: Clock) -> None:
    buckets = FailureBuckets(clock)
    fail(buckets, "a", AT_ONCE - 1)
    assert buckets.wait("a") == 0
    buckets.failed("a")
    assert buckets.wait("a") == pytest.approx(SECONDS_FOR_EACH)
    assert buckets.wait("b") == 0


def test_ten_a_minute_from_then_on(clock: Clock) -> None:
    buckets = FailureBuckets(clock)
    fail(buckets, "a", AT_ONCE)
    attempts = 0
    for _ in range(600):
        clock.now += 1
        if buckets.wait("a") == 0:
            attempts += 1
            buckets.failed("a")
    assert attempts == 100


def test_the_wait_is_exact(clock: Clock) -> None:
    buckets = FailureBuckets(clock)
    fail(buckets, "a", AT_ONCE + 3)
    wait = buckets.wait("a")
    clock.now += wait - 0.01
    assert buckets.wait("a") > 0
    clock.now += 0.02
    assert buckets.wait("a") == 0


def test_the_bucket_holds_no_more_than_ten_however_long_nobody_failed(clock: Clock) -> None:
    buckets = FailureBuckets(clock)
    buckets.failed("a")
    clock.now += 86_400
    fail(buckets, "a", AT_ONCE)
    assert buckets.wait("a") > 0


def test_attempts_under_way_when_the_bucket_ran_dry_are_held_against_the_network(clock: Clock) -> None:
    """Or twenty connections at a time would get twenty attempts out of each that is forgiven."""
    buckets = FailureBuckets(clock)
    fail(buckets, "a", AT_ONCE - 1)
    attempts = 0
    for _ in range(3_600):
        clock.now += 1
        if buckets.wait("a") == 0:
            attempts += 20
            fail(buckets, "a", 20)
    assert attempts <= 3_600 / SECONDS_FOR_EACH + 20


def test_no_burst_of_failures_shuts_a_network_out_for_longer(clock: Clock) -> None:
    buckets = FailureBuckets(clock)
    fail(buckets, "a", 10_000)
    assert buckets.wait("a") == pytest.approx((OVERDRAFT + 1) * SECONDS_FOR_EACH)


def test_the_least_recently_failed_network_is_forgotten_first(clock: Clock) -> None:
    buckets = FailureBuckets(clock, networks=2)
    for network in ("a", "b", "a", "c"):
        fail(buckets, network, AT_ONCE)
    assert len(buckets) == 2
    assert buckets.wait("b") == 0
    assert buckets.wait("a") > 0
    assert buckets.wait("c") > 0


def test_memory_is_bounded(clock: Clock) -> None:
    buckets = FailureBuckets(clock)
    for number in range(NETWORKS + 1_000):
        buckets.failed(str(number))
    assert len(buckets) == NETWORKS
