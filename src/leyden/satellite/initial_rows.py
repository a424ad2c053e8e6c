"""Initial rows as SatOpLog messages, written byte by byte.

A first copy is the one place where millions of operations are encoded for one client, and building message objects was
nine tenths of the work. The bytes are those that the protobuf runtime makes of the same messages; a test compares them.

The format (protobuf's documentation, "Encoding"): a field is a byte with its number and type, then a varint, or the
length as a varint and so many bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, repeat

from leyden.model import Row, Table
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import encode
from leyden.satellite.rows import converters

_VARINT, _BYTES = 0, 2  # wire types

#: What precedes the operations.
_EMPTY_LOG = encode(pb.SatOpLog())


class InsertEncoder:
    """Encodes inserts into one table.

    All rows of a message go through each step together, so that the loops are those of C functions: map, zip and join.
    """

    def __init__(self, table: Table) -> None:
        self._relation_id = table.id
        self._columns = len(table.columns)
        self._converters = converters(table)

    def message(self, rows: Sequence[tuple[Row, tuple[str, ...]]]) -> bytes:
        """The payload of a SatOpLog with an insert for each of ``rows``, which come with their tags."""
        values = list(chain.from_iterable(row for row, _ in rows))
        columns = self._columns
        for position, convert in self._converters:
            column = slice(position, None, columns)
            values[column] = [None if value is None else convert(value) for value in values[column]]
        null_bits = self._null_bits(values, len(rows))
        present = [b"" if value is None else value for value in values]  # a NULL still takes an empty value
        pieces = [b""] * (2 * len(present))
        pieces[0::2] = map(_value_prefix, map(len, present))
        pieces[1::2] = present
        bodies = list(map(b"".join, zip(*[iter(pieces)] * (2 * columns), strict=True)))
        tags = [_tag_fields(tags) for _, tags in rows]
        headers = map(_header, repeat(self._relation_id), repeat(columns), null_bits, map(len, bodies), map(len, tags))
        return _EMPTY_LOG + b"".join(chain.from_iterable(zip(headers, bodies, tags, strict=True)))

    def _null_bits(self, values: list[bytes | None], rows: int) -> Sequence[int]:
        """For each row a number that has a bit for each column, the first one highest, set where the row is NULL."""
        bits = [0] * rows
        for position in range(self._columns):
            column = values[position :: self._columns]
            if None in column:
                bit = 1 << (self._columns - 1 - position)
                bits = [one | bit if value is None else one for one, value in zip(bits, column, strict=True)]
        return bits


@lru_cache(maxsize=4096)
def _header(relation_id: int, columns: int, null_bits: int, values_size: int, tags_size: int) -> bytes:
    """Everything in front of the values of a row: the beginnings of the messages around it, and its bitmask."""
    mask_size = (columns + 7) // 8
    mask = (null_bits << (8 * mask_size - columns)).to_bytes(mask_size, "big")
    row = _key(pb.SatOpRow.NULLS_BITMASK_FIELD_NUMBER, _BYTES) + _varint(mask_size) + mask
    insert = (
        _key(pb.SatOpInsert.RELATION_ID_FIELD_NUMBER, _VARINT)
        + _varint(relation_id)
        + _key(pb.SatOpInsert.ROW_DATA_FIELD_NUMBER, _BYTES)
        + _varint(len(row) + values_size)
        + row
    )
    operation = (
        _key(pb.SatTransOp.INSERT_FIELD_NUMBER, _BYTES) + _varint(len(insert) + values_size + tags_size) + insert
    )
    return _key(pb.SatOpLog.OPS_FIELD_NUMBER, _BYTES) + _varint(len(operation) + values_size + tags_size) + operation


@lru_cache(maxsize=4096)
def _value_prefix(size: int) -> bytes:
    return _key(pb.SatOpRow.VALUES_FIELD_NUMBER, _BYTES) + _varint(size)


@lru_cache(maxsize=1024)
def _tag_fields(tags: tuple[str, ...]) -> bytes:
    key = _key(pb.SatOpInsert.TAGS_FIELD_NUMBER, _BYTES)
    return b"".join(key + _varint(len(tag)) + tag for tag in map(str.encode, tags))


def _key(field_number: int, wire_type: int) -> bytes:
    return _varint(field_number << 3 | wire_type)


def _varint(number: int) -> bytes:
    """Seven bits in each byte, the lowest first; the highest bit says that more follow."""
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)
