"""Where Postgres means something else than it seems."""

from __future__ import annotations

import pytest

from leyden.model import Table
from policies_place import ANN_CLAIMS, Place

#: What is there besides, and a condition.
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
    "a namesake with a default of another type": (
        "CREATE FUNCTION lower(varchar, mood[] DEFAULT NULL) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'x'$$;"
        "CREATE FUNCTION seen(varchar) RETURNS boolean LANGUAGE sql AS $$SELECT lower($1) = 'acme'$$",
        "seen(org)",
    ),
    "IS DISTINCT FROM, which is printed without its operator": (
        "CREATE FUNCTION never(varchar, varchar) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';"
        "CREATE OPERATOR = (FUNCTION = never, LEFTARG = varchar, RIGHTARG = varchar)",
        "org IS NOT DISTINCT FROM 'acme'::varchar",
    ),
    "the same within a subquery": (
        "CREATE FUNCTION never(varchar, varchar) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';"
        "CREATE OPERATOR = (FUNCTION = never, LEFTARG = varchar, RIGHTARG = varchar)",
        "exists (select from projects p where p.team::varchar is distinct from docs.org)",
    ),
    "NULLIF, which is printed without its operator": (
        "CREATE FUNCTION always(varchar, varchar) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';"
        "CREATE OPERATOR = (FUNCTION = always, LEFTARG = varchar, RIGHTARG = varchar)",
        "owner = nullif(current_setting('request.jwt.claim.sub', true)::varchar, ''::varchar)",
    ),
    "a cast by another function": (
        "CREATE FUNCTION to_uuid(text) RETURNS uuid LANGUAGE sql IMMUTABLE AS 'SELECT NULL::uuid';"
        "CREATE CAST (text AS uuid) WITH FUNCTION to_uuid(text)",
        "uid = auth.uid()",
    ),
    "a cast of an enum by another function": (
        "CREATE FUNCTION mood_text(mood) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'hidden'$$;"
        "CREATE CAST (mood AS text) WITH FUNCTION mood_text(mood)",
        "feels::text = 'calm'",
    ),
    "a path that is handed on through a policy": (
        "CREATE SCHEMA private; CREATE TABLE private.members AS SELECT * FROM public.members WHERE project = 1;"
        "GRANT USAGE ON SCHEMA private TO PUBLIC; GRANT SELECT ON private.members TO PUBLIC;"
        "CREATE FUNCTION inner_one(int) RETURNS boolean LANGUAGE sql AS"
        " 'SELECT EXISTS (SELECT FROM members m WHERE m.project = $1)';"
        "ALTER TABLE projects ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY q ON projects FOR SELECT USING (inner_one(id));"
        "CREATE FUNCTION seen(int) RETURNS boolean LANGUAGE sql SET search_path = private AS"
        " 'SELECT EXISTS (SELECT FROM public.projects p WHERE p.id = $1)'",
        "seen(n)",
    ),
    "a schema whose name is a quote": (
        'CREATE SCHEMA """"; GRANT USAGE ON SCHEMA """" TO PUBLIC;'
        'CREATE FUNCTION """".lower(varchar) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT \'x\'$$;'
        'CREATE FUNCTION seen(varchar) RETURNS boolean LANGUAGE sql SET search_path = """" AS'
        " $$SELECT lower($1) = 'acme'$$",
        "seen(org)",
    ),
    "an operator among Postgres' own": (
        "CREATE FUNCTION never(varchar, varchar) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';"
        "CREATE OPERATOR pg_catalog.= (FUNCTION = never, LEFTARG = varchar, RIGHTARG = varchar)",
        "org = 'acme'::varchar",
    ),
    "a function among Postgres' own": (
        "CREATE FUNCTION pg_catalog.lower(varchar) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'acme'$$;"
        "CREATE FUNCTION seen(varchar) RETURNS boolean LANGUAGE sql AS $$SELECT lower($1) = 'acme'$$",
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


@pytest.mark.parametrize("path", ["''", "pg_catalog", "pg_catalog, pg_temp"])
def test_on_some_search_paths_there_is_none_but_postgres_own(place: Place, table: Table, path: str) -> None:
    with place.conn.transaction(force_rollback=True):
        place.conn.execute(
            "CREATE FUNCTION lower(varchar) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'acme'$$;"
            "CREATE FUNCTION is_acme(varchar) RETURNS boolean LANGUAGE sql AS $$SELECT lower($1) = 'acme'$$;"
            f"CREATE FUNCTION seen(varchar) RETURNS boolean LANGUAGE sql SET search_path = {path} AS"  # type: ignore[arg-type]
            " $$SELECT lower($1) <> '' AND public.is_acme($1)$$"
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
