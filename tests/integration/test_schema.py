"""Installation of the schema, by whom and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from leyden.postgres import requirements, schema, sessions
from leyden.postgres.embedded import EmbeddedPostgres

SERVICE = "leyden_test_service"


@pytest.fixture
def service_database(cluster: EmbeddedPostgres, empty_database: str) -> Iterator[str]:
    """A database owned by a role that may replicate and is no superuser; connection string as that role."""
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN REPLICATION").format(sql.Identifier(SERVICE)))
        name = admin.info.dbname
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(SERVICE)))
    yield make_conninfo(empty_database, user=SERVICE)
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute("DROP EVENT TRIGGER IF EXISTS leyden_ddl; DROP EVENT TRIGGER IF EXISTS leyden_drop")
        admin.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(SERVICE)))
        admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(SERVICE)))
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(SERVICE)))


async def install(dsn: str) -> None:
    async with await sessions.connect(dsn, autocommit=True) as conn:
        await schema.install(conn)


def meta(dsn: str, key: str) -> Any:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT value FROM leyden.meta WHERE key = %s", (key,)).fetchone()
    return None if row is None else row[0]


def test_no_two_migrations_of_the_schema_share_a_number() -> None:
    """One of them would never run."""
    numbered = [path.name for path in (files("leyden.postgres") / "sql").iterdir() if path.name[:4].isdigit()]
    assert sorted(schema._migrations().values()) == sorted(numbered)


async def test_installing_again_writes_nothing(database: str) -> None:
    with psycopg.connect(database) as conn:
        before = conn.execute("SELECT max(age(xmin)), count(*) FROM pg_proc").fetchone()
        rows = conn.execute("SELECT xmin::text, key, value FROM leyden.meta ORDER BY key").fetchall()
    await install(database)
    with psycopg.connect(database) as conn:
        assert conn.execute("SELECT xmin::text, key, value FROM leyden.meta ORDER BY key").fetchall() == rows
        after = conn.execute("SELECT max(age(xmin)), count(*) FROM pg_proc").fetchone()
        assert before is not None
        assert after is not None
        assert before[1] == after[1]


async def test_two_services_may_install_at_once(empty_database: str) -> None:
    await asyncio.gather(*(install(empty_database) for _ in range(4)))
    assert meta(empty_database, "schema_version") == max(schema._migrations())


async def test_subscriptions_of_before_there_were_filters_are_to_whole_tables(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = schema._migrations()
    monkeypatch.setattr(schema, "_migrations", lambda: {number: known[number] for number in (1, 2)})
    await install(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO leyden.client_subscriptions (client_id, subscription_id, tables)"
            " VALUES ('c', 'both', '{b,a}'), ('c', 'cancelled', '{}')"
        )
        monkeypatch.undo()
        await install(empty_database)
        stored = conn.execute("SELECT subscription_id, shapes FROM leyden.client_subscriptions ORDER BY 1").fetchall()
    whole = [{"table": name, "where": "", "claims": ""} for name in ("b", "a")]
    assert stored == [("both", whole), ("cancelled", [])]


async def test_changed_functions_are_replaced_and_row_triggers_made_anew(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("CREATE TABLE items (id text PRIMARY KEY); CALL electric.electrify('items')")
        conn.execute("UPDATE leyden.meta SET value = '\"older\"' WHERE key = 'functions'")
        conn.execute("DROP EVENT TRIGGER leyden_drop; DROP PUBLICATION leyden")
        await install(database)
        conn.execute("INSERT INTO items VALUES ('x')")
        assert conn.execute("SELECT count(*) FROM leyden.row_state").fetchone() == (1,)
        assert conn.execute("SELECT count(*) FROM pg_publication_tables").fetchone() == (4,)


async def test_a_database_of_a_newer_release_is_refused(database: str) -> None:
    with psycopg.connect(database) as conn:
        conn.execute("UPDATE leyden.meta SET value = '999' WHERE key = 'schema_version'")
    with pytest.raises(schema.SchemaTooNewError):
        await install(database)


async def test_a_superuser_installs_the_guard(database: str) -> None:
    assert meta(database, "ddl_guard") is True


async def test_a_role_that_is_no_superuser_can_do_everything_but_guard(service_database: str) -> None:
    async with await sessions.connect(service_database, autocommit=True) as conn:
        await requirements.require(conn)
        await schema.install(conn)
        await conn.execute("CREATE TABLE items (id text PRIMARY KEY); CALL electric.electrify('items')")
        await conn.execute("INSERT INTO items VALUES ('x'); ALTER TABLE items ADD COLUMN n int4")
        cursor = await conn.execute("SELECT tags FROM leyden.row_state")
        assert len(await cursor.fetchall()) == 1
        await conn.execute("SELECT leyden.enable('items')")
        cursor = await conn.execute("SELECT changes #>> '{0,kind}' FROM leyden.versions ORDER BY version")
        assert await cursor.fetchall() == [("create_table",), ("add_columns",)]
        await conn.execute("SELECT leyden.disable('items')")
    assert meta(service_database, "ddl_guard") is False


async def test_a_superuser_who_installs_later_adds_the_guard(service_database: str) -> None:
    await install(service_database)
    await install(make_conninfo(service_database, user="postgres"))
    assert meta(service_database, "ddl_guard") is True
    with psycopg.connect(service_database, autocommit=True) as conn:
        conn.execute("CREATE TABLE items (id text PRIMARY KEY); CALL electric.electrify('items')")
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            conn.execute("DROP TABLE items")


async def test_a_guard_that_was_switched_off_is_switched_on_again(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("ALTER EVENT TRIGGER leyden_drop DISABLE; CREATE TABLE items (id text PRIMARY KEY)")
        conn.execute("CALL electric.electrify('items')")
        await install(database)
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            conn.execute("DROP TABLE items")
    assert meta(database, "ddl_guard") is True


async def test_only_owners_may_electrify(service_database: str) -> None:
    await install(service_database)
    with psycopg.connect(make_conninfo(service_database, user="postgres"), autocommit=True) as conn:
        conn.execute("CREATE TABLE items (id text PRIMARY KEY)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is not an owner of table") as refusal:
            conn.execute("CALL electric.electrify('items')")
        assert refusal.value.diag.message_hint == f"GRANT postgres TO {SERVICE}"
    with (
        psycopg.connect(service_database, autocommit=True) as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner"),
    ):
        conn.execute("CALL electric.electrify('items')")


async def test_sessions_print_values_in_one_way_whatever_the_database_says(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        name = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("ALTER DATABASE {} SET DateStyle = 'SQL, MDY'").format(name))
        admin.execute(sql.SQL("ALTER DATABASE {} SET bytea_output = 'escape'").format(name))
    async with await sessions.connect(make_conninfo(database, options="-c work_mem=8MB")) as conn:
        for setting, value in {**sessions.SESSION_SETTINGS, "work_mem": "8MB"}.items():
            cursor = await conn.execute("SELECT current_setting(%s)", (setting,))
            assert await cursor.fetchone() == (value,)
