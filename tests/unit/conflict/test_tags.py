from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.conflict.tags import (
    EPOCH,
    Tag,
    column_tags_from_json,
    column_tags_to_json,
    format_tags,
    parse_observed,
    parse_tag,
)
from leyden.model import EPOCH_TAG

tags = st.builds(
    Tag,
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
    st.none() | st.text(min_size=1).filter(lambda origin: "@" not in origin and origin != "postgres_1"),
)


@given(tags)
def test_a_tag_reads_back_as_it_was_written(tag: Tag) -> None:
    assert parse_tag(str(tag)) == tag


@given(st.dictionaries(st.text(), tags))
def test_column_tags_read_back_as_they_were_stored(column_tags: dict[str, Tag]) -> None:
    assert column_tags_from_json(column_tags_to_json(column_tags)) == column_tags


@given(tags, tags, tags)
def test_the_order_is_total_and_transitive(a: Tag, b: Tag, c: Tag) -> None:
    assert (a < b) + (b < a) + (a == b) == 1
    if a <= b <= c:
        assert a <= c


def test_postgres_is_greatest_at_the_same_millisecond() -> None:
    assert Tag(5, None) > Tag(5, "ffffffff-ffff-4fff-bfff-ffffffffffff")
    assert Tag(5, None) < Tag(6, "00000000-0000-4000-8000-000000000000")


def test_ties_between_clients_follow_utf16_order() -> None:
    # U+1F600 is a surrogate pair beginning with D83D and so sorts before U+FF5E, though its code point is
    # greater.
    assert Tag(5, "\U0001f600") < Tag(5, "\uff5e")


def test_postgres_is_spelt_postgres_1() -> None:
    assert str(Tag(7, None)) == "postgres_1@7"
    assert parse_tag("postgres_1@7") == Tag(7, None)
    assert str(EPOCH) == EPOCH_TAG


def test_a_tag_is_split_at_the_first_at_sign() -> None:
    with pytest.raises(ValueError, match="origin@milliseconds"):
        parse_tag("a@b@1")


@pytest.mark.parametrize("text", ["", "@", "@1", "a", "a@", "a@x", "a@1.5", "a@ 1", "a@--1", "a@١", "a@" + "9" * 5000])
def test_a_malformed_tag_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="origin@milliseconds") as refusal:
        parse_tag(text)
    assert str(refusal.value) == "a tag must read origin@milliseconds"


def test_malformed_observed_tags_observe_nothing() -> None:
    assert parse_observed(["c1@5", "(,)", "", "postgres_1@9"]) == {Tag(5, "c1"), Tag(9, None)}


def test_tags_are_printed_oldest_first() -> None:
    assert format_tags({Tag(2, "b"), Tag(1, None), Tag(2, "a")}) == ["postgres_1@1", "a@2", "b@2"]


@pytest.mark.parametrize("stored", [{"c": ["5", None]}, {"c": [5, 6]}, {"c": [5]}])
def test_a_broken_stored_column_tag_is_noticed(stored: dict[str, list[object]]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        column_tags_from_json(stored)  # type: ignore[arg-type]
