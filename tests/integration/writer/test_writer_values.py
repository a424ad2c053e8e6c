"""Every type, every awkward name, every shape of key: what a client writes is what the database holds."""

from __future__ import annotations

from typing import Any

import pytest

from leyden.postgres.writing.writer import Outcome

CLIENT = "11111111-1111-4111-8111-111111111111"
FUTURE = 5_000_000_000_000

#: Column type, a value as a client sends it, and the same as Postgres prints it.
TYPES = {
    "bool": [("t", "t"), ("f", "f")],
    "int2": [("-32768", "-32768"), ("7", "7")],
    "int4": [("2147483647", "2147483647")],
    "int8": [("-9223372036854775808", "-9223372036854775808")],
    "float4": [("1.5", "1.5"), ("-Infinity", "-Infinity"), ("NaN", "NaN")],
    "float8": [("0.1", "0.1"), ("1e+300", "1e+300"), ("Infinity", "Infinity")],
    "text": [("", ""), ('it\'s \\ "q" {a,b} é😀\n', 'it\'s \\ "q" {a,b} é😀\n'), ("NULL", "NULL"), ("%s", "%s")],
    "varchar": [("x", "x")],
    "bytea": [("\\x00ff27", "\\x00ff27"), ("\\x", "\\x")],
    "date": [("2024-02-29", "2024-02-29")],
    "time": [("23:59:59.123456", "23:59:59.123456")],
    "timestamp": [("2024-05-06 07:08:09.123", "2024-05-06 07:08:09.123")],
    "timestamptz": [("2024-05-06 07:08:09.123Z", "2024-05-06 07:08:09.123+00")],
    "uuid": [("6F1C1D1E-0000-4000-8000-00000000000a", "6f1c1d1e-0000-4000-8000-00000000000a")],
    "jsonb": [('{"a": [1, "é", null]}', '{"a": [1, "é", null]}'), ("null", "null"), ('"x"', '"x"')],
    "mood": [("so_so", "so_so"), ("Fine2", "Fine2")],
}
#: Types a primary key can have, with a key as sent and as stored.
KEYS = {kind: values[0] for kind, values in TYPES.items() if kind not in ("jsonb", "bytea")} | {
    "text": ('a"b\\c\n\x01é😀\x7f', 'a"b\\c\n\x01é😀\x7f')
}
MOOD = "CREATE TYPE mood AS ENUM ('so_so', 'Fine2')"


@pytest.fixture
async def typed(world: Any) -> Any:
    await world.electrify(
        MOOD,
        "CREATE TABLE typed (id text PRIMARY KEY, " + ", ".join(f"c_{kind} {kind}" for kind in TYPES) + ")",
    )
    return world


async def test_all_types_arrive_by_insert_and_by_update_and_from_the_dead(typed: Any) -> None:
    rows = max(len(values) for values in TYPES.values())
    columns = ", ".join(f"c_{kind}" for kind in TYPES)
    forms = ", ".join(f"pg_catalog.concat(c_{kind})" for kind in TYPES)
    for number in range(rows):
        sent = {f"c_{kind}": values[number % len(values)][0] for kind, values in TYPES.items()}
        stored = tuple(values[number % len(values)][1] for values in TYPES.values())
        empty = dict.fromkeys(sent)
        new, old = f"new{number}", f"old{number}"
        outcome = await typed.apply(
            typed.insert("typed", id=new, **sent),
            typed.insert("typed", id=old, **empty),
            typed.update("typed", {"id": old, **empty}, **sent),
            ms=number,
        )
        assert outcome is Outcome.APPLIED
        for key in (new, old):
            assert await typed.sql(f"SELECT {forms} FROM typed WHERE id = %s", key) == [stored]
        await typed.sql("DELETE FROM typed WHERE id = %s", old)
        await typed.apply(typed.delete("typed", {"id": new, **sent}, f"{CLIENT}@{number}"), ms=FUTURE)
        await typed.apply(typed.compensate("typed", {"id": old}), typed.compensate("typed", {"id": new}), ms=FUTURE)
        for key in (new, old):
            assert await typed.sql(f"SELECT {forms} FROM typed WHERE id = %s", key) == [stored]
        await typed.apply(typed.update("typed", {"id": new, **sent}, **empty), ms=FUTURE)
        assert await typed.sql(f"SELECT {columns} FROM typed WHERE id = %s", new) == [(None,) * len(TYPES)]


@pytest.mark.parametrize("kind", KEYS)
async def test_any_type_can_be_a_key_and_is_stored_as_the_trigger_spells_it(world: Any, kind: str) -> None:
    sent, stored = KEYS[kind]
    await world.electrify(MOOD, f"CREATE TABLE keyed (note text, id {kind} PRIMARY KEY)")
    await world.apply(world.insert("keyed", id=sent, note="a"), ms=5)
    assert await world.tags("keyed", stored) == [f"{CLIENT}@5"]
    await world.sql("UPDATE keyed SET note = 'b'")
    ((tags,),) = await world.sql("SELECT tags FROM leyden.row_state")
    assert tags[0].startswith("postgres_1@")
    await world.apply(world.update("keyed", {"id": sent, "note": "b"}, *tags, note="c"), ms=FUTURE)
    assert [row[0] for row in await world.rows("keyed")] == ["c"]
    await world.apply(world.delete("keyed", {"id": sent}, f"{CLIENT}@{FUTURE}"), ms=FUTURE)
    assert await world.rows("keyed") == []
    assert await world.sql("SELECT count(*) FROM leyden.row_state") == [(1,)]


async def test_two_spellings_of_one_key_in_one_upload_are_one_row(world: Any) -> None:
    await world.electrify("CREATE TABLE keyed (id uuid PRIMARY KEY, note text)")
    key = "6f1c1d1e-0000-4000-8000-00000000000a"
    outcome = await world.apply(
        world.insert("keyed", id=key.upper(), note="a"), world.update("keyed", {"id": key, "note": "a"}, note="b")
    )
    assert outcome is Outcome.APPLIED
    assert [row[1] for row in await world.rows("keyed")] == ["b"]


async def test_composite_keys_in_another_order_than_the_columns(world: Any) -> None:
    await world.electrify("CREATE TABLE pair (b int, note text, a text, ordinal int, PRIMARY KEY (a, ordinal, b))")
    row = {"a": "x", "b": "2", "ordinal": "3"}
    await world.apply(world.insert("pair", note="n", **row), world.insert("pair", a="x", b="3", ordinal="2"), ms=5)
    assert await world.tags("pair", "x", "3", "2") == [f"{CLIENT}@5"]
    await world.sql("UPDATE pair SET note = 'server' WHERE b = 2")
    assert (await world.tags("pair", "x", "3", "2"))[0].startswith("postgres_1@")
    await world.apply(world.update("pair", {**row, "note": "n"}, note="client"), ms=FUTURE)
    assert await world.rows("pair") == [(2, "client", "x", 3), (3, None, "x", 2)]
    await world.apply(world.delete("pair", {"a": "x", "b": "3", "ordinal": "2"}, f"{CLIENT}@5"))
    assert len(await world.rows("pair")) == 1


async def test_quoted_names(world: Any) -> None:
    await world.electrify(
        'CREATE TYPE "My""Mood" AS ENUM (\'a_b\')',
        'CREATE TABLE "camelCase" ("by" text, "userId" text PRIMARY KEY, "a%b" text, "q""uo\'te" "My""Mood", "k" int)',
    )
    table = "camelCase"
    awkward = {"by": "1", "a%b": "2", "q\"uo'te": "a_b", "k": "3"}
    await world.apply(world.insert(table, **{"userId": "3", **awkward}), ms=5)
    await world.apply(world.update(table, {"userId": "3", **awkward}, **{"a%b": "x", "by": None}), ms=6)
    await world.sql('UPDATE "camelCase" SET "k" = 4')
    assert await world.rows(table) == [(None, "3", "x", "a_b", 4)]
    await world.sql('DELETE FROM "camelCase"')
    await world.apply(world.compensate(table, {"userId": "3"}), ms=FUTURE)
    assert await world.rows(table) == [(None, "3", "x", "a_b", 4)]


async def test_a_table_of_nothing_but_its_key(world: Any) -> None:
    await world.electrify("CREATE TABLE bare (id int PRIMARY KEY)")
    await world.apply(world.insert("bare", id="1"), world.compensate("bare", {"id": "1"}), ms=5)
    assert await world.rows("bare") == [(1,)]
    assert await world.tags("bare", "1") == [f"{CLIENT}@5"]


async def test_a_row_revived_after_a_column_was_added_has_it_empty(items: Any) -> None:
    await items.sql("INSERT INTO items VALUES ('Z', 'a')")
    await items.sql("DELETE FROM items")
    await items.sql("ALTER TABLE items ADD COLUMN extra int")
    await items.electrify()
    await items.apply(items.compensate("items", {"id": "Z"}))
    assert await items.rows("items") == [("Z", "a", None, None)]


async def test_a_large_upload_is_one_transaction(items: Any) -> None:
    await items.watch()
    await items.apply(*(items.insert("items", id=str(n), content="x" * 100) for n in range(500)))
    assert len(await items.rows("items")) == 500
    assert (await items.stream()).count("B") == 1
