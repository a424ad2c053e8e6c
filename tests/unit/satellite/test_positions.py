from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.satellite.positions import ForeignPosition, InvalidPosition, Position, Positions

LSNS = st.integers(0, 2**64 - 1)


def test_a_position_is_epoch_and_decimal_lsn() -> None:
    assert Positions("7f3a").encode(27440072) == b"7f3a-27440072"


def test_what_else_was_told_at_a_position_follows_it() -> None:
    assert Positions("7f3a").encode(27440072, cancellation=3) == b"7f3a-27440072.3"
    assert Positions("7f3a").encode(27440072, version="2024_1") == b"7f3a-27440072-2024_1"


@given(LSNS, st.text("0123456789_", min_size=1, max_size=128))
def test_positions_with_a_version_survive_the_round_trip(lsn: int, version: str) -> None:
    positions = Positions("e1")

    assert positions.decode(positions.encode(lsn, version=version)) == Position(lsn, 0, version)


@given(LSNS, st.integers(0, 2**63 - 1))
def test_positions_with_a_cancellation_survive_the_round_trip(lsn: int, cancellation: int) -> None:
    positions = Positions("e1")

    assert positions.decode(positions.encode(lsn, cancellation=cancellation)) == Position(lsn, cancellation)


@given(LSNS)
def test_a_position_of_another_epoch_is_noticed(lsn: int) -> None:
    with pytest.raises(ForeignPosition):
        Positions("e2").decode(Positions("e1").encode(lsn))


@pytest.mark.parametrize(
    "lsn",
    [
        b"",
        b"27440072",  # the old service's form
        b"7",
        b"-7",
        b"e1-",
        b"e1-+7",
        b"e1--7",
        b"e1-7\n",
        b"e1-7-",
        b"e1-7-a",
        b"e1-7-1-1",
        b"e1-7-" + b"1" * 129,
        b" e1-7",
        b"E1-7",
        b"e1-0x7",
        b"e1-18446744073709551616",  # 2 ** 64
        b"e1-" + b"9" * 21,
        b"e1-7.",
        b"e1-7.-1",
        b"e1-7.1.1",
        b"e1-7.1-1",
        b"e1-7-1.1",
        b"e1-7.9223372036854775808",  # 2 ** 63
        b"e1-7." + b"0" * 20,
        b"a" * 33 + b"-7",
        "e1-٣".encode(),
        b"\xff\xfe",
    ],
)
def test_what_is_no_position_is_refused(lsn: bytes) -> None:
    with pytest.raises(InvalidPosition):
        Positions("e1").decode(lsn)


@given(st.binary(max_size=40))
def test_arbitrary_bytes_are_judged_without_other_errors(lsn: bytes) -> None:
    positions = Positions("e1")
    try:
        position = positions.decode(lsn)
    except (InvalidPosition, ForeignPosition):
        return
    assert 0 <= position.wal < 2**64
    assert 0 <= position.cancellation < 2**63


@pytest.mark.parametrize("epoch", ["", "A", "e-1", "a" * 33, "e 1", "e\n"])
def test_an_epoch_is_lower_case_letters_and_digits(epoch: str) -> None:
    with pytest.raises(ValueError, match="epoch"):
        Positions(epoch)
