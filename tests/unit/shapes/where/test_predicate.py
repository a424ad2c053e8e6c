"""Keys, the index of equalities, errors of evaluation, conjunctions and the ownership rule."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings

from leyden.model import Column, EnumType, Table
from leyden.shapes.where import Claims, Predicate, WhereError, conjunction, owner_predicate, parse_where
from where_clauses import TABLE, clauses, edge_rows, row_of

NOBODY = Claims(None, {})


def predicate(clause: str, table: Table = TABLE) -> Predicate:
    return parse_where(clause, table, collation_is_c=True).bind(NOBODY)


# ---- keys -------------------------------------------------------------------------------------------------------

SAME = [
    ["this.i4 = 1", "1 = this.i4", "this.i4 = '1'", "this.i4 = 1::int8", "this.i4 IN (1)", "NOT this.i4 <> 1"],
    ["this.i8 = 5", "this.i8 = '5'", "(((this.i8))) = +5 -- five", "this.i8 IN (5, 5)"],
    ["this.b AND this.i4 > 1", "1 < this.i4 AND this.b", "this.b AND this.b AND NOT (this.i4 <= 1) AND true"],
    [
        "this.i4 = 1 OR this.i4 = 2",
        "this.i4 IN (2, 1)",
        "this.i4 IN (1, 2, '1')",
        "NOT (this.i4 <> 1 AND this.i4 <> 2)",
    ],
    ["this.i4 NOT IN (1, 2)", "this.i4 <> 2 AND this.i4 <> 1", "NOT (this.i4 IN (1) OR this.i4 = 2)"],
    ["NOT (this.b OR this.t = 'a')", "this.t <> 'a' AND NOT this.b"],
    ["this.b OR (this.t = 'a' OR this.i4 = 1)", "(this.i4 = 1 OR this.b) OR this.t = 'a'"],
    ["this.d = '2024-01-31'", "this.d = date '2024-01-31'", "this.d = '2024-01-31T23:00:00Z'"],
    ["this.u = '00000000-0000-0000-0000-00000000000A'", "this.u = '{0000000000000000000000000000000a}'"],
    ["this.t IS NOT NULL", "NOT this.t IS NULL", "this.t IS DISTINCT FROM NULL"],
    ["this.i4 BETWEEN 1 AND 5", "this.i4 <= 5 AND this.i4 >= 1", "this.i4 BETWEEN SYMMETRIC 1 AND 5 AND this.i4 >= 1"][
        :2
    ],
    ["this.t LIKE 'a%'", "this.t ~~ 'a%'", "NOT (this.t NOT LIKE 'a%')"],
    ["this.v = this.t", "this.t = this.v"],
    ["true", "1 = 1", "NOT false", "this.i4 = 1 OR true", "'a' LIKE 'a%'"],
    ["NULL::bool", "this.i4 = NULL", "NULL AND true"],
]


@pytest.mark.parametrize("spellings", SAME, ids=lambda spellings: spellings[0])
def test_spellings_of_one_predicate_share_a_key(spellings: list[str]) -> None:
    assert {predicate(spelling).key for spelling in spellings} == {predicate(spellings[0]).key}
    assert len({predicate(spelling) for spelling in spellings}) == 1


def test_different_predicates_have_different_keys() -> None:
    clauses = [
        *(spellings[0] for spellings in SAME),
        "this.t = '1'",
        "this.t = '''1'",
        "this.v = '1'",
        "this.i4 = 2",
        "this.f4 = 0.1",
        "this.f4 = '0.1'",
        "this.i4 / 2 = 1",
        "this.i4 % 2 = 1",
        "this.i4 = 1 OR this.i4 / 0 = 1",
        "this.i4 / 0 = 1 OR this.i4 = 1",
        "this.ts > '2024-01-31'",
        "this.tz > '2024-01-31'",
        "this.d + 1 > '2024-01-31'",
        "this.ts + interval '1 day' > '2024-01-31'",
        "this.ts + interval '24 hours' > '2024-01-31'",
        "this.t ILIKE 'a%'",
        "lower(this.t) = 'a'",
        "upper(this.t) = 'A'",
    ]
    for one, other in combinations(clauses, 2):
        assert predicate(one).key != predicate(other).key, (one, other)


@settings(max_examples=300, deadline=None)
@given(clause=clauses(3))
def test_the_normal_form_of_a_negation_is_the_negation(clause: str) -> None:
    try:
        plain, twice = predicate(clause), predicate(f"NOT (NOT ({clause}))")
        once = predicate(f"NOT ({clause})")
    except WhereError:
        return
    assert plain.key == twice.key
    for row in edge_rows(20):
        value, negated = plain.matches(row), once.matches(row)
        # an evaluation error is no match on either side
        assert negated is (None if value is None else not value) or (value, negated) == (False, False)


def test_a_clause_without_claims_is_bound_once_for_all() -> None:
    where = parse_where("this.i4 = 1", TABLE, collation_is_c=False)

    assert not where.uses_claims
    assert where.bind(Claims("ann", {})) is where.bind(Claims("bob", {}))


# ---- equalities -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ("this.t = 'a'", {"t": {b"a"}}),
        ("this.v IN ('b', 'a') AND this.b", {"v": {b"a", b"b"}}),
        ("this.b = true AND this.i8 = 7", {"b": {b"t"}, "i8": {b"7"}}),
        ("this.i4 IN (1, 2) AND this.i4 IN (2, 3)", {"i4": {b"2"}}),
        ("this.u = '0000000000000000000000000000000A'", {"u": {b"00000000-0000-0000-0000-00000000000a"}}),
        ("this.e = 'ok'", {"e": {b"ok"}}),
        ("this.d = '2024-01-31T10:00:00Z'", {"d": {b"2024-01-31"}}),
        ("this.ts = '2024-01-31 10:00:00.500'", {"ts": {b"2024-01-31 10:00:00.5"}}),
        ("this.tz = '0044-03-15 12:00:00+02 BC'", {"tz": {b"0044-03-15 10:00:00+00 BC"}}),
        ("this.tm = '10:00 PM'", {"tm": {b"22:00:00"}}),
        ("this.i4 = 1 OR this.i4 = 2", {"i4": {b"1", b"2"}}),
        ("this.t = 'a' OR this.t IS NULL", {"t": {b"a", None}}),
        ("(this.t = 'a' AND this.b = true) OR (this.t = 'b' AND this.i4 = 1)", {"t": {b"a", b"b"}}),
        ("this.i4 IS NOT DISTINCT FROM 5", {"i4": {b"5"}}),
        ("(this.i4 = 5) IS TRUE", {"i4": {b"5"}}),
        ("this.i4 = 1 AND this.i4 / 0 = 1", {"i4": {b"1"}}),
        ("this.i2 = 40000", {"i2": {b"40000"}}),
        ("this.i4 = 1 OR this.t = 'a'", {}),
        ("this.i4 <> 1", {}),
        ("NOT this.i4 = 1", {}),
        ("this.i4 NOT IN (1, 2)", {}),
        ("(this.i4 = 5) IS NOT TRUE", {}),
        ("this.f8 = 0", {}),
        ("this.f4 = '1.5'", {}),
        ("this.i4 = 5.0", {}),
        ("this.i4 + 1 = 5", {}),
        ("this.d = timestamp '2024-01-31'", {}),
        ("lower(this.t) = 'a'", {}),
    ],
)
def test_equalities_name_the_only_values_that_can_match(clause: str, expected: dict[str, set[bytes | None]]) -> None:
    assert predicate(clause).equalities == expected


# ---- errors of evaluation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clause", "values", "expected"),
    [
        ("this.i4 / this.i2 = 1", {"i4": "1", "i2": "0"}, False),
        ("NOT this.i4 / this.i2 = 1", {"i4": "1", "i2": "0"}, False),
        ("(this.i4 / this.i2 = 1) IS NOT TRUE", {"i4": "1", "i2": "0"}, False),
        ("this.i4 / this.i2 = 1", {"i2": "0"}, None),
        ("this.i2 <> 0 AND this.i4 / this.i2 = 1", {"i4": "1", "i2": "0"}, False),
        ("this.i2 = 0 OR this.i4 / this.i2 = 1", {"i4": "1", "i2": "0"}, True),
        ("NOT (this.i2 <> 0 AND this.i4 / this.i2 = 1)", {"i4": "1", "i2": "0"}, True),
        ("this.i4 / this.i2 = 1 OR this.i2 = 0", {"i4": "1", "i2": "0"}, False),
        ("this.i4 / this.i2 = 1 OR true", {"i4": "1", "i2": "0"}, True),
        ("this.i4 / this.i2 = NULL OR this.b", {"i4": "1", "i2": "0", "b": "t"}, True),
        ("this.i4 + 1 > 0", {"i4": "2147483647"}, False),
        ("this.i4::int8 + 1 > 0", {"i4": "2147483647"}, True),
        ("- this.i2 > 0", {"i2": "-32768"}, False),
        ("this.f8 + this.f8 > 0", {"f8": "1.7976931348623157e+308"}, False),
        ("this.f8 + this.f8 > 0", {"f8": "Infinity"}, True),
        ("this.t::int4 = 5", {"t": "five"}, False),
        ("this.t::int2 = 5", {"t": "32768"}, False),
        ("this.t ILIKE '%bul'", {"t": "\u0130stanbul"}, True),
        ("this.t NOT ILIKE 'i%'", {"t": "\u0130stanbul"}, False),
        ("this.t ILIKE 'm_ll%'", {"t": "MÜLLER"}, True),
        ("lower(this.t) <> 'k'", {"t": "\u212a"}, False),
        ("lower(this.t) <> 'x'", {"t": "\u212a"}, True),
        ("lower(this.t) = 'abc'", {"t": "ABC"}, True),
        ("upper(this.t) IN ('X', 'ABC')", {"t": "aBc"}, True),
        ("upper(this.t) <> 'STRASSE'", {"t": "stra\u00dfe"}, False),
        ("upper(this.t) <> 'GASSE'", {"t": "stra\u00dfe"}, True),
        ("this.d + 1 > this.d", {"d": "5874897-12-31"}, False),
        ("this.d + 1 > '2000-01-01'", {"d": "infinity"}, True),
        ("this.ts + interval '1 month' > this.ts", {"ts": "294276-12-01 00:00:00"}, False),
        ("this.ts + interval '1 month' > this.ts", {"ts": "294276-11-30 00:00:00"}, True),
    ],
)
def test_an_evaluation_error_that_postgres_meets_is_no_match(
    clause: str, values: dict[str, str], expected: bool | None
) -> None:
    assert predicate(clause).matches(row_of(values)) is expected


def test_a_label_younger_than_the_description_of_the_table_is_no_match() -> None:
    assert predicate("this.e > 'sad'").matches(row_of({"e": "new"})) is False
    assert predicate("this.e <> 'sad'").matches(row_of({"e": "new"})) is True


# ---- conjunction and ownership ----------------------------------------------------------------------------------


def test_a_conjunction_is_true_of_the_rows_of_both() -> None:
    both = conjunction(predicate("this.i4 = 1 OR this.b"), predicate("this.t = 'a'"))

    assert both == predicate("this.t = 'a' AND (this.b OR this.i4 = 1)")
    assert both.matches(row_of({"i4": "1", "t": "a"})) is True
    assert both.matches(row_of({"i4": "1", "t": "b"})) is False


def test_a_clause_cannot_let_through_what_its_conjunction_keeps_back() -> None:
    own = owner_predicate(TABLE, "ann")
    assert own is not None
    both = conjunction(predicate("true OR this.electric_user_id = 'bob'"), own)

    assert both.matches(row_of({"electric_user_id": "bob"})) is False
    assert both == own


@pytest.mark.parametrize(
    ("owner", "expected"),
    [("ann", True), ("bob", False), ("", True), (None, True), ("Ann", False), ("ann ", False)],
)
def test_a_row_belongs_to_the_user_named_in_it_or_to_all(owner: str | None, expected: bool) -> None:
    own = owner_predicate(TABLE, "ann")
    assert own is not None

    assert own.matches(row_of({} if owner is None else {"electric_user_id": owner})) is expected
    assert own.equalities == {"electric_user_id": {b"ann", b"", None}}


def test_a_table_without_the_column_belongs_to_all() -> None:
    assert owner_predicate(Table(2, "plain", (Column("id", "uuid", True),), ("id",), "pkey"), "ann") is None


@pytest.mark.parametrize(
    ("kind", "user", "row", "expected"),
    [
        ("varchar", "ann", b"ann", True),
        ("uuid", "00000000-0000-0000-0000-00000000000A", b"00000000-0000-0000-0000-00000000000a", True),
        ("uuid", "ann", b"00000000-0000-0000-0000-00000000000a", False),
        ("uuid", "ann", None, True),
        ("int8", "7", b"7", True),
        ("int8", "7", b"8", False),
        ("jsonb", "7", b"7", False),
        ("bytea", "7", b"7", False),
    ],
)
def test_an_owner_of_another_type_is_compared_as_a_value_of_it(
    kind: str, user: str, row: bytes | None, expected: bool
) -> None:
    own = owner_predicate(Table(2, "plain", (Column("electric_user_id", kind, True),), (), ""), user)
    assert own is not None

    assert own.matches((row,)) is expected


def test_a_type_of_the_database_is_found_under_its_own_name_only() -> None:
    table = Table(
        3,
        "odd",
        (Column("e", "Weird Type", False, is_enum=True), Column("k", "unheard_of", False)),
        (),
        "",
        enums=(EnumType("Weird Type", ("a", "b")),),
    )

    assert predicate("this.e = 'b'", table).matches((b"b", None)) is True
    assert predicate("'a'::\"Weird Type\" < this.e", table).matches((b"b", None)) is True
    assert predicate("this.k IS NULL", table).matches((b"b", None)) is True
    with pytest.raises(WhereError, match="unheard_of"):
        predicate("this.k = 'a'", table)
