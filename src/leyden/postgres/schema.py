"""Installs and upgrades the schemas ``leyden`` and ``electric``.

Owns the order in which the files of ``sql/`` are applied and when they need not be. Must not know what the
tables mean.

Numbered files create tables and run once each. The other files only hold functions and are run again, with
``CREATE OR REPLACE``, whenever any of them changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

#: Key of the advisory lock that keeps two starting services apart; any constant does ("leyd" in ASCII).
_INSTALL_LOCK = 0x6C657964

#: In order of dependency: SQL functions are checked when they are created.
_FUNCTION_FILES = (
    "describe.sql",
    "row_state.sql",
    "versions.sql",
    "objections.sql",
    "differences.sql",
    "enable.sql",
    "suspension.sql",
    "guard.sql",
    "electric.sql",
    "revocations.sql",
    "announce.sql",
    "rights.sql",
    "attach.sql",
)

#: Those of ``event_triggers.sql``, which is run again where one of them is missing.
_GUARD = ("leyden_ddl", "leyden_drop", "leyden_rewrite")
_EVENT_TRIGGERS = (*_GUARD, "leyden_rights", "leyden_rights_drop")


class SchemaTooNewError(Exception):
    """The database was prepared by a newer release than this one."""


async def install(conn: psycopg.AsyncConnection[Any]) -> None:
    """Bring the schema to this release's version, in one transaction; does nothing when it is there already.

    Waits for another installation of the same database. Raises :class:`SchemaTooNewError`, or
    :class:`psycopg.Error` when the role lacks a right (see :mod:`leyden.postgres.requirements`).
    """
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock(%s)", (_INSTALL_LOCK,))
        await conn.execute("CREATE SCHEMA IF NOT EXISTS leyden")
        installed = await _installed_migration(conn)
        migrations = _migrations()
        if installed > max(migrations):
            raise SchemaTooNewError(
                f"schema leyden has version {installed}, this release knows {max(migrations)}: use a newer release"
            )
        pending = [number for number in sorted(migrations) if number > installed]
        for number in pending:
            await _run(conn, migrations[number])
            await _remember(conn, "schema_version", number)
        digest = _functions_digest()
        if pending or await _recall(conn, "functions") != digest:
            for name in _FUNCTION_FILES:
                await _run(conn, name)
            await _remember(conn, "functions", digest)
        await _install_guard(conn)


async def _install_guard(conn: psycopg.AsyncConnection[Any]) -> None:
    """Create the event triggers where the role may; remember in ``leyden.meta`` whether they are there."""
    if not await _are_on(conn, _EVENT_TRIGGERS):
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            async with conn.transaction():
                await _run(conn, "event_triggers.sql")
    guarded = await is_guarded(conn)
    if await _recall(conn, "ddl_guard") != guarded:
        await _remember(conn, "ddl_guard", guarded)


async def is_guarded(conn: psycopg.AsyncConnection[Any]) -> bool:
    """Whether the event triggers that guard tables are there and switched on."""
    return await _are_on(conn, _GUARD)


async def _are_on(conn: psycopg.AsyncConnection[Any], triggers: Sequence[str]) -> bool:
    cursor = await conn.execute(
        "SELECT count(*) FROM pg_event_trigger WHERE evtname = ANY (%s) AND evtenabled = 'A'", (list(triggers),)
    )
    row = await cursor.fetchone()
    return row is not None and row[0] == len(triggers)


async def _installed_migration(conn: psycopg.AsyncConnection[Any]) -> int:
    cursor = await conn.execute("SELECT to_regclass('leyden.meta') IS NOT NULL")
    row = await cursor.fetchone()
    version = await _recall(conn, "schema_version") if row is not None and row[0] else None
    return int(version) if version is not None else 0


async def _recall(conn: psycopg.AsyncConnection[Any], key: str) -> Any:
    cursor = await conn.execute("SELECT value FROM leyden.meta WHERE key = %s", (key,))
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def _remember(conn: psycopg.AsyncConnection[Any], key: str, value: Any) -> None:
    await conn.execute(
        "INSERT INTO leyden.meta (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, Jsonb(value)),
    )


async def _run(conn: psycopg.AsyncConnection[Any], name: str) -> None:
    # Without parameters psycopg uses the simple protocol, which takes several statements.
    await conn.execute(_read(name), prepare=False)


def _read(name: str) -> bytes:
    return (files("leyden.postgres") / "sql" / name).read_bytes()


def _migrations() -> dict[int, str]:
    """Names of the numbered files by number."""
    names = (entry.name for entry in (files("leyden.postgres") / "sql").iterdir())
    return {int(found[1]): found[0] for name in names if (found := re.fullmatch(r"(\d{4})_\w+\.sql", name))}


def _functions_digest() -> str:
    return hashlib.sha256(b"\0".join(_read(name) for name in _FUNCTION_FILES)).hexdigest()
