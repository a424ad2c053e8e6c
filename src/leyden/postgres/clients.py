"""What the database remembers of each client between connections: owner, applied uploads, subscriptions.

Owns ``leyden.client_uploads`` and ``leyden.client_subscriptions``. Must not know connections or the wire.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from leyden.model import ClientRecord, IncludeRecord, ShapeRecord, SubscriptionRecord, Upload

Connection = psycopg.AsyncConnection[Any]


#: The client's record, made and bound to the user if there was none, once for each of its subscriptions. Nothing if
#: another session made it meanwhile: that is waited for, and not seen.
_BIND = """
WITH bound AS (
    INSERT INTO leyden.client_uploads (client_id, user_id) VALUES (%(client)s, %(user)s)
    ON CONFLICT (client_id) DO NOTHING RETURNING user_id, lsn, echo_missed
), record AS (
    SELECT * FROM bound
    UNION ALL SELECT user_id, lsn, echo_missed FROM leyden.client_uploads WHERE client_id = %(client)s
)
SELECT r.user_id, r.lsn, r.echo_missed,
       s.subscription_id, s.shapes, s.cancelled_at, s.cancellation, s.asked_by, s.in_parts
FROM record AS r LEFT JOIN leyden.client_subscriptions AS s ON s.client_id = %(client)s
ORDER BY s.created_at, s.subscription_id
"""


class ClientBelongsToOther(Exception):
    """The client id is bound to another user. It stays so: a client id never changes hands."""

    code = "client_belongs_to_other"

    def __init__(self) -> None:
        super().__init__("this client id belongs to another user")


async def claim_upload(conn: Connection, upload: Upload) -> psycopg.AsyncCursor[Any]:
    """Lock the client's row and move it to the upload's LSN, unless it is there already. An upload that is later than
    all before it is new even so: the client's own database is new, and counts from the beginning again.

    The cursor's ``rowcount`` is 1 when the upload is new and its owner right, otherwise 0. To be committed
    with the upload's effect: that makes an upload sent twice take effect once.
    """
    return await conn.execute(
        "INSERT INTO leyden.client_uploads AS stored (client_id, user_id, lsn, ms) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (client_id) DO UPDATE"
        " SET lsn = EXCLUDED.lsn, ms = greatest(stored.ms, EXCLUDED.ms), applied_at = EXCLUDED.applied_at,"
        # where all was sent again, it comes after that
        " echo_missed = stored.echo_missed AND NOT %s"
        " WHERE (stored.lsn < EXCLUDED.lsn OR stored.ms < EXCLUDED.ms) AND stored.user_id = EXCLUDED.user_id",
        [upload.client_id, upload.user_id, upload.lsn, upload.timestamp_ms, upload.echo_missed],
    )


async def note_echo(conn: Connection, upload: Upload) -> None:
    """The author of ``upload``, which was applied before, is told of it again; if it is the last one, the author has
    missed no echo any more once that is committed."""
    await conn.execute(
        "UPDATE leyden.client_uploads SET echo_missed = false WHERE client_id = %s AND lsn = %s AND echo_missed",
        [upload.client_id, upload.lsn],
    )


async def require_owner(conn: Connection, upload: Upload) -> None:
    """Raises :class:`ClientBelongsToOther` when the upload's client is bound to a user other than its
    author.
    """
    cursor = await conn.execute(
        "SELECT 1 FROM leyden.client_uploads WHERE client_id = %s AND user_id <> %s",
        [upload.client_id, upload.user_id],
    )
    if await cursor.fetchone() is not None:
        raise ClientBelongsToOther


class ClientStore:
    """The service's memory of its clients. Each call is one statement; database errors pass through."""

    def __init__(self, pool: AsyncConnectionPool[Connection]) -> None:
        self._pool = pool

    async def bind(self, client_id: str, user_id: str) -> ClientRecord:
        """The record of the client, made at its first appearance and bound to ``user_id`` from then on.

        Raises :class:`ClientBelongsToOther` when it is bound to another user.
        """
        async with self._pool.connection() as conn:
            parameters = {"client": client_id, "user": user_id}
            rows = await (await conn.execute(_BIND, parameters)).fetchall()
            if not rows:
                rows = await (await conn.execute(_BIND, parameters)).fetchall()  # with a newer snapshot
        if not rows or rows[0][0] != user_id:
            raise ClientBelongsToOther
        _, lsn, echo_missed, *_ = rows[0]
        subscriptions = tuple(_record(*row[3:]) for row in rows if row[3] is not None)
        return ClientRecord(client_id, user_id, bytes(lsn), subscriptions, echo_missed)

    async def miss_echoes(self, client_id: str) -> None:
        """Note that the client may have missed echoes, until it has sent its last upload again or a later one."""
        await self._execute("UPDATE leyden.client_uploads SET echo_missed = true WHERE client_id = %s", [client_id])

    async def save_subscription(self, client_id: str, subscription: SubscriptionRecord) -> None:
        """Remember ``subscription``; one with the same id is replaced."""
        await self._execute(
            "INSERT INTO leyden.client_subscriptions (client_id, subscription_id, shapes, asked_by, in_parts)"
            " VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (client_id, subscription_id) DO UPDATE"
            " SET shapes = EXCLUDED.shapes, cancelled_at = NULL, cancellation = 0,"
            " asked_by = EXCLUDED.asked_by, in_parts = EXCLUDED.in_parts",
            [
                client_id,
                subscription.id,
                Jsonb([asdict(shape) for shape in subscription.shapes]),
                subscription.asked_by,
                subscription.in_parts,
            ],
        )

    async def confirm_delivery(self, client_id: str, ids: Collection[str]) -> None:
        """Note that the client has all the initial data of the subscriptions named."""
        await self._execute(
            "UPDATE leyden.client_subscriptions SET asked_by = NULL"
            " WHERE client_id = %s AND subscription_id = ANY(%s::text[])",
            [client_id, list(ids)],
        )

    async def drop_subscriptions(self, client_id: str, ids: Collection[str]) -> None:
        """Forget the subscriptions named; unknown ids are ignored."""
        await self._execute(
            "DELETE FROM leyden.client_subscriptions WHERE client_id = %s AND subscription_id = ANY(%s::text[])",
            [client_id, _storable(ids)],
        )

    async def cancel_subscriptions(self, client_id: str, ids: Collection[str], position: int) -> int:
        """Note that the client is told at ``position`` which rows of the subscriptions named to drop. They are not
        forgotten: it may never hear of it, and it goes on listing them when it resumes even if it did.

        Returns the number of this cancellation, greater than that of any before.
        """
        async with self._pool.connection() as conn:
            cursor = await conn.execute(
                "WITH number AS MATERIALIZED (SELECT nextval('leyden.cancellations') AS next), cancelled AS ("
                " UPDATE leyden.client_subscriptions SET cancelled_at = %s, cancellation = next FROM number"
                " WHERE client_id = %s AND subscription_id = ANY(%s::text[]) AND cancelled_at IS NULL)"
                " SELECT next FROM number",
                [position, client_id, _storable(ids)],
            )
            (number,) = await cursor.fetchone() or (0,)
            return int(number)

    async def keep_only(
        self, client_id: str, ids: Collection[str], position: int, cancellation: int, rescued: Collection[str] = ()
    ) -> None:
        """The client resumed at ``position``, where it was told of ``cancellation``, with the subscriptions named:
        forget every other one, but for those to be ``rescued`` from, and cancellations of which it has not heard. Of
        those that it names it has all the initial data."""
        await self._execute(
            "WITH dropped AS (DELETE FROM leyden.client_subscriptions"
            " WHERE client_id = %(client)s AND subscription_id <> ALL (%(ids)s::text[] || %(rescued)s::text[]))"
            " UPDATE leyden.client_subscriptions SET asked_by = NULL,"
            " cancelled_at = CASE WHEN (cancelled_at, cancellation) <= (%(position)s, %(cancellation)s)"
            " THEN cancelled_at END,"
            " cancellation = CASE WHEN (cancelled_at, cancellation) <= (%(position)s, %(cancellation)s)"
            " THEN cancellation ELSE 0 END"
            " WHERE client_id = %(client)s AND subscription_id = ANY (%(ids)s::text[])"
            " AND (asked_by IS NOT NULL OR (cancelled_at, cancellation) > (%(position)s, %(cancellation)s))",
            {
                "client": client_id,
                "ids": list(ids),
                "rescued": list(rescued),
                "position": position,
                "cancellation": cancellation,
            },
        )

    async def forget(self, client_id: str, rescued: Collection[str] = ()) -> None:
        """The client starts afresh: forget all its subscriptions, but for those to be ``rescued`` from, and note that
        it may have missed echoes, as :meth:`miss_echoes` does. Its owner and its upload LSN stay."""
        await self._execute(
            "WITH missed AS (UPDATE leyden.client_uploads SET echo_missed = true WHERE client_id = %(client)s)"
            " DELETE FROM leyden.client_subscriptions"
            " WHERE client_id = %(client)s AND subscription_id <> ALL (%(rescued)s::text[])",
            {"client": client_id, "rescued": list(rescued)},
        )

    async def _execute(self, statement: str, parameters: list[Any] | dict[str, Any]) -> None:
        async with self._pool.connection() as conn:
            await conn.execute(statement, parameters)


def _storable(ids: Collection[str]) -> list[str]:
    """Without those that nothing here can be called: a client may name what it likes."""
    return [one for one in ids if "\0" not in one]


def _record(
    subscription_id: str,
    shapes: Sequence[dict[str, Any]],
    cancelled_at: int | None,
    cancellation: int,
    asked_by: int | None,
    in_parts: bool,
) -> SubscriptionRecord:
    shown = tuple(_shape(shape) for shape in shapes)
    return SubscriptionRecord(subscription_id, shown, cancelled_at, cancellation, asked_by, in_parts)


def _shape(shape: dict[str, Any]) -> ShapeRecord:
    # those of an earlier release have no includes
    includes = (IncludeRecord(tuple(one["foreign_key"]), _shape(one["shape"])) for one in shape.get("includes", ()))
    return ShapeRecord(shape["table"], shape["where"], shape["claims"], tuple(includes))
