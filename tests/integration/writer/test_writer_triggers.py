"""Triggers of the application: what they change belongs to the client's transaction, and reaches its author too."""

from __future__ import annotations

from typing import Any

import pytest

from leyden.model import Delete, Insert, Update
from leyden.postgres.writing.writer import Outcome
from stream_reader import Reader

CLIENT = "11111111-1111-4111-8111-111111111111"
FUTURE = 5_000_000_000_000
Z = {"id": "Z", "content": None, "content_b": None}


async def trigger(world: Any, when: str, body: str) -> None:
    await world.sql(f"CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
    await world.sql(f"CREATE TRIGGER a_theirs {when} ON items FOR EACH ROW EXECUTE FUNCTION theirs()")


async def refusals(world: Any) -> list[tuple[Any, ...]]:
    return await world.sql("SELECT sqlstate, message FROM leyden.rejected ORDER BY id")  # type: ignore[no-any-return]


async def test_a_value_that_a_trigger_changes_reaches_the_author(items: Any, database: str) -> None:
    await trigger(items, "BEFORE INSERT OR UPDATE", "NEW.content := upper(NEW.content); RETURN NEW;")
    async with Reader.running(database) as reader:
        await items.apply(items.insert("items", id="Z", content="a"), ms=5)
        (insert,) = (await reader.next()).changes
        assert isinstance(insert, Insert)
        assert (insert.row, insert.tags) == ((b"Z", b"A", None), (f"{CLIENT}@5",))
        old = {**Z, "content": "A"}
        await items.apply(items.update("items", old, f"{CLIENT}@5", content="b", content_b="c"), ms=6)
        (update,) = (await reader.next()).changes
        assert isinstance(update, Update)
        assert (update.new, update.tags) == ((b"Z", b"B", b"c"), (f"{CLIENT}@6",))


async def test_a_trigger_may_write_to_the_row_once_more(items: Any, database: str) -> None:
    await trigger(
        items,
        "AFTER INSERT",
        "UPDATE items SET content_b = 'seen ' || NEW.content WHERE id = NEW.id; RETURN NULL;",
    )
    async with Reader.running(database) as reader:
        outcome = await items.apply(
            items.insert("items", id="Z", content="a", content_b=None),
            items.update("items", {**Z, "content": "a"}, content="b"),
            ms=5,
        )
        assert outcome is Outcome.APPLIED
        changes = (await reader.next()).changes
    assert await items.rows("items") == [("Z", "b", "seen a")]
    assert await items.tags("items", "Z") == [f"{CLIENT}@5"]
    assert all(change.tags == (f"{CLIENT}@5",) for change in changes if isinstance(change, Insert | Update))


async def test_a_row_that_a_trigger_deletes_at_once_is_dead(items: Any, database: str) -> None:
    """A table that serves as a mailbox."""
    await trigger(items, "AFTER INSERT", "DELETE FROM items WHERE id = NEW.id; RETURN NULL;")
    async with Reader.running(database) as reader:
        outcome = await items.apply(items.insert("items", id="Z", content="a"), items.insert("items", id="Y"), ms=5)
        assert outcome is Outcome.APPLIED
        changes = (await reader.next()).changes
    assert [type(change) for change in changes] == [Insert, Delete, Insert, Delete]
    assert await items.rows("items") == []
    assert await items.tags("items", "Z") == await items.tags("items", "Y") == []


async def test_a_key_that_a_trigger_changes_refuses(items: Any) -> None:
    """Its author would keep the row under the key it gave."""
    await items.sql("INSERT INTO items VALUES ('LIVING', 'a')")
    await trigger(items, "BEFORE INSERT OR UPDATE", "NEW.id := lower(NEW.id); RETURN NEW;")
    assert await items.apply(items.insert("items", id="Z", content="a")) is Outcome.REFUSED
    old = {**Z, "id": "LIVING", "content": "a"}
    assert await items.apply(items.update("items", old, content="b")) is Outcome.REFUSED
    assert await items.apply(items.compensate("items", {"id": "LIVING"})) is Outcome.REFUSED
    assert await items.rows("items") == [("LIVING", "a", None)]
    assert await refusals(items) == [("02000", "a write to table items was suppressed")] * 3
    assert await items.apply(items.insert("items", id="z", content="a")) is Outcome.APPLIED


async def test_a_deletion_that_a_trigger_undoes_refuses(items: Any) -> None:
    await items.sql("INSERT INTO items VALUES ('Z', 'a')")
    (tag,) = await items.tags("items", "Z")
    await trigger(items, "AFTER DELETE", "INSERT INTO items VALUES (OLD.id, OLD.content); RETURN NULL;")
    assert await items.apply(items.delete("items", {**Z, "content": "a"}, tag)) is Outcome.REFUSED
    assert await items.tags("items", "Z") == [tag]


async def test_a_deletion_that_a_trigger_makes_an_update_refuses(items: Any) -> None:
    """Soft deletion: the author is sent the row as it stands."""
    await items.sql("INSERT INTO items VALUES ('Z', 'a')")
    (tag,) = await items.tags("items", "Z")
    await trigger(items, "BEFORE DELETE", "UPDATE items SET content_b = 'deleted' WHERE id = OLD.id; RETURN NULL;")
    assert await items.apply(items.delete("items", {**Z, "content": "a"}, tag)) is Outcome.REFUSED
    assert await items.rows("items") == [("Z", "a", None)]


async def test_a_write_without_effect_that_a_trigger_suppresses_refuses(items: Any) -> None:
    """It would change the row's tags, of which nobody would hear."""
    await items.sql("INSERT INTO items VALUES ('Z', 'a')")
    await items.sql(
        "CREATE TRIGGER theirs BEFORE UPDATE ON items"
        " FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    )
    assert await items.apply(items.compensate("items", {"id": "Z"})) is Outcome.REFUSED
    assert await items.apply(items.update("items", {**Z, "content": "a"}, content="b"), ms=FUTURE) is Outcome.APPLIED


@pytest.mark.parametrize("deferred", ["", "DEFERRABLE INITIALLY DEFERRED"])
async def test_what_a_trigger_writes_at_the_commit_is_tagged_by_postgres(items: Any, deferred: str) -> None:
    await items.sql(
        "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE items SET content_b = 'checked' WHERE id = NEW.id AND content_b IS NULL; RETURN NULL; END $$"
    )
    # Electrified tables may have no constraint triggers, so it sits on a table beside it.
    await items.electrify("CREATE TABLE beside (id text PRIMARY KEY)")
    await items.sql("CREATE TABLE log (id text)")
    await items.sql(
        f"CREATE CONSTRAINT TRIGGER theirs AFTER INSERT ON log {deferred} FOR EACH ROW EXECUTE FUNCTION theirs()"
    )
    await items.sql(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO log VALUES (NEW.id); RETURN NULL; END $$"
    )
    await items.sql("CREATE TRIGGER note AFTER INSERT ON beside FOR EACH ROW EXECUTE FUNCTION note()")
    await items.apply(
        items.insert("items", id="Z", content="a", content_b=None), items.insert("beside", id="Z"), ms=FUTURE
    )
    assert await items.rows("items") == [("Z", "a", "checked")]
    assert await items.tags("items", "Z") == [f"postgres_1@{FUTURE}"]
