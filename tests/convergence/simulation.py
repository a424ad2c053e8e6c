"""Devices and SQL sessions that write to the same rows at random, and what must hold when all have fallen silent.

Everything random comes from one seed. What is interleaved how is up to the machine, so a seed repeats the writes but
not their order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import psycopg

from convergence.device import Device, Reference, RowName, TableSchema, Values, WouldBreak
from convergence.link import Link

SCHEMA = {
    "board": TableSchema(("id", "name", "colour")),
    "card": TableSchema(("title", "board_id", "body", "id", "notes"), (Reference("board_id", "board", "CASCADE"),)),
    "note": TableSchema(
        ("id", "card_id", "board_id", "words"),
        (Reference("card_id", "card"), Reference("board_id", "board", "SET NULL")),
    ),
}

#: The triggers are an application's: one spells a value its own way, one counts in another table.
STATEMENTS = (
    "CREATE TABLE board (id text PRIMARY KEY, name text, colour text)",
    "CREATE TABLE card (title text, board_id text REFERENCES board ON DELETE CASCADE ON UPDATE CASCADE, body text,"
    " id text PRIMARY KEY, notes int4)",
    "CREATE TABLE note (id text PRIMARY KEY, card_id text REFERENCES card, board_id text REFERENCES board"
    " ON DELETE SET NULL ON UPDATE CASCADE, words text)",
    "CREATE TABLE finished (id int4 PRIMARY KEY)",
    *(f"CALL electric.electrify('{table}')" for table in ("board", "card", "note", "finished")),
    "CREATE FUNCTION spell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " NEW.colour := lower(NEW.colour); RETURN NEW; END $$",
    "CREATE TRIGGER spell BEFORE INSERT OR UPDATE ON board FOR EACH ROW EXECUTE FUNCTION spell()",
    "CREATE FUNCTION count_notes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " UPDATE card SET notes = coalesce(notes, 0) + 1 WHERE id = NEW.card_id; RETURN NULL; END $$",
    "CREATE TRIGGER count_notes AFTER INSERT ON note FOR EACH ROW WHEN (NEW.board_id IS NOT NULL)"
    " EXECUTE FUNCTION count_notes()",
)

KEYS = {
    "board": [f"b{n}" for n in range(4)],
    "card": [f"c{n}" for n in range(10)],
    "note": [f"n{n}" for n in range(14)],
}
COLOURS = (None, "RED", "Green", "blue")

#: Longest rest after a transaction (seconds). Without any, nothing would come back before all is written.
PAUSE = 0.04

#: For everything to come back once all have fallen silent (seconds).
PATIENCE = 90

#: Sessions with a transaction that has written.
COMMITTING = (
    "SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL"
    " AND pid <> pg_backend_pid()"
)

#: Days by which the clocks of the devices are wrong.
SKEWS = (-40.0, -1.0, 0.0, 0.5, 30.0)

#: What a random transaction of an application may run into, and shrugs off.
SHRUGGED_OFF = (
    psycopg.errors.ForeignKeyViolation,
    psycopg.errors.UniqueViolation,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)


class Clock:
    """Of one device: milliseconds, wrong by a while that changes now and then. No reading is given twice."""

    def __init__(self, skew_days: float) -> None:
        self.skew_days = skew_days
        self._given: set[int] = set()

    def __call__(self) -> int:
        now = int((time.time() + self.skew_days * 86_400) * 1000)
        while now in self._given:
            now += 1
        self._given.add(now)
        return now


class Writer:
    """Random writes, whoever makes them."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self._words = 0

    def word(self) -> str | None:
        """A text that nobody else writes, so that a wrong winner shows."""
        self._words += 1
        return None if self.random.random() < 0.1 else f"{self.random.getrandbits(24):06x}"

    def value(self, table: str, column: str, parents: dict[str, list[str]]) -> str | None:
        if column in ("board_id", "card_id"):
            keys = parents["board" if column == "board_id" else "card"]
            return self.random.choice(keys) if keys and self.random.random() < 0.9 else None
        if column == "colour":
            return self.random.choice(COLOURS)
        if column == "notes":
            return str(self.random.randrange(100))
        return self.word()

    def table(self) -> str:
        (table,) = self.random.choices(("board", "card", "note"), (2, 4, 4))
        return table


class User(Writer):
    """Somebody with a device, on and off line."""

    def __init__(self, seed: str, device: Device, clock: Clock, link: Link) -> None:
        super().__init__(seed)
        self.device = device
        self.clock = clock
        self.link = link

    def __str__(self) -> str:
        return (
            f"{self.device.client_id}: {self.link.connections} connections,"
            f" synced {self.link.synced.is_set()}, {len(self.device.oplog)} entries to come back"
        )

    async def act(self) -> None:
        """One local transaction; it may be stamped and sent later, together with others."""
        for _ in range(self.random.choice((1, 1, 1, 2, 4))):
            with contextlib.suppress(WouldBreak):
                self.write()
        if self.random.random() < 0.02:
            self.clock.skew_days = self.random.choice(SKEWS)
        if self.random.random() < 0.8:
            self.device.snapshot()
            await self.link.push()

    def write(self) -> None:
        device, table = self.device, self.table()
        parents = {one: device.keys(one) for one in KEYS}
        present = device.keys(table)
        absent = [key for key in KEYS[table] if key not in present]
        dice = self.random.random()
        if absent and (not present or dice < 0.3):
            key = self.random.choice(absent)
            device.insert(table, self.row(table, key, parents))
        elif dice < 0.75:
            device.update((table, self.random.choice(present)), self.some(table, parents))
        elif dice < 0.95:
            device.delete((table, self.random.choice(present)))
        else:
            # Replaced at once: a deletion and an insertion of one key in one transaction.
            key = self.random.choice(present)
            device.delete((table, key))
            parents = {one: device.keys(one) for one in KEYS}
            device.insert(table, self.row(table, key, parents))

    def row(self, table: str, key: str, parents: dict[str, list[str]]) -> Values:
        return {c: key if c == "id" else self.value(table, c, parents) for c in SCHEMA[table].columns}

    def some(self, table: str, parents: dict[str, list[str]]) -> Values:
        columns = [column for column in SCHEMA[table].columns if column != "id"]
        chosen = self.random.sample(columns, self.random.choice((1, 1, 2)))
        return {column: self.value(table, column, parents) for column in chosen}

    async def commute(self) -> None:
        """Goes off line, comes back, repeats itself."""
        dice = self.random.random()
        if not self.link.online:
            if dice < 0.15:
                self.link.connect()
        elif dice < 0.01:
            await self.link.disconnect()
        elif dice < 0.03:
            await self.link.disconnect()
            self.link.connect()
        elif dice < 0.06:
            await self.link.repeat()


class Application(Writer):
    """An SQL session that knows nothing of all this."""

    def __init__(self, seed: str, dsn: str) -> None:
        super().__init__(seed)
        self._dsn = dsn
        self._conn: psycopg.AsyncConnection[Any] | None = None

    async def act(self) -> None:
        if self._conn is None:
            self._conn = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)
        with contextlib.suppress(*SHRUGGED_OFF):
            async with self._conn.transaction():
                for _ in range(self.random.choice((1, 1, 2, 3))):
                    await self.write(self._conn)
                    if self.random.random() < 0.2:
                        # Its time is that of its beginning: others commit meanwhile.
                        await asyncio.sleep(self.random.random() * 0.03)
                if self.random.random() < 0.05:
                    raise psycopg.Rollback

    async def write(self, conn: psycopg.AsyncConnection[Any]) -> None:
        table = self.table()
        key = self.random.choice(KEYS[table])
        columns = [column for column in SCHEMA[table].columns if column != "id"]
        row = {column: self.value(table, column, KEYS) for column in columns}
        one = self.random.choice(columns)
        names, places = ", ".join(("id", *columns)), ", ".join(["%s"] * (1 + len(columns)))
        insert = f"INSERT INTO {table} ({names}) VALUES ({places}) ON CONFLICT (id)"
        values = (key, *row.values())
        (kind,) = self.random.choices(
            ("update", "upsert", "insert", "delete", "replace", "rename", "many", "truncate"),
            (30, 20, 10, 15, 5, 5, 5, 0.3),
        )
        match kind:
            case "update":
                await conn.execute(f"UPDATE {table} SET {one} = %s WHERE id = %s", (row[one], key))
            case "upsert":
                await conn.execute(f"{insert} DO UPDATE SET {one} = excluded.{one}", values)
            case "insert":
                await conn.execute(f"{insert} DO NOTHING", values)
            case "delete":
                await conn.execute(f"DELETE FROM {table} WHERE id = %s", (key,))
            case "replace":
                await conn.execute(f"DELETE FROM {table} WHERE id = %s", (key,))
                await conn.execute(f"{insert} DO NOTHING", values)
            case "rename":
                other = self.random.choice(KEYS[table])
                await conn.execute(f"UPDATE {table} SET id = %s WHERE id = %s", (other, key))
            case "many":
                await conn.execute(f"UPDATE {table} SET {one} = {one} WHERE id > %s", (key,))
            case "truncate":
                await conn.execute("TRUNCATE note")

    async def close(self) -> None:
        if self._conn is not None:
            await self._conn.close()


@dataclass(frozen=True)
class Standing:
    """A row as somebody has it."""

    row: tuple[str | None, ...]
    tags: frozenset[str]


async def run(actors: Iterable[User | Application], operations: int) -> None:
    """``operations`` transactions in all, by ``actors`` at once."""
    left = operations

    async def work(actor: User | Application) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await actor.act()
            if isinstance(actor, User):
                await actor.commute()
            await asyncio.sleep(actor.random.random() * PAUSE)

    async with asyncio.TaskGroup() as working:
        for actor in actors:
            working.create_task(work(actor))


async def settle(users: list[User], conn: psycopg.AsyncConnection[Any], number: int) -> None:
    """Everybody is on line, everything is sent and has come back, and the last commit has reached everybody."""
    for user in users:
        user.link.connect()
        user.device.snapshot()
        await user.link.push()
    last = "finished", str(number)
    try:
        async with asyncio.timeout(PATIENCE):
            await _until(lambda: all(user.link.synced.is_set() and not user.device.oplog for user in users), users)
            await conn.execute("INSERT INTO finished VALUES (%s)", (number,))
            await _until(lambda: all(last in user.device.rows for user in users), users)
            # A commit is streamed from the moment it is in the WAL, a moment before other sessions see it.
            while await (await conn.execute(COMMITTING)).fetchone():  # noqa: ASYNC110 - the database does not tell
                await asyncio.sleep(0.01)
    except TimeoutError:
        states = [f"{user}, last row: {last in user.device.rows}" for user in users]
        raise AssertionError("not at rest:\n" + "\n".join(states)) from None


async def _until(condition: Callable[[], bool], users: list[User]) -> None:
    while not condition():
        for user in users:
            user.link.connect()
            user.device.snapshot()
            await user.link.push()
        await asyncio.sleep(0.02)


async def of_postgres(conn: psycopg.AsyncConnection[Any]) -> dict[RowName, Standing]:
    """What there is; and that a row and its tags are there together."""
    cursor = await conn.execute(
        "SELECT t.table_name, s.pk, s.tags FROM leyden.row_state s JOIN leyden.tables t USING (table_id)"
    )
    tags = {(table, json.loads(pk)[0]): frozenset(tags) for table, pk, tags in await cursor.fetchall()}
    found: dict[RowName, Standing] = {}
    for table, schema in SCHEMA.items():
        cursor = await conn.execute(f"SELECT {', '.join(f'{c}::text' for c in schema.columns)} FROM {table}")
        for row in await cursor.fetchall():
            name = table, row[schema.columns.index("id")]
            found[name] = Standing(row, tags.pop(name))
    orphans = {name for name, left in tags.items() if left and name[0] in SCHEMA}
    assert not orphans, f"tags without a row: {orphans}"
    assert all(one.tags for one in found.values())
    return found


def of_device(device: Device) -> dict[RowName, Standing]:
    return {
        name: Standing(tuple(row[c] for c in SCHEMA[name[0]].columns), frozenset(device.shadow.get(name, ())))
        for name, row in device.rows.items()
        if name[0] in SCHEMA
    }


def differences(expected: dict[RowName, Standing], found: dict[RowName, Standing]) -> dict[RowName, Any]:
    names = expected.keys() | found.keys()
    return {n: (expected.get(n), found.get(n)) for n in names if expected.get(n) != found.get(n)}
