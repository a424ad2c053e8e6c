"""What a database role may read: Leyden's verdict on each row is that of Postgres, asked as that role."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from databases import fresh_database, install_schema
from leyden.model import Locale, RightsByRole, Row, Table
from leyden.postgres.catalog import load_tables
from leyden.postgres.embedded import EmbeddedPostgres
from leyden.postgres.reading.rights import RIGHTS, parse_rights, read_rights
from leyden.postgres.sessions import connect, session_conninfo
from leyden.shapes.groups import Group
from leyden.shapes.rights import Forbidden, Rule, rules_for
from leyden.shapes.versions import VersionedTables
from leyden.shapes.where import Claims

ANN, BOB = (str(uuid.UUID(int=number)) for number in (1, 2))

#: As Supabase has them.
AUTH = """
CREATE SCHEMA auth;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
  )::uuid $$;
CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.role', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
  )::text $$;
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
  select coalesce(
    nullif(current_setting('request.jwt.claim', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')
  )::jsonb $$;
"""

FUNCTIONS = """
CREATE FUNCTION is_member(p int) RETURNS boolean LANGUAGE sql STABLE AS $$
  select exists (select 1 from members where project = p and person = auth.jwt() ->> 'sub') $$;
CREATE FUNCTION is_member_as_owner(p int) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
  select exists (select 1 from public.members m where m.project = $1 and m.uid = (select auth.uid())) $$;
CREATE FUNCTION teams(team text) RETURNS boolean LANGUAGE sql AS $$
  SELECT EXISTS (SELECT FROM projects JOIN members m ON m.project = projects.id WHERE projects.team = teams.team) $$;
CREATE FUNCTION within(whom text, what int) RETURNS boolean LANGUAGE sql AS $$
  SELECT what IN (SELECT project FROM members WHERE person = whom) $$;
CREATE FUNCTION has_role(text) RETURNS boolean LANGUAGE sql AS $$ SELECT auth.role() = $1 AND current_user = $1 $$;
CREATE FUNCTION strict(p int) RETURNS boolean LANGUAGE sql STRICT AS 'SELECT p = 1';
CREATE FUNCTION newer(p int) RETURNS boolean LANGUAGE sql BEGIN ATOMIC SELECT p = 1; END;
"""

TABLES = """
CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE TABLE docs (
    id int PRIMARY KEY, owner text, uid uuid, org varchar, n int, big bigint, ok boolean, made timestamptz, feels mood);
CREATE TABLE projects (id int PRIMARY KEY, team varchar);
CREATE TABLE members (id int PRIMARY KEY, project bigint, person text, uid uuid);
CREATE TABLE secrets (id int PRIMARY KEY);
"""

#: Conditions as people write them. Each of them is understood.
UNDERSTOOD = (
    "true",
    "false",
    "ok",
    "owner = current_setting('request.jwt.claims')::jsonb ->> 'sub'",
    "owner = current_setting('request.jwt.claims', true)::json ->> 'sub'",
    "owner = (select current_setting('request.jwt.claims', true)::json ->> 'sub')",
    "owner = current_setting('request.jwt.claim.sub', true)",
    "owner = nullif(current_setting('request.jwt.claim.sub', true), '')",
    "owner = current_setting('leyden.user_id')",
    "owner = current_user",
    "owner <> user",
    "uid = auth.uid()",
    "(select auth.uid()) = uid",
    "auth.uid()::text = owner",
    "uid::text = auth.jwt() ->> 'sub'",
    "org = auth.jwt() ->> 'org'",
    "org = (auth.jwt() -> 'app' ->> 'org')",
    "(auth.jwt() -> 'app' -> 'roles' ->> 0) = 'admin'",
    "(current_setting('request.jwt.claims')::json -> 'app' -> 'roles' ->> 0) is distinct from 'admin'",
    "(select auth.jwt() ->> 'org') = org",
    "(select auth.jwt()) ->> 'org' = org",
    "auth.role() = 'editor'",
    "auth.role() in ('editor', 'admin') and n is not null",
    "(auth.jwt() ->> 'level')::int >= n",
    "big = (current_setting('request.jwt.claims', true)::jsonb ->> 'level')::bigint",
    "(auth.jwt() ->> 'admin')::boolean",
    "coalesce(null, auth.role()) = owner",
    "n in (1, 2)",
    "n not in (1, 2, null)",
    "n = any (array[1])",
    "org in ('acme', 'umbrella')",
    "owner in (auth.jwt() ->> 'sub', 'everybody')",
    "feels = 'calm'",
    "feels in ('calm', 'cross')",
    "n between 1 and 5",
    "owner is distinct from org",
    "owner like 'a%' or org ilike 'AC%'",
    "lower(org) = 'acme'",
    "made > '2024-01-01'::timestamptz",
    "ok is not true and (n > 1) is unknown",
)

#: Conditions that look at other tables.
RELATED = (
    "exists (select 1 from members m where m.project = docs.n and m.person = auth.jwt() ->> 'sub')",
    "exists (select from members where project = docs.n and members.uid = (select auth.uid()))",
    "exists (select * from members m where m.project = n and (m.person = docs.owner or m.uid = docs.uid))",
    "not exists (select 1 from members m where m.project = docs.n)",
    "n in (select project from members where person = 'ann')",
    "n = any (select m.project from members m where m.uid = auth.uid())",
    "auth.uid() in (select m.uid from members m where m.project = docs.n)",
    "(auth.jwt() ->> 'org') in (select team from projects where id = docs.n) or ok",
    "exists (select 1 from projects p join members m on m.project = p.id where p.id = docs.n and m.uid = auth.uid())",
    "exists (select 1 from projects p, members m where m.project = p.id and p.id = docs.n and p.team = docs.org)",
    "n in (select p.id from projects p join members m on m.project = p.id where m.person = auth.jwt() ->> 'sub')",
    "n in (select id from projects where id in (select project from members where uid = auth.uid()))",
    "exists (select 1 from projects p where p.id = docs.n and not exists"
    " (select 1 from members m where m.project = p.id and m.person = docs.owner))",
    "exists (select 1 from members m where m.project < docs.n and m.person is not null)",
    "exists (select 1 from members where person = auth.jwt() ->> 'sub')",
    "ok and not exists (select from projects where team = auth.jwt() ->> 'org')",
    "is_member(n)",
    "not is_member(n)",
    "is_member_as_owner(docs.n) or owner = 'ann'",
    "not is_member_as_owner(n + 0)",
    "teams(org)",
    "within(owner, n)",
    "within(auth.jwt() ->> 'sub', n) or ok",
    "not has_role('editor') and n = 1",
)

#: Each with what the refusal speaks of.
NOT_UNDERSTOOD = {
    "exists (select from secrets)": "secrets is not electrified",
    "n not in (select project from members)": "NOT",
    "exists (select from members m left join projects p on p.id = m.project)": "inner joins",
    "(select person from members where id = 1) = owner": "EXISTS and IN",
    "n = (select max(n) from docs)": "EXISTS and IN",
    "made < now()": "now",
    "owner = current_setting('app.user')": "app.user",
    "owner = session_user": "session",
    "coalesce(owner, 'x') = 'x'": "COALESCE",
    "case when ok then n = 1 else false end": "CASE",
    "auth.jwt() @> '{\"a\": 1}'": "jsonb|operator|auth",
    "owner ~ '^a'": "~",
    "owner like (auth.jwt() ->> 'sub')": "LIKE",
    "visible(n)": "visible",
    "strict(n)": "strict",
    "newer(n)": "newer",
    "not within(owner, n)": "NOT",
    "docs is not null": "docs",
    "nullif(2, 3) = n": "NULLIF",
}


class Place:
    """A database with policies, and both ways to ask what a role may read."""

    def __init__(self, conn: psycopg.Connection[Any], dsn: str) -> None:
        self.conn = conn
        self.dsn = dsn
        name = conn.info.dbname
        self.reader, self.group, self.other = f"reader_{name}", f"group_{name}", f"other_{name}"
        self.tables: dict[str, Table] = {}
        self.versions = VersionedTables()

    def execute(self, statement: str, *names: str) -> None:
        self.conn.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]

    @contextmanager
    def policies(self, *policies: tuple[str, bool, str, str]) -> Iterator[None]:
        """Each a condition, whether it is permissive, its command and the role it is for."""
        with self.conn.transaction(force_rollback=True):
            for number, (condition, permissive, command, role) in enumerate(policies):
                kind = "PERMISSIVE" if permissive else "RESTRICTIVE"
                whom = "PUBLIC" if role == "PUBLIC" else f'"{role}"'
                self.conn.execute(
                    f"CREATE POLICY p{number} ON docs AS {kind} FOR {command} TO {whom} USING ({condition})"  # type: ignore[arg-type]
                )
            yield

    def rights(self) -> RightsByRole:
        return parse_rights(self.rights_text())

    def rights_text(self) -> str:
        """Through the service's own query, in the transaction that is open."""
        with self.conn.transaction():
            self.conn.execute("SET LOCAL search_path = pg_catalog")
            row = self.conn.execute(RIGHTS, [[self.reader]]).fetchone()
            self.conn.execute("SET LOCAL search_path = public")
        assert row is not None
        return str(row[0])

    def load(self) -> None:
        """The descriptions of tables, and the rows of those that policies look at."""

        async def load() -> Mapping[int, Table]:
            async with await connect(self.dsn) as conn:
                return await load_tables(conn)

        self.tables = {table.name: table for table in asyncio.run(load()).values()}
        for table in self.tables.values():
            self.versions.begin(table)
            self.versions.load(table, [(row, ("t",)) for row in self.rows(table.name)])
            self.versions.complete(table)

    def rule(self, table: Table) -> Rule:
        return rules_for(self.rights(), self.reader, None, Locale(order_is_bytes=True), self.tables).of(table)

    def why_asked(self, table: Table) -> str:
        """What of the policies is not understood, so that Postgres has to be asked."""
        unknown = self.rule(table).unknown
        assert unknown is not None
        return unknown.why

    @contextmanager
    def as_reader(self, claims: Mapping[str, Any]) -> Iterator[None]:
        with self.conn.transaction(force_rollback=True):
            user = str(claims["sub"])
            for name, value in (
                ("request.jwt.claims", json.dumps(claims)),
                ("request.jwt.claim.sub", user),
                ("leyden.user_id", user),
                ("role", self.reader),
            ):
                self.conn.execute("SELECT set_config(%s, %s, true)", [name, value])
            yield

    def readable(self, claims: Mapping[str, Any]) -> set[int] | None:
        """The keys of the rows that Postgres lets the reader see; ``None`` if it refuses to look."""
        try:
            with self.as_reader(claims):
                return {key for (key,) in self.conn.execute("SELECT id FROM docs")}
        except (psycopg.DataError, psycopg.errors.UndefinedObject):
            return None

    def rows(self, name: str) -> list[Row]:
        result = self.conn.execute(sql.SQL("SELECT * FROM {} ORDER BY id").format(sql.Identifier(name))).pgresult
        assert result is not None
        return [
            tuple(result.get_value(row, column) for column in range(result.nfields)) for row in range(result.ntuples)
        ]

    def compare(self, table: Table, claims: Mapping[str, Any]) -> set[int]:
        """What the reader sees, by Postgres, by our predicate and by our SQL: all three are the same, if they are not
        asked of Postgres."""
        in_postgres = self.readable(claims) or set()
        allowed = self.rule(table).bind(Claims(str(claims["sub"]), claims))
        group = Group(table)
        if allowed is not None:
            group = Group(table, allowed.predicate, relations=allowed.relations)
        if group.questions:
            return in_postgres
        at = self.versions.as_of(0)
        in_python = {int(row[0] or b"") for row in self.rows("docs") if group.holds(row, at)}
        if not group.relations:
            selects = sql.SQL("true") if group.condition is None else group.condition
            selected = self.conn.execute(sql.SQL("SELECT id FROM docs AS this WHERE ({})").format(selects))
            assert in_python == {key for (key,) in selected}
        assert in_python == in_postgres
        return in_python


@pytest.fixture(scope="module")
def place(cluster: EmbeddedPostgres) -> Iterator[Place]:
    for dsn in fresh_database(cluster, "template1"):
        asyncio.run(install_schema(dsn))
        with psycopg.connect(session_conninfo(dsn), autocommit=True) as conn:
            place = Place(conn, dsn)
            conn.execute(AUTH)
            conn.execute(TABLES)
            conn.execute(FUNCTIONS)
            for name in ("docs", "projects", "members"):
                conn.execute("CALL electric.electrify(%s)", [name])
            conn.execute("CREATE FUNCTION visible(n int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN n = 1; END'")
            conn.execute(
                "CREATE FUNCTION never(n int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN false; END'"
            )
            conn.execute("CREATE VIEW view_of_members AS SELECT * FROM members")
            for role in (place.reader, place.group, place.other):
                place.execute("CREATE ROLE {} NOLOGIN", role)
            place.execute("GRANT {} TO {}", place.group, place.reader)
            place.execute("GRANT SELECT ON docs, projects, members, secrets TO {}", place.reader)
            place.execute("GRANT USAGE ON SCHEMA auth TO {}", place.reader)
            conn.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
            values = {
                "owner": ("ann", ANN, place.reader, "everybody", None),
                "uid": (ANN, BOB, None),
                "org": ("acme", "ACME", "umbrella", None),
                "n": (1, 2, 5, None),
                "big": (7, None),
                "ok": (True, False, None),
                "made": ("2023-06-01", "2024-06-01", None),
                "feels": ("calm", "cross", None),
            }
            for key in range(60):
                row = [options[(key * 7 + place_) % len(options)] for place_, options in enumerate(values.values())]
                conn.execute("INSERT INTO docs VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)", [key, *row])
            conn.execute("INSERT INTO projects VALUES (1, 'acme'), (2, 'umbrella'), (3, NULL)")
            for key, (project, person) in enumerate(
                itertools.product((1, 2, 9, None), ("ann", ANN, "everybody", None))
            ):
                if key % 3:
                    uid = person if person == ANN else BOB if key % 2 else None
                    conn.execute("INSERT INTO members VALUES (%s, %s, %s, %s)", [key, project, person, uid])
            place.load()
            yield place
            for role in (place.reader, place.group, place.other):
                place.execute("DROP OWNED BY {} CASCADE", role)
                place.execute("DROP ROLE {}", role)


@pytest.fixture(scope="module")
def table(place: Place) -> Table:
    return place.tables["docs"]


ANN_CLAIMS = {
    "sub": ANN,
    "org": "acme",
    "role": "editor",
    "level": 2,
    "admin": True,
    "app": {"org": "umbrella", "roles": ["admin"]},
}


@pytest.mark.parametrize("condition", UNDERSTOOD + RELATED)
def test_a_condition_lets_the_rows_through_that_postgres_lets_through(
    place: Place, table: Table, condition: str
) -> None:
    with place.policies((condition, True, "SELECT", "PUBLIC")):
        for claims in (
            ANN_CLAIMS,
            {"sub": ANN},
            {"sub": "ann", "org": None, "role": 7, "level": "x", "admin": "no", "app": []},
            {"sub": BOB, "org": {"a": 1}, "level": -1, "admin": "neither", "app": {"roles": []}},
            {"sub": BOB, "app": {"roles": "admin"}},
        ):
            place.compare(table, claims)


def test_the_conditions_are_computed_and_some_of_them_tell_rows_apart(place: Place, table: Table) -> None:
    seen = []
    for condition in UNDERSTOOD + RELATED:
        with place.policies((condition, True, "ALL", "PUBLIC")):
            allowed = place.rule(table).bind(Claims(ANN, ANN_CLAIMS))
            assert allowed is None or not allowed.is_asked
            seen.append(len(place.compare(table, ANN_CLAIMS)))
    assert sum(0 < number < 60 for number in seen) > len(seen) / 2


@st.composite
def claims(draw: st.DrawFn) -> dict[str, Any]:
    scalars = st.sampled_from([None, "acme", "editor", "everybody", 0, 1, 7, True, "2", "é", ""])
    return {
        "sub": draw(st.sampled_from([ANN, BOB, "ann", "everybody", "1"])),
        **{name: draw(scalars) for name in draw(st.sets(st.sampled_from(["org", "role", "level", "admin"])))},
        **({"app": draw(st.dictionaries(st.sampled_from(["org", "roles"]), scalars))} if draw(st.booleans()) else {}),
    }


def combined(depth: int = 2) -> st.SearchStrategy[str]:
    leaf = st.sampled_from(UNDERSTOOD + RELATED)
    if not depth:
        return leaf
    inner = combined(depth - 1)
    return st.one_of(
        leaf,
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda parts: "({}) {} ({})".format(*parts)),
        # IN with a subquery is not understood there
        inner.filter(lambda one: not re.search(r" in \(select|any \(select|within\(", one)).map("NOT ({})".format),
        st.sampled_from(UNDERSTOOD).map("({}) IS NOT FALSE".format),
    )


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_policies_of_any_roles_together_let_through_what_postgres_lets_through(
    place: Place, table: Table, data: st.DataObject
) -> None:
    policy = st.tuples(
        combined(),
        st.booleans(),
        st.sampled_from(["SELECT", "ALL", "UPDATE"]),
        st.sampled_from(["PUBLIC", place.reader, place.group, place.other]),
    )
    policies = data.draw(st.lists(policy, max_size=4))
    with place.policies(*policies):
        place.compare(table, data.draw(claims()))


SERVICE, USER = "auth.role() = 'service'", "uid = auth.uid()"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (USER, "(org = auth.jwt() ->> 'org') IS NOT FALSE"),  # true for every row, which the planner does not know
        (USER, "n = 6"),
        (USER, SERVICE),
        (f"ok AND {USER}", SERVICE),
        (f"{SERVICE} AND NOT {USER}", "ok"),
        (f"auth.role() = 'user' AND {USER}", "ok"),
        (f"{SERVICE} OR {USER}", "n = 6"),
        (f"auth.role() = 'user' AND exists (select from members where {USER})", "ok"),
    ],
)
@pytest.mark.parametrize("is_permissive", [True, False])
def test_if_a_policy_fails_for_the_claims_postgres_is_asked_whatever_else_lets_through(
    place: Place, table: Table, first: str, second: str, is_permissive: bool
) -> None:
    for order in itertools.permutations([(first, True), (second, is_permissive)]):
        with place.policies(*((condition, permissive, "SELECT", "PUBLIC") for condition, permissive in order)):
            allowed = place.rule(table).bind(Claims("no uuid", {"sub": "no uuid", "role": "service"}))
            assert allowed is not None
            assert allowed.relations[0].question is not None
            place.compare(table, {"sub": ANN, "role": "service"})


def test_claims_that_pass_with_the_token_are_not_asked_about(place: Place, table: Table) -> None:
    policies = (USER, "(auth.jwt() ->> 'exp')::int > n")
    with place.policies(*((condition, True, "SELECT", "PUBLIC") for condition in policies)):
        with pytest.raises(Forbidden, match="A policy fails for a claim of the token"):
            place.rule(table).bind(Claims("no uuid", {"exp": 1}))
        place.compare(table, {"sub": ANN, "exp": 3})


def test_a_part_that_fails_and_is_known_not_to_matter_takes_nothing_away(place: Place, table: Table) -> None:
    with place.policies((USER, True, "SELECT", "PUBLIC"), ("true", True, "SELECT", "PUBLIC")):
        assert len(place.compare(table, {"sub": "no uuid"})) == 60


#: What is there besides, a condition, and the claims: where Postgres means something else than it seems at first.
ODD = {
    "overload by type": (
        "CREATE FUNCTION seen(int) RETURNS boolean LANGUAGE sql AS 'SELECT $1 > 0';"
        "CREATE FUNCTION seen(bigint) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN false; END'",
        "seen(big)",
    ),
    "overload that is strict": (
        "CREATE FUNCTION seen(text) RETURNS boolean LANGUAGE sql AS 'SELECT $1 IS NOT NULL';"
        "CREATE FUNCTION seen(uuid) RETURNS boolean LANGUAGE sql STRICT AS 'SELECT false'",
        "seen(uid)",
    ),
    "overload with a default": (
        "CREATE FUNCTION seen(text, int DEFAULT 1) RETURNS boolean LANGUAGE sql AS 'SELECT $2 = 1';"
        "CREATE FUNCTION seen(text, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT $2 = 2'",
        "seen(owner, 1)",
    ),
    "overload within a body": (
        "CREATE FUNCTION inner_one(numeric) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN false; END';"
        "CREATE FUNCTION inner_one(int) RETURNS boolean LANGUAGE sql AS 'SELECT true';"
        "CREATE FUNCTION seen(bigint) RETURNS boolean LANGUAGE sql AS 'SELECT public.inner_one($1)'",
        "seen(big)",
    ),
    "a time zone of its own": (
        "CREATE FUNCTION late(timestamptz) RETURNS boolean LANGUAGE sql SET timezone = 'America/New_York' AS"
        " $$SELECT $1 >= '2023-06-01 00:00'::timestamptz$$",
        "late(made)",
    ),
    "a user of its own": (
        "CREATE FUNCTION who() RETURNS text LANGUAGE sql SET \"request.jwt.claim.sub\" = 'everybody' AS"
        " $$SELECT current_setting('request.jwt.claim.sub', true)$$",
        "owner = who()",
    ),
    "a path that is handed on": (
        "CREATE SCHEMA private; CREATE TABLE private.members AS SELECT * FROM public.members WHERE project = 1;"
        "GRANT USAGE ON SCHEMA private TO PUBLIC; GRANT SELECT ON private.members TO PUBLIC;"
        "CREATE FUNCTION inner_one(int) RETURNS boolean LANGUAGE sql AS"
        " 'SELECT EXISTS (SELECT FROM members m WHERE m.project = $1)';"
        "CREATE FUNCTION seen(int) RETURNS boolean LANGUAGE sql SET search_path = private AS"
        " 'SELECT public.inner_one($1)'",
        "seen(n)",
    ),
    "functions before Postgres' own": (
        "CREATE FUNCTION lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
        "CREATE FUNCTION seen(text) RETURNS boolean LANGUAGE sql SET search_path = public, pg_catalog AS"
        " $$SELECT lower($1) = 'acme'$$",
        "seen(org)",
    ),
    "a function that fits better than Postgres' own": (
        "CREATE FUNCTION lower(varchar) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'acme'$$;"
        "CREATE FUNCTION seen(varchar) RETURNS boolean LANGUAGE sql AS $$SELECT lower($1) = 'acme'$$",
        "seen(org)",
    ),
    "an operator that fits better than Postgres' own": (
        "CREATE FUNCTION never(varchar, varchar) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';"
        "CREATE OPERATOR = (FUNCTION = never, LEFTARG = varchar, RIGHTARG = varchar);"
        "CREATE FUNCTION seen(varchar) RETURNS boolean LANGUAGE sql AS 'SELECT $1 IN ($1)'",
        "seen(org)",
    ),
    "a setting by another function": (
        "CREATE SCHEMA util; GRANT USAGE ON SCHEMA util TO PUBLIC;"
        "CREATE FUNCTION util.current_setting(text, boolean) RETURNS text LANGUAGE sql AS"
        ' $$SELECT \'{"sub": "everybody"}\'$$',
        "owner = util.current_setting('request.jwt.claims', true)::jsonb ->> 'sub'",
    ),
    "a setting that must be there": ("", "current_setting('request.jwt.claim.org', false) IS NULL"),
    "scoped claims that must be there": ("", "current_setting('leyden.claims')::jsonb ->> 'org' IS NULL"),
    "NULL has a type": (
        "CREATE FUNCTION level() RETURNS text LANGUAGE sql AS"
        " $$SELECT coalesce(nullif(current_setting('request.jwt.claim.level', true), '')::int, '05')::text$$",
        "n::text = level() OR '05' = level()",
    ),
    "EXISTS within another subquery": (
        "",
        "(exists (select from projects p where p.id = docs.n)) in (select m.uid is not null from members m)",
    ),
    "EXISTS as an argument": (
        "CREATE FUNCTION seen(x boolean) RETURNS boolean LANGUAGE sql AS"
        " 'SELECT EXISTS (SELECT FROM members m WHERE m.id = 1 AND x)'",
        "seen(exists (select from projects p where p.id = docs.n))",
    ),
    "IN used twice": (
        "CREATE FUNCTION seen(x boolean) RETURNS boolean LANGUAGE sql AS 'SELECT x OR NOT x'",
        "seen(n in (select p.id from projects p))",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_means_something_else_than_it_seems_means_it_here_too(place: Place, table: Table, name: str) -> None:
    statements, condition = ODD[name]
    with place.conn.transaction(force_rollback=True):
        if statements:
            place.conn.execute(statements)  # type: ignore[arg-type]
        with place.policies((condition, True, "SELECT", "PUBLIC")):
            place.compare(table, ANN_CLAIMS)


def test_with_an_empty_search_path_there_is_none_but_postgres_own(place: Place, table: Table) -> None:
    with place.conn.transaction(force_rollback=True):
        place.conn.execute(
            "CREATE FUNCTION lower(varchar) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'acme'$$;"
            "CREATE FUNCTION seen(varchar) RETURNS boolean LANGUAGE sql SET search_path = '' AS"
            " $$SELECT lower($1) = 'acme'$$"
        )
        with place.policies(("seen(org)", True, "SELECT", "PUBLIC")):
            assert place.rule(table).unknown is None
            place.compare(table, ANN_CLAIMS)


def test_a_column_with_a_collation_of_its_own_is_asked_about(place: Place) -> None:
    with place.conn.transaction(force_rollback=True):
        place.conn.execute(
            'ALTER TABLE docs ALTER owner TYPE text COLLATE ucs_basic, ALTER org TYPE varchar COLLATE "C"'
        )
        place.load()
        table = place.tables["docs"]
        for condition, is_asked in (("owner < 'b'", True), ("org < 'b'", False)):
            with place.policies((condition, True, "SELECT", "PUBLIC")):
                assert (place.rule(table).unknown is not None) is is_asked


def test_functions_that_grow_with_each_other_are_asked_about(place: Place, table: Table) -> None:
    with place.conn.transaction(force_rollback=True):
        place.conn.execute("CREATE FUNCTION twice(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1 || $1'")
        place.conn.execute(
            f"CREATE FUNCTION longer(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1{' || $1' * 40}'"  # type: ignore[arg-type]
        )
        for function, times in (("twice", 14), ("longer", 10)):
            called = f"{f'{function}(' * times}owner{')' * times}"
            with place.policies((f"length({called}) > 0", True, "SELECT", "PUBLIC")):
                assert "too long" in place.why_asked(table)


@pytest.mark.parametrize("condition", NOT_UNDERSTOOD)
def test_what_cannot_be_followed_is_asked_of_postgres_and_named(place: Place, table: Table, condition: str) -> None:
    with place.policies((condition, True, "SELECT", "PUBLIC")):
        why = place.why_asked(table)
    assert why.startswith("The policy p0 of table docs cannot be followed: ")
    assert any(word in why for word in NOT_UNDERSTOOD[condition].split("|"))


@pytest.mark.parametrize(
    ("condition", "tables"),
    [
        ("owner ~ '^a'", set()),
        ("auth.jwt() @> '{\"a\": 1}' and n = 1", set()),
        ("exists (select from secrets)", {"secrets"}),
        ("n not in (select project from members) and n = (select max(id) from projects)", {"members", "projects"}),
        ("never(n)", set()),
        ("visible(n)", None),
        ("n = 1 and visible(n)", None),
        ("n not in (select project from view_of_members)", None),
    ],
)
def test_it_is_known_what_else_a_policy_looks_at(
    place: Place, table: Table, condition: str, tables: set[str] | None
) -> None:
    query = "SELECT relname, oid::bigint FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    ids = dict(place.conn.execute(query).fetchall())
    with place.policies((condition, True, "SELECT", "PUBLIC")):
        unknown = place.rule(table).unknown
    assert unknown is not None
    assert unknown.looks_at == (None if tables is None else {ids[name] for name in tables})


def test_a_policy_for_others_is_not_looked_at(place: Place, table: Table) -> None:
    with place.policies(("made < now()", True, "SELECT", place.other), ("n = 1", True, "SELECT", place.reader)):
        assert place.compare(table, {"sub": "ann"})


def test_without_a_policy_that_permits_nothing_is_seen(place: Place, table: Table) -> None:
    with place.policies():
        assert place.compare(table, ANN_CLAIMS) == set()
    with place.policies(("true", False, "SELECT", "PUBLIC")):
        assert place.compare(table, ANN_CLAIMS) == set()


def test_a_function_means_what_its_body_says(place: Place, table: Table) -> None:
    with place.policies(("uid = auth.uid()", True, "SELECT", "PUBLIC")):
        before = place.compare(table, {"sub": ANN, "other": BOB})
        place.conn.execute(
            "CREATE OR REPLACE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS"
            " $$ SELECT (current_setting('request.jwt.claims')::jsonb ->> 'other')::uuid $$"
        )
        after = place.compare(table, {"sub": ANN, "other": BOB})
        assert before
        assert after
        assert not before & after
        place.conn.execute(
            "CREATE OR REPLACE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS"
            " $$ SELECT uid FROM public.docs LIMIT 1 $$"
        )
        assert "auth.uid is more than one expression" in place.why_asked(table)


def test_the_policies_of_a_table_that_is_looked_at_hold_too(place: Place, table: Table) -> None:
    with place.policies((RELATED[3], True, "SELECT", "PUBLIC")):
        everybody = place.compare(table, ANN_CLAIMS)
        place.conn.execute("ALTER TABLE members ENABLE ROW LEVEL SECURITY")
        nobody = place.compare(table, ANN_CLAIMS)
        place.conn.execute(
            "CREATE POLICY own ON members USING (uid = auth.uid() AND exists (SELECT FROM projects"
            " WHERE projects.id = members.project AND team = auth.jwt() ->> 'org'))"
        )
        own = place.compare(table, ANN_CLAIMS)
        assert everybody < own < nobody
    for condition, is_bound in (("is_member(n)", True), ("is_member_as_owner(n)", False)):
        with place.policies((condition, True, "SELECT", "PUBLIC")):
            before = place.compare(table, ANN_CLAIMS)
            place.conn.execute("ALTER TABLE members ENABLE ROW LEVEL SECURITY")
            assert before
            assert place.compare(table, ANN_CLAIMS) == (set() if is_bound else before)


def test_functions_are_called_by_those_who_may(place: Place, table: Table) -> None:
    with place.policies(("is_member(n)", True, "SELECT", "PUBLIC")):
        place.conn.execute("REVOKE EXECUTE ON FUNCTION is_member FROM PUBLIC")
        assert "permission denied for function public.is_member" in place.why_asked(table)
        place.execute("GRANT EXECUTE ON FUNCTION is_member TO {}", place.group)
        assert place.compare(table, ANN_CLAIMS)
        place.execute("REVOKE USAGE ON SCHEMA auth FROM {}", place.reader)
        assert "permission denied for function auth.jwt" in place.why_asked(table)


@pytest.mark.parametrize("schema", ["elsewhere", "$user"])
def test_a_function_that_finds_its_tables_elsewhere_is_not_followed(place: Place, table: Table, schema: str) -> None:
    with place.policies(("is_member(n)", True, "SELECT", "PUBLIC")):
        if schema == "$user":
            place.execute("CREATE SCHEMA {}", place.reader)
        else:
            place.conn.execute(f"CREATE SCHEMA {schema}")
            place.conn.execute(f"ALTER FUNCTION is_member SET search_path = {schema}, public")
        assert "the table members is not in schema public" in place.why_asked(table)


def test_columns_that_may_not_be_read_are_known_by_name(place: Place, table: Table) -> None:
    with place.conn.transaction(force_rollback=True):
        place.execute("REVOKE SELECT ON docs FROM {}", place.reader)
        with pytest.raises(Forbidden, match="Permission denied for table docs"):
            place.rule(table)
        place.execute("GRANT SELECT (id, owner, n) ON docs TO {}", place.reader)
        assert place.rule(table).columns == frozenset(("id", "owner", "n"))
        place.execute("REVOKE SELECT (id) ON docs FROM {}", place.reader)
        with pytest.raises(Forbidden, match="Permission denied for column id of table docs"):
            place.rule(table)


async def test_the_question_leaves_the_session_as_it_was(place: Place) -> None:
    async with await connect(place.dsn, autocommit=True) as conn:
        text = await read_rights(conn, [place.reader])
        assert text == place.rights_text()
        cursor = await conn.execute("SELECT current_setting('search_path')")
        assert await cursor.fetchone() == ('"$user", public',)
        assert parse_rights(await read_rights(conn, ["nobody of this name"])) == {}
