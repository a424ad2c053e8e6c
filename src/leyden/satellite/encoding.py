"""Server → client messages: relations, transactions, initial rows and GONE batches, as payloads ready to send.

Everything here is a pure function of its arguments. A transaction's bytes depend only on the view
and on the dialect, so all connections with an equal feed share one encoding (docs/architecture.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

from leyden.model import (
    POSTGRES_ORIGIN,
    Change,
    Correction,
    CreateEnum,
    Delete,
    Gone,
    Insert,
    Migration,
    Row,
    Table,
    Update,
)
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import encode
from leyden.satellite.initial_rows import InsertEncoder
from leyden.satellite.migrations import Dialect, operations
from leyden.satellite.positions import Positions
from leyden.satellite.rows import RowEncoder
from leyden.shapes.sight import Sight
from leyden.shapes.view import View

#: Operations per SatOpLog. A transaction may span several; the client joins them.
OPERATIONS_PER_MESSAGE = 500

#: Bytes of operations after which a SatOpLog is ended early. One operation is never divided, whatever its size.
BYTES_PER_MESSAGE = 1 << 20

#: Rows per GONE batch: the published client joins a batch into one SQL expression, and SQLite refuses an expression
#: deeper than 1000 (docs/protocol.md).
GONE_BATCH_ROWS = 500


#: Time of what a client has missed: before any change of its own that it has not heard of yet. In the client the later
#: one wins, so its own stays in sight until the server has decided.
_LONG_AGO_MS = 0


@lru_cache(maxsize=4096)
def relation(table: Table) -> bytes:
    """The SatRelation payload of ``table``. The relation id is the table's oid, the same on every connection."""
    keys = frozenset(table.primary_key)
    message = pb.SatRelation(
        schema_name="public",
        table_type=pb.SatRelation.TABLE,
        table_name=table.name,
        relation_id=table.id,
        columns=[
            pb.SatRelationColumn(
                name=column.name,
                type=column.type,
                primaryKey=column.name in keys,
                is_nullable=not column.not_null,
            )
            for column in table.columns
        ],
    )
    return encode(message)


@lru_cache(maxsize=4096)
def _row_encoder(table: Table) -> RowEncoder:
    return RowEncoder(table)


@lru_cache(maxsize=4096)
def _insert_encoder(table: Table) -> InsertEncoder:
    return InsertEncoder(table)


def _chunks(operations: Iterable[pb.SatTransOp]) -> Iterator[bytes]:
    chunk: list[pb.SatTransOp] = []
    size = 0
    for operation in operations:
        chunk.append(operation)
        size += operation.ByteSize()
        if len(chunk) >= OPERATIONS_PER_MESSAGE or size >= BYTES_PER_MESSAGE:
            yield encode(pb.SatOpLog(ops=chunk))
            chunk, size = [], 0
    if chunk:
        yield encode(pb.SatOpLog(ops=chunk))


def _insert(table: Table, row: Row, tags: Sequence[str]) -> pb.SatTransOp:
    return pb.SatTransOp(insert=pb.SatOpInsert(relation_id=table.id, row_data=_row_encoder(table).full(row), tags=tags))


def _operation(change: Change | Gone) -> pb.SatTransOp:
    table = change.table
    rows = _row_encoder(table)
    match change:
        case Insert():
            return _insert(table, change.row, change.tags)
        case Update():
            update = pb.SatOpUpdate(
                relation_id=table.id,
                row_data=rows.full(change.new),
                old_row_data=rows.full(change.old),
                tags=change.tags,
            )
            return pb.SatTransOp(update=update)
        case Delete():
            # The whole row: a client with a pending change of it keeps the row, and rebuilds it from this image.
            delete = pb.SatOpDelete(relation_id=table.id, old_row_data=rows.full(change.old))
            return pb.SatTransOp(delete=delete)
        case Gone():
            return _gone(table, change.old)


def _gone(table: Table, row: Row) -> pb.SatTransOp:
    return pb.SatTransOp(gone=pb.SatOpGone(relation_id=table.id, pk_data=_row_encoder(table).key_only(row)))


def key_image(table: Table, key: Row) -> Row:
    """A row of which only the primary key is known."""
    row: list[bytes | None] = [None] * len(table.columns)
    for position, value in zip(table.key_positions, key, strict=True):
        row[position] = value
    return tuple(row)


def _correction(correction: Correction, view: View, sight: Sight) -> pb.SatTransOp:
    """What puts the author right. A row outside what it may see goes, whatever the truth about it is: naming a key in
    a refused write must not be a way to read it."""
    table = correction.table
    if correction.row is not None and view.holds(table, correction.row, sight.after):
        return _insert(table, view.shown(table, correction.row), correction.tags)
    return _gone(table, key_image(table, correction.key))


def _changed_tables(migration: Migration) -> list[Table]:
    final = {c.table.id: c.table for c in migration.changes if not isinstance(c, CreateEnum)}
    return list(final.values())


class Encoder:
    """Encodes for one epoch of positions."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions

    def migration(
        self, migration: Migration, dialect: Dialect, position: int, *, others_follow: bool = False
    ) -> list[bytes]:
        """``migration`` as a transaction of its own at ``position``, after the relations it changes. ``others_follow``
        at the same position: a client that drops before them still asks for them.

        Rows never share a transaction with DDL: the client skips a transaction whole, rows included, when it
        already has the migration's version (docs/protocol.md).
        """
        lsn = self._positions.encode(position, version=migration.version if others_follow else None)
        return self._migration(migration, dialect, lsn)

    def missed_migration(self, migration: Migration, dialect: Dialect, lsn: bytes) -> list[bytes]:
        """The same for a client that stays at ``lsn`` with it."""
        return self._migration(migration, dialect, lsn)

    @staticmethod
    def _migration(migration: Migration, dialect: Dialect, lsn: bytes) -> list[bytes]:
        begin = pb.SatOpBegin(
            commit_timestamp=migration.committed_at_ms,
            lsn=lsn,
            origin=POSTGRES_ORIGIN,
            is_migration=True,
            transaction_id=migration.xid,
        )
        commit = pb.SatOpCommit(commit_timestamp=migration.committed_at_ms, lsn=lsn)
        ops = [pb.SatTransOp(begin=begin)]
        ops += [pb.SatTransOp(migrate=operation) for operation in operations(migration, dialect)]
        ops.append(pb.SatTransOp(commit=commit))
        return [relation(table) for table in _changed_tables(migration)] + list(_chunks(ops))

    def transaction(self, sight: Sight, view: View, dialect: Dialect, *, for_author: bool = False) -> list[bytes]:
        """Payloads of a transaction for a client with ``view``; empty when nothing concerns it.

        The author always gets begin and commit, even with nothing between: that echo, with the client's own
        millisecond, is how it learns that its write was kept (docs/protocol.md). Corrections of a refused
        write go to the author only.
        """
        transaction = sight.transaction
        payloads: list[bytes] = []
        visible = view.changes(sight)
        rows_follow = bool(visible) or for_author
        migration = transaction.migration
        if migration is not None:
            # One below what follows, so that a client that drops after the migration still asks for the rows.
            position = transaction.position - 1 if rows_follow else transaction.position
            payloads += self.migration(migration, dialect, position)
        if not rows_follow:
            return payloads
        corrections = transaction.corrections if for_author else ()
        # A refused write may concern a table of which nothing was ever sent on this connection.
        unseen = dict.fromkeys(c.table for c in corrections if c.table.id not in view.tables)
        payloads += self.relations(unseen)
        payloads += _chunks(self._operations(sight, visible, corrections, view))
        return payloads

    def _operations(
        self,
        sight: Sight,
        visible: list[Change | Gone],
        corrections: Iterable[Correction],
        view: View,
    ) -> Iterator[pb.SatTransOp]:
        transaction = sight.transaction
        lsn = self._positions.encode(transaction.position)
        begin = pb.SatOpBegin(
            commit_timestamp=transaction.committed_at_ms,
            lsn=lsn,
            origin=transaction.origin or POSTGRES_ORIGIN,
            transaction_id=transaction.xid,
        )
        yield pb.SatTransOp(begin=begin)
        for change in visible:
            yield _operation(change)
        for correction in corrections:
            yield _correction(correction, view, sight)
        yield pb.SatTransOp(commit=pb.SatOpCommit(commit_timestamp=transaction.committed_at_ms, lsn=lsn))

    @staticmethod
    def relations(tables: Iterable[Table]) -> list[bytes]:
        """Announcements of ``tables``: needed anew on each connection before the first operation on a table."""
        return [relation(table) for table in tables]

    # ---- initial data ------------------------------------------------------------------------------------------

    def subscription_begin(self, subscription_id: str, position: int, cancellation: int) -> bytes:
        """Opens a delivery. The client persists ``position``, and what it has been told there, as its resume point."""
        lsn = self._positions.encode(position, cancellation=cancellation)
        return encode(pb.SatSubsDataBegin(subscription_id=subscription_id, lsn=lsn))

    @staticmethod
    def shape_begin(request_id: str) -> bytes:
        return encode(pb.SatShapeDataBegin(request_id=request_id))

    @staticmethod
    def initial_rows(table: Table, rows: Sequence[tuple[Row, tuple[str, ...]]]) -> list[bytes]:
        """Inserts without begin and commit, as the client expects them inside a delivery.

        Messages are as large as :data:`OPERATIONS_PER_MESSAGE` rows make them: who reads rows limits their bytes.
        """
        encoder = _insert_encoder(table)
        starts = range(0, len(rows), OPERATIONS_PER_MESSAGE)
        return [encoder.message(rows[start : start + OPERATIONS_PER_MESSAGE]) for start in starts]

    SHAPE_END = encode(pb.SatShapeDataEnd())
    SUBSCRIPTION_END = encode(pb.SatSubsDataEnd())

    # ---- repair ------------------------------------------------------------------------------------------------

    def lsn(self, position: int) -> bytes:
        return self._positions.encode(position)

    @staticmethod
    def repair_begin(lsn: bytes, xid: int) -> bytes:
        """Opens a transaction of what the client has missed; with it, the client has come to ``lsn``."""
        begin = pb.SatOpBegin(commit_timestamp=_LONG_AGO_MS, lsn=lsn, origin=POSTGRES_ORIGIN, transaction_id=xid)
        return encode(pb.SatOpLog(ops=[pb.SatTransOp(begin=begin)]))

    @staticmethod
    def repair_end(lsn: bytes) -> bytes:
        return encode(pb.SatOpLog(ops=[pb.SatTransOp(commit=pb.SatOpCommit(commit_timestamp=_LONG_AGO_MS, lsn=lsn))]))

    @staticmethod
    def gone(rows: Iterable[tuple[Table, Row]]) -> list[bytes]:
        """Within a transaction: rows to drop, by their keys."""
        return list(_chunks(_gone(table, key_image(table, key)) for table, key in rows))

    # ---- GONE --------------------------------------------------------------------------------------------------

    def gone_batches(
        self,
        subscription_ids: Sequence[str],
        position: int,
        rows: Iterable[tuple[Table, Row]],
        *,
        before: int,
        cancellation: int,
    ) -> Iterator[list[bytes]]:
        """Batches of at most :data:`GONE_BATCH_ROWS` rows; only the last names ``subscription_ids`` and their
        ``cancellation``, the others the one ``before``.

        There is always a last one, even without rows: until it comes, the client keeps the subscription in the
        state "cancelling".
        """
        remaining = iter(rows)
        batch = list(islice(remaining, GONE_BATCH_ROWS))
        while True:
            following = list(islice(remaining, GONE_BATCH_ROWS))
            ids = subscription_ids if not following else ()
            lsn = self._positions.encode(position, cancellation=before if following else cancellation)
            payloads = [encode(pb.SatUnsubsDataBegin(subscription_ids=ids, lsn=lsn))]
            payloads += _chunks(_gone(table, row) for table, row in batch)
            payloads.append(encode(pb.SatUnsubsDataEnd()))
            yield payloads
            if not following:
                return
            batch = following
