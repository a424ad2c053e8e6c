"""The eleven conflict defects of the old service. Each is something Leyden does right; one test for each, in the order
of the list."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from leyden.conflict.tags import parse_tag
from leyden.model import Delete, Insert, Update
from leyden.postgres.tombstones import collect_tombstones
from leyden.postgres.writing.writer import Outcome
from stream_reader import Reader

CLIENT = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
#: A client's clock that is ahead of everybody's.
FUTURE = 5_000_000_000_000


async def column_tags(world: Any, *key: str) -> dict[str, list[Any]]:
    ((stored,),) = await world.sql("SELECT col_tags FROM leyden.row_state WHERE pk = %s", json.dumps(key))
    return stored  # type: ignore[no-any-return]


async def test_a_write_by_postgres_lifts_no_column_that_only_a_client_wrote_before(items: Any) -> None:
    """(a) The mask of a client's write leaked into the next write by Postgres."""
    await items.sql("INSERT INTO items VALUES ('Z', 'a', 'b')")
    old = {"id": "Z", "content": "a", "content_b": "b"}
    await items.apply(items.update("items", old, content="by 1"), ms=FUTURE)
    await items.sql("UPDATE items SET content_b = 'server'")
    assert await column_tags(items, "Z") == {"content": [FUTURE, CLIENT], "content_b": [FUTURE, None]}
    # Later by its id: it beats the first client, and would not beat Postgres.
    await items.apply(items.update("items", old, content="by 2"), ms=FUTURE, client=OTHER)
    assert await items.rows("items") == [("Z", "by 2", "server")]


@pytest.mark.parametrize("keys", [("ahead", "behind"), ("behind", "ahead")])
async def test_each_row_of_a_transaction_gets_a_tag_of_its_own(items: Any, keys: tuple[str, str]) -> None:
    """(b) All rows of a transaction got the tag of the last one, possibly below their column tags."""
    await items.apply(items.insert("items", id="ahead", content="a"), ms=FUTURE)
    await items.apply(items.insert("items", id="behind", content="a"), ms=5)
    async with items.conn.transaction():
        for key in keys:
            await items.sql("UPDATE items SET content = 'server' WHERE id = %s", key)
    assert await items.tags("items", "ahead") == [f"postgres_1@{FUTURE}"]
    (tag,) = await items.tags("items", "behind")
    assert 5 < parse_tag(tag).ms < FUTURE


async def test_deleting_a_row_older_than_electrification_spoils_no_tag(world: Any, database: str) -> None:
    """(c) With an update in the same transaction it wrote the tag ``(,)``, at which the stream broke for good."""
    await world.sql("CREATE TABLE items (id text PRIMARY KEY, content text)")
    await world.sql("INSERT INTO items VALUES ('old', 'x'), ('new', 'x')")
    await world.electrify()
    async with Reader.running(database) as reader:
        async with world.conn.transaction():
            await world.sql("UPDATE items SET content = 'y' WHERE id = 'new'")
            await world.sql("DELETE FROM items WHERE id = 'old'")
        update, delete = (await reader.next()).changes
        assert isinstance(update, Update)
        assert list(update.tags) == await world.tags("items", "new")
        assert re.fullmatch(r"postgres_1@\d{13}", update.tags[0])
        assert isinstance(delete, Delete)
        assert await world.tags("items", "old") == []
        await world.sql("INSERT INTO items VALUES ('next')")
        (insert,) = (await reader.next()).changes
        assert isinstance(insert, Insert)


async def test_postgres_can_delete_a_row_of_a_client_whose_clock_is_ahead(items: Any, database: str) -> None:
    """(d) The deletion failed with 22007."""
    await items.apply(items.insert("items", id="Z", content="x", content_b=None), ms=FUTURE)
    async with Reader.running(database) as reader:
        await items.sql("DELETE FROM items WHERE id = 'Z'")
        assert (await reader.next()).changes == (Delete(reader.table("items"), (b"Z", b"x", None)),)
    assert await items.tags("items", "Z") == []
    assert await column_tags(items, "Z") == {"content": [FUTURE, CLIENT], "content_b": [FUTURE, CLIENT]}


@pytest.mark.parametrize(
    "conflict", ["DO NOTHING", "(id) DO UPDATE SET content = 'server' WHERE items.content = 'something else'"]
)
async def test_an_insert_that_on_conflict_does_nothing_replaces_no_tag(items: Any, conflict: str) -> None:
    """(e) Its tags were replaced unseen by clients, whose deletions were refused from then on."""
    await items.apply(items.insert("items", id="Z", content="a"), ms=9)
    await items.watch()
    await items.sql(f"INSERT INTO items VALUES ('Z', 'server', 'server') ON CONFLICT {conflict}")
    assert await items.stream() == []
    assert await items.tags("items", "Z") == [f"{CLIENT}@9"]
    await items.apply(items.delete("items", {"id": "Z"}, f"{CLIENT}@9"), ms=10)
    assert await items.rows("items") == []


async def test_an_insert_that_on_conflict_updates_writes_the_columns_it_set(items: Any) -> None:
    """(e) All columns counted as written."""
    await items.apply(items.insert("items", id="Z", content="a", content_b="b"), ms=FUTURE)
    upsert = "INSERT INTO items VALUES ('Z', 'x', 'y') ON CONFLICT (id) DO UPDATE SET content = excluded.content"
    await items.sql(upsert)
    assert await items.rows("items") == [("Z", "x", "b")]
    assert await column_tags(items, "Z") == {"content": [FUTURE, None], "content_b": [FUTURE, CLIENT]}


async def test_rows_that_a_clients_deletion_cascades_to_are_dead_in_every_respect(world: Any, database: str) -> None:
    """(f) Their tags stayed behind, so a later write found a living row that was not there."""
    await world.electrify(
        "CREATE TABLE parent (id text PRIMARY KEY, name text)",
        "CREATE TABLE child (id text PRIMARY KEY, parent_id text REFERENCES parent ON DELETE CASCADE, note text)",
    )
    row = {"id": "c", "parent_id": "p", "note": "n"}
    await world.apply(world.insert("parent", id="p", name="P"), world.insert("child", **row), ms=5)
    async with Reader.running(database) as reader:
        await world.apply(world.delete("parent", {"id": "p"}, f"{CLIENT}@5"), ms=6)
        changes = (await reader.next()).changes
        assert {(type(change), change.table.name) for change in changes} == {(Delete, "parent"), (Delete, "child")}
    assert await world.tags("child", "c") == []
    # Somebody who had not heard of it brings back the child, from its last version, and what it refers to.
    outcome = await world.apply(
        world.update("child", {**row, "note": None}, f"{CLIENT}@5", note="mine"), ms=7, client=OTHER
    )
    assert outcome is Outcome.APPLIED
    assert await world.rows("child") == [("c", "p", "mine")]
    assert await world.rows("parent") == [("p", "P")]


async def test_a_key_changed_in_postgres_ends_one_row_and_begins_another(items: Any, database: str) -> None:
    """(g) The old key's state lived on, and clients kept both rows."""
    await items.apply(items.insert("items", id="old", content="a"), ms=FUTURE)
    async with Reader.running(database) as reader:
        await items.sql("UPDATE items SET id = 'new'")
        delete, insert = (await reader.next()).changes
    table = items.tables["items"]
    assert delete == Delete(table, (b"old", b"a", None))
    assert isinstance(insert, Insert)
    assert list(insert.tags) == await items.tags("items", "new")
    assert await items.tags("items", "old") == []


async def test_truncate_ends_every_row(items: Any, database: str) -> None:
    """(h) Their state lived on, and clients heard nothing any more."""
    await items.apply(items.insert("items", id="a", content="x"), items.insert("items", id="b"), ms=5)
    async with Reader.running(database) as reader:
        await items.sql("TRUNCATE items")
        changes = (await reader.next()).changes
        assert sorted(change.old for change in changes if isinstance(change, Delete)) == [
            (b"a", b"x", None),
            (b"b", None, None),
        ]
    assert await items.tags("items", "a") == await items.tags("items", "b") == []
    await items.apply(items.update("items", {"id": "a", "content": None}, f"{CLIENT}@5", content_b="y"), ms=6)
    assert await items.rows("items") == [("a", "x", "y")]


async def test_columns_whose_names_begin_with_an_underscore_are_columns(world: Any) -> None:
    """(i) What clients wrote to them was lost."""
    await world.electrify("CREATE TABLE items (_id text PRIMARY KEY, _tags text, _resolved bool, __reordered_a text)")
    await world.apply(world.insert("items", _id="Z", _tags="a", _resolved="t", __reordered_a="b"), ms=5)
    assert await world.rows("items") == [("Z", "a", True, "b")]
    old = {"_id": "Z", "_tags": "a", "_resolved": "t", "__reordered_a": "b"}
    await world.apply(world.update("items", old, _tags="c", __reordered_a=None), ms=6)
    assert await world.rows("items") == [("Z", "c", True, None)]
    await world.sql("DELETE FROM items")
    await world.apply(world.compensate("items", {"_id": "Z"}), ms=7)
    assert await world.rows("items") == [("Z", "c", True, None)]


async def test_the_state_of_rows_long_dead_is_forgotten(items: Any) -> None:
    """(j) It was kept for ever, even of rows that had never existed."""
    await items.apply(items.delete("items", {"id": "never existed"}))
    assert await items.sql("SELECT pk FROM leyden.row_state") == []
    await items.apply(items.insert("items", id="dead"), items.insert("items", id="alive"), ms=5)
    await items.sql("DELETE FROM items WHERE id = 'dead'")
    await items.sql("UPDATE leyden.row_state SET touched = touched - interval '91 days'")
    assert await collect_tombstones(items.pool, older_than=90 * 86_400) == 1
    assert await items.tags("items", "dead") is None
    assert await items.tags("items", "alive") == [f"{CLIENT}@5"]


@pytest.mark.parametrize(("lesser", "greater"), [("B", "a"), ("Zoe", "ada"), ("\U0001f600", "\uff01")])
async def test_ties_are_broken_as_the_client_breaks_them(items: Any, lesser: str, greater: str) -> None:
    """(k) Client ids were compared by the database's collation, where clients compare UTF-16."""
    for key, order in (("1", (lesser, greater)), ("2", (greater, lesser))):
        await items.sql("INSERT INTO items VALUES (%s)", key)
        for client in order:
            old = {"id": key, "content": None}
            assert await items.apply(items.update("items", old, content=client), client=client) is Outcome.APPLIED
    assert [content for _, content, _ in await items.rows("items")] == [greater, greater]
