"""Each pgoutput message is read as the protocol documentation lays it out, and nothing else is accepted."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.postgres.replication import pgoutput
from leyden.postgres.replication.pgoutput import UNCHANGED, DecodeError, decode


def test_begin_carries_milliseconds_since_the_unix_epoch(wire: Any) -> None:
    assert decode(wire.begin(900, 4_294_967_295)) == pgoutput.Begin(900, wire.commit_ms, 4_294_967_295)


def test_commit_carries_the_end_of_its_record(wire: Any) -> None:
    assert decode(wire.commit(900, 948)) == pgoutput.Commit(900, 948)


def test_relation_lists_columns_in_order(wire: Any) -> None:
    relation = decode(wire.relation(16_400, "items", [("id", 2950), ("größe", 23)]))
    assert relation == pgoutput.Relation(
        16_400,
        "public",
        "items",
        "f",
        (pgoutput.RelationColumn("id", 2950, True), pgoutput.RelationColumn("größe", 23, True)),
    )


def test_type_and_origin_are_read(wire: Any) -> None:
    assert decode(wire.type(16_401, "colour")) == pgoutput.Type(16_401, "public", "colour")
    assert decode(wire.origin(77, "elsewhere")) == pgoutput.Origin(77, "elsewhere")


def test_insert_tells_null_from_empty_text(wire: Any) -> None:
    assert decode(wire.insert(7, "1", None, "", "ü")) == pgoutput.Insert(7, (b"1", None, b"", "ü".encode()))


def test_update_carries_the_whole_old_row_under_identity_full(wire: Any) -> None:
    message = decode(wire.update(7, ["1", "a"], ["1", wire.unsent]))
    assert message == pgoutput.Update(7, (b"1", b"a"), False, (b"1", UNCHANGED))


def test_update_carries_no_old_row_or_its_key_under_default_identity(wire: Any) -> None:
    assert decode(wire.update(7, None, ["1"])) == pgoutput.Update(7, None, False, (b"1",))
    assert decode(wire.update(7, ["0"], ["1"], kind="K")) == pgoutput.Update(7, (b"0",), True, (b"1",))


def test_delete_tells_whether_the_old_row_is_whole(wire: Any) -> None:
    assert decode(wire.delete(7, "1", "a")) == pgoutput.Delete(7, (b"1", b"a"), False)
    assert decode(wire.delete(7, "1", kind="K")) == pgoutput.Delete(7, (b"1",), True)


def test_truncate_names_every_relation(wire: Any) -> None:
    assert decode(wire.truncate(7, 9)) == pgoutput.Truncate((7, 9))


def test_logical_message_is_read_with_its_prefix(wire: Any) -> None:
    message = decode(wire.message("leyden.tx", '{"ms":1}', lsn=50))
    assert message == pgoutput.LogicalMessage(True, 50, "leyden.tx", b'{"ms":1}')


@pytest.mark.parametrize("data", [b"", b"Z", b"S\0\0\0\1", b"I\0\0\0\1K\0\0", b"I\0\0\0\1N\0\1x"])
def test_what_is_not_a_message_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data)


def test_a_message_cut_short_anywhere_is_refused(wire: Any) -> None:
    for message in (
        wire.begin(1, 2),
        wire.commit(1, 2),
        wire.insert(7, "1", None, "abc"),
        wire.update(7, ["1", "a"], ["1", "b"]),
        wire.delete(7, "1", "a"),
        wire.relation(7, "items", [("id", 23)]),
        wire.truncate(7, 9),
        wire.message("p", "content"),
    ):
        for length in range(len(message)):
            with pytest.raises(DecodeError):
                decode(message[:length])


@given(st.binary(max_size=60))
def test_arbitrary_bytes_never_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode(data)
