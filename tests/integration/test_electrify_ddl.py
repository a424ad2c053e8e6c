"""DDL on electrified tables: what clients can follow is recorded, the rest is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

Conn = psycopg.Connection[Any]


@pytest.fixture
def conn(database: str) -> Iterator[Conn]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("""
            CREATE TYPE mood AS ENUM ('sad', 'happy');
            CREATE TABLE parents (id text PRIMARY KEY);
            CREATE TABLE items (id text PRIMARY KEY, a text, m mood, p text CONSTRAINT items_p REFERENCES parents,
                nn text NOT NULL);
            CREATE INDEX items_a ON items (a);
            CALL electric.electrify('parents');
            CALL electric.electrify('items');
        """)
        yield connection


def latest(conn: Conn) -> list[Any]:
    row = conn.execute("SELECT changes FROM leyden.versions ORDER BY version DESC LIMIT 1").fetchone()
    assert row is not None
    return list(row[0])


def count(conn: Conn) -> int:
    row = conn.execute("SELECT count(*) FROM leyden.versions").fetchone()
    assert row is not None
    return int(row[0])


def stored(conn: Conn, name: str = "items") -> Any:
    row = conn.execute("SELECT description FROM leyden.tables WHERE table_name = %s", (name,)).fetchone()
    assert row is not None
    return row[0]


def test_an_added_column_is_recorded_and_watched(conn: Conn) -> None:
    conn.execute("ALTER TABLE items ADD COLUMN n int4, ADD COLUMN t timestamptz")
    (change,) = latest(conn)
    assert (change["kind"], change["columns"], change["table"]) == ("add_columns", ["n", "t"], stored(conn))
    conn.execute("INSERT INTO items (id, nn) VALUES ('x', '')")
    assert conn.execute("SELECT col_tags ? 'n' FROM leyden.row_state").fetchone() == (True,)


def test_an_added_column_of_a_new_enum_brings_the_enum(conn: Conn) -> None:
    conn.execute("CREATE TYPE size AS ENUM ('s', 'm'); ALTER TABLE items ADD COLUMN s size, ADD COLUMN m2 mood")
    enum, added = latest(conn)
    assert enum == {"kind": "create_enum", "enum": {"name": "size", "labels": ["s", "m"]}}
    assert added["columns"] == ["s", "m2"]


def test_an_added_index_is_recorded(conn: Conn) -> None:
    conn.execute("CREATE INDEX by_a ON items (a DESC, id)")
    (change,) = latest(conn)
    assert change["kind"] == "create_index"
    assert change["index"] == {
        "name": "by_a",
        "unique": False,
        "columns": [{"name": "a", "descending": True}, {"name": "id", "descending": False}],
    }
    assert change["table"] == stored(conn)


def test_an_index_made_concurrently_is_recorded(conn: Conn) -> None:
    conn.execute("CREATE INDEX CONCURRENTLY by_a ON items (a)")
    assert latest(conn)[0]["index"]["name"] == "by_a"


def test_one_transaction_is_one_version_with_final_descriptions(conn: Conn) -> None:
    before = count(conn)
    with conn.transaction():
        conn.execute("ALTER TABLE items ADD COLUMN n int4")
        conn.execute("CREATE TABLE fresh (id text PRIMARY KEY, m mood); CALL electric.electrify('fresh')")
        conn.execute("ALTER TABLE items ADD COLUMN o int4; ALTER TABLE fresh ADD COLUMN p int4")
        conn.execute("CREATE INDEX fresh_p ON fresh (p)")
    assert count(conn) == before + 1
    first, create, second = latest(conn)
    assert first["columns"] == ["n"]
    assert second["columns"] == ["o"]
    assert first["table"] == second["table"] == stored(conn)
    assert create == {"kind": "create_table", "table": stored(conn, "fresh")}


def test_a_table_given_up_in_the_same_transaction_is_no_version(conn: Conn) -> None:
    before = count(conn)
    with conn.transaction():
        conn.execute("CREATE TABLE fresh (id text PRIMARY KEY); CALL electric.electrify('fresh')")
        conn.execute("SELECT leyden.disable('fresh'); DROP TABLE fresh")
    assert count(conn) == before


def test_immediate_constraints_still_give_one_version(conn: Conn) -> None:
    before = count(conn)
    with conn.transaction():
        conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
        conn.execute("ALTER TABLE items ADD COLUMN n int4")
        conn.execute("ALTER TABLE items ADD COLUMN o int4")
    assert count(conn) == before + 1
    assert [change["columns"] for change in latest(conn)] == [["n"], ["o"]]


REFUSED = [
    "ALTER TABLE items DROP COLUMN a",
    "ALTER TABLE items RENAME COLUMN a TO b",
    "ALTER TABLE items RENAME TO things",
    "ALTER TABLE items RENAME CONSTRAINT items_p TO items_q",
    "ALTER TABLE items RENAME CONSTRAINT items_pkey TO items_key",
    "ALTER INDEX items_pkey RENAME TO items_key",
    "ALTER TABLE items ALTER COLUMN a TYPE varchar",
    "ALTER TABLE items ALTER COLUMN a TYPE text USING upper(a)",
    "ALTER TABLE items ALTER COLUMN a SET NOT NULL",
    "ALTER TABLE items ALTER COLUMN nn DROP NOT NULL",
    "ALTER TABLE items ALTER COLUMN a SET DEFAULT 'x'",
    "ALTER TABLE items ADD COLUMN b int4 NOT NULL",
    "ALTER TABLE items ADD COLUMN b timestamptz DEFAULT now()",
    "ALTER TABLE items ADD COLUMN b numeric",
    "ALTER TABLE items ADD COLUMN b text REFERENCES parents",
    "ALTER TABLE items ADD COLUMN b text GENERATED ALWAYS AS (a) STORED",
    "ALTER TABLE items ADD COLUMN b int4 GENERATED ALWAYS AS IDENTITY",
    'ALTER TABLE items ADD COLUMN "A" text',
    "ALTER TABLE items ADD CHECK (a > '')",
    "ALTER TABLE items ADD UNIQUE (a)",
    "ALTER TABLE items ADD FOREIGN KEY (a) REFERENCES parents",
    "ALTER TABLE items DROP CONSTRAINT items_p",
    "ALTER TABLE items DROP CONSTRAINT items_pkey",
    "ALTER TABLE items ADD COLUMN ok int4, DROP COLUMN a",
    "ALTER TABLE items DROP COLUMN nn, ADD COLUMN nn text NOT NULL",
    "ALTER TABLE items DROP COLUMN a, ADD COLUMN a text",
    "ALTER TABLE items DROP CONSTRAINT items_p, ADD CONSTRAINT items_p FOREIGN KEY (p) REFERENCES items",
    "ALTER TABLE items ADD COLUMN b text CHECK (b > '')",
    "ALTER TABLE items ADD COLUMN b text UNIQUE",
    "ALTER TABLE items ADD CHECK (a > '') NOT VALID",
    "ALTER TABLE items ADD EXCLUDE (a WITH =)",
    "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION leyden.on_truncate()",
    "CREATE UNIQUE INDEX ON items (a)",
    "DROP INDEX items_a; CREATE INDEX items_a ON items (p)",
    "DROP INDEX items_a; CREATE INDEX items_a ON parents (id)",
    "DROP INDEX items_a; CREATE TABLE items_a (id text PRIMARY KEY); CALL electric.electrify('items_a')",
    'CREATE INDEX "Items_A" ON parents (id)',
    'CREATE INDEX "Parents" ON items (a)',
    "CREATE INDEX sqlite_a ON items (a)",
    "DROP TABLE items",
    "CREATE TABLE z (); DROP TABLE z, items",
    "DROP TABLE parents CASCADE",
    "DROP SCHEMA public CASCADE",
    "DROP TYPE mood CASCADE",
    "ALTER TYPE mood ADD VALUE 'angry'",
    "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
    "ALTER TYPE mood RENAME TO feeling",
    "ALTER TYPE mood SET SCHEMA electric",
    "CREATE SCHEMA z; ALTER TABLE items SET SCHEMA z",
    "ALTER SCHEMA public RENAME TO z",
    "ALTER TABLE items REPLICA IDENTITY DEFAULT",
    "ALTER TABLE items DISABLE TRIGGER USER",
    "ALTER TABLE items ENABLE TRIGGER leyden_write",
    "DROP TRIGGER leyden_write ON items",
    "DROP FUNCTION leyden.on_truncate() CASCADE",
    "ALTER PUBLICATION leyden DROP TABLE items",
    "ALTER PUBLICATION leyden DROP TABLE leyden.row_state",
    "ALTER PUBLICATION leyden SET TABLE leyden.row_state, leyden.versions, leyden.tables",
    "ALTER PUBLICATION leyden SET TABLE leyden.row_state, leyden.versions, leyden.tables, parents, items (id, a)",
    "ALTER PUBLICATION leyden SET TABLE leyden.row_state, leyden.versions, leyden.tables, parents, items WHERE (true)",
    "ALTER PUBLICATION leyden SET (publish = 'insert, update, delete')",
    "ALTER PUBLICATION leyden RENAME TO other",
    "DROP PUBLICATION leyden",
    "CREATE TABLE kid () INHERITS (items)",
    "CREATE TABLE whole (LIKE items) PARTITION BY LIST (id); ALTER TABLE whole ATTACH PARTITION items DEFAULT",
    "DO $$ BEGIN EXECUTE 'ALTER TABLE items DROP COLUMN a'; END $$",
    "ALTER TABLE IF EXISTS items DROP COLUMN IF EXISTS a",
    "DROP TABLE IF EXISTS nothing, items",
    "ALTER TABLE items ALTER COLUMN nn SET DEFAULT gen_random_uuid()::text",
    'ALTER TABLE items ADD COLUMN b text COLLATE "C" UNIQUE',
    "ALTER TABLE items ADD COLUMN b varchar(5)",
    "ALTER TABLE items ADD COLUMN b text[]",
    "CREATE DOMAIN short AS text; ALTER TABLE items ADD COLUMN b short",
    "CREATE TABLE base (id text, a text, m mood, p text, nn text); ALTER TABLE items INHERIT base",
    "CREATE TABLE whole (LIKE items) PARTITION BY RANGE (id);"
    "ALTER TABLE whole ATTACH PARTITION items FOR VALUES FROM ('a') TO ('b')",
    "CREATE TABLE z (LIKE items); ALTER TABLE items RENAME TO was; ALTER TABLE z RENAME TO items",
    "DROP TYPE IF EXISTS mood CASCADE",
    "DROP FUNCTION leyden.row_written CASCADE; DROP TRIGGER leyden_truncate ON items",
    "ALTER TABLE items ENABLE REPLICA TRIGGER leyden_truncate",
    "ALTER TRIGGER leyden_write ON items RENAME TO other",
    "ALTER TABLE items RENAME CONSTRAINT items_pkey TO pk; ALTER TABLE items RENAME CONSTRAINT pk TO pk2",
    "ALTER TABLE parents DROP CONSTRAINT parents_pkey CASCADE",
    "ALTER TABLE items ALTER CONSTRAINT items_p DEFERRABLE; ALTER TABLE items DROP CONSTRAINT items_p",
]


@pytest.mark.parametrize("ddl", REFUSED)
def test_ddl_that_clients_cannot_follow_is_refused_whole(conn: Conn, ddl: Any) -> None:
    before = stored(conn)
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refusal:
        conn.execute(ddl)
    assert refusal.value.diag.message_hint
    assert stored(conn) == before
    assert conn.execute(
        "SELECT leyden.describe('items') = %s::jsonb", (psycopg.types.json.Jsonb(before),)
    ).fetchone() == (True,)


HARMLESS = [
    "CREATE ROLE leyden_test_owner; ALTER TABLE items OWNER TO leyden_test_owner;"
    "ALTER TABLE items OWNER TO CURRENT_USER; DROP ROLE leyden_test_owner",
    "ALTER TABLE items ALTER COLUMN a SET STORAGE EXTERNAL",
    "ALTER TABLE items ALTER COLUMN a SET STATISTICS 100",
    "ALTER TABLE items SET (fillfactor = 70)",
    "ALTER TABLE items ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON items USING (true); DROP POLICY p ON items",
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
    "CREATE TRIGGER t BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION f();"
    "ALTER TABLE items DISABLE TRIGGER t; DROP TRIGGER t ON items",
    "COMMENT ON TABLE items IS 'hello'",
    "GRANT SELECT ON items TO PUBLIC",
    "DROP INDEX items_a",
    "DROP INDEX items_a; CREATE INDEX items_a ON items (a)",
    "CREATE INDEX ON items (lower(a)); CREATE INDEX ON items (a) WHERE a > ''; CREATE INDEX ON items USING hash (a)",
    "REINDEX TABLE items",
    "REINDEX TABLE CONCURRENTLY items",
    "DROP INDEX CONCURRENTLY items_a",
    "ALTER TABLE items ALTER COLUMN a TYPE text",
    "ALTER TABLE items CLUSTER ON items_pkey",
    "CREATE TABLE z (LIKE items INCLUDING ALL); DROP TABLE z",
    "CREATE STATISTICS s ON a, p FROM items",
    "CREATE MATERIALIZED VIEW v AS SELECT * FROM items; DROP MATERIALIZED VIEW v",
    "ALTER PUBLICATION leyden OWNER TO CURRENT_USER; ALTER PUBLICATION leyden SET (publish_via_partition_root = true)",
    "CREATE TABLE z (id int PRIMARY KEY); ALTER PUBLICATION leyden ADD TABLE z; ALTER PUBLICATION leyden DROP TABLE z",
    "CREATE PUBLICATION z FOR TABLE items; DROP PUBLICATION z",
    "CLUSTER items USING items_pkey",
    "VACUUM FULL items",
    "CREATE VIEW v AS SELECT * FROM items; DROP VIEW v",
    "CREATE TABLE z (id int PRIMARY KEY, p text REFERENCES items UNIQUE); ALTER TABLE z DROP COLUMN p; DROP TABLE z",
    "CREATE TEMP TABLE items2 (id int); DROP TABLE items2",
    "CREATE TYPE other AS ENUM ('x'); ALTER TYPE other ADD VALUE 'y'; DROP TYPE other",
    "CREATE TABLE z AS SELECT * FROM items; DROP TABLE z",
    "SELECT * INTO z FROM items; ALTER TABLE z RENAME COLUMN a TO b; ALTER TABLE z DROP COLUMN b; DROP TABLE z",
    "ALTER TABLE IF EXISTS nothing DROP COLUMN a",
    "ALTER TABLE items ADD COLUMN IF NOT EXISTS a text",
    "CREATE INDEX IF NOT EXISTS items_a ON items (a)",
    "CREATE TABLE whole (id int) PARTITION BY LIST (id); CREATE TABLE part PARTITION OF whole DEFAULT;"
    "ALTER TABLE whole DETACH PARTITION part; DROP TABLE part, whole",
    "CREATE SCHEMA z; CREATE TABLE z.items (id int); DROP SCHEMA z CASCADE",
    "CREATE TABLE z (id int); CREATE SCHEMA y; ALTER TABLE z SET SCHEMA y; DROP SCHEMA y CASCADE",
    "ALTER TABLE items ALTER CONSTRAINT items_p DEFERRABLE INITIALLY DEFERRED",
    "ALTER TABLE items ALTER COLUMN a SET (n_distinct = 5), ALTER COLUMN a SET COMPRESSION pglz",
    "ALTER INDEX items_a SET (fillfactor = 80)",
    "ALTER TYPE mood OWNER TO CURRENT_USER",
    "CREATE RULE r AS ON INSERT TO items DO ALSO NOTIFY x; DROP RULE r ON items",
    "DO $$ BEGIN CREATE TABLE z (a int); ALTER TABLE z RENAME a TO b; DROP TABLE z; END $$",
]


@pytest.mark.parametrize("ddl", HARMLESS)
def test_ddl_that_means_nothing_to_clients_passes_unrecorded(conn: Conn, ddl: str) -> None:
    before, description = count(conn), stored(conn)
    for statement in [ddl] if "BEGIN" in ddl else ddl.split(";"):
        conn.execute(statement.encode())
    assert (count(conn), stored(conn)) == (before, description)


def test_an_index_that_is_renamed_is_another_one_to_clients(conn: Conn) -> None:
    conn.execute("ALTER INDEX items_a RENAME TO by_a")
    (change,) = latest(conn)
    assert (change["kind"], change["index"]["name"]) == ("create_index", "by_a")
    assert [index["name"] for index in stored(conn)["indexes"]] == ["items_a", "by_a"]


def test_the_error_names_the_reason_and_the_way_out(conn: Conn) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refusal:
        conn.execute("ALTER TABLE items DROP COLUMN a")
    assert "column a is dropped, renamed or in another place" in str(refusal.value.diag.message_primary)
    assert "leyden.disable" in str(refusal.value.diag.message_hint)


def test_without_a_guard_a_second_electrify_catches_up(conn: Conn) -> None:
    conn.execute("DROP EVENT TRIGGER leyden_ddl; ALTER TABLE items ADD COLUMN n int4")
    conn.execute("CALL electric.electrify('items')")
    assert latest(conn)[0]["columns"] == ["n"]


def test_everything_can_be_removed(conn: Conn) -> None:
    conn.execute("DROP EVENT TRIGGER leyden_ddl; DROP EVENT TRIGGER leyden_drop; DROP PUBLICATION leyden")
    conn.execute("DROP SCHEMA leyden CASCADE; DROP SCHEMA electric CASCADE; DROP TABLE items")
