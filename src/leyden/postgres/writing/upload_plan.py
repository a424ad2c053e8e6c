"""From a client's upload to the operations to run, each on one row, in the order to run them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from leyden.conflict.operations import Kind, Operation, Values, operation_of
from leyden.model import ClientChange, ClientDelete, ClientInsert, ClientUpdate, Table
from leyden.postgres.writing.rows import RawKey
from leyden.postgres.writing.sqlstates import Refusal


class UploadRefusedError(Exception):
    """The upload cannot be applied, now or later."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class PlannedOperation:
    """One operation and the row it is about; ``key`` is spelt as the client did."""

    table: Table
    key: RawKey
    operation: Operation


def plan_upload(changes: Iterable[ClientChange]) -> list[PlannedOperation]:
    """The operations of an upload in the order to run them.

    That is the client's order, except that a compensation moves to the front when no other operation on
    its row comes before it: the client may log it after the child that needs the revived parent.
    Operations on different rows do not influence each other's resolution, so the result is the same.

    Raises :class:`UploadRefusedError` for a row without a key, and for one that changes its key (the client's own
    trigger forbids it); :class:`UnicodeDecodeError` for a key that is not UTF-8.
    """
    first: list[PlannedOperation] = []
    rest: list[PlannedOperation] = []
    touched: set[tuple[int, RawKey]] = set()
    for change in changes:
        key, *others = change_keys(change)
        if others:
            raise UploadRefusedError(Refusal("23000", f"change of a key in table {change.table.name}"))
        if key is None:
            raise UploadRefusedError(Refusal("23502", f"no key in a row of table {change.table.name}"))
        planned = PlannedOperation(change.table, key, operation_of(change))
        row = (change.table.id, key)
        if planned.operation.kind is Kind.COMPENSATE and row not in touched:
            first.append(planned)
        else:
            rest.append(planned)
            touched.add(row)
    return first + rest


def change_keys(change: ClientChange) -> list[RawKey | None]:
    """The primary keys that ``change`` mentions, the one it is about first; ``None`` for an incomplete one.

    Raises :class:`UnicodeDecodeError` for a key that is not UTF-8.
    """
    match change:
        case ClientInsert(row=row):
            return [_key_in(change.table, row)]
        case ClientUpdate(old=old, new=new):
            known_old = {name: old.get(name, new.get(name)) for name in change.table.primary_key}
            return list(dict.fromkeys([_key_in(change.table, new), _key_in(change.table, known_old)]))
        case ClientDelete(old=old):
            return [_key_in(change.table, old)]
        case _:
            return [_key_in(change.table, change.key)]


def _key_in(table: Table, values: Values) -> RawKey | None:
    parts = [value for name in table.primary_key if (value := values.get(name)) is not None]
    if len(parts) < len(table.primary_key):
        return None
    return tuple(part.decode() for part in parts)
