"""Arithmetic of dates, times and intervals: each operation in Python and in SQL.

An interval that is added to a moment is a literal, and is added in Postgres' three steps: months, days,
microseconds. Each step is an operation of its own, so that the moments for which it fails form a range that is
known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable

from leyden.shapes.where import datetimes, intervals
from leyden.shapes.where.datetimes import DAY, FIRST_DATE, FIRST_MOMENT, INFINITY, LAST_DATE, LAST_MOMENT, midnight
from leyden.shapes.where.intervals import Interval
from leyden.shapes.where.sqltypes import (
    DATE,
    INT4,
    INT8,
    INTERVAL,
    NUMERIC,
    STAMPS,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    SqlType,
)
from leyden.shapes.where.templates import template
from leyden.shapes.where.tree import Constant, Operation
from leyden.shapes.where.values import Unevaluable

# ---- moments ----------------------------------------------------------------------------------------------------


def additions(kind: SqlType, interval: Interval) -> list[Operation]:
    """The steps that add ``interval`` to a timestamp of type ``kind``, in their order."""
    steps: list[tuple[Interval, Callable[[int], int]]] = []
    if interval.months:
        steps.append((Interval(interval.months, 0, 0), lambda moment: intervals.add_months(moment, interval.months)))
    if interval.days:
        steps.append((Interval(0, interval.days, 0), lambda moment: moment + interval.days * DAY))
    if interval.micros:
        steps.append((Interval(0, 0, interval.micros), lambda moment: moment + interval.micros))
    return [_addition(kind, part, step) for part, step in steps]


def _addition(kind: SqlType, part: Interval, step: Callable[[int], int]) -> Operation:
    def evaluate(moment: int) -> int:
        if abs(moment) == INFINITY:
            return moment
        result = step(moment)
        if FIRST_MOMENT <= result <= LAST_MOMENT:
            return result
        raise Unevaluable

    earliest, latest = _domain(step)
    return Operation(
        f"{kind.name} + {intervals.interval_form(part)}",
        kind,
        evaluate,
        template("({0} [+] {1})"),
        template("(({0} [<] {2} AND {0} [>] {4}) OR ({0} [>] {3} AND {0} [<] {5}))"),
        (
            Constant(INTERVAL, part),
            *(Constant(kind, moment) for moment in (earliest, latest, -INFINITY, INFINITY)),
        ),
    )


def _domain(step: Callable[[int], int]) -> tuple[int, int]:
    """First and last moment from which ``step`` stays within Postgres' range; beyond everything if there is none.

    Both are found by bisection: near the ends of the range every step grows with the moment, because neither end
    lies on a day that a shorter month lacks.
    """
    if step(LAST_MOMENT) < FIRST_MOMENT or step(FIRST_MOMENT) > LAST_MOMENT:
        return INFINITY, INFINITY
    earliest = _first(lambda moment: step(moment) >= FIRST_MOMENT)
    latest = _first(lambda moment: step(moment) > LAST_MOMENT) - 1
    return earliest, latest


def _first(holds: Callable[[int], bool]) -> int:
    """First moment for which ``holds``; one after the last if there is none."""
    low, high = FIRST_MOMENT, LAST_MOMENT + 1
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _difference(later: int, earlier: int) -> Interval:
    micros = later - earlier
    if abs(later) == INFINITY or abs(earlier) == INFINITY or not -(1 << 63) <= micros < 1 << 63:
        raise Unevaluable
    return intervals.difference(later, earlier)


#: Newer servers subtract infinities, older ones raise an error: here it is one on all.
DIFFERENCES = {
    kind: Operation(
        f"{kind.name} -",
        INTERVAL,
        _difference,
        template("({0} [-] {1})"),
        template(
            "CASE WHEN NOT pg_catalog.isfinite({0}) OR NOT pg_catalog.isfinite({1}) THEN true"
            " ELSE (EXTRACT(epoch FROM {0}) [-] EXTRACT(epoch FROM {1})) [<] {2}"
            " OR (EXTRACT(epoch FROM {0}) [-] EXTRACT(epoch FROM {1})) [>] {3} END"
        ),
        tuple(Constant(NUMERIC, datetimes.seconds(micros)) for micros in (-(1 << 63), (1 << 63) - 1)),
    )
    for kind in STAMPS
}


# ---- dates ------------------------------------------------------------------------------------------------------


def _date_plus(days: int, count: int) -> int:
    if abs(days) == INFINITY:
        return days
    if FIRST_DATE <= days + count <= LAST_DATE:
        return days + count
    raise Unevaluable


def _date_minus(days: int, count: int) -> int:
    return _date_plus(days, -count)


def _days_between(later: int, earlier: int) -> int:
    if abs(later) == INFINITY or abs(earlier) == INFINITY:
        raise Unevaluable
    return later - earlier


_DATE_LIMITS = (Constant(DATE, 0), Constant(INT8, FIRST_DATE), Constant(INT8, LAST_DATE))

DATE_PLUS = Operation(
    "date +",
    DATE,
    _date_plus,
    template("({0} [+] {1})"),
    template(
        "CASE WHEN pg_catalog.isfinite({0}) THEN (CAST({0} [-] {2} AS pg_catalog.int8) [+] {1}) [<] {3}"
        " OR (CAST({0} [-] {2} AS pg_catalog.int8) [+] {1}) [>] {4} ELSE false END"
    ),
    _DATE_LIMITS,
)
DATE_MINUS = Operation(
    "date -",
    DATE,
    _date_minus,
    template("({0} [-] {1})"),
    template(
        "CASE WHEN pg_catalog.isfinite({0}) THEN (CAST({0} [-] {2} AS pg_catalog.int8) [-] {1}) [<] {3}"
        " OR (CAST({0} [-] {2} AS pg_catalog.int8) [-] {1}) [>] {4} ELSE false END"
    ),
    _DATE_LIMITS,
)
DAYS_BETWEEN = Operation(
    "date - date",
    INT4,
    _days_between,
    template("({0} [-] {1})"),
    template("(NOT pg_catalog.isfinite({0}) OR NOT pg_catalog.isfinite({1}))"),
)


# ---- times of day and intervals ---------------------------------------------------------------------------------

TIME_PLUS = Operation(
    "time +", TIME, lambda micros, interval: (micros + interval.micros) % DAY, template("({0} [+] {1})")
)
TIME_MINUS = Operation(
    "time -", TIME, lambda micros, interval: (micros - interval.micros) % DAY, template("({0} [-] {1})")
)
TIME_BETWEEN = Operation(
    "time - time", INTERVAL, lambda later, earlier: Interval(0, 0, later - earlier), template("({0} [-] {1})")
)

INTERVAL_PLUS = Operation("interval +", INTERVAL, intervals.plus)
INTERVAL_MINUS = Operation("interval -", INTERVAL, lambda left, right: intervals.plus(left, -right))
INTERVAL_NEGATED = Operation("- interval", INTERVAL, lambda value: -value)

JUSTIFY = {
    "justify_hours": Operation(
        "justify_hours", INTERVAL, intervals.justify_hours, template("pg_catalog.justify_hours({0})")
    ),
    "justify_days": Operation(
        "justify_days", INTERVAL, intervals.justify_days, template("pg_catalog.justify_days({0})")
    ),
    "justify_interval": Operation(
        "justify_interval", INTERVAL, intervals.justify_interval, template("pg_catalog.justify_interval({0})")
    ),
}


# ---- time zones and conversions ---------------------------------------------------------------------------------

#: ``timezone('UTC', …)`` by type of its argument: the same count of microseconds, called otherwise.
AT_UTC = {
    TIMESTAMP: Operation(
        "timestamp at UTC", TIMESTAMPTZ, lambda value: value, template("pg_catalog.timezone('UTC', {0})")
    ),
    TIMESTAMPTZ: Operation(
        "timestamptz at UTC", TIMESTAMP, lambda value: value, template("pg_catalog.timezone('UTC', {0})")
    ),
}


def date_to_moment(days: int) -> int:
    moment = midnight(days)
    if abs(moment) == INFINITY or moment <= LAST_MOMENT:
        return moment
    raise Unevaluable


def moment_to_date(moment: int) -> int:
    return moment if abs(moment) == INFINITY else moment // DAY


def moment_to_time(moment: int) -> int | None:
    """NULL for an infinity, as in Postgres."""
    return None if abs(moment) == INFINITY else moment % DAY


#: The last date that is a timestamp too.
LAST_COMMON_DATE = Constant(DATE, LAST_MOMENT // DAY)
