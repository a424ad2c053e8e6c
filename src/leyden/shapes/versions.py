"""The rows of some tables as they were at each position of the log's window.

Whether a row that hangs on others by foreign keys is in a shape cannot be told from the change of it alone. So the
tables of such shapes are kept here, system-versioned in the manner of SQL:2011: a version of a row holds from the
position of the transaction that made it to that of the one that ended it. What any client holds is then a function of
its shapes and of its position, and is computed anew rather than remembered for each.

The versions live in a private SQLite database which is never a file with a name and ends with the process: its memory
is bounded by the size of its cache, and it has nothing that could be stale after a restart.
"""

from __future__ import annotations

import itertools
import sqlite3
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leyden.model import EPOCH_TAG, AddColumns, Delete, Insert, Row, Table, Transaction, Update

#: Rows read at a time.
BATCH = 500

#: Up to so many rows are found by an index when much of a table is read.
SELECTIVE = 10_000

#: Memory for pages (KiB); what is more goes to a temporary file.
CACHE_KIB = 32_768

#: From the beginning of the window.
_ALWAYS = -1

#: Until now.
_NOW = 2**63 - 1

#: Between the tags of a version. Tags are a client id, which is printable, and a number.
_BETWEEN_TAGS = "\n"

#: A row of any table: the table's id, and the row's primary key.
Key = tuple[int, Row]

#: A row and its tags.
TaggedRow = tuple[Row, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Version:
    """A row at some position. ``table`` describes it as of then; ``key`` is its table's id and its primary key."""

    table: Table
    row: Row
    tags: tuple[str, ...]
    key: Key


def version_of(table: Table, row: Row, tags: tuple[str, ...] = ()) -> Version:
    return Version(table, row, tags, (table.id, table.key_of(row)))


class VersionedTables:
    """The tables that are kept. Loading one: :meth:`load` rows of a snapshot, then :meth:`take_back` the transactions
    of the window that it sees, newest first, then :meth:`apply` the others, oldest first, then :meth:`complete`."""

    def __init__(self) -> None:
        self._database = _Database()
        self._tables: dict[int, _VersionedTable] = {}

    def __contains__(self, table_id: int) -> bool:
        """Whether the table is kept completely, from the beginning of the window on."""
        table = self._tables.get(table_id)
        return table is not None and table.is_complete

    @property
    def kept(self) -> Collection[int]:
        """Ids of the tables kept completely."""
        return [table_id for table_id, table in self._tables.items() if table.is_complete]

    # ---- loading -------------------------------------------------------------------------------------------------

    def begin(self, table: Table) -> None:
        """Begins to load ``table``, anew if need be."""
        self.forget(table.id)
        self._tables[table.id] = _VersionedTable(self._database, table)

    def load(self, table: Table, rows: Iterable[TaggedRow]) -> None:
        self._tables[table.id].load(rows)

    def take_back(self, table: Table, transaction: Transaction) -> None:
        """``transaction`` is in what was loaded: its rows were not there, or others, before it."""
        self._tables[table.id].take_back(transaction)

    def follow(self, table: Table, transaction: Transaction) -> bool:
        """``transaction`` is not in what was loaded. ``False`` if it changes a row that is not there: what was loaded
        is no state of the table then."""
        return self._tables[table.id].apply(transaction)

    def complete(self, table: Table) -> None:
        self._tables[table.id].is_complete = True

    def forget(self, table_id: int) -> None:
        """Whoever has it :meth:`as_of` a position may go on."""
        self._tables.pop(table_id, None)

    def clear(self) -> None:
        for table_id in tuple(self._tables):
            self.forget(table_id)

    # ---- following -----------------------------------------------------------------------------------------------

    def apply(self, transaction: Transaction) -> None:
        """The next transaction of the log."""
        if not self._tables:
            return
        concerned = {change.table.id for change in transaction.changes} & self._tables.keys()
        for table_id in concerned:
            table = self._tables[table_id]
            if table.is_complete:
                table.apply(transaction)

    def decide(self, table_id: int, position: int, present: Iterable[Row], absent: Iterable[Row]) -> None:
        """From ``position`` on, which is not before that of any other change of the table, it has rows that are
        ``present``, and none with the keys ``absent``."""
        self._tables[table_id].decide(position, present, absent)

    def comparison(self, table: Table) -> Comparison:
        """Compares ``table``, as it is after all changes of it that are known, with rows that may be others."""
        return Comparison(self._tables[table.id], _VersionedTable(self._database, table))

    def trim(self, position: int) -> None:
        """Nobody will ask for a position below ``position`` any more."""
        for table in self._tables.values():
            if table.is_complete:
                table.trim(position)
        self._database.drop_unused()

    def as_of(self, position: int, *, remember: bool = False) -> AsOf:
        """The tables at a position of the window. What is looked up is remembered on demand: for looking at a few rows
        from many sides."""
        return AsOf(dict(self._tables), position, remember=remember)


class AsOf:
    """The tables at one position of the window."""

    __slots__ = ("_found", "_remember", "_tables", "position")

    def __init__(self, tables: Mapping[int, _VersionedTable], position: int, *, remember: bool = False) -> None:
        self._tables = tables
        self._remember = remember
        self._found: dict[tuple[int, tuple[int, ...], Row], _Shared] = {}
        self.position = position

    def row(self, key: Key) -> Version | None:
        """The row with this key (text forms)."""
        table_id, parts = key
        return next(iter(self.rows_with(table_id, self._tables[table_id].key_places, parts)), None)

    def rows_with(self, table_id: int, places: tuple[int, ...], values: Row) -> Iterable[Version]:
        """The rows that have these ``values``, none of them NULL, in the columns at ``places``."""
        question = (table_id, places, values)
        found = self._found.get(question)
        if found is None:
            table = self._tables[table_id]
            rows = table.find(self.position, {place: (form,) for place, form in zip(places, values, strict=True)})
            if not self._remember:
                return rows
            found = self._found[question] = _Shared(rows)
        return found

    def rows(self, table_id: int, values: Mapping[int, Collection[bytes | None]]) -> Iterator[Version]:
        """The rows in whose columns (by place) there is one of the values; best if the first column is selective."""
        return self._tables[table_id].find(self.position, values)

    def changed(self, table_id: int) -> list[Key]:
        """The keys of the rows that are others since this very position, or gone."""
        return [(table_id, key) for key in self._tables[table_id].changed(self.position)]

    def batches(self, table_id: int, values: Mapping[int, Collection[bytes | None]]) -> Iterator[list[Version]]:
        """The rows in whose columns there is one of the values, a few hundred at a time. The tables may go on
        changing between two batches."""
        return self._tables[table_id].batches(self.position, values)


class _Shared:
    """What an iterator gives, for all who ask, and only as far as somebody does."""

    __slots__ = ("_given", "_rest")

    def __init__(self, rows: Iterator[Version]) -> None:
        self._given: list[Version] = []
        self._rest = rows

    def __iter__(self) -> Iterator[Version]:
        number = 0
        while True:
            if number == len(self._given):
                more = next(self._rest, None)
                if more is None:
                    return
                self._given.append(more)
            yield self._given[number]
            number += 1


class Comparison:
    """Collects rows by :meth:`load` and tells how a table differs from them, which must not change meanwhile. Of rows
    with equal keys nothing else is compared."""

    def __init__(self, table: _VersionedTable, other: _VersionedTable) -> None:
        self._table = table
        self._other = other

    def load(self, rows: Iterable[Row]) -> None:
        self._other.load((row, ()) for row in rows)

    @property
    def differs(self) -> bool:
        return any(True for differences in (self.missing(), self.surplus()) for _ in differences)

    def present(self, keys: Iterable[Row]) -> set[Row]:
        """Those of ``keys`` that the rows have."""
        return {key for key in keys if self._other.holds(key)}

    def missing(self) -> Iterator[list[Row]]:
        """The keys that the table lacks, a few hundred at a time."""
        return self._other.keys_beyond(self._table)

    def surplus(self) -> Iterator[list[Row]]:
        """The keys that the table has and the rows have not."""
        return self._table.keys_beyond(self._other)


_numbers = itertools.count(1)


class _Database:
    """Where the versions are. While anything in it is being read, no table of it can be dropped."""

    def __init__(self) -> None:
        connection = sqlite3.connect("", isolation_level=None)
        self.execute = connection.execute
        self.executemany = connection.executemany
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}"):
            self.execute(f"PRAGMA {setting}")
        self._readings = 0
        self._unused: list[str] = []

    def rows(self, statement: str, parameters: Sequence[object]) -> Iterator[list[tuple[Any, ...]]]:
        """What a query gives: the first row by itself, as it is often enough, and then a few hundred at a time."""
        cursor = self.execute(statement, parameters)
        self._readings += 1
        try:
            number = 1
            while found := cursor.fetchmany(number):
                yield found
                number = BATCH
        finally:
            cursor.close()
            self._readings -= 1

    def drop(self, name: str) -> None:
        """Nobody will ask for this table any more."""
        self._unused.append(name)
        self.drop_unused()

    def drop_unused(self) -> None:
        while self._unused and not self._readings:
            self.execute(f"DROP TABLE {self._unused.pop()}")


class _VersionedTable:
    def __init__(self, database: _Database, table: Table) -> None:
        self.is_complete = False
        self.key_places = table.key_positions
        self._execute = database.execute
        self._many = database.executemany
        self._rows = database.rows
        # Another name each time: it is there until nobody has it at any position.
        self._name = f'"{table.id} {next(_numbers)}"'
        weakref.finalize(self, database.drop, self._name).atexit = False
        #: Descriptions, the newest first, each with the position that it begins at.
        self._descriptions: list[tuple[int, Table]] = [(_ALWAYS, table)]
        self._width = len(table.columns)
        self._indexed: set[int] = set()
        self._is_indexed_by_beginning = False
        is_key = " AND ".join(f"c{place} = ?" for place in self.key_places)
        columns = "".join(f", c{place} BLOB" for place in range(self._width))
        self._columns = "".join(f", c{place}" for place in range(self._width))
        self._execute(f"CREATE TABLE {self._name} (since INTEGER, until INTEGER, tags TEXT{columns})")
        key = ", ".join(f"c{place}" for place in self.key_places)
        self._key = key
        self._create_index(f"({key}, until)")
        self._create_index(f"(until) WHERE until < {_NOW}")
        values = ", ?" * self._width
        self._insert = f"INSERT INTO {self._name} (since, until, tags{self._columns}) VALUES (?, ?, ?{values})"
        self._select = f"SELECT tags{self._columns} FROM {self._name} WHERE since <= ? AND until > ?"
        self._end = f"UPDATE {self._name} SET until = ? WHERE {is_key} AND until = {_NOW}"
        self._is_there = f"SELECT 1 FROM {self._name} WHERE {is_key} AND until = {_NOW}"
        self._delay = f"UPDATE {self._name} SET since = ? WHERE {is_key} AND since = {_ALWAYS}"

    def load(self, rows: Iterable[TaggedRow]) -> None:
        self._many(self._insert, ((_ALWAYS, _NOW, _BETWEEN_TAGS.join(tags), *row) for row, tags in rows))

    def take_back(self, transaction: Transaction) -> None:
        position = transaction.position
        for change in reversed(transaction.changes):
            if change.table.id != self._description.id:
                continue
            if not isinstance(change, Delete):
                self._execute(self._delay, (position, *change.table.key_of(_new(change))))
            if not isinstance(change, Insert):
                # What tags it had is not known any more: whoever gets it gets those of the next change soon.
                self._add(_ALWAYS, position, change.old, (EPOCH_TAG,))
        self._note_columns(transaction)

    def _note_columns(self, transaction: Transaction) -> None:
        changes = () if transaction.migration is None else transaction.migration.changes
        for change in changes:
            if isinstance(change, AddColumns) and change.table.id == self._description.id:
                added = set(change.columns)
                _, oldest = self._descriptions[-1]
                before = _without_columns(oldest, added)
                self._descriptions[-1:] = [(transaction.position, oldest), (_ALWAYS, before)]

    def apply(self, transaction: Transaction) -> bool:
        """Whether every row was there that it changes."""
        position = transaction.position
        known = True
        for change in transaction.changes:
            if change.table.id != self._description.id:
                continue
            row = change.row if isinstance(change, Insert) else change.old
            ended = self._execute(self._end, (position, *change.table.key_of(row))).rowcount
            known &= ended == 1 or isinstance(change, Insert)
            if not isinstance(change, Delete):
                self._add(position, _NOW, _new(change), change.tags)
        return known

    def decide(self, position: int, present: Iterable[Row], absent: Iterable[Row]) -> None:
        for key in absent:
            self._execute(self._end, (position, *key))
        for row in present:
            if not self.holds(tuple([row[place] for place in self.key_places])):
                self._add(position, _NOW, row, ())

    def holds(self, key: Row) -> bool:
        """Whether there is a row with this key at last."""
        return self._execute(self._is_there, key).fetchone() is not None

    def changed(self, position: int) -> list[Row]:
        if not self._is_indexed_by_beginning:
            self._is_indexed_by_beginning = True
            self._create_index("(since)")
        found = self._execute(
            f"SELECT {self._key} FROM {self._name} WHERE since = ?"
            f" UNION SELECT {self._key} FROM {self._name} WHERE until = ? AND until < {_NOW}",
            (position, position),
        )
        return found.fetchall()

    def keys_beyond(self, other: _VersionedTable) -> Iterator[list[Row]]:
        """The keys of rows of which ``other``, a table with the same key, has none, as both are at last."""
        same = " AND ".join(f"other.c{place} = this.c{place}" for place in self.key_places)
        keys = ", ".join(f"this.c{place}" for place in self.key_places)
        return self._rows(
            f"SELECT {keys} FROM {self._name} AS this WHERE until = {_NOW} AND NOT EXISTS"
            f" (SELECT 1 FROM {other._name} AS other WHERE {same} AND other.until = {_NOW})",
            (),
        )

    def trim(self, position: int) -> None:
        # Also what one transaction made and ended: it was never to be seen.
        self._execute(f"DELETE FROM {self._name} WHERE until < {_NOW} AND (until <= ? OR since = until)", (position,))

    def find(self, position: int, values: Mapping[int, Collection[bytes | None]]) -> Iterator[Version]:
        condition, parameters = self._condition(values)
        for found in self._rows(f"{self._select} {condition}", (position, position, *parameters)):
            yield from self._versions(found, position)

    def batches(self, position: int, values: Mapping[int, Collection[bytes | None]]) -> Iterator[list[Version]]:
        condition, parameters = self._condition(values)
        at = (position, position, *parameters)
        if values:
            found = self._execute(
                f"SELECT rowid FROM {self._name} WHERE since <= ? AND until > ?{condition} LIMIT {SELECTIVE + 1}", at
            ).fetchall()
            if len(found) <= SELECTIVE:
                for start in range(0, len(found), BATCH):
                    numbers = ", ".join(str(number) for (number,) in found[start : start + BATCH])
                    rows = self._execute(f"{self._select} AND rowid IN ({numbers})", (position, position))
                    yield self._versions(rows.fetchall(), position)
                return
        (last,) = self._execute(f"SELECT coalesce(max(rowid), 0) FROM {self._name}").fetchone()
        for start in range(0, last, BATCH):
            # "+": the other columns are not to be looked up.
            rows = self._execute(
                f"{self._select} AND rowid > ? AND rowid <= ?{condition.replace('(c', '(+c')}",
                (position, position, start, start + BATCH, *parameters),
            )
            yield self._versions(rows.fetchall(), position)

    def _condition(self, values: Mapping[int, Collection[bytes | None]]) -> tuple[str, list[bytes]]:
        conditions: list[str] = []
        parameters: list[bytes] = []
        for number, (place, forms) in enumerate(values.items()):
            if not number:
                self._index(place)
            known = [form for form in forms if form is not None]
            is_null = f" OR c{place} IS NULL" if len(known) < len(forms) else ""
            conditions.append(f" AND (c{place} IN ({', '.join('?' * len(known))}){is_null})")
            parameters += known
        return "".join(conditions), parameters

    def _versions(self, found: list[tuple[Any, ...]], position: int) -> list[Version]:
        table = next(table for since, table in self._descriptions if since <= position)
        end = 1 + len(table.columns)
        return [version_of(table, one[1:end], tuple(one[0].split(_BETWEEN_TAGS))) for one in found]

    @property
    def _description(self) -> Table:
        return self._descriptions[0][1]

    def _add(self, since: int, until: int, row: Row, tags: Sequence[str]) -> None:
        # A row written before a column was added has NULL there.
        padded = row + (None,) * (self._width - len(row))
        self._execute(self._insert, (since, until, _BETWEEN_TAGS.join(tags), *padded))

    def _index(self, place: int) -> None:
        if place in self._indexed or place == self.key_places[0]:
            return
        self._indexed.add(place)
        self._create_index(f"(c{place})")

    def _create_index(self, on: str) -> None:
        self._execute(f'CREATE INDEX "index {next(_numbers)}" ON {self._name} {on}')


def _new(change: Insert | Update) -> Row:
    return change.row if isinstance(change, Insert) else change.new


def _without_columns(table: Table, names: Collection[str]) -> Table:
    kept = tuple(column for column in table.columns if column.name not in names)
    # Its keys and indexes are of columns that were there before, or are not asked for any more.
    return Table(table.id, table.name, kept, table.primary_key, table.primary_key_name, table.foreign_keys)
