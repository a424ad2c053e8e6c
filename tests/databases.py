"""Databases for tests: fresh ones on a cluster, prepared or empty, gone afterwards with their slots."""

from __future__ import annotations

import itertools
from collections.abc import Generator

import psycopg
from psycopg import sql

from leyden.postgres import schema, sessions
from leyden.postgres.embedded import EmbeddedPostgres

_numbers = itertools.count(1)


async def install_schema(dsn: str) -> None:
    async with await sessions.connect(dsn, autocommit=True) as conn:
        await schema.install(conn)


def fresh_database(cluster: EmbeddedPostgres, source: str) -> Generator[str, None, None]:
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
