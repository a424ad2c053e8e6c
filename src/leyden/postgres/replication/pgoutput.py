"""Decoder of pgoutput messages, logical replication protocol version 1, text format. Pure: bytes in, tuples
out.

Source of the layouts: PostgreSQL documentation, "Logical Replication Message Formats". It knows no socket, no
catalog and nothing of Leyden's own tables. Version 1 never interleaves transactions, so no message carries a
transaction id but Begin.

Messages are named tuples and values plain ``bytes`` slices: this is the hottest path of the service. Those of which
there are as many as rows and transactions are made by ``tuple.__new__``, as a named tuple's own constructor is a
function in Python that does no more.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple


class Unchanged(Enum):
    """Marker of a TOASTed value that the update did not touch and that is therefore not sent (kind ``u``)."""

    TOAST = "u"


UNCHANGED: Final = Unchanged.TOAST

#: Text form of one column, ``None`` for NULL.
Value = bytes | None | Unchanged
Values = tuple[Value, ...]

#: Milliseconds from the Unix epoch to 2000-01-01 UTC, where Postgres' timestamps begin.
_POSTGRES_EPOCH_MS = 946_684_800_000


class DecodeError(ValueError):
    """The bytes are not a message of this protocol version. The text never quotes values."""


class Begin(NamedTuple):
    final_lsn: int
    committed_at_ms: int
    #: The low 32 bits of the transaction id.
    xid: int


class Commit(NamedTuple):
    lsn: int
    #: End of the commit record: a slot confirmed there does not send this transaction again.
    end_lsn: int


class Origin(NamedTuple):
    lsn: int
    name: str


class RelationColumn(NamedTuple):
    name: str
    type_oid: int
    in_identity: bool


class Relation(NamedTuple):
    """Sent before the first change of a relation in a session and again after DDL on it.

    ``identity`` is ``pg_class.relreplident``. Dropped columns and (by default) generated ones are not listed.
    """

    id: int
    namespace: str
    name: str
    identity: str
    columns: tuple[RelationColumn, ...]


class Type(NamedTuple):
    id: int
    namespace: str
    name: str


class Insert(NamedTuple):
    relation_id: int
    new: Values


class Update(NamedTuple):
    """``old`` is the whole old row under identity FULL, the key columns if ``old_is_key``, else ``None``."""

    relation_id: int
    old: Values | None
    old_is_key: bool
    new: Values


class Delete(NamedTuple):
    relation_id: int
    old: Values
    old_is_key: bool


class Truncate(NamedTuple):
    relation_ids: tuple[int, ...]


class LogicalMessage(NamedTuple):
    """Written by ``pg_logical_emit_message``; outside of Begin and Commit unless ``transactional``."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


Message = Begin | Commit | Origin | Relation | Type | Insert | Update | Delete | Truncate | LogicalMessage

_BEGIN = struct.Struct("!qqI")
_COMMIT = struct.Struct("!Bqqq")
_COLUMN_TAIL = struct.Struct("!Ii")
_MESSAGE_HEAD = struct.Struct("!Bq")
_TRUNCATE_HEAD = struct.Struct("!IB")
#: Of a message with a row: the relation, what kind of tuple follows and how many columns that has.
_ROW_HEAD = struct.Struct("!IBH")
#: Bytes before the first column of such a message.
_FIRST_COLUMN = 8
_int16 = struct.Struct("!H").unpack_from
_int32 = struct.Struct("!I").unpack_from
_int64 = struct.Struct("!q").unpack_from
_make = tuple.__new__

_NULL = ord("n")
_TEXT = ord("t")
_TOASTED = ord("u")
_KEY = ord("K")
_OLD = ord("O")
_NEW = ord("N")


def decode(data: bytes) -> Message:
    """The message in ``data``. Raises :class:`DecodeError`."""
    try:
        return _DECODERS[data[0]](data)
    except (KeyError, IndexError, struct.error, UnicodeDecodeError):
        kind = chr(data[0]) if data else ""
        raise DecodeError(f"malformed or unknown pgoutput message {kind!r} of {len(data)} bytes") from None


def _begin(data: bytes) -> Begin:
    lsn, microseconds, xid = _BEGIN.unpack_from(data, 1)
    return _make(Begin, (lsn, microseconds // 1000 + _POSTGRES_EPOCH_MS, xid))


def _commit(data: bytes) -> Commit:
    _flags, lsn, end_lsn, _microseconds = _COMMIT.unpack_from(data, 1)
    return _make(Commit, (lsn, end_lsn))


def _origin(data: bytes) -> Origin:
    name, _ = _string(data, 9)
    return Origin(_int64(data, 1)[0], name)


def _relation(data: bytes) -> Relation:
    namespace, at = _string(data, 5)
    name, at = _string(data, at)
    identity = chr(data[at])
    (count,) = _int16(data, at + 1)
    at += 3
    columns = []
    for _ in range(count):
        in_identity = bool(data[at] & 1)
        column, at = _string(data, at + 1)
        type_oid, _modifier = _COLUMN_TAIL.unpack_from(data, at)
        at += 8
        columns.append(RelationColumn(column, type_oid, in_identity))
    # The namespace of pg_catalog travels as an empty string.
    return Relation(_int32(data, 1)[0], namespace or "pg_catalog", name, identity, tuple(columns))


def _type(data: bytes) -> Type:
    namespace, at = _string(data, 5)
    name, _ = _string(data, at)
    return Type(_int32(data, 1)[0], namespace or "pg_catalog", name)


def _insert(data: bytes) -> Insert:
    relation_id, kind, count = _ROW_HEAD.unpack_from(data, 1)
    if kind != _NEW:
        raise DecodeError("insert without a new tuple")
    new, _ = _columns(data, _FIRST_COLUMN, count)
    return _make(Insert, (relation_id, new))


def _update(data: bytes) -> Update:
    relation_id, kind, count = _ROW_HEAD.unpack_from(data, 1)
    old: Values | None = None
    at = _FIRST_COLUMN
    if kind != _NEW:
        if kind not in (_OLD, _KEY):
            raise DecodeError("update without a new tuple")
        old, at = _columns(data, at, count)
        if data[at] != _NEW:
            raise DecodeError("update without a new tuple")
        (count,) = _int16(data, at + 1)
        at += 3
    new, _ = _columns(data, at, count)
    return _make(Update, (relation_id, old, kind == _KEY, new))


def _delete(data: bytes) -> Delete:
    relation_id, kind, count = _ROW_HEAD.unpack_from(data, 1)
    if kind not in (_OLD, _KEY):
        raise DecodeError("delete without an old tuple")
    old, _ = _columns(data, _FIRST_COLUMN, count)
    return _make(Delete, (relation_id, old, kind == _KEY))


def _truncate(data: bytes) -> Truncate:
    count, _options = _TRUNCATE_HEAD.unpack_from(data, 1)
    return Truncate(struct.unpack_from(f"!{count}I", data, 6))


def _message(data: bytes) -> LogicalMessage:
    flags, lsn = _MESSAGE_HEAD.unpack_from(data, 1)
    prefix, at = _string(data, 10)
    (length,) = _int32(data, at)
    content = data[at + 4 : at + 4 + length]
    if len(content) != length:
        raise DecodeError("logical message cut short")
    return LogicalMessage(bool(flags & 1), lsn, prefix, content)


def _string(data: bytes, at: int) -> tuple[str, int]:
    """The null-terminated string at ``at``, and where the next field begins."""
    end = data.find(b"\0", at)
    if end < 0:
        raise DecodeError("unterminated string")
    return data[at:end].decode(), end + 1


def _columns(data: bytes, at: int, count: int) -> tuple[Values, int]:
    """The ``count`` columns of a TupleData, the first one at ``at``, and where the next field begins."""
    values: list[Value] = []
    append = values.append
    length_at = _int32
    for _ in range(count):
        kind = data[at]
        if kind == _TEXT:
            start = at + 5
            at = start + length_at(data, at + 1)[0]
            append(data[start:at])
        elif kind == _NULL:
            append(None)
            at += 1
        elif kind == _TOASTED:
            append(UNCHANGED)
            at += 1
        else:
            raise DecodeError(f"column of unknown kind {chr(kind)!r}")
    if at > len(data):
        raise DecodeError("tuple cut short")
    return tuple(values), at


_DECODERS: dict[int, Callable[[bytes], Message]] = {
    ord("B"): _begin,
    ord("C"): _commit,
    ord("O"): _origin,
    ord("R"): _relation,
    ord("Y"): _type,
    ord("I"): _insert,
    ord("U"): _update,
    ord("D"): _delete,
    ord("T"): _truncate,
    ord("M"): _message,
}
