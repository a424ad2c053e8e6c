"""The memory log: what it promises about its window, and that it keeps the promise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.log import OutsideWindow, TransactionLog
from leyden.log.memory import MemoryLog
from leyden.model import Transaction


def transaction(position: int) -> Transaction:
    return Transaction(position=position, xid=position, committed_at_ms=0, origin=None, changes=())


def log_of(*positions: int, max_bytes: int = 1000, floor: int = 0) -> MemoryLog:
    log = MemoryLog(max_bytes, floor)
    for position in positions:
        log.append(transaction(position), 10)
    return log


def positions(log: TransactionLog, after: int, limit: int | None = None) -> list[int]:
    return [one.position for one in log.after(after, limit)]


def test_empty_log_stands_at_its_floor() -> None:
    log = log_of(floor=70)
    assert (log.floor, log.head) == (70, 70)
    assert log.holds(70)
    assert not log.holds(69)
    assert not log.holds(71)
    assert positions(log, 70) == []


def test_transactions_above_a_position_come_in_order() -> None:
    log = log_of(10, 20, 30)
    assert positions(log, 0) == [10, 20, 30]
    assert positions(log, 10) == [20, 30]
    assert positions(log, 15) == [20, 30]
    assert positions(log, 30) == []
    assert positions(log, 0, limit=2) == [10, 20]


def test_size_evicts_the_oldest_and_raises_the_floor_to_it() -> None:
    log = log_of(10, 20, 30, 40, max_bytes=25)
    assert (log.floor, log.head, log.size) == (20, 40, 20)
    assert positions(log, 20) == [30, 40]


def test_the_newest_transaction_is_kept_whatever_its_size() -> None:
    log = log_of(10, 20, max_bytes=25)
    log.append(transaction(30), 1_000_000)
    assert (log.floor, log.head) == (20, 30)
    assert positions(log, 20) == [30]


def test_trimming_raises_the_floor_to_the_last_one_forgotten_only() -> None:
    log = log_of(10, 20, 30)
    log.trim(25)
    assert (log.floor, log.head) == (20, 30)
    log.trim(1000)
    assert (log.floor, log.head) == (30, 30)
    log.trim(2000)
    assert log.floor == 30


def test_reading_below_the_floor_is_refused_rather_than_answered_with_a_gap() -> None:
    log = log_of(10, 20, 30)
    log.trim(10)
    with pytest.raises(OutsideWindow):
        log.after(9)
    assert positions(log, 10) == [20, 30]


def test_positions_must_rise() -> None:
    log = log_of(10)
    with pytest.raises(ValueError, match="not above"):
        log.append(transaction(10), 1)


def test_reset_forgets_everything() -> None:
    log = log_of(10, 20)
    log.reset(5)
    assert (log.floor, log.head, log.size) == (5, 5, 0)
    log.append(transaction(6), 1)
    assert positions(log, 5) == [6]


def test_subscribers_hear_each_transaction_after_it_can_be_read() -> None:
    log = log_of(10)
    heard: list[tuple[int, int]] = []
    end = log.subscribe(lambda one: heard.append((one.position, log.head)))
    log.append(transaction(20), 1)
    end()
    log.append(transaction(30), 1)
    assert heard == [(20, 20)]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 9), st.integers(0, 40)),
            st.tuples(st.just("trim"), st.integers(0, 60), st.just(0)),
        ),
        max_size=400,
    )
)
def test_every_transaction_above_the_floor_is_held(steps: list[tuple[str, int, int]]) -> None:
    log = MemoryLog(100)
    written: list[int] = []
    for action, amount, size in steps:
        if action == "append":
            written.append(log.head + amount)
            log.append(transaction(written[-1]), size)
        else:
            log.trim(amount)
        assert positions(log, log.floor) == [position for position in written if position > log.floor]
        assert log.size <= 100


def test_long_use_does_not_keep_forgotten_transactions() -> None:
    log = MemoryLog(100)
    for position in range(1, 10_001):
        log.append(transaction(position), 10)
    assert len(log) == 10
    assert len(log._positions) < 4 * 1024
    assert positions(log, 9_995) == [9_996, 9_997, 9_998, 9_999, 10_000]
