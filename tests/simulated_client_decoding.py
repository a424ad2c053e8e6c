"""What the server's messages mean to the stock client: rows as values by column, operations with their tables.

Strict where the stock client is lax: what it would take for something else, or lose, is a :class:`Violation` here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from leyden.satellite import satellite_pb2 as pb
from random_shapes import Value, held


class Violation(Exception):
    """The server did what the stock client does not understand, or takes amiss."""


def require(condition: object, complaint: str) -> None:
    if not condition:
        raise Violation(complaint)


@dataclass(frozen=True)
class Relation:
    """A table as it was announced last on a connection."""

    id: int
    table: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]

    @classmethod
    def announced(cls, message: pb.SatRelation) -> Relation:
        require(message.schema_name == "public" and message.table_type == pb.SatRelation.TABLE, f"relation {message}")
        key = tuple(column.name for column in message.columns if column.primaryKey)
        require(key, f"relation {message.table_name} without a key")
        columns = tuple((column.name, column.type) for column in message.columns)
        return cls(message.relation_id, message.table_name, columns, key)


Image = dict[str, Value]


@dataclass(frozen=True)
class Operation:
    """A change of one row. ``old`` of a deletion and of a GONE holds at least the key."""

    kind: Literal["insert", "update", "delete", "gone"]
    relation: Relation
    new: Image | None
    old: Image | None
    tags: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[Value, ...]:
        image = self.new or self.old
        assert image is not None
        return tuple(image[name] for name in self.relation.key)


class Relations:
    """The relations announced on one connection."""

    def __init__(self) -> None:
        self._by_id: dict[int, Relation] = {}

    def announce(self, message: pb.SatRelation) -> None:
        relation = Relation.announced(message)
        self._by_id[relation.id] = relation

    def operations(self, ops: Iterable[pb.SatTransOp], *kinds: str) -> list[Operation]:
        """``ops`` as operations, all of which must be of ``kinds``."""
        operations = []
        for op in ops:
            kind = op.WhichOneof("op")
            require(kind in kinds, f"{kind} where only {kinds} may be")
            operations.append(self.operation(op))
        return operations

    def operation(self, op: pb.SatTransOp) -> Operation:
        match op.WhichOneof("op"):
            case "insert":
                relation = self._of(op.insert.relation_id)
                return Operation(
                    "insert", relation, _image(relation, op.insert, "row_data"), None, tuple(op.insert.tags)
                )
            case "update":
                relation = self._of(op.update.relation_id)
                new, old = (_image(relation, op.update, name) for name in ("row_data", "old_row_data"))
                return Operation("update", relation, new, old, tuple(op.update.tags))
            case "delete":
                relation = self._of(op.delete.relation_id)
                return Operation("delete", relation, None, _image(relation, op.delete, "old_row_data"))
            case "gone":
                relation = self._of(op.gone.relation_id)
                image = _image(relation, op.gone, "pk_data")
                rest = [name for name, value in image.items() if name not in relation.key and value is not None]
                require(not rest, f"GONE with more than the key: {rest}")
                return Operation("gone", relation, None, image)
        raise Violation(f"an operation of no use: {op}")

    def _of(self, relation_id: int) -> Relation:
        require(relation_id in self._by_id, f"missing relation {relation_id} for incoming operation")
        return self._by_id[relation_id]


def _image(
    relation: Relation, operation: pb.SatOpInsert | pb.SatOpUpdate | pb.SatOpDelete | pb.SatOpGone, name: str
) -> Image:
    require(operation.HasField(name), f"{relation.table}: no {name}")  # type: ignore[arg-type]
    row: pb.SatOpRow = getattr(operation, name)
    columns = relation.columns
    many = len(row.values)
    # Of a key alone the service may tell more than the device knows: the stock client takes what it knows.
    fits = many >= len(columns) if name == "pk_data" else many == len(columns)
    require(fits, f"{relation.table}: {many} values for {len(columns)} columns")
    require(len(row.nulls_bitmask) == (many + 7) // 8, f"{relation.table}: a mask of the wrong length")
    image: Image = {}
    for place, ((column, type_name), value) in enumerate(zip(columns, row.values, strict=False)):
        is_null = row.nulls_bitmask[place // 8] >> (7 - place % 8) & 1
        image[column] = held(type_name, None if is_null else value)
    require(all(image[column] is not None for column in relation.key), f"{relation.table}: a key with NULL")
    return image
