"""``leyden shape explain`` for clients that read as a database role."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from explaining import Explain, checks, refusal, verdict

POLICIES = """
GRANT SELECT ON members, comments TO {role};
GRANT SELECT (id, title, status, assignee) ON issues TO {role};
ALTER TABLE issues ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON issues USING (assignee = current_setting('request.jwt.claims')::jsonb ->> 'sub'
    OR EXISTS (SELECT FROM members m WHERE m.project = issues.id - 6
               AND m.person = current_setting('request.jwt.claims')::jsonb ->> 'sub'));
INSERT INTO comments VALUES (1, 7, 'a'), (2, 8, 'b');
"""


@pytest.fixture
def role(database: str, explain: Explain) -> Iterator[str]:
    with psycopg.connect(database, autocommit=True) as conn:
        role = f"reader_{conn.info.dbname}"
        conn.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
        conn.execute(sql.SQL(POLICIES).format(role=sql.Identifier(role)))
        yield role
        conn.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
        conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.mark.parametrize(("user", "reaches"), [("bob", True), ("ann", True), ("eve", False)])
def test_the_policies_have_their_say_and_postgres_agrees(explain: Explain, role: str, user: str, reaches: bool) -> None:
    result = explain("issues", "--user", user, "--pk", "7", env={"AUTH_DB_ROLE": role})
    found = checks(result)
    assert result.exit_code == (0 if reaches else 1)
    assert found["database role may read it"].startswith(f'ok: as "{role}": its policies decide; of the columns only')
    assert found["policies let the row through"].startswith("ok" if reaches else "FAILED")
    assert found["Postgres says the same"].startswith("ok")
    assert verdict(result).startswith("Reaches the client: " if reaches else "Does not reach the client: the policies")


def test_rows_are_counted_as_the_role_sees_them(explain: Explain, role: str) -> None:
    assert verdict(explain("issues", "--user", "bob", env={"AUTH_DB_ROLE": role})).startswith(
        "At present 1 row reaches"
    )
    assert verdict(explain("issues", "--user", "eve", env={"AUTH_DB_ROLE": role})).startswith("At present 0 rows reach")
    assert verdict(explain("issues")).startswith("At present 3 rows reach")  # without a role


def test_what_the_role_may_not_read_is_refused_by_name(explain: Explain, role: str) -> None:
    env = {"AUTH_DB_ROLE": role}
    assert checks(explain("notes", "--user", "ann", env=env))["database role may read it"] == (
        "FAILED: Permission denied for table notes"
    )
    found = explain("issues", "--user", "ann", "--where", "this.priority > 1", env=env)
    assert verdict(found).endswith("Permission denied for column priority of table issues")


def test_a_row_that_policies_hide_does_not_come_along(explain: Explain, role: str) -> None:
    arguments = ("comments", "--row-of", "issues", "--pk", "7", "--user")
    assert verdict(explain(*arguments, "bob", env={"AUTH_DB_ROLE": role})).startswith("Reaches the client: ")
    assert "policies do not let it through" in verdict(explain(*arguments, "eve", env={"AUTH_DB_ROLE": role}))


def test_a_claim_that_makes_a_policy_fail_is_named(database: str, explain: Explain, role: str) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(
            "CREATE POLICY level ON issues USING ((current_setting('request.jwt.claims')::jsonb ->> 'level')::int > id)"
        )
    arguments = ("issues", "--user", "bob", "--pk", "7", "--claim")
    assert explain(*arguments, "level=1", env={"AUTH_DB_ROLE": role}).exit_code == 0
    result = explain(*arguments, "level=high", env={"AUTH_DB_ROLE": role})
    assert result.exit_code == 1
    assert "a policy fails for this client" in result.stderr
    assert 'invalid input syntax for type integer: "high"' in result.stderr


def test_the_role_is_the_one_that_the_claims_name(explain: Explain, role: str) -> None:
    env = {"AUTH_DB_ROLE_CLAIM": "role", "AUTH_DB_ROLES": role}
    named = explain("issues", "--user", "bob", "--claim", f"role={role}", "--pk", "7", env=env)
    assert verdict(named).startswith("Reaches the client: ")
    assert "role_missing" in refusal(explain("issues", "--user", "bob", "--pk", "7", env=env))


def test_the_answer_depends_on_the_client(explain: Explain, role: str) -> None:
    assert "policies decide which rows are read" in refusal(explain("issues", "--pk", "7", env={"AUTH_DB_ROLE": role}))


def test_policies_that_are_not_understood_are_asked_of_postgres(database: str, explain: Explain, role: str) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("CREATE POLICY odd ON issues AS RESTRICTIVE USING (title ~ '')")
    env = {"AUTH_DB_ROLE": role}
    for user, reaches in (("ann", True), ("eve", False)):
        result = explain("issues", "--user", user, "--pk", "7", env=env)
        assert result.exit_code == (0 if reaches else 1)
        found = checks(result)
        assert "asked of Postgres for each reader" in found["database role may read it"]
        assert "The policy odd of table issues cannot be followed: " in found["database role may read it"]
        assert found["policies let the row through"].startswith("ok" if reaches else "FAILED")
        assert found["Postgres says the same"].startswith("ok")
