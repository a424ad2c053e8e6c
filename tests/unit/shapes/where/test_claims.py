"""Claims are bound by the server, as jsonb would give them."""

from __future__ import annotations

from typing import Any

import pytest

from leyden.shapes.where import Claims, Predicate, WhereError, parse_where
from where_clauses import TABLE, row_of


def bound(clause: str, claims: dict[str, Any], user_id: str | None = "ann") -> Predicate:
    where = parse_where(clause, TABLE, collation_is_c=False)
    assert where.uses_claims
    return where.bind(Claims(user_id, claims))


@pytest.mark.parametrize(
    ("clause", "claims", "text"),
    [
        ("auth.sub", {}, "ann"),
        ("auth.claims ->> 'org'", {"org": "acme"}, "acme"),
        ("auth.claims ->> 'org'", {"org": ""}, ""),
        ("auth.claims ->> 'org'", {}, None),
        ("auth.claims ->> 'org'", {"org": None}, None),
        ("auth.claims ->> 'org'", {"Org": "acme"}, None),
        ("auth.claims ->> 'n'", {"n": 7}, "7"),
        ("auth.claims ->> 'n'", {"n": -(10**20)}, "-100000000000000000000"),
        ("auth.claims ->> 'n'", {"n": True}, "true"),
        ("auth.claims -> 'app' ->> 'org'", {"app": {"org": "acme"}}, "acme"),
        ("auth.claims -> 'app' ->> 'org'", {"app": "acme"}, None),
        ("auth.claims -> 'app' ->> 'org'", {"app": ["acme"]}, None),
        ("(auth.claims -> 'app') ->> 'org'", {"app": {"org": "acme"}}, "acme"),
        ("auth.claims -> 'roles' ->> 0", {"roles": ["admin", "user"]}, "admin"),
        ("auth.claims -> 'roles' ->> -1", {"roles": ["admin", "user"]}, "user"),
        ("auth.claims -> 'roles' ->> 2", {"roles": ["admin", "user"]}, None),
        ("auth.claims -> 'roles' ->> '0'", {"roles": ["admin", "user"]}, None),
        ("auth.claims -> 'role' ->> 0", {"role": "admin"}, "admin"),
        ("auth.claims -> 'role' -> -1 ->> 0", {"role": 7}, "7"),
        ("auth.claims -> 'role' ->> 0", {"role": None}, None),
        ("auth.claims -> 'role' ->> 1", {"role": True}, None),
        ("auth.claims -> 'role' ->> '0'", {"role": "admin"}, None),
        ("auth.claims ->> 0", {"0": "x"}, None),
        ("auth.claims ->> 'o'", {"o": {"bb": 1, "a": [True, None, 'é\n"']}}, '{"a": [true, null, "é\\n\\""], "bb": 1}'),
        ("auth.claims ->> 'a''b'", {"a'b": "x"}, "x"),
        ("auth.sub || '/x'", {}, "ann/x"),
    ],
)
def test_a_claim_is_the_text_that_jsonb_gives(clause: str, claims: dict[str, Any], text: str | None) -> None:
    predicate = bound(f"this.t = {clause}", claims)

    if text is None:
        assert predicate.key == parse_where("NULL::bool", TABLE, collation_is_c=False).bind(Claims(None, {})).key
    else:
        assert predicate.equalities == {"t": {text.encode()}}
        assert predicate.matches(row_of({"t": text})) is True


def test_nobody_has_no_user_id() -> None:
    assert bound("this.t = auth.sub", {}, None).matches(row_of({"t": "ann"})) is None
    assert bound("auth.sub IS NULL", {}, None).matches(row_of({})) is True


@pytest.mark.parametrize("value", [1.5, 1e3, [1.0], {"a": 2.5}, "a\0b", "\ud800", b"bytes", object()])
@pytest.mark.parametrize(
    "clause",
    ["this.t = auth.claims ->> 'c'", "this.t <> auth.claims ->> 'c'", "auth.claims ->> 'c' IS NULL", "NOT ({})"],
)
def test_a_claim_without_a_single_text_matches_nothing(clause: str, value: Any) -> None:
    predicate = bound(clause.format("this.t = auth.claims ->> 'c'"), {"c": value})

    assert [predicate.matches(row_of(row)) for row in ({}, {"t": "1.5"}, {"t": "1000"}, {"t": "a"})] == [False] * 4


@pytest.mark.parametrize(
    ("clause", "claims", "expected"),
    [
        ("(auth.claims ->> 'age')::int4 > 17", {"age": "18"}, True),
        ("(auth.claims ->> 'age')::int4 > 17", {"age": 17}, False),
        ("(auth.claims ->> 'age')::int4 > 17", {"age": "old"}, False),
        ("(auth.claims ->> 'age')::int4 <= 17", {"age": "old"}, False),
        ("this.u = (auth.claims ->> 'id')::uuid", {"id": "0000000000000000000000000000000A"}, True),
        ("this.u = (auth.claims ->> 'id')::uuid", {"id": "x"}, False),
        ("this.u <> (auth.claims ->> 'id')::uuid", {"id": "x"}, False),
        ("this.d > (auth.claims ->> 'since')::date", {"since": "2024-01-31"}, True),
        ("this.t IN ('b', auth.claims ->> 'org')", {"org": "a"}, True),
        ("this.t IN ('b', auth.claims ->> 'org')", {}, None),
        ("this.t IN ('a', auth.claims ->> 'org')", {}, True),
        ("this.t NOT IN ('b', auth.claims ->> 'org')", {"org": "c"}, True),
        ("lower(this.t) = lower(auth.claims ->> 'org')", {"org": "A"}, True),
        ("lower(this.t) = lower(auth.claims ->> 'org')", {"org": "É"}, False),
        ("lower(this.t) <> lower(auth.claims ->> 'org')", {"org": "É"}, False),
        ("auth.claims ->> 'role' = 'admin' OR this.t = 'a'", {}, True),
        ("auth.claims ->> 'role' = 'admin' OR this.t = 'b'", {"role": "admin"}, True),
        ("auth.claims ->> 'role' = 'admin' AND this.t = 'a'", {"role": "user"}, False),
        ("this.t IS NOT DISTINCT FROM auth.claims ->> 'org'", {"org": "a"}, True),
    ],
)
def test_claims_take_part_in_conditions(clause: str, claims: dict[str, Any], expected: bool | None) -> None:
    row = row_of({"t": "a", "u": "00000000-0000-0000-0000-00000000000a", "d": "2024-02-01"})

    assert bound(clause, claims).matches(row) is expected


def test_clients_with_equal_claims_share_a_predicate_and_others_do_not() -> None:
    where = parse_where("this.t = auth.claims ->> 'org' AND this.b", TABLE, collation_is_c=False)

    assert where.bind(Claims("ann", {"org": "a"})) == where.bind(Claims("bob", {"org": "a"}))
    assert where.bind(Claims("ann", {"org": "a"})) != where.bind(Claims("ann", {"org": "b"}))
    written_out = parse_where("this.b AND this.t = 'a'", TABLE, collation_is_c=False)
    assert where.bind(Claims("ann", {"org": "a"})) == written_out.bind(Claims(None, {}))


@pytest.mark.parametrize(
    "text", ["x' OR true --", "\\", "\\' OR true --", "%", "$$", "auth.sub", "NULL", "x) OR (true"]
)
def test_a_claim_is_never_read_as_sql(text: str) -> None:
    predicate = bound("this.t = auth.sub", {}, text)

    assert predicate.matches(row_of({"t": text})) is True
    assert predicate.matches(row_of({"t": "y"})) is False
    # The literal in the SQL reads as the text again.
    again = parse_where(
        f"this.t = {predicate.key.split('=) ', 1)[1][:-1]}".replace('"pg_catalog".', ""), TABLE, collation_is_c=False
    )
    assert again.bind(Claims(None, {})) == predicate


@pytest.mark.parametrize("clause", ["this.t = auth", "this.auth = 'x'", "sub = this.t", "this.u = auth.sub"])
def test_claims_are_nowhere_else(clause: str) -> None:
    with pytest.raises(WhereError):
        parse_where(clause, TABLE, collation_is_c=False)
