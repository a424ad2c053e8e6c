"""Long random histories of two clients and Postgres: after each step the database is what the pure rules say."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from leyden.conflict.operations import operation_of
from leyden.conflict.resolution import RowState, resolve
from leyden.conflict.tags import Tag, column_tags_from_json, parse_observed, parse_tag
from leyden.model import ClientChange
from leyden.postgres.writer import Outcome

CLIENTS = ("c1", "c2")
COLUMNS = ("content", "content_b")
NOW = 1_700_000_000_000


class History:
    """Random steps on a few rows of ``items``, with the expected state of each."""

    def __init__(self, world: Any, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.keys = [f"{seed}-{number}" for number in range(3)]
        self.expected = dict.fromkeys(self.keys, RowState())
        self.seen: dict[str, set[str]] = {key: {"c1@0"} for key in self.keys}

    def value(self) -> str | None:
        return self.random.choice([None, "a", "b", "c"])

    def change(self) -> ClientChange:
        key = self.random.choice(self.keys)
        state = self.expected[key]
        observed = {tag for tag in self.seen[key] if self.random.random() < 0.6}
        if self.random.random() < 0.4:
            observed |= {str(tag) for tag in state.tags}
        row = {"id": key, "content": self.value(), "content_b": self.value()}
        match self.random.randrange(4):
            case 0:
                return self.world.insert("items", tuple(observed), **row)  # type: ignore[no-any-return]
            case 1:
                changed = {self.random.choice(COLUMNS): self.value()}
                return self.world.update("items", row, *observed, **changed)  # type: ignore[no-any-return]
            case 2:
                return self.world.delete("items", row, *observed)  # type: ignore[no-any-return]
            case _:
                return self.world.compensate("items", {"id": key}, *observed)  # type: ignore[no-any-return]

    async def client_step(self) -> None:
        client = self.random.choice(CLIENTS)
        tag = Tag(NOW + self.random.randrange(-5, 5) * 10**10, client)
        changes = [self.change() for _ in range(self.random.randrange(1, 5))]
        assert await self.world.apply(*changes, ms=tag.ms, client=client) is Outcome.APPLIED
        # A compensation of a row never written before in the upload runs first; per row the order is the client's.
        for change in changes:
            operation = operation_of(change)
            key = (operation.incoming["id"] or b"").decode()
            self.expected[key] = resolve(self.expected[key], operation, tag)
            self.seen[key].add(str(tag))

    async def postgres_step(self) -> None:
        key = self.random.choice(self.keys)
        before = self.expected[key]
        if before.main is None:
            values = [key, self.value(), self.value()]
            await self.world.sql("INSERT INTO items VALUES (%s, %s, %s)", *values)
            changed = set(COLUMNS)
            main = dict(zip(("id", *COLUMNS), [v.encode() if v is not None else None for v in values], strict=True))
        elif self.random.random() < 0.5:
            await self.world.sql("DELETE FROM items WHERE id = %s", key)
            self.expected[key] = RowState(None, before.main, frozenset(), before.column_tags)
            return
        else:
            column, value = self.random.choice(COLUMNS), self.value()
            await self.world.sql(f"UPDATE items SET {column} = %s WHERE id = %s", value, key)
            main = {**before.main, column: value.encode() if value is not None else None}
            changed = {column} if main != before.main else set()
        # Postgres' tag is its clock, which only it knows: take it as stored, and hold it to the rules.
        (text,) = await self.world.tags("items", key)
        tag = parse_tag(text)
        assert tag.origin is None
        assert all(tag >= earlier for earlier in before.column_tags.values())
        column_tags = {**before.column_tags, **dict.fromkeys(changed, tag)}
        if not before.column_tags and before.main is None and not before.dead:
            column_tags = dict.fromkeys(COLUMNS, tag)
        self.expected[key] = RowState(main, before.dead, frozenset({tag}), column_tags)
        self.seen[key].add(text)

    async def check(self) -> None:
        for key, expected in self.expected.items():
            rows = await self.world.sql("SELECT id, content, content_b FROM items WHERE id = %s", key)
            stored = await self.world.sql(
                "SELECT tags, col_tags FROM leyden.row_state WHERE pk = %s", json.dumps([key])
            )
            main = None if expected.main is None else tuple(v and v.decode() for v in expected.main.values())
            assert rows == ([] if main is None else [main])
            tags, column_tags = stored[0] if stored else ([], {})
            assert bool(tags) == (main is not None)
            assert parse_observed(tags) == expected.tags
            assert column_tags_from_json(column_tags) == expected.column_tags


@pytest.mark.parametrize("seed", range(6))
async def test_the_database_follows_the_rules_step_by_step(items: Any, seed: int) -> None:
    history = History(items, seed)
    for _ in range(60):
        await (history.client_step() if history.random.random() < 0.7 else history.postgres_step())
        await history.check()
