"""Dates, times and timestamps as Postgres counts them.

Values are integers: days since 2000-01-01 for ``date``, microseconds since then for both timestamp types (UTC, the
session's time zone), microseconds since midnight for ``time``. Infinities are integers beyond every finite value
of any of these, so that values of different types compare after :func:`midnight`.

Owns reading (the text forms of rows and the ISO 8601 part of what Postgres takes as literals), printing and the
calendar. Python's ``datetime`` ends at the years 1 and 9999; Postgres does not.
"""

from __future__ import annotations

import re
from decimal import Decimal

INFINITY = 1 << 80
DAY = 86_400_000_000

#: First day and first moment: 4714-11-24 BC, Julian day 0, in both types.
FIRST_DATE = -2_451_545
FIRST_MOMENT = FIRST_DATE * DAY
#: 5874897-12-31 and the last microsecond of 294276.
LAST_DATE = 2_145_031_948
LAST_MOMENT = 106_751_983 * DAY - 1

_SPACE = " \t\n\v\f\r"
_DATE = r"(?P<year>[0-9]{4}|[1-9][0-9]{4,6})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
_CLOCK = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?P<fraction>\.[0-9]{1,32})?)?"
_ZONE = r"(?P<zone>[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?"
_MOMENT = re.compile(rf"{_DATE}(?:[ Tt]{_CLOCK} ?{_ZONE})?(?P<era> BC)?")
_TIME_OF_DAY = re.compile(rf"{_CLOCK}(?: ?(?P<half>[AaPp][Mm])| ?{_ZONE})")


class NotADate(ValueError):
    """The text is not one of the forms read here, or names no day of the calendar."""


# ---- the calendar -----------------------------------------------------------------------------------------------


def days_of(year: int, month: int, day: int) -> int:
    """Days from 2000-01-01 to a day of the proleptic Gregorian calendar; year 0 is 1 BC."""
    # Years are counted from March, so that the leap day ends a year.
    if month < 3:
        year -= 1
        month += 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day - 730_426


def civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a day counted from 2000-01-01."""
    era, day_of_era = divmod(days + 730_425, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    return era * 400 + year_of_era + (month < 3), month, day


def days_in(year: int, month: int) -> int:
    following = (year, month + 1) if month < 12 else (year + 1, 1)
    return days_of(*following, 1) - days_of(year, month, 1)


def midnight(days: int) -> int:
    """The moment at which a day begins, infinities kept. May lie outside the range of the timestamp types."""
    return days if abs(days) == INFINITY else days * DAY


# ---- text forms of rows, which are trusted ----------------------------------------------------------------------


def date_of_row(form: bytes) -> int:
    if form.endswith(b"y"):
        return -INFINITY if form.startswith(b"-") else INFINITY
    before_christ = form.endswith(b" BC")
    if before_christ:
        form = form[:-3]
    year = int(form[:-6])
    return days_of(1 - year if before_christ else year, int(form[-5:-3]), int(form[-2:]))


def time_of_row(form: bytes) -> int:
    seconds = int(form[:2]) * 3600 + int(form[3:5]) * 60 + int(form[6:8])
    return seconds * 1_000_000 + (int(form[9:].ljust(6, b"0")) if len(form) > 8 else 0)


def moment_of_row(form: bytes) -> int:
    """For both timestamp types: the zone is always ``+00``."""
    if form.endswith(b"y"):
        return -INFINITY if form.startswith(b"-") else INFINITY
    day, _, rest = form.partition(b" ")
    era = b""
    if rest.endswith(b" BC"):
        rest, era = rest[:-3], b" BC"
    return date_of_row(day + era) * DAY + time_of_row(rest.removesuffix(b"+00"))


# ---- printing ---------------------------------------------------------------------------------------------------


def date_form(days: int) -> str:
    if abs(days) == INFINITY:
        return "infinity" if days > 0 else "-infinity"
    year, month, day = civil(days)
    text, era = (f"{year:04}", "") if year > 0 else (f"{1 - year:04}", " BC")
    return f"{text}-{month:02}-{day:02}{era}"


def time_form(micros: int) -> str:
    seconds, fraction = divmod(micros, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    text = f"{hour:02}:{minute:02}:{second:02}"
    return f"{text}.{fraction:06}".rstrip("0") if fraction else text


def moment_form(micros: int, zone: str = "") -> str:
    """``zone`` is ``+00`` for timestamptz."""
    if abs(micros) == INFINITY:
        return date_form(micros)
    days, rest = divmod(micros, DAY)
    day, era, _ = date_form(days).partition(" BC")
    return f"{day} {time_form(rest)}{zone}{era}"


# ---- literals ---------------------------------------------------------------------------------------------------


def read_date(text: str) -> int:
    """Raises :class:`NotADate`. A time of day and a zone may follow, and count for nothing."""
    text = text.strip(_SPACE)
    if (infinite := _infinite(text)) is not None:
        return infinite
    match = _moment(text)
    _clock(match)
    days = _day(match)
    if not FIRST_DATE <= days <= LAST_DATE:
        raise NotADate
    return days


def read_moment(text: str, *, zoned: bool) -> int:
    """Raises :class:`NotADate`. A zone is obeyed when ``zoned`` and counts for nothing otherwise, as in Postgres."""
    text = text.strip(_SPACE)
    if (infinite := _infinite(text)) is not None:
        return infinite
    match = _moment(text)
    moment = _day(match) * DAY + _clock(match) - (_zone(match) if zoned else 0)
    if not FIRST_MOMENT <= moment <= LAST_MOMENT:
        raise NotADate
    return moment


def read_time(text: str) -> int:
    """Raises :class:`NotADate`. A date may precede, but not with a ``T``; AM, PM or a zone may follow."""
    text = text.strip(_SPACE)
    match = _TIME_OF_DAY.fullmatch(text)
    if match is None:
        match = _moment(text)
        if match["hour"] is None or match["era"] or "t" in text.lower():
            raise NotADate
        _day(match)
        return _clock(match)
    _zone(match)
    if match["half"] is None:
        # Postgres knows midnight at the end of a day, and nothing after it.
        return DAY if int(match["hour"]) == 24 and not _clock(match, hour=0) else _clock(match)
    hour = int(match["hour"])
    if not 1 <= hour <= 12:
        raise NotADate
    return _clock(match, hour=hour % 12 + (12 if match["half"].lower() == "pm" else 0))


def _infinite(text: str) -> int | None:
    return {"infinity": INFINITY, "-infinity": -INFINITY}.get(text.lower())


def _moment(text: str) -> re.Match[str]:
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise NotADate
    _zone(match)
    return match


def _day(match: re.Match[str]) -> int:
    year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    if match["era"]:
        year = 1 - year
    if int(match["year"]) == 0 or not 1 <= month <= 12 or not 1 <= day <= days_in(year, month):
        raise NotADate
    return days_of(year, month, day)


def _clock(match: re.Match[str], hour: int | None = None) -> int:
    hour = int(match["hour"] or 0) if hour is None else hour
    minute, second = int(match["minute"] or 0), int(match["second"] or 0)
    if hour > 23 or minute > 59 or second > 59:
        raise NotADate
    # Both here and in the server a double, rounded to the even neighbour.
    micros = round(float(match["fraction"] or 0) * 1_000_000)
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros


def _zone(match: re.Match[str]) -> int:
    """Offset east of UTC in microseconds."""
    zone = match["zone"]
    if zone is None or zone in "Zz":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[-2:]) if len(zone) > 3 else 0
    if hours > 15 or minutes > 59:
        raise NotADate
    offset = (hours * 60 + minutes) * 60_000_000
    return -offset if zone[0] == "-" else offset


def seconds(micros: int) -> Decimal:
    """Microseconds as the exact count of seconds that ``extract(epoch …)`` gives."""
    return Decimal(micros).scaleb(-6)
