from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.model import Column, Table
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.rows import InvalidRow, RowEncoder, pack, unpack

VALUES = st.lists(st.none() | st.binary(max_size=8), max_size=40)
TABLE = Table(
    1,
    "things",
    (
        Column("note", "text", False),
        Column("b", "int4", True),
        Column("data", "bytea", False),
        Column("at", "timestamptz", False),
        Column("a", "uuid", True),
    ),
    ("a", "b"),
    "things_pkey",
)
ROW = (b"n", b"7", b"\\x00ff", b"2024-05-06 07:08:09.5+00", b"23333333-3333-4333-8333-333333333333")


@pytest.mark.parametrize(
    ("values", "mask"),
    [
        ([b"a", None, b"c"], "40"),
        ([None, *[b"x"] * 7, None], "8080"),
        ([b"a", b""], "00"),
        ([b"x", None, None], "60"),
        ([None] * 8, "ff"),
        ([b"x"] * 8, "00"),
        ([], ""),
    ],
)
def test_the_first_column_is_the_most_significant_bit(values: list[bytes | None], mask: str) -> None:
    assert pack(values).nulls_bitmask.hex() == mask


def test_a_null_still_occupies_an_entry() -> None:
    assert list(pack([b"a", None, b""]).values) == [b"a", b"", b""]


@given(VALUES)
def test_rows_survive_the_round_trip(values: list[bytes | None]) -> None:
    row = pack(values)

    assert len(row.nulls_bitmask) == (len(values) + 7) // 8
    assert unpack(row, len(values)) == values


@given(VALUES)
def test_unused_bits_are_zero(values: list[bytes | None]) -> None:
    mask = pack(values).nulls_bitmask
    unused = 8 * len(mask) - len(values)

    assert int.from_bytes(mask, "big") & ((1 << unused) - 1) == 0


def test_a_longer_bitmask_is_accepted() -> None:
    assert unpack(pb.SatOpRow(nulls_bitmask=b"\x40\x00", values=[b"a", b""]), 2) == [b"a", None]


@pytest.mark.parametrize(
    "row",
    [
        pb.SatOpRow(),
        pb.SatOpRow(nulls_bitmask=b"\x00", values=[b"a"]),
        pb.SatOpRow(nulls_bitmask=b"\x00", values=[b"a", b"b", b"c"]),
        pb.SatOpRow(values=[b"a", b"b"]),
        pb.SatOpRow(nulls_bitmask=b"\x40", values=[b"a", b"b"]),
    ],
    ids=["nothing", "too few", "too many", "no bitmask", "a NULL with a value"],
)
def test_a_row_that_does_not_fit_is_refused(row: pb.SatOpRow) -> None:
    with pytest.raises(InvalidRow):
        unpack(row, 2)


def test_a_bitmask_shorter_than_the_columns_is_refused() -> None:
    with pytest.raises(InvalidRow):
        unpack(pb.SatOpRow(nulls_bitmask=b"\x00", values=[b"x"] * 9), 9)


@given(st.binary(max_size=4), st.lists(st.binary(max_size=3), max_size=20), st.integers(0, 20))
def test_arbitrary_rows_are_unpacked_or_refused(mask: bytes, values: list[bytes], columns: int) -> None:
    try:
        row = unpack(pb.SatOpRow(nulls_bitmask=mask, values=values), columns)
    except InvalidRow:
        return
    assert len(row) == columns


def test_a_full_image_is_in_wire_form() -> None:
    row = RowEncoder(TABLE).full(ROW)

    assert unpack(row, 5) == [b"n", b"7", b"\x00\xff", b"2024-05-06 07:08:09.5Z", ROW[4]]


def test_a_key_image_holds_the_key_columns_alone() -> None:
    row = RowEncoder(TABLE).key_only(ROW)

    assert row.nulls_bitmask == b"\xb0"
    assert unpack(row, 5) == [None, b"7", None, None, ROW[4]]


def test_a_key_image_is_made_of_a_key_only_row_just_as_well() -> None:
    encoder = RowEncoder(TABLE)

    assert encoder.key_only((None, ROW[1], None, None, ROW[4])) == encoder.key_only(ROW)
