"""Rows through COPY are those of the query, whoever takes them how slowly and however far."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from leyden.postgres.reading import copy_out as module
from leyden.postgres.reading.copy_out import BATCH_BYTES, copy_out
from leyden.postgres.sessions import connect

#: Each value of each type in a row of its own, between columns that must not be mistaken for it.
VALUES = """
SELECT 'before', v, NULL, 'after' FROM (
    SELECT chr(c) || 'x' || chr(c) || chr(c) FROM generate_series(1, 700) c
    UNION ALL SELECT chr(a) || chr(b) FROM unnest(ARRAY[8, 9, 10, 11, 12, 13, 46, 48, 78, 92, 110, 116, 120]) a,
        unnest(ARRAY[8, 9, 10, 11, 12, 13, 46, 48, 78, 92, 110, 116, 120]) b
    UNION ALL VALUES (''), (NULL), ('\\N'), ('\\.'), (E'\\\\N'), ('😀'), (repeat('\\', 100000)), (repeat(E'\\n', 70000))
    UNION ALL SELECT v::text FROM unnest(ARRAY['{"a": "\\"\\n\\\\"}', 'null']::jsonb[]) v
) AS texts (v)
"""
TYPED = """
SELECT true, false, '\\x00ff5c0a'::bytea, ''::bytea, 'infinity'::date, '0044-03-15 BC'::date, 1e-45::float4,
    'NaN'::float8, 0.1::float8, (-32768)::int2, 2147483647::int4, (-9223372036854775808)::int8,
    '{"a\\\\": "\\t"}'::jsonb, '24:00'::time, '0044-03-15 12:00 BC'::timestamp,
    '2024-02-29 12:34:56.789+05:30'::timestamptz, '-infinity'::timestamptz,
    'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid, E'\\t'::varchar
"""

Connection = psycopg.AsyncConnection[Any]


@pytest.fixture
async def conn(database: str) -> AsyncIterator[Connection]:
    """A session in a transaction."""
    async with await connect(database) as conn:
        await conn.execute("CREATE TEMPORARY TABLE seen (n int4)")
        yield conn


def numbers(count: int, width: int = 1) -> sql.Composed:
    """Rows that the server makes one by one as they are taken."""
    return sql.SQL("SELECT generate_series(1, {}), repeat('x', {})").format(count, width)


Values = list[bytes | None]


async def exhaust(batches: AsyncIterator[Values]) -> None:
    async for _ in batches:
        pass


async def fetched(conn: Connection, query: sql.SQL | sql.Composed) -> Values:
    """The values of ``query`` in text form, as libpq gives them without COPY."""
    result = (await conn.execute(query)).pgresult
    assert result is not None
    return [result.get_value(row, column) for row in range(result.ntuples) for column in range(result.nfields)]


@pytest.mark.parametrize(
    ("text", "rows", "columns"),
    [(VALUES, 700 + 13 * 13 + 8 + 2, 4), (TYPED, 1, 19)],
    ids=["odd texts", "every type"],
)
async def test_values_are_those_of_an_ordinary_query(
    conn: Connection, text: LiteralString, rows: int, columns: int
) -> None:
    query = sql.SQL(text)
    expected = await fetched(conn, query)
    assert len(expected) == rows * columns

    assert [value async for values in copy_out(conn, query, columns) for value in values] == expected


async def test_batches_are_bounded_in_rows_and_in_bytes(conn: Connection) -> None:
    few = [len(values) / 2 async for values in copy_out(conn, numbers(25), 2, 10)]
    large = [len(values) / 2 async for values in copy_out(conn, numbers(6, BATCH_BYTES // 2), 2)]
    narrow = [len(values) / 2 async for values in copy_out(conn, numbers(1_200), 2)]
    wide = sql.SQL("SELECT {} FROM generate_series(1, 120)").format(sql.SQL(", ").join([sql.Literal(1)] * 100))
    broad = [len(values) / 100 async for values in copy_out(conn, wide, 100)]
    assert few == [10, 10, 5]
    assert large == [2, 2, 2]
    assert narrow == [500, 500, 200]
    assert broad == [50, 50, 20]


async def test_no_rows_are_no_batches(conn: Connection) -> None:
    assert [values async for values in copy_out(conn, numbers(0), 2)] == []


async def test_a_huge_row_is_a_batch_of_its_own(conn: Connection) -> None:
    query = sql.SQL("SELECT i, repeat(E'tab\\tand\\\\', 1500000 * (i % 2)) FROM generate_series(1, 3) AS i")
    batches = [values async for values in copy_out(conn, query, 2)]
    huge = rb"tab" b"\tand\\" * 1_500_000
    assert batches == [[b"1", huge], [b"2", b"", b"3", huge]]


async def test_an_error_of_the_query_is_raised_and_the_transaction_goes_on(conn: Connection) -> None:
    query = sql.SQL("SELECT 1000 / (1500 - i), 1 FROM generate_series(1, 10000) AS i")
    batches = copy_out(conn, query, 2, 100)
    assert len(await anext(batches)) == 200
    with pytest.raises(psycopg.errors.DivisionByZero):
        await asyncio.wait_for(exhaust(batches), 10)
    assert await fetched(conn, sql.SQL("SELECT count(*) FROM seen")) == [b"0"]


@pytest.mark.parametrize("taken", [0, 1, 3])
async def test_a_reading_left_early_ends_and_the_transaction_goes_on(conn: Connection, taken: int) -> None:
    async with aclosing(copy_out(conn, numbers(1_000_000, 100), 2)) as batches:
        for _ in range(taken):
            await anext(batches)
    assert await fetched(conn, sql.SQL("SELECT count(*) FROM seen")) == [b"0"]
    assert [values async for values in copy_out(conn, numbers(2), 2)] == [[b"1", b"x", b"2", b"x"]]


@pytest.mark.parametrize(
    "query",
    [
        numbers(100_000_000, 10),
        sql.SQL("SELECT 1, pg_sleep(60)"),
        sql.SQL("SELECT i, pg_sleep(i - 1) FROM (VALUES (1), (61)) AS a (i)"),
    ],
    ids=["among the rows", "before the first", "before the last"],
)
async def test_a_reader_that_is_cancelled_ends_the_query(conn: Connection, query: sql.Composable) -> None:
    reading = asyncio.create_task(exhaust(copy_out(conn, query, 2)))
    await asyncio.sleep(0.2)
    reading.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert await fetched(conn, sql.SQL("SELECT count(*) FROM seen")) == [b"0"]


async def test_the_server_waits_for_whoever_takes_the_rows(
    conn: Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 1 << 16)
    backend = conn.info.backend_pid
    total = 200_000 * 1_000
    async with aclosing(copy_out(conn, numbers(200_000, 1_000), 2)) as batches:
        await anext(batches)
        async with await connect(database, autocommit=True) as other, asyncio.timeout(20):
            query = (
                "SELECT wait_event, bytes_processed FROM pg_stat_activity JOIN pg_stat_progress_copy USING (pid)"
                " WHERE pid = %s"
            )
            waits_for, processed = None, 0
            while waits_for != "ClientWrite":
                waits_for, processed = await (await other.execute(query, [backend])).fetchone() or (None, 0)
            await asyncio.sleep(0.1)
            assert await (await other.execute(query, [backend])).fetchone() == (waits_for, processed)
    assert 0 < processed < total / 50
