"""What the writer says of a client's transaction, at its head and in the WAL.

Owns the form of that message, and how it is known to be the service's. What becomes of it is ``ingest``'s.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import psycopg

from leyden.model import Row

#: Prefix of the logical message with which a client's transaction begins, in front of the seal.
TRANSACTION_PREFIX = "leyden.tx"

#: The same of the message of a transaction that may change policies or privileges (``rights.sql``).
RIGHTS_PREFIX = "leyden.rights"


async def load_prefix(conn: psycopg.AsyncConnection[Any]) -> str:
    """The prefix of the service's own messages (``announce.sql``): any role may emit messages, but nobody else knows
    the seal."""
    cursor = await conn.execute("SELECT value #>> '{}' FROM leyden.meta WHERE key = 'seal'")
    row = await cursor.fetchone()
    if row is None:
        raise RuntimeError("the schema is not installed")
    return f"{TRANSACTION_PREFIX} {row[0]}"


class Announcement:
    """What the writer said of a client's transaction in its ``leyden.tx`` message."""

    __slots__ = ("client", "corrections", "ms")

    def __init__(
        self, client: str, ms: int, corrections: Sequence[tuple[int, Row, Row | None, tuple[str, ...]]]
    ) -> None:
        self.client = client
        self.ms = ms
        self.corrections = corrections

    @classmethod
    def parse(cls, content: bytes) -> Announcement | None:
        """``None`` when it is not one; ours are always well formed."""
        try:
            document = json.loads(content)
            client, ms = document["client"], document["ms"]
            if not isinstance(client, str) or type(ms) is not int:
                return None
            return cls(
                client,
                ms,
                [
                    (
                        int(one["table"]),
                        _row(one["key"]),
                        None if one["row"] is None else _row(one["row"]),
                        tuple(str(tag) for tag in one["tags"]),
                    )
                    for one in document.get("corrections", ())
                ],
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _row(values: Sequence[str | None]) -> Row:
    return tuple(None if value is None else value.encode() for value in values)
