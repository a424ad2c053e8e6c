"""Revocations in the database, for those who write them.

Owns ``leyden.revocations``: how an entry is stored, widened, taken back and read. What it means is ``leyden.auth``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import psycopg
from psycopg import sql

from leyden.auth import DEFAULT_REVOCATION_LIFETIME, Revocation, RevocationKind, check_revocation

Connection = psycopg.AsyncConnection[Any]

#: Expired entries that an addition clears away; a bound, so that it never waits long.
_SWEEP: Final = 1000

#: The columns of an entry as :class:`~leyden.auth.Revocation` has them. Times that a person wrote may be infinite, or
#: have fractions, which count for the revocation: what was issued in the same second is revoked.
_ENTRY = sql.SQL("""
    id, kind, value,
    CASE WHEN issued_before IS NOT NULL
         THEN least(greatest(floor(extract(epoch FROM issued_before)), 0), 253402300799)::bigint END,
    least(greatest(extract(epoch FROM created_at), 0), 253402300799)::float8,
    least(greatest(ceil(extract(epoch FROM expires_at)), 0), 253402300799)::bigint
""")

#: Entries in force above an id, a limited number of them.
_PAGE = sql.SQL(
    "SELECT {entry} FROM leyden.revocations WHERE id > %s AND expires_at > statement_timestamp() ORDER BY id LIMIT %s"
).format(entry=_ENTRY)

_LOWEST_ID: Final = -(2**63)

_REMOVE = sql.SQL("DELETE FROM leyden.revocations WHERE id = %s RETURNING {entry}").format(entry=_ENTRY)

_INSERT = sql.SQL(
    "INSERT INTO leyden.revocations (kind, value, issued_before, expires_at) VALUES (%(kind)s, %(value)s,"
    " to_timestamp(%(issued_before)s::float8), clock_timestamp() + make_interval(secs => %(lifetime)s))"
    " RETURNING {entry}"
).format(entry=_ENTRY)

_WIDEN = """
UPDATE leyden.revocations
SET issued_before = greatest(issued_before, to_timestamp(%(issued_before)s::float8)),
    created_at = clock_timestamp(),
    expires_at = greatest(expires_at, clock_timestamp() + make_interval(secs => %(lifetime)s))
WHERE kind = %(kind)s AND {same_value} AND (issued_before IS NULL) = (%(issued_before)s::float8 IS NULL)
  AND expires_at > statement_timestamp()
RETURNING {entry}
"""
_WIDEN_EVERYBODY = sql.SQL(_WIDEN).format(entry=_ENTRY, same_value=sql.SQL("value IS NULL"))
_WIDEN_ONE = sql.SQL(_WIDEN).format(entry=_ENTRY, same_value=sql.SQL("value = %(value)s"))

#: Additions for one target wait for each other, so that the second finds the entry of the first.
_LOCK = (
    "SELECT pg_advisory_xact_lock(hashtextextended('leyden.revocations ' || %(kind)s || coalesce(%(value)s, ''), 0))"
)


class RevocationStore:
    """The entries, for those who write them. Each call is one transaction; database errors pass through.

    ``connection`` gives a session for one call, as ``AsyncConnectionPool.connection`` does.
    """

    def __init__(
        self,
        connection: Callable[[], AbstractAsyncContextManager[Connection]],
        *,
        lifetime: int = DEFAULT_REVOCATION_LIFETIME,
    ) -> None:
        """``lifetime`` are the seconds that an entry stays in force unless told otherwise."""
        self._connection = connection
        self._lifetime = lifetime

    async def now(self) -> float:
        """What the database's clock says, by which entries are made and expire (Unix seconds)."""
        async with self._connection() as conn:
            return await database_time(conn)

    async def add(
        self,
        kind: RevocationKind,
        value: str | None = None,
        *,
        issued_before: int | None = None,
        lifetime: int | None = None,
    ) -> Revocation:
        """Revoke, from the commit on: every process hears of it and ends the connections that are hit.

        An entry in force for the same target is widened instead of a second one made: to the later moment of issue
        and the later end. A user blocked outright and a user's tokens up to a moment are two targets. Raises
        :class:`~leyden.auth.InvalidRevocation` for what makes no sense.
        """
        if lifetime is None:
            lifetime = self._lifetime
        check_revocation(kind, value, issued_before, lifetime)
        parameters = {"kind": kind, "value": value, "issued_before": issued_before, "lifetime": lifetime}
        async with self._connection() as conn, conn.transaction():
            await conn.execute(_LOCK, parameters)
            await _sweep(conn, _SWEEP)
            widened = await conn.execute(_WIDEN_EVERYBODY if value is None else _WIDEN_ONE, parameters)
            row = await widened.fetchone()
            if row is None:
                row = await (await conn.execute(_INSERT, parameters)).fetchone()
        if row is None:
            raise psycopg.OperationalError("the revocation was not stored")
        return Revocation(*row)

    async def remove(self, id: int) -> Revocation | None:
        """Take an entry back. Returns what it was, ``None`` when there is none with this id."""
        async with self._connection() as conn, conn.transaction():
            row = await (await conn.execute(_REMOVE, [id])).fetchone()
        return None if row is None else Revocation(*row)

    async def list(self) -> tuple[Revocation, ...]:
        """The entries in force, in order of their ids."""
        async with self._connection() as conn, conn.transaction():
            return tuple(await read_page(conn))

    async def purge(self) -> int:
        """Delete the entries that expired, and return their number. Additions do so, too, for some at a time."""
        async with self._connection() as conn, conn.transaction():
            return await _sweep(conn, None)


async def _sweep(conn: Connection, limit: int | None) -> int:
    # Looked for first: a DELETE announces a change even when it finds nothing, and every process would read all again.
    cursor = await conn.execute(
        "SELECT id FROM leyden.revocations WHERE expires_at <= statement_timestamp() ORDER BY expires_at LIMIT %s"
        " FOR UPDATE SKIP LOCKED",
        [limit],
    )
    expired = [id for (id,) in await cursor.fetchall()]
    if expired:
        await conn.execute("DELETE FROM leyden.revocations WHERE id = ANY(%s)", [expired])
    return len(expired)


async def read_page(conn: Connection, after: int = _LOWEST_ID, limit: int | None = None) -> list[Revocation]:
    """The entries in force whose ids are above ``after``, in order of their ids, at most ``limit``."""
    cursor = await conn.execute(_PAGE, [after, limit])
    return [Revocation(*row) for row in await cursor.fetchall()]


async def database_time(conn: Connection) -> float:
    """What the database's clock says (Unix seconds)."""
    cursor = await conn.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
    row = await cursor.fetchone()
    if row is None:
        raise psycopg.OperationalError("the database did not tell the time")
    return float(row[0])
