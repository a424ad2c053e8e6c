"""A slow second opinion on conflict resolution, written from its rules and from nothing of the product.

Of each row it keeps the list of everything that happened to it. Tags and clocks are worked out from the whole list each
time they are asked for, by the sentences that define them. Foreign keys act as the SQL standard says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

Values = Mapping[str, str | None]

#: Table and key.
RowName = tuple[str, str]


@dataclass(frozen=True)
class Stamp:
    """When a write was made and by whom; ``None`` is Postgres."""

    ms: int
    author: str | None

    def __str__(self) -> str:
        return f"{self.author or 'postgres_1'}@{self.ms}"


EPOCH = Stamp(0, None)


def beats(one: Stamp, other: Stamp) -> bool:
    """The later one does; at the same millisecond Postgres, then the id that JavaScript finds greater."""
    if one.ms != other.ms:
        return one.ms > other.ms
    if one.author is None or other.author is None:
        return one.author is None and other.author is not None
    return one.author.encode("utf-16-be") > other.author.encode("utf-16-be")


@dataclass(frozen=True)
class Event:
    """Something that happened to a row. ``stamp`` is ``None`` for a deletion, which leaves no tag; ``observed`` is
    ``None`` for Postgres, which sees everything. ``written`` are the columns whose values it meant to write."""

    values: Values
    written: frozenset[str]
    observed: frozenset[Stamp] | None
    stamp: Stamp | None

    def saw(self, stamp: Stamp) -> bool:
        return self.observed is None or stamp in self.observed


class History:
    """One row. ``columns`` are those outside its key."""

    def __init__(self, columns: Iterable[str], before: Values | None = None) -> None:
        self.columns = tuple(columns)
        #: A row older than electrification is as if Postgres had written it at the epoch, but none of its columns.
        self.origin = () if before is None else (Event(before, frozenset(), None, EPOCH),)
        self.events: list[Event] = [*self.origin]

    def tags(self, count: int | None = None) -> set[Stamp]:
        """Of the first ``count`` events: the stamps that no later event saw."""
        events = self.events[:count]
        return {
            event.stamp
            for number, event in enumerate(events, 1)
            if event.stamp is not None and not any(later.saw(event.stamp) for later in events[number:])
        }

    def clock(self, column: str, count: int | None = None) -> Stamp | None:
        """The greatest stamp that wrote the column."""
        greatest: Stamp | None = None
        for event in self.events[:count]:
            if event.stamp is not None and column in event.written and not (greatest and beats(greatest, event.stamp)):
                greatest = event.stamp
        return greatest

    def clocks(self) -> dict[str, Stamp]:
        return {column: stamp for column in self.columns if (stamp := self.clock(column)) is not None}

    def versions(self) -> tuple[Values | None, Values | None]:
        """The row, and the last version of it that died."""
        row: Values | None = None
        dead: Values | None = None
        for count, event in enumerate(self.events, 1):
            if not self.tags(count):
                row, dead = None, dead if row is None else row
            elif event.observed is None:
                row = event.values
            else:
                base = row or dead or event.values
                won = {column for column in event.written if self.clock(column, count) == event.stamp}
                row = {name: (event.values if name in won else base)[name] for name in event.values}
        return row, dead

    @property
    def row(self) -> Values | None:
        return self.versions()[0]


@dataclass(frozen=True)
class Reference:
    column: str
    parent: str
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"


@dataclass(frozen=True)
class TableRules:
    """``columns`` are those outside the key, which is called ``id``."""

    columns: tuple[str, ...]
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True)
class Operation:
    """What a client asks of a row: ``insert``, ``update``, ``delete`` or ``compensate``."""

    kind: str
    table: str
    key: str
    old: Values = field(default_factory=dict)
    new: Values = field(default_factory=dict)
    observed: frozenset[Stamp] = frozenset()


class Refused(Exception):
    """A foreign key would not hold. Nothing of the transaction has happened."""


class Model:
    """A database of rows that clients and Postgres write to."""

    def __init__(self, tables: Mapping[str, TableRules]) -> None:
        self.tables = tables
        self.histories: dict[RowName, History] = {}

    def row(self, name: RowName) -> Values | None:
        history = self.histories.get(name)
        return None if history is None else history.row

    def living(self, table: str) -> list[str]:
        return sorted(key for (of, key), history in self.histories.items() if of == table and history.row is not None)

    # ---- clients -------------------------------------------------------------------------------------------------

    def upload(self, client: str, ms: int, operations: Iterable[Operation], now: int) -> None:
        """``now`` is when Postgres began the transaction: what follows by foreign keys is its own doing.

        Raises Refused.
        """
        with self.transaction():
            for operation in operations:
                self._run(operation, Stamp(ms, client), now)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it happens, or nothing."""
        known = {name: len(history.events) for name, history in self.histories.items()}
        try:
            yield
        except BaseException:
            for name, history in list(self.histories.items()):
                del history.events[known.get(name, 0) :]
                if name not in known:
                    del self.histories[name]
            raise

    def _run(self, operation: Operation, stamp: Stamp, now: int, climbing: frozenset[RowName] = frozenset()) -> None:
        name = operation.table, operation.key
        rules = self.tables[operation.table]
        history = self.histories.setdefault(name, History(rules.columns))
        before, dead = history.versions()
        full = {"id": operation.key, **dict.fromkeys(rules.columns), **(operation.new or operation.old)}
        match operation.kind:
            case "insert":
                written = frozenset(rules.columns)
            case "update":
                written = frozenset(c for c in rules.columns if operation.new[c] != operation.old[c])
            case _:
                written = frozenset()
        observed, left = operation.observed, None if operation.kind == "delete" else stamp
        history.events.append(Event(full, written, observed, left))
        after = history.row
        if before is None and after is not None and dead is not None:
            # Brought back: so is what it refers to, and what that refers to.
            for parent in self._references(operation.table, after):
                row, last = self.histories[parent].versions() if parent in self.histories else (None, None)
                if row is None and last is not None and parent not in climbing:
                    self._run(Operation("compensate", *parent), stamp, now, climbing | {name})
        if after is not None:
            self._check(operation.table, after)
        elif before is not None:
            self._follow_deletion(name, now)

    # ---- Postgres ------------------------------------------------------------------------------------------------

    def write(self, name: RowName, values: Values, now: int) -> None:
        """An INSERT or UPDATE, of which ``values`` is the outcome."""
        table, key = name
        rules = self.tables[table]
        history = self.histories.setdefault(name, History(rules.columns))
        before = history.row
        if before is None or len(history.events) == len(history.origin):
            changed = frozenset(rules.columns)
        else:
            changed = frozenset(column for column in rules.columns if values[column] != before[column])
        self._stamp(history, {"id": key, **values}, changed, now)

    def delete(self, name: RowName, now: int) -> None:
        self._bury(name)
        self._follow_deletion(name, now)

    def rename(self, name: RowName, key: str, now: int) -> None:
        """An UPDATE of the key: the one row dies, the other is born."""
        table, old_key = name
        values = self.row(name)
        assert values is not None
        self._bury(name)
        self.write((table, key), {c: values[c] for c in self.tables[table].columns}, now)
        for child, reference, row in list(self._children(table, old_key)):
            if reference.on_update != "CASCADE":
                raise Refused
            self.write(child, {**_without_key(row), reference.column: key}, now)

    def truncate(self, table: str) -> None:
        for key in self.living(table):
            self._bury((table, key))

    def _bury(self, name: RowName) -> None:
        self.histories[name].events.append(Event({}, frozenset(), None, None))

    def _stamp(self, history: History, values: Values, changed: frozenset[str], now: int) -> None:
        """Postgres beats every clock the row has."""
        ms = max([now, *(stamp.ms for stamp in history.clocks().values())])
        history.events.append(Event(values, changed, None, Stamp(ms, None)))

    # ---- foreign keys --------------------------------------------------------------------------------------------

    def _references(self, table: str, row: Values) -> Iterator[RowName]:
        for reference in self.tables[table].references:
            key = row[reference.column]
            if key is not None:
                yield reference.parent, key

    def _children(self, table: str, key: str) -> Iterator[tuple[RowName, Reference, Values]]:
        for of, rules in self.tables.items():
            for reference in rules.references:
                if reference.parent == table:
                    for child in self.living(of):
                        row = self.row((of, child))
                        assert row is not None
                        if row[reference.column] == key:
                            yield (of, child), reference, row

    def _check(self, table: str, row: Values) -> None:
        if any(self.row(parent) is None for parent in self._references(table, row)):
            raise Refused

    def _follow_deletion(self, name: RowName, now: int) -> None:
        for child, reference, row in list(self._children(*name)):
            match reference.on_delete:
                case "CASCADE":
                    self._bury(child)
                    self._follow_deletion(child, now)
                case "SET NULL":
                    self.write(child, {**_without_key(row), reference.column: None}, now)
                case _:
                    raise Refused


def _without_key(row: Values) -> Values:
    return {name: value for name, value in row.items() if name != "id"}
