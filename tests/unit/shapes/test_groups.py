"""Which groups a change concerns, found without asking all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from filtered_items import FILTERS, ITEMS, Committed, commits
from leyden.model import Change, Insert, Row, Transaction, Update
from leyden.shapes.groups import Group
from leyden.shapes.index import PartIndex
from leyden.shapes.sight import Sight
from leyden.shapes.where import Predicate
from views import group


@given(committed=commits(), filters=st.sets(st.sampled_from(FILTERS)), removed=st.sets(st.sampled_from(FILTERS)))
def test_the_index_finds_the_groups_that_see_something_and_no_other(
    committed: Committed, filters: set[str], removed: set[str]
) -> None:
    index = PartIndex()
    for where in filters | removed:
        index.add(group(ITEMS, where))
    for where in removed:
        index.remove(group(ITEMS, where))
    expected = {
        one
        for one in (group(ITEMS, where) for where in filters - removed)
        for change in committed.transaction.changes
        if any(one.holds(row) for row in _rows(change))
    }
    found = list(index.concerned(Sight(committed.transaction)))
    assert index.looks_at(committed.transaction) or not found
    assert len(found) == len(set(found))
    assert set(found) == expected


def _rows(change: Change) -> list[Row]:
    match change:
        case Insert():
            return [change.row]
        case Update():
            return [change.old, change.new]
    return [change.old]


def test_filters_that_nothing_passes_can_be_added_and_removed() -> None:
    index = PartIndex()
    impossible = [group(ITEMS, f"this.owner = '{owner}' AND this.owner = 'b'") for owner in "ac"]
    for one in impossible:
        index.add(one)
    for one in impossible:
        index.remove(one)
    assert index.is_empty


def counted(one: Group, count: Callable[[], None]) -> Group:
    predicate = one.predicate
    assert predicate is not None

    def matches(row: Row) -> bool | None:
        count()
        return predicate.matches(row)

    counting: Predicate = replace(predicate, matches=matches)
    return Group(one.table, counting)


def test_of_ten_thousand_filters_on_a_user_one_is_evaluated() -> None:
    index, evaluated = PartIndex(), []
    for number in range(10_000):
        one = group(ITEMS, f"this.owner = 'user-{number}' AND this.n > 0")
        index.add(counted(one, lambda number=number: evaluated.append(number)))  # type: ignore[misc]
    change = Update(ITEMS, (b"1", b"user-77", b"1"), (b"1", b"user-77", b"2"), ())
    found = list(index.concerned(Sight(Transaction(10, 10, 1, None, (change,)))))

    assert found == [group(ITEMS, "this.n > 0 AND this.owner = 'user-77'")]
    assert evaluated == [77, 77]  # the row before and after


def test_only_tables_that_something_is_asked_of_are_looked_at() -> None:
    index = PartIndex()
    committed = Transaction(10, 10, 1, None, (Insert(ITEMS, (b"1", b"a", b"1"), ()),))
    elsewhere = Transaction(20, 20, 1, None, (Insert(replace(ITEMS, id=ITEMS.id + 1), (b"1", b"a", b"1"), ()),))
    assert not index.looks_at(committed)
    index.add(group(ITEMS, "this.n > 0"))
    assert index.looks_at(committed)
    assert not index.looks_at(elsewhere)


def test_a_change_is_judged_once_for_each_group() -> None:
    judged: list[int] = []
    one = counted(group(ITEMS, "this.n > 0"), lambda: judged.append(1))
    sight = Sight(Transaction(10, 10, 1, None, (Insert(ITEMS, (b"1", None, b"1"), ()),)))
    assert [sight.membership(0, one) for _ in range(3)] == [(False, True)] * 3
    assert judged == [1]


def test_equal_filters_are_one_group_however_they_are_spelt() -> None:
    assert group(ITEMS, "this.n = 1 AND this.owner = 'a'") == group(ITEMS, "'a' = this.owner and (1 = this.n)")
    assert group(ITEMS, "this.n = 1") != group(replace(ITEMS, id=2), "this.n = 1")


def test_a_removed_group_leaves_nothing_behind() -> None:
    index = PartIndex()
    groups = [group(ITEMS, where) for where in FILTERS]
    for one in groups:
        index.add(one)
    for one in groups:
        index.remove(one)
    assert index.is_empty
