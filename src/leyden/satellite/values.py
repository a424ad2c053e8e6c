"""Values on the wire: Postgres text form → what the client stores, and what a client sends → Postgres text form.

Downwards most types travel as Postgres prints them; bytea travels raw and a timestamptz ends in ``Z``
(docs/protocol.md). Upwards every value is parsed before anything else sees it: what does not parse is
:class:`InvalidValue`, in the words of the old service, cut short so that they cannot carry a payload.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable
from datetime import date

from leyden.model import Column


class InvalidValue(Exception):
    """A client's value does not parse as its column's type."""


_QUOTE_LIMIT = 64


def _short(value: bytes) -> str:
    text = value[:_QUOTE_LIMIT].decode("utf-8", "replace")
    return text + ("…" if len(value) > _QUOTE_LIMIT else "")


def _quoted(value: bytes) -> str:
    return json.dumps(_short(value), ensure_ascii=False)


# ---- Postgres → client ------------------------------------------------------------------------------------------


def _bytea_down(value: bytes) -> bytes:
    return bytes.fromhex(value[2:].decode("ascii"))


def _timestamptz_down(value: bytes) -> bytes:
    return value.replace(b"+00", b"Z")  # `… 12:34:56+00`, `… 12:34:56+00 BC`, `infinity`: once or not at all


#: Types whose wire form differs from Postgres' text form.
_DOWN: dict[str, Callable[[bytes], bytes]] = {"bytea": _bytea_down, "timestamptz": _timestamptz_down}


def encoder_for(column: Column) -> Callable[[bytes], bytes] | None:
    """Function from Postgres text form to wire form for values of ``column``; ``None`` when they are the same."""
    return None if column.is_enum else _DOWN.get(column.type)


# ---- client → Postgres ------------------------------------------------------------------------------------------


def _bool_up(value: bytes) -> bytes:
    if value not in (b"t", b"f"):
        raise InvalidValue(f"Unexpected value for bool column: {_quoted(value)}")
    return value


_INTEGER = re.compile(rb"[+-]?[0-9]{1,64}")


def _integer_up(type_name: str, bits: int) -> Callable[[bytes], bytes]:
    limit = 1 << (bits - 1)

    def parse(value: bytes) -> bytes:
        if not _INTEGER.fullmatch(value):
            raise InvalidValue(f"Non-integer value given for {type_name} column: {_short(value)}")
        number = int(value)
        if not -limit <= number < limit:
            raise InvalidValue(f"Value out of range for {type_name} column: {number}")
        return str(number).encode("ascii")

    return parse


_FLOAT = re.compile(rb"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_FLOAT_WORDS = {b"inf", b"infinity", b"-inf", b"-infinity", b"nan"}


def _float_up(type_name: str, single: bool) -> Callable[[bytes], bytes]:
    def parse(value: bytes) -> bytes:
        if value.lower() in _FLOAT_WORDS:
            return value
        if len(value) > 1100 or not _FLOAT.fullmatch(value):
            raise InvalidValue(f"Unexpected value for {type_name} column: {_quoted(value)}")
        number = float(value)
        overflow = math.isinf(number)
        if single and not overflow:
            try:
                narrow = struct.unpack("<f", struct.pack("<f", number))[0]
            except OverflowError:
                overflow = True
            else:
                overflow = math.isinf(narrow) or (narrow == 0.0 and number != 0.0)
        if overflow:
            raise InvalidValue(f"Value for {type_name} column out of range: {_short(value)}")
        return value

    return parse


def _text_up(value: bytes) -> bytes:
    # NUL is legal UTF-8 and a mistake an app can make: Postgres refuses it, and the write is put right there.
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidValue("Invalid UTF-8 sequence found in text column") from None
    return value


_UUID = re.compile(rb"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _uuid_up(value: bytes) -> bytes:
    if not _UUID.fullmatch(value):
        raise InvalidValue(f"Unexpected value for uuid column: {_quoted(value)}")
    return value.lower()


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _json_up(type_name: str) -> Callable[[bytes], bytes]:
    def parse(value: bytes) -> bytes:
        try:
            # numbers are only recognised, never converted: a number may be longer than Python likes to convert
            json.loads(value.decode("utf-8"), parse_constant=_no_constant, parse_int=str, parse_float=str)
        except (ValueError, RecursionError):
            raise InvalidValue(f"Invalid JSON found in {type_name} column") from None
        return value

    return parse


_INFINITE = {b"infinity", b"-infinity"}
_DATE = re.compile(rb"([0-9]{4}|[1-9][0-9]{4,6})-([0-9]{2})-([0-9]{2})")
_TIME = re.compile(rb"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?")
_STAMP = re.compile(
    rb"([0-9]{4,7}-[0-9]{2}-[0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    rb"(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?( BC)?"
)
#: Postgres' own limits: 5874897 for date, 294276 for timestamps (documentation, "Date/Time Types").
_LAST_DATE_YEAR = 5_874_897
_LAST_STAMP_YEAR = 294_276


def _is_date(text: bytes, before_christ: bool, last_year: int) -> bool:
    match = _DATE.fullmatch(text)
    if match is None:
        return False
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    if year == 0 or year > (4714 if before_christ else last_year):
        return False
    # The proleptic Gregorian calendar repeats every 400 years; 1 BC is year 0 of the astronomical count.
    equivalent = (1 - year if before_christ else year) % 400 + 2000
    try:
        date(equivalent, month, day)
    except ValueError:
        return False
    return True


def _date_up(value: bytes) -> bytes:
    if value in _INFINITE:
        return value
    before_christ = value.endswith(b" BC")
    if not _is_date(value.removesuffix(b" BC"), before_christ, _LAST_DATE_YEAR):
        raise InvalidValue(f"Unexpected value for :date column: {_quoted(value)}")
    return value


def _clock(hour: bytes, minute: bytes, second: bytes, fraction: bytes | None) -> bytes:
    """Canonical time of day as Postgres prints it: trailing zeros of the fraction dropped."""
    text = b":".join((hour, minute, second))
    digits = (fraction or b"").rstrip(b"0")
    return text + b"." + digits if digits else text


def _time_up(value: bytes) -> bytes:
    if value == b"24:00:00":  # Postgres' greatest time
        return value
    match = _TIME.fullmatch(value)
    if match is None:
        raise InvalidValue(f"Unexpected value for :time column: {_quoted(value)}")
    hour, minute, second, fraction = match.groups()
    if int(hour) > 23 or int(minute) > 59 or int(second) > 59:
        raise InvalidValue(f"Unexpected value for :time column: {_quoted(value)}")
    return _clock(hour, minute, second, fraction)


def _stamp_up(type_name: str, with_zone: bool) -> Callable[[bytes], bytes]:
    def parse(value: bytes) -> bytes:
        if value in _INFINITE:
            return value
        match = _STAMP.fullmatch(value)
        if match is None:
            raise InvalidValue(f"Unexpected format provided for {type_name} column: {_quoted(value)}")
        day, hour, minute, second, fraction, offset, before_christ = match.groups()
        if with_zone:
            if offset is None:
                raise InvalidValue(f"Missing offset in {type_name} column: {_quoted(value)}")
            if offset != b"Z" and offset.strip(b"+-").replace(b":", b"").strip(b"0"):
                raise InvalidValue(f"Non-zero offset provided for {type_name} column: {_quoted(value)}")
        elif offset is not None:
            raise InvalidValue(f"Unexpected offset provided for {type_name} column: {_quoted(value)}")
        year = int(day.split(b"-")[0])
        if not 1 <= year <= _LAST_STAMP_YEAR:
            raise InvalidValue(f"Year out of range: {year}")
        if (
            not _is_date(day, before_christ is not None, _LAST_STAMP_YEAR)
            or int(hour) > 23
            or int(minute) > 59
            or int(second) > 59
        ):
            raise InvalidValue(f"Unexpected format provided for {type_name} column: {_quoted(value)}")
        if fraction is not None and len(fraction) > 6:
            clock = b":".join((hour, minute, second)) + b"." + fraction[:32]  # Postgres rounds
        else:
            clock = _clock(hour, minute, second, fraction)
        return day + b" " + clock + (b"+00" if with_zone else b"") + (before_christ or b"")

    return parse


def _bytea_up(value: bytes) -> bytes:
    return b"\\x" + value.hex().encode("ascii")


_UP: dict[str, Callable[[bytes], bytes]] = {
    "bool": _bool_up,
    "int2": _integer_up("int2", 16),
    "int4": _integer_up("int4", 32),
    "int8": _integer_up("int8", 64),
    "float4": _float_up("float4", single=True),
    "float8": _float_up("float8", single=False),
    "text": _text_up,
    "varchar": _text_up,
    "uuid": _uuid_up,
    "json": _json_up("json"),
    "jsonb": _json_up("jsonb"),
    "date": _date_up,
    "time": _time_up,
    "timestamp": _stamp_up("timestamp", with_zone=False),
    "timestamptz": _stamp_up("timestamptz", with_zone=True),
    "bytea": _bytea_up,
}


def _enum_up(type_name: str, labels: frozenset[bytes]) -> Callable[[bytes], bytes]:
    def parse(value: bytes) -> bytes:
        if value not in labels:
            raise InvalidValue(f"Unexpected value {_quoted(value)} for enum type {type_name}")
        return value

    return parse


def parser_for(column: Column, labels: tuple[str, ...] = ()) -> Callable[[bytes], bytes]:
    """Function from wire form to Postgres text form, raising :class:`InvalidValue`.

    ``labels`` are the enum's, when ``column`` is one. An unsupported type refuses everything.
    """
    if column.is_enum:
        return _enum_up(column.type, frozenset(label.encode("utf-8") for label in labels))
    parser = _UP.get(column.type)
    if parser is None:

        def refuse(value: bytes) -> bytes:
            raise InvalidValue("unexpected error")

        return refuse
    return parser
