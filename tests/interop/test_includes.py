"""The stock client with shapes along foreign keys: each client has what its shapes select and all that this refers to,
whatever happens meanwhile, and its own foreign keys hold."""

from __future__ import annotations

import signal
from typing import Any

import psycopg
import pytest

from interop.client import Driver, DriverError
from interop.conftest import Factory, ServiceFactory
from interop.service import Leyden
from interop.tables import complaints, connected

SCHEMA: dict[str, Any] = {
    "tables": {
        "users": {"columns": {"id": "int4", "name": "text"}, "pk": ["id"]},
        "projects": {
            "columns": {"id": "int4", "status": "text", "owner_id": "int4"},
            "pk": ["id"],
            "fks": [{"columns": ["owner_id"], "table": "users", "refColumns": ["id"]}],
        },
        "issues": {
            "columns": {"id": "int4", "status": "text", "project_id": "int4", "author_id": "int4"},
            "pk": ["id"],
            "fks": [
                {"columns": ["project_id"], "table": "projects", "refColumns": ["id"]},
                {"columns": ["author_id"], "table": "users", "refColumns": ["id"]},
            ],
        },
        "comments": {
            "columns": {"id": "int4", "body": "text", "issue_id": "int4", "author_id": "int4"},
            "pk": ["id"],
            "fks": [
                {"columns": ["issue_id"], "table": "issues", "refColumns": ["id"]},
                {"columns": ["author_id"], "table": "users", "refColumns": ["id"]},
            ],
        },
    },
    "migrations": [],
}

TABLES = """
CREATE TABLE users (id int4 PRIMARY KEY, name text);
CREATE TABLE projects (id int4 PRIMARY KEY, status text, owner_id int4 REFERENCES users);
CREATE TABLE issues (id int4 PRIMARY KEY, status text, project_id int4 REFERENCES projects,
                     author_id int4 REFERENCES users);
CREATE TABLE comments (id int4 PRIMARY KEY, body text, issue_id int4 REFERENCES issues,
                       author_id int4 REFERENCES users);
CALL electric.electrify('users');
CALL electric.electrify('projects');
CALL electric.electrify('issues');
CALL electric.electrify('comments');
INSERT INTO users VALUES (1, 'ann'), (2, 'bob'), (3, 'cid'), (4, 'dan');
INSERT INTO projects VALUES (10, 'open', 1), (11, 'closed', 2);
INSERT INTO issues VALUES (100, 'open', 10, 1), (101, 'open', 11, 3), (102, 'closed', 10, 2);
INSERT INTO comments VALUES (1000, 'x', 100, 2), (1001, 'y', 101, 1);
"""

#: What a client with the shape below must have, in the words of the database.
EXPECTED = {
    "projects": "SELECT * FROM projects WHERE status = 'open'",
    "issues": "SELECT * FROM issues WHERE project_id IN (SELECT id FROM projects WHERE status = 'open')",
    "comments": "SELECT c.* FROM comments c JOIN issues i ON i.id = c.issue_id JOIN projects p ON p.id = i.project_id"
    " WHERE p.status = 'open'",
}
EXPECTED["users"] = (
    f"SELECT * FROM users WHERE id IN (SELECT owner_id FROM ({EXPECTED['projects']}) p)"
    f" OR id IN (SELECT author_id FROM ({EXPECTED['issues']}) i)"
    f" OR id IN (SELECT author_id FROM ({EXPECTED['comments']}) c)"
)
OPEN = {"where": {"status": "open"}, "include": {"issues": {"include": {"comments": True}}}}


async def settled(driver: Driver, conn: psycopg.Connection[Any], client: str = "a") -> None:
    """Waits for a row that is in the shape, then compares the client's rows with those that it should have."""
    number = conn.execute("SELECT max(id) + 1 FROM projects WHERE id >= 500").fetchone()
    marker = (number and number[0]) or 500
    conn.execute("INSERT INTO projects VALUES (%s, 'open', NULL)", [marker])
    await driver("waitRow", client=client, sql=f"SELECT * FROM projects WHERE id = {marker}", timeoutMs=20000)
    for table, query in EXPECTED.items():
        expected = sorted(conn.execute(query).fetchall())  # type: ignore[arg-type]
        rows = await driver("query", client=client, sql=f"SELECT * FROM {table}")
        assert sorted(tuple(row.values()) for row in rows) == expected, table
    assert await driver("query", client=client, sql="PRAGMA foreign_key_check") == []
    assert complaints(driver) == []


@pytest.fixture
async def service(leyden: ServiceFactory) -> Leyden:
    return await leyden(AUTH_MODE="insecure")


async def test_rows_move_with_those_that_they_hang_on(service: Leyden, driver: Factory) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute(TABLES)
        await connected(client, service, "a", schema=SCHEMA)
        await client("sync", client="a", table="projects", wait=True, **OPEN)
        await settled(client, conn)
        for statement in (
            "UPDATE projects SET status = 'open' WHERE id = 11",
            "UPDATE projects SET status = 'closed' WHERE id = 10",
            "UPDATE issues SET project_id = 11 WHERE id = 100; UPDATE projects SET owner_id = 4 WHERE id = 11",
            "UPDATE projects SET owner_id = NULL",
            "DELETE FROM comments; DELETE FROM issues WHERE id = 101",
            "BEGIN; INSERT INTO projects VALUES (12, 'closed', 3); INSERT INTO issues VALUES (103, 'new', 12, 4);"
            " INSERT INTO comments VALUES (1002, 'z', 103, 1); UPDATE projects SET status = 'open'; COMMIT",
            "TRUNCATE comments",
            "UPDATE projects SET status = 'closed'",
        ):
            conn.execute(statement)  # type: ignore[arg-type]
            await settled(client, conn)


@pytest.mark.parametrize("restart", [None, signal.SIGTERM, signal.SIGKILL], ids=["same process", "stopped", "killed"])
async def test_a_client_comes_back_to_what_moved_meanwhile(
    leyden: ServiceFactory, driver: Factory, restart: signal.Signals | None
) -> None:
    service, client = await leyden(AUTH_MODE="insecure"), await driver()
    port = int(service.url.rpartition(":")[2])
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute(TABLES)
        await connected(client, service, "a", schema=SCHEMA)
        await client("sync", client="a", table="projects", wait=True, **OPEN)
        await settled(client, conn)
        await client("disconnect", client="a")
        conn.execute("UPDATE projects SET status = CASE status WHEN 'open' THEN 'closed' ELSE 'open' END")
        conn.execute("INSERT INTO users VALUES (70, 'new')")
        conn.execute("UPDATE issues SET author_id = 70 WHERE id = 101")
        if restart is not None:
            await service.stop(restart)
            conn.execute("UPDATE comments SET author_id = 70")
            conn.execute("INSERT INTO projects VALUES (13, 'open', 4); UPDATE issues SET project_id = 13")
            await leyden(AUTH_MODE="insecure", port=port)
        await client("connect", client="a", timeoutMs=20000)
        await settled(client, conn)


async def test_what_another_shape_holds_stays_when_one_is_given_up(service: Leyden, driver: Factory) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute(TABLES)
        await connected(client, service, "a", schema=SCHEMA)
        await client("sync", client="a", table="issues", key="all", include={"comments": True}, wait=True)
        await client("sync", client="a", table="users", key="users", wait=True)
        await client("sync", client="a", table="projects", key="open", wait=True, **OPEN)
        await client("unsubscribe", client="a", keys=["all"])
        await client("waitRow", client="a", sql="SELECT count(*) AS n FROM issues", expect={"n": 2}, timeoutMs=20000)
        rows = await client("query", client="a", sql="SELECT id FROM users ORDER BY id")
        assert [row["id"] for row in rows] == [1, 2, 3, 4]
        await client("unsubscribe", client="a", keys=["users"])
        await client("waitRow", client="a", sql="SELECT count(*) AS n FROM users", expect={"n": 2}, timeoutMs=20000)
        await settled(client, conn)


async def test_includes_that_cannot_be_served_are_refused_and_the_client_goes_on(
    service: Leyden, driver: Factory
) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute(TABLES)
        await connected(client, service, "a", schema=SCHEMA)
        filtered = [{"foreignKey": ["author_id"], "select": {"tablename": "users", "where": "this.id = 1"}}]
        nowhere = [{"foreignKey": ["nowhere"], "select": {"tablename": "users"}}]
        for include in (filtered, nowhere):
            shape = {"tablename": "issues", "include": include}
            with pytest.raises(DriverError, match=r"(?i)include of table users"):
                await client("sync", client="a", shapes=[shape], wait=True, timeoutMs=10000)
        await client("sync", client="a", table="projects", wait=True, **OPEN)
        await settled(client, conn)
