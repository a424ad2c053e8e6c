from __future__ import annotations

import json
import struct
from datetime import UTC, date, datetime, time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.model import Column
from leyden.satellite.values import InvalidValue, encoder_for, parser_for

SUPPORTED = [
    *["bool", "bytea", "date", "float4", "float8", "int2", "int4", "int8", "json", "jsonb", "text", "time"],
    *["timestamp", "timestamptz", "uuid", "varchar"],
]


def up(type_name: str, value: bytes) -> bytes:
    return parser_for(Column("c", type_name, False))(value)


def down(type_name: str, value: bytes) -> bytes:
    encoder = encoder_for(Column("c", type_name, False))
    return value if encoder is None else encoder(value)


ACCEPTED = [
    ("bool", "t", "t"),
    ("bool", "f", "f"),
    ("int2", "-32768", "-32768"),
    ("int2", "+32767", "32767"),
    ("int4", "007", "7"),
    ("int4", "-0", "0"),
    ("int8", "-9223372036854775808", "-9223372036854775808"),
    ("int8", "9223372036854775807", "9223372036854775807"),
    ("float8", "0.1", "0.1"),
    ("float8", "1e+300", "1e+300"),
    ("float8", "1E-7", "1E-7"),
    ("float8", "-Infinity", "-Infinity"),
    ("float8", "NaN", "NaN"),
    ("float8", "inf", "inf"),
    ("float4", "1.10000002384186", "1.10000002384186"),
    ("float4", "0e-99", "0e-99"),
    ("float4", "3.4028234663852886e38", "3.4028234663852886e38"),
    ("text", "", ""),
    ("text", "a\x00b", "a\x00b"),
    ("varchar", "héllo 😀", "héllo 😀"),
    ("uuid", "ABCDEF00-0000-4000-8000-000000000001", "abcdef00-0000-4000-8000-000000000001"),
    ("jsonb", "null", "null"),
    ("jsonb", ' {"a": [1, "x"]} ', ' {"a": [1, "x"]} '),
    ("json", "1" * 5000, "1" * 5000),
    ("date", "2024-02-29", "2024-02-29"),
    ("date", "0001-01-01", "0001-01-01"),
    ("date", "0044-03-15 BC", "0044-03-15 BC"),
    ("date", "0001-02-29 BC", "0001-02-29 BC"),  # astronomical year 0 is a leap year
    ("date", "5874897-12-31", "5874897-12-31"),
    ("date", "infinity", "infinity"),
    ("time", "00:00:00", "00:00:00"),
    ("time", "12:34:56.789000", "12:34:56.789"),
    ("time", "12:34:56.000", "12:34:56"),
    ("time", "24:00:00", "24:00:00"),
    ("timestamp", "2024-05-06 07:08:09.120", "2024-05-06 07:08:09.12"),
    ("timestamp", "2024-05-06T07:08:09", "2024-05-06 07:08:09"),
    ("timestamp", "2024-05-06 07:08:09.1234567", "2024-05-06 07:08:09.1234567"),
    ("timestamp", "294276-12-31 23:59:59.999999", "294276-12-31 23:59:59.999999"),
    ("timestamp", "-infinity", "-infinity"),
    ("timestamptz", "2024-05-06 07:08:09.123Z", "2024-05-06 07:08:09.123+00"),
    ("timestamptz", "2024-05-06T07:08:09.1+00:00", "2024-05-06 07:08:09.1+00"),
    ("timestamptz", "2024-05-06 07:08:09-00", "2024-05-06 07:08:09+00"),
    ("timestamptz", "4713-01-01 00:00:00Z BC", "4713-01-01 00:00:00+00 BC"),
    ("timestamptz", "infinity", "infinity"),
]


@pytest.mark.parametrize(("type_name", "value", "canonical"), ACCEPTED)
def test_values_of_a_type_are_accepted(type_name: str, value: str, canonical: str) -> None:
    assert up(type_name, value.encode()) == canonical.encode()


REFUSED = [
    ("bool", "true", 'Unexpected value for bool column: "true"'),
    ("bool", "", 'Unexpected value for bool column: ""'),
    ("bool", "T", 'Unexpected value for bool column: "T"'),
    ("int4", "1.0", "Non-integer value given for int4 column: 1.0"),
    ("int4", "", "Non-integer value given for int4 column: "),
    ("int4", "+-1", "Non-integer value given for int4 column: +-1"),
    ("int8", " 1", "Non-integer value given for int8 column:  1"),
    ("int8", "٣", "Non-integer value given for int8 column: ٣"),
    ("int2", "32768", "Value out of range for int2 column: 32768"),
    ("int4", "-2147483649", "Value out of range for int4 column: -2147483649"),
    ("int8", "9223372036854775808", "Value out of range for int8 column: 9223372036854775808"),
    *[
        ("float8", bad, f"Unexpected value for float8 column: {json.dumps(bad)}")
        for bad in ("", "0.", ".5", "1_000", "0x10", " 1", "1 ", "infinit", "+nan", "1e", "--1")
    ],
    ("float8", "1e309", "Value for float8 column out of range: 1e309"),
    ("float4", "1e39", "Value for float4 column out of range: 1e39"),
    ("float4", "3.4028236e38", "Value for float4 column out of range: 3.4028236e38"),
    ("float4", "1e-60", "Value for float4 column out of range: 1e-60"),
    ("uuid", "abc", 'Unexpected value for uuid column: "abc"'),
    ("uuid", "{abcdef00-0000-4000-8000-000000000001}", None),
    ("uuid", "abcdef000000400080000000000000001", None),
    *[
        ("jsonb", bad, "Invalid JSON found in jsonb column")
        for bad in ("", "nul", "NaN", "Infinity", "{'a':1}", "[1,]", '"\n"', "01", "1 2", "\ufeff1", "[" * 100_000)
    ],
    *[
        ("date", bad, f"Unexpected value for :date column: {json.dumps(bad)}")
        for bad in (
            *("2023-02-29", "0000-01-01", "24-01-01", "2024-1-1", "20240101", "2024-13-01", "2024-01-32", "Infinity"),
            *("02024-01-01", "5874898-01-01", "4715-01-01 BC", "0044-03-15 BC BC", "2024-01-01\n", "now", ""),
        )
    ],
    *[
        ("time", bad, f"Unexpected value for :time column: {json.dumps(bad)}")
        for bad in (
            "24:00:01",
            "23:60:00",
            "23:59:60",
            "1:02:03",
            "12:34",
            "12:34:56.1234567",
            "12:34:56+00",
            "12:34:56.",
        )
    ],
    ("timestamp", "2024-05-06 07:08:09Z", 'Unexpected offset provided for timestamp column: "2024-05-06 07:08:09Z"'),
    ("timestamp", "2024-05-06", 'Unexpected format provided for timestamp column: "2024-05-06"'),
    ("timestamp", "2023-02-29 00:00:00", 'Unexpected format provided for timestamp column: "2023-02-29 00:00:00"'),
    ("timestamp", "2024-05-06 24:00:00", 'Unexpected format provided for timestamp column: "2024-05-06 24:00:00"'),
    ("timestamp", "294277-01-01 00:00:00", "Year out of range: 294277"),
    ("timestamp", "0000-01-01 00:00:00", "Year out of range: 0"),
    ("timestamptz", "2024-05-06 07:08:09", 'Missing offset in timestamptz column: "2024-05-06 07:08:09"'),
    *[
        ("timestamptz", bad, f"Non-zero offset provided for timestamptz column: {json.dumps(bad)}")
        for bad in ("2024-05-06 07:08:09+01", "2024-05-06 07:08:09-00:30", "2024-05-06 07:08:09+0001")
    ],
    ("timestamptz", "2024-05-06 07:08:09 BC Z", None),
    ("numeric", "1", "unexpected error"),
    ("timetz", "12:00:00+00", "unexpected error"),
]


@pytest.mark.parametrize(("type_name", "value", "message"), REFUSED)
def test_values_of_no_type_are_refused(type_name: str, value: str, message: str | None) -> None:
    with pytest.raises(InvalidValue) as refusal:
        up(type_name, value.encode())
    if message is not None:
        assert str(refusal.value) == message


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(InvalidValue, match="UTF-8"):
        up("text", b"\xff")


def test_a_refusal_quotes_no_more_than_a_little() -> None:
    for type_name in ("bool", "int4", "float8", "uuid", "date", "time", "timestamp", "timestamptz"):
        with pytest.raises(InvalidValue) as refusal:
            up(type_name, b"x" * 10_000)
        assert len(str(refusal.value)) < 200


def test_an_enum_takes_its_labels_alone() -> None:
    parse = parser_for(Column("c", "colour", False, is_enum=True), ("red", "Dark_Blue2"))

    assert parse(b"Dark_Blue2") == b"Dark_Blue2"
    for bad in (b"dark_blue2", b"", b"red "):
        with pytest.raises(InvalidValue, match=r'Unexpected value ".*" for enum type colour'):
            parse(bad)


def test_an_enum_named_like_a_type_is_an_enum() -> None:
    column = Column("c", "bytea", False, is_enum=True)

    assert parser_for(column, ("x",))(b"x") == b"x"
    assert encoder_for(column) is None


@pytest.mark.parametrize(
    ("type_name", "text", "wire"),
    [
        ("bool", b"t", b"t"),
        ("bytea", b"\\x", b""),
        ("bytea", b"\\x00ff10", b"\x00\xff\x10"),
        ("timestamptz", b"2024-05-06 07:08:09.12+00", b"2024-05-06 07:08:09.12Z"),
        ("timestamptz", b"0044-03-15 00:00:00+00 BC", b"0044-03-15 00:00:00Z BC"),
        ("timestamptz", b"infinity", b"infinity"),
        ("timestamp", b"2024-05-06 07:08:09.12", b"2024-05-06 07:08:09.12"),
        ("float8", b"-Infinity", b"-Infinity"),
        ("jsonb", b'{"a": 1}', b'{"a": 1}'),
    ],
)
def test_the_wire_form_of_what_postgres_prints(type_name: str, text: bytes, wire: bytes) -> None:
    assert down(type_name, text) == wire


@pytest.mark.parametrize("type_name", SUPPORTED)
def test_arbitrary_bytes_are_parsed_or_refused(type_name: str) -> None:
    @given(st.binary(max_size=30))
    def check(value: bytes) -> None:
        try:
            up(type_name, value)
        except InvalidValue:
            return

    check()


# ---- what Postgres prints survives the way down and back up ------------------------------------------------------


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_come_back_as_printed(number: int) -> None:
    assert up("int8", down("int8", str(number).encode())) == str(number).encode()


@given(st.floats())
def test_floats_come_back_as_the_same_number(number: float) -> None:
    back = up("float8", repr(number).encode())

    assert struct.pack("<d", float(back)) == struct.pack("<d", number) or number != number


@given(st.floats(width=32))
def test_single_floats_come_back_as_the_same_number(number: float) -> None:
    assert float(up("float4", repr(number).encode())) == number or number != number


@given(st.binary(max_size=50))
def test_bytes_come_back_as_printed(value: bytes) -> None:
    printed = b"\\x" + value.hex().encode()

    assert down("bytea", printed) == value
    assert up("bytea", value) == printed


@given(st.uuids())
def test_uuids_come_back_as_printed(value: UUID) -> None:
    assert up("uuid", str(value).upper().encode()) == str(value).encode()


@given(st.dates())
def test_dates_come_back_as_printed(value: date) -> None:
    printed = value.isoformat().encode()

    assert up("date", down("date", printed)) == printed


def clock(value: time) -> bytes:
    """As Postgres prints it: no trailing zeros in the fraction."""
    fraction = f".{value.microsecond:06}".rstrip("0").rstrip(".")
    return f"{value:%H:%M:%S}{fraction}".encode()


@given(st.times(), st.integers(0, 6))
def test_times_come_back_as_printed(value: time, zeros: int) -> None:
    printed = clock(value)
    digits = len(printed.partition(b".")[2])
    padded = printed + (b"." if not digits and zeros else b"") + b"0" * min(zeros, 6 - digits)

    assert up("time", printed) == printed
    assert up("time", padded) == printed


@given(st.datetimes(), st.sampled_from([b" ", b"T"]), st.sampled_from([b"Z", b"+00", b"+00:00", b"+0000"]))
def test_timestamps_come_back_as_printed(value: datetime, between: bytes, offset: bytes) -> None:
    day, at = value.date().isoformat().encode(), clock(value.time())

    assert up("timestamp", day + between + at) == day + b" " + at
    assert up("timestamptz", day + between + at + offset) == day + b" " + at + b"+00"


@given(st.datetimes(timezones=st.just(UTC)))
def test_timestamps_with_zone_survive_the_round_trip(value: datetime) -> None:
    printed = value.date().isoformat().encode() + b" " + clock(value.time()) + b"+00"

    assert up("timestamptz", down("timestamptz", printed)) == printed


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_documents_come_back_unchanged(value: object) -> None:
    printed = json.dumps(value).encode()

    assert up("jsonb", down("jsonb", printed)) == printed
