"""What policies let two users of the stock client see, at first and as rows, memberships and policies change."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from interop.client import Driver
from interop.conftest import Factory, ServiceFactory
from interop.tables import complaints, connected, id_of
from interop.test_authentication import Issuer
from interop.test_write_rights import Guarded, guarded, rows

__all__ = ["guarded"]

SCHEMA = {
    "tables": {
        "projects": {"columns": {"id": "uuid", "name": "text"}, "pk": ["id"]},
        "docs": {
            "columns": {"id": "uuid", "project": "uuid", "owner": "text", "body": "text", "secret": "text"},
            "pk": ["id"],
            "fks": [{"columns": ["project"], "table": "projects", "refColumns": ["id"]}],
        },
        "members": {"columns": {"id": "uuid", "project": "uuid", "person": "text"}, "pk": ["id"]},
    },
    "migrations": [],
}

TABLES = """
CREATE TABLE projects (id uuid PRIMARY KEY, name text);
CREATE TABLE docs (id uuid PRIMARY KEY, project uuid REFERENCES projects, owner text, body text, secret text);
CREATE TABLE members (id uuid PRIMARY KEY, project uuid, person text);
CALL electric.electrify('projects');
CALL electric.electrify('docs');
CALL electric.electrify('members');
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON members USING (person = current_setting('request.jwt.claims', true)::jsonb ->> 'sub');
CREATE POLICY member ON docs FOR SELECT USING (owner = current_setting('request.jwt.claims', true)::jsonb ->> 'sub'
    OR EXISTS (SELECT FROM members m WHERE m.project = docs.project));
CREATE POLICY writing ON docs FOR UPDATE USING (true);
GRANT SELECT ON projects, members TO {role};
GRANT SELECT (id, project, owner, body), UPDATE (body) ON docs TO {role};
"""


def make_tables(conn: psycopg.Connection[Any], role: str) -> None:
    for statement in TABLES.split(";\n"):
        conn.execute(sql.SQL(statement).format(role=sql.Identifier(role)))


def fill(conn: psycopg.Connection[Any]) -> None:
    conn.execute("INSERT INTO projects VALUES (%s, 'P')", [id_of(90)])
    for number, owner in ((1, "ann"), (2, "bob"), (3, None)):
        conn.execute("INSERT INTO docs VALUES (%s, %s, %s, %s, 's')", [id_of(number), id_of(90), owner, f"{number}"])


async def see(driver: Driver, client: str, *docs: tuple[Any, ...]) -> None:
    """Waits until the client holds these, and no others."""
    await driver("waitRow", client=client, sql="SELECT * FROM docs", count=len(docs))
    assert await rows(driver, client, "docs", "body, secret") == list(docs)


async def test_two_users_see_what_their_policies_let_through(
    leyden: ServiceFactory, driver: Factory, guarded: Guarded
) -> None:
    issuer = Issuer("ES256")
    service = await leyden(**issuer.env, DATABASE_URL=guarded.url, AUTH_DB_ROLE=guarded.role)
    with psycopg.connect(guarded.url, autocommit=True) as conn:
        make_tables(conn, guarded.role)
        fill(conn)
        client = await driver()
        for user in ("ann", "bob"):
            await connected(client, service, user, "docs", schema=SCHEMA, token=issuer.token(user))
        await see(client, "ann", ("1", None))
        await see(client, "bob", ("2", None))
        assert await rows(client, "ann", "projects", "name") == [("P",)]

        # a member of the project, and none any more
        conn.execute("INSERT INTO members VALUES (%s, %s, 'ann')", [id_of(50), id_of(90)])
        await see(client, "ann", ("1", None), ("2", None), ("3", None))
        await see(client, "bob", ("2", None))
        await client("run", client="ann", sql=f"UPDATE docs SET body = 'by ann' WHERE id = '{id_of(2)}'")
        await client("waitRow", client="bob", sql="SELECT * FROM docs WHERE body = 'by ann'")
        conn.execute("DELETE FROM members")
        await see(client, "ann", ("1", None))

        # what may not be read cannot be written, and is not shown for it
        await client("run", client="ann", sql=f"UPDATE docs SET secret = 'x' WHERE id = '{id_of(1)}'")
        await client("waitOplogEmpty", client="ann")
        await see(client, "ann", ("1", None))
        secrets = conn.execute("SELECT DISTINCT secret FROM docs").fetchall()
        assert secrets == [("s",)]

        # offline while a row changes hands
        await client("disconnect", client="ann")
        conn.execute("UPDATE docs SET owner = 'bob' WHERE id = %s", [id_of(1)])
        conn.execute("UPDATE docs SET owner = 'ann' WHERE id = %s", [id_of(3)])
        await client("connect", client="ann", token=issuer.token("ann"), timeoutMs=10000)
        await client("waitRow", client="ann", sql="SELECT * FROM docs WHERE body = '3'")
        await see(client, "ann", ("3", None))
        await see(client, "bob", ("1", None), ("by ann", None))

        # another policy: both are cut off, come back, and the app subscribes again
        conn.execute("ALTER POLICY member ON docs USING (body = '1')")
        for user in ("ann", "bob"):
            await client("waitRow", client=user, sql="SELECT * FROM docs", count=0)
            await client("sync", client=user, table="docs")
            await see(client, user, ("1", None))
    assert complaints(client) == []


ASKED = """
CREATE FUNCTION may_see(whose text, what uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN whose = current_setting('request.jwt.claims', true)::jsonb ->> 'sub'
        OR EXISTS (SELECT FROM public.members WHERE project = what);
END $$;
ALTER POLICY member ON docs USING (may_see(owner, project))
"""


async def test_policies_that_leyden_does_not_understand_are_postgres_own(
    leyden: ServiceFactory, driver: Factory, guarded: Guarded
) -> None:
    issuer = Issuer("ES256")
    service = await leyden(**issuer.env, DATABASE_URL=guarded.url, AUTH_DB_ROLE=guarded.role)
    with psycopg.connect(guarded.url, autocommit=True) as conn:
        make_tables(conn, guarded.role)
        conn.execute(ASKED)
        fill(conn)
        client = await driver()
        for user in ("ann", "bob"):
            await connected(client, service, user, "docs", schema=SCHEMA, token=issuer.token(user))
        await see(client, "ann", ("1", None))
        await see(client, "bob", ("2", None))
        assert await rows(client, "ann", "projects", "name") == [("P",)]

        # a member of the project, and none any more
        conn.execute("INSERT INTO members VALUES (%s, %s, 'ann')", [id_of(50), id_of(90)])
        await see(client, "ann", ("1", None), ("2", None), ("3", None))
        await client("run", client="ann", sql=f"UPDATE docs SET body = 'by ann' WHERE id = '{id_of(2)}'")
        await client("waitOplogEmpty", client="ann")
        await client("waitRow", client="bob", sql="SELECT * FROM docs WHERE body = 'by ann'")
        conn.execute("DELETE FROM members")
        await see(client, "ann", ("1", None))
        await see(client, "bob", ("by ann", None))

        # offline while rows change hands
        await client("disconnect", client="ann")
        conn.execute("UPDATE docs SET owner = 'bob' WHERE id = %s", [id_of(1)])
        conn.execute("UPDATE docs SET owner = 'ann' WHERE id = %s", [id_of(3)])
        await client("connect", client="ann", token=issuer.token("ann"), timeoutMs=10000)
        await client("waitRow", client="ann", sql="SELECT * FROM docs WHERE body = '3'")
        await see(client, "ann", ("3", None))
        await see(client, "bob", ("1", None), ("by ann", None))
    assert complaints(client) == []
