"""The values of a query through ``COPY … TO STDOUT``, in batches.

Owns the text format of COPY and the reading of it. Compared with fetching from a cursor, the server works on while a
batch is being used, plans for all rows instead of the first ones, and is held back by the socket when nobody reads.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import generators, sql
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn
from psycopg.waiting import Wait

#: Bytes of text after which a batch is ended early. One row is never divided, whatever its size.
BATCH_BYTES = 1 << 20

#: Rows and values of a batch, at most, unless told otherwise: what is done with it takes a millisecond or two.
BATCH_ROWS = 500
BATCH_VALUES = 5_000

#: What COPY TO writes in place of characters (PostgreSQL documentation, COPY, "Text Format"), but for the backslash.
#: Of the sequences that COPY FROM understands it never writes those with digits.
_ESCAPES = ((rb"\n", b"\n"), (rb"\t", b"\t"), (rb"\r", b"\r"), (rb"\b", b"\b"), (rb"\f", b"\f"), (rb"\v", b"\v"))


async def copy_out(
    conn: psycopg.AsyncConnection[Any], query: sql.Composable, columns: int, most: int | None = None
) -> AsyncGenerator[list[bytes | None], None]:
    """The values of ``query``, which has so many ``columns``, in Postgres' text forms, one row after the other: those
    of at most ``most`` rows at a time.

    The connection must be in a transaction and is busy until the generator has ended or is closed. Closed early, it
    cancels the query; the transaction goes on as it was. Raises :class:`psycopg.Error`.
    """
    most = most or min(BATCH_ROWS, max(1, BATCH_VALUES // columns))
    async with conn.transaction():
        try:
            async with conn.cursor() as cursor, cursor.copy(sql.SQL("COPY ({}) TO STDOUT").format(query)):
                more = True
                while more:
                    # Not line by line from psycopg's own object: that takes as long as all the rest of a row's way.
                    lines, more = await conn.wait(_lines(conn.pgconn, most))
                    if lines:
                        yield parse(lines)
        finally:
            await _settle(conn, most)


async def _settle(conn: psycopg.AsyncConnection[Any], most: int) -> None:
    """Reads the rest of an answer. When a task is cancelled while it waits for the first line, psycopg cancels its
    query but leaves unread what comes of it."""
    with suppress(psycopg.errors.QueryCanceled):
        while conn.pgconn.transaction_status == TransactionStatus.ACTIVE:
            await conn.wait(_lines(conn.pgconn, most))


def _lines(pgconn: PGconn, most: int) -> PQGen[tuple[bytes, bool]]:
    """The next lines, and whether there may be more."""
    text = bytearray()
    count = 0
    get_copy_data = pgconn.get_copy_data
    while count < most and len(text) < BATCH_BYTES:
        length, line = get_copy_data(1)
        if length > 0:
            # At once: a list of memoryviews would keep the garbage collector busy.
            text += line
            count += 1
        elif length == 0:
            while not (yield Wait.R):
                pass
            pgconn.consume_input()
        else:
            for result in (yield from generators.fetch_many(pgconn)):
                if result.status != ExecStatus.COMMAND_OK:
                    raise psycopg.errors.error_from_result(result)
            return bytes(text), False
    return bytes(text), True


def parse(text: bytes) -> list[bytes | None]:
    """The values in ``text``, which is whole lines of COPY's text format, one row after the other."""
    # All lines at once: one after the other they take a quarter longer.
    fields = text.replace(b"\n", b"\t").split(b"\t")
    fields.pop()  # behind the last newline
    backslashes = text.count(b"\\")
    if backslashes == fields.count(rb"\N"):
        return [None if field == rb"\N" else field for field in fields]
    return [field if field.find(b"\\") < 0 else _value(field) for field in fields]


def _value(field: bytes) -> bytes | None:
    """The value that ``field`` with a backslash in it stands for."""
    if field == rb"\N":
        return None
    # No text of Postgres holds a NUL, so it can stand for the backslash until the others are done.
    value = field.replace(rb"\\", b"\0")
    if value.find(b"\\") >= 0:
        for escape, character in _ESCAPES:
            value = value.replace(escape, character)
    return value.replace(b"\0", b"\\")
