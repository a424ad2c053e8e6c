"""A tree is spelt as somebody would write it, and means the same when it is read again."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from leyden.model import Column, Table
from leyden.shapes.where import Claims, WhereError, parse_where
from leyden.shapes.where.intervals import MAX_COUNT, Interval, interval_text, read_interval
from leyden.shapes.where.spelling import as_written, quoted, spelled, value_text
from leyden.shapes.where.sqltypes import BOOL, DATE, FLOAT8, INT4, TEXT
from where_clauses import TABLE, clauses

ANN = Claims("ann", {"org": "acme", "app": {"teams": ["x", "7"]}})


def spelling(clause: str, table: Table = TABLE) -> str:
    return spelled(as_written(parse_where(clause, table, collation_is_c=True).tree))


@pytest.mark.parametrize(
    "clause",
    [
        "this.i4 = 5",
        "this.i4 <> -5",
        "this.i8 > 5000000000",
        "this.i2 = '7'::int8",
        "this.f8 < 0.5",
        "this.f8 = 'nan'",
        "this.b AND NOT this.b",
        "this.t = 'it''s' OR this.v IS NULL",
        "(this.b OR this.t = 'a') AND this.i4 IS NOT NULL",
        "this.i4 IN (1, 2, NULL)",
        "this.t NOT IN ('a', 'b')",
        "(10 / this.i4) IN (NULL, NULL)",
        "(10 / this.i4) NOT IN (1, NULL)",
        "this.t LIKE '50\\%%'",
        "this.t NOT LIKE 'a_'",
        "(this.i4 = 1) IS NOT TRUE",
        "NOT (this.i4 = 1 AND this.b)",
        "this.e = 'happy'",
        "this.d = '2024-01-31'",
        "this.d < '2024-01-31 12:00:00'::timestamp",
        "(this.i4 + 1) = 2",
        "(- this.i4) = (this.i8 % 3)",
        "length(this.t) > 3",
        "(lower(this.t) = 'abc')",
        "(this.t LIKE this.v)",
        "(this.t || 'x') = CAST(this.u AS text)",
        "(this.ts + '1 mon'::interval) > '2024-01-31 00:00:00'",
        "(this.tm - '01:00:00'::time) = '02:30:00.5'",
        "timezone('UTC', this.ts) = this.tz",
        'this."Weird Col" = \'x\' OR this."quo""te" = 1',
        "this.t = auth.sub",
        "this.t = auth.claims ->> 'org'",
        "this.t = auth.claims -> 'app' -> 'teams' ->> 0",
        "(this.t || (auth.claims ->> 'org')) = 'x'",
        "this.i4 = CAST((auth.claims ->> 'n') AS int4)",
        "NULL::bool",
        "true",
    ],
)
def test_what_is_written_plainly_is_spelt_as_it_is_written(clause: str) -> None:
    assert spelling(clause) == clause


@pytest.mark.parametrize(
    ("clause", "spelt"),
    [
        ("5 = this.i4 -- five", "5 = this.i4"),
        ("this.i4 != 5 AND true", "this.i4 <> 5"),
        ("this.i4 IS DISTINCT FROM 5", "NOT ((this.i4 = 5) IS TRUE)"),
        ("this.i4 BETWEEN 1 AND 5", "this.i4 >= 1 AND this.i4 <= 5"),
        (
            "this.e BETWEEN this.e AND this.e AND this.t LIKE this.v",
            "(this.e >= this.e AND this.e <= this.e) AND (this.t LIKE this.v)",
        ),
        ("this.t ILIKE 'A%'", "(lower(this.t) LIKE 'a%')"),
        ("this.t = 'x'::text", "this.t = 'x'"),
        ("this.d = date '2024-01-31'", "this.d = '2024-01-31'"),
        ("this.u = '{0000000000000000000000000000000A}'", "this.u = '00000000-0000-0000-0000-00000000000a'"),
        ("this.t = auth.claims->>'it''s'", "this.t = auth.claims ->> 'it''s'"),
        ("this.t = '\x1b[2J'", "this.t = E'\\u001b[2J'"),
        ("this.t = '\u202e' OR this.t = E'a\\nb\\\\'", "this.t = E'\\u202e' OR this.t = E'a\\u000ab\\\\'"),
        ("this.t = '\U000e0001'''", "this.t = E'\\U000e0001'''"),
        ("lower(this.t) = auth.sub", "(lower(this.t) = auth.sub)"),
        ("this.b = (1 = 1)", "this.b = true"),
        ("(10 / this.i4) NOT IN (NULL, NULL, NULL)", "(10 / this.i4) NOT IN (NULL, NULL)"),
    ],
)
def test_what_is_taken_for_granted_is_left_out_and_what_is_not_printable_escaped(clause: str, spelt: str) -> None:
    assert spelling(clause) == spelt
    assert same(clause, spelt)


def same(clause: str, other: str, table: Table = TABLE) -> bool:
    first, second = (parse_where(text, table, collation_is_c=True).bind(ANN) for text in (clause, other))
    return first.key == second.key


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(clause=clauses(), claim=st.sampled_from(["this.v", "auth.sub", "(auth.claims -> 'app' -> 'teams' ->> 1)"]))
def test_what_is_spelt_means_the_same_when_it_is_read_again(clause: str, claim: str) -> None:
    clause = clause.replace("this.v", claim)
    try:
        parse_where(clause, TABLE, collation_is_c=True)
    except WhereError:
        return
    spelt = spelling(clause)
    # what two dates differ by can be more days than a literal may say
    assume(all(int(days) <= MAX_COUNT for days in re.findall(r"(\d+) days", spelt)))
    assert same(clause, spelt)


@pytest.mark.parametrize(
    "name",
    ["a", "Größe", "select", 'a"b', "a'b", "\x1b[31m", "a\nb", "\u202e\\", 'x"\n\\+000041', "\U000e0001", "this"],
)
def test_names_of_columns_are_quoted_so_that_they_mean_themselves(name: str) -> None:
    table = Table(1, "t", (Column(name, "text", False),), (name,), "t_pkey")
    doubled = name.replace('"', '""')
    clause = f"this.\"{doubled}\" = 'x'"

    assert spelling(clause, table).isprintable()
    assert same(clause, spelling(clause, table), table)


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_any_text_is_one_printable_literal(text: str) -> None:
    literal = quoted(text)

    assert literal.isprintable()
    assert re.fullmatch(r"E?'([^']|'')*'", literal)
    assert same(f"this.t = {literal}", "this.t = '" + text.replace("'", "''") + "'")


@pytest.mark.parametrize(
    ("kind", "form", "literal"),
    [
        (TEXT, None, "NULL"),
        (TEXT, "5", "'5'"),
        (INT4, "-5", "-5"),
        (FLOAT8, "1e+300", "1e+300"),
        (FLOAT8, "NaN", "'NaN'"),
        (BOOL, "t", "true"),
        (BOOL, "f", "false"),
        (DATE, "infinity", "'infinity'"),
    ],
)
def test_values_are_literals(kind: object, form: str | None, literal: str) -> None:
    assert value_text(kind, form) == literal  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0, 0, 0), "00:00:00"),
        (Interval(14, -1, 0), "1 year 2 mons -1 day"),
        (Interval(-24, 2, -1_500_000), "-2 years 2 days -00:00:01.5"),
    ],
)
def test_intervals_are_shown_as_postgres_shows_them_and_read_again(interval: Interval, text: str) -> None:
    assert interval_text(interval) == text
    assert read_interval(text) == interval
