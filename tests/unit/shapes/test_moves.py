"""The moves that the old service was observed to make, and those that it should have made (docs/shapes.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leyden.model import (
    AddColumns,
    Change,
    Column,
    Delete,
    Gone,
    Insert,
    Migration,
    Row,
    Table,
    Transaction,
    Update,
)
from leyden.shapes.index import PartIndex
from leyden.shapes.request import Select
from leyden.shapes.sight import Sight
from leyden.shapes.versions import VersionedTables
from leyden.shapes.view import View
from linked_tables import COMMENTS, ISSUES, PROJECTS, USERS, World, include, part, row

ROWS = [
    *((USERS, row(key, f"user {key}", None)) for key in (1, 2, 3)),
    (PROJECTS, row(10, "open", 1)),
    (PROJECTS, row(11, "closed", 2)),
    (ISSUES, row(100, "open", 10, 1)),
    (ISSUES, row(101, "open", 11, 3)),
    (ISSUES, row(102, "closed", 10, 2)),
    (COMMENTS, row(1000, "x", 100, 2)),
    (COMMENTS, row(1001, "x", 101, 1)),
]
OPEN = "this.status = 'open'"
A = Select("projects", OPEN)
B = Select("projects", OPEN, (include("project_id", Select("issues")),))
C = Select("projects", OPEN, (include("project_id", Select("issues", "", (include("issue_id", Select("comments")),))),))
OPEN_ISSUES = Select("projects", OPEN, (include("project_id", Select("issues", OPEN)),))
ALL = Select("projects", "", (include("project_id", Select("issues")),))

Step = list[tuple[Table, Row | None, Row | None]]


def project(key: int, status: str, owner: int | None) -> Row:
    return row(key, status, owner)


def issue(key: int, status: str, of: int, author: int) -> Row:
    return row(key, status, of, author)


P10, P11 = project(10, "open", 1), project(11, "closed", 2)
I100, I101, I102 = issue(100, "open", 10, 1), issue(101, "open", 11, 3), issue(102, "closed", 10, 2)

MOVES: list[tuple[list[Select], Step, list[str]]] = [
    # the numbers are those of docs/shapes.md
    ([A], [(USERS, None, row(4, "d", None)), (PROJECTS, None, project(12, "open", 4))], ["+users 4", "+projects 12"]),
    ([A], [(PROJECTS, None, project(12, "closed", 1))], []),
    ([A], [(PROJECTS, P11, project(11, "open", 1))], ["+projects 11"]),
    ([A], [(PROJECTS, P11, project(11, "open", 2))], ["+users 2", "+projects 11"]),
    ([B], [(PROJECTS, P11, project(11, "open", 2))], ["+users 3", "+projects 11", "+issues 101"]),
    (
        [B],
        [(PROJECTS, P10, project(10, "closed", 1))],
        ["-issues 100", "-issues 102", "-projects 10", "-users 1", "-users 2"],
    ),
    (
        [B],
        [
            (COMMENTS, row(1000, "x", 100, 2), None),
            (ISSUES, I100, None),
            (ISSUES, I102, None),
            (PROJECTS, P10, None),
        ],
        ["!issues 100", "!issues 102", "!projects 10", "-users 1", "-users 2"],
    ),
    ([C], [(ISSUES, I101, issue(101, "open", 10, 3))], ["+users 3", "+issues 101", "+comments 1001"]),
    ([C], [(ISSUES, I100, issue(100, "open", 11, 1))], ["-comments 1000", "-issues 100"]),
    ([ALL], [(ISSUES, I100, issue(100, "open", 11, 1))], ["~issues 100"]),
    ([OPEN_ISSUES], [(ISSUES, I102, issue(102, "open", 10, 2))], ["+users 2", "+issues 102"]),
    ([A, Select("projects", "this.owner_id = 1")], [(PROJECTS, P10, project(10, "closed", 1))], ["~projects 10"]),
    (
        [A],
        [
            (PROJECTS, P10, project(10, "open", 2)),
            (PROJECTS, project(10, "open", 2), project(10, "closed", 2)),
        ],
        ["-projects 10", "-users 1"],
    ),
    (
        [A],
        [(PROJECTS, P10, project(10, "closed", 1)), (PROJECTS, project(10, "closed", 1), P10)],
        ["~projects 10"],
    ),
    ([A], [(PROJECTS, None, project(12, "open", 1)), (PROJECTS, project(12, "open", 1), None)], []),
    ([A], [(PROJECTS, P10, project(10, "open", 3))], ["-users 1", "+users 3", "~projects 10"]),
    ([A], [(PROJECTS, P10, project(10, "open", None))], ["-users 1", "~projects 10"]),
    ([A], [(USERS, row(1, "user 1", None), row(1, "new", None))], ["~users 1"]),
    ([A], [(USERS, row(3, "user 3", None), row(3, "new", None))], []),
    (
        [A],
        [(PROJECTS, P10, None), (PROJECTS, None, project(10, "open", 2))],
        ["-users 1", "+users 2", "+projects 10"],
    ),
    (
        [B],
        [(ISSUES, None, issue(103, "open", 11, 1)), (PROJECTS, P11, project(11, "open", 2))],
        ["+users 3", "+projects 11", "+issues 101", "+issues 103"],
    ),
    ([Select("projects")], [(COMMENTS, row(1000, "x", 100, 2), None)], []),
    # above the root, and from there below again: the other issues of the project of an issue
    (
        [Select("issues", "this.id = 101", (include("project_id", Select("projects", "", B.includes)),))],
        [(ISSUES, I101, issue(101, "open", 10, 3))],
        ["-projects 11", "+users 1", "+projects 10", "+issues 100", "~issues 101", "+issues 102"],
    ),
    # a row that is there only because another of its own table refers to it
    (
        [Select("users", "this.name = 'user 1'")],
        [(USERS, row(1, "user 1", None), row(1, "user 1", 2))],
        ["~users 1", "+users 2"],
    ),
]


@pytest.mark.parametrize(("shapes", "step", "expected"), MOVES)
def test_a_move(shapes: list[Select], step: Step, expected: list[str]) -> None:
    world, view = World(ROWS), View(map(part, shapes))

    changes = view.changes(world.commit(*step))

    assert sorted(_told(changes)) == sorted(expected)
    order = [one.table for one in changes if not isinstance(one, Delete | Gone)]
    assert order == sorted(order, key=[USERS, PROJECTS, ISSUES, COMMENTS].index)


def test_what_a_transaction_changes_in_a_table_has_the_columns_that_it_adds_to_it() -> None:
    wider = replace(PROJECTS, columns=(*PROJECTS.columns, Column("note", "text", False)))
    changes = (
        Update(wider, (*P10, None), (*project(10, "open", 3), None), ("t@1",)),
        Update(wider, (*P11, None), (*project(11, "closed", 3), None), ("t@1",)),
    )
    transaction = Transaction(10, 10, 1, None, changes, Migration("1", 10, 1, (AddColumns(wider, ("note",)),)))
    versions = VersionedTables()
    for one, rows in (
        (USERS, [row(number, "x", None) for number in (1, 2, 3)]),
        (wider, [(*project(10, "open", 3), b"n"), (*project(11, "closed", 3), b"n")]),
    ):
        versions.begin(one)
        versions.load(one, [(values, ("t@1",)) for values in rows])
        versions.take_back(one, transaction)
        versions.complete(one)

    for filtered in ("this.id = 10", "this.owner_id = 1"):
        (change,) = (
            one
            for one in View([part(Select("projects", filtered))]).changes(Sight(transaction, versions))
            if one.table.id == wider.id
        )
        assert not isinstance(change, Insert)
        images = [change.old, change.new] if isinstance(change, Update) else [change.old]
        assert change.table == wider
        assert {len(image) for image in images} == {4}


def test_a_change_of_a_row_that_a_row_of_its_own_table_refers_to_is_found_by_the_index() -> None:
    world, index = World([(USERS, row(1, "ann", 2)), (USERS, row(2, "bob", None))]), PartIndex()
    anns, bobs = part(Select("users", "this.name = 'ann'")), part(Select("users", "this.name = 'cid'"))
    index.add(anns)
    index.add(bobs)

    sight = world.commit((USERS, row(2, "bob", None), row(2, "dan", None)))

    assert list(index.concerned(sight)) == [anns]
    assert _told(View([anns]).changes(sight)) == ["~users 2"]


def test_of_many_trees_that_differ_in_one_value_a_parents_change_concerns_only_those_that_hold_it() -> None:
    owners = range(1, 1_001)
    world = World(
        [
            *((USERS, row(key, "u", None)) for key in owners),
            *((PROJECTS, row(key, "open", key)) for key in owners),
        ]
    )
    index = PartIndex()
    trees = {key: part(Select("projects", f"this.owner_id = {key}")) for key in owners}
    for tree in trees.values():
        index.add(tree)

    sight = world.commit((USERS, row(7, "u", None), row(7, "new", None)))

    assert list(index.concerned(sight)) == [trees[7]]
    for tree in trees.values():
        index.remove(tree)
    assert index.is_empty


def _told(changes: list[Change | Gone]) -> list[str]:
    signs = {Insert: "+", Update: "~", Delete: "!", Gone: "-"}
    told = []
    for change in changes:
        (key,) = change.table.key_of(change.row if isinstance(change, Insert) else change.old)
        assert key is not None
        told.append(f"{signs[type(change)]}{change.table.name} {key.decode()}")
    return told
