"""Conditions of policies, as Postgres prints them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leyden.model import Column, EnumType, Function, Table
from leyden.shapes.where import Claims, Predicate, Where, WhereError, parse_where
from leyden.shapes.where.policies import Reader, parse_policy

UID = "00000000-0000-0000-0000-000000000001"
DOCS = Table(
    1,
    "docs",
    (
        Column("id", "int4", True),
        Column("owner", "text", False),
        Column("v", "varchar", False),
        Column("uid", "uuid", False),
        Column("project_id", "int4", False),
        Column("i8", "int8", False),
        Column("b", "bool", False),
        Column("ts", "timestamptz", False),
        Column("m", "mood", False, is_enum=True),
        Column("Odd Name", "text", False),
    ),
    ("id",),
    "docs_pkey",
    enums=(EnumType("mood", ("ok", "bad")),),
)
AUTH = (
    Function(
        "auth.uid",
        " select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),"
        " (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid ",
        "uuid",
    ),
    Function("auth.old_uid", "select nullif(current_setting('request.jwt.claim.sub', true), '')::uuid;", "uuid"),
    Function(
        "auth.role",
        "select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''),"
        " (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'))::text",
        "text",
    ),
    Function(
        "auth.jwt",
        "select coalesce(nullif(current_setting('request.jwt.claim', true), ''),"
        " nullif(current_setting('request.jwt.claims', true), ''))::jsonb",
        "jsonb",
    ),
    Function("app.org", "SELECT auth.jwt() -> 'app' ->> 'org'", "text"),
    Function("app.endless", "SELECT app.endless()", "text"),
    Function("app.row", "SELECT owner FROM docs", "text"),
    Function("app.column", "SELECT owner", "text"),
    Function("app.liar", "SELECT 'x'::text", "uuid"),
    Function("app.same", "SELECT a = b", "bool", (("a", "text"), ("b", "text"))),
    Function("app.first", "SELECT $1 = first.b", "bool", (("", "text"), ("b", "text"))),
    Function("app.many", "SELECT a", "text", (("a", "text"),)),
    Function("app.many", "SELECT 'x'::text", "text", (("a", "int4"),)),
    Function("app.mine", "SELECT CURRENT_USER = who", "bool", (("who", "text"),), owner="boss"),
)
AUTH = tuple(replace(one, callers=frozenset({"app_user"})) for one in AUTH)
READER = Reader("app_user", "ns")
WHO = Claims(UID, {"sub": "someone else", "org": "acme", "role": "editor", "app": {"org": "sub"}, "ns": {"a": "b"}})


def understood(text: str) -> Predicate:
    return Where(parse_policy(text, DOCS, READER, AUTH, collation_is_c=True)).bind(WHO)


@pytest.mark.parametrize(
    ("printed", "same_as"),
    [
        ("(owner = ((current_setting('request.jwt.claims'::text))::jsonb ->> 'org'::text))", "this.owner = 'acme'"),
        (
            "(owner = ((current_setting('request.jwt.claims'::text, true))::json ->> 'org'::text))",
            "this.owner = 'acme'",
        ),
        (
            "(owner = ((current_setting('Request.JWT.Claims'::text, true))::json ->> 'org'::text))",
            "this.owner = 'acme'",
        ),
        ("(owner = (((current_setting('leyden.claims'::text, true))::jsonb) ->> 'a'::text))", "this.owner = 'b'"),
        (
            "(owner = ((NULLIF(current_setting('request.jwt.claims'::text, true), ''::text))::jsonb ->> 'no'::text))",
            "NULL::bool",
        ),
        ("(uid = auth.uid())", f"this.uid = '{UID}'"),
        ("(uid = auth.old_uid())", f"this.uid = '{UID}'"),
        ("(( SELECT auth.uid() AS uid) = uid)", f"this.uid = '{UID}'"),
        ("((auth.uid())::text = owner)", f"this.owner = '{UID}'"),
        ("(auth.role() = owner)", "this.owner = 'editor'"),
        ("((auth.jwt() ->> 'role'::text) = 'editor'::text)", "true"),
        ("(((auth.jwt() -> 'app'::text) ->> 'org'::text) = owner)", "this.owner = 'sub'"),
        ("((( SELECT auth.jwt() AS jwt) ->> 'org'::text) = owner)", "this.owner = 'acme'"),
        ("(app.org() = owner)", "this.owner = 'sub'"),
        ("app.same(owner, (v)::text)", "this.owner = this.v"),
        ("app.same(owner, 'x'::text)", "this.owner = 'x'"),
        ("(NOT app.same((auth.jwt() ->> 'org'::text), owner))", "this.owner <> 'acme'"),
        ("app.first(owner, 'x'::text)", "this.owner = 'x'"),
        ("app.mine(owner)", "this.owner = 'boss'"),
        ("(owner = CURRENT_USER)", "this.owner = 'app_user'"),
        ("((v)::text = current_setting('request.jwt.claim.sub'::text, true))", f"this.v = '{UID}'"),
        ("(owner = NULLIF(current_setting('request.jwt.claim.sub'::text, true), ''::text))", f"this.owner = '{UID}'"),
        ("(owner = current_setting('leyden.user_id'::text))", f"this.owner = '{UID}'"),
        ("((v)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))", "this.v IN ('a', 'b')"),
        ("(project_id = ANY (ARRAY[1, 2, 3]))", "this.project_id IN (1, 2, 3)"),
        ("(project_id <> ALL (ARRAY[1, 2]))", "this.project_id NOT IN (1, 2)"),
        ("(project_id = ANY (ARRAY[7]))", "this.project_id = 7"),
        ("(m = ANY (ARRAY['ok'::public.mood, 'bad'::public.mood]))", "this.m IN ('ok', 'bad')"),
        ("(ts > '2024-01-01 00:00:00+00'::timestamp with time zone)", "this.ts > '2024-01-01T00:00:00Z'"),
        ('("Odd Name" = docs.owner)', 'this."Odd Name" = this.owner'),
        ("(owner ~~ 'a%'::text)", "this.owner LIKE 'a%'"),
        ("((project_id >= 1) AND (project_id <= 5))", "this.project_id BETWEEN 1 AND 5"),
        ("(b AND (NOT b))", "this.b AND NOT this.b"),
        ("true", "true"),
        ("(i8 = project_id)", "this.i8 = this.project_id"),
    ],
)
def test_a_condition_is_the_same_as_this_filter(printed: str, same_as: str) -> None:
    assert understood(printed).key == parse_where(same_as, DOCS, collation_is_c=True).bind(WHO).key


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        ("(project_id = ( SELECT max(members.project_id) AS max\n   FROM public.members))", "after EXISTS and IN only"),
        ("(owner = ( SELECT 'a'::text AS text WHERE true))", "after EXISTS and IN only"),
        ("(owner = ( SELECT 'a'::text UNION SELECT 'b'::text))", "after EXISTS and IN only"),
        ("\nCASE\n    WHEN b THEN true\n    ELSE false\nEND", "CASE"),
        ("(NOT\nCASE\n    WHEN b THEN true\n    ELSE false\nEND)", "CASE"),
        ("(ts < now())", "now"),
        ("(ts < CURRENT_TIMESTAMP)", "changes with the time"),
        ("(owner = SESSION_USER)", "changes with the time or the session"),
        ("(owner = current_setting('app.user'::text, true))", "app.user"),
        ("(owner = current_setting('request.jwt.claim.role'::text))", "request.jwt.claim.role"),
        ("(owner = current_setting(owner))", "must be a literal"),
        ("(current_setting('request.jwt.claims'::text, true) = owner)", "only members"),
        (
            "((current_setting('request.jwt.claims'::text, true))::jsonb @> '{}'::jsonb)",
            "is not supported|only members",
        ),
        ("(owner = COALESCE(( SELECT (auth.jwt() ->> 'org'::text)), 'x'::text))", "COALESCE"),
        ("(COALESCE(owner, ''::text) = 'x'::text)", "COALESCE"),
        ("(NULLIF(owner, ''::text) = 'x'::text)", "NULLIF"),
        ("(owner = NULLIF(current_setting('request.jwt.claim.sub'::text, true), 'x'::text))", "NULLIF"),
        ("app.is_member(project_id)", "of another schema"),
        ("(uid = other.uid())", "of another schema"),
        ("(app.endless() = owner)", "too many others"),
        ("(app.row() = owner)", "more than one expression"),
        ("(app.column() = v)", "is no column"),
        ("(app.liar() = uid)", "another type"),
        ("(app.many(owner) = v)", "of another schema"),
        ("app.same(owner)", "of another schema"),
        ("(owner OPERATOR(public.=) 'x'::text)", "schema"),
        ("(this.owner = 'x'::text)", "is no column"),
        ("(auth.sub = owner)", "is no column"),
        ("(later = owner)", "later is no column"),
        ("(project_id > ANY (ARRAY[1, 2]))", "ANY is supported with ="),
        ("(project_id = ALL (ARRAY[1, 2]))", "ALL is supported with <>"),
        ("(project_id = ANY (ARRAY[project_id, 2]))", "columns"),
        ("(owner = ANY (string_to_array((auth.jwt() ->> 'org'::text), ','::text)))", "not written out"),
        ("(owner ~~ (auth.jwt() ->> 'org'::text))", "pattern"),
        ("(docs.* IS NOT NULL)", r"\*"),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_name(printed: str, reason: str) -> None:
    with pytest.raises(WhereError, match=reason):
        understood(printed)


def test_columns_with_a_collation_of_their_own_are_refused() -> None:
    parse_policy("(owner = v)", DOCS, READER, collation_is_c=True, collated=frozenset({"Odd Name"}))
    with pytest.raises(WhereError, match="the collation of v is one of its own"):
        parse_policy("(owner = v)", DOCS, READER, collation_is_c=True, collated=frozenset({"v"}))


@pytest.mark.parametrize("value", [{"a": 1}, [1], [], {}])
def test_parts_of_json_that_are_no_scalars_have_no_text_that_is_known(value: object) -> None:
    claims = Claims(UID, {"x": value})
    for kind, is_known in (("json", False), ("jsonb", True)):
        text = f"(owner = ((current_setting('request.jwt.claims'::text))::{kind} ->> 'x'::text))"
        predicate = Where(parse_policy(text, DOCS, READER, collation_is_c=True)).bind(claims)
        assert ("owner" in predicate.equalities) is is_known


def test_a_function_that_the_role_may_not_call_is_refused() -> None:
    nobodys = replace(AUTH[0], callers=frozenset({"others"}))
    with pytest.raises(WhereError, match=r"permission denied for function auth\.uid"):
        parse_policy("(uid = auth.uid())", DOCS, READER, [nobodys], collation_is_c=True)
