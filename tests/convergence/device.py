"""The local half of a simulated client: rows, oplog, shadow tags, and how incoming transactions are merged.

It does what the published client does (docs/protocol.md and what was observed of electric-sql 0.12.1), on dictionaries
in place of SQLite. It knows no wire and no clock but the one it is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

Values = dict[str, str | None]

#: Table and key.
RowName = tuple[str, str]


@dataclass(frozen=True)
class Reference:
    """A foreign key of one column to the ``id`` of ``parent``; ``on_delete`` as in SQL."""

    column: str
    parent: str
    on_delete: Literal["NO ACTION", "CASCADE", "SET NULL"] = "NO ACTION"


@dataclass(frozen=True)
class TableSchema:
    """``columns`` in the order of the table, its key ``id`` among them."""

    columns: tuple[str, ...]
    references: tuple[Reference, ...] = ()


@dataclass
class Entry:
    """One line of the oplog. It has no timestamp and no tags until it is stamped by a snapshot."""

    rowid: int
    kind: Literal["INSERT", "UPDATE", "DELETE", "COMPENSATION"]
    name: RowName
    new: Values
    old: Values
    timestamp: int | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Incoming:
    """One operation of a transaction of the server."""

    kind: Literal["INSERT", "UPDATE", "DELETE", "GONE"]
    name: RowName
    new: Values
    old: Values
    tags: tuple[str, ...] = ()


@dataclass
class _Pending:
    """All that is not echoed yet of one row: each column's last value with its timestamp."""

    changes: dict[str, tuple[str | None, int]]
    first: int
    tag: str | None
    seen: set[str]


@dataclass
class _Arrived:
    """All that one transaction of the server says of one row."""

    changes: dict[str, tuple[str | None, int]]
    row: Values
    tags: tuple[str, ...]
    kind: str


class WouldBreak(Exception):
    """A foreign key of the local database refuses the write."""


@dataclass
class Device:
    """``schema`` by table; ``clock`` gives milliseconds, which may run wrong but never repeat themselves."""

    client_id: str
    schema: Mapping[str, TableSchema]
    clock: Callable[[], int]
    rows: dict[RowName, Values] = field(default_factory=dict)
    shadow: dict[RowName, tuple[str, ...]] = field(default_factory=dict)
    oplog: list[Entry] = field(default_factory=list)
    #: How often each of its own transactions came back, by timestamp.
    echoes: Counter[int] = field(default_factory=Counter)
    _rowid: int = 0

    # ---- local writes --------------------------------------------------------------------------------------------

    def keys(self, table: str) -> list[str]:
        return sorted(key for of, key in self.rows if of == table)

    def insert(self, table: str, row: Values) -> None:
        name = table, row["id"] or ""
        if name in self.rows:
            raise WouldBreak
        self._refer(table, row)
        self.rows[name] = dict(row)
        self._log("INSERT", name, new=row)

    def update(self, name: RowName, changes: Values) -> None:
        old = self.rows[name]
        new = {**old, **changes}
        self._refer(name[0], new)
        self.rows[name] = new
        self._log("UPDATE", name, new, old)

    def delete(self, name: RowName) -> None:
        """With all that follows from it by foreign keys."""
        before = dict(self.rows), list(self.oplog), self._rowid
        try:
            self._delete(name)
        except WouldBreak:
            self.rows, self.oplog, self._rowid = before
            raise

    def _delete(self, name: RowName) -> None:
        old = self.rows.pop(name)
        for table, schema in self.schema.items():
            for reference in schema.references:
                if reference.parent != name[0]:
                    continue
                for child in [(table, key) for key in self.keys(table)]:
                    if child not in self.rows or self.rows[child][reference.column] != name[1]:
                        continue
                    if reference.on_delete == "CASCADE":
                        self._delete(child)
                    elif reference.on_delete == "SET NULL":
                        self.update(child, {reference.column: None})
                    else:
                        raise WouldBreak
        self._log("DELETE", name, old=old)

    def _refer(self, table: str, row: Values) -> None:
        """Compensations for the rows that this one refers to."""
        for reference in self.schema[table].references:
            key = row[reference.column]
            if key is not None:
                parent = reference.parent, key
                if parent not in self.rows:
                    raise WouldBreak
                self._log("COMPENSATION", parent, new={"id": key})

    def _log(
        self,
        kind: Literal["INSERT", "UPDATE", "DELETE", "COMPENSATION"],
        name: RowName,
        new: Values | None = None,
        old: Values | None = None,
    ) -> None:
        self._rowid += 1
        self.oplog.append(Entry(self._rowid, kind, name, dict(new or {}), dict(old or {})))

    def snapshot(self) -> None:
        """Stamp what was written since the last one: one transaction, whatever it was locally."""
        fresh = [entry for entry in self.oplog if entry.timestamp is None]
        if not fresh:
            return
        now = self.clock()
        tag = f"{self.client_id}@{now}"
        for entry in fresh:
            entry.timestamp = now
            if entry.name in self.shadow:
                entry.tags = (tag, *self.shadow[entry.name])
        for entry in fresh:
            if entry.kind == "DELETE":
                self.shadow.pop(entry.name, None)
            else:
                self.shadow[entry.name] = (tag,)

    def transactions(self, after: int) -> Iterator[tuple[int, list[Entry]]]:
        """What is to be sent beyond the oplog's row ``after``: timestamp and entries of each transaction."""
        entries = [entry for entry in self.oplog if entry.timestamp is not None and entry.rowid > after]
        for timestamp, group in groupby(entries, key=lambda entry: entry.timestamp):
            assert timestamp is not None
            yield timestamp, list(group)

    # ---- what comes in -------------------------------------------------------------------------------------------

    def initial(self, rows: Iterable[tuple[RowName, Values, tuple[str, ...]]]) -> None:
        """Rows of a subscription: one that is there already is not overwritten, but its tags are."""
        for name, row, tags in rows:
            self.rows.setdefault(name, row)
            self.shadow[name] = tags

    def reset(self) -> None:
        """The server cannot go on where it left off: the rows go, what was not echoed yet stays."""
        self.rows.clear()

    def apply(self, origin: str, timestamp: int, operations: Sequence[Incoming]) -> None:
        """A transaction of the server."""
        if origin == self.client_id:
            self.echoes[timestamp] += 1
            self.oplog = [entry for entry in self.oplog if entry.timestamp != timestamp]
        if not operations:
            return
        self.snapshot()
        changed = _arrived(operations, timestamp)
        pending = self._pending(changed.keys())
        for name, arrived in changed.items():
            if name in pending:
                self._merge(pending[name], origin, arrived)
            if arrived.kind in ("DELETE", "GONE"):
                self.rows.pop(name, None)
                self.shadow.pop(name, None)
            else:
                self.rows[name] = arrived.row
                self.shadow[name] = arrived.tags

    def _pending(self, names: Collection[RowName]) -> dict[RowName, _Pending]:
        pending: dict[RowName, _Pending] = {}
        for entry in self.oplog:
            if entry.name not in names:
                continue
            assert entry.timestamp is not None
            changes = {
                column: (value, entry.timestamp)
                for column, value in entry.new.items()
                if column not in entry.old or entry.old[column] != value
            }
            tag = None if entry.kind == "DELETE" else f"{self.client_id}@{entry.timestamp}"
            known = pending.get(entry.name)
            if known is None:
                pending[entry.name] = _Pending(changes, entry.timestamp, tag, set(entry.tags))
            else:
                known.changes |= changes
                known.tag = tag
                known.seen = set(entry.tags) | (set() if known.first == entry.timestamp else known.seen)
        return pending

    def _merge(self, pending: _Pending, origin: str, arrived: _Arrived) -> None:
        """The last writer of each column wins; the row stays while it has tags. What is gone is gone."""
        if arrived.kind == "GONE":
            return
        for column, (value, timestamp) in (pending.changes | arrived.changes).items():
            mine = pending.changes.get(column)
            if mine is not None and (
                column not in arrived.changes
                or mine[1] > timestamp
                or (mine[1] == timestamp and _utf16(self.client_id) > _utf16(origin))
            ):
                value = mine[0]
            arrived.row[column] = value
        own = () if pending.tag is None else (pending.tag,)
        arrived.tags = tuple(dict.fromkeys((*own, *(tag for tag in arrived.tags if tag not in pending.seen))))
        arrived.kind = "UPSERT" if arrived.tags else "DELETE"


def _arrived(operations: Iterable[Incoming], timestamp: int) -> dict[RowName, _Arrived]:
    """Several changes of a row are one: the last decides what becomes of it, the first brings the tags."""
    arrived: dict[RowName, _Arrived] = {}
    for one in operations:
        changes = {
            column: (value, timestamp)
            for column, value in one.new.items()
            if column not in one.old or one.old[column] != value
        }
        known = arrived.get(one.name)
        if known is None:
            arrived[one.name] = _Arrived(
                changes, dict(one.old if one.kind == "DELETE" else one.new), one.tags, one.kind
            )
        else:
            known.kind = one.kind
            known.changes |= changes
            known.row |= {column: value for column, (value, _) in changes.items()}
    return arrived


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-be")
