"""The invariants of resolution on arbitrary histories, and agreement with an independent model."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from conflict_model import Event, History, Stamp, beats
from leyden.conflict.operations import Kind, Operation
from leyden.conflict.resolution import RowState, resolve
from leyden.conflict.tags import Tag

ALL = ["id", "a", "b"]
COLUMNS = ["a", "b"]
KINDS = st.sampled_from(list(Kind))
VALUES = st.none() | st.sampled_from([b"x", b"y", b"z"])
STAMPS = st.builds(Tag, st.integers(0, 6), st.sampled_from(["c1", "c2", "c3"]))

Step = tuple[Operation, Tag]


@st.composite
def steps(draw: st.DrawFn, kinds: st.SearchStrategy[Kind] = KINDS) -> Step:
    kind = draw(kinds)
    values = {"id": b"k", **{column: draw(VALUES) for column in COLUMNS}}
    if kind is Kind.INSERT:
        mask = frozenset(COLUMNS)
    elif kind is Kind.UPDATE:
        mask = draw(st.frozensets(st.sampled_from(COLUMNS)))
    else:
        mask = frozenset()
    return Operation(kind, values, mask, draw(st.frozensets(STAMPS, max_size=5))), draw(STAMPS)


HISTORIES = st.lists(steps(), max_size=9)


def run(history: list[Step], state: RowState | None = None) -> RowState:
    state = state or RowState()
    for operation, tag in history:
        state = resolve(state, operation, tag)
    return state


def stamp(tag: Tag) -> Stamp:
    return Stamp(tag.ms, tag.origin)


def as_event(step: Step) -> Event:
    operation, tag = step
    values = {name: value and value.decode() for name, value in operation.incoming.items()}
    left = None if operation.kind is Kind.DELETE else stamp(tag)
    return Event(values, operation.mask, frozenset(map(stamp, operation.observed)), left)


@given(HISTORIES)
def test_it_agrees_with_the_independent_model(history: list[Step]) -> None:
    model = History(COLUMNS)
    state = RowState()
    for step in history:
        model.events.append(as_event(step))
        state = resolve(state, *step)
        row, dead = ({n: v and v.encode() for n, v in one.items()} if one else None for one in model.versions())
        assert (state.main, state.dead) == (row, dead)
        assert set(map(stamp, state.tags)) == model.tags()
        assert {column: stamp(tag) for column, tag in state.column_tags.items()} == model.clocks()


@given(STAMPS | st.just(Tag(3, None)), STAMPS | st.just(Tag(3, None)))
def test_the_order_of_tags_is_that_of_the_model(one: Tag, other: Tag) -> None:
    assert (one > other) == beats(stamp(one), stamp(other))


@given(HISTORIES)
def test_a_row_exists_exactly_while_it_has_tags(history: list[Step]) -> None:
    for length in range(len(history) + 1):
        state = run(history[:length])
        assert (state.main is not None) == bool(state.tags)


@given(
    st.lists(steps(st.sampled_from([Kind.INSERT, Kind.UPDATE])), max_size=4, unique_by=lambda step: step[1]),
    st.lists(VALUES, min_size=2, max_size=2),
)
def test_without_deletes_the_greatest_tag_decides_each_column_in_any_order(
    history: list[Step], first: list[bytes | None]
) -> None:
    start = RowState({"id": b"k", "a": first[0], "b": first[1]})
    expected = dict(start.main or {})
    for column in COLUMNS:
        writers = [(tag, operation) for operation, tag in history if column in operation.mask]
        if writers:
            expected[column] = max(writers, key=lambda writer: writer[0])[1].incoming[column]
    for order in itertools.permutations(history):
        assert run(list(order), start).main == expected


@given(HISTORIES, STAMPS)
def test_a_delete_that_saw_all_tags_removes_the_row(history: list[Step], tag: Tag) -> None:
    state = run(history)
    delete = Operation(Kind.DELETE, {"id": b"k", "a": None, "b": None}, frozenset(), state.tags)
    after = resolve(state, delete, tag)
    assert after.main is None
    assert after.dead == (state.main or state.dead)


@given(HISTORIES, STAMPS)
def test_a_delete_spares_tags_its_author_had_not_seen(history: list[Step], unseen: Tag) -> None:
    state = run(history)
    if unseen in state.tags:
        delete = Operation(Kind.DELETE, {"id": b"k"}, frozenset(), state.tags - {unseen})
        assert resolve(state, delete, Tag(99, "c9")).tags == {unseen}


@given(HISTORIES)
def test_column_tags_never_decrease(history: list[Step]) -> None:
    state = RowState()
    for operation, tag in history:
        after = resolve(state, operation, tag)
        for column, before in state.column_tags.items():
            assert after.column_tags[column] >= before
        state = after


@given(HISTORIES, st.lists(steps(), min_size=1, max_size=1))
def test_applying_an_operation_twice_in_a_row_equals_once(history: list[Step], last: list[Step]) -> None:
    once = run(history + last)
    assert run(last, once) == once


@given(HISTORIES, steps())
def test_a_stale_retransmission_changes_no_column_that_has_a_newer_tag(history: list[Step], step: Step) -> None:
    state = run([step, *history])
    again = run([step], state)
    if state.main is not None and again.main is not None:
        for column, tag in state.column_tags.items():
            if tag > step[1]:
                assert again.main[column] == state.main[column]


@given(HISTORIES, steps())
def test_no_column_outside_the_mask_changes_while_the_row_lives(history: list[Step], step: Step) -> None:
    state = run(history)
    after = run([step], state)
    if state.main is not None and after.main is not None:
        for column in ALL:
            if column not in step[0].mask:
                assert after.main[column] == state.main[column]
