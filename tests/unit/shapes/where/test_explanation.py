"""Each node of a clause has the value that it has for the row: three-valued logic, errors, claims."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leyden.shapes.where import Claims, WhereError, parse_where
from leyden.shapes.where.explanation import Finding, claims_in, decisive, examine, operands
from where_clauses import TABLE, clauses, edge_rows, row_of

ANN = Claims("ann", {"org": "acme", "level": 3, "rate": 1.5, "teams": ["x"], "none": None})


def found(clause: str, values: dict[str, str] | None = None, claims: Claims = ANN) -> Finding:
    return examine(parse_where(clause, TABLE, collation_is_c=True).tree, row_of(values or {}), claims)


def lines(finding: Finding, depth: int = 0) -> list[str]:
    return [
        "  " * depth + f"{finding.text}: {finding.value}",
        *(line for part in finding.parts for line in lines(part, depth + 1)),
    ]


def test_every_node_is_shown_with_its_value_and_what_it_is_made_of() -> None:
    clause = "NOT (this.i4 + 1 > 5) AND (this.t = auth.sub OR this.v LIKE 'a%')"
    assert lines(found(clause, {"i4": "4", "t": "bob", "v": "abc"})) == [
        "NOT ((this.i4 + 1) > 5) AND (this.t = auth.sub OR this.v LIKE 'a%'): true",
        "  NOT ((this.i4 + 1) > 5): true",
        "    (this.i4 + 1) > 5: false",
        "      (this.i4 + 1): 5",
        "        this.i4: 4",
        "  this.t = auth.sub OR this.v LIKE 'a%': true",
        "    this.t = auth.sub: false",
        "      this.t: 'bob'",
        "      auth.sub: 'ann'",
        "    this.v LIKE 'a%': true",
        "      this.v: 'abc'",
    ]


#: For each form of the language a row, and the value of the whole.
VALUES = [
    ("this.i4 = 1", {"i4": "1"}, "true"),
    ("this.i4 <> 1", {"i4": "1"}, "false"),
    ("this.i4 < 1", {"i4": "1"}, "false"),
    ("this.i4 <= 1", {"i4": "1"}, "true"),
    ("this.i4 > 1", {}, "NULL"),
    ("this.i4 >= 1", {"i4": "0"}, "false"),
    ("this.i4 BETWEEN 1 AND 3", {"i4": "2"}, "true"),
    ("this.i4 IN (1, 2)", {"i4": "3"}, "false"),
    ("this.i4 IN (1, NULL)", {"i4": "3"}, "NULL"),
    ("this.i4 NOT IN (1, 2)", {"i4": "3"}, "true"),
    ("this.t LIKE 'a%'", {"t": "abc"}, "true"),
    ("this.t NOT LIKE 'a%'", {"t": "abc"}, "false"),
    ("this.t ILIKE 'A%'", {"t": "abc"}, "true"),
    ("this.t LIKE this.v", {"t": "abc", "v": "a\\"}, "error"),
    ("this.j IS NULL", {"j": "{}"}, "false"),
    ("this.by IS NOT NULL", {"by": "\\x00"}, "true"),
    ("this.b IS TRUE", {}, "false"),
    ("this.b IS NOT FALSE", {}, "true"),
    ("this.b IS UNKNOWN", {}, "true"),
    ("this.i4 IS DISTINCT FROM 1", {}, "true"),
    ("NOT this.b", {}, "NULL"),
    ("NOT this.b", {"b": "f"}, "true"),
    ("this.b AND this.i4 = 1", {"b": "f"}, "false"),
    ("this.b AND this.i4 = 1", {"b": "t"}, "NULL"),
    ("this.b OR this.i4 = 1", {"b": "t"}, "true"),
    ("this.b OR this.i4 = 1", {"b": "f"}, "NULL"),
    ("this.i4 / this.i2 = 1", {"i4": "1", "i2": "0"}, "error"),
    ("this.i4 / this.i2 = 1", {"i4": "1"}, "NULL"),
    ("this.b AND this.i4 / this.i2 = 1", {"i4": "1", "i2": "0", "b": "f"}, "false"),
    ("this.i4 / this.i2 = 1 AND this.b", {"i4": "1", "i2": "0", "b": "f"}, "error"),
    ("this.t::int4 = 1", {"t": "x"}, "error"),
    ("this.f8 = 'NaN'", {"f8": "NaN"}, "true"),
    ("this.e = 'happy'", {"e": "happy"}, "true"),
    ("this.ts - this.tz > interval '1 day'", {"ts": "2024-01-31 00:00:00", "tz": "2024-01-29 00:00:00+00"}, "true"),
    ("true", {}, "true"),
    ("NULL::bool", {}, "NULL"),
]


@pytest.mark.parametrize(("clause", "values", "value"), VALUES)
def test_the_value_of_the_whole_is_in_three_valued_logic_or_an_error(
    clause: str, values: dict[str, str], value: str
) -> None:
    finding = found(clause, values)

    assert finding.value == value
    assert finding.is_true == (value == "true")
    assert finding.failed == (value == "error")


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(clause=clauses(), row=st.sampled_from(edge_rows()))
def test_the_value_of_the_whole_is_the_one_that_judges_rows_for_clients(clause: str, row: tuple[bytes | None]) -> None:
    try:
        where = parse_where(clause, TABLE, collation_is_c=True)
    except WhereError:
        return
    finding = examine(where.tree, row, ANN)
    judged = where.bind(ANN).matches(row)

    assert finding.value == ("error" if finding.failed else {True: "true", False: "false", None: "NULL"}[judged])
    assert not finding.failed or judged is False
    if not finding.is_true:
        cause = decisive(finding)
        assert not cause.is_true
        assert (cause.form, cause.failed) == (finding.form, finding.failed)


@pytest.mark.parametrize(
    ("column", "form", "literal"),
    [
        ("t", "it's", "'it''s'"),
        ("i8", "9223372036854775807", "9223372036854775807"),
        ("f4", "0.1", "0.1"),
        ("b", "f", "false"),
        ("ts", "2024-01-31 00:00:00", "'2024-01-31 00:00:00'"),
        ("j", '{"a": 1}', "'{\"a\": 1}'"),
        ("by", "\\x00ff", "'\\x00ff'"),
        ("e", "unheard_of", "'unheard_of'"),
        ("t", "\x1b]0;x\x07\n", "E'\\u001b]0;x\\u0007\\u000a'"),
    ],
)
def test_a_column_is_shown_as_the_row_has_it(column: str, form: str, literal: str) -> None:
    (shown,) = found(f"this.{column} IS NULL", {column: form}).parts
    assert (shown.text, shown.form, shown.value) == (f"this.{column}", form, literal)


# ---- claims -----------------------------------------------------------------------------------------------------


def test_claims_are_listed_once_each_with_what_the_client_has_there() -> None:
    clause = (
        "this.t = auth.claims ->> 'org' OR this.t IN (auth.sub, auth.claims ->> 'org') OR this.v ="
        " auth.claims ->> 'gone' OR this.v = auth.claims -> 'teams' ->> 0 OR this.v = auth.claims ->> 'rate' OR"
        " this.v = auth.claims ->> 'none' OR this.v = auth.claims ->> 'level' OR this.v = auth.claims ->> 'teams'"
    )
    listed = claims_in(parse_where(clause, TABLE, collation_is_c=True).tree, ANN)

    assert [claim.sentence for claim in listed] == [
        "auth.claims ->> 'org' is 'acme'",
        "auth.sub is 'ann'",
        "auth.claims ->> 'gone' is NULL",
        "auth.claims -> 'teams' ->> 0 is 'x'",
        "auth.claims ->> 'rate' has no single text",
        "auth.claims ->> 'none' is NULL",
        "auth.claims ->> 'level' is '3'",
        "auth.claims ->> 'teams' is '[\"x\"]'",
    ]


def test_a_claim_without_a_single_text_is_an_error_where_it_is_needed() -> None:
    finding = found("this.i4 = 1 AND this.t = auth.claims ->> 'rate'", {"i4": "1", "t": "1.5"})
    assert lines(finding)[1:] == [
        "  this.i4 = 1: true",
        "    this.i4: 1",
        "  this.t = auth.claims ->> 'rate': error",
        "    this.t: '1.5'",
        "    auth.claims ->> 'rate': error",
    ]


# ---- the reason -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clause", "values", "reason", "looked_at"),
    [
        (
            "this.b AND this.i4 = 1 AND this.t = 'a'",
            {"b": "t", "i4": "2", "t": "b"},
            "this.i4 = 1 is false",
            ["this.i4"],
        ),
        ("this.b AND this.i4 = 1", {"i4": "2"}, "this.i4 = 1 is false", ["this.i4"]),
        ("this.b AND this.i4 = 1", {"i4": "1"}, "this.b is NULL", []),
        (
            "this.b AND (this.i4 = 1 OR this.t = auth.sub)",
            {"b": "t", "i4": "2", "t": "b"},
            "this.i4 = 1 OR this.t = auth.sub is false",
            ["this.i4", "this.t", "auth.sub"],
        ),
        (
            "this.b AND (this.i2 > 0 AND this.i4 / this.i2 = this.i4)",
            {"b": "t", "i4": "1"},
            "this.i2 > 0 is NULL",
            ["this.i2"],
        ),
        (
            "this.b AND this.i4 / this.i2 = this.i4",
            {"b": "t", "i2": "0", "i4": "1"},
            "(this.i4 / this.i2) = this.i4 cannot be computed",
            ["this.i4", "this.i2"],
        ),
    ],
)
def test_the_reason_is_the_smallest_part_that_decides(
    clause: str, values: dict[str, str], reason: str, looked_at: list[str]
) -> None:
    cause = decisive(found(clause, values))

    assert cause.sentence == reason
    assert [one.text for one in operands(cause)] == looked_at
