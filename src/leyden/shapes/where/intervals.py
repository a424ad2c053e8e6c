"""Intervals: months, days and microseconds, kept apart as Postgres keeps them.

No column is an interval, so they come from literals and from differences only. Owns their reading, order and
the ``justify_*`` functions, and the three steps in which one is added to a moment.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from leyden.shapes.where.datetimes import DAY, INFINITY, civil, days_in, days_of, time_form

#: Largest count of one unit in a literal. With it no sum of a clause's literals leaves Postgres' own range
#: (32 bits for months and days, 64 for microseconds).
MAX_COUNT = 1_000_000

_UNITS = {
    "year": (12, 0, 0),
    "mon": (1, 0, 0),
    "month": (1, 0, 0),
    "week": (0, 7, 0),
    "day": (0, 1, 0),
    "hour": (0, 0, 3_600_000_000),
    "min": (0, 0, 60_000_000),
    "minute": (0, 0, 60_000_000),
    "sec": (0, 0, 1_000_000),
    "second": (0, 0, 1_000_000),
}
_PART = re.compile(
    r"[ ]*(?:(?P<count>[+-]?[0-9]{1,7})[ ]*(?P<unit>[a-z]+)|"
    r"(?P<sign>[+-]?)(?P<hours>[0-9]{1,4}):(?P<minutes>[0-9]{2})(?::(?P<seconds>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,6}))?)?)"
    r"(?=[ ]|$)"
)
_SECONDS = re.compile(r"[+-]?[0-9]{1,7}")


class NotAnInterval(ValueError):
    """The text is not one of the forms read here."""


class Interval(NamedTuple):
    months: int
    days: int
    micros: int

    def __neg__(self) -> Interval:
        return Interval(-self.months, -self.days, -self.micros)

    @property
    def span(self) -> int:
        """What intervals are compared by: a month counts 30 days, a day 24 hours."""
        return (self.months * 30 + self.days) * DAY + self.micros


def plus(left: Interval, right: Interval) -> Interval:
    return Interval(left.months + right.months, left.days + right.days, left.micros + right.micros)


def read_interval(text: str) -> Interval:
    """``1 year -2 days 03:04:05.6`` and the like: whole counts, each unit once. Raises :class:`NotAnInterval`."""
    rest = text.strip(" ").lower()
    if _SECONDS.fullmatch(rest):
        rest += " seconds"
    total = Interval(0, 0, 0)
    seen: set[object] = set()
    while rest:
        match = _PART.match(rest)
        if match is None:
            raise NotAnInterval
        rest = rest[match.end() :]
        for field, part in _part(match):
            if field in seen:
                raise NotAnInterval
            seen.add(field)
            total = plus(total, part)
    if not seen:
        raise NotAnInterval
    return total


def _part(match: re.Match[str]) -> list[tuple[object, Interval]]:
    """One part with the fields that it fills, each of which Postgres lets a literal fill once."""
    if match["unit"] is not None:
        name = match["unit"]
        unit = _UNITS.get(name) or _UNITS.get(name.removesuffix("s"))
        count = int(match["count"])
        if unit is None or abs(count) > MAX_COUNT:
            raise NotAnInterval
        return [(unit, Interval(*(count * size for size in unit)))]
    minutes, seconds = int(match["minutes"]), int(match["seconds"] or 0)
    if minutes > 59 or seconds > 59:
        raise NotAnInterval
    micros = (int(match["hours"]) * 3600 + minutes * 60 + seconds) * 1_000_000
    micros += int((match["fraction"] or "").ljust(6, "0"))
    clock = Interval(0, 0, -micros if match["sign"] == "-" else micros)
    return [(_UNITS["hour"], clock), (_UNITS["minute"], Interval(0, 0, 0)), (_UNITS["second"], Interval(0, 0, 0))]


def interval_form(value: Interval) -> str:
    """A literal that Postgres reads as ``value``."""
    return f"{value.months} months {value.days} days {value.micros} microseconds"


def interval_text(value: Interval) -> str:
    """``value`` for people, much as Postgres shows it."""
    years, months = _towards_zero(value.months, 12)
    counted = ((years, "year"), (months, "mon"), (value.days, "day"))
    parts = [f"{count} {unit}{'' if abs(count) == 1 else 's'}" for count, unit in counted if count]
    if value.micros or not parts:
        parts.append(("-" if value.micros < 0 else "") + time_form(abs(value.micros)))
    return " ".join(parts)


# ---- justify_* --------------------------------------------------------------------------------------------------


def justify_hours(value: Interval) -> Interval:
    whole, micros = _towards_zero(value.micros, DAY)
    days, micros = _same_sign(value.days + whole, micros, DAY)
    return Interval(value.months, days, micros)


def justify_days(value: Interval) -> Interval:
    whole, days = _towards_zero(value.days, 30)
    months, days = _same_sign(value.months + whole, days, 30)
    return Interval(months, days, value.micros)


def justify_interval(value: Interval) -> Interval:
    whole, micros = _towards_zero(value.micros, DAY)
    more, days = _towards_zero(value.days + whole, 30)
    months = value.months + more
    if months > 0 and (days < 0 or (days == 0 and micros < 0)):
        months, days = months - 1, days + 30
    elif months < 0 and (days > 0 or (days == 0 and micros > 0)):
        months, days = months + 1, days - 30
    days, micros = _same_sign(days, micros, DAY)
    return Interval(months, days, micros)


def _towards_zero(value: int, unit: int) -> tuple[int, int]:
    quotient, remainder = divmod(abs(value), unit)
    return (quotient, remainder) if value >= 0 else (-quotient, -remainder)


def _same_sign(high: int, low: int, unit: int) -> tuple[int, int]:
    if high > 0 and low < 0:
        return high - 1, low + unit
    if high < 0 and low > 0:
        return high + 1, low - unit
    return high, low


# ---- adding to a moment -----------------------------------------------------------------------------------------


def add_months(moment: int, months: int) -> int:
    """The same time of day ``months`` later, on the last day of the month where that is shorter."""
    if abs(moment) == INFINITY:
        return moment
    days, clock = divmod(moment, DAY)
    year, month, day = civil(days)
    year, month = divmod(year * 12 + month - 1 + months, 12)
    return days_of(year, month + 1, min(day, days_in(year, month + 1))) * DAY + clock


def difference(later: int, earlier: int) -> Interval:
    """``later - earlier`` of two finite moments: whole days and the rest, both of one sign."""
    return justify_hours(Interval(0, 0, later - earlier))
