"""A table, filters on it, and random transactions: what the tests of groups and views have in common."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from leyden.model import Change, Column, Delete, Insert, Row, Table, Transaction, Update

ITEMS = Table(
    1,
    "items",
    (Column("id", "int4", True), Column("owner", "text", False), Column("n", "int4", False)),
    ("id",),
    "items_pkey",
)
FILTERS = (
    "",
    "this.owner = 'a'",
    "this.owner = 'b' AND this.n > 1",
    "this.owner IN ('a', 'c')",
    "this.owner IS NULL OR this.owner = 'b'",
    "this.n = 1 AND this.owner = 'a'",
    "this.n > 1",
    "this.n / this.n = 1",
    "false",
    "this.owner = 'a' AND this.owner = 'b'",
    "this.n = 1 AND this.n = 2",
)
ROWS = st.tuples(
    st.sampled_from([b"1", b"2"]), st.sampled_from([b"a", b"b", b"c", None]), st.sampled_from([b"0", b"1", b"2", None])
)


@dataclass(frozen=True)
class Committed:
    """A transaction, with the rows before and after it by their keys."""

    before: dict[bytes, Row]
    transaction: Transaction
    after: dict[bytes, Row]


@st.composite
def commits(draw: st.DrawFn) -> Committed:
    before = {row[0]: row for row in draw(st.lists(ROWS, max_size=2))}
    after = dict(before)
    changes: list[Change] = []
    for _ in range(draw(st.integers(0, 6))):
        new = draw(ROWS)
        old = after.get(new[0])
        if old is None:
            changes.append(Insert(ITEMS, new, ("t",)))
            after[new[0]] = new
        elif draw(st.booleans()):
            changes.append(Update(ITEMS, old, new, ("t",)))
            after[new[0]] = new
        else:
            changes.append(Delete(ITEMS, old))
            del after[new[0]]
    return Committed(before, Transaction(10, 10, 1, None, tuple(changes)), after)
