"""Columns with a default: constants that clients can fill in themselves are recorded, all others are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

Conn = psycopg.Connection[Any]

#: Column definition → the default as the replication stream prints it.
CONSTANTS = {
    "bool DEFAULT false": "f",
    "bool DEFAULT 'yes'": "t",
    "int2 DEFAULT 1::int2": "1",
    "int4 DEFAULT '5'": "5",
    "int4 DEFAULT -1": "-1",
    "int8 DEFAULT -1": "-1",
    "int8 DEFAULT -9223372036854775808": "-9223372036854775808",
    "float4 DEFAULT 0.1": "0.1",
    "float8 DEFAULT 1": "1",
    "float8 DEFAULT -1.5e300": "-1.5e+300",
    "float8 DEFAULT 'Infinity'": "Infinity",
    "float8 DEFAULT 'NaN'": "NaN",
    "text DEFAULT ''": "",
    "text DEFAULT 'it''s; -- \\n \"x\"'": 'it\'s; -- \\n "x"',
    "text DEFAULT E'line\\nbreak'": "line\nbreak",
    "varchar DEFAULT 'x'::text": "x",
    "bytea DEFAULT '\\x00ff'": "\\x00ff",
    "bytea DEFAULT 'a\\\\b'": "\\x615c62",
    "jsonb DEFAULT '{\"b\": [1,  \"it''s\"]}'": '{"b": [1, "it\'s"]}',
    "uuid DEFAULT '00000000-0000-0000-0000-00000000000A'": "00000000-0000-0000-0000-00000000000a",
    "date DEFAULT '2024-02-29'": "2024-02-29",
    "time DEFAULT '10:00'": "10:00:00",
    "timestamp DEFAULT '2024-02-29 12:00:00.5'": "2024-02-29 12:00:00.5",
    "timestamptz DEFAULT '2024-02-29 12:00:00+02'": "2024-02-29 10:00:00+00",
    "timestamptz DEFAULT 'infinity'": "infinity",
    "mood DEFAULT 'sad'": "sad",
    "mood DEFAULT 'Happy_2'::mood": "Happy_2",
}

COMPUTED = [
    *("timestamptz DEFAULT now()", "date DEFAULT CURRENT_DATE", "text DEFAULT CURRENT_USER", "text DEFAULT upper('a')"),
    *(
        "int4 DEFAULT 1 + 2",
        "uuid DEFAULT gen_random_uuid()",
        "int4 DEFAULT nextval('numbers')",
        "float8 DEFAULT random()",
    ),
    # Which moment that is, the time zone of the session decides.
    *("timestamptz DEFAULT date '2024-01-01'", "date DEFAULT 'now'::text::date"),
    "int2 DEFAULT 70000",
    "text DEFAULT alarm()",
]

UNUSUAL_SESSION = {
    "DateStyle": "German",
    "TimeZone": "Asia/Tokyo",
    "bytea_output": "escape",
    "extra_float_digits": "-10",
}


@pytest.fixture
def conn(database: str) -> Iterator[Conn]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("""
            CREATE TYPE mood AS ENUM ('sad', 'Happy_2');
            CREATE SEQUENCE numbers;
            CREATE FUNCTION alarm() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'was run'; END $$;
            CREATE TABLE items (id text PRIMARY KEY, a text);
            INSERT INTO items VALUES ('before');
            CALL electric.electrify('items');
        """)
        yield connection


def latest(conn: Conn) -> list[Any]:
    row = conn.execute("SELECT changes FROM leyden.versions ORDER BY version DESC LIMIT 1").fetchone()
    assert row is not None
    return list(row[0])


def described(conn: Conn, name: str = "items") -> dict[str, Any]:
    """The columns that have one, with their defaults as clients know them."""
    row = conn.execute("SELECT description FROM leyden.tables WHERE table_name = %s", (name,)).fetchone()
    assert row is not None
    return {column["name"]: column["default"] for column in row[0]["columns"] if "default" in column}


@pytest.mark.parametrize(("column", "default"), CONSTANTS.items())
def test_a_constant_is_recorded_in_the_text_form_of_the_stream(conn: Conn, column: str, default: str) -> None:
    for name, value in UNUSUAL_SESSION.items():
        conn.execute("SELECT set_config(%s, %s, false)", (name, value))
    conn.execute(f"ALTER TABLE items ADD COLUMN c {column}".encode())
    (change,) = [one for one in latest(conn) if one["kind"] == "add_columns"]
    assert change["columns"] == ["c"]
    assert described(conn) == {"c": default}
    conn.execute(f"CREATE TABLE fresh (id text PRIMARY KEY, c {column})".encode())
    conn.execute("CALL electric.electrify('fresh')")
    assert described(conn, "fresh") == {"c": default}


@pytest.mark.parametrize("column", COMPUTED)
def test_what_only_postgres_can_compute_is_refused_with_a_remedy(conn: Conn, column: str) -> None:
    conn.execute(f"CREATE TABLE fresh (id text PRIMARY KEY, c {column})".encode())
    for statement in (f"ALTER TABLE items ADD COLUMN c {column}", "CALL electric.electrify('fresh')"):
        with pytest.raises(psycopg.Error) as refusal:
            conn.execute("BEGIN; DELETE FROM items; " + statement)  # type: ignore[operator]
        conn.execute("ROLLBACK")
        if "70000" in statement and "ALTER" in statement:  # Postgres itself finds out
            continue
        assert "column c has a default that is not a constant" in str(refusal.value.diag.message_primary)
        assert "DROP DEFAULT" in str(refusal.value.diag.message_hint)


def test_nothing_of_the_tables_owner_runs_with_the_services_rights(conn: Conn) -> None:
    conn.execute("""
        CREATE FUNCTION alarm(mood) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'was run'; END $$;
        CREATE CAST (mood AS text) WITH FUNCTION alarm(mood);
        CREATE FUNCTION is_fine(int4) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'was run'; END $$;
        CREATE DOMAIN checked AS int4 CHECK (is_fine(VALUE));
        CREATE TABLE moods (id text PRIMARY KEY, m mood DEFAULT 'sad');
        CREATE TABLE fresh (id text PRIMARY KEY, c checked DEFAULT '1'::checked, d text DEFAULT alarm());
        CALL electric.electrify('moods');
    """)
    assert described(conn, "moods") == {"m": "sad"}
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="column c has a default that is not a constant"):
        conn.execute("CALL electric.electrify('fresh')")


def test_a_column_that_takes_no_null_comes_with_its_default(conn: Conn) -> None:
    conn.execute("ALTER TABLE items ADD COLUMN n int4 NOT NULL DEFAULT 7")
    (change,) = latest(conn)
    assert change["table"]["columns"][-1] == {
        "name": "n",
        "number": 3,
        "type": "int4",
        "not_null": True,
        "is_enum": False,
        "default": "7",
    }


def test_a_default_dropped_afterwards_stays_with_clients(conn: Conn) -> None:
    """As Django adds a column: its rows get a default, which is then dropped."""
    with conn.transaction():
        conn.execute("ALTER TABLE items ADD COLUMN done boolean DEFAULT false NOT NULL")
        conn.execute("ALTER TABLE items ALTER COLUMN done DROP DEFAULT")
    (change,) = latest(conn)
    assert change["table"]["columns"][-1]["default"] == "f"
    conn.execute("ALTER TABLE items ADD COLUMN later text")
    assert described(conn) == {"done": "f"}
    conn.execute("ALTER TABLE items ALTER COLUMN done SET DEFAULT false")
    conn.execute("SELECT leyden.disable('items'); CALL electric.electrify('items')")
    assert described(conn) == {"done": "f"}


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("ALTER TABLE items ALTER COLUMN n SET DEFAULT 8", "column n has the default '8' now, and '7' on clients"),
        ("ALTER TABLE items ALTER COLUMN a SET DEFAULT 'x'", "column a has the default 'x' now, and none on clients"),
        ("ALTER TABLE items ALTER COLUMN n SET DEFAULT random()", "column n has a default that is not a constant"),
        ("ALTER TABLE items ADD COLUMN c int4 NOT NULL DEFAULT NULL", "column c is NOT NULL and has no default"),
    ],
)
def test_clients_cannot_take_another_default(conn: Conn, statement: str, reason: str) -> None:
    conn.execute("ALTER TABLE items ADD COLUMN n int4 DEFAULT 7; DELETE FROM items")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refusal:
        conn.execute(statement.encode())
    assert reason in str(refusal.value.diag.message_primary)
    assert refusal.value.diag.message_hint
    assert described(conn) == {"n": "7"}


def test_without_a_guard_a_dropped_default_is_found_in_the_rows(conn: Conn) -> None:
    conn.execute("DROP EVENT TRIGGER leyden_ddl")
    conn.execute("SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo'")
    conn.execute("ALTER TABLE items ADD COLUMN at timestamptz NOT NULL DEFAULT '2024-02-29 12:00:00+02'")
    conn.execute("ALTER TABLE items ADD COLUMN done boolean NOT NULL DEFAULT true")
    conn.execute("ALTER TABLE items ALTER COLUMN at DROP DEFAULT, ALTER COLUMN done DROP DEFAULT")
    conn.execute("CALL electric.electrify('items')")
    assert described(conn) == {"at": "2024-02-29 10:00:00+00", "done": "t"}
