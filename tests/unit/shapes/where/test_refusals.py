"""What is refused, by which name and at which place."""

from __future__ import annotations

import threading

import pytest

from leyden.shapes.where import Claims, WhereError, parse_where
from leyden.shapes.where.analysis import MAX_ITEMS
from leyden.shapes.where.syntax import MAX_BYTES, MAX_OPERATORS, MAX_RUN
from where_clauses import TABLE


def refusal(clause: str, *, collation_is_c: bool = True) -> WhereError:
    with pytest.raises(WhereError) as caught:
        parse_where(clause, TABLE, collation_is_c=collation_is_c)
    assert caught.value.message.startswith(f"At location {caught.value.position}: ")
    assert str(caught.value) == caught.value.message
    assert 0 <= caught.value.position <= len(clause)
    return caught.value


@pytest.mark.parametrize(
    ("clause", "position", "words"),
    [
        ("t = 'a'", 0, "did you mean this.t"),
        ("this.t = 'é' AND i4 = 1", 17, "did you mean this.i4"),
        ("this.missing = 1", 0, "no column this.missing"),
        ('this."T" = 1', 0, "no column this.T"),
        ("other.t = 'a'", 0, "other is unknown"),
        ("this", 0, "whole row"),
        ("this.b AND this", 11, "whole row"),
        ("this.b AND this.*", 11, "name a column"),
        ("this.t = 'a' OR x'1f' = 1", 16, "bit string"),
        ("this.i4 = $1", 10, "parameter"),
        ("this.i4 = (SELECT 1)", 11, "subquery"),
        ("this.i4 = 1; SELECT 1", 11, "semicolon"),
        ("this.i4 = 1 UNION SELECT 1", 12, "UNION"),
        ("this.i4 = 1 ORDER BY 1", 0, "no further clauses"),
        ("this.i4 = 1 LIMIT 1", 0, "no further clauses"),
        ("this.i4 = 1 FOR UPDATE", 0, "no further clauses"),
        ("CASE WHEN this.b THEN true END", 0, "CASE"),
        ("coalesce(this.b, true)", 0, "COALESCE"),
        ("greatest(this.i4, 1) = 1", 0, "GREATEST"),
        ("nullif(this.i4, 1) = 1", 0, "NULLIF"),
        ("this.d < current_date", 9, "current_date"),
        ("this.tz < now()", 10, "now"),
        ("random() < 1", 0, "random"),
        ("pg_catalog.pg_sleep(1) IS NULL", 0, "pg_sleep"),
        ("leyden.secret() = 1", 0, "another schema"),
        ("count(*) > 1", 0, "* is not supported"),
        ("length(DISTINCT this.t) > 1", 0, "agg distinct"),
        ("length(this.t) OVER () > 1", 0, "OVER"),
        ("lower(VARIADIC this.t) = 'a'", 0, "func variadic"),
        ("this.t = 'a' COLLATE \"C\"", 13, "COLLATE"),
        ("this.t ~ 'a'", 7, "operator ~ "),
        ("this.t SIMILAR TO 'a'", 7, "SIMILAR TO"),
        ("this.t LIKE 'a' ESCAPE '!'", 7, "ESCAPE is not supported"),
        ("this.t LIKE 'a\\'", 7, "escape character"),
        ("this.t ILIKE 'é'", 7, "locale"),
        ("lower(this.t) = lower(this.v)", 14, "lower() and upper()"),
        ("lower(this.t) || 'a' = 'b'", 14, "lower() and upper()"),
        ("upper(this.t) LIKE 'A%'", 14, "lower() and upper()"),
        ("this.i4 = ANY(ARRAY[1])", 8, "ANY"),
        ("(this.i4, this.i2) = (1, 2)", 0, "row value"),
        ("this.i4[1] = 1", 0, "subscript"),
        ("this.i4 OPERATOR(pg_catalog.=) 1", 8, "operator with a schema"),
        ("this.i4 ^ 2 = 4", 8, "operator ^ "),
        ("this.i4 << 2 = 4", 8, "operator << "),
        ("this.f8 * 2 = 4", 8, "operator * "),
        ("this.j = '{}'", 7, "comparisons of jsonb"),
        ("this.by = '\\x00'", 8, "comparisons of bytea"),
        ("this.j ->> 'a' = 'b'", 7, "auth.claims only"),
        ("this.i4 = true", 8, "no comparison of int4 with bool"),
        ("this.i4 = 'x'", 10, "not a value of type int4"),
        ("this.i4 IN (1, 'x')", 15, "not a value of type int4"),
        ("this.i4 = 0x1f", 10, "decimal digits"),
        ("this.i4 = - 1_000", 10, "decimal digits"),
        ("this.d = 'yesterday'", 9, "ISO 8601"),
        ("this.e = 'nope'", 9, "not a value of type mood"),
        ("this.i4::money = 1", 7, "type money"),
        ("this.t::varchar(3) = 'abc'", 6, "length or precision"),
        ("this.t::text[] IS NULL", 6, "array type"),
        ("this.t::uuid = this.u", 6, "constants only"),
        ("this.i4 + 1", 8, "must be boolean, it is of type int4"),
        ("'t'", 0, "must be boolean, it is a literal"),
        ("NULL", 0, "must be boolean"),
        ("NOT this.i4", 4, "NOT needs a boolean"),
        ("this.b AND this.t", 11, "AND needs a boolean"),
        ("this.i4 IS TRUE", 0, "IS needs a boolean"),
        ("1 / 0 = 1", 2, "no result for these constants"),
        ("this.i4 = 2147483647 + 1", 21, "no result for these constants"),
        ("this.f8 = 1e999", 10, "too large"),
        ("this.tz AT TIME ZONE 'Europe/Berlin' = this.ts", 8, "UTC"),
        ("(this.i4 / 2 = 1)::text = 'true'", 17, "a condition that can fail"),
        ("auth.claims = '{}'", 0, "auth.claims ->> 'org'"),
        ("auth.claims -> 'a' = 'b'", 12, "->>"),
        ("auth.claims ->> this.t = 'b'", 12, "must be a literal"),
        ("auth.role = 'x'", 0, "only auth.sub and auth.claims"),
        ("this.t LIKE auth.sub", 7, "cannot be a claim"),
        ("this.t = 'a') OR (true", 12, 'near ")"'),
        ("", 0, "syntax error at end of input"),
        ("-- nothing", 10, "syntax error at end of input"),
        ("this.t = 'a", 9, "unterminated quoted string"),
        ("this.i4 IN ()", 12, 'near ")"'),
        ("this.t = 'ab\0c'", 12, "U+0000"),
        ("this.t = '\ud800'", 10, "surrogate"),
    ],
)
def test_a_refusal_names_what_is_refused_and_where(clause: str, position: int, words: str) -> None:
    error = refusal(clause)

    assert words in error.message
    assert error.position == position


@pytest.mark.parametrize("clause", ["this.t < 'a'", "this.t >= this.v", "this.t BETWEEN 'a' AND 'b'"])
def test_texts_have_an_order_under_the_collation_c_only(clause: str) -> None:
    parse_where(clause, TABLE, collation_is_c=True)

    assert "collation" in refusal(clause, collation_is_c=False).message


def test_a_refusal_does_not_quote_literals() -> None:
    for clause in ("this.i4 = 'private'", "this.t = 'a' 'private'", "this.t = E'\\uprivate'", "this.e = 'private'"):
        assert "private" not in refusal(clause).message


def test_a_name_in_a_refusal_is_short_and_printable() -> None:
    message = refusal('this."a\u202e\n' + "x" * 60_000 + '" = 1').message

    assert len(message) < 200
    assert message.isprintable()


# ---- bounds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "clause",
    [
        "this.t = '" + "a" * MAX_BYTES + "'",
        "this.t = '" + "🙂" * (MAX_BYTES // 4) + "'",
        "this.i4 = " + "(" * 300 + "1" + ")" * 300,
        "NOT " * 20_000 + "this.b",
        "NOT " * 60 + "this.b",
        "this.i4 = " + "1+" * 30_000 + "1",
        "this.i4 = " + "+".join(["1"] * 60),
        "this.i4 = " + "- " * 30_000 + "1",
        "this.i4 = 1" + "::int4" * 10_000,
        "this.i4 = " + "length(" * 9_000,
        "this.i4 = " + "a[" * 30_000,
        "(true AND " * 6_000,
        "(" * 60 + "this.b" + " OR this.b) AND this.b" * 60,
        "this.b OR " * (MAX_OPERATORS + 1) + "this.b",
        "+" * 65_000,
        "'" + "-" * (MAX_RUN + 1) + "' = ''",
        "/* " * 20_000,
        "this.i4 IN (" + ", ".join(map(str, range(MAX_ITEMS + 1))) + ")",
        "this.t LIKE '" + "a" * 1001 + "'",
        " OR ".join(f"this.i4 / this.i2 = {number}" for number in range(400)),
        "this.ts" + " + interval '1 month 1 day 1 hour'" * 40 + " IS NULL",
        "this.i4 = 1e401",
        "this.i4 = " + "9" * 1001,
        "this.i4 = " + "9" * 60_000,
    ],
    ids=range(24),
)
def test_what_would_cost_too_much_is_refused_even_on_a_small_stack(clause: str) -> None:
    errors: list[WhereError] = []
    size = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=lambda: errors.append(refusal(clause)))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)

    assert len(errors) == 1


@pytest.mark.parametrize(
    "clause",
    [
        "this.i4 = " + "(" * 190 + "1" + ")" * 190,
        " OR ".join(f"(this.i4 = {number} AND this.t = 'x')" for number in range(400)),
        "this.id IN (" + ", ".join(f"'00000000-0000-0000-0000-{number:012}'" for number in range(1500)) + ")",
        "this.i4 + " + "+".join(["1"] * 30) + " > 5",
    ],
    ids=range(4),
)
def test_large_clauses_of_ordinary_shape_are_understood(clause: str) -> None:
    predicate = parse_where(clause, TABLE, collation_is_c=True).bind(Claims(None, {}))

    assert predicate.matches((None,) * len(TABLE.columns)) is None
