"""One embedded cluster for the whole run, one database for each test."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from leyden.postgres import schema, sessions
from leyden.postgres.embedded import EmbeddedPostgres

TEMPLATE = "leyden_template"

_numbers = itertools.count(1)


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


async def install_schema(dsn: str) -> None:
    async with await sessions.connect(dsn, autocommit=True) as conn:
        await schema.install(conn)


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
    yield from _fresh_database(cluster, "template1")


@pytest.fixture
def database(cluster: EmbeddedPostgres, template: str) -> Iterator[str]:
    """Connection string of a fresh database with the schema installed."""
    yield from _fresh_database(cluster, template)


def _fresh_database(cluster: EmbeddedPostgres, source: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                sql.Identifier(name), sql.Identifier(source)
            )
        )
        try:
            yield cluster.dsn(name)
        finally:
            # A slot keeps its database; terminating its reader frees the slot after a moment.
            admin.execute(
                "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
                " WHERE database = %s AND active",
                (name,),
            )
            admin.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s",
                (name,),
            )
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
