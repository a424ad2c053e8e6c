"""Relation messages of one replication session, and how their rows become rows of the described tables. Pure.

Columns are matched by *name*: a Relation message lists those of its moment, the description those of now.
Where the two cannot be reconciled the reason is named, so that a table is stopped rather than sent wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, cast

from psycopg.postgres import types as builtin_types

from leyden.model import Row, Table
from leyden.postgres.pgoutput import DecodeError, Relation, Type, Values

#: Schema of Leyden's own tables, of which the publication holds two.
_OWN_SCHEMA = "leyden"

Role = Literal["rows", "row_state", "versions", "other"]


class Source:
    """A relation as one Relation message names it; a changed relation gets a new one."""

    __slots__ = ("_positions", "relation", "role", "state_positions", "table", "version_positions")

    def __init__(self, relation: Relation) -> None:
        self.relation = relation
        self.role: Role = "rows"
        #: The description that :meth:`row` presently yields rows of.
        self.table: Table | None = None
        #: For each described column its position in the message's rows; ``None`` if the two orders are the
        #: same.
        self._positions: tuple[int | None, ...] | None = None
        self.state_positions: tuple[int, ...] = ()
        self.version_positions: tuple[int, ...] = ()
        if relation.namespace == _OWN_SCHEMA:
            self.role = "other"
            if relation.name == "row_state":
                self.state_positions = self._find("table_id", "pk", "tags")
                self.role = "row_state"
            elif relation.name == "versions":
                self.version_positions = self._find("version", "changes")
                self.role = "versions"

    def _find(self, *names: str) -> tuple[int, ...]:
        order = {column.name: position for position, column in enumerate(self.relation.columns)}
        try:
            return tuple(order[name] for name in names)
        except KeyError as missing:
            raise DecodeError(f"leyden.{self.relation.name} has no column {missing}") from None

    def bind(self, table: Table, to_come: Collection[str], type_names: Mapping[int, str]) -> str | None:
        """Yield rows of ``table`` from now on. Returns why that is impossible, else ``None``.

        ``to_come`` are the columns the message may lack because they were added after it: they read as NULL.
        Columns the description lacks are left out: they are generated ones, or not for clients.
        """
        relation = self.relation
        if relation.namespace != "public" or relation.name != table.name:
            return "it was renamed or moved to another schema"
        if relation.identity != "f":
            return "its replica identity is not FULL"
        order = {column.name: position for position, column in enumerate(relation.columns)}
        positions: list[int | None] = []
        for column in table.columns:
            position = order.get(column.name)
            if position is None and column.name not in to_come:
                return f"column {column.name} is missing"
            if position is not None:
                type_name = type_names.get(relation.columns[position].type_oid, column.type)
                if type_name != column.type:
                    return f"column {column.name} is now of type {type_name}, not {column.type}"
            positions.append(position)
        same = positions == list(range(len(relation.columns)))
        self._positions = None if same else tuple(positions)
        self.table = table
        return None

    def row(self, values: Values) -> Row:
        """``values`` of this relation in the order of the bound description. No value may be UNCHANGED."""
        if self._positions is None:
            return cast(Row, values)
        return cast(
            Row,
            tuple(None if position is None else values[position] for position in self._positions),
        )


class Relations:
    """The sources by relation id. One for each session: Postgres announces every relation anew."""

    def __init__(self) -> None:
        self._sources: dict[int, Source] = {}
        #: Names of types by oid, for those known; the others are not checked.
        self.type_names: Mapping[int, str] = _TypeNames()

    def learn(self, relation: Relation) -> None:
        self._sources[relation.id] = Source(relation)

    def learn_type(self, message: Type) -> None:
        cast(_TypeNames, self.type_names)[message.id] = message.name

    def __getitem__(self, relation_id: int) -> Source:
        try:
            return self._sources[relation_id]
        except KeyError:
            raise DecodeError(f"rows of relation {relation_id}, which was not announced") from None


class _TypeNames(dict[int, str]):
    """Types of the session, with Postgres' own behind them."""

    def __init__(self) -> None:
        super().__init__((info.oid, info.name) for info in builtin_types)
