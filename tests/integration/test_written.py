"""The rows written since a checkpoint, as a snapshot tells them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from leyden.model import Row, Table
from leyden.postgres import checkpoints
from leyden.postgres.catalog import load_tables
from leyden.postgres.reading.snapshots import Snapshots
from leyden.postgres.reading.written import Former, WrittenRow
from leyden.postgres.sessions import connect, session_conninfo


@pytest.fixture
async def conn(database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await connect(database, autocommit=True) as conn:
        await conn.execute("CREATE TYPE mood AS ENUM ('good', 'bad')")
        await conn.execute("CREATE TABLE parents (id text PRIMARY KEY)")
        await conn.execute(
            "CREATE TABLE items (id int4 PRIMARY KEY, note text, parent text REFERENCES parents, electric_user_id text)"
        )
        await conn.execute(
            'CREATE TABLE keyed (n int4, "%s ""k" text, flag bool, at timestamptz, f float8, raw bytea, day date,'
            ' mood mood, v varchar, u uuid, PRIMARY KEY (flag, "%s ""k", at, f, raw, day, mood, v, u))'
        )
        await conn.execute("INSERT INTO items VALUES (1, 'older than electrification')")
        for name in ("parents", "items", "keyed"):
            await conn.execute("SELECT leyden.enable(%s::text::regclass)", [name])
        yield conn


@pytest.fixture
async def snapshots(database: str, conn: psycopg.AsyncConnection[Any]) -> AsyncIterator[Snapshots]:
    async with AsyncConnectionPool(session_conninfo(database), min_size=1, max_size=2, open=False) as pool:
        yield Snapshots(pool)


async def table(conn: psycopg.AsyncConnection[Any], name: str) -> Table:
    return next(one for one in (await load_tables(conn)).values() if one.name == name)


async def rows(snapshots: Snapshots, one: Table, xid: int) -> dict[Row, WrittenRow]:
    async with snapshots.open() as snapshot:
        found = [row async for batch in snapshot.written_rows(one, xid) for row in batch]
        keys = {key: former async for batch in snapshot.written_keys(one, xid) for key, former in batch}
    assert len({row.key for row in found}) == len(found)
    assert keys == {row.key: row.former for row in found}
    return {row.key: row for row in found}


async def test_only_what_was_written_since_is_told(snapshots: Snapshots, conn: psycopg.AsyncConnection[Any]) -> None:
    items = await table(conn, "items")
    await conn.execute(
        "INSERT INTO items SELECT n, 'before' FROM generate_series(2, 5) n; DELETE FROM items WHERE id = 2"
    )
    xid = await checkpoints.oldest_running(conn)
    assert await rows(snapshots, items, xid) == {}
    await conn.execute("UPDATE items SET note = 'after' WHERE id IN (1, 3); DELETE FROM items WHERE id = 4")
    await conn.execute("INSERT INTO items VALUES (6, NULL), (7, NULL); DELETE FROM items WHERE id = 7")
    found = await rows(snapshots, items, xid)
    assert {key: one.row for key, one in found.items()} == {
        (b"1",): (b"1", b"after", None, None),
        (b"3",): (b"3", b"after", None, None),
        (b"4",): None,
        (b"6",): (b"6", None, None, None),
        (b"7",): None,
    }
    assert [len(one.tags) for _, one in sorted(found.items())] == [1, 1, 0, 1, 0]


async def test_what_rows_were_tied_to_since_comes_along(
    snapshots: Snapshots, conn: psycopg.AsyncConnection[Any]
) -> None:
    items = await table(conn, "items")
    await conn.execute("INSERT INTO parents VALUES ('a'), ('b'), ('c')")
    await conn.execute("INSERT INTO items VALUES (2, '', 'a', 'me'), (3, '', 'a', 'me'), (4, '', 'a', 'me')")
    await conn.execute("UPDATE items SET parent = 'b'")
    xid = await checkpoints.oldest_running(conn)
    await conn.execute(
        "UPDATE items SET parent = 'c' WHERE id = 2; UPDATE items SET electric_user_id = NULL WHERE id = 2"
    )
    await conn.execute(
        "UPDATE items SET electric_user_id = 'ü\"' WHERE id = 2; UPDATE items SET note = 'x' WHERE id = 3"
    )
    await conn.execute("DELETE FROM items WHERE id = 4")
    expected: dict[Row, Former] = {
        (b"2",): {"parent": {b"b", b"c"}, "electric_user_id": {b"me", None}},
        (b"3",): {},
        (b"4",): {"parent": {b"b"}, "electric_user_id": {b"me"}},
    }
    assert {key: one.former for key, one in (await rows(snapshots, items, xid)).items()} == expected


async def test_keys_of_every_type_find_their_rows(snapshots: Snapshots, conn: psycopg.AsyncConnection[Any]) -> None:
    keyed = await table(conn, "keyed")
    xid = await checkpoints.oldest_running(conn)
    await conn.execute(
        r"""INSERT INTO keyed VALUES
        (1, E'q"\\\t', true, '2024-01-01 12:00:00.5+02', 0.1, '\x00ff5c', '2024-01-31', 'good', 'ü', gen_random_uuid()),
        (2, '', false, 'infinity', 'NaN', '', '-infinity', 'bad', '', gen_random_uuid())"""
    )
    found = await rows(snapshots, keyed, xid)
    assert sorted(one.row[0] or b"" for one in found.values() if one.row is not None) == [b"1", b"2"]
    assert all(one.row is not None and keyed.key_of(one.row) == key for key, one in found.items())
    await conn.execute("DELETE FROM keyed")
    assert {key: one.row for key, one in (await rows(snapshots, keyed, xid)).items()} == dict.fromkeys(found)


async def test_a_snapshot_tells_whether_anything_was_forgotten(
    snapshots: Snapshots, conn: psycopg.AsyncConnection[Any]
) -> None:
    await checkpoints.store(conn, 10, await checkpoints.oldest_running(conn))
    async with snapshots.open() as before:
        await conn.execute("UPDATE leyden.checkpoints SET position = 20")
        assert await before.can_tell_since(10)
        async with snapshots.open() as after:
            assert not await after.can_tell_since(10)
