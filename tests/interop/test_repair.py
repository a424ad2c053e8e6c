"""The stock client that was away for longer than the log reaches back: it is brought up to date without a reset. Its
subscriptions go on, what it wrote meanwhile is kept, and it holds what it would hold had it been there."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest

from interop import test_includes as linked
from interop.choked_link import choked_link
from interop.client import Driver
from interop.conftest import Factory, ServiceFactory
from interop.service import Leyden
from interop.tables import ITEMS, complaints, connected, create_items, id_of

#: Only the newest transactions are held.
TINY = {"AUTH_MODE": "insecure", "ELECTRIC_TXN_CACHE_SIZE": "2k"}

RESTARTS = pytest.mark.parametrize(
    "restart", [None, signal.SIGTERM, signal.SIGKILL], ids=["same process", "stopped", "killed"]
)

REPAIRED = "client repaired"


async def prepare(service: Leyden, conn: psycopg.Connection[Any], rows: int) -> None:
    create_items(conn, rows)
    make_noise_table(conn)
    await has_read(service, conn)


def make_noise_table(conn: psycopg.Connection[Any]) -> None:
    conn.execute("CREATE TABLE noise (id int4 PRIMARY KEY, x text); CALL electric.electrify('noise')")


def make_noise(conn: psycopg.Connection[Any]) -> None:
    """The log moves on, past every position of before."""
    for n in range(20):
        conn.execute("INSERT INTO noise VALUES (%s, repeat('x', 200))", [n])
    conn.execute("DELETE FROM noise")


async def away(
    leyden: ServiceFactory, service: Leyden, conn: psycopg.Connection[Any], restart: signal.Signals | None = None
) -> Leyden:
    """A long time passes. The service that the client comes back to."""
    make_noise(conn)
    await has_read(service, conn)
    if restart is None:
        return service
    port = int(service.url.rpartition(":")[2])
    await service.stop(restart)
    return await leyden(port=port, **TINY)


async def has_read(service: Leyden, conn: psycopg.Connection[Any]) -> None:
    """The service has read what was written so far. A client that came before would fall out of what little is held of
    the log while the rest comes, and be repaired, or be repaired once more."""
    found = conn.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
    sent = "SELECT sent_lsn >= %s FROM pg_stat_replication"
    await until(lambda: conn.execute(sent, found).fetchone() == (True,))
    for _ in range(3):  # its loop has had turns since
        await asyncio.to_thread(lambda: urlopen(f"{service.url}/api/status").read())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110 - it depends on another process
            await asyncio.sleep(0.02)


async def repaired(service: Leyden, times: int = 1) -> None:
    await until(lambda: service.log.count(REPAIRED) >= times)


async def came_back(driver: Driver, service: Leyden, client: str = "a") -> None:
    """Connects again; it is repaired, not reset."""
    before = service.log.count(REPAIRED)
    await driver("connect", client=client, timeoutMs=20000)
    await repaired(service, before + 1)
    await driver("waitOplogEmpty", client=client, timeoutMs=20000)
    await was_not_reset(driver)
    assert service.log.count(REPAIRED) == before + 1


async def was_not_reset(driver: Driver) -> None:
    assert await driver("logs", contains="resetting client state") == []
    assert complaints(driver) == []


async def is_right(driver: Driver, conn: psycopg.Connection[Any], where: str = "true", client: str = "a") -> None:
    """Waits for a row that is written now, then compares the client's rows with those that it should have."""
    found = conn.execute("SELECT count(*) FROM items WHERE content = 'marker'").fetchone()
    number = 9000 + (found[0] if found else 0)
    conn.execute("INSERT INTO items (id, content, n) VALUES (%s, 'marker', %s)", [id_of(number), number])
    await driver("waitRow", client=client, sql=f"SELECT * FROM items WHERE n = {number}", timeoutMs=20000)
    query = f"SELECT id::text, content, n FROM items AS this WHERE {where} ORDER BY id"
    rows = await driver("query", client=client, sql="SELECT id, content, n FROM items ORDER BY id")
    assert [tuple(row.values()) for row in rows] == conn.execute(query).fetchall()
    assert complaints(driver) == []


@RESTARTS
async def test_a_client_of_a_whole_table(
    leyden: ServiceFactory, driver: Factory, restart: signal.Signals | None
) -> None:
    client = await driver()
    service = await leyden(**TINY)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        await prepare(service, conn, 10)
        await connected(client, service, "a", "items")
        await client("disconnect", client="a")
        conn.execute("INSERT INTO items VALUES (%s, 'new', 11)", [id_of(11)])
        conn.execute("UPDATE items SET content = 'changed' WHERE n IN (2, 3)")
        conn.execute("DELETE FROM items WHERE n IN (4, 5)")
        conn.execute("UPDATE items SET id = %s WHERE n = 6", [id_of(66)])
        service = await away(leyden, service, conn, restart)
        await came_back(client, service)
        await is_right(client, conn)
        conn.execute("DELETE FROM items WHERE n = 11")
        await is_right(client, conn)
        # It stands at the present: the log holds that, so it resumes as ever.
        await client("disconnect", client="a")
        conn.execute("UPDATE items SET content = 'seen at once' WHERE n = 1")
        await client("connect", client="a", timeoutMs=20000)
        await is_right(client, conn)
        assert service.log.count(REPAIRED) == 1
        await was_not_reset(client)


@RESTARTS
async def test_rows_that_came_to_a_filter_or_left_it_and_writes_of_ones_own(
    leyden: ServiceFactory, driver: Factory, restart: signal.Signals | None
) -> None:
    big = "this.n > 10"
    client = await driver()
    service = await leyden(**TINY)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        await prepare(service, conn, 30)
        await connected(client, service, "a")
        await client("sync", client="a", table="items", where=big, wait=True)
        await client("disconnect", client="a")
        conn.execute("UPDATE items SET n = n - 100 WHERE n IN (11, 12)")
        conn.execute("UPDATE items SET n = n + 100 WHERE n IN (1, 2)")
        conn.execute("UPDATE items SET n = 50 WHERE n = 3; UPDATE items SET n = 3 WHERE n = 50")
        conn.execute("UPDATE items SET n = 0 WHERE n = 13; DELETE FROM items WHERE n = 0")
        for statement in (
            f"INSERT INTO items VALUES ('{id_of(40)}', 'mine', 40)",
            "UPDATE items SET content = 'mine' WHERE n = 14",  # its other column is changed elsewhere
            "UPDATE items SET content = 'mine' WHERE n = 15",  # nobody else writes it
            "UPDATE items SET content = 'mine' WHERE n = 16",  # deleted elsewhere, unseen: it lives
            "DELETE FROM items WHERE n = 17",
            "DELETE FROM items WHERE n = 18",  # changed elsewhere, unseen: it lives
            "UPDATE items SET n = 5 WHERE n = 19",  # leaves the filter
            f"INSERT INTO items VALUES ('{id_of(41)}', 'gone before', 41)",
            f"DELETE FROM items WHERE id = '{id_of(41)}'",
        ):
            await client("run", client="a", sql=statement)
        conn.execute("UPDATE items SET n = 114 WHERE n = 14; UPDATE items SET content = 'theirs' WHERE n = 18")
        conn.execute("DELETE FROM items WHERE n = 16")
        service = await away(leyden, service, conn, restart)
        await came_back(client, service)
        await is_right(client, conn, big)
        assert dict(conn.execute("SELECT n, content FROM items WHERE content IN ('mine', 'theirs')").fetchall()) == {
            **dict.fromkeys((15, 16, 40, 114), "mine"),
            18: "theirs",
        }
        assert conn.execute("SELECT n FROM items WHERE id = %s", [id_of(19)]).fetchone() == (5,)
        conn.execute("UPDATE items SET n = 1 WHERE n = 40")
        await is_right(client, conn, big)


async def test_ones_own_writes_are_in_sight_all_the_time(leyden: ServiceFactory, driver: Factory) -> None:
    client = await driver()
    service = await leyden(**TINY)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        await prepare(service, conn, 3)
        await connected(client, service, "a", "items")
        await client("disconnect", client="a")
        await client("run", client="a", sql="UPDATE items SET content = 'mine' WHERE n = 1")
        conn.execute("UPDATE items SET n = 101 WHERE n = 1")
        await away(leyden, service, conn)
        # What it uploads waits for the row, so nothing but the repair can have been applied.
        with conn.transaction():
            conn.execute("SELECT FROM items FOR UPDATE")
            await client("connect", client="a", timeoutMs=20000)
            await client("waitRow", client="a", sql="SELECT * FROM items WHERE n = 101", timeoutMs=20000)
            rows = await client("query", client="a", sql="SELECT content FROM items WHERE n = 101")
            assert rows == [{"content": "mine"}]
        await client("waitOplogEmpty", client="a", timeoutMs=20000)
        await is_right(client, conn)
        await was_not_reset(client)


@RESTARTS
async def test_rows_that_moved_with_those_that_they_hang_on(
    leyden: ServiceFactory, driver: Factory, restart: signal.Signals | None
) -> None:
    client = await driver()
    service = await leyden(**TINY)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute(linked.TABLES)
        make_noise_table(conn)
        await has_read(service, conn)
        await connected(client, service, "a", schema=linked.SCHEMA)
        await client("sync", client="a", table="projects", wait=True, **linked.OPEN)
        await linked.settled(client, conn)
        for statements in (
            "UPDATE projects SET status = 'open' WHERE id = 11; UPDATE projects SET status = 'closed' WHERE id = 10",
            "UPDATE issues SET project_id = 10 WHERE id = 101; UPDATE issues SET project_id = 11 WHERE id = 100;"
            " UPDATE projects SET owner_id = 4 WHERE id = 11; DELETE FROM comments WHERE id = 1001",
            "UPDATE projects SET status = 'open'; UPDATE issues SET author_id = 4;"
            " INSERT INTO issues VALUES (104, 'new', 10, NULL); INSERT INTO comments VALUES (1004, 'z', 104, 3)",
            "DELETE FROM comments; DELETE FROM issues WHERE project_id = 10; DELETE FROM projects WHERE id = 10;"
            " UPDATE users SET name = 'other' WHERE id = 4",
        ):
            await client("disconnect", client="a")
            for statement in statements.split(";"):
                conn.execute(statement)
            service = await away(leyden, service, conn, restart)
            await came_back(client, service)
            await linked.settled(client, conn)
        await client("run", client="a", sql="INSERT INTO comments VALUES (1005, 'mine', 100, 4)")
        await client("waitOplogEmpty", client="a")
        await linked.settled(client, conn)


async def test_much_that_moved_never_breaks_the_clients_foreign_keys(leyden: ServiceFactory, driver: Factory) -> None:
    client = await driver()
    service = await leyden(**TINY)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute(linked.TABLES)
        make_noise_table(conn)
        conn.execute(
            "INSERT INTO users SELECT n, 'u' FROM generate_series(1000, 1999) n;"
            " INSERT INTO issues SELECT 10000 + n, 'x', 10, 1000 + n % 500 FROM generate_series(1, 6000) n;"
            " INSERT INTO issues SELECT 20000 + n, 'x', 11, 1500 + n % 500 FROM generate_series(1, 6000) n"
        )
        await has_read(service, conn)
        config = {"auth": {"clientId": "device-a"}, "foreignKeyChecksDownstream": "enabled"}
        await client("open", client="a", url=service.url, schema=linked.SCHEMA, config=config)
        token = (await client("token", claims={"sub": "user-a"}))["token"]
        await client("connect", client="a", token=token, timeoutMs=10000)
        await client("sync", client="a", table="projects", wait=True, timeoutMs=20000, **linked.OPEN)
        await linked.settled(client, conn)
        await client("disconnect", client="a")
        # One goes with all that hangs on it, another comes: more than fits into one transaction.
        conn.execute("UPDATE projects SET status = 'open' WHERE id = 11")
        conn.execute("UPDATE projects SET status = 'closed' WHERE id = 10")
        await away(leyden, service, conn)
        await came_back(client, service)
        await linked.settled(client, conn)


@RESTARTS
async def test_columns_that_were_added(leyden: ServiceFactory, driver: Factory, restart: signal.Signals | None) -> None:
    client = await driver()
    service = await leyden(**TINY)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        await prepare(service, conn, 5)
        await connected(client, service, "a", "items")
        await client("disconnect", client="a")
        conn.execute("UPDATE items SET content = 'before' WHERE n = 1")
        conn.execute("ALTER TABLE items ADD COLUMN note text")
        conn.execute("UPDATE items SET note = 'noted' WHERE n = 2")
        conn.execute("CREATE TABLE later (id int4 PRIMARY KEY); CALL electric.electrify('later')")
        conn.execute("ALTER TABLE items ADD COLUMN more int4; CREATE INDEX by_n ON items (n)")
        conn.execute("UPDATE items SET more = n WHERE n > 3; INSERT INTO later VALUES (1)")
        service = await away(leyden, service, conn, restart)
        await came_back(client, service)
        await is_right(client, conn)
        rows = await client("query", client="a", sql="SELECT n, note, more FROM items WHERE n < 9000 ORDER BY n")
        expected = conn.execute("SELECT n, note, more FROM items WHERE n < 9000 ORDER BY n").fetchall()
        assert [tuple(row.values()) for row in rows] == expected
        await client("run", client="a", sql="UPDATE items SET note = 'mine', more = 7 WHERE n = 1")
        await client("waitOplogEmpty", client="a")
        assert conn.execute("SELECT note, more FROM items WHERE n = 1").fetchone() == ("mine", 7)
        assert len(await client("query", client="a", sql="SELECT * FROM later")) == 0
        await was_not_reset(client)


OWNED: dict[str, Any] = {
    "tables": {
        "items": {
            "columns": {"id": "uuid", "content": "text", "n": "int4", "electric_user_id": "text"},
            "pk": ["id"],
        }
    },
    "migrations": [],
}


async def test_rows_that_changed_hands_and_nothing_of_those_that_were_never_ones_own(
    leyden: ServiceFactory, driver: Factory
) -> None:
    client = await driver()
    service = await leyden(**TINY)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        await prepare(service, conn, 0)
        conn.execute("ALTER TABLE items ADD COLUMN electric_user_id text")
        for n in range(1, 9):
            owner = "user-a" if n < 5 else "bob"
            conn.execute("INSERT INTO items VALUES (%s, 'row', %s, %s)", [id_of(n), n, owner])
        await connected(client, service, "a", "items", schema=OWNED)
        await client("disconnect", client="a")
        (*_, last) = await client("wire", client="a")
        conn.execute("UPDATE items SET electric_user_id = 'bob' WHERE n = 1")
        conn.execute("UPDATE items SET electric_user_id = 'bob' WHERE n = 2; DELETE FROM items WHERE n = 2")
        conn.execute("DELETE FROM items WHERE n = 3")
        conn.execute("UPDATE items SET electric_user_id = 'user-a' WHERE n = 5")
        conn.execute("UPDATE items SET content = 'secret' WHERE n = 6; DELETE FROM items WHERE n = 7")
        conn.execute("INSERT INTO items VALUES (%s, 'secret', 10, 'bob')", [id_of(10)])
        await away(leyden, service, conn)
        await came_back(client, service)
        await is_right(client, conn, "electric_user_id IS NULL OR electric_user_id = 'user-a'")
        told = str(await client("wire", client="a", dir="recv", type="SatOpLog", since=last["n"]))
        assert [n for n in (1, 2, 3, 5, 6, 7, 10) if id_of(n) in told] == [1, 2, 3, 5]


@pytest.mark.parametrize("refused", [False, True], ids=["applied", "refused"])
async def test_an_echo_that_was_missed_comes_again(leyden: ServiceFactory, driver: Factory, *, refused: bool) -> None:
    client = await driver()
    service = await leyden(**TINY)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        await prepare(service, conn, 3)
        if refused:
            conn.execute("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$")
            conn.execute(
                "CREATE TRIGGER no BEFORE INSERT OR UPDATE ON items FOR EACH ROW WHEN (NEW.n BETWEEN 100 AND 199)"
                " EXECUTE FUNCTION no()"
            )
        async with choked_link(int(service.url.rpartition(":")[2])) as link:
            direct, service.url = service.url, link.url
            await connected(client, service, "a", "items")
            link.choke()
            await client("run", client="a", sql=f"INSERT INTO items VALUES ('{id_of(100)}', 'mine', 100)")
            await client("run", client="a", sql="UPDATE items SET n = 102 WHERE n = 2")
            applied = "SELECT lsn > '\\x' FROM leyden.client_uploads WHERE client_id = 'device-a'"
            await until(lambda: conn.execute(applied).fetchone() == (True,))
            await client("disconnect", client="a")
            link.cut()
            link.release()
            service.url = direct
            conn.execute("UPDATE items SET content = 'later' WHERE n IN (2, 102)")
            assert len(await client("oplog", client="a")) == 2
            await away(leyden, service, conn)
            await came_back(client, service)
            await is_right(client, conn)
            stored = conn.execute("SELECT n, content FROM items WHERE n < 9000 ORDER BY n").fetchall()
            mine = [(2, "later")] if refused else [(100, "mine"), (102, "later")]
            assert stored == sorted([(1, "row 1"), (3, "row 3"), *mine])
            rejected = conn.execute("SELECT count(*) FROM leyden.rejected").fetchone()
            assert rejected is not None
            assert bool(rejected[0]) is refused


async def test_rows_written_while_a_client_is_repaired(leyden: ServiceFactory, driver: Factory) -> None:
    client = await driver()
    service = await leyden(**{**TINY, "ELECTRIC_TXN_CACHE_SIZE": "64k"})
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute(linked.TABLES)
        await prepare(service, conn, 2000)
        schema = {"tables": {**linked.SCHEMA["tables"], **ITEMS["tables"]}, "migrations": []}
        await connected(client, service, "a", schema=schema)
        await client("sync", client="a", table="projects", wait=True, **linked.OPEN)
        await client("sync", client="a", table="items", where="this.n > 1000", wait=True)
        random = Random(7)

        async def write() -> None:
            """Goes on until it is cancelled."""
            while True:
                n, key, other = (
                    random.randrange(2000),
                    id_of(random.randrange(1, 2001)),
                    id_of(random.randrange(1, 2001)),
                )
                for statement in (
                    f"UPDATE items SET n = {n}, content = 'written' WHERE id = '{key}'",
                    f"DELETE FROM items WHERE id = '{other}'",
                    f"INSERT INTO items VALUES (gen_random_uuid(), 'new', {n})",
                    f"UPDATE projects SET status = '{random.choice(['open', 'closed'])}'"
                    f" WHERE id = {random.choice([10, 11])}",
                    f"UPDATE issues SET project_id = {random.choice([10, 11])}, author_id = {random.randrange(1, 5)}"
                    f" WHERE id = {random.choice([100, 101, 102])}",
                ):
                    conn.execute(statement)
                    await asyncio.sleep(0.002)

        for times in range(1, 4):
            await client("disconnect", client="a")
            writing = asyncio.create_task(write())
            try:
                await asyncio.sleep(1.5)
                await client("connect", client="a", timeoutMs=20000)
                await repaired(service, times)
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
            await linked.settled(client, conn)
            await is_right(client, conn, "this.n > 1000")
        await was_not_reset(client)


async def test_a_client_that_falls_too_far_behind_while_it_is_connected(
    leyden: ServiceFactory, driver: Factory
) -> None:
    client = await driver()
    service = await leyden(**TINY)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        await prepare(service, conn, 3)
        async with choked_link(int(service.url.rpartition(":")[2])) as link:
            service.url = link.url
            await connected(client, service, "a", "items")
            link.choke()
            # None is acknowledged; after 30 no more are sent, and the log goes on without it.
            for n in range(10, 60):
                conn.execute("INSERT INTO items VALUES (%s, repeat('x', 100), %s)", [id_of(n), n])
            conn.execute("DELETE FROM items WHERE n > 50")
            await until(lambda: "too far behind" in service.log)
            link.release()
            await repaired(service)
            await is_right(client, conn)
            await was_not_reset(client)


async def test_a_client_that_is_cut_off_in_the_middle_is_repaired_from_the_beginning(
    leyden: ServiceFactory, driver: Factory
) -> None:
    client = await driver()
    service = await leyden(**TINY)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        await prepare(service, conn, 3)
        async with choked_link(int(service.url.rpartition(":")[2])) as link:
            service.url = link.url
            await connected(client, service, "a", "items")
            await client("disconnect", client="a")
            before = (await client("meta", client="a"))["lsnText"]
            conn.execute(
                "INSERT INTO items SELECT gen_random_uuid(), repeat('x', 300), n FROM generate_series(100, 20099) n"
            )
            conn.execute("DELETE FROM items WHERE n = 1")
            await away(leyden, service, conn)
            link.cut_after(4 << 20)
            await client("connect", client="a", timeoutMs=20000)
            await asyncio.wait_for(link.was_cut.wait(), 20)
            await repaired(service)
            await is_right(client, conn)
            # It came from where it had been before, though it had got more than half of the rows meanwhile.
            starts = await client("wire", client="a", type="SatInStartReplicationReq", dir="sent")
            assert [start["body"]["lsn"]["$text"] for start in starts[-2:]] == [before, before]
            assert service.log.count(REPAIRED) == 1
            assert (await client("meta", client="a"))["lsnText"] != before
            await was_not_reset(client)


async def test_a_subscription_that_was_given_up_stays_so(leyden: ServiceFactory, driver: Factory) -> None:
    both = {"tables": {**ITEMS["tables"], "other": {"columns": {"id": "int4"}, "pk": ["id"]}}, "migrations": []}
    client = await driver()
    service = await leyden(**TINY)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        await prepare(service, conn, 3)
        conn.execute("CREATE TABLE other (id int4 PRIMARY KEY); CALL electric.electrify('other')")
        conn.execute("INSERT INTO other VALUES (1), (2)")
        await connected(client, service, "a", "items", schema=both)
        synced = await client("sync", client="a", table="other", wait=True)
        await client("unsubscribe", client="a", keys=[synced["key"]])
        await client("waitRow", client="a", sql="SELECT count(*) AS n FROM other", expect={"n": 0})
        conn.execute("UPDATE items SET content = 'seen' WHERE n = 1")
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE content = 'seen'")
        await client("disconnect", client="a")
        conn.execute("INSERT INTO other VALUES (3); DELETE FROM items WHERE n = 2")
        await away(leyden, service, conn)
        await came_back(client, service)
        await is_right(client, conn)
        assert await client("query", client="a", sql="SELECT * FROM other") == []
        # and it can be had again
        await client("sync", client="a", table="other", wait=True, timeoutMs=10000)
        assert len(await client("query", client="a", sql="SELECT * FROM other")) == 3
        await was_not_reset(client)


async def test_a_subscription_given_up_unheard_is_given_up_afterwards(leyden: ServiceFactory, driver: Factory) -> None:
    client = await driver()
    service = await leyden(**TINY)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        await prepare(service, conn, 20)
        async with choked_link(int(service.url.rpartition(":")[2])) as link:
            direct, service.url = service.url, link.url
            await connected(client, service, "a")
            kept = "this.n <= 10"
            await client("sync", client="a", table="items", where=kept, wait=True)
            synced = await client("sync", client="a", table="items", where="this.n > 10 AND this.n < 9000", wait=True)
            with conn.transaction():
                # The batch that tells which rows to drop waits for this.
                conn.execute("LOCK TABLE leyden.client_subscriptions")
                await client("unsubscribe", client="a", keys=[synced["key"]])
                link.choke()
            cancelled = "SELECT count(*) FROM leyden.client_subscriptions WHERE cancelled_at IS NOT NULL"
            await until(lambda: conn.execute(cancelled).fetchone() == (1,))
            await client("disconnect", client="a")
            link.cut()
            link.release()
            service.url = direct
            conn.execute("UPDATE items SET n = 5 WHERE n = 15; DELETE FROM items WHERE n = 16")
            await away(leyden, service, conn)
            assert len(await client("query", client="a", sql="SELECT * FROM items")) == 20
            await came_back(client, service)
            await client("waitRow", client="a", sql="SELECT count(*) AS n FROM items", expect={"n": 11})
            rows = await client("query", client="a", sql="SELECT id FROM items ORDER BY id")
            assert [row["id"] for row in rows] == [id_of(n) for n in (*range(1, 11), 15)]


@pytest.mark.parametrize("why", ["nothing is known of so long ago", "a table was not shared for a while"])
async def test_who_cannot_be_repaired_starts_afresh(leyden: ServiceFactory, driver: Factory, why: str) -> None:
    client = await driver()
    service = await leyden(**TINY)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        await prepare(service, conn, 3)
        await connected(client, service, "a", "items")
        await client("disconnect", client="a")
        if why.startswith("nothing"):
            conn.execute("UPDATE leyden.checkpoints SET position = %s", [2**60])
        else:
            conn.execute("SELECT leyden.disable('items')")
            conn.execute("DELETE FROM items WHERE n = 1")
            conn.execute("CALL electric.electrify('items')")
        await away(leyden, service, conn)
        await client("connect", client="a", timeoutMs=20000)
        assert await client("logs", contains="resetting client state") != []
        assert await client("query", client="a", sql="SELECT * FROM items") == []
        await client("sync", client="a", table="items", wait=True, timeoutMs=10000)
        await is_right(client, conn)
