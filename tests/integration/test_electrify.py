"""Which tables can be electrified, what that writes, and what undoes it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from leyden.model import CreateEnum, CreateTable, ForeignKey, Index, IndexColumn, Migration, Table
from leyden.postgres import catalog, sessions

Conn = psycopg.Connection[Any]

ALL_TYPES = """
CREATE TABLE all_types (
    id uuid PRIMARY KEY, c1 bool, c2 bytea, c3 date, c4 float4, c5 float8, c6 int2, c7 int4, c8 int8, c9 jsonb,
    c10 text, c11 time, c12 timestamp, c13 timestamptz, c14 varchar, c15 text NOT NULL, c16 mood)
"""


@pytest.fixture
def conn(database: str) -> Iterator[Conn]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def load(dsn: str) -> tuple[dict[int, Table], list[Migration]]:
    async def run() -> tuple[dict[int, Table], list[Migration]]:
        async with await sessions.connect(dsn) as connection:
            return await catalog.load_tables(connection), await catalog.load_migrations(connection)

    return asyncio.run(run())


def changes(conn: Conn) -> list[Any]:
    return [row[0] for row in conn.execute("SELECT changes FROM leyden.versions ORDER BY version")]


def electrify(conn: Conn, *names: str) -> None:
    for name in names:
        conn.execute("CALL electric.electrify(%s)", (name,))


def test_every_allowed_type_is_described_by_its_catalog_name(database: str, conn: Conn) -> None:
    conn.execute("CREATE TYPE mood AS ENUM ('sad', 'Happy_2')")
    conn.execute(ALL_TYPES)
    electrify(conn, "all_types")
    tables, (migration,) = load(database)
    (table,) = tables.values()
    assert [column.type for column in table.columns] == [
        "uuid",
        "bool",
        "bytea",
        "date",
        "float4",
        "float8",
        "int2",
        "int4",
        "int8",
        "jsonb",
        "text",
        "time",
        "timestamp",
        "timestamptz",
        "varchar",
        "text",
        "mood",
    ]
    assert [column.name for column in table.columns if column.not_null] == ["id", "c15"]
    assert [column.name for column in table.columns if column.is_enum] == ["c16"]
    enum, create = migration.changes
    assert isinstance(enum, CreateEnum)
    assert enum.enum.labels == ("sad", "Happy_2")
    assert create == CreateTable(table)


def test_keys_foreign_keys_and_indexes_are_described(database: str, conn: Conn) -> None:
    conn.execute("""
        CREATE TABLE parent (a int4, b int4, PRIMARY KEY (b, a));
        CREATE TABLE child (id text PRIMARY KEY, x int4, y int4, up text REFERENCES child ON UPDATE SET NULL,
            CONSTRAINT pair FOREIGN KEY (y, x) REFERENCES parent (b, a) ON DELETE CASCADE DEFERRABLE);
        CREATE INDEX child_idx ON child (x DESC, y);
        CREATE INDEX partial ON child (x) WHERE x > 0;
        CREATE INDEX expression ON child (lower(up));
        CREATE INDEX hashed ON child USING hash (x);
    """)
    electrify(conn, "parent", "child")
    tables, migrations = load(database)
    parent, child = (table for name in ("parent", "child") for table in tables.values() if table.name == name)
    assert parent.primary_key == ("b", "a")
    assert parent.primary_key_name == "parent_pkey"
    assert parent.key_positions == (1, 0)
    assert child.foreign_keys == (
        ForeignKey("child_up_fkey", ("up",), "child", ("id",), on_update="SET NULL"),
        ForeignKey("pair", ("y", "x"), "parent", ("b", "a"), on_delete="CASCADE"),
    )
    assert child.indexes == (Index("child_idx", (IndexColumn("x", True), IndexColumn("y"))),)
    assert [migration.changes for migration in migrations] == [(CreateTable(parent),), (CreateTable(child),)]


def test_the_catalog_joins_the_publication_and_the_triggers_are_always_on(conn: Conn) -> None:
    conn.execute("CREATE TABLE items (id text PRIMARY KEY)")
    electrify(conn, "items")
    published = conn.execute(
        "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = 'leyden' ORDER BY 1"
    ).fetchall()
    assert published == [("leyden.row_state",), ("leyden.tables",), ("leyden.versions",), ("public.items",)]
    assert conn.execute("SELECT relreplident::text FROM pg_class WHERE relname = 'items'").fetchone() == ("f",)
    triggers = conn.execute(
        "SELECT tgname, tgenabled::text FROM pg_trigger WHERE tgrelid = 'items'::regclass ORDER BY 1"
    ).fetchall()
    assert triggers == [("leyden_truncate", "A"), ("leyden_write", "A")]


@pytest.mark.parametrize(
    "call",
    [
        "CALL electric.electrify('Tt X')",
        """CALL electric.electrify('public."Tt X"')""",
        "CALL electric.electrify('public', 'Tt X')",
        """SELECT leyden.enable('"Tt X"')""",
    ],
)
def test_names_are_resolved_as_in_the_old_service(conn: Conn, call: Any) -> None:
    conn.execute('CREATE TABLE "Tt X" (id text PRIMARY KEY)')
    conn.execute(call)
    assert conn.execute("SELECT table_name FROM leyden.tables").fetchall() == [("Tt X",)]


def test_a_single_name_is_looked_up_through_the_callers_search_path(conn: Conn) -> None:
    conn.execute("CREATE TABLE items (id text PRIMARY KEY)")
    with conn.transaction():
        conn.execute("SET LOCAL search_path = pg_catalog")
        with pytest.raises(psycopg.errors.UndefinedTable), conn.transaction():
            electrify(conn, "items")


def test_a_second_call_is_a_notice_and_no_version(conn: Conn) -> None:
    notices: list[str | None] = []
    conn.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary))
    conn.execute("CREATE TABLE items (id text PRIMARY KEY)")
    electrify(conn, "items", "items")
    assert notices == ["table public.items is already electrified"]
    assert len(changes(conn)) == 1


def test_existing_rows_are_not_touched(conn: Conn) -> None:
    conn.execute("CREATE TABLE items (id text PRIMARY KEY); INSERT INTO items VALUES ('a')")
    before = conn.execute("SELECT xmin::text, ctid::text FROM items").fetchall()
    electrify(conn, "items")
    assert conn.execute("SELECT xmin::text, ctid::text FROM items").fetchall() == before
    assert conn.execute("SELECT count(*) FROM leyden.row_state").fetchone() == (0,)


REFUSED_COLUMNS = [
    *("varchar(10)", "numeric", "numeric(4,2)", "json", "timetz", "time(3)", "timestamp(3)", "timestamptz(3)"),
    *("char(3)", "interval", "inet", "money", "xml", "name", "oid", "bit", "tsvector", "int4range", "point"),
    *("int4[]", "text[]", "positive", "other.mood"),
]


def test_columns_of_other_types_are_refused_each_with_its_printed_type(conn: Conn) -> None:
    conn.execute("CREATE SCHEMA other; CREATE DOMAIN positive AS int4; CREATE TYPE other.mood AS ENUM ('sad')")
    columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(REFUSED_COLUMNS))
    conn.execute(f"CREATE TABLE items (id text PRIMARY KEY, {columns})".encode())
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refusal:
        electrify(conn, "items")
    message = str(refusal.value.diag.message_primary)
    for number in range(len(REFUSED_COLUMNS)):
        assert f"column c{number} has type " in message
    assert "c1 has type numeric\n" in message
    assert "has type time(3) without time zone" in message
    assert "without a length or precision" in str(refusal.value.diag.message_hint)


REFUSED_TABLES = {
    "not an ordinary table": "CREATE VIEW items AS SELECT 1 AS id",
    "not an ordinary table ": "CREATE TABLE items (id text PRIMARY KEY) PARTITION BY LIST (id)",
    "takes part in table inheritance": "CREATE TABLE items (id text PRIMARY KEY); CREATE TABLE x () INHERITS (items)",
    "not stored permanently": "CREATE UNLOGGED TABLE items (id text PRIMARY KEY)",
    "not stored permanently ": "CREATE TEMP TABLE items (id text PRIMARY KEY)",
    "no primary key": "CREATE TABLE items (id text)",
    "CHECK constraint": "CREATE TABLE items (id text PRIMARY KEY CHECK (id > ''))",
    "UNIQUE constraint": "CREATE TABLE items (id text PRIMARY KEY, n int4 UNIQUE)",
    "EXCLUDE constraint": "CREATE TABLE items (id text PRIMARY KEY, n int4, EXCLUDE (n WITH =))",
    "unique index": "CREATE TABLE items (id text PRIMARY KEY, n int4); CREATE UNIQUE INDEX ON items (n)",
    "column n has a default": "CREATE TABLE items (id text PRIMARY KEY, n float8 DEFAULT random())",
    "column n has a default ": "CREATE TABLE items (id text PRIMARY KEY, n serial)",
    "column n is an identity column": "CREATE TABLE items (id text PRIMARY KEY, n int4 GENERATED ALWAYS AS IDENTITY)",
    "column n is generated": "CREATE TABLE items (id text PRIMARY KEY, n text GENERATED ALWAYS AS (id) STORED)",
    "references public.parent, which is not electrified": (
        "CREATE TABLE parent (id text PRIMARY KEY);CREATE TABLE items (id text PRIMARY KEY, p text REFERENCES parent)"
    ),
    "is not validated": (
        "CREATE TABLE items (id text PRIMARY KEY, p text);"
        "ALTER TABLE items ADD FOREIGN KEY (p) REFERENCES items NOT VALID"
    ),
    "the labels 'it''s'": "CREATE TYPE mood AS ENUM ('ok', 'it''s'); CREATE TABLE items (id text PRIMARY KEY, m mood)",
    "differ only in case": 'CREATE TABLE items (id text PRIMARY KEY, "Id" text)',
}


@pytest.mark.parametrize(("reason", "ddl"), REFUSED_TABLES.items())
def test_tables_that_clients_could_not_hold_are_refused(conn: Conn, reason: str, ddl: Any) -> None:
    conn.execute(ddl)
    with pytest.raises(psycopg.errors.FeatureNotSupported, match=reason.strip()) as refusal:
        electrify(conn, "items")
    assert refusal.value.diag.message_hint


def test_all_objections_come_at_once(conn: Conn) -> None:
    conn.execute("CREATE TABLE items (id serial, n numeric)")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refusal:
        electrify(conn, "items")
    assert str(refusal.value.diag.message_primary).splitlines()[1:] == [
        "  - column id has a default that is not a constant",
        "  - column n has type numeric",
        "  - it has no primary key",
    ]


@pytest.mark.parametrize("name", ["sqlite_items", "_electric_oplog"])
def test_names_that_the_client_reserves_are_refused(conn: Conn, name: str) -> None:
    conn.execute(sql.SQL("CREATE TABLE {} (id text PRIMARY KEY)").format(sql.Identifier(name)))
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="reserved"):
        electrify(conn, name)


def test_a_table_outside_public_is_refused(conn: Conn) -> None:
    conn.execute("CREATE SCHEMA app; CREATE TABLE app.items (id text PRIMARY KEY)")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="it is in schema app"):
        electrify(conn, "app.items")


def test_a_missing_table_is_postgres_own_error(conn: Conn) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        electrify(conn, "nowhere")


def test_a_table_with_more_columns_than_a_function_has_arguments_works(conn: Conn) -> None:
    columns = ", ".join(f"c{n} int4" for n in range(300))
    conn.execute(f"CREATE TABLE wide (id text PRIMARY KEY, {columns})".encode())
    electrify(conn, "wide")
    conn.execute("INSERT INTO wide (id) VALUES ('a'); UPDATE wide SET c299 = 1; DELETE FROM wide")
    assert conn.execute("SELECT tags, dead ->> 'c299' FROM leyden.row_state").fetchone() == ([], "1")


def test_a_disabled_table_is_as_it_was(conn: Conn) -> None:
    conn.execute("CREATE TABLE items (id text PRIMARY KEY)")
    electrify(conn, "items")
    conn.execute("INSERT INTO items VALUES ('a'); SELECT leyden.disable('items')")
    counts = conn.execute("""
        SELECT (SELECT count(*) FROM leyden.row_state), (SELECT count(*) FROM leyden.tables),
               (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'items'::regclass),
               (SELECT count(*) FROM pg_publication_tables WHERE tablename = 'items'),
               (SELECT count(*) FROM pg_proc WHERE proname LIKE 'on\\_write\\_%')
    """).fetchone()
    assert counts == (0, 0, 0, 0, 0)
    conn.execute("DROP TABLE items")


def test_a_referenced_table_cannot_be_disabled_first(conn: Conn) -> None:
    conn.execute("CREATE TABLE a (id text PRIMARY KEY); CREATE TABLE b (id text PRIMARY KEY, a text REFERENCES a)")
    electrify(conn, "a", "b")
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        conn.execute("SELECT leyden.disable('a')")
    conn.execute("SELECT leyden.disable('b'), leyden.disable('a')")


def test_a_table_that_comes_back_continues_where_clients_know_it(conn: Conn) -> None:
    conn.execute("CREATE TABLE items (id text PRIMARY KEY)")
    electrify(conn, "items")
    conn.execute("SELECT leyden.disable('items')")
    conn.execute("DROP TABLE items; CREATE TABLE items (id text PRIMARY KEY, n int4)")
    electrify(conn, "items")
    table_id = conn.execute("SELECT 'items'::regclass::oid::int8").fetchone()
    ((create,), (added,)) = changes(conn)
    assert (create["kind"], added["kind"], added["columns"]) == ("create_table", "add_columns", ["n"])
    assert (added["table"]["id"],) == table_id


def test_a_table_that_comes_back_unchanged_is_announced_without_columns(conn: Conn) -> None:
    conn.execute("CREATE TABLE items (id text PRIMARY KEY)")
    electrify(conn, "items")
    conn.execute("SELECT leyden.disable('items')")
    electrify(conn, "items")
    assert [(c["kind"], c.get("columns")) for (c,) in changes(conn)] == [("create_table", None), ("add_columns", [])]


def test_a_table_that_comes_back_different_is_refused(conn: Conn) -> None:
    conn.execute("CREATE TABLE items (id text PRIMARY KEY, n int4)")
    electrify(conn, "items")
    conn.execute("SELECT leyden.disable('items')")
    conn.execute("ALTER TABLE items DROP COLUMN n")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="column n is dropped"):
        electrify(conn, "items")
