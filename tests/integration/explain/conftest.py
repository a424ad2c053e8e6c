"""A database with tables of every kind of interest, and the command on it."""

from __future__ import annotations

import psycopg
import pytest
from click.testing import Result
from psycopg import sql

from command_line import run
from explaining import Execute, Explain
from interop.service import database_url


@pytest.fixture
def execute(database: str) -> Execute:
    def execute(*statements: str | sql.Composable) -> None:
        with psycopg.connect(database, autocommit=True) as conn:
            for statement in statements:
                conn.execute(statement)  # type: ignore[arg-type]

    return execute


@pytest.fixture
def explain(database: str, execute: Execute) -> Explain:
    """``explain(*arguments, env=…, stdin=…)`` on a database with issues, their comments, notes with owners, and members
    whose key has two columns."""
    execute(
        "CREATE TYPE part AS ENUM ('reader', 'writer')",
        "CREATE TABLE issues (id int4 PRIMARY KEY, title text, status text, assignee text, priority int4)",
        "CREATE TABLE comments (id int4 PRIMARY KEY, issue_id int4 REFERENCES issues, body text)",
        "CREATE TABLE notes (id uuid PRIMARY KEY, org text, electric_user_id text)",
        "CREATE TABLE members (project int4, person text, active bool, part part,"
        " PRIMARY KEY (project, person, active))",
        "CREATE TABLE private (id int4 PRIMARY KEY)",
        *(f"CALL electric.electrify('{table}')" for table in ("issues", "comments", "notes", "members")),
        "INSERT INTO issues VALUES (7, 'Leak', 'open', 'bob', 2), (8, 'Old', 'closed', 'ann', 5),"
        " (9, 'New', NULL, 'ann', 1)",
        "INSERT INTO notes VALUES ('00000000-0000-0000-0000-00000000000a', 'acme', 'ann'),"
        " ('00000000-0000-0000-0000-00000000000b', 'acme', NULL)",
        "INSERT INTO members VALUES (1, 'ann', true, 'reader'), (1, 'a,b', false, 'writer')",
    )

    def explain(*arguments: str, env: dict[str, str] | None = None, stdin: str | None = None) -> Result:
        return run(
            "shape", "explain", *arguments, env={"DATABASE_URL": database_url(database), **(env or {})}, stdin=stdin
        )

    return explain
