"""A snapshot gives whole tables with their tags, and knows exactly which transactions it contains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from leyden.events import ignore
from leyden.log.memory import MemoryLog
from leyden.model import EPOCH_TAG, Insert, Table
from leyden.postgres.catalog import load_migrations, load_tables
from leyden.postgres.reading.snapshots import Snapshot, Snapshots, TaggedRow
from leyden.postgres.replication.reader import Replication
from leyden.postgres.replication.suspension import TableStrayed
from leyden.postgres.requirements import unmet_requirements
from leyden.postgres.sessions import connect, session_conninfo


@pytest.fixture
async def conn(database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await connect(database, autocommit=True) as conn:
        await conn.execute(
            "CREATE TABLE items (a text, b int4, flag bool, at timestamptz, f float8, raw bytea, PRIMARY KEY (b, a))"
        )
        await conn.execute("CREATE TABLE plain (id int4 PRIMARY KEY)")
        await conn.execute("INSERT INTO items VALUES ('before', 1)")
        await conn.execute("CALL electric.electrify('items')")
        await conn.execute("CALL electric.electrify('plain')")
        yield conn


@pytest.fixture
async def snapshots(database: str, conn: psycopg.AsyncConnection[Any]) -> AsyncIterator[Snapshots]:
    async with AsyncConnectionPool(session_conninfo(database), min_size=1, max_size=2, open=False) as pool:
        yield Snapshots(pool)


async def table(conn: psycopg.AsyncConnection[Any], name: str) -> Table:
    return next(one for one in (await load_tables(conn)).values() if one.name == name)


async def all_rows(snapshot: Snapshot, one: Table, batch: int = 500) -> list[TaggedRow]:
    return [row async for rows in snapshot.rows(one, batch=batch) for row in rows]


async def until_held(log: MemoryLog, count: int) -> None:
    async with asyncio.timeout(20):
        while len(log) < count:  # noqa: ASYNC110  simpler than a subscription
            await asyncio.sleep(0.005)


async def test_rows_come_with_their_tags(snapshots: Snapshots, conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.execute("""INSERT INTO items VALUES (E'q"u\\\\o\\tte ü', 2, true)""")
    await conn.execute("UPDATE leyden.row_state SET tags = '{\"a b@1\",c@2}'")
    async with snapshots.open() as snapshot:
        rows = await all_rows(snapshot, await table(conn, "items"))
    assert sorted(rows) == [
        ((b"before", b"1", None, None, None, None), (EPOCH_TAG,)),
        (('q"u\\o\tte ü'.encode(), b"2", b"t", None, None, None), ("a b@1", "c@2")),
    ]


async def test_a_table_comes_in_batches(snapshots: Snapshots, conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.execute("INSERT INTO plain SELECT generate_series(1, 25)")
    plain = await table(conn, "plain")
    async with snapshots.open() as snapshot:
        sizes = [len(rows) async for rows in snapshot.rows(plain, batch=10)]
        again = await all_rows(snapshot, plain, batch=25)
    assert sizes == [10, 10, 5]
    assert len(again) == 25
    assert {tags for _, tags in again} != {(EPOCH_TAG,)}


async def test_an_empty_table_has_no_batches(snapshots: Snapshots, conn: psycopg.AsyncConnection[Any]) -> None:
    async with snapshots.open() as snapshot:
        assert await all_rows(snapshot, await table(conn, "plain")) == []


async def test_several_tables_are_seen_at_the_same_moment(
    snapshots: Snapshots, conn: psycopg.AsyncConnection[Any]
) -> None:
    items, plain = await table(conn, "items"), await table(conn, "plain")
    async with snapshots.open() as snapshot:
        assert len(await all_rows(snapshot, items)) == 1
        await conn.execute("INSERT INTO plain VALUES (1)")
        assert await all_rows(snapshot, plain) == []


async def test_a_reading_left_early_leaves_the_connection_usable(
    snapshots: Snapshots, conn: psycopg.AsyncConnection[Any]
) -> None:
    await conn.execute("INSERT INTO plain SELECT generate_series(1, 25)")
    plain = await table(conn, "plain")
    for _ in range(3):
        async with snapshots.open() as snapshot:
            batches = snapshot.rows(plain, batch=10)
            assert len(await anext(batches)) == 10
            await batches.aclose()
            assert len(await all_rows(snapshot, plain)) == 25


async def test_a_reading_that_nobody_closed_ends_with_the_snapshot(
    snapshots: Snapshots, conn: psycopg.AsyncConnection[Any]
) -> None:
    await conn.execute("INSERT INTO plain SELECT generate_series(1, 20000)")
    plain = await table(conn, "plain")

    async def give_up() -> None:
        async with snapshots.open() as snapshot:
            async for _ in snapshot.rows(plain, batch=10):
                raise ZeroDivisionError

    async with asyncio.timeout(10):
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await give_up()
        async with snapshots.open() as snapshot:
            assert len(await all_rows(snapshot, plain)) == 20_000


async def test_limits_on_time_do_not_hold_for_a_snapshot(database: str, conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.execute("INSERT INTO plain SELECT generate_series(1, 20000)")
    plain = await table(conn, "plain")
    limits = ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
    limited = make_conninfo(database, options=" ".join(f"-c {name}=300" for name in limits))
    async with AsyncConnectionPool(session_conninfo(limited), min_size=1, max_size=1, open=False) as pool:
        async with Snapshots(pool).open() as snapshot:
            rows = 0
            async for batch in snapshot.rows(plain, batch=5_000):
                rows += len(batch)
                await asyncio.sleep(0.2)
            assert rows == 20_000
            await asyncio.sleep(0.5)
            assert await snapshot.newest_version()
        async with pool.connection() as other:
            shown = [await (await other.execute(f"SHOW {name}")).fetchone() for name in limits]  # type: ignore[arg-type]
    assert shown == [("300ms",)] * 3


async def test_a_snapshot_does_one_thing_at_a_time(snapshots: Snapshots, conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.execute("INSERT INTO plain SELECT generate_series(1, 25)")
    plain = await table(conn, "plain")
    async with snapshots.open() as snapshot:
        await anext(snapshot.rows(plain, batch=10))
        with pytest.raises(RuntimeError, match="still open"):
            snapshot.rows(plain)
        with pytest.raises(RuntimeError, match="still open"):
            await snapshot.newest_version()


async def test_the_point_sees_what_the_rows_contain_and_nothing_else(
    database: str, snapshots: Snapshots, conn: psycopg.AsyncConnection[Any]
) -> None:
    log = MemoryLog(1 << 24)
    replication = Replication(database, log, ignore, wal_window=1 << 30)
    reading = asyncio.create_task(replication.run())
    async with asyncio.timeout(20):
        await replication.caught_up.wait()
    plain = await table(conn, "plain")
    async with await connect(database) as open_one, await connect(database) as open_two:
        # Begun in this order, committed in another, with the snapshot in between.
        await open_one.execute("INSERT INTO plain VALUES (1)")
        await open_two.execute("INSERT INTO plain VALUES (2)")
        await conn.execute("INSERT INTO plain VALUES (3)")
        await open_two.commit()
        async with snapshots.open() as snapshot:
            await open_one.commit()
            await conn.execute("INSERT INTO plain VALUES (4)")
            rows = {row[0] for row, _ in await all_rows(snapshot, plain)}
    await until_held(log, 4)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)

    point = snapshot.point
    seen = {
        change.row[0]
        for one in log.after(log.floor)
        for change in one.changes
        if isinstance(change, Insert) and point.sees(one.xid)
    }
    assert rows == seen == {b"2", b"3"}
    assert all(one.position <= point.wal_position for one in log.after(log.floor) if point.sees(one.xid))


async def test_rows_read_the_same_from_a_snapshot_and_from_the_stream(
    database: str, snapshots: Snapshots, conn: psycopg.AsyncConnection[Any]
) -> None:
    log = MemoryLog(1 << 24)
    replication = Replication(database, log, ignore, wal_window=1 << 30)
    reading = asyncio.create_task(replication.run())
    async with asyncio.timeout(20):
        await replication.caught_up.wait()
    await conn.execute(
        "INSERT INTO items VALUES ('x', 9, false, '2024-02-01 10:00:00.123456+09', 1e-7, '\\x00ff'),"
        " ('y', -9, true, 'infinity', 'NaN', NULL)"
    )
    await until_held(log, 1)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    streamed = [
        (change.row, change.tags)
        for one in log.after(log.floor)
        for change in one.changes
        if isinstance(change, Insert)
    ]
    async with snapshots.open() as snapshot:
        rows = await all_rows(snapshot, await table(conn, "items"))
    assert [row for row in rows if row[0][0] != b"before"] == streamed


async def test_a_snapshot_knows_the_newest_version_it_sees(
    snapshots: Snapshots, conn: psycopg.AsyncConnection[Any]
) -> None:
    versions = [migration.version for migration in await load_migrations(conn)]
    async with snapshots.open() as snapshot:
        await conn.execute("ALTER TABLE plain ADD COLUMN note text")
        assert await snapshot.newest_version() == versions[-1]
    async with snapshots.open() as snapshot:
        assert await snapshot.newest_version() > versions[-1]


async def test_policies_for_the_services_own_role_make_it_fail_and_not_leave_rows_out(
    database: str, conn: psycopg.AsyncConnection[Any]
) -> None:
    plain, role = await table(conn, "plain"), f"service_{conn.info.dbname}"
    name = sql.Identifier(role)
    await conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
    try:
        await conn.execute(
            sql.SQL("GRANT SELECT ON plain TO {}; GRANT USAGE ON SCHEMA leyden TO {}").format(name, name)
        )
        await conn.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA leyden TO {}").format(name))
        await conn.execute("INSERT INTO plain VALUES (1), (2)")
        await conn.execute("CREATE POLICY one ON plain USING (id = 1)")
        async with AsyncConnectionPool(
            session_conninfo(make_conninfo(database, user=role)), min_size=1, max_size=1, open=False
        ) as pool:
            snapshots = Snapshots(pool)
            async with snapshots.open() as snapshot:
                assert len(await all_rows(snapshot, plain)) == 2
            await conn.execute("ALTER TABLE plain ENABLE ROW LEVEL SECURITY")
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security policy"):
                async with snapshots.open() as snapshot:
                    await all_rows(snapshot, plain)
        async with await connect(make_conninfo(database, user=role)) as service:
            unmet = {one.code: one for one in await unmet_requirements(service)}
            assert '"plain"' in unmet["row_security"].message
    finally:
        await conn.execute(sql.SQL("DROP OWNED BY {}").format(name))
        await conn.execute(sql.SQL("DROP ROLE {}").format(name))


@pytest.mark.parametrize(
    ("ddl", "reason"),
    [
        ("ALTER COLUMN flag TYPE text", "column flag is now of type text, not bool"),
        ("DROP COLUMN flag", "column flag is missing"),
    ],
)
async def test_no_row_is_read_of_a_table_that_is_not_as_described(
    snapshots: Snapshots, conn: psycopg.AsyncConnection[Any], ddl: str, reason: str
) -> None:
    await conn.execute("SET event_triggers = off")
    items = await table(conn, "items")
    await conn.execute(f"ALTER TABLE items {ddl}".encode())
    async with snapshots.open() as snapshot:
        with pytest.raises(TableStrayed, match=reason):
            await all_rows(snapshot, items)
        assert await all_rows(snapshot, await table(conn, "plain")) == []


async def test_a_table_may_be_read_as_it_was_before_a_column_was_added(
    snapshots: Snapshots, conn: psycopg.AsyncConnection[Any]
) -> None:
    plain = await table(conn, "plain")
    await conn.execute("INSERT INTO plain VALUES (1); ALTER TABLE plain ADD COLUMN note text")
    async with snapshots.open() as snapshot:
        assert [row for row, _ in await all_rows(snapshot, plain)] == [(b"1",)]
