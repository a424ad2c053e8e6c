"""What a client that was away is told of trees: enough to be right in the end, and little else."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leyden.model import Column, Row, Table
from leyden.shapes.aftermath import Aftermath, Former, Telling, may_have_held, tied_columns
from leyden.shapes.request import Select
from leyden.shapes.view import View
from linked_tables import COMMENTS, ISSUES, PROJECTS, TABLES, USERS, Rows, World, expected, include, part, row
from tree_histories import differences, histories, selects
from views import group

BY_ID = {table.id: table for table in TABLES.values()}
Step = tuple[Table, Row | None, Row | None]


class Away:
    """A client that was told nothing of what has been committed."""

    def __init__(self, world: World, shapes: Iterable[Select]) -> None:
        self.world = world
        self.view = View(map(part, shapes))
        self.written: dict[tuple[int, Row], dict[str, set[bytes | None]]] = {}

    def commit(self, *steps: Step) -> None:
        """As the triggers note it."""
        self.world.commit(*steps)
        for table, old, new in steps:
            image = new if old is None else old
            assert image is not None
            former = self.written.setdefault((table.id, table.key_of(image)), {})
            ties = [place for place, column in enumerate(table.columns) if column.name in tied_columns(table)]
            if old is not None and (new is None or any(old[place] != new[place] for place in ties)):
                for place in ties:
                    former.setdefault(table.columns[place].name, set()).add(old[place])

    def told(self) -> tuple[Rows, list[tuple[int, Row]]]:
        """The rows to hold, and those not to hold, in the order in which they are told."""
        aftermath = Aftermath(self.view, self.world.versions, self.world.position, None)
        for table in TABLES.values():
            rows: list[tuple[Row, Former]] = [
                (key, former) for (table_id, key), former in self.written.items() if table_id == table.id
            ]
            aftermath.wrote(table, rows)
        for _ in aftermath.follow():
            pass
        staying = [version for batch in aftermath.staying() for version in batch]
        leaving = [one for batch in aftermath.leaving() for one in batch]
        aftermath.close()
        return (
            {version.key: version.row for version in staying},
            [(one.table.id, one.key) for one in leaving],
        )

    def names(self) -> list[str]:
        staying, leaving = self.told()
        return [
            f"{sign}{BY_ID[id_].name} {(key[0] or b'').decode()}"
            for sign, keys in (("+", staying), ("-", leaving))
            for id_, key in keys
        ]


@settings(max_examples=400, deadline=None)
@given(histories(), st.lists(selects(), min_size=1, max_size=3), st.data())
def test_afterwards_the_client_has_what_its_shapes_select_and_all_that_this_refers_to(
    states: list[Rows], shapes: list[Select], data: st.DataObject
) -> None:
    away = Away(World((BY_ID[id_], one) for (id_, _), one in states[0].items()), shapes)
    for state in states[1:]:
        away.commit(*data.draw(st.permutations(differences(away.world.rows, state))))
    for key in data.draw(st.lists(st.sampled_from(list(away.world.rows) or [(1, row(1))]), max_size=2)):
        away.written.setdefault(key, {})  # in doubt it was

    staying, leaving = away.told()

    held = {key: one for key, one in {**expected(states[0], shapes), **staying}.items() if key not in leaving}
    assert held == expected(states[-1], shapes)
    assert not staying.keys() & set(leaving)


PROJECT, OTHER = row(10, "open", 1), row(11, "open", 2)
ROWS = [
    *((USERS, row(key, f"user {key}", None)) for key in (1, 2, 3)),
    (PROJECTS, PROJECT),
    (PROJECTS, OTHER),
    (ISSUES, row(100, "open", 10, 1)),
    (ISSUES, row(101, "open", 10, 2)),
    (ISSUES, row(110, "open", 11, 3)),
    (COMMENTS, row(1000, "x", 100, 2)),
]
WITH_ISSUES = (include("project_id", Select("issues")),)
MINE = Select("projects", "this.owner_id = 1", WITH_ISSUES)
OPEN = Select("projects", "this.status = 'open'", WITH_ISSUES)
ALL = Select("projects", "", WITH_ISSUES)

TOLD: list[tuple[Select, list[Step], list[str]]] = [
    (MINE, [], []),
    # what nobody of the tree's tables is tied to
    (MINE, [(COMMENTS, row(1000, "x", 100, 2), None)], []),
    # a row of somebody else: what hangs on it cannot have been here, as its tie has always been another one
    (MINE, [(PROJECTS, OTHER, row(11, "closed", 2))], ["+users 2", "-projects 11"]),
    # its filter tells nothing of before: it and what hangs on it may be there
    (OPEN, [(PROJECTS, OTHER, row(11, "closed", 2))], ["+users 2", "-issues 110", "-projects 11", "-users 3"]),
    # no filter, so it was there all the time, and so was what hangs on it
    (ALL, [(PROJECTS, PROJECT, row(10, "closed", 1))], ["+users 1", "+projects 10"]),
    # handed over, and back again
    (
        MINE,
        [(PROJECTS, OTHER, row(11, "open", 1)), (PROJECTS, row(11, "open", 1), OTHER)],
        ["+users 1", "+users 2", "-issues 110", "-projects 11", "-users 3"],
    ),
    (
        MINE,
        [(PROJECTS, PROJECT, row(10, "open", 3))],
        ["-issues 100", "-issues 101", "-projects 10", "-users 1", "-users 2", "-users 3"],
    ),
    # a reference to another row: the former one may go
    (
        Select("issues", "this.project_id = 11"),
        [(ISSUES, row(110, "open", 11, 3), row(110, "open", 11, 1))],
        ["+users 1", "+users 2", "+projects 11", "+issues 110", "-users 3"],
    ),
    (
        Select("issues", "this.project_id = 11"),
        [(ISSUES, row(110, "open", 11, 3), None)],
        ["-issues 110", "-projects 11", "-users 2", "-users 3"],
    ),
]


@pytest.mark.parametrize(("select", "steps", "expected_names"), TOLD)
def test_little_is_told_besides(select: Select, steps: list[Step], expected_names: list[str]) -> None:
    away = Away(World(ROWS), [select])
    for step in steps:
        away.commit(step)
    assert away.names() == expected_names


def test_what_lies_between_more_rows_than_are_followed_at_a_time_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leyden.shapes.aftermath.SLICE", 3)
    monkeypatch.setattr("leyden.shapes.aftermath.BATCH", 2)
    issues = [(ISSUES, row(key, "open", 11, 3)) for key in range(200, 220)]
    away = Away(World([*ROWS, *issues]), [MINE])
    away.commit((PROJECTS, OTHER, row(11, "open", 1)))
    staying, leaving = away.told()
    assert len(staying) == 3 + 1 + 21  # users, the project, its issues
    assert leaving == []


OWNED = Table(
    9,
    "notes",
    (Column("id", "text", True), Column("electric_user_id", "text", False), Column("kind", "text", False)),
    ("id",),
    "p",
)


def note(owner: bytes | None, kind: bytes | None = None) -> Row:
    return (b"1", owner, kind)


@pytest.mark.parametrize(
    ("present", "former", "allowed"),
    [
        (note(b"me"), {}, True),
        (note(None), {}, True),
        (note(b""), {}, True),
        (note(b"you"), {}, False),
        (None, {}, False),
        (note(b"you"), {"electric_user_id": [b"they", b"me"]}, True),
        (note(b"you"), {"electric_user_id": [None]}, True),
        (None, {"electric_user_id": [b"me"]}, True),
        (None, {"electric_user_id": [b"you"]}, False),
        ((b"1",), {}, True),
    ],
)
def test_nobody_is_told_of_rows_that_were_never_his(present: Row | None, former: Former, *, allowed: bool) -> None:
    assert Telling(OWNED, "me").allowed(present, former) is allowed
    assert Telling(OWNED, None).allowed(present, former)
    assert Telling(USERS, "me").allowed(present, former)


@pytest.mark.parametrize(
    ("where", "present", "former", "possible"),
    [
        ("", None, {}, True),
        ("this.kind = 'a'", note(None, b"b"), {}, True),  # nobody knows what it was
        ("this.electric_user_id = 'me'", note(b"me"), {}, True),
        ("this.electric_user_id = 'me'", note(b"you"), {}, False),
        ("this.electric_user_id = 'me'", note(b"you"), {"electric_user_id": [b"me"]}, True),
        ("this.electric_user_id = 'me'", None, {"electric_user_id": [b"you"]}, False),
        ("this.electric_user_id IN ('me', 'us') AND this.kind = 'a'", note(b"us"), {}, True),
    ],
)
def test_a_filter_on_what_rows_are_tied_to_tells_which_rows_it_has_never_let_pass(
    where: str, present: Row | None, former: Former, *, possible: bool
) -> None:
    assert may_have_held(group(OWNED, where), present, former) is possible
