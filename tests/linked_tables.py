"""Four tables that refer to each other, and themselves, for tests of trees; and a world in which they change."""

from __future__ import annotations

from collections.abc import Iterable

from leyden.model import Change, Column, Delete, ForeignKey, Gone, Insert, Row, Table, Transaction, Update
from leyden.shapes.request import Include, Select, planned
from leyden.shapes.sight import Sight
from leyden.shapes.traversal import batches
from leyden.shapes.versions import VersionedTables
from leyden.shapes.view import Part, View
from leyden.shapes.where import Claims
from views import BYTES, NOBODY


def table(number: int, name: str, columns: str, **references: str) -> Table:
    """``columns`` are names, all of type text but the first, which is the key and an int4 as those that refer to it."""
    names = columns.split()
    return Table(
        number,
        name,
        tuple(
            Column(one, "int4" if one == "id" or one in references else "text", not_null=one == "id") for one in names
        ),
        ("id",),
        f"{name}_pkey",
        tuple(ForeignKey(f"{name}_{column}_fkey", (column,), target, ("id",)) for column, target in references.items()),
    )


USERS = table(1, "users", "id name boss", boss="users")
PROJECTS = table(2, "projects", "id status owner_id", owner_id="users")
ISSUES = table(3, "issues", "id status project_id author_id", project_id="projects", author_id="users")
COMMENTS = table(4, "comments", "id body issue_id author_id", issue_id="issues", author_id="users")
TABLES = {one.name: one for one in (USERS, PROJECTS, ISSUES, COMMENTS)}

#: Child table, column and parent table of each foreign key.
WAYS = [(table, key.columns[0], TABLES[key.ref_table]) for table in TABLES.values() for key in table.foreign_keys]

#: All rows, by table id and key.
Rows = dict[tuple[int, Row], Row]


def row(*values: object) -> Row:
    return tuple(None if value is None else str(value).encode() for value in values)


def include(column: str, select: Select) -> Include:
    return Include((column,), select)


def part(select: Select, claims: Claims = NOBODY) -> Part:
    return planned("r", select, TABLES, claims, BYTES).part


class World:
    """The tables, and a client that holds what it was sent."""

    def __init__(self, rows: Iterable[tuple[Table, Row]] = ()) -> None:
        self.versions = VersionedTables()
        self.position = 0
        self.rows: Rows = {(one.id, one.key_of(values)): values for one, values in rows}
        for one in TABLES.values():
            self.versions.begin(one)
            self.versions.load(one, [(values, ("t@0",)) for (id_, _), values in self.rows.items() if id_ == one.id])
            self.versions.complete(one)

    def commit(self, *changes: tuple[Table, Row | None, Row | None]) -> Sight:
        """One transaction; each change is a table with the row before and after."""
        self.position += 10
        made: list[Change] = []
        for one, old, new in changes:
            if old is not None:
                assert self.rows.pop((one.id, one.key_of(old))) == old
            if new is not None:
                self.rows[one.id, one.key_of(new)] = new
            made.append(_change(one, old, new))
        transaction = Transaction(self.position, self.position, 1, None, tuple(made))
        self.versions.apply(transaction)
        return Sight(transaction, self.versions)

    def initial(self, one: Part, position: int | None = None, held: View | None = None) -> list[tuple[str, bytes]]:
        """Table and key of the rows of ``one``, in the order in which they are sent."""
        at = self.versions.as_of(self.position if position is None else position)
        found = [version for batch in batches(one, at, held or View()) for version in batch]
        return [(version.table.name, version.key[1][0] or b"") for version in found]


def _change(one: Table, old: Row | None, new: Row | None) -> Change:
    if old is None:
        assert new is not None
        return Insert(one, new, ("t@1",))
    return Delete(one, old) if new is None else Update(one, old, new, ("t@1",))


def applied(held: Rows, changes: Iterable[Change | Gone], sight: Sight) -> Rows:
    """What a client holds after ``changes``; it must not be sent what it has, nor lose what it has not. A row that dies
    and lives again is inserted: so the client has its new tags."""
    held = dict(held)
    died = {
        (change.table.id, change.table.key_of(change.old))
        for change in sight.transaction.changes
        if isinstance(change, Delete)
    }
    for change in changes:
        key = change.table.id, change.table.key_of(change.row if isinstance(change, Insert) else change.old)
        match change:
            case Insert():
                assert (key in held) <= (key in died), change
                held[key] = change.row
            case Update():
                assert key in held.keys() - died, change
                held[key] = change.new
            case Delete() | Gone():
                del held[key]
    return held


def filtered(table: Table, value: str) -> str:
    return f"this.{table.columns[1].name} = '{value}'" if value else ""


# ---- an independent definition -----------------------------------------------------------------------------------


def passes(where: str, table: Table, one: Row) -> bool:
    """The only filter in use: ``this.<second column> = '<value>'``."""
    return not where or one[1] == where.split("'")[1].encode()


def references(table: Table, one: Row, column: str) -> tuple[int, Row] | None:
    target = next(key for key in table.foreign_keys if key.columns == (column,)).ref_table
    value = one[[c.name for c in table.columns].index(column)]
    return None if value is None else (TABLES[target].id, (value,))


def selected(rows: Rows, select: Select, among: set[tuple[int, Row]] | None = None) -> set[tuple[int, Row]]:
    """The rows in the layers of ``select``; its own must be ``among`` those given."""
    table = TABLES[select.table]
    mine = {
        key
        for key, one in rows.items()
        if key[0] == table.id and passes(select.where, table, one) and (among is None or key in among)
    }
    found = set(mine)
    for one in select.includes:
        assert one.select is not None
        (column,), other = one.foreign_key, TABLES[one.select.table]
        if any(key.columns == (column,) and key.ref_table == table.name for key in other.foreign_keys):
            near = {key for key, it in rows.items() if key[0] == other.id and references(other, it, column) in mine}
        else:
            near = {it for key in mine if (it := references(table, rows[key], column)) is not None}
        found |= selected(rows, one.select, near)
    return found


def expected(rows: Rows, selects: list[Select]) -> Rows:
    found = {key for select in selects for key in selected(rows, select)}
    by_id = {table.id: table for table in TABLES.values()}
    while True:
        parents = {
            it
            for key in found
            for foreign_key in by_id[key[0]].foreign_keys
            if (it := references(by_id[key[0]], rows[key], foreign_key.columns[0])) is not None
        }
        if parents <= found:
            return {key: rows[key] for key in found}
        found |= parents
