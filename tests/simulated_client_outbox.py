"""The writes of a device on their way to the service, kept until they have come back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from google.protobuf.message import Message

from leyden.satellite import satellite_pb2 as pb
from random_shapes import Column, Key, Schema, Value, Write

Columns = Callable[[str], set[str]]
Tags = Callable[[str, Key], tuple[str, ...]]


@dataclass(frozen=True)
class _Observed:
    """A write, with the tags that the device knew of its row and of the rows that it references, by table and key."""

    write: Write
    tags: tuple[str, ...]
    referenced: dict[tuple[str, Value], tuple[str, ...]]


@dataclass(frozen=True)
class Upload:
    """One transaction of the client."""

    number: int
    timestamp: int
    writes: tuple[_Observed, ...]


class Outbox:
    """``send`` takes messages for the service; ``columns`` tells those that the device knows of a table."""

    def __init__(self, client_id: str, schema: Schema, send: Callable[[Message], None], columns: Columns) -> None:
        self._client_id = client_id
        self._schema = schema
        self._send = send
        self._columns = columns
        self._numbers = itertools.count(1)
        self._last_timestamp = 0
        self._is_open = False
        #: The relations announced on this connection, by table: the number and the columns.
        self._announced: dict[str, tuple[int, tuple[str, ...]]] = {}
        self.waiting: list[Upload] = []

    def add(self, writes: Iterable[Write], tags: Tags) -> None:
        """One transaction, sent as soon as may be."""
        self._last_timestamp = timestamp = max(int(time.time() * 1000), self._last_timestamp + 1)
        observed = tuple(self._observed(write, tags) for write in writes)
        upload = Upload(next(self._numbers), timestamp, observed)
        self.waiting.append(upload)
        if self._is_open:
            self._upload(upload)

    def _observed(self, write: Write, tags: Tags) -> _Observed:
        referenced: dict[tuple[str, Value], tuple[str, ...]] = {}
        for reference in self._schema.tables[write.table].references:
            parent = None if write.new is None else write.new.get(reference.column)
            if parent is not None:
                referenced[reference.table, parent] = tags(reference.table, (parent,))
        return _Observed(write, tags(write.table, write.key), referenced)

    def came_back(self, timestamp: int) -> None:
        self.waiting = [upload for upload in self.waiting if upload.timestamp != timestamp]

    # ---- connections ---------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the service has asked for uploads on this connection."""
        return self._is_open

    def open(self, lsn: bytes) -> None:
        """The service asks for what comes after ``lsn``."""
        self._is_open = True
        for upload in self.waiting:
            if upload.number > int.from_bytes(lsn, "big"):
                self._upload(upload)

    def close(self) -> None:
        self._is_open = False
        self._announced.clear()

    # ---- messages ------------------------------------------------------------------------------------------------

    def _upload(self, upload: Upload) -> None:
        own = f"{self._client_id}@{upload.timestamp}"
        log = pb.SatOpLog()
        begin = pb.SatOpBegin(commit_timestamp=upload.timestamp, lsn=upload.number.to_bytes(4, "big"))
        log.ops.add().begin.CopyFrom(begin)
        for observed in upload.writes:
            for (table, key), tags in observed.referenced.items():
                compensation = pb.SatOpCompensation(
                    relation_id=self._announce(table), pk_data=self._packed(table, {"id": key}), tags=[own, *tags]
                )
                log.ops.add().compensation.CopyFrom(compensation)
            self._add_write(log.ops.add(), observed.write, [own, *observed.tags])
        log.ops.add().commit.CopyFrom(pb.SatOpCommit())
        self._send(log)

    def _add_write(self, op: pb.SatTransOp, write: Write, tags: list[str]) -> None:
        relation_id = self._announce(write.table)
        new = None if write.new is None else self._packed(write.table, write.new)
        old = None if write.old is None else self._packed(write.table, write.old)
        if old is None:
            op.insert.CopyFrom(pb.SatOpInsert(relation_id=relation_id, row_data=new))
        elif new is None:
            op.delete.CopyFrom(pb.SatOpDelete(relation_id=relation_id, old_row_data=old, tags=tags))
        else:
            op.update.CopyFrom(pb.SatOpUpdate(relation_id=relation_id, row_data=new, old_row_data=old, tags=tags))

    def _announce(self, table: str) -> int:
        columns = tuple(column.name for column in self._known_columns(table))
        number, known = self._announced.get(table, (len(self._announced), None))
        if columns != known:
            self._announced[table] = (number, columns)
            relation = pb.SatRelation(schema_name="public", table_name=table, relation_id=number)
            for column in columns:
                relation.columns.add(name=column, type="TEXT", is_nullable=True)
            self._send(relation)
        return number

    def _known_columns(self, table: str) -> list[Column]:
        described, known = self._schema.tables[table], self._columns(table)
        return [column for column in (*described.key, *described.columns) if column.name in known]

    def _packed(self, table: str, row: dict[str, Value]) -> pb.SatOpRow:
        columns = self._known_columns(table)
        packed = pb.SatOpRow()
        bits = 0
        for column in columns:
            value = row.get(column.name)
            bits = bits << 1 | (value is None)
            text = "" if value is None else str(value)
            if column.type == "bool" and value is not None:
                text = "t" if value else "f"
            packed.values.append(text.encode())
        size = (len(columns) + 7) // 8
        packed.nulls_bitmask = (bits << (8 * size - len(columns))).to_bytes(size, "big")
        return packed
