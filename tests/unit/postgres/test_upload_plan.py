from __future__ import annotations

import pytest

from leyden.conflict.operations import Kind
from leyden.model import ClientChange, ClientCompensation, ClientDelete, ClientInsert, ClientUpdate, Column, Table
from leyden.postgres.writing.upload_plan import UploadRefusedError, change_keys, plan_upload

PAIRS = Table(
    7,
    "pairs",
    (Column("b", "int4", True), Column("x", "text", False), Column("a", "int4", True)),
    ("a", "b"),
    "pairs_pkey",
)
NOTHING: frozenset[str] = frozenset()


def insert(a: bytes | None, b: bytes | None = b"0") -> ClientChange:
    return ClientInsert(PAIRS, {"a": a, "b": b}, NOTHING)


def compensate(a: bytes, b: bytes = b"0") -> ClientChange:
    return ClientCompensation(PAIRS, {"a": a, "b": b}, NOTHING)


def order(*changes: ClientChange) -> list[tuple[str, str]]:
    return [(planned.operation.kind.value, planned.key[0]) for planned in plan_upload(changes)]


def test_operations_keep_the_clients_order() -> None:
    delete = ClientDelete(PAIRS, {"a": b"2", "b": b"0"}, NOTHING)
    assert order(insert(b"3"), delete, insert(b"1")) == [("insert", "3"), ("delete", "2"), ("insert", "1")]


def test_a_compensation_comes_before_the_child_that_needs_it() -> None:
    assert order(insert(b"1"), compensate(b"2")) == [("compensate", "2"), ("insert", "1")]


def test_a_compensation_of_a_row_written_before_stays_behind_it() -> None:
    assert order(insert(b"1"), compensate(b"1")) == [("insert", "1"), ("compensate", "1")]


def test_compensations_keep_their_order_among_each_other() -> None:
    assert order(insert(b"1"), compensate(b"3"), compensate(b"2"), compensate(b"3")) == [
        ("compensate", "3"),
        ("compensate", "2"),
        ("compensate", "3"),
        ("insert", "1"),
    ]


def test_keys_are_in_key_order() -> None:
    assert plan_upload([insert(b"1", b"2")])[0].key == ("1", "2")


def test_an_update_without_old_values_of_the_key_is_about_the_new_ones() -> None:
    change = ClientUpdate(PAIRS, {"x": None}, {"a": b"1", "b": b"2", "x": b"y"}, NOTHING)
    (planned,) = plan_upload([change])
    assert (planned.key, planned.operation.kind) == (("1", "2"), Kind.UPDATE)


def test_a_change_of_the_key_is_refused_and_mentions_both_keys() -> None:
    change = ClientUpdate(PAIRS, {"a": b"1", "b": b"2"}, {"a": b"1", "b": b"3"}, NOTHING)
    with pytest.raises(UploadRefusedError) as refusal:
        plan_upload([change])
    assert refusal.value.refusal.sqlstate == "23000"
    assert change_keys(change) == [("1", "3"), ("1", "2")]


@pytest.mark.parametrize("change", [insert(None), ClientCompensation(PAIRS, {"a": b"1"}, NOTHING)])
def test_a_row_without_a_whole_key_is_refused(change: ClientChange) -> None:
    with pytest.raises(UploadRefusedError) as refusal:
        plan_upload([change])
    assert refusal.value.refusal.sqlstate == "23502"


def test_a_key_that_is_not_utf8_is_no_key() -> None:
    with pytest.raises(UnicodeDecodeError):
        plan_upload([insert(b"\xff")])
