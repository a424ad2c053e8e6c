"""A database with policies, and both ways to ask what a role may read: Postgres, and the service."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from databases import fresh_database, install_schema
from leyden.model import Locale, RightsByRole, Row, Table
from leyden.postgres.catalog import load_tables
from leyden.postgres.embedded import EmbeddedPostgres
from leyden.postgres.reading.rights import RIGHTS, parse_rights
from leyden.postgres.sessions import connect, session_conninfo
from leyden.shapes.groups import Group
from leyden.shapes.rights import Rule, rules_for
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


ANN_CLAIMS = {
    "sub": ANN,
    "org": "acme",
    "role": "editor",
    "level": 2,
    "admin": True,
    "app": {"org": "umbrella", "roles": ["admin"]},
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


@contextmanager
def create_place(cluster: EmbeddedPostgres) -> Iterator[Place]:
    """With tables, rows, functions and roles."""
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
