"""Initial rows as SatOpLog messages, written byte by byte.

A first copy is the one place where millions of operations are encoded for one client, and building message objects was
nine tenths of the work. The bytes are those that the protobuf runtime makes of the same messages; a test compares them.

The format (protobuf's documentation, "Encoding"): a field is a byte with its number and type, then a varint, or the
length as a varint and so many bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter

from leyden.memo import Memo
from leyden.model import Row, Table
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import encode
from leyden.satellite.rows import converters

_VARINT, _BYTES = 0, 2  # wire types

#: What precedes the operations.
_EMPTY_LOG = encode(pb.SatOpLog())

_ROW, _TAGS = itemgetter(0), itemgetter(1)


class InsertEncoder:
    """Encodes inserts into one table.

    All rows of a message take each step together, so that the loops are those of C functions: map, zip and join.
    """

    def __init__(self, table: Table) -> None:
        self._relation_id = table.id
        self._columns = len(table.columns)
        self._converters = converters(table)
        self._headers = Memo(self._header)

    def message(self, rows: Sequence[tuple[Row, tuple[str, ...]]]) -> bytes:
        """The payload of a SatOpLog with an insert for each of ``rows``, which come with their tags."""
        values = list(chain.from_iterable(map(_ROW, rows)))
        null_bits, present = self._without_nulls(values, len(rows))
        for position, convert in self._converters:
            column = slice(position, None, self._columns)
            # no type that is converted has an empty text
            present[column] = [value and convert(value) for value in present[column]]
        pieces = [b""] * (2 * len(present))
        pieces[0::2] = map(_VALUE_PREFIXES.__getitem__, map(len, present))
        pieces[1::2] = present
        bodies = list(map(b"".join, zip(*[iter(pieces)] * (2 * self._columns), strict=True)))
        tags = list(map(_TAG_FIELDS.__getitem__, map(_TAGS, rows)))
        keys = zip(null_bits, map(len, bodies), map(len, tags), strict=True)
        headers = map(self._headers.__getitem__, keys)
        return _EMPTY_LOG + b"".join(chain.from_iterable(zip(headers, bodies, tags, strict=True)))

    def _without_nulls(self, values: list[bytes | None], rows: int) -> tuple[list[int], list[bytes]]:
        """For each row the bits of its columns, the first one highest, set where it is NULL; and the values without
        NULLs, which take an empty value on the wire."""
        bits = [0] * rows
        for position in range(self._columns):
            column = values[position :: self._columns]
            if not all(column):
                bit = 1 << (self._columns - 1 - position)
                bits = [one | bit if value is None else one for one, value in zip(bits, column, strict=True)]
        return bits, [value or b"" for value in values]

    def _header(self, key: tuple[int, int, int]) -> bytes:
        """Everything in front of the values of a row: the beginnings of the messages around it, and its bitmask."""
        null_bits, values_size, tags_size = key
        mask_size = (self._columns + 7) // 8
        mask = (null_bits << (8 * mask_size - self._columns)).to_bytes(mask_size, "big")
        row = _key(pb.SatOpRow.NULLS_BITMASK_FIELD_NUMBER, _BYTES) + _varint(mask_size) + mask
        insert = (
            _key(pb.SatOpInsert.RELATION_ID_FIELD_NUMBER, _VARINT)
            + _varint(self._relation_id)
            + _key(pb.SatOpInsert.ROW_DATA_FIELD_NUMBER, _BYTES)
            + _varint(len(row) + values_size)
            + row
        )
        rest = values_size + tags_size
        operation = _key(pb.SatTransOp.INSERT_FIELD_NUMBER, _BYTES) + _varint(len(insert) + rest) + insert
        return _key(pb.SatOpLog.OPS_FIELD_NUMBER, _BYTES) + _varint(len(operation) + rest) + operation


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


def _value_prefix(size: int) -> bytes:
    return _key(pb.SatOpRow.VALUES_FIELD_NUMBER, _BYTES) + _varint(size)


def _tag_fields(tags: tuple[str, ...]) -> bytes:
    key = _key(pb.SatOpInsert.TAGS_FIELD_NUMBER, _BYTES)
    return b"".join(key + _varint(len(tag)) + tag for tag in map(str.encode, tags))


_VALUE_PREFIXES = Memo(_value_prefix)
_TAG_FIELDS = Memo(_tag_fields)
