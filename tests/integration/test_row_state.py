"""What the triggers record about rows that Postgres itself writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from leyden.postgres import catalog, sessions
from leyden.postgres.row_key import key_expression, row_key

Conn = psycopg.Connection[Any]

#: A client's clock that is ahead of everybody's.
FUTURE = 99_000_000_000_000


@pytest.fixture
def conn(database: str) -> Iterator[Conn]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id text PRIMARY KEY, a text, b int4)")
        connection.execute("CALL electric.electrify('items')")
        yield connection


def now_ms(conn: Conn) -> int:
    row = conn.execute("SELECT (extract(epoch FROM current_timestamp(3)) * 1000)::bigint").fetchone()
    assert row is not None
    return int(row[0])


def state(conn: Conn, key: str = '["x"]') -> tuple[list[str], dict[str, Any], dict[str, Any] | None]:
    row = conn.execute("SELECT tags, col_tags, dead FROM leyden.row_state WHERE pk = %s", (key,)).fetchone()
    assert row is not None
    return row


def set_state(conn: Conn, tags: list[str], col_tags: dict[str, Any]) -> None:
    conn.execute("UPDATE leyden.row_state SET tags = %s, col_tags = %s", (tags, Jsonb(col_tags)))


def test_an_insert_tags_every_column_with_the_start_of_the_transaction(conn: Conn) -> None:
    with conn.transaction():
        conn.execute("INSERT INTO items VALUES ('x', NULL, 1)")
        ms = now_ms(conn)
    assert state(conn) == ([f"postgres_1@{ms}"], {"a": [ms, None], "b": [ms, None]}, None)


def test_an_update_lifts_only_the_columns_with_new_values(conn: Conn) -> None:
    conn.execute("INSERT INTO items VALUES ('x', 'old', 1)")
    set_state(conn, ["c@5"], {"a": [5, "c"], "b": [6, "d"]})
    with conn.transaction():
        conn.execute("UPDATE items SET a = 'new', b = 1")
        ms = now_ms(conn)
    assert state(conn) == ([f"postgres_1@{ms}"], {"a": [ms, None], "b": [6, "d"]}, None)


def test_a_write_by_postgres_beats_a_clock_that_is_ahead(conn: Conn) -> None:
    conn.execute("INSERT INTO items VALUES ('x', 'old', 1)")
    set_state(conn, [f"c@{FUTURE}"], {"a": [FUTURE, "c"], "b": [6, "d"]})
    conn.execute("UPDATE items SET b = 2")
    tags, col_tags, _ = state(conn)
    assert tags == [f"postgres_1@{FUTURE}"]
    assert col_tags == {"a": [FUTURE, "c"], "b": [FUTURE, None]}


def test_a_row_of_a_client_whose_clock_is_ahead_can_be_deleted(conn: Conn) -> None:
    conn.execute("INSERT INTO items VALUES ('x', 'old', 1)")
    set_state(conn, [f"c@{FUTURE}"], {"a": [FUTURE, "c"]})
    conn.execute("DELETE FROM items")
    assert state(conn) == ([], {"a": [FUTURE, "c"]}, {"id": "x", "a": "old", "b": "1"})


def test_a_row_without_state_gets_all_columns_tagged_by_its_first_update(conn: Conn) -> None:
    conn.execute("INSERT INTO items VALUES ('x', 'old', 1); DELETE FROM leyden.row_state")
    with conn.transaction():
        conn.execute("UPDATE items SET a = 'new'")
        ms = now_ms(conn)
    assert state(conn) == ([f"postgres_1@{ms}"], {"a": [ms, None], "b": [ms, None]}, None)


def test_a_delete_keeps_the_last_version_even_without_state(conn: Conn) -> None:
    conn.execute("INSERT INTO items VALUES ('x', NULL, 1); DELETE FROM leyden.row_state; DELETE FROM items")
    assert state(conn) == ([], {}, {"id": "x", "a": None, "b": "1"})


def test_a_changed_key_is_a_delete_and_an_insert(conn: Conn) -> None:
    conn.execute("INSERT INTO items VALUES ('x', 'a', 1)")
    with conn.transaction():
        conn.execute("UPDATE items SET id = 'y', a = 'b'")
        ms = now_ms(conn)
    assert state(conn)[0] == []
    assert state(conn)[2] == {"id": "x", "a": "a", "b": "1"}
    assert state(conn, '["y"]') == ([f"postgres_1@{ms}"], {"a": [ms, None], "b": [ms, None]}, None)


def test_keys_passed_on_within_one_statement_belong_to_living_rows(conn: Conn) -> None:
    conn.execute("CREATE TABLE queue (n int4 PRIMARY KEY DEFERRABLE, a text)")
    conn.execute("CALL electric.electrify('queue')")
    conn.execute("INSERT INTO queue VALUES (1), (2), (3); UPDATE queue SET n = n + 1")
    alive = conn.execute("SELECT pk FROM leyden.row_state WHERE tags <> '{}' ORDER BY pk").fetchall()
    assert alive == [('["2"]',), ('["3"]',), ('["4"]',)]
    assert state(conn, '["1"]')[0] == []
    assert state(conn, '["2"]')[2] is None


def test_the_row_that_the_service_writes_is_left_to_it_and_others_are_not(conn: Conn) -> None:
    with conn.transaction():
        conn.execute("""
            SELECT set_config('leyden.server_row', 'items'::regclass::oid || ':["x"]', true);
            INSERT INTO items VALUES ('x', 'a', 1), ('y', 'a', 1);
            UPDATE items SET a = 'b';
            DELETE FROM items WHERE id = 'x';
        """)
    assert conn.execute("SELECT pk FROM leyden.row_state").fetchall() == [('["y"]',)]


def test_rows_deleted_by_a_cascade_of_the_services_own_write_lose_their_tags(conn: Conn) -> None:
    conn.execute("CREATE TABLE kids (id text PRIMARY KEY, item text REFERENCES items ON DELETE CASCADE)")
    conn.execute("CALL electric.electrify('kids')")
    conn.execute("INSERT INTO items VALUES ('x'); INSERT INTO kids VALUES ('k', 'x')")
    with conn.transaction():
        conn.execute("""
            SELECT set_config('leyden.server_row', 'items'::regclass::oid || ':["x"]', true);
            DELETE FROM items;
        """)
    assert state(conn, '["k"]')[0] == []
    assert state(conn)[0] != []


def test_on_conflict_do_nothing_changes_no_tag(conn: Conn) -> None:
    conn.execute("INSERT INTO items VALUES ('x', 'a', 1)")
    before = state(conn)
    conn.execute("INSERT INTO items VALUES ('x', 'b', 2) ON CONFLICT DO NOTHING")
    assert state(conn) == before


def test_truncate_empties_the_tags_of_its_table_only(conn: Conn) -> None:
    conn.execute("CREATE TABLE others (id text PRIMARY KEY); CALL electric.electrify('others')")
    conn.execute("INSERT INTO items VALUES ('x', 'a', 1); INSERT INTO others VALUES ('o'); TRUNCATE items")
    assert state(conn)[0] == []
    assert state(conn, '["o"]')[0] != []


def test_a_rolled_back_write_leaves_nothing(conn: Conn) -> None:
    with pytest.raises(psycopg.errors.RaiseException), conn.transaction():
        conn.execute("INSERT INTO items VALUES ('x'); DO $$ BEGIN RAISE 'no'; END $$")
    assert conn.execute("SELECT count(*) FROM leyden.row_state").fetchone() == (0,)


AWKWARD_NAMES = [
    *("_hidden", "by", "select", 'say "hi"', "it's", "%I $1 %s", "Ünïcödé", "tab\tnew\nline", "back\\slash", "n" * 63)
]


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_any_name_works_for_tables_and_columns(conn: Conn, name: str) -> None:
    table, column = sql.Identifier(name), sql.Identifier(name + "_" if len(name) < 60 else "m" * 63)
    conn.execute(sql.SQL("CREATE TABLE {} ({} text PRIMARY KEY, {} text)").format(table, column, table))
    conn.execute("CALL electric.electrify('public', %s)", (name,))
    conn.execute(sql.SQL("INSERT INTO {} VALUES ('x', 'a')").format(table))
    conn.execute(sql.SQL("UPDATE {} SET {} = 'b'").format(table, table))
    conn.execute(sql.SQL("DELETE FROM {}").format(table))
    tags, col_tags, dead = state(conn)
    assert (tags, list(col_tags)) == ([], [name])
    assert dead is not None
    assert dead[name] == "b"


def test_two_long_names_that_share_their_start_do_not_meet(conn: Conn) -> None:
    for last in "ab":
        conn.execute(sql.SQL("CREATE TABLE {} (id text PRIMARY KEY)").format(sql.Identifier("n" * 62 + last)))
        conn.execute("CALL electric.electrify(%s)", ("n" * 62 + last,))
    conn.execute(sql.SQL("INSERT INTO {} VALUES ('x')").format(sql.Identifier("n" * 62 + "a")))
    assert conn.execute("SELECT count(*) FROM leyden.row_state").fetchone() == (1,)


FORMS = """
CREATE TYPE mood AS ENUM ('ok');
CREATE TABLE forms (a bool, b bytea, c date, d float4, e float8, f int8, g jsonb, h time, i timestamp, j timestamptz,
                    k uuid, l varchar, m mood, n text,
                    PRIMARY KEY (n, a, b, c, d, e, f, h, i, j, k, l, m));
"""
VALUES = """
INSERT INTO forms VALUES (true, '\\x00ff', '2024-02-29', 0.1, 0.1::float8 + 0.2, 9007199254740993, '{"b":1.0, "a":[]}',
    '12:34:56.789', '2024-02-29 12:34:56.789', '2024-02-29 12:34:56.789+03',
    '0123456789abcdef0123456789abcdef', 'v', 'ok', E'é"\\\\\\n\\t\\x01\\x7f/')
"""


def test_text_forms_do_not_depend_on_the_session_that_writes(database: str, conn: Conn) -> None:
    conn.execute(FORMS)
    conn.execute("CALL electric.electrify('forms')")
    conn.execute("""
        SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo'; SET bytea_output = 'escape'; SET extra_float_digits = -3;
        SET search_path = ''
    """)
    conn.execute(VALUES.replace("INTO forms", "INTO public.forms").encode())

    async def read() -> tuple[str, str, list[bytes | None]]:
        async with await sessions.connect(database) as own:
            (table,) = (t for t in (await catalog.load_tables(own)).values() if t.name == "forms")
            cursor = await own.execute("SELECT * FROM forms")
            result = cursor.pgresult
            assert result is not None
            row = tuple(result.get_value(0, column) for column in range(result.nfields))
            cursor = await own.execute(sql.SQL("SELECT {} FROM forms AS t").format(key_expression(table, "t")))
            found = await cursor.fetchone()
            assert found is not None
            return found[0], row_key(table.key_of(row)), list(row)

    in_sql, in_python, row = asyncio.run(read())
    assert conn.execute("SELECT pk FROM leyden.row_state").fetchone() == (in_sql,)
    assert in_python == in_sql
    assert json.loads(in_sql)[1:3] == ["t", "\\x00ff"]
    conn.execute("DELETE FROM public.forms")
    dead = state(conn, in_sql)[2]
    assert dead is not None
    assert [dead[name] for name in "abcdefghijklmn"] == [None if v is None else v.decode() for v in row]


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [("float8", "0", "'-0'"), ("jsonb", "'1'", "'1.0'"), ("float4", "'NaN'", "1")],
)
def test_values_that_postgres_calls_equal_but_clients_tell_apart_are_changes(
    conn: Conn, kind: str, old: str, new: str
) -> None:
    conn.execute(f"CREATE TABLE pairs (id text PRIMARY KEY, v {kind}, w {kind})".encode())
    conn.execute("CALL electric.electrify('pairs')")
    conn.execute(f"INSERT INTO pairs VALUES ('x', {old}, {old})".encode())
    set_state(conn, ["c@5"], {"v": [5, "c"], "w": [5, "c"]})
    conn.execute(f"UPDATE pairs SET v = {new}".encode())
    col_tags = state(conn)[1]
    assert (col_tags["v"][1], col_tags["w"]) == (None, [5, "c"])


def test_a_role_that_may_only_write_the_table_needs_nothing_else(conn: Conn) -> None:
    with conn.transaction(force_rollback=True):
        conn.execute("CREATE ROLE app; GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON items TO app; SET ROLE app")
        conn.execute("INSERT INTO items VALUES ('x'); UPDATE items SET a = 'a'; DELETE FROM items; TRUNCATE items")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
            conn.execute("SELECT * FROM leyden.row_state")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
            conn.execute("SELECT leyden.row_deleted('items'::regclass, '[]', '{}')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
            conn.execute("SELECT leyden.disable('items')")


def test_writes_are_recorded_even_by_sessions_that_replicate(conn: Conn) -> None:
    with conn.transaction():
        conn.execute("SET LOCAL session_replication_role = replica; INSERT INTO items VALUES ('x')")
    assert state(conn)[0] != []


# ---- what rows were tied to --------------------------------------------------------------------------------------


def former_ties(conn: Conn, *columns: str) -> list[tuple[str, tuple[str | None, ...]]]:
    rows = conn.execute("SELECT pk, ties FROM leyden.former_ties ORDER BY ctid").fetchall()
    assert all(ties.keys() == set(columns) for _, ties in rows)
    return [(pk, tuple(ties[column] for column in columns)) for pk, ties in rows]


@pytest.fixture
def tied(conn: Conn) -> Conn:
    """A table whose rows refer to another and have an owner."""
    conn.execute("INSERT INTO items VALUES ('x'), ('y')")
    conn.execute(
        'CREATE TABLE kids (id int4 PRIMARY KEY, "item ""s" text REFERENCES items, electric_user_id uuid, n int4)'
    )
    conn.execute("CALL electric.electrify('kids')")
    return conn


TIES = ('item "s', "electric_user_id")
ALICE = "00000000-0000-4000-8000-00000000000a"


def test_ties_are_kept_when_a_row_is_tied_to_something_else(tied: Conn) -> None:
    tied.execute("INSERT INTO kids VALUES (1, 'x', NULL)")
    tied.execute("UPDATE kids SET n = 1")
    tied.execute("UPDATE kids SET n = n, electric_user_id = electric_user_id")
    assert former_ties(tied, *TIES) == []
    tied.execute("UPDATE kids SET electric_user_id = %s", (ALICE,))
    tied.execute("""UPDATE kids SET "item ""s" = 'y'""")
    tied.execute("""UPDATE kids SET "item ""s" = NULL""")
    assert former_ties(tied, *TIES) == [('["1"]', ("x", None)), ('["1"]', ("x", ALICE)), ('["1"]', ("y", ALICE))]


def test_ties_are_kept_of_rows_that_end(tied: Conn) -> None:
    tied.execute("INSERT INTO kids VALUES (1, 'x', %s), (2, 'y', NULL), (3, NULL, NULL)", (ALICE,))
    tied.execute("UPDATE kids SET id = 7 WHERE id = 1")
    tied.execute("DELETE FROM kids WHERE id = 2")
    assert former_ties(tied, *TIES) == [('["1"]', ("x", ALICE)), ('["2"]', ("y", None))]
    tied.execute("TRUNCATE kids")
    assert sorted(former_ties(tied, *TIES)[2:]) == [('["3"]', (None, None)), ('["7"]', ("x", ALICE))]


def test_ties_are_kept_whoever_writes(tied: Conn) -> None:
    tied.execute("INSERT INTO kids VALUES (1, 'x', NULL)")
    with tied.transaction():
        tied.execute("""
            SELECT set_config('leyden.server_row', 'kids'::regclass::oid || ':["1"]', true);
            UPDATE kids SET "item ""s" = 'y';
        """)
    assert former_ties(tied, *TIES) == [('["1"]', ("x", None))]


def test_an_owner_who_came_later_and_a_table_without_ties(conn: Conn) -> None:
    conn.execute("INSERT INTO items VALUES ('x', 'a', 1)")
    conn.execute("UPDATE items SET a = 'b'; DELETE FROM items WHERE b = 2")
    conn.execute("ALTER TABLE items ADD COLUMN electric_user_id text")
    conn.execute("UPDATE items SET electric_user_id = 'alice'")
    conn.execute("DELETE FROM items")
    assert former_ties(conn, "electric_user_id") == [('["x"]', (None,)), ('["x"]', ("alice",))]
    conn.execute("SELECT leyden.disable('items')")
    assert former_ties(conn, "electric_user_id") == []
