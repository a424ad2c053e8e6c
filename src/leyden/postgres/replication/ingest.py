"""From pgoutput messages to :class:`~leyden.model.Transaction`.

Owns what a commit means: whose it is, at which millisecond, which tags its rows carry, how the description of
a table changes along the stream. Pure but for the facts it emits: it opens no socket and runs no query,
because what the stream announces may not be visible to any other connection yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType
from typing import Any, Final

from leyden import model
from leyden.events import Emit, MigrationSeen, TableSuspended, TableTakenUp
from leyden.memo import Memo
from leyden.model import (
    EPOCH_TAG,
    POSTGRES_ORIGIN,
    AddColumns,
    CreateIndex,
    CreateTable,
    Migration,
    Row,
    Suspension,
    Table,
)
from leyden.postgres.catalog import migration_from_json, suspension_from_json
from leyden.postgres.replication import pgoutput
from leyden.postgres.replication.announcement import RIGHTS_PREFIX, TRANSACTION_PREFIX, Announcement
from leyden.postgres.replication.pgoutput import UNCHANGED, DecodeError, Values
from leyden.postgres.replication.relations import NO_COLUMNS, Relations, Source, with_columns
from leyden.postgres.tag_text import parse_key, parse_tags

#: Bytes that Python adds to each value held: the header of ``bytes`` (33) and the tuple's pointer to it (8).
_VALUE_OVERHEAD = 41
#: Likewise for each change: the change, its row tuples and its tags.
_CHANGE_OVERHEAD = 250

#: Changes assembled between two chances for the event loop to serve somebody else.
_SLICE = 256

_INSERT: Final = 0
_UPDATE: Final = 1
_DELETE: Final = 2
_TRUNCATE: Final = 3

#: How to end what the stream showed, as long as the catalog was not asked.
_REMEDY = "undo that, or CALL electric.electrify('{}') after columns were added"

#: An empty ``text[]`` as Postgres prints it.
_NO_TAGS: Final = b"{}"

_POSTGRES_TAG_PREFIX = f"{POSTGRES_ORIGIN}@"

#: The tags of a row, and the greatest millisecond at which Postgres itself wrote by these; 0 if it is not among them.
_Tags = tuple[tuple[str, ...], int]

#: Of a row that was never written since its table was electrified.
_EPOCH_TAGS: Final[_Tags] = ((EPOCH_TAG,), 0)

#: Texts of tags that are remembered, and the longest of them (bytes): a row can have a great many tags.
_REMEMBERED_TAGS: Final = 256
_LONGEST_REMEMBERED: Final = 1024

#: Of a table of which the transaction wrote no tags.
_NONE_WRITTEN: Final[Mapping[Row, _Tags]] = MappingProxyType({})

#: Prefix of the message that makes of its transaction one of the log, though nothing may have been written.
MOMENT_PREFIX = "leyden.moment"

#: A change as it arrived: kind, where it comes from, old and new values in the order of the Relation message.
_RawChange = tuple[int, Source, Values, Values]


class Ingest:
    """Collects the messages of one transaction at a time and assembles it at its commit.

    ``tables`` and ``migrations`` are the state read from the database at some moment T, and are kept current
    from the stream afterwards, in place, at the end of each :meth:`assemble`. ``suspended`` are the tables of which
    nothing was to be delivered at T. The stream may begin before T (a
    replay of the window): versions known at T are then seen again and change nothing, and the rows before them
    come with the table as it was. It does not bring those up to the version ``passed`` again. Call :meth:`caught_up`
    once the stream has passed T.
    ``next_xid`` is the 64-bit ``xmax`` of ``pg_current_snapshot()``; it widens the stream's 32-bit ids.
    ``announcements`` is the prefix of the messages that name authors.
    """

    def __init__(
        self,
        tables: dict[int, Table],
        migrations: list[Migration],
        *,
        next_xid: int,
        emit: Emit,
        passed: str = "",
        announcements: str = TRANSACTION_PREFIX,
        suspended: Mapping[int, Suspension] = MappingProxyType({}),
        on_migration: Callable[[Migration], None] | None = None,
        on_suspended: Callable[[Table], None] = lambda table: None,
        on_rights: Callable[[int], None] = lambda xid: None,
    ) -> None:
        """``on_suspended`` is called as soon as a table is found suspended, before anything else of the transaction
        that shows it is known to others; ``on_rights`` likewise, with the id of one that may change policies or
        privileges."""
        self.tables = tables
        self.migrations = migrations
        #: Newest WAL position up to which every transaction has been received.
        self.position = 0
        #: Tables whose rows are no longer delivered, with the reason. What came between is missing when they are
        #: delivered again.
        self.stopped: dict[int, Suspension] = {}
        #: By table, the position up to which something of it may be missing.
        self.reopened: dict[int, int] = {}
        #: Whether a table was announced since somebody last asked: Postgres does so after each change of it.
        self.announced = False
        self._emit = emit
        self._announcements = announcements
        self._on_migration = on_migration
        self._on_suspended = on_suspended
        self._on_rights = on_rights
        self._rights_prefix = announcements.replace(TRANSACTION_PREFIX, RIGHTS_PREFIX, 1)
        self._xid_reference = next_xid
        self._known_versions = {migration.version for migration in migrations}
        #: Columns by table whose addition is known from the database and is still to come by in the stream.
        self._columns_to_come: dict[int, frozenset[str]] = {}
        for migration in (one for one in migrations if one.version > passed):
            for table_id, columns in _added_columns(migration).items():
                self._columns_to_come[table_id] = self._columns_to_come.get(table_id, NO_COLUMNS) | columns
        #: The tables as given, until the stream has passed that moment: one that was given up and enabled again
        #: before it comes back so.
        self._tables_to_come = dict(tables)
        #: ``tables`` as they are after the transaction at work: the same object, or a changed copy.
        self._described = tables
        self._relations = Relations()
        self._begin: pgoutput.Begin | None = None
        self._end_lsn = 0
        self._received = 0
        self._changes: list[_RawChange] = []
        #: The tags that the transaction gave to rows, by the table's id and the key; the last ones count.
        self._tags: dict[bytes, dict[Row, _Tags]] = {}
        #: By their text. What is written at once, and much of what is written in a millisecond, has equal ones.
        self._tags_of = Memo(_read_tags, _REMEMBERED_TAGS)
        #: Last versions of the rows whose state this transaction left without tags, as JSON.
        self._dead: dict[tuple[bytes, bytes], Any] = {}
        self._version: tuple[bytes, bytes] | None = None
        #: Tables enabled (``True``) and given up (``False``) by the transaction; what happened last counts.
        self._enabled: dict[int, bool] = {}
        #: Tables that it suspends.
        self._suspended: dict[int, Suspension] = {}
        self._announcement: Announcement | None = None
        #: Whether it has a place in the log though it changes nothing.
        self._is_moment = False
        for table_id, suspension in suspended.items():
            self._suspend(table_id, suspension)

    def start_session(self) -> None:
        """A new replication session: Relation messages come anew, and a transaction cut off comes again
        whole."""
        self._relations = Relations()
        self._clear()

    def caught_up(self) -> None:
        """The stream has passed the moment at which ``tables`` was read: no known column is still to come."""
        self._columns_to_come.clear()
        self._tables_to_come.clear()

    def advance(self, wal_position: int) -> None:
        """A keepalive: nothing is left to send up to ``wal_position``. Ignored inside a transaction."""
        if self._begin is None and wal_position > self.position:
            self.position = wal_position

    def feed(self, data: bytes) -> bool:
        """Take one message. True when it completed a transaction: then run :meth:`assemble` before the next.

        Raises :class:`~leyden.postgres.replication.pgoutput.DecodeError`.
        """
        message = pgoutput.decode(data)
        if isinstance(message, pgoutput.Insert):
            self._collect_insert(message)
            self._received += len(data)
        elif isinstance(message, pgoutput.Begin):
            self._clear()
            self._begin = message
        elif isinstance(message, pgoutput.Commit):
            if self._begin is None or message.lsn != self._begin.final_lsn:
                raise DecodeError("commit without its begin")
            self._end_lsn = message.end_lsn
            return True
        elif isinstance(message, pgoutput.Update):
            self._collect_update(message)
            self._received += len(data)
        elif isinstance(message, pgoutput.Delete):
            self._collect_delete(message)
            self._received += len(data)
        elif isinstance(message, pgoutput.Relation):
            self._relations.learn(message)
            self.announced = self.announced or message.id in self.tables
        elif isinstance(message, pgoutput.Type):
            self._relations.learn_type(message)
        elif isinstance(message, pgoutput.Truncate):
            for relation_id in message.relation_ids:
                source = self._relations[relation_id]
                if source.role == "rows":
                    self._collect_truncate(source)
        elif isinstance(message, pgoutput.LogicalMessage):
            self._take_message(message)
        # Origin is of no use: what a subscription of Postgres wrote fans out like anything else.
        return False

    # ---- collecting ----------------------------------------------------------------------------------------

    def _clear(self) -> None:
        self._begin = None
        self._end_lsn = 0
        self._received = 0
        self._changes = []
        self._tags = {}
        self._dead = {}
        self._version = None
        self._enabled = {}
        self._suspended = {}
        self._described = self.tables
        self._announcement = None
        self._is_moment = False

    def _collect_insert(self, message: pgoutput.Insert) -> None:
        source = self._relations[message.relation_id]
        if source.role == "rows":
            self._changes.append((_INSERT, source, (), message.new))
        elif source.role == "row_state":
            self._collect_row_state(source, message.new)
        elif source.role == "versions":
            self._collect_version(source, message.new)
        elif source.role == "tables":
            self._collect_enabled(source, message.new, enabled=True)

    def _collect_update(self, message: pgoutput.Update) -> None:
        source = self._relations[message.relation_id]
        new = message.new
        if source.role == "rows":
            if message.old is None or message.old_is_key:
                self._stop(source, "its replica identity is not FULL")
                return
            if UNCHANGED in new:
                new = tuple(
                    before if after is UNCHANGED else after for before, after in zip(message.old, new, strict=True)
                )
            self._changes.append((_UPDATE, source, message.old, new))
        elif source.role == "row_state":
            self._collect_row_state(source, new)
        elif source.role == "versions":
            self._collect_version(source, new)
        elif source.role == "tables":
            self._collect_suspended(source, new)

    def _collect_delete(self, message: pgoutput.Delete) -> None:
        source = self._relations[message.relation_id]
        if source.role == "rows":
            if message.old_is_key:
                self._stop(source, "its replica identity is not FULL")
                return
            self._changes.append((_DELETE, source, message.old, ()))
        elif source.role == "tables":
            self._collect_enabled(source, message.old, enabled=False)
        # A state row deleted is one collected as garbage: its row is long gone.

    def _collect_truncate(self, source: Source) -> None:
        """The trigger has emptied the state of every row just before; it is what names them."""
        table_id = str(source.relation.id).encode("ascii")
        emptied = [(key, dead) for (table, key), dead in self._dead.items() if table == table_id]
        self._changes.append((_TRUNCATE, source, tuple(key for key, _ in emptied), tuple(dead for _, dead in emptied)))

    def _collect_row_state(self, source: Source, new: Values) -> None:
        table_id, key, tags, dead = source.state(new)
        # Tags are kept inline (storage MAIN): they come unchanged only if this update did not write them.
        if isinstance(table_id, bytes) and isinstance(key, bytes) and isinstance(tags, bytes):
            of_table = self._tags.get(table_id)
            if of_table is None:
                of_table = self._tags[table_id] = {}
            known = len(tags) <= _LONGEST_REMEMBERED
            of_table[parse_key(key)] = self._tags_of[tags] if known else _read_tags(tags)
            if tags == _NO_TAGS:
                self._dead[table_id, key] = dead
            elif self._dead:
                self._dead.pop((table_id, key), None)

    def _collect_version(self, source: Source, new: Values) -> None:
        """A transaction has one row of ``leyden.versions`` at most; its last image counts."""
        version, changes = (new[position] for position in source.version_positions)
        if changes is UNCHANGED and self._version is not None:
            changes = self._version[1]
        if isinstance(version, bytes) and isinstance(changes, bytes):
            self._version = (version, changes)

    def _collect_enabled(self, source: Source, values: Values, *, enabled: bool) -> None:
        """A row of ``leyden.tables`` came or went: a table was enabled or given up."""
        table_id = values[source.id_position]
        if isinstance(table_id, bytes):
            self._enabled[int(table_id)] = enabled

    def _collect_suspended(self, source: Source, values: Values) -> None:
        """A row of ``leyden.tables`` changed. That a suspension ends is told by the migration that goes with it."""
        if source.suspended_position is None:
            return
        table_id, suspended = values[source.id_position], values[source.suspended_position]
        if isinstance(table_id, bytes) and isinstance(suspended, bytes):
            self._suspended[int(table_id)] = suspension_from_json(json.loads(suspended))
        elif isinstance(table_id, bytes) and suspended is None:
            self._suspended.pop(int(table_id), None)

    def _take_message(self, message: pgoutput.LogicalMessage) -> None:
        if not message.transactional:
            self.advance(message.lsn)
        elif message.prefix == self._rights_prefix:
            assert self._begin is not None
            self._on_rights(self._widen(self._begin.xid))
        elif message.prefix == MOMENT_PREFIX:
            self._is_moment = True
        elif message.prefix == self._announcements and self._announcement is None:
            self._received += len(message.content)
            self._announcement = Announcement.parse(message.content)

    # ---- assembling ----------------------------------------------------------------------------------------

    def assemble(self) -> Generator[None, None, tuple[model.Transaction, int] | None]:
        """The transaction just completed and its size in bytes, or ``None`` when it concerns nobody.

        A generator, so that a huge commit can be spread over several turns of the event loop: it yields
        nothing, every few hundred changes. The next message must not be fed before it has ended.
        """
        begin = self._begin
        if begin is None:
            raise RuntimeError("no transaction to assemble")
        migration = self._read_version(begin)
        if migration is not None or self._enabled:
            self._describe(migration)
        for table_id, suspension in self._suspended.items():
            self._suspend(table_id, suspension)
        added = {} if migration is None else _added_columns(migration)
        tags_of: dict[int, Mapping[Row, _Tags]] = {}
        postgres_ms = 0
        for table_id_text, of_table in self._tags.items():
            tags_of[int(table_id_text)] = of_table
            for count, (_, ms) in enumerate(of_table.values(), 1):
                if not count % _SLICE:
                    yield
                if ms > postgres_ms:
                    postgres_ms = ms
        changes: list[model.Change] = []
        size = self._received
        source_before: Source | None = None
        table: Table | None = None
        for count, (kind, source, old_values, new_values) in enumerate(self._changes, 1):
            if not count % _SLICE:
                yield
            if source is not source_before:
                source_before = source
                table = self._table_of(source, added)
                written = _NONE_WRITTEN if table is None else tags_of.get(table.id, _NONE_WRITTEN)
            if table is None:
                continue
            size += _CHANGE_OVERHEAD + _VALUE_OVERHEAD * (len(old_values) + len(new_values))
            if kind == _INSERT:
                new = source.row(new_values)
                tags, _ = written.get(table.key_of(new), _EPOCH_TAGS)
                changes.append(model.Insert(table, new, tags))
            elif kind == _DELETE:
                changes.append(model.Delete(table, source.row(old_values)))
            elif kind == _UPDATE:
                old = source.row(old_values)
                new = source.row(new_values)
                key = table.key_of(new)
                tags, _ = written.get(key, _EPOCH_TAGS)
                if key == table.key_of(old):
                    changes.append(model.Update(table, old, new, tags))
                else:
                    changes.append(model.Delete(table, old))
                    changes.append(model.Insert(table, new, tags))
            else:
                size += _CHANGE_OVERHEAD * len(old_values)
                for number, (name, dead) in enumerate(zip(old_values, new_values, strict=True), 1):
                    if not number % _SLICE:
                        yield
                    if isinstance(name, bytes):
                        changes.append(model.Delete(table, _last_version(table, name, dead)))
        announcement = self._announcement
        transaction: model.Transaction | None = None
        if changes or migration is not None or announcement is not None or self._is_moment:
            transaction = model.Transaction(
                position=self._end_lsn,
                xid=self._widen(begin.xid),
                committed_at_ms=announcement.ms if announcement else max(begin.committed_at_ms, postgres_ms),
                origin=announcement.client if announcement else None,
                changes=tuple(changes),
                migration=migration,
                corrections=self._corrections(announcement) if announcement else (),
            )
        if migration is not None or self._enabled:
            self._adopt(migration)
        self.position = max(self.position, self._end_lsn)
        self._clear()
        return None if transaction is None else (transaction, size)

    def _table_of(self, source: Source, added: Mapping[int, frozenset[str]]) -> Table | None:
        """The table the rows of ``source`` belong to as described at this point of the stream; ``None`` if it is not
        to be delivered. ``added`` are the columns that the transaction itself adds, by table id."""
        described = self._described.get(source.relation.id)
        if described is None or described.id in self.stopped:
            return None
        later = self._columns_to_come.get(described.id, NO_COLUMNS)
        added_here = added.get(described.id, NO_COLUMNS)
        table = source.bound(described, later, added_here)
        if table is not None:
            return table
        bound = source.bind(described, later, added_here, self._relations.type_names)
        if isinstance(bound, str):
            self._stop(source, bound)
            return None
        return bound

    def _stop(self, source: Source, reason: str) -> None:
        table = self._described.get(source.relation.id)
        if table is not None and table.id not in self.stopped:
            self._suspend(table.id, Suspension(reason, _REMEDY.format(table.name)))

    def _suspend(self, table_id: int, suspension: Suspension) -> None:
        table = self._described.get(table_id)
        known = self.stopped.get(table_id)
        if table is None or known == suspension:
            return
        self.stopped[table_id] = suspension
        self._emit(TableSuspended(table.name, suspension.reason, suspension.remedy))
        if known is None:
            self._on_suspended(table)

    # ---- descriptions --------------------------------------------------------------------------------------

    def _read_version(self, begin: pgoutput.Begin) -> Migration | None:
        """The migration this transaction announces."""
        if self._version is None:
            return None
        version, document = self._version
        return migration_from_json(
            version.decode(), self._widen(begin.xid), begin.committed_at_ms, json.loads(document)
        )

    def _describe(self, migration: Migration | None) -> None:
        """Bring the descriptions to where this transaction leaves them, for its own rows.

        Others see them only when it is assembled: what is known and what the log holds then change together.
        """
        if migration is not None:
            for table_id, columns in _added_columns(migration).items():
                remaining = self._columns_to_come.pop(table_id, NO_COLUMNS) - columns
                if remaining:
                    self._columns_to_come[table_id] = remaining
            for change in migration.changes:
                if isinstance(change, CreateTable) or (isinstance(change, AddColumns) and change.reopens):
                    if self.stopped.pop(change.table.id, None) is not None:
                        self._emit(TableTakenUp(change.table.name))
                    if isinstance(change, AddColumns):
                        self.reopened[change.table.id] = self._end_lsn
        new = migration is not None and migration.version not in self._known_versions
        if not (new or self._enabled):
            return
        self._described = dict(self.tables)
        for table_id, enabled in self._enabled.items():
            if not enabled:
                self._described.pop(table_id, None)
                self.stopped.pop(table_id, None)
            elif table_id in self._tables_to_come:
                self._redescribe(self._tables_to_come[table_id])
        if migration is not None and new:
            for change in migration.changes:
                if isinstance(change, CreateTable | AddColumns | CreateIndex):
                    self._redescribe(change.table)

    def _adopt(self, migration: Migration | None) -> None:
        """What the assembled transaction says of the schema holds for everybody from now on."""
        if self._described is not self.tables:
            for table_id in self.tables.keys() - self._described.keys():
                del self.tables[table_id]
            self.tables.update(self._described)
        if migration is not None and migration.version not in self._known_versions:
            self._known_versions.add(migration.version)
            self.migrations.append(migration)
            self._emit(MigrationSeen(migration.version))
            if self._on_migration is not None:
                self._on_migration(migration)

    def _redescribe(self, table: Table) -> None:
        tables = self._described
        for other in [one.id for one in tables.values() if one.name == table.name and one.id != table.id]:
            del tables[other]  # dropped, and made again under its old name
        tables[table.id] = table

    def _corrections(self, announcement: Announcement) -> tuple[model.Correction, ...]:
        corrections = []
        for table_id, key, row, tags in announcement.corrections:
            table = self._described.get(table_id)
            if table is None or table_id in self.stopped:
                continue
            # Clients do not know columns that the stream has not brought yet, also where no row is told.
            later = self._columns_to_come.get(table_id, NO_COLUMNS)
            table = with_columns(table, [column for column in table.columns if column.name not in later])
            if row is not None:
                # It may have been read when the table had fewer columns; later ones are only ever appended.
                row = (row + tuple(column.unset for column in table.columns[len(row) :]))[: len(table.columns)]
            corrections.append(model.Correction(table, key, row, tags))
        return tuple(corrections)

    def _widen(self, xid: int) -> int:
        """The 64-bit id with these low 32 bits that is nearest to the newest one seen.

        Right as long as less than 2^31 ids lie between, which Postgres itself cannot exceed.
        """
        distance = (xid - self._xid_reference + 0x8000_0000) % 0x1_0000_0000 - 0x8000_0000
        wide = self._xid_reference + distance
        if wide < 0:
            return wide + 0x1_0000_0000
        self._xid_reference = max(self._xid_reference, wide)
        return wide


def _read_tags(text: bytes) -> _Tags:
    tags = parse_tags(text)
    prefix = _POSTGRES_TAG_PREFIX
    return tags, max((int(tag[len(prefix) :]) for tag in tags if tag.startswith(prefix)), default=0)


def _added_columns(migration: Migration) -> dict[int, frozenset[str]]:
    """The columns that ``migration`` adds to tables which clients have already, by table id."""
    columns: dict[int, frozenset[str]] = {}
    for change in migration.changes:
        if isinstance(change, AddColumns) and change.columns:
            columns[change.table.id] = columns.get(change.table.id, NO_COLUMNS) | set(change.columns)
    return columns


def _last_version(table: Table, key: bytes, dead: object) -> Row:
    """A row as its state remembers it: ``dead`` is its JSON. Without that only the primary key is known."""
    row: list[bytes | None] = [None] * len(table.columns)
    if isinstance(dead, bytes):
        values = json.loads(dead)
        row = [None if (value := values.get(c.name)) is None else value.encode() for c in table.columns]
    for position, value in zip(table.key_positions, parse_key(key), strict=True):
        row[position] = value
    return tuple(row)
