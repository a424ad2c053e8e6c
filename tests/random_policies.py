"""Random roles, claims, policies and privileges on the tables of :mod:`random_shapes`.

The one place that draws them. Only what Leyden can follow: what it refuses is the subject of other tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import random_shapes
from random_shapes import USERS, Column, Schema, Table

#: Who is a member of what. Policies on all other tables look at it.
MEMBERS = Table(
    "members",
    (Column("id", "int4"),),
    (Column("person", "text"), Column("topic", "int4"), Column("team", "text")),
    (),
)

#: As people have them: the claims by functions, a membership that is looked up with its owner's rights, and functions
#: that only Postgres can follow.
FUNCTIONS = """
CREATE SCHEMA auth;
GRANT USAGE ON SCHEMA auth TO PUBLIC;
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
CREATE FUNCTION auth.uid() RETURNS text LANGUAGE sql STABLE AS $$ SELECT auth.jwt() ->> 'sub' $$;
CREATE FUNCTION is_mine(value text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
    BEGIN RETURN value = auth.uid() OR value LIKE 'a%'; END $$;
CREATE FUNCTION belongs_to(topic_id int) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
    BEGIN RETURN EXISTS (SELECT FROM public.members m WHERE m.topic = topic_id AND m.person = auth.uid()); END $$;
"""


def membership(condition: str = "m.person = auth.uid()") -> str:
    """What makes, or changes, a function that policies call."""
    return (
        "CREATE OR REPLACE FUNCTION is_member(topic_id int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$"
        f" SELECT EXISTS (SELECT FROM public.members m WHERE m.topic = topic_id AND {condition}) $$"
    )


_CLAIMS = "current_setting('request.jwt.claims', true)::jsonb"
_TEAMS = ("a", "ab", "b%")
_TOPICS = (0, 1, 2, 3)
#: The last one is no number, so that policies fail that take it for one.
NO_LEVEL = "high"
_LEVELS = (*_TOPICS, NO_LEVEL)

#: Names of policies on one table.
_POLICIES = ("p1", "p2", "p3", "p4")


@dataclass(frozen=True)
class Roles:
    """Clients read as one of ``readers``, which may have the rights of ``group``."""

    readers: tuple[str, ...]
    group: str

    @classmethod
    def of(cls, database: str) -> Roles:
        """Roles belong to all databases of a server."""
        return cls((f"reader_{database}", f"writer_{database}"), f"group_{database}")

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.readers, self.group)

    def draw(self, random: Random) -> str:
        return random.choice((*self.readers, *self.readers, self.group, "PUBLIC"))


def draw_claims(random: Random, roles: Roles, user: str) -> dict[str, Any]:
    """What may be in a token of ``user``."""
    return {
        "sub": user,
        "role": random.choice(roles.readers),
        "app": {"team": random.choice(_TEAMS), "teams": random.sample(_TEAMS, 2)},
        "level": random.choice(_LEVELS),
    }


def draw_other_claims(random: Random, roles: Roles, claims: dict[str, Any]) -> dict[str, Any]:
    """Of the same user."""
    name = random.choice(("role", "app", "level"))
    return claims | {name: draw_claims(random, roles, claims["sub"])[name]}


def draw_schema(random: Random) -> Schema:
    schema = Schema({MEMBERS.name: MEMBERS})
    for _ in range(random.randint(2, 4)):
        table = draw_table(random, schema)
        schema.tables[table.name] = table
    return schema


def draw_table(random: Random, schema: Schema) -> Table:
    """One more. No statement changes a row of it twice by itself, as it would if two of the rows that it refers to
    could go at once: what there is in between no snapshot shows."""
    table = random_shapes.draw_table(random, schema)
    if len(table.references) > 1:
        references = tuple(replace(one, on_delete="CASCADE") for one in table.references)
        table = replace(table, references=references)
    return table


def first_rows(random: Random, schema: Schema) -> Iterator[str]:
    """Statements that fill the tables, parents first."""
    for _ in range(6):
        yield draw_membership(random)
    yield from random_shapes.first_rows(random, schema)


def draw_membership(random: Random) -> str:
    """A statement that changes who is a member of what."""
    person, topic, team = random.choice(USERS), random.choice(_TOPICS), random.choice(_TEAMS)
    chosen = random.choice((f"person = '{person}'", f"topic = {topic}", f"id = {random.randint(1, 8)}"))
    match random.randrange(4):
        case 0:
            return f"DELETE FROM members WHERE {chosen}"
        case 1:
            change = random.choice((f"person = '{person}'", f"topic = {topic}", f"team = '{team}'"))
            return f"UPDATE members SET {change} WHERE {chosen}"
    row = f"{random.randint(1, 8)}, '{person}', {topic}, '{team}'"
    return (
        f"INSERT INTO members (id, person, topic, team) VALUES ({row})"
        " ON CONFLICT (id) DO UPDATE SET (person, topic, team) = (excluded.person, excluded.topic, excluded.team)"
    )


# ---- rights ----------------------------------------------------------------------------------------------------------


def first_rights(random: Random, roles: Roles, schema: Schema, table: Table) -> Iterator[str]:
    """Statements after which most clients may read something of ``table``."""
    for reader in roles.readers:
        if table.name == MEMBERS.name:
            yield f"GRANT SELECT ON {table.name} TO {reader}"  # or hardly anything can be read
        elif random.random() < 0.95:
            yield _grant(random, table, reader)
        if random.random() < 0.9:
            yield f"GRANT INSERT, UPDATE, DELETE ON {table.name} TO {reader}"
    if random.random() < 0.75:
        yield f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY"
    if random.random() < 0.9:
        condition = draw_condition(random, schema, table)
        if random.random() < 0.4:
            condition = f"({condition}) OR ({_of_columns(random, schema, table)})"
        yield f"CREATE POLICY {_POLICIES[0]} ON {table.name} USING ({condition})"
    for name in _POLICIES[1 : random.choice((1, 2, 2, 3))]:
        yield _policy(random, roles, schema, table, name)


def draw_change_of_rights(random: Random, roles: Roles, schema: Schema) -> str:
    """One statement. It may well fail, or change nothing."""
    table = random.choice(list(schema.tables.values()))
    name = random.choice(_POLICIES)
    match random.randrange(11):
        case 0 | 1:
            return _policy(random, roles, schema, table, name)
        case 2:
            return f"DROP POLICY IF EXISTS {name} ON {table.name}"
        case 3 | 4:
            return f"ALTER POLICY {_POLICIES[0]} ON {table.name} USING ({draw_condition(random, schema, table)})"
        case 5:
            return f"ALTER POLICY {_POLICIES[0]} ON {table.name} TO {roles.draw(random)}"
        case 6:
            switch = random.choice(("ENABLE", "ENABLE", "DISABLE"))
            return f"ALTER TABLE {table.name} {switch} ROW LEVEL SECURITY"
        case 7:
            return membership(random.choice(("m.person = auth.uid()", "m.team = auth.jwt() -> 'app' ->> 'team'")))
        case 8:
            return f"REVOKE {random.choice(('SELECT', 'ALL'))} ON {table.name} FROM {roles.draw(random)}"
    return _grant(random, table, roles.draw(random))


def draw_change_of_roles(random: Random, roles: Roles) -> str:
    reader = random.choice(roles.readers)
    return random.choice((f"GRANT {roles.group} TO {reader}", f"REVOKE {roles.group} FROM {reader}"))


def _grant(random: Random, table: Table, role: str) -> str:
    if random.random() < 0.8:
        return f"GRANT SELECT ON {table.name} TO {role}"
    columns = [column.name for column in table.columns]
    chosen = random.sample(columns, random.randint(0, len(columns) - 1))
    # Without the key, a table can hardly be read. That is tried, too.
    keys = [column.name for column in table.key][random.random() < 0.05 :]
    names = ", ".join((*keys, *chosen)) or columns[0]
    return f"REVOKE SELECT ON {table.name} FROM {role}; GRANT SELECT ({names}) ON {table.name} TO {role}"


def _policy(random: Random, roles: Roles, schema: Schema, table: Table, name: str) -> str:
    is_permissive = random.random() < 0.75
    # Those for writing matter for what clients upload.
    command = random.choice(("SELECT", "SELECT", "ALL", "ALL", "UPDATE"))
    return (
        f"CREATE POLICY {name} ON {table.name} AS {'PERMISSIVE' if is_permissive else 'RESTRICTIVE'} FOR {command}"
        f" TO {random.choice(('PUBLIC', 'PUBLIC', roles.draw(random)))}"
        f" USING ({draw_condition(random, schema, table)})"
    )


# ---- conditions ------------------------------------------------------------------------------------------------------


def draw_condition(random: Random, schema: Schema, table: Table) -> str:
    text = _operand(random, schema, table)
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        text = f"({text}) {random.choice(('AND', 'OR', 'OR'))} ({_operand(random, schema, table)})"
    return text


#: Draws a condition on one row of a table.
_Kind = Callable[[Random, Schema, Table], str]


def _operand(random: Random, schema: Schema, table: Table) -> str:
    kind = random.choice(_KINDS)
    text = kind(random, schema, table)
    if random.random() < 0.15 and " IN (SELECT" not in text:  # which is not followed within NOT
        return f"NOT ({text})"
    return text


def _of_columns(random: Random, schema: Schema, table: Table) -> str:
    column = table.favourite if random.random() < 0.5 else random.choice((*table.key, *table.columns))
    return _comparison(random, f"{table.name}.{column.name}", column)


def _comparison(random: Random, name: str, column: Column) -> str:
    if column.type == "bool":
        return random.choice((name, f"{name} IS NOT TRUE", f"NOT {name}"))
    if column.type == "int4":
        return random.choice(
            (
                f"{name} = ({_CLAIMS} ->> 'level')::int",
                f"{name} <= (auth.jwt() ->> 'level')::int",
                f"{name} IN (1, 2, 3)",
                f"{name} <> 0",
                f"{name} IS NULL",
            )
        )
    return random.choice(
        (
            f"{name} = {_CLAIMS} ->> 'sub'",
            f"{name} = {_CLAIMS} -> 'app' ->> 'team'",
            f"{name} <> (SELECT auth.uid())",
            f"{name} IN ('a', 'k1', 'k2', auth.jwt() -> 'app' -> 'teams' ->> 0)",
            f"{name} LIKE 'a%'",
            f"{name} IS NULL",
        )
    )


def _of_nothing(random: Random, schema: Schema, table: Table) -> str:
    return random.choice(
        (
            "true",
            "true",
            "false",
            f"{_CLAIMS} -> 'app' ->> 'team' <> 'a'",
            "(auth.jwt() ->> 'level')::int > 0",
            "auth.uid() = 'ann'",
            "auth.jwt() ->> 'role' = current_user",
        )
    )


def _of_members(random: Random, schema: Schema, table: Table) -> str:
    """Look at the reader's memberships."""
    if table.name == MEMBERS.name:  # whose policies would look at themselves
        return f"person = {random.choice((f'{_CLAIMS} ->> ', 'auth.jwt() ->> '))}'sub'"
    mine = random.choice(
        ("m.person = auth.uid()", f"m.person = {_CLAIMS} ->> 'sub'", "m.team = auth.jwt() -> 'app' ->> 'team'")
    )
    column = random.choice((*table.key, *table.columns))
    name = f"{table.name}.{column.name}"
    if column.type == "bool":
        return f"EXISTS (SELECT 1 FROM members m WHERE {mine} AND {name})"
    if column.type == "text":
        return random.choice(
            (
                f"EXISTS (SELECT 1 FROM members m WHERE m.team = {name} AND {mine})",
                f"EXISTS (SELECT 1 FROM members m WHERE m.person = {name} AND {mine})",
                f"{name} IN (SELECT m.team FROM members m WHERE {mine})",
            )
        )
    return random.choice(
        (
            f"EXISTS (SELECT 1 FROM members m WHERE m.topic = {name} AND {mine})",
            f"EXISTS (SELECT FROM members m WHERE m.topic > {name} AND {mine})",
            f"{name} IN (SELECT m.topic FROM members m WHERE {mine})",
            f"is_member({name})",
        )
    )


def _of_parents(random: Random, schema: Schema, table: Table) -> str:
    """Look at a row that this one refers to, as far as the reader may see it."""
    if not table.references:
        return _of_members(random, schema, table)
    reference = random.choice(table.references)
    parent, name = schema.tables[reference.table], f"{table.name}.{reference.column}"
    column = random.choice((*parent.key, *parent.columns))
    condition = random.choice((_comparison(random, f"p.{column.name}", column), "true"))
    return random.choice(
        (
            f"EXISTS (SELECT 1 FROM {parent.name} p WHERE p.id = {name} AND {condition})",
            f"{name} IN (SELECT p.id FROM {parent.name} p WHERE {condition})",
        )
    )


def _asked_of_postgres(random: Random, schema: Schema, table: Table) -> str:
    columns = [one for one in (*table.key, *table.columns) if one.type in ("text", "int4")]
    column = random.choice(columns)
    function = "is_mine" if column.type == "text" else "belongs_to"
    return f"{function}({table.name}.{column.name})"


def is_asked(statement: str) -> bool:
    """Whether it makes a policy that only Postgres can follow."""
    return "is_mine(" in statement or "belongs_to(" in statement


#: What conditions are made of.
_KINDS: tuple[_Kind, ...] = (
    *(_of_columns, _of_columns, _of_nothing, _of_members, _of_members, _of_parents),
    _asked_of_postgres,
)
