"""The schema on its way to clients: bundled, over the wire, while connected; and what depends on it."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from typing import Any

import httpx
import psycopg
import pytest

from interop.client import Driver
from interop.conftest import Factory
from interop.service import Leyden
from interop.tables import ITEMS, complaints, connected, create_items, id_of, open_client
from leyden.satellite import satellite_pb2 as pb

USERS_AND_ITEMS: dict[str, Any] = {
    "tables": {
        "users": {"columns": {"id": "uuid", "name": "text", "mood": "text"}, "pk": ["id"]},
        "items": {
            "columns": {"id": "uuid", "content": "text", "owner": "uuid"},
            "pk": ["id"],
            "fks": [{"columns": ["owner"], "table": "users", "refColumns": ["id"]}],
        },
    },
    "migrations": [],
}


def create_users_and_items(conn: psycopg.Connection) -> None:
    """Three migrations: a table with an enum, a child of it with an index, one more column."""
    conn.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')")
    conn.execute("CREATE TABLE users (id uuid PRIMARY KEY, name text NOT NULL, mood mood)")
    conn.execute("CALL electric.electrify('users')")
    conn.execute("CREATE TABLE items (content text, id uuid PRIMARY KEY, owner uuid REFERENCES users(id))")
    conn.execute("CREATE INDEX items_owner ON items (owner, content DESC)")
    conn.execute("CALL electric.electrify('items')")
    conn.execute("ALTER TABLE items ADD COLUMN done bool")


async def local_schema(driver: Driver, client: str) -> list[dict[str, Any]]:
    """Tables, indexes and triggers of the app's tables."""
    return await driver(
        "query",
        client=client,
        sql="SELECT type, name, tbl_name, sql FROM sqlite_master WHERE tbl_name NOT LIKE '\\_electric%' ESCAPE '\\'"
        " AND tbl_name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type, name",
    )


async def versions(driver: Driver, client: str) -> list[str]:
    rows = (await driver("meta", client=client))["migrations"]
    return [row["version"] for row in rows]


async def wait_for_migrations(driver: Driver, client: str, service: Leyden) -> None:
    with psycopg.connect(service.dsn) as conn:
        newest = conn.execute("SELECT max(version) FROM leyden.versions").fetchone()
    assert newest is not None
    sql = "SELECT * FROM _electric_migrations WHERE version = ?"
    await driver("waitRow", client=client, sql=sql, args=[newest[0]])


async def test_bundled_and_received_migrations_make_the_same_schema(service: Leyden, driver: Factory) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_users_and_items(conn)
        await connected(client, service, "fresh", schema=USERS_AND_ITEMS)
        await wait_for_migrations(client, "fresh", service)
        await open_client(client, service, "bundled", schema={"migrations": {"endpoint": service.url}})
        assert await local_schema(client, "bundled") == await local_schema(client, "fresh")
        assert await versions(client, "bundled") == await versions(client, "fresh")
        assert [row["name"] for row in await local_schema(client, "fresh") if row["type"] == "table"] == [
            "items",
            "users",
        ]

        token = (await client("token", claims={"sub": "user-bundled"}))["token"]
        await client("connect", client="bundled", token=token, timeoutMs=5000)
        assert await client("wire", client="bundled", type="SatOpLog", dir="recv") == []  # nothing is sent twice
        conn.execute("INSERT INTO users VALUES (%s, 'Ann', 'happy')", [id_of(1)])
        conn.execute("INSERT INTO items VALUES ('x', %s, %s, true)", [id_of(2), id_of(1)])
    for name in ("fresh", "bundled"):
        await client("sync", client=name, table="items", wait=True)
        rows = await client("query", client=name, sql="SELECT * FROM items")
        assert rows == [{"content": "x", "id": id_of(2), "owner": id_of(1), "done": 1}]
    assert complaints(client) == []


async def test_a_connected_client_receives_new_tables_and_columns_and_writes_them(
    service: Leyden, driver: Factory
) -> None:
    client = await driver()
    notes = {"columns": {"id": "int4", "body": "text"}, "pk": ["id"]}
    schema = {"tables": {**ITEMS["tables"], "notes": notes}, "migrations": []}
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 1)
        await connected(client, service, "a", "items", schema=schema)
        await connected(client, service, "behind", "items", schema=schema)
        await client("disconnect", client="behind")

        conn.execute("CREATE TABLE notes (id int4 PRIMARY KEY, body text)")
        conn.execute("INSERT INTO notes VALUES (1, 'older than electrification')")
        conn.execute("CALL electric.electrify('notes')")
        await wait_for_migrations(client, "a", service)
        await client("sync", client="a", table="notes", wait=True)
        assert await client("query", client="a", sql="SELECT body FROM notes") == [
            {"body": "older than electrification"}
        ]

        conn.execute("ALTER TABLE items ADD COLUMN extra float8")
        await wait_for_migrations(client, "a", service)
        conn.execute("UPDATE items SET extra = 1.5 WHERE n = 1")
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE extra = 1.5")
        await client("run", client="a", sql=f"INSERT INTO items VALUES ('{id_of(2)}', 'new', 2, 2.5)")
        await client("run", client="a", sql="UPDATE items SET extra = extra + 1 WHERE n = 1")
        await client("run", client="a", sql="INSERT INTO notes VALUES (2, 'mine')")
        await client("waitOplogEmpty", client="a")
        assert conn.execute("SELECT n, extra FROM items ORDER BY n").fetchall() == [(1, 2.5), (2, 2.5)]
        assert conn.execute("SELECT body FROM notes WHERE id = 2").fetchone() == ("mine",)

        # written offline by a client that does not know the column; it hears of it when it returns
        await client("run", client="behind", sql=f"INSERT INTO items VALUES ('{id_of(3)}', 'offline', 3)")
        await client("run", client="behind", sql="UPDATE items SET content = 'offline' WHERE n = 1")
        await client("connect", client="behind", timeoutMs=5000)
        await wait_for_migrations(client, "behind", service)
        await client("waitOplogEmpty", client="behind")
        expected = [("offline", 1, 2.5), ("new", 2, 2.5), ("offline", 3, None)]
        assert conn.execute("SELECT content, n, extra FROM items ORDER BY n").fetchall() == expected
    for name in ("a", "behind"):
        await client("waitRow", client=name, sql="SELECT * FROM items", count=3)
        rows = await client("query", client=name, sql="SELECT content, n, extra FROM items ORDER BY n")
        assert [tuple(row.values()) for row in rows] == expected
    assert complaints(client) == []


async def test_columns_with_a_default_and_of_an_enum_come_to_rows_from_before(service: Leyden, driver: Factory) -> None:
    """A client that has rows, one that is offline and has written more, one that comes afterwards: all end up alike."""
    client = await driver()
    columns = {
        **ITEMS["tables"]["items"]["columns"],
        "done": "bool",
        "mood": "text",
        "at": "timestamptz",
        "note": "text",
    }
    schema = {"tables": {"items": {"columns": columns, "pk": ["id"]}}, "migrations": []}
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 2)
        await connected(client, service, "a", "items", schema=schema)
        await connected(client, service, "behind", "items", schema=schema)
        await client("disconnect", client="behind")
        insert = f"INSERT INTO items VALUES ('{id_of(3)}', 'offline', 3)"
        await client("run", client="behind", sql=insert)
        await client("run", client="behind", sql="UPDATE items SET content = 'offline' WHERE n = 1")

        with conn.transaction():  # as Django does it
            conn.execute("ALTER TABLE items ADD COLUMN done boolean DEFAULT false NOT NULL")
            conn.execute("ALTER TABLE items ALTER COLUMN done DROP DEFAULT")
        conn.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')")
        conn.execute("ALTER TABLE items ADD COLUMN mood mood NOT NULL DEFAULT 'ok', ADD COLUMN note text")
        conn.execute("ALTER TABLE items ADD COLUMN at timestamptz DEFAULT '2024-02-29 12:00:00+02'")
        await wait_for_migrations(client, "a", service)
        at = "2024-02-29 10:00:00Z"
        assert await client("query", client="a", sql="SELECT n, done, mood, note, at FROM items ORDER BY n") == [
            {"n": n, "done": 0, "mood": "ok", "note": None, "at": at} for n in (1, 2)
        ]
        await client("run", client="a", sql=f"INSERT INTO items (id, n) VALUES ('{id_of(4)}', 4)")
        await client("run", client="a", sql="UPDATE items SET mood = 'sad', done = 1 WHERE n = 2")
        await client("waitOplogEmpty", client="a")

        await client("connect", client="behind", timeoutMs=5000)
        await wait_for_migrations(client, "behind", service)
        await client("waitOplogEmpty", client="behind")
        stored = conn.execute("SELECT n, content, done::int, mood::text, note FROM items ORDER BY n").fetchall()
        assert stored == [
            (1, "offline", 0, "ok", None),
            (2, "row 2", 1, "sad", None),
            (3, "offline", 0, "ok", None),
            (4, None, 0, "ok", None),
        ]
        assert conn.execute("SELECT count(*) FROM leyden.rejected").fetchone() == (0,)
        await connected(client, service, "later", "items", schema=schema)
        for name in ("a", "behind", "later"):
            await client("waitRow", client=name, sql="SELECT * FROM items", count=4)
            rows = await client("query", client=name, sql="SELECT n, content, done, mood, note FROM items ORDER BY n")
            assert [tuple(row.values()) for row in rows] == stored
        times = [
            await client("query", client=name, sql="SELECT at FROM items WHERE n <> 3 GROUP BY at")
            for name in ("a", "behind", "later")
        ]
        assert times == [[{"at": at}]] * 3
    assert complaints(client) == []


async def test_more_migrations_than_the_window_of_acknowledgements_reach_a_fresh_client(
    service: Leyden, driver: Factory
) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 1)
        for number in range(39):
            conn.execute(f"ALTER TABLE items ADD COLUMN c{number} int4")  # type: ignore[arg-type]
        await connected(client, service, "a", "items")
        await wait_for_migrations(client, "a", service)
        known = [row[0] for row in conn.execute("SELECT version FROM leyden.versions ORDER BY version")]
        assert len(known) == 40
        assert [version for version in await versions(client, "a") if version in known] == known
        for number in range(40):  # and transactions go on after them
            conn.execute("UPDATE items SET n = %s", [number])
        conn.execute("UPDATE items SET c38 = 7")
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE c38 = 7 AND n = 39")
    assert complaints(client) == []


# ---- /api/migrations --------------------------------------------------------------------------------


def unpacked(archive: bytes) -> dict[str, tuple[str, dict[str, Any], list[pb.SatOpMigrate]]]:
    """By version: migration.sql, metadata.json, its operations decoded."""
    result = {}
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        assert files.testzip() is None
        names = files.namelist()
        for version in dict.fromkeys(name.partition("/")[0] for name in names):
            assert {name for name in names if name.startswith(f"{version}/")} == {
                f"{version}/migration.sql",
                f"{version}/metadata.json",
            }
            metadata = json.loads(files.read(f"{version}/metadata.json"))
            operations = [pb.SatOpMigrate.FromString(base64.b64decode(op, validate=True)) for op in metadata["ops"]]
            result[version] = files.read(f"{version}/migration.sql").decode(), metadata, operations
    return result


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
async def test_the_migrations_archive_holds_every_migration_in_order(dialect: str, service: Leyden) -> None:
    async with httpx.AsyncClient(base_url=f"{service.url}/api/", params={"dialect": dialect}) as http:
        assert (await http.get("migrations")).status_code == 204
        with psycopg.connect(service.dsn, autocommit=True) as conn:
            create_users_and_items(conn)
            known = [row[0] for row in conn.execute("SELECT version FROM leyden.versions ORDER BY version")]
        migrations: dict[str, Any] = {}
        while len(migrations) < len(known):  # until replication has come so far
            answer = await http.get("migrations")
            if answer.status_code == 200:
                assert answer.headers["content-type"] == "application/zip"
                migrations = unpacked(answer.content)
        assert list(migrations) == known
        for version, (text, metadata, operations) in migrations.items():
            assert metadata.keys() == {"format", "ops", "protocol_version", "version"}
            assert metadata["format"] == "SatOpMigrate"
            assert metadata["protocol_version"] == "Electric.Satellite"
            assert metadata["version"] == version
            assert {operation.version for operation in operations} == {version}
            for operation in operations:
                assert len([stmt for stmt in operation.stmts if stmt.sql.strip().rstrip(";") not in text]) == 0
        tables = [op.table.name for _, _, ops in migrations.values() for op in ops if op.HasField("table")]
        assert list(dict.fromkeys(tables)) == ["users", "items"]
        everything = "\n".join(text for text, _, _ in migrations.values())
        assert 'ADD COLUMN "done"' in everything
        assert ("WITHOUT ROWID" in everything or "INTEGER" in everything) == (dialect == "sqlite")
        assert ("uuid" in everything) == (dialect == "postgresql")

        assert list(unpacked((await http.get("migrations", params={"version": known[0]})).content)) == known[1:]
        assert list(unpacked((await http.get("migrations", params={"version": ""})).content)) == known
        for version in (known[-1], "20000101000000_1", "nonsense"):
            answer = await http.get("migrations", params={"version": version})
            assert (answer.status_code, answer.content) == (204, b"")


async def test_the_migrations_endpoint_says_what_it_refuses(service: Leyden) -> None:
    async with httpx.AsyncClient(base_url=service.url) as http:
        missing = await http.get("/api/migrations")
        assert (missing.status_code, missing.text) == (403, """{"error":"missing required parameter 'dialect'"}""")
        assert missing.headers["content-type"] == "application/json; charset=utf-8"
        unknown = await http.get("/api/migrations?dialect=mysql")
        assert (unknown.status_code, unknown.json()) == (403, {"error": 'unsupported dialect "mysql"'})
        for answer in (await http.post("/api/migrations?dialect=sqlite"), await http.get("/api/migrations/deeper")):
            assert (answer.status_code, answer.text) == (404, "Not found")


# ---- enums, foreign keys ----------------------------------------------------------------------------


async def test_an_enum_column_is_text_on_sqlite_and_works_both_ways(service: Leyden, driver: Factory) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_users_and_items(conn)
        conn.execute("INSERT INTO users VALUES (%s, 'Ann', 'happy')", [id_of(1)])
        await connected(client, service, "a", "users", schema=USERS_AND_ITEMS)
        assert await client("query", client="a", sql="SELECT mood, typeof(mood) AS t FROM users") == [
            {"mood": "happy", "t": "text"}
        ]
        await client("run", client="a", sql=f"INSERT INTO users VALUES ('{id_of(2)}', 'Bob', 'sad')")
        await client("run", client="a", sql="UPDATE users SET mood = 'ok' WHERE name = 'Ann'")
        await client("waitOplogEmpty", client="a")
        assert conn.execute("SELECT name, mood FROM users ORDER BY name").fetchall() == [("Ann", "ok"), ("Bob", "sad")]
    assert complaints(client) == []


async def test_a_parent_deleted_meanwhile_is_revived_by_the_child_of_an_offline_client(
    service: Leyden, driver: Factory
) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_users_and_items(conn)
        await connected(client, service, "a", "users", "items", schema=USERS_AND_ITEMS)
        await connected(client, service, "b", "users", "items", schema=USERS_AND_ITEMS)
        await client("run", client="a", sql=f"INSERT INTO users VALUES ('{id_of(1)}', 'Ann', 'happy')")
        await client("waitOplogEmpty", client="a")
        await client("disconnect", client="a")

        conn.execute("DELETE FROM users")
        await client("waitRow", client="b", sql="SELECT count(*) AS n FROM users", expect={"n": 0})
        item = f"INSERT INTO items (id, content, owner) VALUES ('{id_of(2)}', 'child', '{id_of(1)}')"
        await client("run", client="a", sql=item)
        await client("connect", client="a", timeoutMs=5000)
        await client("waitOplogEmpty", client="a")

        assert conn.execute("SELECT id::text, name, mood FROM users").fetchall() == [(id_of(1), "Ann", "happy")]
        assert conn.execute("SELECT content, owner::text FROM items").fetchall() == [("child", id_of(1))]
        assert conn.execute("SELECT count(*) FROM leyden.rejected").fetchone() == (0,)
    for name in ("a", "b"):
        await client("waitRow", client=name, sql="SELECT * FROM items WHERE content = 'child'")
        rows = await client("query", client=name, sql="SELECT id, name, mood FROM users")
        assert rows == [{"id": id_of(1), "name": "Ann", "mood": "happy"}]
    assert complaints(client) == []


async def test_an_offline_update_of_a_row_deleted_meanwhile_revives_it_whole(service: Leyden, driver: Factory) -> None:
    """While its update is pending, the client builds the row from the whole old row of the incoming delete."""
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_users_and_items(conn)
        conn.execute("INSERT INTO users VALUES (%s, 'Ann', 'happy')", [id_of(1)])
        await connected(client, service, "a", "users", schema=USERS_AND_ITEMS)
        await client("disconnect", client="a")
        conn.execute("DELETE FROM users")
        await client("run", client="a", sql="UPDATE users SET mood = 'sad'")
        await client("connect", client="a", timeoutMs=5000)
        await client("waitOplogEmpty", client="a")
        assert conn.execute("SELECT name, mood FROM users").fetchall() == [("Ann", "sad")]
    assert await client("query", client="a", sql="SELECT name, mood FROM users") == [{"name": "Ann", "mood": "sad"}]
    assert complaints(client) == []


async def test_a_child_whose_parent_no_one_has_is_refused_and_put_right(service: Leyden, driver: Factory) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_users_and_items(conn)
        await connected(client, service, "a", "users", "items", schema=USERS_AND_ITEMS)
        await client("run", client="a", sql="PRAGMA foreign_keys = OFF")
        item = f"INSERT INTO items (id, content, owner) VALUES ('{id_of(2)}', 'orphan', '{id_of(1)}')"
        await client("run", client="a", sql=item)
        await client("waitOplogEmpty", client="a")
        assert conn.execute("SELECT count(*) FROM items").fetchone() == (0,)
        assert conn.execute("SELECT sqlstate FROM leyden.rejected").fetchall() == [("23503",)]
    await client("waitRow", client="a", sql="SELECT count(*) AS n FROM items", expect={"n": 0})
    assert complaints(client) == []
