"""SatOpRow: a row image as null bitmask and values (docs/protocol.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from leyden.model import Row, Table
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.values import encoder_for


class InvalidRow(Exception):
    """A client's row image does not fit its relation."""


def pack(values: Sequence[bytes | None]) -> pb.SatOpRow:
    """Row image of ``values`` (already in wire form): first column = most significant bit of the first byte."""
    bits = 0
    for value in values:
        bits = bits << 1 | (value is None)
    size = (len(values) + 7) // 8
    mask = (bits << (8 * size - len(values))).to_bytes(size, "big")
    return pb.SatOpRow(nulls_bitmask=mask, values=[b"" if value is None else value for value in values])


def unpack(row: pb.SatOpRow, columns: int) -> list[bytes | None]:
    """The wire values of ``row``, which must hold exactly ``columns`` of them.

    Raises:
        InvalidRow: wrong number of values, bitmask too short, or a NULL with a value.
    """
    mask, values = row.nulls_bitmask, row.values
    if len(values) != columns or len(mask) * 8 < columns:
        raise InvalidRow("the row does not have the columns of its relation")
    result: list[bytes | None] = []
    for position, value in enumerate(values):
        if mask[position >> 3] >> (7 - (position & 7)) & 1:
            if value:
                raise InvalidRow("a NULL with a value")
            result.append(None)
        else:
            result.append(value)
    return result


_Encoder = Callable[[bytes], bytes]


@lru_cache(maxsize=4096)
def converters(table: Table) -> tuple[tuple[int, _Encoder], ...]:
    """The columns, by position, whose values must be converted for the wire."""
    pairs = ((position, encoder_for(column)) for position, column in enumerate(table.columns))
    return tuple((position, encoder) for position, encoder in pairs if encoder is not None)


class RowEncoder:
    """Packs rows of one table; made once per table, because most tables need no conversion at all."""

    def __init__(self, table: Table) -> None:
        self._converters = converters(table)
        keys = frozenset(table.key_positions)
        self._key_mask = tuple(position in keys for position in range(len(table.columns)))

    def full(self, row: Row) -> pb.SatOpRow:
        if self._converters:
            values = list(row)
            for position, encoder in self._converters:
                value = values[position]
                if value is not None:
                    values[position] = encoder(value)
            return pack(values)
        return pack(row)

    def key_only(self, row: Row) -> pb.SatOpRow:
        """The image of ``row`` with every column but the primary key NULL."""
        kept = zip(row, self._key_mask, strict=True)
        return self.full(tuple(value if is_key else None for value, is_key in kept))
