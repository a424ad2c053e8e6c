"""Pools of connections from which cancelled tasks take nothing away.

``psycopg_pool`` (3.3) gives a connection back within the task that had it. A task that is cancelled in that moment, or
once more while it ends, takes the connection with it: the pool counts it as handed out for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool

from leyden.postgres.sessions import session_conninfo

Connection = psycopg.AsyncConnection[Any]


class Pool(AsyncConnectionPool[Connection]):
    """A pool of sessions with the database ``dsn``, to be entered before it is used.

    A statement outside ``conn.transaction()`` is a transaction of its own: with psycopg's ``BEGIN`` and ``COMMIT``
    around it Postgres would be waited for three times.
    """

    def __init__(self, dsn: str, *, min_size: int, max_size: int) -> None:
        super().__init__(
            session_conninfo(dsn), min_size=min_size, max_size=max_size, open=False, kwargs={"autocommit": True}
        )
        #: Held here, or nobody would hold them after a cancellation.
        self._returning: set[asyncio.Task[None]] = set()

    async def putconn(self, conn: Connection) -> None:
        returning = asyncio.create_task(super().putconn(conn))
        self._returning.add(returning)
        returning.add_done_callback(self._returning.discard)
        await asyncio.shield(returning)
