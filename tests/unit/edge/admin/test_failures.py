"""Wrong secrets from one address, with time in the test's hand."""

from __future__ import annotations

import pytest

from leyden.edge.admin.failures import Failures


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_ten_at_once_then_ten_a_minute(clock: Clock) -> None:
    failures = Failures(clock)
    for _ in range(10):
        assert failures.wait("203.0.113.7") == 0
        failures.failed("203.0.113.7")
    assert failures.wait("203.0.113.7") == 6
    clock.now += 5
    assert failures.wait("203.0.113.7") == 1
    clock.now += 1
    assert failures.wait("203.0.113.7") == 0
    failures.failed("203.0.113.7")
    assert failures.wait("203.0.113.7") == 6
    clock.now += 60
    allowed = 0
    while failures.wait("203.0.113.7") == 0:
        failures.failed("203.0.113.7")
        allowed += 1
    assert allowed == 10


def test_addresses_fail_for_themselves_and_ipv6_networks_as_one(clock: Clock) -> None:
    failures = Failures(clock)
    for _ in range(10):
        failures.failed("::ffff:203.0.113.7")
        failures.failed("2001:db8::1")
    assert failures.wait("203.0.113.7") > 0
    assert failures.wait("2001:db8::2:3") > 0
    assert failures.wait("203.0.113.8") == failures.wait("2001:db8:0:1::1") == failures.wait("") == 0


def test_no_more_addresses_are_remembered_than_that(clock: Clock) -> None:
    failures = Failures(clock, addresses=3)
    for number in range(10):
        failures.failed(f"203.0.113.{number}")
    assert len(failures) == 3
