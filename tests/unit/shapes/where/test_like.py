"""LIKE's patterns, against the plainest matcher that can be written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.shapes.where.letter_case import LOWER_FULL, LOWER_SIMPLE, UPPER_FULL, UPPER_SIMPLE
from leyden.shapes.where.like import MAX_PATTERN, BadPattern, matcher


def plainly(text: str, pattern: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(plainly(text[place:], pattern[1:]) for place in range(len(text) + 1))
    if not text:
        return False
    if pattern[0] == "_":
        return plainly(text[1:], pattern[1:])
    literal, rest = (pattern[1], pattern[2:]) if pattern[0] == "\\" else (pattern[0], pattern[1:])
    return text[0] == literal and plainly(text[1:], rest)


PATTERNS = st.lists(st.sampled_from(["%", "_", "a", "b", "\\%", "\\_", "\\\\", "\\a", "\n", "🙂"]), max_size=9).map(
    "".join
)
TEXTS = st.text("ab%_\\\n🙂", max_size=9)


@given(text=TEXTS, pattern=PATTERNS)
def test_a_pattern_matches_what_it_describes(text: str, pattern: str) -> None:
    assert matcher(pattern)(text) == plainly(text, pattern)


@given(text=TEXTS, pattern=PATTERNS)
def test_a_text_matches_itself_with_anything_left_out(text: str, pattern: str) -> None:
    escaped = "".join("\\" + one for one in text)
    assert matcher(escaped)(text)
    assert matcher(f"%{escaped}%")(f"x{text}y")


@pytest.mark.parametrize("pattern", ["\\", "a\\", "%\\", "\\\\\\", "a" * (MAX_PATTERN + 1)])
def test_a_pattern_that_ends_in_an_escape_or_is_too_long_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        matcher(pattern)


def test_a_hostile_pattern_takes_no_longer_than_its_length_allows() -> None:
    assert not matcher("%a" * 400 + "%b")("a" * 20_000)
    assert not matcher("%" + "_a" * 50 + "%b%")("a" * 20_000)


def test_the_letters_that_locales_disagree_about_are_those_of_unicode() -> None:
    characters = [chr(code) for code in (*range(0x80, 0xD800), *range(0xE000, 0x110000))]

    # Of single letters lower() must be known wherever it gives ASCII or changes the length: LIKE counts characters.
    assert {one: one.lower() for one in characters if len(one.lower()) != 1 or one.lower().isascii()} == LOWER_FULL
    assert {one: one.lower()[0] for one in LOWER_SIMPLE} == LOWER_SIMPLE
    # upper() is only compared as a whole with ASCII.
    assert {one: one.upper() for one in characters if one.upper().isascii()} == UPPER_FULL
    assert {one: upper for one, upper in UPPER_FULL.items() if len(upper) == 1} == UPPER_SIMPLE
