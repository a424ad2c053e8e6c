"""What a client asks of one row, reduced to what resolution needs. Knows nothing of SQL, the wire or other
rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from leyden.conflict.tags import Tag, parse_observed
from leyden.model import ClientChange, ClientCompensation, ClientDelete, ClientInsert, ClientUpdate, Table

#: One row by column name: Postgres text forms, ``None`` = NULL.
Values = Mapping[str, bytes | None]


class Kind(Enum):
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    COMPENSATE = "compensate"


@dataclass(frozen=True, slots=True)
class Operation:
    """One client operation on one row.

    ``incoming`` holds every column of the table, its default where the client said nothing. ``mask`` names the
    non-key columns that the client claims to write: for an insert those it supplied, for an update those
    whose new value differs from its old one, none for a delete or a compensation. ``observed`` are the tags
    its author had seen.
    """

    kind: Kind
    incoming: Values
    mask: frozenset[str]
    observed: frozenset[Tag]

    def with_key(self, key: Values) -> Operation:
        """The same operation with the key columns spelt as in ``key`` (Postgres' own text forms)."""
        return replace(self, incoming={**self.incoming, **key})


def operation_of(change: ClientChange) -> Operation:
    """Reduce an uploaded change. Columns unknown to the table's description are ignored."""
    table = change.table
    observed = parse_observed(change.observed)
    match change:
        case ClientInsert(row=row):
            return Operation(Kind.INSERT, _full(table, row), _value_columns(table) & row.keys(), observed)
        case ClientUpdate(old=old, new=new):
            claimed = {name for name, value in new.items() if name not in old or old[name] != value}
            return Operation(Kind.UPDATE, _full(table, new), _value_columns(table) & claimed, observed)
        case ClientDelete(old=old):
            return Operation(Kind.DELETE, _full(table, old), frozenset(), observed)
        case ClientCompensation(key=key):
            return compensation(table, key, observed)


def compensation(table: Table, key: Values, observed: frozenset[Tag] = frozenset()) -> Operation:
    """A touch of the row with ``key``: it keeps the row alive, or revives it, and writes no column."""
    return Operation(Kind.COMPENSATE, _full(table, key), frozenset(), observed)


def _full(table: Table, known: Values) -> Values:
    return {column.name: known.get(column.name, column.unset) for column in table.columns}


def _value_columns(table: Table) -> frozenset[str]:
    return frozenset(column.name for column in table.columns) - frozenset(table.primary_key)
