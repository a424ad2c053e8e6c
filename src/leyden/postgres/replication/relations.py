"""Relation messages of one replication session, and how their rows become rows of the described tables. Pure.

Columns are matched by *name*: a Relation message lists those of its moment, the description those of now.
Where the two cannot be reconciled the reason is named, so that a table is stopped rather than sent wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Literal, cast

from psycopg.postgres import types as builtin_types

from leyden.model import Column, Row, Table
from leyden.postgres.replication.pgoutput import DecodeError, Relation, Type, Value, Values

#: Schema of Leyden's own tables, of which the publication holds three.
_OWN_SCHEMA = "leyden"

Role = Literal["rows", "row_state", "versions", "tables", "other"]

#: No column names.
NO_COLUMNS: frozenset[str] = frozenset()


class Source:
    """A relation as one Relation message names it; a changed relation gets a new one."""

    __slots__ = (
        "_added",
        "_described",
        "_later",
        "_places",
        "_table",
        "id_position",
        "relation",
        "role",
        "state",
        "suspended_position",
        "version_positions",
    )

    def __init__(self, relation: Relation) -> None:
        self.relation = relation
        self.role: Role = "rows"
        #: What :meth:`row` presently yields rows of, and the arguments of :meth:`bind` that made it so.
        self._table: Table | None = None
        self._described: Table | None = None
        self._later = NO_COLUMNS
        self._added = NO_COLUMNS
        #: For each described column its position in the message's rows, or the value that stands for it in all of them;
        #: ``None`` if the two orders are the same.
        self._places: tuple[int | bytes | None, ...] | None = None
        #: The ``table_id``, ``pk``, ``tags`` and ``dead`` of a row; there only if this is ``leyden.row_state``.
        self.state: Callable[[Values], tuple[Value, Value, Value, Value]]
        self.version_positions: tuple[int, ...] = ()
        self.id_position = 0
        #: ``None`` in what was written under an earlier release.
        self.suspended_position: int | None = None
        if relation.namespace == _OWN_SCHEMA:
            self.role = "other"
            if relation.name == "row_state":
                self.state = itemgetter(*self._find("table_id", "pk", "tags", "dead"))
                self.role = "row_state"
            elif relation.name == "versions":
                self.version_positions = self._find("version", "changes")
                self.role = "versions"
            elif relation.name == "tables":
                (self.id_position,) = self._find("table_id")
                self.suspended_position = self._find_added("suspended")
                self.role = "tables"

    def _find(self, *names: str) -> tuple[int, ...]:
        order = {column.name: position for position, column in enumerate(self.relation.columns)}
        try:
            return tuple(order[name] for name in names)
        except KeyError as missing:
            raise DecodeError(f"leyden.{self.relation.name} has no column {missing}") from None

    def _find_added(self, name: str) -> int | None:
        names = [column.name for column in self.relation.columns]
        return names.index(name) if name in names else None

    def bound(self, described: Table, later: frozenset[str], added: frozenset[str]) -> Table | None:
        """What :meth:`row` yields rows of, if :meth:`bind` was last called with these arguments."""
        if self._described is described and self._later is later and self._added == added:
            return self._table
        return None

    def bind(
        self,
        described: Table,
        later: frozenset[str],
        added: frozenset[str],
        type_names: Mapping[int, str],
    ) -> Table | str:
        """Yield rows of the returned table from now on, or return why that is impossible.

        The table is ``described`` without the columns of ``later``, those of migrations that follow in the stream:
        whoever gets the rows has not seen these migrations either. Columns of ``added``, which the rows' own
        transaction adds, may be lacking in the message and read as the column's default then, because a migration goes
        before the rows of its transaction. A column that the table lacks makes it impossible: rows
        delivered without it would not come again when clients are told of the column.
        """
        relation = self.relation
        if relation.namespace != "public" or relation.name != described.name:
            return "it was renamed or moved to another schema"
        if relation.identity != "f":
            return "its replica identity is not FULL"
        order = {column.name: position for position, column in enumerate(relation.columns)}
        columns: list[Column] = []
        places: list[int | bytes | None] = []
        for column in described.columns:
            if column.name in later:
                continue
            position = order.get(column.name)
            if position is None and column.name not in added:
                return f"column {column.name} is missing"
            if position is not None:
                type_name = type_names.get(relation.columns[position].type_oid, column.type)
                if type_name != column.type:
                    return f"column {column.name} is now of type {type_name}, not {column.type}"
            columns.append(column)
            places.append(column.unset if position is None else position)
        told = {column.name for column in columns}
        untold = next((column.name for column in relation.columns if column.name not in told), None)
        if untold is not None:
            return f"column {untold} was added, and clients were not told"
        same = places == list(range(len(relation.columns)))
        self._places = None if same else tuple(places)
        self._described, self._later, self._added = described, later, added
        self._table = table = with_columns(described, columns)
        return table

    def row(self, values: Values) -> Row:
        """``values`` of this relation in the order of the bound description. No value may be UNCHANGED."""
        if self._places is None:
            return cast(Row, values)
        return cast(Row, tuple(values[place] if isinstance(place, int) else place for place in self._places))


def with_columns(table: Table, columns: Sequence[Column]) -> Table:
    """``table`` when it had only ``columns``, which include its primary key; ``table`` itself if that is all."""
    if len(columns) == len(table.columns):
        return table
    names = {column.name for column in columns}
    indexes = tuple(index for index in table.indexes if all(part.name in names for part in index.columns))
    return replace(table, columns=tuple(columns), indexes=indexes)


class Relations(dict[int, Source]):
    """The sources by relation id. One for each session: Postgres announces every relation anew."""

    def __init__(self) -> None:
        super().__init__()
        #: Names of types by oid, for those known; the others are not checked.
        self.type_names: Mapping[int, str] = _TypeNames()

    def learn(self, relation: Relation) -> None:
        self[relation.id] = Source(relation)

    def learn_type(self, message: Type) -> None:
        cast(_TypeNames, self.type_names)[message.id] = message.name

    def __missing__(self, relation_id: int) -> Source:
        raise DecodeError(f"rows of relation {relation_id}, which was not announced")


class _TypeNames(dict[int, str]):
    """Types of the session, with Postgres' own behind them."""

    def __init__(self) -> None:
        super().__init__((info.oid, info.name) for info in builtin_types)
