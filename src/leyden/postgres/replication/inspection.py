"""Finds electrified tables that were altered where no event trigger saw it, and those that are right again.

Owns when the catalog is asked, and that nobody waits long for it. What is compared is the business of
``sql/suspension.sql``, which writes down what it finds: the replication stream brings that to the reader in its place
among the rows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from typing import Any

import psycopg

from leyden.postgres.schema import is_guarded

#: A table under an ``ALTER TABLE`` that takes its time is looked at later.
_LOCK_TIMEOUT = "500ms"


class Inspection:
    """One for each reader of the stream."""

    def __init__(self) -> None:
        #: Set by whoever saw something that is worth a look.
        self.due = asyncio.Event()
        self.due.set()
        #: Whether DDL was guarded when it was last looked.
        self.guarded = True
        #: The state of the catalog that was looked at, and what was stopped then.
        self._seen: tuple[str | None, frozenset[int]] | None = None

    async def run(self, conn: psycopg.AsyncConnection[Any], stopped: Collection[int] = ()) -> bool:
        """Look at all tables; those of ``stopped`` that are as they should be are taken up again. Where DDL is guarded
        there is nothing to see, unless a look is due. Whether anything was looked at.

        Raises :class:`psycopg.Error`, but not for a table that is locked: then the look is put off to the next time.
        """
        self.guarded = await is_guarded(conn)
        if self.guarded and not stopped and not self.due.is_set() and self._seen is not None:
            return False
        self.due.clear()
        row = await (await conn.execute("SELECT leyden.catalog_mark()")).fetchone()
        present = (None if row is None else row[0], frozenset(stopped))
        if present == self._seen:
            return False
        self._seen = None
        with contextlib.suppress(psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            async with conn.transaction():
                await conn.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
                await conn.execute("SELECT leyden.inspect(%s::oid[])", [list(stopped)])
            self._seen = present
        return True
