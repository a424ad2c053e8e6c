"""Shapes along foreign keys: against a search through all rows, which asks of each why it should be there."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from leyden.shapes.index import PartIndex
from leyden.shapes.request import Select
from leyden.shapes.view import View
from linked_tables import COMMENTS, ISSUES, PROJECTS, TABLES, USERS, Rows, World, applied, expected, include, part, row
from tree_histories import differences, histories, selects

# ---- properties --------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(histories(), st.lists(selects(), min_size=1, max_size=3), st.data())
def test_a_client_has_what_its_shapes_select_and_all_that_this_refers_to(
    states: list[Rows], shapes: list[Select], data: st.DataObject
) -> None:
    by_id = {table.id: table for table in TABLES.values()}
    world = World((by_id[id_], one) for (id_, _), one in states[0].items())
    parts = [part(select) for select in shapes]
    view = View(parts)
    index = PartIndex()
    for one in view.parts:
        index.add(one)
    held = expected(states[0], shapes)
    steps = data.draw(st.permutations(range(1, len(states)))) if data.draw(st.booleans()) else range(1, len(states))
    committed = [states[0]]
    for number in steps:
        # a row may change twice in one transaction
        between = data.draw(st.sampled_from([world.rows, states[0], states[-1]]))
        state = states[number]
        changes = differences(world.rows, between) + data.draw(st.permutations(differences(between, state)))
        sight = world.commit(*changes)
        committed.append(state)
        seen = view.changes(sight)
        held = applied(held, seen, sight)
        assert held == expected(state, shapes)
        assert not seen or index.looks_at(sight.transaction)
        assert not seen or set(index.concerned(sight)), "the index finds nobody whom the transaction concerns"
        for one, select in zip(parts, shapes, strict=True):
            if View([one]).changes(sight):
                assert one in set(index.concerned(sight)), select
    # the rows that a client begins with, at every position so far
    for number, state in enumerate(committed):
        for one, select in zip(parts, shapes, strict=True):
            keys = [(TABLES[name].id, (key,)) for name, key in world.initial(one, number * 10)]
            assert len(keys) == len(set(keys))
            assert set(keys) == expected(state, [select]).keys()


@settings(max_examples=100, deadline=None)
@given(histories(), selects(), selects(), st.data())
def test_who_asks_for_more_gets_what_he_lacks_and_who_asks_for_less_keeps_what_is_left(
    states: list[Rows], first: Select, second: Select, data: st.DataObject
) -> None:
    by_id = {table.id: table for table in TABLES.values()}
    world = World((by_id[id_], one) for (id_, _), one in states[0].items())
    for state in states[1:]:
        world.commit(*differences(world.rows, state))
    number = data.draw(st.integers(0, len(states) - 1))
    rows, one, other = states[number], part(first), part(second)

    more = {(TABLES[name].id, (key,)) for name, key in world.initial(other, number * 10, View([one]))}

    assert more == expected(rows, [first, second]).keys() - expected(rows, [first]).keys()


def test_parents_come_before_their_children() -> None:
    world = World(
        [
            (COMMENTS, row(1000, "x", 100, 2)),
            (ISSUES, row(100, "open", 10, 1)),
            (PROJECTS, row(10, "open", 1)),
            (USERS, row(1, "ann", 3)),
            (USERS, row(2, "bob", None)),
            (USERS, row(3, "cid", None)),
        ]
    )
    shape = part(
        Select(
            "projects", "", (include("project_id", Select("issues", "", (include("issue_id", Select("comments")),))),)
        )
    )

    order = world.initial(shape)

    def place(name: str, key: int) -> int:
        return order.index((name, str(key).encode()))

    assert len(order) == 6
    assert place("users", 3) < place("users", 1) < place("projects", 10) < place("issues", 100)
    assert place("users", 2) < place("comments", 1000) > place("issues", 100)
