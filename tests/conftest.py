"""One embedded cluster for the whole run, one database for each test."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import secrecy
from databases import fresh_database, install_schema
from leyden.postgres.embedded import EmbeddedPostgres

TEMPLATE = "leyden_template"

secrecy.watch()


@pytest.fixture(scope="session", autouse=True)
def no_secret_is_shown() -> Iterator[None]:
    """Looks back on all tests of this process: no service in them has shown a token, a key or a secret."""
    yield
    assert secrecy.leaks() == []


@pytest.fixture(scope="session")
def cluster() -> Iterator[EmbeddedPostgres]:
    # A short path: the socket lies in the data directory, and socket paths are limited to 107 bytes.
    with tempfile.TemporaryDirectory(prefix="leyden-", ignore_cleanup_errors=True) as directory:
        server = EmbeddedPostgres(
            Path(directory) / "pg",
            settings={
                "fsync": "off",
                "full_page_writes": "off",
                "autovacuum": "off",
                "max_connections": "200",
            },
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def template(cluster: EmbeddedPostgres) -> str:
    """Name of a database with the schema installed, to copy from."""
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    asyncio.run(install_schema(cluster.dsn(TEMPLATE)))
    return TEMPLATE


@pytest.fixture
def empty_database(cluster: EmbeddedPostgres) -> Iterator[str]:
    """Connection string of a fresh database without the schema."""
    yield from fresh_database(cluster, "template1")


@pytest.fixture
def database(cluster: EmbeddedPostgres, template: str) -> Iterator[str]:
    """Connection string of a fresh database with the schema installed."""
    yield from fresh_database(cluster, template)


@pytest.fixture
def unguarded_database(cluster: EmbeddedPostgres, empty_database: str) -> Iterator[str]:
    """Connection string of a fresh database with the schema installed, as a role that owns it and may replicate, but
    not create event triggers: what many hosts give."""
    role = "leyden_test_unguarded"
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN REPLICATION")
        admin.execute(f'ALTER DATABASE "{admin.info.dbname}" OWNER TO {role}')
    try:
        dsn = make_conninfo(empty_database, user=role)
        asyncio.run(install_schema(dsn))
        yield dsn
    finally:
        with psycopg.connect(empty_database, autocommit=True) as admin:
            admin.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER")
            admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
