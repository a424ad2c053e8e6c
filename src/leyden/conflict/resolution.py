"""What becomes of a row when clients that did not see each other's writes change it. Pure; one row at a time.

The rules are those of a tag set per row (*add wins*) and of a tag per column (*last writer wins*):

* A row exists exactly while its tag set is not empty. Every write but a delete adds its own tag; every write
  removes the tags that its author had observed. A delete therefore removes only what its author had seen,
  and any concurrent write keeps the row, or brings it back from its last dead version.
* A column takes the value of the greatest tag that wrote it, whatever the order of arrival.

Writes made by Postgres are tagged by the trigger on the table, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from leyden.conflict.operations import Kind, Operation, Values
from leyden.conflict.tags import EPOCH, Tag


@dataclass(frozen=True, slots=True)
class RowState:
    """One row with its history.

    ``main`` is the row as it stands, ``dead`` the last version that was deleted (it outlives a revival; only
    a later delete overwrites it), ``tags`` the live tags, ``column_tags`` the last write of each non-key
    column; a column that is absent there was never written since electrification and loses against every tag.
    """

    main: Values | None = None
    dead: Values | None = None
    tags: frozenset[Tag] = frozenset()
    column_tags: Mapping[str, Tag] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Existence is what the table says. Tags can disagree only where no trigger ran: rows older than
        # electrification, or changed with triggers off.
        if self.main is None and self.tags:
            object.__setattr__(self, "tags", frozenset())
        elif self.main is not None and not self.tags:
            object.__setattr__(self, "tags", frozenset({EPOCH}))


def resolve(state: RowState, operation: Operation, tag: Tag) -> RowState:
    """The row after ``operation``, whose author stamped it ``tag``.

    Applying the same operation with the same tag twice in a row equals applying it once.
    """
    tags = state.tags - operation.observed
    if operation.kind is not Kind.DELETE:
        tags |= {tag}
    column_tags = dict(state.column_tags)
    won = set()
    for column in operation.mask:
        last = column_tags.get(column)
        if last is None or tag >= last:
            column_tags[column] = tag
            won.add(column)
    if not tags:
        dead = state.dead if state.main is None else state.main
        return RowState(None, dead, tags, column_tags)
    base = state.main or state.dead or operation.incoming
    main = {column: operation.incoming[column] if column in won else base.get(column) for column in operation.incoming}
    return RowState(main, state.dead, tags, column_tags)
