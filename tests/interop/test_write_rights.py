"""What users may write, with the stock client: who oversteps is put right, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from interop.client import Driver
from interop.conftest import Factory, ServiceFactory
from interop.service import database_url
from interop.tables import complaints, connected, id_of
from interop.test_authentication import Issuer

DOCS = {
    "tables": {
        "folders": {"columns": {"id": "uuid", "name": "text"}, "pk": ["id"]},
        "docs": {
            "columns": {"id": "uuid", "owner": "text", "body": "text", "folder": "uuid"},
            "pk": ["id"],
            "fks": [{"columns": ["folder"], "table": "folders", "refColumns": ["id"]}],
        },
    },
    "migrations": [],
}

POLICIES = """
CREATE TABLE folders (id uuid PRIMARY KEY, name text);
CREATE TABLE docs (id uuid PRIMARY KEY, owner text, body text, folder uuid REFERENCES folders);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON docs USING (owner = current_setting('request.jwt.claims')::jsonb ->> 'sub');
CREATE POLICY seen ON docs FOR SELECT USING (true);
GRANT SELECT ON folders TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON docs TO {role};
"""


@dataclass(frozen=True)
class Guarded:
    """A database whose service is no superuser, and a role that its users write as."""

    admin: psycopg.Connection[Any]
    url: str
    role: str


@pytest.fixture
def guarded(new_database: str) -> Iterator[Guarded]:
    with psycopg.connect(new_database, autocommit=True) as admin:
        service, role = f"service_{admin.info.dbname}", f"users_{admin.info.dbname}"
        names = {"service": sql.Identifier(service), "role": sql.Identifier(role)}
        for statement in (
            "CREATE ROLE {role} NOLOGIN",
            "CREATE ROLE {service} LOGIN REPLICATION NOSUPERUSER",
            "GRANT {role} TO {service}",
            "GRANT CREATE ON SCHEMA public TO {service}",
        ):
            admin.execute(sql.SQL(statement).format(**names))
        admin.execute(
            sql.SQL("GRANT CREATE ON DATABASE {} TO {service}").format(sql.Identifier(admin.info.dbname), **names)
        )
        yield Guarded(admin, database_url(make_conninfo(new_database, user=service)), role)
        admin.execute("SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE active")
        admin.execute("DROP PUBLICATION IF EXISTS leyden")
        for statement in ("DROP OWNED BY {service}, {role} CASCADE", "DROP ROLE {service}, {role}"):
            admin.execute(sql.SQL(statement).format(**names))


async def rows(driver: Driver, client: str, table: str, columns: str) -> list[tuple[Any, ...]]:
    return [
        tuple(row.values())
        for row in await driver("query", client=client, sql=f"SELECT {columns} FROM {table} ORDER BY id")
    ]


async def test_policies_decide_what_a_user_writes(leyden: ServiceFactory, driver: Factory, guarded: Guarded) -> None:
    issuer = Issuer("ES256")
    service = await leyden(
        **issuer.env, DATABASE_URL=guarded.url, AUTH_DB_ROLE_CLAIM="role", AUTH_DB_ROLES=guarded.role
    )
    with psycopg.connect(guarded.url, autocommit=True) as conn:
        conn.execute(sql.SQL(POLICIES).format(role=sql.Identifier(guarded.role)))
        conn.execute("CALL electric.electrify('folders')")
        conn.execute("CALL electric.electrify('docs')")
        conn.execute("INSERT INTO folders VALUES (%s, 'F')", [id_of(9)])
        conn.execute("INSERT INTO docs VALUES (%s, 'ann', 'of ann'), (%s, 'bob', 'of bob')", [id_of(1), id_of(2)])
        client = await driver()
        for user in ("ann", "bob"):
            token = issuer.token(user, role=guarded.role)
            await connected(client, service, user, "folders", "docs", schema=DOCS, token=token)
        overstepping = [
            f"UPDATE docs SET body = 'vandalised' WHERE id = '{id_of(2)}'",
            f"UPDATE docs SET owner = 'bob' WHERE id = '{id_of(1)}'",
            f"INSERT INTO docs (id, owner, body) VALUES ('{id_of(3)}', 'bob', 'slander')",
            f"DELETE FROM docs WHERE id = '{id_of(2)}'",
            f"UPDATE folders SET name = 'G' WHERE id = '{id_of(9)}'",
        ]
        for number, statement in enumerate(overstepping, 10):
            await client("run", client="ann", sql=statement)
            await client("waitOplogEmpty", client="ann")
            # a doc in the folder, which ann may only read: the client compensates for it
            insert = f"INSERT INTO docs VALUES ('{id_of(number)}', 'ann', 'fine', '{id_of(9)}')"
            await client("run", client="ann", sql=insert)
            await client("waitOplogEmpty", client="ann")
        await client("run", client="bob", sql=f"UPDATE docs SET body = 'still of bob' WHERE id = '{id_of(2)}'")
        await client("waitOplogEmpty", client="bob")
        expected = [("ann", "of ann"), ("bob", "still of bob"), *[("ann", "fine")] * len(overstepping)]
        assert conn.execute("SELECT owner, body FROM docs ORDER BY id").fetchall() == expected
        await client("waitRow", client="ann", sql="SELECT * FROM docs WHERE body = 'still of bob'")
        for user in ("ann", "bob"):
            await client("waitRow", client=user, sql="SELECT * FROM docs", count=len(expected))
            assert await rows(client, user, "docs", "owner, body") == expected
            assert await rows(client, user, "folders", "name") == [("F",)]
        refused = conn.execute("SELECT user_id, sqlstate FROM leyden.rejected ORDER BY id").fetchall()
        assert refused == [("ann", state) for state in ("02000", "42501", "42501", "02000", "42501")]
        assert conn.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
    assert complaints(client) == []


NOTES = {
    "tables": {"notes": {"columns": {"id": "uuid", "electric_user_id": "text", "body": "text"}, "pk": ["id"]}},
    "migrations": [],
}


async def test_without_a_role_rows_are_written_by_their_owners(leyden: ServiceFactory, driver: Factory) -> None:
    issuer = Issuer("ES256")
    service = await leyden(**issuer.env)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE notes (id uuid PRIMARY KEY, electric_user_id text, body text)")
        conn.execute("CALL electric.electrify('notes')")
        conn.execute(
            "INSERT INTO notes VALUES (%s, 'ann', 'of ann'), (%s, 'bob', 'of bob'), (%s, NULL, 'of all')",
            [id_of(1), id_of(2), id_of(3)],
        )
        client = await driver()
        for user in ("ann", "bob"):
            await connected(client, service, user, "notes", schema=NOTES, token=issuer.token(user))
        for statement in (
            f"UPDATE notes SET electric_user_id = 'bob' WHERE id = '{id_of(1)}'",
            f"INSERT INTO notes VALUES ('{id_of(4)}', 'bob', 'slander')",
            f"INSERT INTO notes VALUES ('{id_of(2)}', 'ann', 'a guessed key')",
        ):
            await client("run", client="ann", sql=statement)
            await client("waitOplogEmpty", client="ann")
        for statement in (
            f"UPDATE notes SET body = 'changed by ann' WHERE id = '{id_of(3)}'",
            f"UPDATE notes SET body = 'still of ann' WHERE id = '{id_of(1)}'",
        ):
            await client("run", client="ann", sql=statement)
            await client("waitOplogEmpty", client="ann")
        shared = ("changed by ann",)
        assert conn.execute("SELECT body FROM notes ORDER BY id").fetchall() == [("still of ann",), ("of bob",), shared]
        await client("waitRow", client="bob", sql="SELECT * FROM notes WHERE body = 'changed by ann'")
        # what ann guessed at is gone from her device, and told her nothing
        assert await rows(client, "ann", "notes", "body") == [("still of ann",), shared]
        assert await rows(client, "bob", "notes", "body") == [("of bob",), shared]
        refused = conn.execute("SELECT sqlstate FROM leyden.rejected").fetchall()
        assert refused == [("42501",)] * 3
    assert complaints(client) == []
