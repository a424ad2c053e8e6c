"""Initial rows are, byte for byte, what the protobuf runtime makes of the same messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.model import Column, Row, Table
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import encode
from leyden.satellite.initial_rows import InsertEncoder
from leyden.satellite.rows import RowEncoder

TaggedRows = list[tuple[Row, tuple[str, ...]]]

#: Every type that can be electrified, with the text forms that Postgres gives its values.
TEXT_FORMS: dict[str, st.SearchStrategy[bytes]] = {
    "bool": st.sampled_from([b"t", b"f"]),
    "bytea": st.binary(max_size=200).map(lambda value: b"\\x" + value.hex().encode()),
    "date": st.dates().map(lambda value: value.isoformat().encode()),
    "float4": st.floats(width=32).map(lambda value: repr(value).encode()),
    "float8": st.floats().map(lambda value: repr(value).encode()),
    "int2": st.integers(-(1 << 15), (1 << 15) - 1).map(lambda value: str(value).encode()),
    "int4": st.integers(-(1 << 31), (1 << 31) - 1).map(lambda value: str(value).encode()),
    "int8": st.integers(-(1 << 63), (1 << 63) - 1).map(lambda value: str(value).encode()),
    "jsonb": st.sampled_from([b"null", b"{}", b'{"a": [1, 2.50]}', '"😀"'.encode()]),
    "text": st.text(max_size=200).map(str.encode) | st.sampled_from([127, 128, 16_383, 16_384, 70_000]).map(bytes),
    "time": st.times().map(lambda value: value.isoformat().encode()),
    "timestamp": st.datetimes().map(lambda value: value.isoformat(" ").encode()) | st.just(b"infinity"),
    "timestamptz": st.datetimes().map(lambda value: value.isoformat(" ").encode() + b"+00")
    | st.sampled_from([b"-infinity", b"0044-03-15 12:00:00+00 BC"]),
    "uuid": st.uuids().map(lambda value: str(value).encode()),
    "varchar": st.text(max_size=20).map(str.encode),
    "mood": st.sampled_from([b"sad", b"Very_Happy2"]),
}
COLUMNS = {name: Column(name, name, False, is_enum=name == "mood") for name in TEXT_FORMS}

#: Around multiples of eight the bitmask takes a byte more.
WIDTHS = st.sampled_from([1, 2, 5, 7, 8, 9, 15, 16, 17, 24, 25]) | st.integers(1, 40)

#: Oids at which the varint of the relation id takes a byte more.
OIDS = st.sampled_from([1, 127, 128, 16_384, (1 << 32) - 1]) | st.integers(1, (1 << 32) - 1)

TAGS = st.lists(
    st.sampled_from(["postgres_1@0", "postgres_1@1700000000000", ""]) | st.text(max_size=150), max_size=40
).map(tuple)


@st.composite
def tables_with_rows(draw: st.DrawFn) -> tuple[Table, TaggedRows]:
    columns = tuple(COLUMNS[draw(st.sampled_from(list(COLUMNS)))] for _ in range(draw(WIDTHS)))
    values = [st.none() | TEXT_FORMS[column.name] for column in columns]
    rows = draw(st.lists(st.tuples(st.tuples(*values), TAGS), max_size=6))
    return Table(draw(OIDS), "things", columns, (columns[0].name,), "things_pkey"), rows


def by_the_runtime(table: Table, rows: TaggedRows) -> bytes:
    encoder = RowEncoder(table)
    log = pb.SatOpLog()
    for row, tags in rows:
        log.ops.add().insert.CopyFrom(pb.SatOpInsert(relation_id=table.id, row_data=encoder.full(row), tags=tags))
    return encode(log)


def texts(width: int) -> Table:
    return Table(16_400, "things", (COLUMNS["text"],) * width, ("text",), "things_pkey")


@given(tables_with_rows())
def test_a_message_is_the_one_of_the_runtime(case: tuple[Table, TaggedRows]) -> None:
    table, rows = case

    assert InsertEncoder(table).message(rows) == by_the_runtime(table, rows)


def test_every_type_in_one_row_is_encoded_alike() -> None:
    table = Table(16_400, "things", tuple(COLUMNS.values()), ("uuid",), "things_pkey")

    @given(st.tuples(*TEXT_FORMS.values()))
    def holds(row: Row) -> None:
        rows: TaggedRows = [(row, ("postgres_1@0",))]
        assert InsertEncoder(table).message(rows) == by_the_runtime(table, rows)

    holds()


@pytest.mark.parametrize("width", range(1, 34))
def test_the_bitmask_is_right_at_every_width(width: int) -> None:
    table = texts(width)
    nothing: Row = (None,) * width
    everything: Row = (b"x",) * width
    one_by_one: list[Row] = [(*nothing[:at], b"x", *nothing[at + 1 :]) for at in range(width)]
    all_but_one: list[Row] = [(*everything[:at], None, *everything[at + 1 :]) for at in range(width)]
    rows: TaggedRows = [(row, ("postgres_1@0",)) for row in (nothing, everything, *one_by_one, *all_but_one)]

    assert InsertEncoder(table).message(rows) == by_the_runtime(table, rows)


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 16_383, 16_384, (1 << 21) - 1, 1 << 21, 5_000_000])
def test_lengths_are_right_where_they_take_a_byte_more(size: int) -> None:
    # of the value itself, and of the messages around it, whose own bytes are fewer than 64
    rows: TaggedRows = [
        ((bytes(length), None), tags)
        for length in {size, *(range(max(0, size - 64), size) if size < 20_000 else ())}
        for tags in ((), ("postgres_1@0",), ("é" * size,) if size < 20_000 else ())
    ]

    assert InsertEncoder(texts(2)).message(rows) == by_the_runtime(texts(2), rows)


def test_no_rows_are_an_empty_message() -> None:
    assert InsertEncoder(texts(2)).message([]) == by_the_runtime(texts(2), [])
