"""What database roles could select at every moment, as Postgres answered them: the judge of what was sent to whom.

Postgres is asked as each reader before every commit and after every statement (``rights_history.sql``), so nothing is
computed here, and nothing shared with the service.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg

from leyden.postgres.writing import writer
from random_shapes import UNREADABLE, Key, Sight, Table, Value

Connection = psycopg.AsyncConnection[Any]
Image = Mapping[str, Value]

_SCHEMA = Path(__file__).with_suffix(".sql")


@dataclass(frozen=True)
class RoleReader:
    """A database role with claims, as a client has them from its token."""

    number: int
    role: str
    claims: Mapping[str, Any]

    @asynccontextmanager
    async def taken(self, conn: Connection) -> AsyncIterator[None]:
        settings = {"request.jwt.claims": json.dumps(self.claims), "role": self.role}
        for name, value in settings.items():
            await conn.execute("SELECT set_config(%s, %s, true)", [name, value])
        yield
        await conn.execute("SELECT set_config('role', 'none', true)")

    async def sight(self, conn: Connection, table: Table) -> Sight:
        cursor = await conn.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
            " AND has_column_privilege(%s, attrelid, attnum, 'SELECT')",
            [table.name, self.role],
        )
        columns = frozenset(name for (name,) in await cursor.fetchall())
        key = ", ".join(column.name for column in table.key)
        if not columns.issuperset(column.name for column in table.key):
            return Sight(frozenset(), columns)
        try:
            async with conn.transaction(), self.taken(conn):
                keys = await (await conn.execute(f"SELECT {key} FROM {table.name}".encode())).fetchall()
        except UNREADABLE:
            return Sight(frozenset(), columns)
        return Sight(frozenset(keys), columns)


@dataclass(frozen=True)
class Commit:
    """``position`` is one in the WAL, of shortly before; ``at`` a time of ``time.time``, too."""

    number: int
    xid: int
    position: int
    at: float


@dataclass(frozen=True)
class SeenTable:
    """What one reader could select of one table. ``is_whole`` if it may read all columns."""

    columns: frozenset[str]
    is_whole: bool
    rows: Mapping[str, Sequence[Image]]
    failure: str | None

    def has(self, key: Key, image: Image, hidden: frozenset[str]) -> bool:
        """Whether a row is there with the values of ``image``, which has NULL in the columns ``hidden``."""
        return any(
            all(value == row.get(name) or (value is None and name in hidden) for name, value in image.items())
            for row in self.rows.get(str(key), ())
        )


class RightsHistory:
    """Of ``readers``. Commits are counted from 0 in the order in which they were made."""

    def __init__(self, readers: Sequence[RoleReader]) -> None:
        self._readers = readers
        self._key_of: dict[str, tuple[str, ...]] = {}
        self.commits: list[Commit] = []
        self._index_of: dict[int, int] = {}
        #: By reader and table: after which commit, and what.
        self._after: dict[tuple[int, str], list[tuple[int, SeenTable]]] = defaultdict(list)
        #: The same, of moments within the transaction of that commit.
        self._within: dict[tuple[int, str], list[tuple[int, SeenTable]]] = defaultdict(list)
        self._changed: dict[int, set[str]] = defaultdict(set)

    async def install(self, conn: Connection) -> None:
        await conn.execute(_SCHEMA.read_bytes())
        for reader in self._readers:
            await conn.execute(
                "INSERT INTO history.readers VALUES (%s, %s, %s)",
                [reader.number, reader.role, json.dumps(reader.claims)],
            )

    async def watch(self, conn: Connection, table: Table) -> None:
        """Looks at ``table`` from now on."""
        self._key_of[table.name] = tuple(column.name for column in table.key)
        await conn.execute(
            f"CREATE TRIGGER history AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table.name}"
            " FOR EACH STATEMENT EXECUTE FUNCTION history.on_statement()".encode()
        )

    @staticmethod
    @contextmanager
    def looking_at_uploads() -> Iterator[None]:
        """What the service writes for clients is looked at like all else."""
        transaction = writer._transaction

        @asynccontextmanager
        async def recorded(conn: Connection) -> AsyncIterator[psycopg.AsyncPipeline]:
            async with transaction(conn) as pipeline:
                yield pipeline
                await conn.execute("SELECT history.commit()")

        with patch.object(writer, "_transaction", recorded):
            yield

    async def read(self, conn: Connection) -> None:
        """Learns what has been committed since."""
        last = self.commits[-1].number if self.commits else 0
        cursor = await conn.execute("SELECT * FROM history.commits WHERE number > %s ORDER BY number", [last])
        commits = [Commit(*row) for row in await cursor.fetchall()]
        if not commits:
            return
        for commit in commits:
            self._index_of[commit.xid] = len(self.commits)
            self.commits.append(commit)
        cursor = await conn.execute(
            "SELECT xid, is_committed, reader, relation, columns, is_whole, rows, failure FROM history.sights"
            " WHERE xid = ANY (%s) ORDER BY number",
            [[commit.xid for commit in commits]],
        )
        for xid, is_committed, reader, relation, columns, is_whole, rows, failure in await cursor.fetchall():
            seen = SeenTable(frozenset(columns), is_whole, self._by_key(relation, rows), failure)
            kept = self._after if is_committed else self._within
            if not is_committed:
                self._changed[xid].add(relation)
            kept[reader, relation].append((self._index_of[xid], seen))
        for moments in self._within.values():
            moments.sort(key=lambda one: one[0])

    def _by_key(self, relation: str, rows: list[dict[str, Any]]) -> Mapping[str, Sequence[Image]]:
        found: dict[str, list[Image]] = defaultdict(list)
        for row in rows:
            image = {name: int(value) if isinstance(value, bool) else value for name, value in row.items()}
            found[str(tuple(image.get(name) for name in self._key_of[relation]))].append(image)
        return found

    def changed_in(self, xid: int) -> set[str]:
        """The tables that statements of a transaction were about."""
        return self._changed[xid]

    # ---- moments -------------------------------------------------------------------------------------------------

    def at_position(self, position: int, xid: int | None) -> int:
        """The commit in force at ``position`` in the WAL, which is that of the transaction ``xid`` if that is known."""
        if xid is not None and xid in self._index_of:
            return self._index_of[xid]
        # Positions are of shortly before the commit. So the last one may have come just after.
        return max(bisect_left(self.commits, position, key=lambda one: one.position) - 2, 0)

    def at_time(self, at: float) -> int:
        """The commit in force at that time, when perhaps the last one was not done yet."""
        return max(bisect_right(self.commits, at, key=lambda one: one.at) - 2, 0)

    def seen(self, reader: int, table: str, since: int, until: float) -> Iterator[SeenTable]:
        """What could be seen from the commit ``since`` on until that time."""
        last = bisect_right(self.commits, until, key=lambda one: one.at)
        after = self._after[reader, table]
        first = max(bisect_right(after, since, key=lambda one: one[0]) - 1, 0)
        for index, seen in after[first:]:
            if index >= last:
                break
            yield seen
        within = self._within[reader, table]
        for index, seen in within[bisect_left(within, since, key=lambda one: one[0]) :]:
            if index >= last:
                break
            yield seen
