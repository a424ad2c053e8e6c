"""Numbers as Postgres reads them: integers of three widths, exact decimals, floats of two.

Integers are ``int``, numeric is ``Decimal``, both float types are ``float`` (a float4 being a double that a single
can hold). Forms that only newer servers take (``0x1f``, ``1_000``) are not read: what a clause means must not
depend on the server's version.
"""

from __future__ import annotations

import decimal
import math
import re
import struct
from decimal import Decimal
from fractions import Fraction

#: Bounds of the integer types by name.
INTEGER_RANGES = {name: (-(1 << bits), (1 << bits) - 1) for name, bits in (("int2", 15), ("int4", 31), ("int8", 63))}

#: Exponents that a numeric literal may have. Every double lies between them; exact arithmetic stays cheap.
MAX_EXPONENT = 400

#: Sums of a clause's numerics never need more digits; should one, this raises instead of rounding.
_EXACT = decimal.Context(prec=4 * MAX_EXPONENT, traps=[decimal.Inexact, decimal.InvalidOperation])

_SPACE = " \t\n\v\f\r"
_INTEGER = re.compile(r"[+-]?[0-9]{1,100}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,1000}(?:\.[0-9]{0,1000})?|\.[0-9]{1,1000})(?:[eE][+-]?[0-9]{1,6})?")
_INFINITE = re.compile(r"[+-]?inf(?:inity)?")


class NotANumber(ValueError):
    """The text is no number of the type, or lies outside its range."""


def read_integer(text: str, type_name: str) -> int:
    """Raises :class:`NotANumber`."""
    text = text.strip(_SPACE)
    if not _INTEGER.fullmatch(text):
        raise NotANumber
    return integer(int(text), type_name)


def integer(value: int, type_name: str) -> int:
    """``value``, if the type can hold it. Raises :class:`NotANumber`."""
    least, greatest = INTEGER_RANGES[type_name]
    if not least <= value <= greatest:
        raise NotANumber
    return value


def read_numeric(text: str) -> Decimal:
    """Raises :class:`NotANumber`, also for NaN and the infinities, which no column can hold."""
    text = text.strip(_SPACE)
    if not _DECIMAL.fullmatch(text):
        raise NotANumber
    value = Decimal(text)
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -MAX_EXPONENT or value.adjusted() > MAX_EXPONENT:
        raise NotANumber
    # Postgres keeps digits after the point, never a positive exponent.
    return _EXACT.quantize(value, Decimal(1)) if exponent > 0 else value


def add(left: Decimal, right: Decimal) -> Decimal:
    return _EXACT.add(left, right)


def subtract(left: Decimal, right: Decimal) -> Decimal:
    return _EXACT.subtract(left, right)


def numeric_form(value: Decimal) -> str:
    return format(value, "f") if value else format(abs(value), "f")


def read_float(text: str, *, single: bool) -> float:
    """The nearest value of the type. Raises :class:`NotANumber`, also where it would be zero or infinite."""
    text = text.strip(_SPACE)
    lowered = text.lower()
    if lowered == "nan":
        return math.nan
    if _INFINITE.fullmatch(lowered):
        return -math.inf if text.startswith("-") else math.inf
    if not _DECIMAL.fullmatch(text):
        raise NotANumber
    return nearest_float(Decimal(text), single=single)


def nearest_float(exact: Decimal | int, *, single: bool) -> float:
    """Raises :class:`NotANumber` when the nearest value is infinite, or zero though ``exact`` is not."""
    try:
        value = float(exact)
        if single:
            value = narrow(_round_to_odd(value, exact))
    except OverflowError:
        raise NotANumber from None
    if math.isinf(value) or (value == 0.0 and exact != 0):
        raise NotANumber
    return value


def narrow(value: float) -> float:
    """The float4 nearest to a float8. Raises :class:`OverflowError`."""
    narrowed: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return narrowed


def float4_of_row(form: bytes) -> float:
    value = float(form)
    bits = _bits(value)
    if bits & 0x1FFF_FFFF == 0x1000_0000 or abs(value) < 1.2e-38:
        # It may lie in the middle between two singles, where the text decides to which side.
        return narrow(_round_to_odd(value, Decimal(form.decode("ascii"))))
    return narrow(value)


def _round_to_odd(nearest: float, exact: Decimal | int) -> float:
    """The double next to ``exact`` whose last bit is odd, if ``exact`` is none itself.

    Rounding such a double to a single gives what rounding ``exact`` itself would (Boldo and Melquiond, "When
    double rounding is odd"); rounding the nearest double may not.
    """
    if math.isinf(nearest) or abs(nearest) > 1e39 or abs(nearest) < 1e-60:
        return nearest  # far outside the range of singles
    difference = Fraction(exact) - Fraction(nearest)
    if not difference or _bits(nearest) & 1:
        return nearest
    return math.nextafter(nearest, math.inf if difference > 0 else -math.inf)


def _bits(value: float) -> int:
    bits: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return bits
