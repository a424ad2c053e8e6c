"""How the key of a row is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.model import Column, Table
from leyden.postgres.reading.lookup import InvalidKey, parse_key

ONE = Table(1, "one", (Column("id", "text", True),), ("id",), "one_pkey")
TWO = Table(2, "two", (Column("b", "text", True), Column("a", "int4", True)), ("a", "b"), "two_pkey")


@given(text=st.text())
def test_a_key_of_one_column_is_the_text_as_it_is(text: str) -> None:
    assert parse_key(ONE, text) == (text,)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a=1,b=x", ("1", "x")),
        ("b=x,a=1", ("1", "x")),
        ("a=,b=", ("", "")),
        ("a=1=2,b= x ", ("1=2", " x ")),
        ("a=1,b={x}", ("1", "{x}")),
        ('{"a": 1, "b": "x,=\\u00e9"}', ("1", "x,=é")),
        (' {"b": "", "a": "01"}', ("01", "")),
        ('{"a": 1.5, "b": true}', ("1.5", "true")),
        ('{"a": 9223372036854775807, "b": false}', ("9223372036854775807", "false")),
    ],
)
def test_a_key_of_several_columns_is_in_key_order_however_it_is_given(text: str, key: tuple[str, ...]) -> None:
    assert parse_key(TWO, text) == key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the key has the columns a, b: write a=…,b=… or a JSON object of these"),
        ("1", "the key has the columns a, b: write a=…,b=… or a JSON object of these"),
        ("a=1", "the key has the columns a, b: write a=…,b=… or a JSON object of these"),
        ("a=1,b=x,c=y", "the key has the columns a, b: write a=…,b=… or a JSON object of these"),
        ("a=1,b=x,y", "the key has the columns a, b: write a=…,b=… or a JSON object of these"),
        ("a=1,a=2", "the key names the column a twice"),
        ('{"a": 1}', "the key has the columns a, b: write a=…,b=… or a JSON object of these"),
        ('{"a": 1, "b": null}', "the value for b is neither a text nor a number, true or false"),
        ('{"a": 1, "b": ["x"]}', "the value for b is neither a text nor a number, true or false"),
    ],
)
def test_what_names_no_row_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidKey) as refusal:
        parse_key(TWO, text)
    assert refusal.value.message == message


@pytest.mark.parametrize("text", ["{", '{"a": 1, "a": 2}', '{"a": NaN}', "{} x", '{"a": "\\ud800"}', "{\udcff}"])
def test_json_is_read_strictly(text: str) -> None:
    with pytest.raises(InvalidKey, match="the text of the key"):
        parse_key(TWO, text)
