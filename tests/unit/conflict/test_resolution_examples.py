"""The worked examples of the conflict rules, each as one story."""

from __future__ import annotations

from leyden.conflict.operations import Kind, Operation
from leyden.conflict.resolution import RowState, resolve
from leyden.conflict.tags import EPOCH, Tag

COLUMNS = ("content", "content_b")
P = Tag(1_700_000_000_000, None)


def row(content: bytes | None, content_b: bytes | None = None) -> dict[str, bytes | None]:
    return {"id": b"Z", "content": content, "content_b": content_b}


def insert(values: dict[str, bytes | None], *observed: Tag) -> Operation:
    return Operation(Kind.INSERT, values, frozenset(COLUMNS), frozenset(observed))


def update(values: dict[str, bytes | None], column: str, *observed: Tag) -> Operation:
    return Operation(Kind.UPDATE, values, frozenset({column}), frozenset(observed))


def delete(*observed: Tag) -> Operation:
    return Operation(Kind.DELETE, row(None), frozenset(), frozenset(observed))


def compensate(*observed: Tag) -> Operation:
    return Operation(Kind.COMPENSATE, row(None), frozenset(), frozenset(observed))


def by_postgres(values: dict[str, bytes | None], tag: Tag = P) -> RowState:
    return RowState(values, None, frozenset({tag}), dict.fromkeys(COLUMNS, tag))


def test_an_update_in_the_past_changes_no_value_but_leaves_its_tag() -> None:
    past = Tag(1686009600000, "c1")
    after = resolve(by_postgres(row(b"sentinel")), update(row(b"old news"), "content"), past)
    assert after.main == row(b"sentinel")
    assert after.tags == {P, past}
    assert after.column_tags["content"] == P


def test_concurrent_updates_of_different_columns_both_stand() -> None:
    t1, t2 = Tag(P.ms + 1, "c1"), Tag(P.ms + 2, "c2")
    state = resolve(by_postgres(row(b"a", b"b")), update(row(b"by 1", b"b"), "content", P), t1)
    state = resolve(state, update(row(b"a", b"by 2"), "content_b", P), t2)
    assert state.main == row(b"by 1", b"by 2")
    assert state.tags == {t1, t2}


def test_an_update_that_did_not_see_the_delete_brings_the_row_back_from_its_last_version() -> None:
    buried = RowState(None, row(b"updated value"), frozenset(), dict.fromkeys(COLUMNS, P))
    later = Tag(P.ms + 9, "c1")
    after = resolve(buried, update(row(b"stale", b"new value"), "content_b", P), later)
    assert after.main == row(b"updated value", b"new value")
    assert after.tags == {later}


def test_a_compensation_of_a_row_inserted_in_the_same_upload_changes_nothing() -> None:
    t = Tag(P.ms, "c1")
    inserted = resolve(RowState(), insert(row(b"x")), t)
    assert resolve(inserted, compensate(), t) == inserted


def test_a_compensation_revives_a_dead_row_as_it_was() -> None:
    t1, t2 = Tag(1, "c1"), Tag(2, "c1")
    state = resolve(RowState(None, row(b"hello world"), frozenset(), {}), compensate(t1), t2)
    assert state.main == row(b"hello world")
    assert state.tags == {t2}
    assert state.column_tags == {}


def test_a_delete_that_saw_everything_removes_the_row_whatever_the_clocks() -> None:
    state = resolve(by_postgres(row(b"x")), delete(P), Tag(0, "c1"))
    assert state == RowState(None, row(b"x"), frozenset(), dict.fromkeys(COLUMNS, P))


def test_a_delete_that_missed_a_write_leaves_the_row() -> None:
    unseen = Tag(P.ms + 1, "c2")
    state = resolve(by_postgres(row(b"x")), update(row(b"y"), "content", P), unseen)
    after = resolve(state, delete(P), Tag(P.ms + 2, "c1"))
    assert after.main == row(b"y")
    assert after.tags == {unseen}


def test_a_row_older_than_electrification_can_be_deleted_by_who_saw_it() -> None:
    old = RowState(row(b"x"))
    assert old.tags == {EPOCH}
    assert resolve(old, delete(EPOCH), Tag(1, "c1")).main is None
    assert resolve(old, delete(), Tag(1, "c1")).main == row(b"x")


def test_every_client_clock_beats_a_column_never_written_since_electrification() -> None:
    after = resolve(RowState(row(b"x")), update(row(b"y"), "content", EPOCH), Tag(-5, "c1"))
    assert after.main == row(b"y")


def test_deleting_what_never_existed_leaves_no_trace() -> None:
    assert resolve(RowState(), delete(), Tag(1, "c1")) == RowState()


def test_a_reinsert_with_an_older_clock_shows_the_dead_values() -> None:
    buried = RowState(None, row(b"dead"), frozenset(), dict.fromkeys(COLUMNS, P))
    assert resolve(buried, insert(row(b"new")), Tag(P.ms - 1, "c1")).main == row(b"dead")


def test_the_dead_version_survives_a_revival() -> None:
    buried = RowState(None, row(b"dead"), frozenset(), {})
    assert resolve(buried, insert(row(b"new")), Tag(1, "c1")).dead == row(b"dead")


def test_tags_left_on_a_row_that_is_gone_do_not_count() -> None:
    assert RowState(None, None, frozenset({P}), {}).tags == frozenset()


def test_a_column_added_after_the_row_died_revives_empty() -> None:
    buried = RowState(None, {"id": b"Z", "content": b"x"}, frozenset(), {})
    assert resolve(buried, compensate(), Tag(1, "c1")).main == row(b"x")
