"""Client → server: SatRelation and SatOpLog become :class:`leyden.model.Upload`.

Parses, bounds and types every byte. What is no upload at all ends the conversation. One that is well formed but cannot
be applied comes out with its flaw, so that it is refused alone: the client goes offline for good otherwise, and sends
it again whenever it is started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

from leyden.model import (
    ClientChange,
    ClientCompensation,
    ClientDelete,
    ClientInsert,
    ClientUpdate,
    Flaw,
    Suspension,
    Table,
    Upload,
)
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.rows import InvalidRow, unpack
from leyden.satellite.values import InvalidValue, parser_for

MAX_RELATIONS = 10_000
MAX_TAGS = 10_000
#: Changes of one transaction. It may span messages, so the limit on a message's size does not bound it.
MAX_CHANGES = 500_000
MAX_TIMESTAMP_MS = 253_402_300_799_999  # end of year 9999

#: SQLSTATE of a value that cannot be used (``data_exception``), and of a table that is not there.
_BAD_VALUE = "22000"
_NO_TABLE = "42P01"

#: Of a table that is suspended (``object_not_in_prerequisite_state``).
_NOT_NOW = "55000"


class _HasFields(Protocol):
    def HasField(self, field_name: Any, /) -> bool: ...


class InvalidUpload(Exception):
    """A client broke the upload rules. ``message`` may be told to it; ``lsn`` is its transaction, when known."""

    def __init__(self, message: str = "unexpected error", lsn: bytes | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.lsn = lsn


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    parse: Callable[[bytes], bytes]
    #: Whether NULL can only mean that the client did not know the column when it wrote the row: it has a default and
    #: takes no NULL. What waits to be sent while a column comes has NULL there.
    null_is_unset: bool
    #: Of a value that does not parse.
    flaw: Flaw


@dataclass(frozen=True, slots=True)
class _Relation:
    table: Table
    columns: tuple[_Column, ...]
    #: Of every change.
    flaw: Flaw | None


class UploadDecoder:
    """Reads one client's upload stream; holds its relations and the transaction under way."""

    def __init__(self, client_id: str, user_id: str) -> None:
        self._client_id = client_id
        self._user_id = user_id
        self._relations: dict[int, _Relation] = {}
        self._begin: tuple[bytes, int] | None = None
        self._changes: list[ClientChange] = []
        #: The first one of the transaction under way.
        self._flaw: Flaw | None = None

    def relation(
        self,
        message: pb.SatRelation,
        tables: Mapping[str, Table],
        given_up: Mapping[str, Table] = MappingProxyType({}),
        suspended: Mapping[str, Suspension] = MappingProxyType({}),
    ) -> None:
        """Takes a table announcement; ``tables`` are the electrified tables by name, ``given_up`` those that clients
        have from an earlier time, or that are ``suspended``.

        Types come from the server's schema, never from the client. A column that the client does not know (it is one
        migration behind) simply stays out, and so does one that it did not know when it wrote a row.
        """
        table, flaw = tables.get(message.table_name), None
        if table is None and message.table_name in given_up:
            table = given_up[message.table_name]
            flaw = _not_served(table, suspended)
        if message.schema_name != "public" or table is None:
            raise InvalidUpload("Unknown table in relation message")
        if len(self._relations) >= MAX_RELATIONS and message.relation_id not in self._relations:
            raise InvalidUpload("Too many relations")
        known = {column.name: column for column in table.columns}
        labels = {enum.name: enum.labels for enum in table.enums}
        columns = []
        for announced in message.columns:
            column = known.pop(announced.name, None)
            if column is None:
                raise InvalidUpload(f"Unknown or repeated column in relation message of table {table.name}")
            parse = parser_for(column, labels.get(column.type, ()))
            unset = column.not_null and column.default is not None and column.name not in table.primary_key
            bad = Flaw(_BAD_VALUE, f"column {column.name} of table {table.name}: a value that is no {column.type}")
            columns.append(_Column(column.name, parse, unset, bad))
        if any(name in known for name in table.primary_key):
            raise InvalidUpload(f"Primary key missing in relation message of table {table.name}")
        self._relations[message.relation_id] = _Relation(table, tuple(columns), flaw)

    def follow(self, tables: Mapping[str, Table], suspended: Mapping[str, Suspension] = MappingProxyType({})) -> None:
        """``tables`` are described like this now: what is uploaded from here on is for them, though the client may
        announce their new columns much later. For others there is nothing to be uploaded any more."""
        for relation_id, relation in self._relations.items():
            table = tables.get(relation.table.name)
            if table is None:
                flaw = _not_served(relation.table, suspended)
                if flaw != relation.flaw:
                    self._relations[relation_id] = replace(relation, flaw=flaw)
            elif table != relation.table or relation.flaw is not None:
                self._relations[relation_id] = replace(relation, table=table, flaw=None)

    def restart(self) -> None:
        """The upload starts anew on this connection: relations and any half transaction are forgotten."""
        self._relations.clear()
        self._begin = None
        self._changes = []
        self._flaw = None

    def operations(self, message: pb.SatOpLog) -> tuple[list[Upload], InvalidUpload | None]:
        """The transactions completed by ``message`` in order, and what stopped the reading, if anything did.

        Complete transactions in front of a bad one are kept (docs/protocol.md).
        """
        complete: list[Upload] = []
        try:
            for operation in message.ops:
                upload = self._operation(operation)
                if upload is not None:
                    complete.append(upload)
        except InvalidUpload as error:
            if error.lsn is None and self._begin is not None:
                error.lsn = self._begin[0]
            self.restart()
            return complete, error
        return complete, None

    def _operation(self, operation: pb.SatTransOp) -> Upload | None:
        kind = operation.WhichOneof("op")
        if kind == "begin":
            begin = operation.begin
            if self._begin is not None or len(begin.lsn) != 4:
                raise InvalidUpload
            if begin.commit_timestamp > MAX_TIMESTAMP_MS:
                raise InvalidUpload("Commit timestamp out of range")
            self._begin = (begin.lsn, begin.commit_timestamp)
            self._changes = []
            self._flaw = None
            return None
        if self._begin is None:
            raise InvalidUpload
        if kind == "commit":
            (lsn, timestamp), self._begin = self._begin, None
            changes, self._changes = tuple(self._changes), []
            return Upload(self._client_id, self._user_id, lsn, timestamp, changes, self._flaw)
        if len(self._changes) >= MAX_CHANGES:
            raise InvalidUpload(f"A transaction has at most {MAX_CHANGES} changes")
        self._changes.append(self._change(kind, operation))
        return None

    def _change(self, kind: str | None, operation: pb.SatTransOp) -> ClientChange:
        match kind:
            case "insert":
                relation = self._relation(operation.insert.relation_id)
                row = self._row(relation, operation.insert, "row_data")
                return ClientInsert(relation.table, row, _observed(operation.insert.tags))
            case "update":
                update = operation.update
                relation = self._relation(update.relation_id)
                new = self._row(relation, update, "row_data")
                if not update.HasField("old_row_data"):
                    # clients of old releases wrote a compensation this way
                    return self._compensation(relation, new, update.tags)
                old = self._row(relation, update, "old_row_data")
                for name in old.keys() - new.keys():
                    new[name] = None  # it had a value: Postgres will say that it must have one
                return ClientUpdate(relation.table, old, new, _observed(update.tags))
            case "delete":
                relation = self._relation(operation.delete.relation_id)
                old = self._row(relation, operation.delete, "old_row_data")
                return ClientDelete(relation.table, old, _observed(operation.delete.tags))
            case "compensation":
                compensation = operation.compensation
                relation = self._relation(compensation.relation_id)
                key = self._row(relation, compensation, "pk_data")
                return self._compensation(relation, key, compensation.tags)
            case _:
                raise InvalidUpload  # gone, migrate and additional data are the server's to send

    @staticmethod
    def _compensation(relation: _Relation, row: Mapping[str, bytes | None], tags: Iterable[str]) -> ClientCompensation:
        known = {name: value for name, value in row.items() if value is not None}
        return ClientCompensation(relation.table, known, _observed(tags))

    def _relation(self, relation_id: int) -> _Relation:
        relation = self._relations.get(relation_id)
        if relation is None:
            raise InvalidUpload
        self._note(relation.flaw)
        return relation

    def _note(self, flaw: Flaw | None) -> None:
        if self._flaw is None:
            self._flaw = flaw

    def _row(self, relation: _Relation, holder: _HasFields, field: str) -> dict[str, bytes | None]:
        """The row's values. NULL where there must be none, or a key that is not whole, is left to Postgres and to the
        writer."""
        if not holder.HasField(field):
            raise InvalidUpload
        try:
            values = unpack(getattr(holder, field), len(relation.columns))
        except InvalidRow:
            raise InvalidUpload from None
        row: dict[str, bytes | None] = {}
        for column, value in zip(relation.columns, values, strict=True):
            if value is None and column.null_is_unset:
                continue
            try:
                row[column.name] = None if value is None else column.parse(value)
            except InvalidValue:
                row[column.name] = value
                self._note(column.flaw)
        return row


def _not_served(table: Table, suspended: Mapping[str, Suspension]) -> Flaw:
    suspension = suspended.get(table.name)
    if suspension is not None:
        return Flaw(_NOT_NOW, f"table {table.name} is suspended: {suspension.reason}")
    return Flaw(_NO_TABLE, f"table {table.name} is not shared with clients any more")


def _observed(tags: Iterable[str]) -> frozenset[str]:
    observed = frozenset(tags)
    if len(observed) > MAX_TAGS:
        raise InvalidUpload("Too many tags")
    for tag in observed:
        origin, at, milliseconds = tag.partition("@")
        well_formed = origin and at and milliseconds.isascii() and milliseconds.isdigit()
        if not (well_formed and len(tag) <= 256 and tag.isprintable()):
            raise InvalidUpload("Malformed tag")
    return observed
