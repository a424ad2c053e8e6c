"""The DDL guard sees what a statement did to the catalog, so it does not matter how, and by whom, it was issued."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from leyden.postgres.embedded import EmbeddedPostgres

Conn = psycopg.Connection[Any]

#: Issues a statement; raises if Postgres refuses it.
Issue = Callable[[Conn, str], object]

OWNER = "leyden_test_table_owner"


@pytest.fixture
def conn(database: str) -> Iterator[Conn]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("""
            CREATE TABLE items (id text PRIMARY KEY, a text);
            CREATE TABLE others (id text PRIMARY KEY);
            CALL electric.electrify('items');
            CREATE PROCEDURE run(statement text) LANGUAGE plpgsql AS $$ BEGIN EXECUTE statement; END $$;
            CREATE FUNCTION run_all(VARIADIC statements text[]) RETURNS void LANGUAGE plpgsql AS $$
            DECLARE statement text;
            BEGIN FOREACH statement IN ARRAY statements LOOP EXECUTE statement; END LOOP; END $$;
        """)
        yield connection


def recorded(conn: Conn) -> list[Any]:
    return [row[0] for row in conn.execute("SELECT changes FROM leyden.versions ORDER BY version OFFSET 1")]


def columns(conn: Conn) -> list[str]:
    rows = conn.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'items'::regclass AND attnum > 0 ORDER BY attnum"
    )
    return [row[0] for row in rows]


def in_savepoint(conn: Conn, statement: str) -> None:
    with conn.transaction():
        conn.execute("INSERT INTO others VALUES ('before')")
        with conn.transaction():
            conn.execute(statement.encode())


def in_sql_function(conn: Conn, statement: str) -> None:
    conn.execute(f"CREATE FUNCTION migrate() RETURNS void LANGUAGE sql AS $$ {statement} $$".encode())
    conn.execute("SELECT migrate()")


def by_its_owner(conn: Conn, statement: str) -> None:
    """As an application's role for migrations: it owns its tables, and has no right in the schema leyden."""
    conn.execute(f"CREATE ROLE {OWNER} LOGIN; GRANT CREATE ON SCHEMA public TO {OWNER}".encode())
    try:
        conn.execute(f"ALTER TABLE items OWNER TO {OWNER}; ALTER TABLE others OWNER TO {OWNER}".encode())
        with psycopg.connect(make_conninfo(conn.info.dsn, user=OWNER), autocommit=True) as owner:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                owner.execute("SELECT * FROM leyden.versions")
            owner.execute(statement.encode())
    finally:
        conn.execute(f"REASSIGN OWNED BY {OWNER} TO CURRENT_USER; DROP OWNED BY {OWNER}; DROP ROLE {OWNER}".encode())


def with_settings(conn: Conn, statement: str) -> None:
    conn.execute("SET session_replication_role = replica; SET search_path = pg_temp")
    conn.execute("SET standard_conforming_strings = off; SET DateStyle = German; SET row_security = off")
    try:
        conn.execute(re.sub(r"\b(items|others)\b", r"public.\1", statement).encode())
    finally:
        conn.execute("RESET ALL")


FORMS: dict[str, Issue] = {
    "alone": lambda conn, statement: conn.execute(statement.encode()),
    "prepared": lambda conn, statement: conn.execute(statement.encode(), prepare=True),
    "among others": lambda conn, statement: conn.execute(f"SELECT 1; {statement}; SELECT 2".encode()),
    "DO block": lambda conn, statement: conn.execute(f"DO $$ BEGIN {statement}; END $$".encode()),
    "dynamic in a DO block": lambda conn, statement: conn.execute(
        f"DO $$ BEGIN EXECUTE '{statement}'; END $$".encode()
    ),
    "procedure": lambda conn, statement: conn.execute("CALL run(%s)", (statement,)),
    "function": lambda conn, statement: conn.execute("SELECT run_all('SELECT 1', %s)", (statement,)),
    "SQL function": in_sql_function,
    "savepoint": in_savepoint,
    "by its owner": by_its_owner,
    "with other settings": with_settings,
}


@pytest.mark.parametrize("issue", FORMS.values(), ids=list(FORMS))
def test_what_clients_can_follow_is_recorded_once(conn: Conn, issue: Issue) -> None:
    issue(conn, "ALTER TABLE items ADD COLUMN n int4 NOT NULL DEFAULT 7")
    (((change),),) = recorded(conn)
    assert (change["kind"], change["columns"]) == ("add_columns", ["n"])
    assert columns(conn) == ["id", "a", "n"]


@pytest.mark.parametrize("statement", ["ALTER TABLE items RENAME a TO b", "DROP TABLE others, items"])
@pytest.mark.parametrize("issue", FORMS.values(), ids=list(FORMS))
def test_what_they_cannot_is_refused_whole(conn: Conn, issue: Issue, statement: str) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refusal:
        issue(conn, statement)
    assert refusal.value.diag.message_hint
    assert columns(conn) == ["id", "a"]
    assert conn.execute("SELECT count(*) FROM others").fetchone() == (0,)
    assert recorded(conn) == []


def test_psql_shows_reason_and_remedy(conn: Conn, cluster: EmbeddedPostgres) -> None:
    command = [*cluster.psql_command(conn.info.dbname), "--no-psqlrc", "-v", "ON_ERROR_STOP=1"]
    done = subprocess.run(
        command,
        input="BEGIN;\nALTER TABLE items DROP COLUMN a;\nCOMMIT;\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "table items is electrified; clients cannot follow this change:\n  - column a is dropped" in done.stderr
    assert "HINT:  Leave the column as it is and add another" in done.stderr
    assert columns(conn) == ["id", "a"]
    subprocess.run(command, input="ALTER TABLE items ADD n int4;", capture_output=True, text=True, check=True)
    assert len(recorded(conn)) == 1


def test_a_refusal_that_is_caught_leaves_nothing_behind(conn: Conn) -> None:
    conn.execute("""
        DO $$ BEGIN
            ALTER TABLE items ADD COLUMN kept int4;
            BEGIN
                ALTER TABLE items ADD COLUMN gone int4;
                DROP TABLE others, items;
            EXCEPTION WHEN feature_not_supported THEN NULL;
            END;
        END $$
    """)
    assert columns(conn) == ["id", "a", "kept"]
    assert [change["columns"] for (change,) in recorded(conn)] == [["kept"]]
    assert conn.execute("SELECT count(*) FROM others").fetchone() == (0,)


def test_one_refused_statement_of_several_undoes_them_all(conn: Conn) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        conn.execute("ALTER TABLE items ADD COLUMN n int4; DROP TABLE others; ALTER TABLE items RENAME a TO b")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        conn.execute("ALTER TABLE items ADD COLUMN n int4, ALTER COLUMN a SET NOT NULL")
    assert columns(conn) == ["id", "a"]
    assert recorded(conn) == []
    assert conn.execute("SELECT to_regclass('others') IS NOT NULL").fetchone() == (True,)


def test_objects_of_an_owner_cannot_be_dropped_with_an_electrified_table_among_them(conn: Conn) -> None:
    conn.execute(
        f"CREATE ROLE {OWNER}; ALTER TABLE items OWNER TO {OWNER}; ALTER TABLE others OWNER TO {OWNER}".encode()
    )
    try:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="items cannot be dropped"):
            conn.execute(f"DROP OWNED BY {OWNER} CASCADE".encode())
    finally:
        conn.execute(f"REASSIGN OWNED BY {OWNER} TO CURRENT_USER; DROP ROLE {OWNER}".encode())


def test_a_refused_index_that_postgres_keeps_can_be_dropped(conn: Conn) -> None:
    """It is made in several transactions, of which the last alone is refused."""
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refusal:
        conn.execute("CREATE UNIQUE INDEX CONCURRENTLY unique_a ON items (a)")
    assert "drop index unique_a" in str(refusal.value.diag.message_hint)
    conn.execute("DROP INDEX unique_a")
    conn.execute("ALTER TABLE items ADD COLUMN n int4")
    assert len(recorded(conn)) == 1


#: As Prisma writes one: comments, quoted names, constraints last, all of it in one simple query.
PRISMA = """
-- CreateEnum
CREATE TYPE "Role" AS ENUM ('USER', 'ADMIN');

-- CreateTable
CREATE TABLE "User" (
    "id" UUID NOT NULL,
    "role" "Role" NOT NULL DEFAULT 'USER',
    "createdAt" TIMESTAMPTZ NOT NULL,

    CONSTRAINT "User_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "Post" (
    "id" UUID NOT NULL,
    "title" TEXT NOT NULL,
    "authorId" UUID NOT NULL,

    CONSTRAINT "Post_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "Post_authorId_idx" ON "Post"("authorId");

-- AddForeignKey
ALTER TABLE "Post" ADD CONSTRAINT "Post_authorId_fkey" FOREIGN KEY ("authorId")
    REFERENCES "User"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

CALL electric.electrify('User');
CALL electric.electrify('Post');
"""


def test_a_migration_as_prisma_writes_it_is_one_version(conn: Conn) -> None:
    conn.execute(PRISMA)
    (changes,) = recorded(conn)
    assert [change["kind"] for change in changes] == ["create_enum", "create_table", "create_table"]
    assert [change["table"]["name"] for change in changes[1:]] == ["User", "Post"]
    conn.execute("""
        -- AlterEnum, of another type, and AlterTable
        ALTER TABLE "Post" ADD COLUMN     "published" BOOLEAN NOT NULL DEFAULT false,
        ADD COLUMN     "editor" "Role";
    """)
    assert recorded(conn)[1][0]["columns"] == ["published", "editor"]
    for statement in (
        "ALTER TYPE \"Role\" ADD VALUE 'GUEST'",
        'ALTER TABLE "Post" DROP COLUMN "title", ADD COLUMN "text" TEXT',
        'ALTER TABLE "Post" ADD COLUMN "at" TIMESTAMP(3)',
        'CREATE UNIQUE INDEX "Post_title_key" ON "Post"("title")',
        'BEGIN; CREATE TYPE "Role_new" AS ENUM (\'USER\'); ALTER TABLE "User" ALTER COLUMN "role" DROP DEFAULT;'
        'ALTER TABLE "User" ALTER COLUMN "role" TYPE "Role_new" USING ("role"::text::"Role_new"); COMMIT',
    ):
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            conn.execute(statement.encode())
        conn.execute("ROLLBACK")
    assert len(recorded(conn)) == 2


def test_a_migration_in_one_do_block_is_one_version(conn: Conn) -> None:
    conn.execute("""
        DO $$
        BEGIN
            CREATE TABLE notes (id uuid PRIMARY KEY, body text);
            CALL electric.electrify('notes');
            IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'n') THEN
                ALTER TABLE items ADD COLUMN n int4 NOT NULL DEFAULT 1;
            END IF;
            FOR number IN 1..3 LOOP
                EXECUTE format('ALTER TABLE notes ADD COLUMN c%s text', number);
            END LOOP;
            CREATE INDEX ON notes (c1);
        END $$
    """)
    ((created, added),) = recorded(conn)
    assert [column["name"] for column in created["table"]["columns"]] == ["id", "body", "c1", "c2", "c3"]
    assert [index["name"] for index in created["table"]["indexes"]] == ["notes_c1_idx"]
    assert added["columns"] == ["n"]


@pytest.mark.parametrize("end", ["ROLLBACK", "SELECT 1/0"])
def test_a_migration_that_is_rolled_back_never_was(conn: Conn, end: str) -> None:
    with conn.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("ALTER TABLE items ADD COLUMN n int4")
        cursor.execute("CALL electric.electrify('others'); CALL electric.migration_version('99999999')")
        cursor.execute("SELECT leyden.disable('items'); DROP TABLE items")
        if end == "ROLLBACK":
            cursor.execute("ROLLBACK")
        else:
            with pytest.raises(psycopg.errors.DivisionByZero):
                cursor.execute(end.encode())
            cursor.execute("COMMIT")
    assert columns(conn) == ["id", "a"]
    assert recorded(conn) == []
    assert conn.execute("SELECT table_name FROM leyden.tables").fetchall() == [("items",)]
    conn.execute("ALTER TABLE items ADD COLUMN n int4")
    assert [change["columns"] for (change,) in recorded(conn)] == [["n"]]
    (version,) = conn.execute("SELECT max(version) FROM leyden.versions").fetchone() or ("",)
    assert version != "99999999"
