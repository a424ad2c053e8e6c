"""Numbers, dates and intervals: reading, printing, counting."""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from leyden.shapes.where import datetimes, numbers
from leyden.shapes.where.intervals import (
    Interval,
    add_months,
    difference,
    interval_form,
    justify_days,
    justify_hours,
    justify_interval,
    read_interval,
)

DAYS = st.integers(datetimes.FIRST_DATE, datetimes.LAST_DATE)
MOMENTS = st.integers(datetimes.FIRST_MOMENT, datetimes.LAST_MOMENT)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@given(day=st.dates())
def test_days_are_counted_like_pythons(day: date) -> None:
    count = datetimes.days_of(day.year, day.month, day.day)

    assert count == day.toordinal() - date(2000, 1, 1).toordinal()
    assert datetimes.date_form(count) == day.isoformat()


@given(days=DAYS)
def test_a_date_survives_printing_and_reading(days: int) -> None:
    form = datetimes.date_form(days)

    assert datetimes.days_of(*datetimes.civil(days)) == days
    assert datetimes.date_of_row(form.encode()) == days
    assert datetimes.read_date(form) == days


@given(moment=MOMENTS)
def test_a_timestamp_survives_printing_and_reading(moment: int) -> None:
    for zone in ("", "+00"):
        form = datetimes.moment_form(moment, zone)
        assert datetimes.moment_of_row(form.encode()) == moment
        assert datetimes.read_moment(form, zoned=bool(zone)) == moment


@given(micros=st.integers(0, datetimes.DAY))
def test_a_time_survives_printing_and_reading(micros: int) -> None:
    form = datetimes.time_form(micros)

    assert datetimes.time_of_row(form.encode()) == micros
    assert datetimes.read_time(form) == micros


@given(moment=st.datetimes(timezones=st.just(UTC)), offset=st.integers(-15 * 60, 15 * 60))
def test_a_zone_is_taken_off_a_timestamptz_only(moment: datetime, offset: int) -> None:
    text = f"{moment:%H:%M:%S.%f}{'-' if offset < 0 else '+'}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    text = f"{moment.year:04}-{moment:%m-%d}T{text}"
    here = (moment - EPOCH) // timedelta(microseconds=1)

    assert datetimes.read_moment(text, zoned=False) == here
    assert datetimes.read_moment(text, zoned=True) == here - offset * 60_000_000


@pytest.mark.parametrize("text", ["infinity", "-infinity", " Infinity "])
def test_infinities_lie_beyond_every_other_value(text: str) -> None:
    value = datetimes.read_date(text)

    assert datetimes.read_moment(text, zoned=True) == value == datetimes.midnight(value)
    assert not datetimes.midnight(datetimes.FIRST_DATE) < value < datetimes.midnight(datetimes.LAST_DATE)
    assert datetimes.date_form(value) == text.strip().lower()


@given(moment=st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), months=st.integers(-600, 600))
def test_a_month_later_is_the_same_day_or_the_last_of_its_month(moment: datetime, months: int) -> None:
    start = (moment.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    later = EPOCH + timedelta(microseconds=add_months(start, months))

    assert (later.year * 12 + later.month) - (moment.year * 12 + moment.month) == months
    assert later.timetz().replace(tzinfo=None) == moment.time()
    assert later.day == moment.day or (later.day < moment.day and (later + timedelta(days=1)).day == 1)


INTERVALS = st.builds(
    Interval, st.integers(-5000, 5000), st.integers(-100_000, 100_000), st.integers(-(10**13), 10**13)
)


@given(value=INTERVALS)
def test_justifying_keeps_the_span_and_aligns_the_signs(value: Interval) -> None:
    for justified in (justify_hours(value), justify_days(value), justify_interval(value)):
        assert justified.span == value.span
    assert abs(justify_hours(value).micros) < datetimes.DAY
    assert abs(justify_days(value).days) < 30
    whole = justify_interval(value)
    assert all(part >= 0 for part in whole) or all(part <= 0 for part in whole)


@given(later=st.integers(-(10**15), 10**15), earlier=st.integers(-(10**15), 10**15))
def test_a_difference_is_the_time_between(later: int, earlier: int) -> None:
    assert difference(later, earlier).span == later - earlier


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 year 2 mons -3 days", Interval(14, -3, 0)),
        ("-1 Month 04:05:06.7", Interval(-1, 0, 14_706_700_000)),
        ("2weeks 3 days", Interval(0, 17, 0)),
        ("-00:00:00.000001", Interval(0, 0, -1)),
        ("-7", Interval(0, 0, -7_000_000)),
        ("90 min", Interval(0, 0, 5_400_000_000)),
    ],
)
def test_intervals_are_read_unit_by_unit(text: str, value: Interval) -> None:
    assert read_interval(text) == value
    assert interval_form(value).count(" ") == 5


@pytest.mark.parametrize(
    "text", ["", "1 1", "1 day 1 day", "1 hour 00:30", "1.5 days", "P1D", "1 day ago", "1 fortnight", "00:61"]
)
def test_other_forms_of_intervals_are_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the family of all refusals
        read_interval(text)


# ---- numbers ----------------------------------------------------------------------------------------------------


def nearest_single(exact: Fraction) -> float:
    """By definition: of the two singles around ``exact`` the nearer one, the even one in the middle."""
    bits = struct.unpack("<I", struct.pack("<f", float(abs(exact))))[0]
    candidates = [bits + step for step in (-1, 0, 1) if 0 <= bits + step < 0x7F80_0000]
    values = [(Fraction(struct.unpack("<f", struct.pack("<I", one))[0]), one) for one in candidates]
    best = min(values, key=lambda pair: (abs(pair[0] - abs(exact)), pair[1] & 1))
    return float(best[0]) * (-1 if exact < 0 else 1)


@given(
    single=st.floats(width=32, allow_nan=False, allow_infinity=False),
    offset=st.sampled_from([Fraction(0), Fraction(1, 10**40), Fraction(-1, 10**40), Fraction(1, 10**9)]),
)
def test_a_float4_is_the_single_nearest_to_its_text_even_in_the_middle(single: float, offset: Fraction) -> None:
    bits = struct.unpack("<I", struct.pack("<f", abs(single)))[0]
    assume(0 < bits < 0x7F7F_FFFE)
    following = struct.unpack("<f", struct.pack("<I", bits + 1))[0]
    middle = (Fraction(abs(single)) + Fraction(following)) / 2
    exact = middle * (1 + offset)
    scaled = exact * 10**400  # every such middle has fewer decimals
    assume(scaled.denominator == 1 and nearest_single(exact) != 0)
    digits = str(scaled.numerator).rjust(401, "0")
    text = f"{digits[:-400]}.{digits[-400:]}".rstrip("0")

    assert numbers.read_float(text, single=True) == nearest_single(exact)


@given(value=st.floats(width=32, allow_nan=False))
def test_a_float4_survives_nine_digits(value: float) -> None:
    assert numbers.float4_of_row(f"{value:.9g}".encode()) == value


@pytest.mark.parametrize("text", ["1e400", "1e-400", "-1e400", "0x10", "1_0", "", "e5", "1e", "--1", "inf inity"])
def test_what_a_float_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the family of all refusals
        numbers.read_float(text, single=False)


@pytest.mark.parametrize("text", ["3.5e38", "1e-46", "3.4028236e38"])
def test_what_a_float4_cannot_hold_is_refused(text: str) -> None:
    assert numbers.read_float(text, single=False)
    with pytest.raises(ValueError):  # noqa: PT011  the family of all refusals
        numbers.read_float(text, single=True)


@given(left=st.decimals(allow_nan=False, allow_infinity=False, places=30), right=st.integers(-(10**40), 10**40))
def test_numerics_are_added_without_rounding(left: Decimal, right: int) -> None:
    assert Fraction(numbers.add(left, Decimal(right))) == Fraction(left) + right
    assert Fraction(numbers.subtract(left, Decimal(right))) == Fraction(left) - right
