"""``leyden check``: what the database lacks, and which tables are open to everybody."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from command_line import run
from explaining import checks
from interop.service import database_url

TABLES = """
CREATE TABLE open (id int PRIMARY KEY);
CREATE TABLE shut (id int PRIMARY KEY);
CREATE TABLE own (id int PRIMARY KEY, owner text, secret text);
CREATE TABLE odd (id int PRIMARY KEY);
CREATE TABLE closed (id int PRIMARY KEY);
GRANT SELECT ON open, shut, odd TO {role};
GRANT SELECT (id, owner) ON own TO {role};
ALTER TABLE shut ENABLE ROW LEVEL SECURITY;
ALTER TABLE own ENABLE ROW LEVEL SECURITY;
ALTER TABLE odd ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON own USING (owner = current_setting('request.jwt.claim.sub'));
CREATE POLICY late ON odd USING (now() > '2020-01-01');
"""


def test_tables_that_are_open_shut_or_not_understood_are_listed(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        role = f"reader_{conn.info.dbname}"
        conn.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
        try:
            conn.execute(sql.SQL(TABLES).format(role=sql.Identifier(role)))
            for name in ("open", "shut", "own", "odd", "closed"):
                conn.execute("CALL electric.electrify(%s)", [name])
            env = {"DATABASE_URL": database_url(database)}
            result = run("check", env={**env, "AUTH_DB_ROLE": role})
            found = {
                name.replace('"', "").removesuffix(f", role {role}"): what for name, what in checks(result).items()
            }
            assert result.exit_code == 1
            assert found["database"] == "ok: meets every requirement"
            assert found["table open"].startswith("FAILED: has no row-level security: every user reads every row")
            assert found["table shut"].startswith("FAILED: no policy lets anything through")
            assert found["table odd"].startswith("ok: policies: late; asked of Postgres for each reader, once for each")
            assert "The policy late of table odd cannot be followed: " in found["table odd"]
            assert found["table own"] == "ok: policies: mine; columns read: id, owner"
            assert found["table closed"] == "-: may not be read"
            result = run("check", env=env)
            assert result.exit_code == 0
            assert checks(result)['table "open"'].startswith("-: is read by everybody")
        finally:
            conn.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_a_database_that_lacks_something_is_told_so(empty_database: str) -> None:
    env = {"DATABASE_URL": database_url(empty_database), "AUTH_DB_ROLE": "nobody of this name"}
    result = run("check", env=env)
    assert result.exit_code == 1
    assert checks(result)["database: role_missing"].startswith("FAILED: there is no role")
    assert "not prepared" in checks(result)["tables"]


@pytest.mark.parametrize("env", [{"AUTH_DB_ROLES": "x"}, {"LEYDEN_REQUIRE_RLS": "true"}, {"DATABASE_URL": "x"}])
def test_a_wrong_configuration_is_named(env: dict[str, str]) -> None:
    result = run("check", env=env)
    assert result.exit_code == 2
    assert next(iter(env)) in result.stderr
