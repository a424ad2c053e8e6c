"""What a value of each type is in Python, and how it is read and written.

A :class:`Codec` for each type of :mod:`leyden.shapes.where.sqltypes`. Values of one type compare with each other as
in Postgres, through :func:`order_of` where Python would differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from leyden.shapes.where import datetimes, intervals, numbers, sqltypes
from leyden.shapes.where.sqltypes import SqlType


class InvalidText(ValueError):
    """A text that is no value of a type, or is written in a way that is not read here."""


class Unevaluable(Exception):
    """An expression has no value for a row: Postgres would raise an error."""


@dataclass(frozen=True, slots=True)
class Codec:
    """``of_row`` takes the text form of a row; ``read`` takes a literal and raises :class:`ValueError`.

    ``form`` is a text that Postgres reads as the value. For a type in which equal values look equal
    (:func:`looks_decide`) it is *the* text form.
    """

    of_row: Callable[[bytes], Any]
    read: Callable[[str], Any]
    form: Callable[[Any], str]


def codec_of(kind: SqlType) -> Codec | None:
    """``None`` for a type without operations."""
    return _CODECS.get(kind) or (_enum_codec(kind) if kind.labels is not None else None)


def looks_decide(kind: SqlType) -> bool:
    """Whether values are equal exactly when their text forms in a row are. Not so for floats: ``0`` and ``-0``."""
    return kind in _ONE_FORM or kind.labels is not None


def order_of(kind: SqlType) -> Callable[[Any], Any] | None:
    """Function from values to what Python compares as Postgres compares the values; ``None``: the values do."""
    return _ORDERS.get(kind)


def cast_text(kind: SqlType) -> Callable[[Any], str] | None:
    """What ``value::text`` gives, where it does not depend on how the server prints floats and intervals."""
    if kind == sqltypes.BOOL:
        return lambda value: "true" if value else "false"
    if kind in sqltypes.FLOATS or kind == sqltypes.INTERVAL:
        return None
    codec = codec_of(kind)
    return codec.form if codec else None


# ---- the types --------------------------------------------------------------------------------------------------

_TRUE = frozenset(("t", "tr", "tru", "true", "y", "ye", "yes", "on", "1"))
_FALSE = frozenset(("f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0"))
_UUID = re.compile(r"(?:[0-9a-f]{4}-?){7}[0-9a-f]{4}")


def _read_bool(text: str) -> bool:
    word = text.strip(" \t\n\v\f\r").lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidText


def _read_uuid(text: str) -> str:
    digits = text.lower()
    if digits.startswith("{") and digits.endswith("}"):
        digits = digits[1:-1]
    if not _UUID.fullmatch(digits):
        raise InvalidText
    digits = digits.replace("-", "")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def read_text(text: str) -> str:
    """A text that can be a value in Postgres. Raises :class:`ValueError`."""
    if "\0" in text:
        raise InvalidText
    text.encode("utf-8")
    return text


def _no_literal(_text: str) -> Any:
    raise InvalidText


def _no_row(_form: bytes) -> Any:
    raise Unevaluable  # no column is of the type


_CODECS: dict[SqlType, Codec] = {
    sqltypes.BOOL: Codec(lambda form: form == b"t", _read_bool, lambda value: "t" if value else "f"),
    **{kind: Codec(int, partial(numbers.read_integer, type_name=kind.name), str) for kind in sqltypes.INTEGERS},
    sqltypes.NUMERIC: Codec(_no_row, numbers.read_numeric, numbers.numeric_form),
    sqltypes.FLOAT4: Codec(numbers.float4_of_row, partial(numbers.read_float, single=True), repr),
    sqltypes.FLOAT8: Codec(float, partial(numbers.read_float, single=False), repr),
    sqltypes.TEXT: Codec(bytes.decode, read_text, str),
    sqltypes.UUID: Codec(bytes.decode, _read_uuid, str),
    sqltypes.DATE: Codec(datetimes.date_of_row, datetimes.read_date, datetimes.date_form),
    sqltypes.TIME: Codec(datetimes.time_of_row, datetimes.read_time, datetimes.time_form),
    sqltypes.TIMESTAMP: Codec(
        datetimes.moment_of_row, partial(datetimes.read_moment, zoned=False), datetimes.moment_form
    ),
    sqltypes.TIMESTAMPTZ: Codec(
        datetimes.moment_of_row,
        partial(datetimes.read_moment, zoned=True),
        partial(datetimes.moment_form, zone="+00"),
    ),
    sqltypes.INTERVAL: Codec(_no_row, intervals.read_interval, intervals.interval_form),
    sqltypes.JSONB: Codec(bytes.decode, _no_literal, str),
}


@cache
def _enum_codec(kind: SqlType) -> Codec:
    """A label is its place among the labels, which is how Postgres orders them."""
    labels = kind.labels or ()
    places = {label: place for place, label in enumerate(labels)}
    by_form = {label.encode(): place for label, place in places.items()}

    def read(text: str) -> int:
        if text not in places:
            raise InvalidText
        return places[text]

    def of_row(form: bytes) -> int:
        place = by_form.get(form)
        if place is None:
            raise Unevaluable  # a label younger than the description of the table
        return place

    return Codec(of_row, read, labels.__getitem__)


_ONE_FORM = frozenset(
    (
        sqltypes.BOOL,
        *sqltypes.INTEGERS,
        sqltypes.TEXT,
        sqltypes.UUID,
        sqltypes.DATE,
        sqltypes.TIME,
        *sqltypes.STAMPS,
    )
)


def _float_order(value: float) -> tuple[bool, float]:
    """NaN equals itself and is greater than all else."""
    return (True, 0.0) if value != value else (False, value)


_ORDERS: dict[SqlType, Callable[[Any], Any]] = {
    sqltypes.FLOAT4: _float_order,
    sqltypes.FLOAT8: _float_order,
    sqltypes.INTERVAL: lambda value: value.span,
}
