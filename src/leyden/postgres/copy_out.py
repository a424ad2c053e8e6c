"""The rows of a query through ``COPY … TO STDOUT``, in batches.

Owns the text format of COPY and the reading of it. Compared with fetching from a cursor, the server works on while a
batch is being used, plans for all rows instead of the first ones, and is held back by the socket when nobody reads.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import generators, sql
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn
from psycopg.waiting import Wait

from leyden.model import Row

#: Bytes of text after which a batch is ended early. One row is never divided, whatever its size.
BATCH_BYTES = 1 << 20

#: Fields of a batch, at most, unless told otherwise: what is done with it takes one or two milliseconds.
BATCH_FIELDS = 4_000

#: What COPY TO writes in place of characters (PostgreSQL documentation, COPY, "Text Format"), but for the backslash.
#: Of the sequences that COPY FROM understands it never writes those with digits.
_ESCAPES = ((rb"\n", b"\n"), (rb"\t", b"\t"), (rb"\r", b"\r"), (rb"\b", b"\b"), (rb"\f", b"\f"), (rb"\v", b"\v"))


async def copy_out(
    conn: psycopg.AsyncConnection[Any], query: sql.Composable, columns: int, most: int | None = None
) -> AsyncGenerator[list[Row], None]:
    """The rows of ``query``, which has so many ``columns``, in Postgres' text forms, at most ``most`` at a time.

    The connection must be in a transaction and is busy until the generator has ended or is closed. Closed early, it
    cancels the query; the transaction goes on as it was. Raises :class:`psycopg.Error`.
    """
    most = most or max(1, BATCH_FIELDS // columns)
    async with conn.transaction():
        # How long it takes depends on whoever takes the rows.
        await conn.execute("SET LOCAL statement_timeout = 0")
        try:
            async with conn.cursor() as cursor, cursor.copy(sql.SQL("COPY ({}) TO STDOUT").format(query)):
                more = True
                while more:
                    # Not line by line from psycopg's own object: that takes as long as all the rest of a row's way.
                    lines, more = await conn.wait(_lines(conn.pgconn, most))
                    if lines:
                        yield parse(b"".join(lines), columns)
        finally:
            await _settle(conn, most)


async def _settle(conn: psycopg.AsyncConnection[Any], most: int) -> None:
    """Takes what is left of an answer: whoever is cancelled while he waits for the first line, for him psycopg cancels
    the query, but leaves it at that."""
    with suppress(psycopg.errors.QueryCanceled):
        while conn.pgconn.transaction_status == TransactionStatus.ACTIVE:
            await conn.wait(_lines(conn.pgconn, most))


def _lines(pgconn: PGconn, most: int) -> PQGen[tuple[list[memoryview], bool]]:
    """The next lines, and whether there may be more."""
    lines: list[memoryview] = []
    size = 0
    get_copy_data = pgconn.get_copy_data
    while len(lines) < most and size < BATCH_BYTES:
        length, line = get_copy_data(1)
        if length > 0:
            lines.append(line)
            size += length
        elif length == 0:
            while not (yield Wait.R):
                pass
            pgconn.consume_input()
        else:
            for result in (yield from generators.fetch_many(pgconn)):
                if result.status != ExecStatus.COMMAND_OK:
                    raise psycopg.errors.error_from_result(result)
            return lines, False
    return lines, True


def parse(text: bytes, columns: int) -> list[Row]:
    """The rows in ``text``, which is whole lines of COPY's text format, of ``columns`` fields each.

    Raises :class:`ValueError` for lines of another width.
    """
    # All lines at once: a loop over them in Python takes three times as long.
    fields = text.replace(b"\n", b"\t").split(b"\t")
    fields.pop()  # behind the last newline
    values: Sequence[bytes | None] = fields
    backslashes = text.count(b"\\")
    if backslashes:
        if backslashes == fields.count(rb"\N"):
            values = [None if field == rb"\N" else field for field in fields]
        else:
            values = [field if field.find(b"\\") < 0 else _value(field) for field in fields]
    return list(zip(*[iter(values)] * columns, strict=True))


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
