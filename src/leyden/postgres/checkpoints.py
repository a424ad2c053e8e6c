"""Checkpoints: what tells the rows written after a position, once the log does not reach back to it.

Owns ``leyden.checkpoints``, and the comparison of ids of transactions with what rows remember of theirs. Which
positions there are, and what is done about the rows, is not known here.

A checkpoint is taken in three steps. The oldest running transaction of a snapshot is noted: all older ones have ended.
Then a position is read that is above all their commits. The last transaction of the log at or below it is the
checkpoint's position: whatever comes after that in the log is none of the ended ones.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from leyden.model import Checkpoint

Connection = psycopg.AsyncConnection[Any]

#: Rows remember the lower 32 bits of a transaction's id. More ids than this cannot be told apart by them.
_COMPARABLE_IDS: Final = 1 << 31

#: Of checkpoints older than this, one remains for each interval (seconds).
_DENSE: Final = 3600.0
_SPARSE_INTERVAL: Final = 600.0


def written_since(alias: str, xid: int) -> sql.Composed:
    """Whether the row ``alias`` was written by a transaction with the id ``xid`` or a later one.

    In doubt, which is after two thousand million transactions, it was. A row written in a savepoint has an id of its
    own, which is later than that of its transaction.
    """
    own = sql.SQL("{}::text::int8").format(sql.Identifier(alias, "xmin"))
    return sql.SQL("({} - {} + 4294967296) % 4294967296 < 2147483648").format(own, sql.Literal(xid & 0xFFFF_FFFF))


async def oldest_running(conn: Connection) -> int:
    """The id below which all transactions have ended."""
    cursor = await conn.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
    row = await cursor.fetchone()
    if row is None:
        raise psycopg.OperationalError("a query for the snapshot returned nothing")
    return int(row[0])


async def store(conn: Connection, position: int, xid: int) -> None:
    """Every transaction after ``position`` has an id of at least ``xid``. Older checkpoints are thinned out."""
    await conn.execute(
        "INSERT INTO leyden.checkpoints (position, xid) VALUES (%s, %s::text::xid8) ON CONFLICT DO NOTHING",
        [position, xid],
    )
    await conn.execute(
        "DELETE FROM leyden.checkpoints AS c USING leyden.checkpoints AS kept"
        " WHERE c.taken_at < now() - make_interval(secs => %(dense)s) AND kept.position < c.position"
        " AND floor(extract(epoch FROM kept.taken_at) / %(interval)s::float8)"
        " = floor(extract(epoch FROM c.taken_at) / %(interval)s::float8)",
        {"dense": _DENSE, "interval": _SPARSE_INTERVAL},
    )


async def begin_history(conn: Connection, position: int, xid: int) -> None:
    """The first checkpoint of a new history: those of an earlier one say nothing any more."""
    await conn.execute("DELETE FROM leyden.checkpoints")
    await store(conn, position, xid)


async def forget_older(conn: Connection, older_than: float) -> int | None:
    """Forget the checkpoints of more than ``older_than`` seconds ago, but for the last of them.

    Returns the id from which on what was written must be kept, ``None`` if nobody asks for any of it. To be committed
    before anything is forgotten: nobody is then told that he can be brought up to date who cannot.
    """
    await conn.execute(
        "DELETE FROM leyden.checkpoints WHERE position < (SELECT max(position) FROM leyden.checkpoints"
        " WHERE taken_at < now() - make_interval(secs => %s))",
        [older_than],
    )
    cursor = await conn.execute("SELECT xid::text FROM leyden.checkpoints ORDER BY position LIMIT 1")
    row = await cursor.fetchone()
    return None if row is None else int(row[0])


async def find(conn: Connection, position: int) -> Checkpoint | None:
    """The last checkpoint that is not after ``position``, as far as its id still tells anything."""
    cursor = await conn.execute(
        "SELECT c.position, c.xid::text, pg_snapshot_xmax(pg_current_snapshot())::text,"
        " ARRAY(SELECT table_id::int8 FROM leyden.tables WHERE reenabled_by >= c.xid)"
        " FROM leyden.checkpoints AS c WHERE c.position <= %s ORDER BY c.position DESC LIMIT 1",
        [position],
    )
    row = await cursor.fetchone()
    if row is None or int(row[2]) - int(row[1]) >= _COMPARABLE_IDS:
        return None
    return Checkpoint(position=int(row[0]), xid=int(row[1]), reenabled_since=frozenset(row[3]))


class Checkpoints:
    """Looks checkpoints up, on connections of ``pool``."""

    def __init__(self, pool: AsyncConnectionPool[Connection]) -> None:
        self._pool = pool

    async def find(self, position: int) -> Checkpoint | None:
        """As the function of this name. Raises :class:`psycopg.Error`."""
        async with self._pool.connection() as conn:
            return await find(conn, position)
