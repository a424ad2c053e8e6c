"""Which commands say in the WAL that they may have changed policies or privileges, and which leave delivery alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from leyden.postgres import schema
from leyden.postgres.replication.announcement import RIGHTS_PREFIX

SCHEMA = """
CREATE TABLE items (id text PRIMARY KEY, owner text);
CALL electric.electrify('items');
CREATE SCHEMA helpers;
CREATE FUNCTION helpers.mine(text) RETURNS boolean LANGUAGE sql AS 'SELECT $1 = current_user';
CREATE TYPE helpers.mood AS ENUM ('ok');
CREATE FUNCTION helpers.of_mood(helpers.mood) RETURNS boolean LANGUAGE sql AS 'SELECT true';
ALTER TABLE items ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON items USING (helpers.mine(owner));
CREATE POLICY good ON items AS RESTRICTIVE USING (helpers.of_mood('ok'));
CREATE TABLE others (id int PRIMARY KEY, n int DEFAULT 1);
CREATE POLICY looks ON items AS RESTRICTIVE USING (NOT EXISTS (SELECT FROM others));
CREATE TABLE plain (id serial PRIMARY KEY, n int DEFAULT 1 CHECK (n > 0), other text UNIQUE);
CREATE INDEX plain_n ON plain (n);
CREATE MATERIALIZED VIEW summary AS SELECT 1;
CREATE TEMP TABLE scratch (id serial PRIMARY KEY, n int DEFAULT 1);
"""


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as conn:
        role = f"owner_{conn.info.dbname}"
        conn.execute(f"CREATE ROLE {role}; {SCHEMA}; ALTER FUNCTION helpers.mine OWNER TO {role}")  # type: ignore[arg-type]
        yield conn
        conn.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")  # type: ignore[arg-type]


@contextmanager
def listening(conn: psycopg.Connection[Any]) -> Iterator[list[bytes]]:
    """Afterwards the list holds the messages of what was committed meanwhile."""
    slot = f"rights_{conn.info.dbname}"
    conn.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput', true)", [slot])
    said: list[bytes] = []
    yield said
    rows = conn.execute(
        "SELECT data FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL,"
        " 'proto_version', '1', 'publication_names', 'leyden', 'messages', 'true')",
        [slot],
    )
    said += [data for (data,) in rows if RIGHTS_PREFIX.encode() in data]
    conn.execute("SELECT pg_drop_replication_slot(%s)", [slot])


@pytest.mark.parametrize(
    "command",
    [
        "ALTER POLICY mine ON items USING (true)",
        "DROP POLICY mine ON items",
        "GRANT SELECT ON items TO PUBLIC",
        "REVOKE SELECT ON items FROM PUBLIC",
        "ALTER TABLE items DISABLE ROW LEVEL SECURITY",
        "CREATE OR REPLACE FUNCTION helpers.mine(text) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
        "ALTER FUNCTION helpers.mine(text) SECURITY DEFINER",
        "ALTER ROUTINE helpers.mine(text) SET search_path = pg_catalog",
        "DROP FUNCTION helpers.mine(text) CASCADE",
        "DROP ROUTINE helpers.mine(text) CASCADE",
        "CREATE SCHEMA {role}",
        "ALTER SCHEMA helpers RENAME TO helping",
        "DROP SCHEMA helpers CASCADE",
        "DROP TYPE helpers.mood CASCADE",
        "DROP TABLE others CASCADE",
        "DROP OWNED BY {role} CASCADE",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
        "ALTER TABLE others RENAME TO more",
        "CREATE OR REPLACE VIEW seen AS SELECT",
        "DO $$BEGIN EXECUTE 'DROP SCHEMA helpers CASCADE'; END$$",
    ],
)
def test_whatever_may_change_what_policies_mean_is_told(conn: psycopg.Connection[Any], command: str) -> None:
    with listening(conn) as said:
        conn.execute(command.replace("{role}", f"owner_{conn.info.dbname}"))  # type: ignore[arg-type]
    assert said


@pytest.mark.parametrize(
    "command",
    [
        "CREATE TABLE new (id int PRIMARY KEY, parent int REFERENCES plain)",
        "CREATE TABLE new AS SELECT 1 AS one",
        "SELECT 1 AS one INTO new",
        "CREATE INDEX ON plain (other)",
        "REINDEX TABLE plain",
        "COMMENT ON TABLE plain IS 'plain'",
        "REFRESH MATERIALIZED VIEW summary",
        "DROP INDEX plain_n",
        "DROP TABLE plain",
        "CREATE TEMP TABLE new (id serial PRIMARY KEY); DROP TABLE new",
        "BEGIN; CREATE TEMP TABLE new (id int) ON COMMIT DROP; COMMIT",
        "ALTER TABLE scratch ADD COLUMN more text DEFAULT ''",
        "CREATE INDEX ON scratch (n)",
        "DROP TABLE scratch",
        "INSERT INTO plain (n) VALUES (1); TRUNCATE plain; VACUUM plain; ANALYZE plain",
    ],
)
def test_what_databases_do_all_the_time_is_not(conn: psycopg.Connection[Any], command: str) -> None:
    with listening(conn) as said:
        for statement in command.split("; "):
            conn.execute(statement)  # type: ignore[arg-type]
    assert not said


async def test_an_installation_with_fewer_event_triggers_gets_the_others(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        # as before every command counted
        await conn.execute(
            "DROP EVENT TRIGGER leyden_rights; DROP EVENT TRIGGER leyden_rights_drop;"
            "CREATE EVENT TRIGGER leyden_rights ON ddl_command_end WHEN TAG IN ('CREATE POLICY')"
            " EXECUTE FUNCTION leyden.on_rights(); ALTER EVENT TRIGGER leyden_rights ENABLE ALWAYS"
        )
        assert await schema.is_guarded(conn)  # tables are, meanwhile
        await schema.install(conn)
        cursor = await conn.execute("SELECT evtname, evttags FROM pg_event_trigger WHERE evtname LIKE 'leyden_rights%'")
        assert sorted(await cursor.fetchall()) == [("leyden_rights", None), ("leyden_rights_drop", None)]
        assert await schema.is_guarded(conn)
