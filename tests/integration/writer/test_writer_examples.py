"""The worked examples of the conflict rules on a real database."""

from __future__ import annotations

from typing import Any

from leyden.postgres.writing.writer import Outcome

CLIENT = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
FUTURE = 5_000_000_000_000
Z = {"id": "Z", "content": None, "content_b": None}


async def test_an_insert_arrives_with_its_authors_tag(items: Any) -> None:
    assert await items.apply(items.insert("items", id="Z", content="héllo 😀"), ms=7) is Outcome.APPLIED
    assert await items.rows("items") == [("Z", "héllo 😀", None)]
    assert await items.tags("items", "Z") == [f"{CLIENT}@7"]


async def test_the_stream_begins_with_the_author_and_carries_rows_with_their_state(items: Any) -> None:
    await items.watch()
    await items.apply(items.insert("items", id="Z", content="x"), ms=7)
    begin, author, *rest = await items.stream()
    assert (begin, author) == ("B", {"client": CLIENT, "ms": 7, "corrections": []})
    assert rest == ["I", "I", "C"]


async def test_an_update_in_the_past_is_written_without_change_of_values(items: Any) -> None:
    await items.sql("INSERT INTO items VALUES ('Z', 'sentinel')")
    (postgres,) = await items.tags("items", "Z")
    await items.watch()
    old = {**Z, "content": "other"}
    await items.apply(items.update("items", old, content="past"), ms=1686009600000)
    assert await items.rows("items") == [("Z", "sentinel", None)]
    assert set(await items.tags("items", "Z")) == {postgres, f"{CLIENT}@1686009600000"}
    assert (await items.stream())[2:] == ["U", "U", "C"]


async def test_concurrent_updates_of_different_columns_both_stand(items: Any) -> None:
    await items.sql("INSERT INTO items VALUES ('Z', 'a', 'b')")
    (postgres,) = await items.tags("items", "Z")
    old = {"id": "Z", "content": "a", "content_b": "b"}
    await items.apply(items.update("items", old, postgres, content="by 1"), ms=FUTURE)
    await items.apply(items.update("items", old, postgres, content_b="by 2"), ms=FUTURE + 1, client=OTHER)
    assert await items.rows("items") == [("Z", "by 1", "by 2")]
    assert set(await items.tags("items", "Z")) == {f"{CLIENT}@{FUTURE}", f"{OTHER}@{FUTURE + 1}"}


async def test_a_postgres_write_after_a_clients_future_one_wins(items: Any) -> None:
    await items.sql("INSERT INTO items VALUES ('Z', 'a', 'b')")
    await items.apply(items.update("items", {"id": "Z", "content": "a", "content_b": "b"}, content="c"), ms=FUTURE)
    await items.sql("UPDATE items SET content = 'server'")
    assert await items.tags("items", "Z") == [f"postgres_1@{FUTURE}"]
    late = items.update("items", {"id": "Z", "content": "c", "content_b": "b"}, content="late")
    await items.apply(late, ms=FUTURE, client=OTHER)
    assert await items.rows("items") == [("Z", "server", "b")]


async def test_an_update_that_did_not_see_the_delete_brings_the_row_back(items: Any) -> None:
    await items.sql("INSERT INTO items VALUES ('Z', 'original')")
    (seen,) = await items.tags("items", "Z")
    await items.sql("UPDATE items SET content = 'updated value'")
    await items.sql("DELETE FROM items")
    assert await items.tags("items", "Z") == []
    await items.watch()
    old = {**Z, "content": "original"}
    await items.apply(items.update("items", old, seen, content_b="new value"), ms=FUTURE)
    assert await items.rows("items") == [("Z", "updated value", "new value")]
    assert await items.tags("items", "Z") == [f"{CLIENT}@{FUTURE}"]
    assert (await items.stream())[2:] == ["I", "U", "C"]


async def test_a_delete_that_saw_everything_removes_and_one_that_did_not_restores(items: Any) -> None:
    await items.sql("INSERT INTO items VALUES ('Z', 'a')")
    (seen,) = await items.tags("items", "Z")
    await items.watch()
    await items.apply(items.delete("items", {**Z, "content": "a"}), ms=FUTURE)
    assert await items.rows("items") == [("Z", "a", None)]
    assert (await items.stream())[2:] == ["U", "U", "C"]
    await items.apply(items.delete("items", {**Z, "content": "a"}, seen), ms=1)
    assert await items.rows("items") == []
    assert await items.tags("items", "Z") == []


async def test_a_row_older_than_electrification_has_the_epoch_tag(world: Any) -> None:
    await world.sql("CREATE TABLE items (id text PRIMARY KEY, content text, content_b text)")
    await world.sql("INSERT INTO items VALUES ('Y', 'y'), ('Z', 'z')")
    await world.electrify()
    old = {**Z, "content": "z"}
    await world.apply(
        world.update("items", old, "postgres_1@0", content="new"),
        world.delete("items", {**Z, "id": "Y"}, "postgres_1@0"),
        ms=3,
    )
    assert await world.rows("items") == [("Z", "new", None)]
    assert await world.tags("items", "Z") == [f"{CLIENT}@3"]


async def test_deleting_what_never_existed_leaves_no_trace_but_is_echoed(items: Any) -> None:
    await items.watch()
    assert await items.apply(items.delete("items", Z)) is Outcome.APPLIED
    assert await items.tags("items", "Z") is None
    assert (await items.stream())[2:] == ["C"]


async def test_several_operations_on_one_row_each_see_the_former(items: Any) -> None:
    await items.apply(
        items.insert("items", id="Z", content="1"),
        items.update("items", {**Z, "content": "1"}, content="2"),
        items.delete("items", {**Z, "content": "2"}, f"{CLIENT}@9"),
        items.insert("items", id="Z", content="3"),
        items.insert("items", id="Y"),
        items.delete("items", {**Z, "id": "Y"}, f"{CLIENT}@9"),
        ms=9,
    )
    assert await items.rows("items") == [("Z", "3", None)]
    assert await items.tags("items", "Y") == []


async def test_columns_unknown_to_the_client_keep_their_value_on_update_and_are_null_on_insert(
    items: Any,
) -> None:
    await items.sql("INSERT INTO items VALUES ('Z', 'a', 'kept')")
    await items.apply(
        items.update("items", {"id": "Z", "content": "a"}, content="b"),
        items.insert("items", id="Y", content="n"),
    )
    assert await items.rows("items") == [("Y", "n", None), ("Z", "b", "kept")]


async def test_on_conflict_do_nothing_leaves_the_tags_alone(items: Any) -> None:
    await items.apply(items.insert("items", id="Z", content="a"), ms=9)
    await items.sql("INSERT INTO items VALUES ('Z', 'b') ON CONFLICT DO NOTHING")
    assert await items.tags("items", "Z") == [f"{CLIENT}@9"]
    await items.apply(items.delete("items", {**Z, "content": "a"}, f"{CLIENT}@9"))
    assert await items.rows("items") == []


async def test_a_later_upload_of_an_old_client_update_does_not_lift_other_columns(items: Any) -> None:
    """The mask of a client's write must not leak into the next write by Postgres."""
    await items.apply(items.insert("items", id="Z", content="a", content_b="b"), ms=5)
    await items.sql("UPDATE items SET content_b = 'server'")
    await items.apply(
        items.update("items", {"id": "Z", "content": "a", "content_b": "b"}, content="c"), ms=6, client=OTHER
    )
    assert await items.rows("items") == [("Z", "c", "server")]


async def test_a_row_that_says_nothing_of_a_column_gets_its_default(items: Any) -> None:
    """Also when Postgres has dropped it since: its author wrote the row before he could know the column."""
    await items.electrify(
        "ALTER TABLE items ADD COLUMN n int4 NOT NULL DEFAULT 7, ADD COLUMN t text DEFAULT 'x'",
        "ALTER TABLE items ALTER COLUMN n DROP DEFAULT, ALTER COLUMN t DROP DEFAULT",
    )
    await items.apply(items.insert("items", id="Y", content="y"), items.insert("items", id="Z", t=None))
    await items.apply(items.compensate("items", {"id": "X"}))
    assert await items.rows("items") == [
        ("X", None, None, 7, "x"),
        ("Y", "y", None, 7, "x"),
        ("Z", None, None, 7, None),
    ]


async def test_a_row_that_died_before_a_column_came_is_revived_with_the_default(items: Any) -> None:
    await items.sql("INSERT INTO items VALUES ('Z', 'a', 'b')")
    await items.sql("DELETE FROM items")
    await items.electrify("ALTER TABLE items ADD COLUMN n int4 NOT NULL DEFAULT 7")
    await items.sql("ALTER TABLE items ALTER COLUMN n DROP DEFAULT")
    await items.apply(items.update("items", {"id": "Z", "content": "a", "content_b": "b"}, content="c"))
    assert await items.rows("items") == [("Z", "c", "b", 7)]
