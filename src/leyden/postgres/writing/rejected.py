"""Refused uploads as they are kept, for those who look after them.

Owns how ``leyden.rejected`` is read and cleared. How entries come about is
:mod:`leyden.postgres.writing.rejections`' business.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from leyden.model import Author, Table, Upload
from leyden.postgres.writing.change_json import change_from_json

Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class Rejection:
    """One refused upload. ``at`` are Unix seconds, ``ms`` milliseconds of the client's clock. The claims are not shown:
    they may say more of a user than whoever looks at refusals has to know."""

    id: int
    at: float
    client_id: str
    user_id: str
    lsn: bytes
    ms: int
    claims: str = field(repr=False)
    scoped_claims: str | None = field(repr=False)
    role: str | None
    sqlstate: str
    message: str
    #: As :mod:`leyden.postgres.writing.change_json` writes them. Values are the client's.
    changes: Sequence[Mapping[str, Any]] = field(repr=False)

    @property
    def author(self) -> Author:
        """In whose name it was to be written."""
        return Author(self.user_id, self.claims, self.scoped_claims, self.role)

    def upload(self, tables: Mapping[str, Table]) -> Upload:
        """What was to be written, on the electrified ``tables`` by name.

        Raises :class:`~leyden.postgres.writing.change_json.UnknownTable`.
        """
        changes = tuple(change_from_json(change, tables) for change in self.changes)
        return Upload(self.client_id, self.user_id, self.lsn, self.ms, changes)


@dataclass(frozen=True, slots=True)
class RejectionSummary:
    """What a list shows of one. ``at`` are Unix seconds, ``changes`` their number."""

    id: int
    at: float
    user_id: str
    client_id: str
    sqlstate: str
    message: str
    changes: int


async def list_rejections(conn: Connection, *, user_id: str | None = None, limit: int) -> list[RejectionSummary]:
    """The newest ones, of one user if asked for, the newest last."""
    cursor = await conn.execute(
        "SELECT * FROM (SELECT id, extract(epoch FROM at)::float8, user_id, client_id, sqlstate, message,"
        " jsonb_array_length(ops) FROM leyden.rejected WHERE %(user)s::text IS NULL OR user_id = %(user)s"
        " ORDER BY id DESC LIMIT %(limit)s) AS newest ORDER BY id",
        {"user": user_id, "limit": limit},
    )
    return [RejectionSummary(*row) for row in await cursor.fetchall()]


async def get_rejection(conn: Connection, id: int) -> Rejection | None:
    """The one with this id; ``None`` when there is none."""
    cursor = await conn.execute(
        "SELECT id, extract(epoch FROM at)::float8, client_id, user_id, lsn, ms, claims, scoped_claims, role, sqlstate,"
        " message, ops FROM leyden.rejected WHERE id = %s",
        [id],
    )
    row = await cursor.fetchone()
    return None if row is None else Rejection(*row)


async def drop_rejections(conn: Connection, ids: Collection[int]) -> set[int]:
    """Forget them; returns the ids of those that there were."""
    cursor = await conn.execute("DELETE FROM leyden.rejected WHERE id = ANY(%s::bigint[]) RETURNING id", [list(ids)])
    return {id for (id,) in await cursor.fetchall()}


async def drop_old_rejections(conn: Connection, *, older_than: float) -> int:
    """Forget those refused more than ``older_than`` seconds ago; returns their number."""
    cursor = await conn.execute(
        "DELETE FROM leyden.rejected WHERE at < statement_timestamp() - make_interval(secs => %s)", [older_than]
    )
    return cursor.rowcount
