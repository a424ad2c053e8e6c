"""The worked examples of the conflict rules with the stock client: what Postgres, the author and somebody else end
with, and what the others are told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from interop.client import Driver
from interop.conftest import Factory
from interop.service import Leyden
from interop.tables import complaints, connected

DAY = 86_400.0
Z = "SELECT content, content_b FROM entries WHERE id = 'Z'"
TAGS = """
SELECT t.table_name, s.pk, s.tags FROM leyden.row_state s JOIN leyden.tables t USING (table_id) WHERE s.tags <> '{}'
"""
#: Sessions with a transaction that has written.
COMMITTING = """
SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()
"""


class Scene:
    """A database, and clients that hold all of it."""

    def __init__(self, service: Leyden, conn: psycopg.Connection[Any]) -> None:
        self.service = service
        self.conn = conn
        self.tables: dict[str, Any] = {}
        self.drivers: dict[str, Driver] = {}
        self.create("settled", "n int4", key="n")

    def create(self, table: str, *columns: str, key: str = "id") -> None:
        """An electrified table. A column ``TABLE_id`` refers to the ``id`` of TABLE, and falls with it."""
        names = {column.split()[0].strip('"'): column.split()[1] for column in columns}
        parents = [name for name in names if name.endswith("_id")]
        lines = [*columns, f'PRIMARY KEY ("{key}")']
        lines += [f"FOREIGN KEY ({name}) REFERENCES {name[:-3]} ON DELETE CASCADE" for name in parents]
        self.sql(f'CREATE TABLE "{table}" ({", ".join(lines)})')
        self.sql("CALL electric.electrify('public', %s)", table)
        foreign = [{"columns": [name], "table": name[:-3], "refColumns": ["id"]} for name in parents]
        self.tables[table] = {"columns": names, "pk": [key], "fks": foreign}

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        cursor = self.conn.execute(statement, parameters)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def tags(self, key: str) -> set[str]:
        return {tag for _, pk, tags in self.sql(TAGS) if json.loads(pk) == [key] for tag in tags}

    # ---- clients -------------------------------------------------------------------------------------------------

    async def join(self, driver: Driver, *clients: str) -> None:
        schema = {"tables": self.tables, "migrations": []}
        for client in clients:
            self.drivers[client] = driver
            await connected(driver, self.service, client, *self.tables, schema=schema)

    async def write(self, client: str, *statements: str) -> None:
        """One local transaction."""
        await self.drivers[client]("tx", client=client, statements=[{"sql": one} for one in statements])

    async def written(self, client: str) -> None:
        """All that it wrote has come back to it, and Postgres shows it."""
        await self.drivers[client]("waitOplogEmpty", client=client, timeoutMs=20000)
        # A commit is streamed from the moment it is in the WAL, a moment before other sessions see it.
        async with asyncio.timeout(20):
            while self.sql(COMMITTING):  # noqa: ASYNC110 - the database does not tell
                await asyncio.sleep(0.01)

    async def leave(self, *clients: str) -> None:
        for client in clients:
            await self.drivers[client]("disconnect", client=client)

    async def come_back(self, *clients: str) -> None:
        for client in clients:
            await self.drivers[client]("connect", client=client, timeoutMs=20000)
            await self.written(client)

    async def rows(self, client: str, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in await self.drivers[client]("query", client=client, sql=query)]

    async def told(self, client: str, origin: str) -> list[dict[str, Any]]:
        """The operations of the last transaction of ``origin`` that ``client`` received, from begin to commit."""
        frames = await self.drivers[client]("wire", client=client, type="SatOpLog", dir="recv")
        found: list[dict[str, Any]] = []
        inside = False
        for operation in (operation for frame in frames for operation in frame["value"]["ops"]):
            if operation.get("begin"):
                inside = operation["begin"]["origin"] == origin
                found = [] if inside else found
            if inside:
                found.append({kind: content for kind, content in operation.items() if content})
        return found

    # ---- in the end ----------------------------------------------------------------------------------------------

    async def ends_with(self, query: str, *expected: tuple[Any, ...]) -> None:
        """Postgres and the clients have it so, with the same tags, and none has complained."""
        ((number,),) = self.sql("INSERT INTO settled SELECT count(*) FROM settled RETURNING n")
        tags = {(table, tuple(json.loads(pk))): set(tags) for table, pk, tags in self.sql(TAGS)}
        assert self.sql(query) == [*expected], self.sql("SELECT sqlstate, message, ops FROM leyden.rejected")
        for client, driver in self.drivers.items():
            await driver("waitRow", client=client, sql=f"SELECT * FROM settled WHERE n = {number}", timeoutMs=20000)
            assert await self.rows(client, query) == [*expected]
            for shadow in await driver("shadow", client=client):
                key = tuple(str(part) for part in json.loads(shadow["primaryKey"]).values())
                assert set(json.loads(shadow["tags"])) == tags[shadow["tablename"], key]
            assert complaints(driver) == []


@pytest.fixture
def scene(service: Leyden) -> Iterator[Scene]:
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        yield Scene(service, conn)


@pytest.fixture
def entries(scene: Scene) -> Scene:
    """With a row Z, written by Postgres."""
    scene.create("entries", "id text", "content text", "content_b text")
    scene.sql("INSERT INTO entries VALUES ('Z', 'original')")
    return scene


def milliseconds(tag: str) -> int:
    return int(tag.partition("@")[2])


async def test_05_01_an_update_in_the_past_changes_nothing_and_is_told_all_the_same(
    entries: Scene, driver: Factory
) -> None:
    past = 1_686_009_600.0
    await entries.join(await driver(clock_ahead=past - time.time()), "a")
    await entries.join(await driver(), "b")
    await entries.leave("a")
    entries.sql("UPDATE entries SET content = 'sentinel'")
    (postgres,) = entries.tags("Z")
    await entries.write("a", "UPDATE entries SET content = 'from the past' WHERE id = 'Z'")
    await entries.come_back("a")
    (mine,) = entries.tags("Z") - {postgres}
    assert mine.startswith("device-a@")
    assert abs(milliseconds(mine) / 1000 - past) < 600
    await entries.ends_with(Z, ("sentinel", None))
    begin, update, _ = await entries.told("b", "device-a")
    assert begin["begin"]["commitTimestamp"] == str(milliseconds(mine))
    assert update["update"]["rowData"]["$row"] == update["update"]["oldRowData"]["$row"] == ["Z", "sentinel", None]
    assert set(update["update"]["tags"]) == {postgres, mine}


async def test_05_02_updates_of_different_columns_both_stand(entries: Scene, driver: Factory) -> None:
    await entries.join(await driver(), "a", "b", "c")
    await entries.leave("a", "b")
    await entries.write("a", "UPDATE entries SET content = 'updated on client 1' WHERE id = 'Z'")
    await entries.write("b", "UPDATE entries SET content_b = 'updated on client 2' WHERE id = 'Z'")
    await entries.come_back("a", "b")
    await entries.ends_with(Z, ("updated on client 1", "updated on client 2"))
    assert {tag.partition("@")[0] for tag in entries.tags("Z")} == {"device-a", "device-b"}


async def test_05_03_postgres_wins_over_a_transaction_that_committed_meanwhile(entries: Scene, driver: Factory) -> None:
    await entries.join(await driver(clock_ahead=DAY), "a")
    await entries.join(await driver(), "b")
    with psycopg.connect(entries.service.dsn) as other:
        other.execute("SELECT now()")
        await entries.write("a", "UPDATE entries SET content = 'by the client', content_b = 'too' WHERE id = 'Z'")
        await entries.written("a")
        (mine,) = entries.tags("Z")
        other.execute("UPDATE entries SET content = 'by Postgres'")
    tag = f"postgres_1@{milliseconds(mine)}"
    assert entries.tags("Z") == {tag}
    await entries.drivers["b"]("waitRow", client="b", sql="SELECT * FROM entries WHERE content = 'by Postgres'")
    begin, update, _ = await entries.told("b", "postgres_1")
    assert begin["begin"]["commitTimestamp"] == str(milliseconds(mine))
    assert update["update"]["tags"] == [tag]
    await entries.ends_with(Z, ("by Postgres", "too"))
    await entries.write("a", "UPDATE entries SET content = 'later' WHERE id = 'Z'")
    await entries.written("a")
    await entries.ends_with(Z, ("later", "too"))


async def test_05_04_an_update_that_did_not_see_the_deletion_brings_the_row_back(
    entries: Scene, driver: Factory
) -> None:
    client = await driver()
    await entries.join(client, "a", "b")
    await entries.leave("a")
    entries.sql("UPDATE entries SET content = 'updated value'")
    entries.sql("DELETE FROM entries")
    await client("waitRow", client="b", sql="SELECT * FROM entries", count=0)
    await entries.write("a", "UPDATE entries SET content_b = 'new value' WHERE id = 'Z'")
    await entries.come_back("a")
    await entries.ends_with(Z, ("updated value", "new value"))
    _, insert, _ = await entries.told("b", "device-a")
    assert insert["insert"]["rowData"]["$row"] == ["Z", "updated value", "new value"]
    assert set(insert["insert"]["tags"]) == entries.tags("Z")
    assert len(entries.tags("Z")) == 1


async def test_05_05_a_compensation_of_a_row_of_the_same_transaction(scene: Scene, driver: Factory) -> None:
    scene.create("item", "id text", "content text")
    scene.create("other", "id text", "item_id text")
    client = await driver()
    await scene.join(client, "a", "b")
    await scene.write("a", "INSERT INTO item VALUES ('Z', 'x')", "INSERT INTO other VALUES ('c', 'Z')")
    await scene.written("a")
    sent = await client("wire", client="a", type="SatOpLog", dir="sent")
    kinds = [kind for operation in sent[-1]["value"]["ops"] for kind, content in operation.items() if content]
    assert sorted(kinds) == ["begin", "commit", "compensation", "insert", "insert"]
    joined = "SELECT other.id, item_id, content FROM other JOIN item ON item.id = item_id"
    await scene.ends_with(joined, ("c", "Z", "x"))
    assert len(scene.tags("Z")) == 1


async def test_05_06_names_that_need_quotes(scene: Scene, driver: Factory) -> None:
    scene.create("camelCase", '"userId" text', '"by" text', key="userId")
    scene.sql("""INSERT INTO "camelCase" VALUES ('1', 'Postgres')""")
    await scene.join(await driver(), "a", "b")
    await scene.write(
        "a",
        """INSERT INTO "camelCase" VALUES ('3', 'a')""",
        """UPDATE "camelCase" SET "by" = 'a' WHERE "userId" = '1'""",
    )
    await scene.written("a")
    await scene.ends_with('SELECT * FROM "camelCase" ORDER BY "userId"', ("1", "a"), ("3", "a"))
    assert scene.tags("1") == scene.tags("3")


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param(["id text", "content text NOT NULL"], id="03.11"),
        pytest.param(["content text NOT NULL", "note text", "id text", "n int4", "last text"], id="03.25"),
    ],
)
async def test_a_compensation_revives_a_parent_that_postgres_deleted(
    scene: Scene, driver: Factory, columns: list[str]
) -> None:
    """Whatever the place of its key among the columns."""
    scene.create("item", *columns)
    scene.create("other", "content text", "id text", "item_id text")
    client = await driver()
    await scene.join(client, "a", "b")
    await scene.write("a", "INSERT INTO item (id, content) VALUES ('O', 'hello world')")
    await scene.written("a")
    await scene.leave("a")
    scene.sql("DELETE FROM item")
    await client("waitRow", client="b", sql="SELECT * FROM item", count=0)
    await scene.write("a", "INSERT INTO other (id, item_id) VALUES ('c', 'O')")
    await scene.come_back("a")
    joined = "SELECT other.id, item_id, item.content FROM other JOIN item ON item.id = item_id"
    await scene.ends_with(joined, ("c", "O", "hello world"))
    (mine,) = scene.tags("O")
    assert mine.startswith("device-a@")


async def test_a_compensation_revives_what_the_parent_refers_to_as_well(scene: Scene, driver: Factory) -> None:
    """The client compensates for the parent alone; Postgres deleted it together with what it belonged to."""
    scene.create("house", "id text", "name text NOT NULL")
    scene.create("floor", "id text", "house_id text")
    scene.create("room", "id text", "floor_id text")
    scene.sql("INSERT INTO house VALUES ('h', 'home')")
    scene.sql("INSERT INTO floor VALUES ('f', 'h')")
    await scene.join(await driver(), "a", "b")
    await scene.leave("a")
    scene.sql("DELETE FROM house")
    await scene.write("a", "INSERT INTO room VALUES ('r', 'f')")
    await scene.come_back("a")
    joined = (
        "SELECT room.id, floor_id, house_id, name FROM room"
        " JOIN floor ON floor.id = floor_id JOIN house ON house.id = house_id"
    )
    await scene.ends_with(joined, ("r", "f", "h", "home"))


async def test_a_deletion_takes_with_it_what_refers_to_the_row(scene: Scene, driver: Factory) -> None:
    """Both on the device and in Postgres, where there are rows that the device has not heard of."""
    scene.create("item", "id text")
    scene.create("other", "id text", "item_id text")
    scene.sql("INSERT INTO item VALUES ('Z'), ('kept')")
    scene.sql("INSERT INTO other VALUES ('known', 'Z'), ('kept', 'kept')")
    await scene.join(await driver(), "a", "b")
    await scene.leave("a")
    scene.sql("INSERT INTO other VALUES ('unknown', 'Z')")
    await scene.write("a", "DELETE FROM item WHERE id = 'Z'")
    await scene.come_back("a")
    await scene.ends_with("SELECT * FROM other", ("kept", "kept"))
    await scene.ends_with("SELECT * FROM item", ("kept",))


async def test_a_key_changed_in_postgres_ends_one_row_and_begins_another(entries: Scene, driver: Factory) -> None:
    await entries.join(await driver(), "a", "b")
    await entries.leave("a")
    entries.sql("UPDATE entries SET id = 'Y'")
    await entries.come_back("a")
    await entries.ends_with("SELECT id, content FROM entries", ("Y", "original"))


async def test_triggers_of_the_application_have_their_say(entries: Scene, driver: Factory) -> None:
    entries.sql(
        "CREATE FUNCTION spell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " NEW.content_b := upper(NEW.content); RETURN NEW; END $$"
    )
    entries.sql("CREATE TRIGGER spell BEFORE INSERT OR UPDATE ON entries FOR EACH ROW EXECUTE FUNCTION spell()")
    await entries.join(await driver(), "a", "b")
    await entries.write("a", "UPDATE entries SET content = 'loud' WHERE id = 'Z'")
    await entries.written("a")
    await entries.ends_with(Z, ("loud", "LOUD"))
