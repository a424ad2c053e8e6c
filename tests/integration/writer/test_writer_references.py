"""Foreign keys: order of writes, cascades, compensations and revivals."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from leyden.postgres.writing.writer import Outcome

CLIENT = "11111111-1111-4111-8111-111111111111"
FUTURE = 5_000_000_000_000


@pytest.fixture
async def family(world: Any) -> Any:
    await world.electrify(
        "CREATE TABLE grand (id text PRIMARY KEY, name text NOT NULL)",
        "CREATE TABLE parent (name text NOT NULL, id text PRIMARY KEY,"
        " grand_id text REFERENCES grand ON DELETE CASCADE)",
        "CREATE TABLE child (id text PRIMARY KEY, parent_id text REFERENCES parent ON DELETE CASCADE, note text)",
    )
    return world


async def test_parent_and_child_of_one_upload_with_a_compensation_between(family: Any) -> None:
    outcome = await family.apply(
        family.insert("parent", id="p", name="P", grand_id=None),
        family.compensate("parent", {"id": "p"}),
        family.insert("child", id="c", parent_id="p"),
        ms=9,
    )
    assert outcome is Outcome.APPLIED
    assert await family.rows("child") == [("c", "p", None)]
    assert await family.tags("parent", "p") == [f"{CLIENT}@9"]


@pytest.mark.parametrize("compensation_first", [True, False])
async def test_a_compensation_revives_a_parent_that_postgres_deleted(family: Any, compensation_first: bool) -> None:
    await family.apply(family.insert("parent", id="p", name="hello world", grand_id=None), ms=5)
    await family.sql("DELETE FROM parent")
    changes = [
        family.compensate("parent", {"id": "p"}, f"{CLIENT}@6", f"{CLIENT}@5"),
        family.insert("child", id="c", parent_id="p"),
    ]
    outcome = await family.apply(*(changes if compensation_first else reversed(changes)), ms=6)
    assert outcome is Outcome.APPLIED
    assert await family.rows("parent") == [("hello world", "p", None)]
    assert await family.tags("parent", "p") == [f"{CLIENT}@6"]
    assert await family.rows("child") == [("c", "p", None)]


async def test_reviving_a_parent_revives_its_dead_ancestors(family: Any) -> None:
    await family.sql("INSERT INTO grand VALUES ('g', 'G')")
    await family.sql("INSERT INTO parent VALUES ('P', 'p', 'g')")
    await family.sql("DELETE FROM grand")
    assert await family.rows("parent") == []
    outcome = await family.apply(
        family.compensate("parent", {"id": "p"}), family.insert("child", id="c", parent_id="p"), ms=6
    )
    assert outcome is Outcome.APPLIED
    assert await family.rows("grand") == [("g", "G")]
    assert await family.tags("grand", "g") == [f"{CLIENT}@6"]
    assert await family.rows("parent") == [("P", "p", "g")]


async def test_ancestors_are_revived_however_many_they_are(world: Any) -> None:
    await world.electrify("CREATE TABLE node (id int4 PRIMARY KEY, up int4 REFERENCES node ON DELETE CASCADE)")
    await world.sql("INSERT INTO node SELECT n, nullif(n - 1, 0) FROM generate_series(1, 700) AS n")
    await world.sql("DELETE FROM node")
    outcome = await world.apply(world.compensate("node", {"id": "700"}), world.insert("node", id="701", up="700"), ms=5)
    assert outcome is Outcome.APPLIED
    assert await world.sql("SELECT count(*) FROM node") == [(701,)]
    assert await world.sql("SELECT count(*) FROM leyden.row_state WHERE tags = %s", [f"{CLIENT}@5"]) == [(701,)]


async def test_an_ancestor_that_several_rows_refer_to_is_revived_once(world: Any) -> None:
    await world.electrify(
        "CREATE TABLE top (id text PRIMARY KEY)",
        "CREATE TABLE middle (id text PRIMARY KEY, top_id text REFERENCES top ON DELETE CASCADE,"
        " beside text REFERENCES middle ON DELETE CASCADE)",
        "CREATE TABLE bottom (id text PRIMARY KEY, a text REFERENCES middle ON DELETE CASCADE,"
        " b text REFERENCES middle ON DELETE CASCADE)",
    )
    await world.sql("INSERT INTO top VALUES ('t')")
    await world.sql("INSERT INTO middle VALUES ('m', 't', NULL), ('n', 't', 'm')")
    await world.sql("INSERT INTO bottom VALUES ('x', 'm', 'n'), ('y', 'n', 'm')")
    await world.sql("DELETE FROM top")
    await world.watch()
    outcome = await world.apply(world.compensate("bottom", {"id": "x"}), world.compensate("bottom", {"id": "y"}))
    assert outcome is Outcome.APPLIED
    assert await world.rows("middle") == [("m", "t", None), ("n", "t", "m")]
    # of each of the five rows its insert and the update of its state, and nothing else
    assert (await world.stream())[2:] == ["I", "U"] * 5 + ["C"]


async def test_reviving_rows_that_refer_to_each_other_ends(world: Any) -> None:
    await world.electrify(
        "CREATE TABLE node (id text PRIMARY KEY, next text REFERENCES node DEFERRABLE INITIALLY DEFERRED)"
    )
    await world.sql("INSERT INTO node VALUES ('a', 'b'), ('b', 'a')")
    await world.sql("DELETE FROM node")
    assert await world.apply(world.compensate("node", {"id": "a"})) is Outcome.APPLIED
    assert await world.rows("node") == [("a", "b"), ("b", "a")]


async def test_a_compensation_of_a_living_row_protects_it_from_an_unaware_delete(family: Any) -> None:
    await family.apply(family.insert("parent", id="p", name="P"), ms=5)
    await family.apply(family.compensate("parent", {"id": "p"}, f"{CLIENT}@5"), ms=6)
    await family.apply(family.delete("parent", {"id": "p"}, f"{CLIENT}@5"), client="other", ms=7)
    assert await family.rows("parent") == [("P", "p", None)]


async def test_cascaded_deletes_empty_the_childrens_tags(family: Any) -> None:
    await family.apply(family.insert("parent", id="p", name="P"), family.insert("child", id="c", parent_id="p"), ms=5)
    await family.apply(family.delete("parent", {"id": "p"}, f"{CLIENT}@5"), ms=6)
    assert await family.rows("child") == []
    assert await family.tags("child", "c") == []


@pytest.mark.parametrize("child_first", [True, False])
async def test_a_client_that_cascaded_itself_sends_both_deletes(family: Any, child_first: bool) -> None:
    await family.apply(family.insert("parent", id="p", name="P"), family.insert("child", id="c", parent_id="p"), ms=5)
    deletes = [
        family.delete("child", {"id": "c", "parent_id": "p"}, f"{CLIENT}@5"),
        family.delete("parent", {"id": "p", "name": "P"}, f"{CLIENT}@5"),
    ]
    outcome = await family.apply(*(deletes if child_first else reversed(deletes)), ms=6)
    assert outcome is Outcome.APPLIED
    assert await family.rows("child") == await family.rows("parent") == []
    assert await family.tags("child", "c") == await family.tags("parent", "p") == []


async def test_a_cascade_beats_a_childs_tag_that_the_upload_had_not_seen(family: Any) -> None:
    """Rows resolved before the cascade must be read again after it, or a state would live without its row."""
    await family.apply(family.insert("parent", id="p", name="P"), family.insert("child", id="c", parent_id="p"), ms=5)
    unseen = family.update("child", {"id": "c", "parent_id": "p", "note": None}, note="mine")
    await family.apply(unseen, client="other", ms=6)
    outcome = await family.apply(
        family.delete("parent", {"id": "p"}, f"{CLIENT}@5"),
        family.delete("child", {"id": "c"}, f"{CLIENT}@5"),
        ms=7,
    )
    assert outcome is Outcome.APPLIED
    assert await family.rows("child") == []
    assert await family.tags("child", "c") == []


async def test_a_row_dies_as_a_cascade_of_the_same_upload_left_it(world: Any) -> None:
    """Postgres tags a row of a clock that is ahead with the same tag again and again: by it alone nobody can tell."""
    await world.electrify(
        "CREATE TABLE board (id text PRIMARY KEY)",
        "CREATE TABLE note (id text PRIMARY KEY, board_id text REFERENCES board ON DELETE SET NULL)",
    )
    await world.apply(
        world.insert("board", id="b"),
        world.insert("board", id="c"),
        world.insert("note", id="n", board_id="b"),
        ms=FUTURE,
    )
    await world.sql("UPDATE note SET board_id = 'c'")
    tag = f"postgres_1@{FUTURE}"
    assert await world.tags("note", "n") == [tag]
    await world.apply(
        world.delete("board", {"id": "c"}, f"{CLIENT}@{FUTURE}"),
        world.delete("note", {"id": "n", "board_id": "c"}, tag),
        ms=FUTURE,
    )
    assert await world.rows("note") == []
    await world.apply(world.compensate("note", {"id": "n"}), ms=FUTURE)
    assert await world.rows("note") == [("n", None)]
    assert await world.rows("board") == [("b",)]


async def test_rows_changed_by_an_applications_trigger_are_tagged_by_postgres(world: Any) -> None:
    await world.electrify(
        "CREATE TABLE post (id text PRIMARY KEY, title text, comments int)",
        "CREATE TABLE comment (id text PRIMARY KEY, post_id text)",
    )
    await world.sql(
        "CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE post SET comments = comments + 1 WHERE id = NEW.post_id; RETURN NULL; END $$"
    )
    await world.sql("CREATE TRIGGER t AFTER INSERT ON comment FOR EACH ROW EXECUTE FUNCTION count_it()")
    await world.apply(world.insert("post", id="p", title="a", comments="0"), ms=FUTURE)
    await world.apply(
        world.insert("comment", id="c", post_id="p"),
        world.update("post", {"id": "p", "title": "a", "comments": "0"}, f"{CLIENT}@{FUTURE}", title="b"),
        ms=FUTURE + 1,
    )
    assert await world.rows("post") == [("p", "b", 1)]
    assert set(await world.tags("post", "p")) == {f"postgres_1@{FUTURE}", f"{CLIENT}@{FUTURE + 1}"}
    ((clocks,),) = await world.sql("SELECT col_tags FROM leyden.row_state WHERE pk = '[\"p\"]'")
    assert clocks == {"title": [FUTURE + 1, CLIENT], "comments": [FUTURE, None]}


async def test_references_made_by_the_application_do_not_hold_up_an_update(family: Any, database: str) -> None:
    await family.sql("INSERT INTO parent VALUES ('P', 'p')")
    async with await psycopg.AsyncConnection.connect(database) as application:
        await application.execute("INSERT INTO child VALUES ('x', 'p')")
        outcome = await family.apply(
            family.compensate("parent", {"id": "p"}), family.insert("child", id="c", parent_id="p")
        )
        assert outcome is Outcome.APPLIED
