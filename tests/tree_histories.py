"""Random shapes along foreign keys, and random histories of a database."""

from __future__ import annotations

from hypothesis import strategies as st

from leyden.model import Row, Table
from leyden.shapes.request import Include, Select
from linked_tables import TABLES, WAYS, Rows, filtered, include, references, row

FILTERS = st.sampled_from(["", "", "", "a", "b"])
IDS = (1, 2, 3)


@st.composite
def selects(draw: st.DrawFn, table: Table | None = None, depth: int = 2, *, may_filter: bool = True) -> Select:
    table = draw(st.sampled_from(list(TABLES.values()))) if table is None else table
    includes: list[Include] = []
    if depth:
        below = [(column, child, True) for child, column, parent in WAYS if parent is table]
        above = [(column, parent, False) for child, column, parent in WAYS if child is table and parent is not table]
        for column, other, filter_it in draw(st.lists(st.sampled_from(below + above), max_size=2, unique=True)):
            includes.append(include(column, draw(selects(other, depth - 1, may_filter=filter_it))))
    return Select(table.name, filtered(table, draw(FILTERS)) if may_filter else "", tuple(includes))


@st.composite
def rows_of(draw: st.DrawFn, table: Table, key: int) -> Row:
    others = [draw(st.none() | st.sampled_from(IDS)) for _ in table.columns[2:]]
    return row(key, draw(st.sampled_from("ab")), *others)


def without_dangling(rows: Rows) -> Rows:
    """The rows whose references all hold."""
    by_id = {table.id: table for table in TABLES.values()}
    while True:
        kept = {
            key: one
            for key, one in rows.items()
            if all(
                (it := references(by_id[key[0]], one, foreign_key.columns[0])) is None or it in rows
                for foreign_key in by_id[key[0]].foreign_keys
            )
        }
        if len(kept) == len(rows):
            return kept
        rows = kept


@st.composite
def histories(draw: st.DrawFn) -> list[Rows]:
    """States of the database, each a few changes after the one before."""
    rows: Rows = {}
    for table in TABLES.values():
        for key in IDS:
            if draw(st.booleans()):
                rows[table.id, row(key)] = draw(rows_of(table, key))
    states = [without_dangling(rows)]
    for _ in range(draw(st.integers(1, 4))):
        rows = dict(states[-1])
        for _ in range(draw(st.integers(1, 3))):
            table, key = draw(st.sampled_from(list(TABLES.values()))), draw(st.sampled_from(IDS))
            old = rows.pop((table.id, row(key)), None)
            if old is None or draw(st.integers(0, 4)):
                new = draw(rows_of(table, key))
                if old is not None:  # often only one column changes
                    place = draw(st.integers(1, len(old) - 1))
                    new = draw(st.just(new) | st.just((*old[:place], new[place], *old[place + 1 :])))
                rows[table.id, row(key)] = new
        states.append(without_dangling(rows))
    return states


def differences(old: Rows, new: Rows) -> list[tuple[Table, Row | None, Row | None]]:
    by_id = {table.id: table for table in TABLES.values()}
    keys = dict.fromkeys([*old, *new])
    return [(by_id[key[0]], old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]
