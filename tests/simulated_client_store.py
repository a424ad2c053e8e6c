"""The device: a SQLite database with the tables, the tags of rows, and what the stock client remembers across restarts.

Applies what arrives as the stock client does. Initial data never replaces a row; of a transaction the changes of each
row are merged into one, whose kind is that of the last.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from random_shapes import Key, Rows, Schema
from simulated_client_decoding import Image, Operation, Relation, require


def _quoted(name: str) -> str:
    return f'"{name}"'


@dataclass
class _Merged:
    """What the changes of one row in one transaction amount to."""

    relation: Relation
    kind: str
    row: Image
    tags: tuple[str, ...]


class Store:
    """One device. Every method is one transaction."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        self._db.executescript(
            "CREATE TABLE _tags (table_name TEXT, key TEXT, tags TEXT, PRIMARY KEY (table_name, key));"
            "CREATE TABLE _migrations (version TEXT PRIMARY KEY);"
            "CREATE TABLE _meta (key TEXT PRIMARY KEY, value);"
        )

    def close(self) -> None:
        self._db.close()

    def copy(self) -> Store:
        """The device as it is now, to be restored later."""
        copy = Store()
        self._db.backup(copy._db)
        return copy

    # ---- what is remembered --------------------------------------------------------------------------------------

    def remembered(self, name: str) -> Any:
        row = self._db.execute("SELECT value FROM _meta WHERE key = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def remember(self, name: str, value: str | bytes | None) -> None:
        self._db.execute("INSERT OR REPLACE INTO _meta VALUES (?, ?)", (name, value))

    @property
    def version(self) -> str | None:
        """The newest migration applied."""
        version: str | None = self._db.execute("SELECT max(version) FROM _migrations").fetchone()[0]
        return version

    def has_migration(self, version: str) -> bool:
        return self._db.execute("SELECT 1 FROM _migrations WHERE version = ?", (version,)).fetchone() is not None

    # ---- what arrives --------------------------------------------------------------------------------------------

    def migrate(self, version: str, statements: Iterable[str], lsn: bytes) -> None:
        with self._transaction():
            for statement in statements:
                self._db.execute(statement)
            self._db.execute("INSERT INTO _migrations VALUES (?)", (version,))
            self.remember("lsn", lsn)

    def add_initial(self, operations: Sequence[Operation], lsn: bytes, subscriptions: str | None = None) -> None:
        """Initial or additional data. It must hold no row that is there: it would not replace it, but its tags."""
        with self._transaction():
            for operation in operations:
                assert operation.new is not None
                held = self.row(operation.relation, operation.key)
                require(
                    held is None,
                    f"initial data with a row that is held: {operation.relation.table} {operation.new}, held {held}",
                )
                self._insert(operation.relation, operation.new, "")
                self._tag(operation.relation, operation.key, operation.tags)
            self.remember("lsn", lsn)
            if subscriptions is not None:
                self.remember("subscriptions", subscriptions)

    def apply(self, operations: Iterable[Operation], lsn: bytes) -> None:
        """A transaction."""
        with self._transaction():
            for key, merged in _merge(operations).items():
                if merged.kind in ("delete", "gone"):
                    self._delete(merged.relation, key[1])
                else:
                    columns = [name for name in merged.row if name not in merged.relation.key]
                    changes = ", ".join(f"{_quoted(name)} = excluded.{_quoted(name)}" for name in columns)
                    conflict = f" ON CONFLICT DO UPDATE SET {changes}" if columns else " ON CONFLICT DO NOTHING"
                    self._insert(merged.relation, merged.row, conflict)
                    self._tag(merged.relation, key[1], merged.tags)
            self.remember("lsn", lsn)

    def drop(self, operations: Iterable[Operation], lsn: bytes) -> None:
        """A GONE batch."""
        with self._transaction():
            for operation in operations:
                self._delete(operation.relation, operation.key)
            self.remember("lsn", lsn)

    def reset(self, tables: Iterable[str], subscriptions: str) -> None:
        """The client lets go of all that it has in ``tables``, and of its position. Tags and migrations stay."""
        with self._transaction():
            for table in tables:
                if self.columns(table):
                    self._db.execute(f"DELETE FROM {_quoted(table)}")
            self.remember("lsn", None)
            self.remember("subscriptions", subscriptions)

    # ---- what is there -------------------------------------------------------------------------------------------

    def rows(self, schema: Schema) -> Rows:
        """All rows of the tables of ``schema`` that the device knows."""
        found: Rows = {}
        for table in schema.tables.values():
            if not self.columns(table.name):
                continue
            cursor = self._db.execute(f"SELECT * FROM {_quoted(table.name)}")
            names = [column[0] for column in cursor.description]
            images = (dict(zip(names, values, strict=True)) for values in cursor)
            found[table.name] = {table.key_of(image): image for image in images}
        return found

    def columns(self, table: str) -> set[str]:
        return {row[0] for row in self._db.execute("SELECT name FROM pragma_table_info(?)", (table,))}

    def row(self, relation: Relation, key: Key) -> Image | None:
        where = " AND ".join(f"{_quoted(name)} = ?" for name in relation.key)
        cursor = self._db.execute(f"SELECT * FROM {_quoted(relation.table)} WHERE {where}", key)
        values = cursor.fetchone()
        return None if values is None else dict(zip((one[0] for one in cursor.description), values, strict=True))

    def tags(self, table: str, key: Key) -> tuple[str, ...]:
        row = self._db.execute(
            "SELECT tags FROM _tags WHERE table_name = ? AND key = ?", (table, json.dumps(key))
        ).fetchone()
        return () if row is None else tuple(json.loads(row[0]))

    # ---- one row -------------------------------------------------------------------------------------------------

    def _insert(self, relation: Relation, row: Image, conflict: str) -> None:
        names, marks = ", ".join(map(_quoted, row)), ", ".join("?" * len(row))
        self._db.execute(
            f"INSERT INTO {_quoted(relation.table)} ({names}) VALUES ({marks}){conflict}", list(row.values())
        )

    def _delete(self, relation: Relation, key: Key) -> None:
        where = " AND ".join(f"{_quoted(name)} = ?" for name in relation.key)
        self._db.execute(f"DELETE FROM {_quoted(relation.table)} WHERE {where}", key)
        self._db.execute("DELETE FROM _tags WHERE table_name = ? AND key = ?", (relation.table, json.dumps(key)))

    def _tag(self, relation: Relation, key: Key, tags: tuple[str, ...]) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO _tags VALUES (?, ?, ?)", (relation.table, json.dumps(key), json.dumps(tags))
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _merge(operations: Iterable[Operation]) -> dict[tuple[str, Key], _Merged]:
    """One change for each row: the kind is that of the last operation, the tags are those of the first, and each
    operation contributes the columns that it changes."""
    merged: dict[tuple[str, Key], _Merged] = {}
    for operation in operations:
        new, old = operation.new or {}, operation.old or {}
        key = (operation.relation.table, operation.key)
        earlier = merged.get(key)
        if earlier is None:
            row = dict(old if operation.kind == "delete" else new)
            merged[key] = _Merged(operation.relation, operation.kind, row, operation.tags)
            continue
        earlier.kind = operation.kind
        earlier.relation = operation.relation
        earlier.row |= {name: value for name, value in new.items() if name not in old or old[name] != value}
    return merged
