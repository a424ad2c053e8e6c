"""Versions of the clients' schema: their names, their order, who may choose them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

Conn = psycopg.Connection[Any]


@pytest.fixture
def conn(database: str) -> Iterator[Conn]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id text PRIMARY KEY)")
        yield connection


def versions(conn: Conn) -> list[str]:
    return [row[0] for row in conn.execute("SELECT version FROM leyden.versions ORDER BY xid")]


def test_the_default_version_is_the_start_of_the_transaction(conn: Conn) -> None:
    with conn.transaction():
        started = conn.execute("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS_MS')").fetchone()
        conn.execute("SET LOCAL TimeZone = 'Asia/Tokyo'; CALL electric.electrify('items')")
    assert started is not None
    assert versions(conn) == [started[0]]
    assert re.fullmatch(r"\d{14}_\d{3}", versions(conn)[0])


@pytest.mark.parametrize("before", [True, False])
def test_a_version_may_be_named_before_or_after_the_change(conn: Conn, before: bool) -> None:
    calls = ["CALL electric.migration_version('0042_1')", "CALL electric.electrify('items')"]
    with conn.transaction():
        for call in calls if before else reversed(calls):
            conn.execute(call.encode())
    assert versions(conn) == ["0042_1"]


def test_the_row_tells_the_transaction_and_its_time(conn: Conn) -> None:
    with conn.transaction():
        own = conn.execute("SELECT pg_current_xact_id()::text").fetchone()
        conn.execute("CALL electric.electrify('items')")
    assert conn.execute("SELECT xid::text FROM leyden.versions").fetchone() == own
    assert conn.execute("SELECT committed_at <= clock_timestamp() FROM leyden.versions").fetchone() == (True,)
    assert conn.execute("SELECT count(*) FROM leyden.pending_changes").fetchone() == (0,)


def test_a_name_without_a_change_is_forgotten(conn: Conn) -> None:
    conn.execute("CALL electric.migration_version('7')")
    conn.execute("CALL electric.electrify('items')")
    assert len(versions(conn)) == 1
    assert versions(conn) != ["7"]
    assert conn.execute("SELECT count(*) FROM leyden.pending_changes").fetchone() == (0,)


@pytest.mark.parametrize("version", ["", "v1", "2024-01-01", "1 2", "1\n", "١", "1" * 129, None])
def test_a_name_that_clients_could_not_read_is_refused(conn: Conn, version: str | None) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        conn.execute("CALL electric.migration_version(%s)", (version,))


def test_a_name_that_sorts_before_the_newest_is_refused(conn: Conn) -> None:
    with conn.transaction():
        conn.execute("CALL electric.migration_version('100'); CALL electric.electrify('items')")
    for version in ("100", "0999", "0", "10"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="not greater than the newest version 100"):
            conn.execute("CALL electric.migration_version(%s)", (version,))
    with conn.transaction():
        conn.execute("CALL electric.migration_version('2'); ALTER TABLE items ADD COLUMN n int4")
    assert versions(conn) == ["100", "2"]


def test_the_default_steps_over_a_name_that_sorts_after_the_clock(conn: Conn) -> None:
    with conn.transaction():
        conn.execute("CALL electric.migration_version('9999'); CALL electric.electrify('items')")
    for name in "abc":
        conn.execute(f"ALTER TABLE items ADD COLUMN {name} int4".encode())
    assert versions(conn) == ["9999", "9999_000001", "9999_000002", "9999_000003"]


def test_the_clock_may_go_back(conn: Conn) -> None:
    with conn.transaction():
        conn.execute("CALL electric.electrify('items')")
        in_an_hour = "to_char((now() + interval '1 hour') AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS_MS')"
        conn.execute(f"CALL electric.migration_version({in_an_hour})".encode())
    for name in "abc":
        conn.execute(f"ALTER TABLE items ADD COLUMN {name} int4".encode())
    first, *later = versions(conn)
    assert later == [f"{first}_00000{number}" for number in (1, 2, 3)]
    assert conn.execute("SELECT max(version) FROM leyden.versions").fetchone() == (later[-1],)


def test_migrations_of_one_millisecond_follow_one_another(conn: Conn) -> None:
    conn.execute("CALL electric.electrify('items')")
    with conn.transaction():
        now = "to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS_MS')"
        conn.execute(f"UPDATE leyden.meta SET value = to_jsonb({now}) WHERE key = 'last_version'".encode())
        started = conn.execute(f"UPDATE leyden.versions SET version = {now} RETURNING version".encode()).fetchone()
        conn.execute("ALTER TABLE items ADD COLUMN a int4")
    assert started is not None
    assert versions(conn) == [started[0], started[0] + "_000001"]


@pytest.mark.parametrize(
    "version", ["0", "7", "20240131120000_123", "20240131120000_123_000001", "1_000999", "1_999999", "_", "9" * 128]
)
def test_the_version_after_another_sorts_after_it(conn: Conn, version: str) -> None:
    row = conn.execute(
        'SELECT v, v COLLATE "C" > %(version)s FROM leyden.version_after(%(version)s) AS v', {"version": version}
    ).fetchone()
    assert row is not None
    assert row[1]
    assert re.fullmatch("[0-9_]+", row[0])
    assert row[0] > version


def test_a_version_from_before_a_restore_is_not_taken_for_this_transactions(conn: Conn) -> None:
    """In the cluster that a dump is restored into, transaction ids begin anew."""
    conn.execute("CALL electric.electrify('items')")
    conn.execute("""
        INSERT INTO leyden.versions (version, xid, committed_at, changes)
        SELECT '000' || n, (pg_current_xact_id()::text::int8 + n)::text::xid8, now() - interval '1 day', '[]'
        FROM generate_series(1, 9) AS n
    """)
    with conn.transaction():
        conn.execute("SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE items ADD COLUMN a int4")
        conn.execute("ALTER TABLE items ADD COLUMN b int4")
    changed = conn.execute("SELECT changes FROM leyden.versions ORDER BY version DESC").fetchall()
    assert [change["columns"] for change in changed[0][0]] == [["a"], ["b"]]
    assert [changes for (changes,) in changed[2:]] == [[]] * 9


def test_concurrent_migrations_get_versions_in_commit_order(database: str, conn: Conn) -> None:
    names = [f"t{number}" for number in range(8)]
    conn.execute("; ".join(f"CREATE TABLE {name} (id text PRIMARY KEY)" for name in names).encode())
    failures: list[Exception] = []

    def migrate(name: str) -> None:
        try:
            with psycopg.connect(database) as own:
                own.execute("CALL electric.electrify(%s)", (name,))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=migrate, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    by_time = conn.execute("SELECT version FROM leyden.versions ORDER BY committed_at").fetchall()
    assert len(by_time) == len(names)
    assert by_time == sorted(by_time)


def test_a_table_electrified_twice_at_once_is_electrified_once(database: str, conn: Conn) -> None:
    failures: list[Exception] = []

    def electrify() -> None:
        try:
            with psycopg.connect(database) as own:
                own.execute("CALL electric.electrify('items')")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=electrify) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(versions(conn)) == 1


def test_a_transaction_undone_to_a_savepoint_records_only_what_stays(conn: Conn) -> None:
    conn.execute("CREATE TABLE others (id text PRIMARY KEY)")
    with conn.transaction():
        conn.execute("CALL electric.electrify('items')")
        with conn.transaction(force_rollback=True):
            conn.execute("CALL electric.electrify('others'); CALL electric.migration_version('9999')")
    assert conn.execute("SELECT jsonb_array_length(changes) FROM leyden.versions").fetchall() == [(1,)]
    assert versions(conn) != ["9999"]
