"""What a transaction changes for a client: applied in order, it must leave exactly the rows in view."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from filtered_items import FILTERS, ITEMS, Committed, commits
from leyden.model import Change, Delete, Gone, Insert, Row, Transaction, Update
from leyden.shapes.sight import Sight
from leyden.shapes.view import View
from views import group, whole


def view(*filters: str) -> View:
    return View(group(ITEMS, where) for where in filters)


def changes(seen: View, *of_transaction: Change) -> list[Change | Gone]:
    return seen.changes(Sight(Transaction(10, 10, 1, None, of_transaction)))


def row(key: int, owner: str | None = "a", n: int | None = 1) -> Row:
    return tuple(None if one is None else str(one).encode() for one in (key, owner, n))


A = "this.owner = 'a'"
OLD, NEW, ELSEWHERE = row(1, n=1), row(1, n=2), row(1, "z")


def test_rows_come_in_stay_and_go() -> None:
    tags = ("t",)
    assert changes(view(A), Update(ITEMS, OLD, NEW, tags)) == [Update(ITEMS, OLD, NEW, tags)]
    assert changes(view(A), Update(ITEMS, ELSEWHERE, NEW, tags)) == [Insert(ITEMS, NEW, tags)]
    assert changes(view(A), Update(ITEMS, OLD, ELSEWHERE, tags)) == [Gone(ITEMS, OLD)]
    assert changes(view(A), Update(ITEMS, ELSEWHERE, row(1, "y"), tags)) == []
    assert changes(view(A), Insert(ITEMS, NEW, tags)) == [Insert(ITEMS, NEW, tags)]
    assert changes(view(A), Insert(ITEMS, ELSEWHERE, tags)) == []
    assert changes(view(A), Delete(ITEMS, OLD)) == [Delete(ITEMS, OLD)]
    assert changes(view(A), Delete(ITEMS, ELSEWHERE)) == []


def test_a_row_goes_only_when_the_last_group_lets_go() -> None:
    both = view(A, "this.n = 1")
    first = Update(ITEMS, row(1, "a", 1), row(1, "z", 1), ())
    second = Update(ITEMS, row(1, "z", 1), row(1, "z", 2), ())
    assert changes(both, first) == [first]
    assert changes(both, second) == [Gone(ITEMS, second.old)]


def test_a_row_that_goes_and_comes_back_is_changed_once() -> None:
    away, back = Update(ITEMS, OLD, ELSEWHERE, ("t1",)), Update(ITEMS, ELSEWHERE, NEW, ("t2",))
    other = Insert(ITEMS, row(2), ())
    assert changes(view(A), away, other, back) == [other, Update(ITEMS, OLD, NEW, ("t2",))]
    assert changes(view(A), back, away) == []
    assert changes(view(A), away, Delete(ITEMS, ELSEWHERE)) == [Gone(ITEMS, OLD)]


def test_a_row_that_dies_and_lives_again_is_inserted_once() -> None:
    """The client takes the tags of a row's first change in a transaction, and a deletion has none."""
    again = Insert(ITEMS, NEW, ("t",))
    assert changes(view(A), Delete(ITEMS, OLD), again) == [again]
    assert changes(view(A), again, Delete(ITEMS, NEW), again) == [again]
    update = Update(ITEMS, NEW, row(1, n=3), ("t",))
    other = Insert(ITEMS, row(2), ("t",))
    seen = changes(view(A), Delete(ITEMS, OLD), other, again, update, Delete(ITEMS, row(3)))
    assert seen == [other, Insert(ITEMS, update.new, ("t",)), Delete(ITEMS, row(3))]
    assert changes(view(A), Delete(ITEMS, OLD), Insert(ITEMS, ELSEWHERE, ("t",))) == [Delete(ITEMS, OLD)]
    assert changes(view(A), Delete(ITEMS, OLD), again, Delete(ITEMS, NEW)) == [Delete(ITEMS, NEW)]


def test_of_a_whole_table_every_change_is_seen_as_it_is() -> None:
    all_of_them = [Insert(ITEMS, OLD, ()), Update(ITEMS, OLD, ELSEWHERE, ()), Delete(ITEMS, ELSEWHERE)]
    assert changes(whole(ITEMS), *all_of_them) == all_of_them
    assert changes(view("", A), *all_of_them) == all_of_them


def applied(rows: dict[bytes | None, Row], seen: list[Change | Gone]) -> dict[bytes | None, Row]:
    """As the client does: an insert or update is an upsert; what goes is put behind everything else."""
    rows = dict(rows)
    for one in seen:
        match one:
            case Insert():
                rows[one.row[0]] = one.row
            case Update():
                rows[one.new[0]] = one.new
            case Delete():
                rows.pop(one.old[0], None)
    for one in seen:
        if isinstance(one, Gone):
            assert rows.pop(one.old[0], None) is not None
    return rows


def tags_taken(seen: list[Change | Gone]) -> dict[bytes | None, tuple[str, ...]]:
    """As the client does: those of the first change of a row."""
    tags: dict[bytes | None, tuple[str, ...]] = {}
    for one in seen:
        match one:
            case Insert(row=row, tags=given):
                tags.setdefault(row[0], given)
            case Update(new=new, tags=given):
                tags.setdefault(new[0], given)
            case Delete(old=old) | Gone(old=old):
                tags.setdefault(old[0], ())
    return tags


@given(committed=commits(), filters=st.lists(st.sampled_from(FILTERS), max_size=3))
def test_a_client_ends_with_exactly_the_rows_in_view(committed: Committed, filters: list[str]) -> None:
    seen = view(*filters)
    client = {key: one for key, one in committed.before.items() if seen.holds(ITEMS, one)}
    expected = {key: one for key, one in committed.after.items() if seen.holds(ITEMS, one)}

    told = seen.changes(Sight(committed.transaction))
    assert applied({**client}, told) == expected
    tags = tags_taken(told)
    assert {key: tags[key] for key in expected if key in tags} == {key: ("t",) for key in expected if key in tags}
