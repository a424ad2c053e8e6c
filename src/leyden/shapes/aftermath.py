"""What a client that was away may hold otherwise than it should: more than the log can tell.

It was told everything up to a position that the log does not reach back to. Since then rows were written, nobody knows
how often: of each of them it is known how it is now, and what else it was tied to meanwhile. A row can also have moved
in or out of a tree though nobody wrote it, because something moved that it hangs on. So, from the rows written on, the
foreign keys are followed to all whose place in a tree may be another one now. What is not met this way is on the device
as it should be.

In doubt a row is taken for moved: the client is then told of a row that it has, or of one that it never had. Of such a
one it must have been allowed to see the key.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from leyden.model import AddColumns, Checkpoint, Migration, Row, Table
from leyden.shapes.groups import Group
from leyden.shapes.standing import Standing
from leyden.shapes.tree import Branch, Direction, Edge, Tree, ranked
from leyden.shapes.versions import BATCH, AsOf, Key, Version, VersionedTables
from leyden.shapes.view import View
from leyden.shapes.where import OWNER_COLUMN, ownership

#: What columns held meanwhile, by name: those of foreign keys and the owner. All of it, but for what a row that exists
#: holds now.
Former = Mapping[str, Collection[bytes | None]]

#: Memory for what has been met (KiB); what is more goes to a temporary file.
CACHE_KIB = 8_192

#: Rows followed between two chances for others to have their turn.
SLICE = 200

#: In place of the number of a layer: the row as an ancestor.
_ANCESTOR = -1


def can_be_told(view: View, checkpoint: Checkpoint, migrations: Iterable[Migration]) -> bool:
    """Whether all that happened since ``checkpoint`` left a trace on the tables of ``view``. It did not while a table
    was given up, nor when all rows of one got an owner at once, as the default of the new column. Nor is it known of a
    row that is gone whether policies ever let the client see it, and so whether it may be told its key."""
    if any(part.is_guarded for part in view.parts):
        return False
    handed_over = {
        change.table.id
        for migration in migrations
        for change in migration.changes
        if migration.xid >= checkpoint.xid and isinstance(change, AddColumns) and _gives_owners(change)
    }
    return (checkpoint.reenabled_since | handed_over).isdisjoint(view.tables)


def _gives_owners(change: AddColumns) -> bool:
    return OWNER_COLUMN in change.columns and any(
        column.name == OWNER_COLUMN and column.default is not None for column in change.table.columns
    )


def tied_columns(table: Table) -> frozenset[str]:
    """The columns of which it is known what they held meanwhile."""
    referring = itertools.chain.from_iterable(key.columns for key in table.foreign_keys)
    return frozenset(referring) | {column.name for column in table.columns if column.name == OWNER_COLUMN}


def may_have_held(group: Group, row: Row | None, former: Former) -> bool:
    """Whether a row that was written meanwhile, and is ``row`` now, can have been in ``group`` at any time."""
    if group.predicate is None:
        return True
    places = {column.name: place for place, column in enumerate(group.table.columns)}
    for name in group.predicate.equalities.keys() & tied_columns(group.table):
        forms = set(former.get(name, ()))
        if row is not None:
            forms.add(_value(row, places[name]))
        if forms.isdisjoint(group.predicate.equalities[name]):
            return False
    return True


class Telling:
    """Whether a user may be told that there was a row: it is his or everybody's, or was meanwhile."""

    def __init__(self, table: Table, user_id: str | None) -> None:
        self._is_own = None if user_id is None else ownership(table, user_id)
        self._width = len(table.columns)
        self._place = next((at for at, column in enumerate(table.columns) if column.name == OWNER_COLUMN), 0)

    def allowed(self, row: Row | None, former: Former) -> bool:
        is_own = self._is_own
        if is_own is None or (row is not None and is_own(row + (None,) * (self._width - len(row)))):
            return True
        return any(is_own(self._owned_by(owner)) for owner in former.get(OWNER_COLUMN, ()))

    def _owned_by(self, owner: bytes | None) -> Row:
        return tuple(owner if place == self._place else None for place in range(self._width))


@dataclass(frozen=True, slots=True)
class Leaving:
    """A row that the client must not hold; it may never have."""

    table: Table
    key: Row


class Aftermath:
    """Of the tables of ``view``'s trees, as they were at one position. :meth:`wrote` each row written, then
    :meth:`follow`; then :meth:`staying` and :meth:`leaving` say how it is to be. Close it in the end."""

    def __init__(self, view: View, versions: VersionedTables, position: int, user_id: str | None) -> None:
        self._view = view
        self._versions = versions
        self._position = position
        self._tables = {table.id: table for tree in view.trees for table in tree.tables.values()}
        self._ranks = ranked(view.trees)
        self._telling = {table.id: Telling(table, user_id) for table in self._tables.values()}
        self._leading: dict[tuple[int, int, int], bool] = {}
        self._database = sqlite3.connect("", isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            f"PRAGMA cache_size = -{CACHE_KIB}",
            # Every row met; of one that was written, what it was tied to.
            "CREATE TABLE met (table_id INTEGER, pk BLOB, former TEXT, is_seen INTEGER DEFAULT 0,"
            " PRIMARY KEY (table_id, pk)) WITHOUT ROWID",
            # Every place in a tree that a row may have come to or left.
            "CREATE TABLE moved (number INTEGER PRIMARY KEY, tree INTEGER, layer INTEGER, table_id INTEGER, pk BLOB)",
            "CREATE UNIQUE INDEX moved_once ON moved (table_id, pk, tree, layer)",
        ):
            self._database.execute(statement)

    def close(self) -> None:
        self._database.close()

    def wrote(self, table: Table, rows: Iterable[tuple[Row, Former]]) -> None:
        """Rows of ``table`` that were written meanwhile, by key."""
        self._database.executemany(
            "INSERT OR REPLACE INTO met (table_id, pk, former) VALUES (?, ?, ?)",
            ((table.id, _blob(key), _json(former)) for key, former in rows),
        )

    def follow(self) -> Iterator[None]:
        """Finds what else may have moved. Yields now and then; the tables may go on changing meanwhile."""
        for table_id in self._tables:
            for rows in self._met(table_id, SLICE):
                at = self._versions.as_of(self._position)
                for key, former in rows:
                    if former is not None:
                        self._start(at, (table_id, key), former)
                yield
        done = 0
        query = f"SELECT number, tree, layer, table_id, pk FROM moved WHERE number > ? ORDER BY number LIMIT {SLICE}"
        while places := self._database.execute(query, [done]).fetchall():
            for _, tree, layer, table_id, pk in places:
                yield from self._step(tree, layer, (table_id, _key(pk)))
            done = places[-1][0]
            yield

    def staying(self) -> Iterator[list[Version]]:
        """Rows that the client must hold as they are here: parents before their children. To be read to the end."""
        for table_id in sorted(self._tables, key=self._ranks.__getitem__):
            for rows in self._met(table_id, BATCH):
                seen = self._seen(table_id, [key for key, _ in rows])
                self._database.executemany(
                    "UPDATE met SET is_seen = 1 WHERE table_id = ? AND pk = ?",
                    [(table_id, _blob(version.key[1])) for version in seen],
                )
                yield seen

    def leaving(self) -> Iterator[list[Leaving]]:
        """Rows that it must not hold, and may: children before their parents. After :meth:`staying`."""
        for table_id in sorted(self._tables, key=self._ranks.__getitem__, reverse=True):
            table = self._tables[table_id]
            for rows in self._met(table_id, BATCH, "AND NOT is_seen"):
                at = self._versions.as_of(self._position)
                yield [
                    Leaving(table, key)
                    for key, former in rows
                    if self._may_hold(table_id, at.row((table_id, key)), former)
                ]

    # ---- judging -------------------------------------------------------------------------------------------------

    def _seen(self, table_id: int, keys: Iterable[Row]) -> list[Version]:
        """The rows with these keys that are in view."""
        trees = [tree for tree in self._view.trees if table_id in tree.tables]
        # Many refer to the same others; but what refers to one row may be very many.
        at = self._versions.as_of(self._position, remember=not any(_looks_down(tree, table_id) for tree in trees))
        standings = [Standing(tree, at) for tree in trees]
        versions = (at.row((table_id, key)) for key in keys)
        return [
            version
            for version in versions
            if version is not None
            and (self._view.holds(version.table, version.row) or any(one.holds(version) for one in standings))
        ]

    def _may_hold(self, table_id: int, version: Version | None, former: Former | None) -> bool:
        """Whether the client may hold a row that is not in view, and may be told of it."""
        row = None if version is None else version.row
        if not self._telling[table_id].allowed(row, former or {}):
            return False
        if former is None:
            return True  # it was as it is, so its place is what may have changed
        filters = [
            *self._view.groups_on(table_id),
            *(tree.layers[number].group for tree in self._view.trees for number in tree.layers_on.get(table_id, ())),
        ]
        return any(tree.bringing.get(table_id) for tree in self._view.trees) or any(
            may_have_held(group, row, former) for group in filters
        )

    # ---- following -----------------------------------------------------------------------------------------------

    def _start(self, at: AsOf, key: Key, former: Former) -> None:
        """A row that was written: what it refers to may have gained or lost it, and its own place may have changed."""
        table_id = key[0]
        version = at.row(key)
        row = None if version is None else version.row
        for number, tree in enumerate(self._view.trees):
            numbers = [
                one for one in tree.layers_on.get(table_id, ()) if may_have_held(tree.layers[one].group, row, former)
            ]
            if not numbers and not tree.bringing.get(table_id):
                continue
            for one in numbers:
                if version is not None and self._may_have_moved(
                    tree.layers[one].group, tree.layers[one].branch, former
                ):
                    self._mark(number, one, key)
                for hanging, branch in _branches(tree, one, Direction.ABOVE):
                    self._mark_referred_to(at, number, hanging, branch.edge, version, former)
            self._mark_ancestors(at, number, table_id, version, former)

    @staticmethod
    def _may_have_moved(group: Group, branch: Branch | None, former: Former) -> bool:
        """Whether a row that exists can have come to its layer, or left it, by what was written to itself.

        If it is new nothing below it is older, so that all of it was written, too.
        """
        if group.predicate is not None:
            return True
        if branch is None or branch.direction is Direction.ABOVE:
            return False
        return any(branch.edge.child.columns[place].name in former for place in branch.edge.child_places)

    def _step(self, number: int, layer: int, key: Key) -> Iterator[None]:
        """A row whose place may have changed, and with it that of the rows that hang on it there."""
        tree = self._view.trees[number]
        at = self._versions.as_of(self._position)
        version = at.row(key)
        former = self._former(key) or {}
        self._mark_ancestors(at, number, key[0], version, former)
        if layer == _ANCESTOR:
            return
        for hanging, branch in _branches(tree, layer, Direction.ABOVE):
            self._mark_referred_to(at, number, hanging, branch.edge, version, former)
        if version is None:
            return
        for hanging, branch in _branches(tree, layer, Direction.BELOW):
            edge, group = branch.edge, tree.layers[hanging].group
            there = {
                here: (version.row[place],) for here, place in zip(edge.child_places, edge.parent_places, strict=True)
            }
            for children in at.batches(edge.child.id, there) if (None,) not in there.values() else ():
                for child in children:
                    if group.holds(child.row) or self._former(child.key) is not None:
                        self._mark(number, hanging, child.key)
                yield

    def _mark_ancestors(self, at: AsOf, number: int, table_id: int, version: Version | None, former: Former) -> None:
        tree = self._view.trees[number]
        for edge in tree.edges_from.get(table_id, ()):
            if edge in tree.bringing[edge.parent.id]:
                self._mark_referred_to(at, number, _ANCESTOR, edge, version, former)

    def _mark_referred_to(
        self, at: AsOf, number: int, layer: int, edge: Edge, version: Version | None, former: Former
    ) -> None:
        """The rows that a row refers to by ``edge``, or did meanwhile."""
        choices: list[set[bytes | None]] = []
        for place in edge.child_places:
            forms = set(former.get(edge.child.columns[place].name, ()))
            if version is not None:
                forms.add(_value(version.row, place))
            choices.append(forms)
        for values in itertools.product(*choices):
            if None in values:
                continue
            there = {place: (form,) for place, form in zip(edge.parent_places, values, strict=True)}
            for parent in at.rows(edge.parent.id, there):
                self._mark(number, layer, parent.key)

    # ---- what has been met ---------------------------------------------------------------------------------------

    def _mark(self, tree: int, layer: int, key: Key) -> None:
        table_id, pk = key[0], _blob(key[1])
        self._database.execute("INSERT OR IGNORE INTO met (table_id, pk) VALUES (?, ?)", [table_id, pk])
        if not self._leads_on(tree, layer, table_id):
            return
        self._database.execute(
            "INSERT OR IGNORE INTO moved (tree, layer, table_id, pk) VALUES (?, ?, ?, ?)", [tree, layer, table_id, pk]
        )

    def _leads_on(self, number: int, layer: int, table_id: int) -> bool:
        """Whether the place of a row can matter to that of others."""
        known = self._leading.get((number, layer, table_id))
        if known is None:
            tree = self._view.trees[number]
            known = self._leading[number, layer, table_id] = bool(tree.branches.get(layer)) or any(
                edge in tree.bringing[edge.parent.id] for edge in tree.edges_from.get(table_id, ())
            )
        return known

    def _former(self, key: Key) -> Former | None:
        """What was written to the row; ``None`` if nothing was."""
        query = "SELECT former FROM met WHERE table_id = ? AND pk = ?"
        found = self._database.execute(query, [key[0], _blob(key[1])]).fetchone()
        return None if found is None or found[0] is None else _parsed(found[0])

    def _met(self, table_id: int, number: int, condition: str = "") -> Iterator[list[tuple[Row, Former | None]]]:
        """The rows met, so many at a time, with what was written to them; ``None`` if nothing was."""
        last = b""
        query = f"SELECT pk, former FROM met WHERE table_id = ? AND pk > ? {condition} ORDER BY pk LIMIT {number}"
        while rows := self._database.execute(query, [table_id, last]).fetchall():
            last = rows[-1][0]
            yield [(_key(pk), None if former is None else _parsed(former)) for pk, former in rows]


def _looks_down(tree: Tree, table_id: int) -> bool:
    """Whether rows of a table can be in the tree because others refer to them."""
    branches = [tree.layers[number].branch for number in tree.layers_on.get(table_id, ())]
    is_above = (branch is not None and branch.direction is Direction.ABOVE for branch in branches)
    return bool(tree.bringing.get(table_id)) or any(is_above)


def _branches(tree: Tree, layer: int, direction: Direction) -> Iterator[tuple[int, Branch]]:
    for hanging in tree.branches.get(layer, ()):
        branch = tree.layers[hanging].branch
        if branch is not None and branch.direction is direction:
            yield hanging, branch


def _value(row: Row, place: int) -> bytes | None:
    """A row written before a column was added has NULL there."""
    return row[place] if place < len(row) else None


#: Between the parts of a key: no text of Postgres holds it, and no part is NULL.
_BETWEEN_PARTS = b"\0"


def _blob(key: Row) -> bytes:
    return b"\1" + _BETWEEN_PARTS.join(part or b"" for part in key)


def _key(blob: bytes) -> Row:
    return tuple(blob[1:].split(_BETWEEN_PARTS))


def _json(former: Former) -> str:
    return json.dumps(
        {name: [None if form is None else form.decode() for form in forms] for name, forms in former.items()}
    )


def _parsed(text: str) -> Former:
    return {
        name: [None if form is None else form.encode() for form in forms] for name, forms in json.loads(text).items()
    }
