"""COPY's text format is read as Postgres documents it (PostgreSQL documentation, COPY, "Text Format")."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.model import Row
from leyden.postgres.reading.copy_out import parse

#: What COPY TO writes for these characters.
ESCAPED = {
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    "\\": r"\\",
}

#: Postgres has no text with a NUL in it.
TEXTS = st.text(
    st.sampled_from([*ESCAPED, *"Nntrx0.", "é", "😀"]) | st.characters(exclude_characters="\0", codec="utf-8")
)


def line(row: Row) -> bytes:
    """``row`` as COPY TO writes it, character by character."""
    fields = (
        r"\N" if value is None else "".join(ESCAPED.get(character, character) for character in value.decode())
        for value in row
    )
    return "\t".join(fields).encode() + b"\n"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"", b""),
        (b"plain", b"plain"),
        (rb"\N", None),
        (rb"\\N", rb"\N"),
        (rb"\\\\N", rb"\\N"),
        (rb"N", b"N"),
        (rb"\b\f\n\r\t\v\\", b"\b\f\n\r\t\v\\"),
        (rb"\\n", rb"\n"),
        (rb"\\\n", b"\\\n"),
        (rb"\\\\n", rb"\\n"),
        (rb"\\x00ff", rb"\x00ff"),
        (rb"\\.", rb"\."),
        ("é\\t😀".encode(), "é\t😀".encode()),
        (b"\x01\x7f", b"\x01\x7f"),
    ],
)
def test_a_field_stands_for_its_value(field: bytes, value: bytes | None) -> None:
    assert parse(field + b"\n") == [value]
    assert parse(b"a\t" + field + b"\tc\n" + field + b"\t\t\n") == [b"a", value, b"c", value, b"", b""]


def test_no_lines_are_no_values() -> None:
    assert parse(b"") == []


@given(st.integers(1, 5).flatmap(lambda width: st.lists(st.tuples(*[st.none() | TEXTS] * width), min_size=1)))
def test_values_survive_what_copy_makes_of_them(texts: list[tuple[str | None, ...]]) -> None:
    rows = [tuple(None if text is None else text.encode() for text in row) for row in texts]

    assert parse(b"".join(map(line, rows))) == [value for row in rows for value in row]
