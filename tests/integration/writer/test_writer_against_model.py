"""Long random histories of clients and Postgres: after each step the database is what an independent model says."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import pytest

from conflict_model import EPOCH, History, Model, Operation, Reference, Refused, RowName, Stamp, TableRules
from leyden.conflict.tags import column_tags_from_json, parse_observed
from leyden.model import ClientChange
from leyden.postgres.writing.writer import Outcome

CLIENTS = ("Client-1", "client-2", "client-3")
#: Clients' clocks are days behind and ahead of Postgres'.
NOW = int(time.time() * 1000)
DAY = 86_400_000
WORDS = (None, "a", "b", "c")

SCHEMA = (
    "CREATE TABLE board (name text, id text PRIMARY KEY, colour text)",
    "CREATE TABLE card (id text PRIMARY KEY, board_id text REFERENCES board ON DELETE CASCADE ON UPDATE CASCADE,"
    " title text, body text)",
    "CREATE TABLE note (words text, card_id text REFERENCES card, board_id text REFERENCES board ON DELETE SET NULL"
    " ON UPDATE CASCADE, id text PRIMARY KEY)",
)
RULES = {
    "board": TableRules(("name", "colour")),
    "card": TableRules(("board_id", "title", "body"), (Reference("board_id", "board", "CASCADE", "CASCADE"),)),
    "note": TableRules(
        ("words", "card_id", "board_id"),
        (Reference("card_id", "card"), Reference("board_id", "board", "SET NULL", "CASCADE")),
    ),
}
KEYS = {"board": ("b1", "b2"), "card": ("c1", "c2", "c3"), "note": ("n1", "n2", "n3")}
#: Rows that were there before the tables were electrified.
OLDER = {("board", "b1"): {"name": "old", "colour": None}, ("note", "n1"): dict.fromkeys(RULES["note"].columns)}


class Histories:
    """The same random steps on the database and on the model."""

    def __init__(self, world: Any, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.model = Model(RULES)
        for name, values in OLDER.items():
            self.model.histories[name] = History(RULES[name[0]].columns, {"id": name[1], **values})
        #: Every tag that a row ever had: what a client may have seen of it.
        self.seen: dict[RowName, set[Stamp]] = {
            (table, key): {EPOCH, Stamp(1, "nobody")} for table, keys in KEYS.items() for key in keys
        }
        self.outcomes: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self.last_upload: Any = None

    # ---- what to do ----------------------------------------------------------------------------------------------

    def value(self, column: str) -> str | None:
        parents = {"board_id": KEYS["board"], "card_id": KEYS["card"]}
        return self.random.choice((None, *parents[column]) if column in parents else WORDS)

    def values(self, table: str) -> dict[str, str | None]:
        return {column: self.value(column) for column in RULES[table].columns}

    def any_row(self) -> RowName:
        table = self.random.choice(tuple(KEYS))
        return table, self.random.choice(KEYS[table])

    def operations(self) -> list[Operation]:
        """One change as a client makes it: with compensations for what it refers to."""
        table, key = self.any_row()
        kind = self.random.choice(("insert", "update", "update", "delete"))
        row = self.model.row((table, key))
        old = dict(row) if row is not None and self.random.random() < 0.7 else {"id": key, **self.values(table)}
        new: Mapping[str, str | None] = {}
        if kind == "insert":
            new = {"id": key, **self.values(table)}
        elif kind == "update":
            column = self.random.choice(RULES[table].columns)
            new = {**old, column: self.value(column)}
        change = Operation(kind, table, key, old, new, self.observed((table, key)))
        parents = [
            Operation("compensate", reference.parent, parent, observed=self.observed((reference.parent, parent)))
            for reference in RULES[table].references
            if (parent := new.get(reference.column)) is not None and self.random.random() < 0.9
        ]
        return [*parents, change]

    def observed(self, name: RowName) -> frozenset[Stamp]:
        some = {stamp for stamp in sorted(self.seen[name], key=str) if self.random.random() < 0.5}
        if name in self.model.histories and self.random.random() < 0.5:
            some |= self.model.histories[name].tags()
        return frozenset(some)

    # ---- clients -------------------------------------------------------------------------------------------------

    def change(self, operation: Operation) -> ClientChange:
        world, observed = self.world, tuple(map(str, operation.observed))
        match operation.kind:
            case "insert":
                return world.insert(operation.table, observed, **operation.new)  # type: ignore[no-any-return]
            case "update":
                return world.update(operation.table, operation.old, *observed, **operation.new)  # type: ignore[no-any-return]
            case "delete":
                return world.delete(operation.table, operation.old, *observed)  # type: ignore[no-any-return]
        return world.compensate(operation.table, {"id": operation.key}, *observed)  # type: ignore[no-any-return]

    async def upload(self) -> None:
        operations = [one for _ in range(self.random.randrange(1, 4)) for one in self.operations()]
        client, ms = self.random.choice(CLIENTS), NOW + self.random.randrange(-3, 4) * DAY
        upload = self.world.upload(*map(self.change, in_order(operations)), client=client, ms=ms)
        before = await self.newest()
        outcome = await self.world.write(upload)
        now = await self.newest()
        self.outcomes[outcome] += 1
        try:
            self.model.upload(client, ms, in_order(operations), now)
            assert outcome is Outcome.APPLIED
        except Refused:
            assert outcome is Outcome.REFUSED
            assert now == before
        self.last_upload = upload

    async def repeat(self) -> None:
        """The last upload once more, as after a lost connection."""
        if self.last_upload is not None:
            assert await self.world.write(self.last_upload) is Outcome.ALREADY_APPLIED

    async def newest(self) -> int:
        """When the last transaction that wrote a state began, in the milliseconds of its tags."""
        ((ms,),) = await self.world.sql(
            "SELECT coalesce(max(extract(epoch FROM touched::timestamptz(3)) * 1000), 0)::int8 FROM leyden.row_state"
        )
        return int(ms)

    # ---- Postgres ------------------------------------------------------------------------------------------------

    async def transaction(self) -> None:
        with self.model.transaction():
            with contextlib.suppress(psycopg.errors.ForeignKeyViolation):
                async with self.world.conn.transaction():
                    ((now,),) = await self.world.sql("SELECT (extract(epoch FROM current_timestamp(3)) * 1000)::int8")
                    for _ in range(self.random.randrange(1, 4)):
                        statement = self.random.choice((self.put, self.put, self.delete, self.rename, self.truncate))
                        await statement(now)
                    if self.random.random() < 0.1:
                        raise psycopg.Rollback
                    return
            raise _Undone

    async def put(self, now: int) -> None:
        """An upsert of some columns."""
        table, key = self.any_row()
        row = self.model.row((table, key))
        values = self.values(table)
        if row is not None:
            some = self.random.sample(RULES[table].columns, self.random.randrange(1, len(RULES[table].columns) + 1))
            values = {c: values[c] if c in some else row[c] for c in RULES[table].columns}
        columns = ("id", *values)
        await self.world.sql(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"
            f" ON CONFLICT (id) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in values)}",
            key,
            *values.values(),
        )
        self.model.write((table, key), values, now)

    async def delete(self, now: int) -> None:
        table, key = self.any_row()
        await self.world.sql(f"DELETE FROM {table} WHERE id = %s", key)
        if self.model.row((table, key)) is not None:
            self.model.delete((table, key), now)

    async def rename(self, now: int) -> None:
        table = self.random.choice(tuple(KEYS))
        living = self.model.living(table)
        free = [key for key in KEYS[table] if key not in living]
        if living and free:
            old, new = self.random.choice(living), self.random.choice(free)
            await self.world.sql(f"UPDATE {table} SET id = %s WHERE id = %s", new, old)
            self.model.rename((table, old), new, now)

    async def truncate(self, now: int) -> None:
        if self.random.random() < 0.2:
            await self.world.sql("TRUNCATE note")
            self.model.truncate("note")

    # ---- comparison ----------------------------------------------------------------------------------------------

    async def check(self) -> None:
        stored = {
            (int(table), json.loads(pk)[0]): (tags, clocks)
            for table, pk, tags, clocks in await self.world.sql(
                "SELECT table_id, pk, tags, col_tags FROM leyden.row_state"
            )
        }
        for table, keys in KEYS.items():
            names = ("id", *RULES[table].columns)
            rows = {row[0]: row for row in await self.world.sql(f"SELECT {', '.join(names)} FROM {table}")}
            for key in keys:
                history = self.model.histories.get((table, key)) or History(RULES[table].columns)
                expected = history.row
                assert rows.get(key) == (None if expected is None else tuple(expected[name] for name in names))
                tags, clocks = stored.get((self.world.tables[table].id, key), (None, {}))
                if tags is None:
                    tags = [] if expected is None else [str(EPOCH)]
                assert {Stamp(tag.ms, tag.origin) for tag in parse_observed(tags)} == history.tags()
                assert bool(tags) == (key in rows)
                found = {c: Stamp(tag.ms, tag.origin) for c, tag in column_tags_from_json(clocks).items()}
                assert found == history.clocks()
                self.seen[table, key] |= history.tags()


class _Undone(Exception):
    """Takes back in the model what was not committed."""


def in_order(operations: list[Operation]) -> list[Operation]:
    """Compensations first, as far as their row is not touched before."""
    touched: set[RowName] = set()
    first, rest = [], []
    for one in operations:
        if one.kind == "compensate" and (one.table, one.key) not in touched:
            first.append(one)
        else:
            rest.append(one)
            touched.add((one.table, one.key))
    return first + rest


@pytest.mark.parametrize("seed", range(20))
async def test_the_database_is_what_the_model_says(world: Any, seed: int) -> None:
    for statement in SCHEMA:
        await world.sql(statement)
    for (table, key), values in OLDER.items():
        names = ("id", *values)
        row = (key, *values.values())
        await world.sql(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(row))})", *row)
    await world.electrify()
    histories = Histories(world, seed)
    steps: tuple[Callable[[], Any], ...] = (histories.upload, histories.transaction, histories.repeat)
    for _ in range(120):
        (step,) = histories.random.choices(steps, (60, 35, 5))
        with contextlib.suppress(_Undone):
            await step()
        await histories.check()
    assert histories.outcomes[Outcome.APPLIED] > 30
