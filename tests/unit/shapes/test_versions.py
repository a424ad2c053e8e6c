"""Rows as they were at each position."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from leyden.model import AddColumns, Change, Column, Delete, Insert, Migration, Row, Table, Transaction, Update
from leyden.shapes.versions import BATCH, VersionedTables

OLD = Table(1, "t", (Column("id", "int4", True), Column("v", "text", False)), ("id",), "t_pkey")
NEW = Table(1, "t", (*OLD.columns, Column("w", "text", False)), ("id",), "t_pkey")

State = dict[bytes, bytes | None]
STATES = st.lists(st.dictionaries(st.sampled_from([b"1", b"2", b"3"]), st.none() | st.binary(max_size=2)), min_size=1)


def history(states: list[State]) -> list[Transaction]:
    """The transactions that lead from each state to the next, at positions 10, 20, …"""
    transactions = []
    for number, (old, new) in enumerate(zip([{}, *states], states, strict=False), 1):
        changes: list[Change] = [Delete(OLD, (key, old[key])) for key in old if key not in new]
        changes += [Insert(OLD, (key, value), (f"t@{number}",)) for key, value in new.items() if key not in old]
        changes += [
            Update(OLD, (key, old[key]), (key, value), (f"t@{number}",))
            for key, value in new.items()
            if key in old and old[key] != value
        ]
        transactions.append(Transaction(number * 10, number, 1, None, tuple(changes)))
    return transactions


def rows(versions: VersionedTables, position: int, table: int = 1) -> dict[bytes | None, Row]:
    found = [one for batch in versions.as_of(position).batches(table, {}) for one in batch]
    assert len({one.key for one in found}) == len(found)
    for one in found:
        assert versions.as_of(position).row(one.key) == one
    return {one.row[0]: one.row[1:] for one in found}


@given(STATES, st.data())
def test_a_table_loaded_at_any_time_is_known_at_every_position(states: list[State], data: st.DataObject) -> None:
    transactions = history(states)
    seen = data.draw(st.integers(0, len(states)))
    loaded: State = states[seen - 1] if seen else {}
    versions = VersionedTables()
    versions.begin(OLD)
    versions.load(OLD, [((key, value), ("t@0",)) for key, value in loaded.items()])
    for transaction in reversed(transactions[:seen]):
        versions.take_back(OLD, transaction)
    followed = data.draw(st.integers(seen, len(states)))
    for transaction in transactions[seen:followed]:
        versions.follow(OLD, transaction)
    versions.complete(OLD)
    for transaction in transactions[followed:]:
        versions.apply(transaction)
    floor = data.draw(st.integers(0, len(states)))
    versions.trim(floor * 10)

    for number in range(floor, len(states) + 1):
        expected = {key: (value,) for key, value in (states[number - 1] if number else {}).items()}
        assert rows(versions, number * 10) == rows(versions, number * 10 + 9) == expected


def test_what_nobody_will_ask_for_is_forgotten() -> None:
    versions = VersionedTables()
    versions.begin(OLD)
    versions.complete(OLD)
    for transaction in history([{b"1": b"a"}, {b"1": b"b"}, {b"1": b"c"}]):
        versions.apply(transaction)
    assert rows(versions, 10) == {b"1": (b"a",)}

    versions.trim(20)

    assert rows(versions, 10) == {}
    assert rows(versions, 20) == {b"1": (b"b",)}


def test_a_row_has_the_columns_of_its_time() -> None:
    versions = VersionedTables()
    versions.begin(NEW)
    versions.load(NEW, [((b"1", b"a", b"new"), ("t@0",))])
    migration = Migration("1", 1, 1, (AddColumns(NEW, ("w",)),))
    versions.take_back(NEW, Transaction(20, 20, 1, None, (Insert(NEW, (b"2", b"b", b"new"), ("t@0",)),), migration))
    versions.complete(NEW)

    assert rows(versions, 19) == {b"1": (b"a",)}
    assert rows(versions, 20) == {b"1": (b"a", b"new")}
    (before,), (after,) = (list(versions.as_of(position).rows(1, {0: (b"1",)})) for position in (19, 20))
    assert (before.table.columns, after.table) == (OLD.columns, NEW)


def test_a_table_can_be_forgotten_while_it_is_read() -> None:
    versions = VersionedTables()
    versions.begin(OLD)
    versions.load(OLD, [((str(number).encode(), b"x"), ("t@0",)) for number in range(2_000)])
    versions.complete(OLD)
    reading = versions.as_of(0).rows(1, {1: (b"x",)})
    next(reading)

    versions.forget(1)
    versions.begin(OLD)

    assert 1 not in versions
    assert sum(1 for _ in reading) == 1_999
    versions.trim(0)


def test_who_has_a_table_at_a_position_keeps_it_when_it_is_forgotten() -> None:
    other = replace(OLD, id=2, name="u")
    versions = VersionedTables()
    for table in (OLD, other):
        versions.begin(table)
        versions.load(table, [((str(number).encode(), b"x"), ("t@0",)) for number in range(2_000)])
        versions.complete(table)
    at = versions.as_of(0)
    reading_another = versions.as_of(0).rows(2, {1: (b"x",)})
    batches = at.batches(1, {})
    next(reading_another)
    next(batches)

    versions.forget(1)

    assert at.row((1, (b"7",))) is not None
    assert sum(map(len, batches)) == 2_000 - BATCH
    del at, batches
    reading_another.close()
    versions.trim(0)
    assert versions.as_of(0).row((2, (b"7",))) is not None
    (names,) = zip(*versions._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'"), strict=True)
    assert len(names) == 1


def test_rows_are_found_by_values_also_by_null_and_by_none() -> None:
    versions = VersionedTables()
    versions.begin(OLD)
    versions.load(OLD, [((b"1", b"a"), ("t@0",)), ((b"2", None), ("t@0",)), ((b"3", b"c"), ("t@0", "u@1"))])
    at = versions.as_of(0)

    def found(*values: bytes | None) -> list[bytes]:
        listed = sorted(one.row[0] or b"" for one in at.rows(1, {1: values}))
        assert listed == sorted(one.row[0] or b"" for batch in at.batches(1, {1: values}) for one in batch)
        return listed

    assert found(b"a") == [b"1"]
    assert found(None) == [b"2"]
    assert found(None, b"c") == [b"2", b"3"]
    assert found() == []
    assert next(at.rows(1, {0: (b"3",)})).tags == ("t@0", "u@1")
