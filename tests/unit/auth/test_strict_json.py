"""JSON with one meaning only."""

from __future__ import annotations

import time

import pytest

from leyden.auth.strict_json import MAX_DEPTH, NotStrictJson, parse_object


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    """An object whose deepest level is `depth`."""
    return ('{"x":' + opening * (depth - 1) + closing * (depth - 1) + "}").encode()


def test_plain_objects_are_read() -> None:
    assert parse_object(b' {"a":[1,-2.5e3,true,null],"\\u00e9":"\\ud83d\\ude00"}\r\n') == {
        "a": [1, -2500.0, True, None],
        "é": "😀",
    }


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"x"',
        b"{}{}",
        b"{},",
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":{"b":[{"c":1,"c":2}]}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b'{"a":-1e999}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":1.}',
        b'{"a":0x1}',
        b'{"a":' + b"1" * 65 + b"}",
        b'{"a":0.' + b"3" * 63 + b"}",
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":["\\ude00\\ud83d"]}',
        b'{"a":"\t"}',
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":1}//',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\xff"}',
        b'{"a":"\xc0\xaf"}',
        b'{"a":"\xed\xa0\x80"}',
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
        '{"a":1}'.encode("utf-32"),
        b'\xc2\xa0{"a":1}',
        b'{"a":1}\x00',
        b'{"a":1}\x0c',
    ],
)
def test_anything_with_a_second_reading_is_refused(raw: bytes) -> None:
    with pytest.raises(NotStrictJson):
        parse_object(raw)


def test_numbers_of_64_characters_are_the_longest() -> None:
    assert parse_object(b'{"a":' + b"1" * 64 + b"}") == {"a": int("1" * 64)}


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_depth_is_limited_and_counted_outside_strings(opening: str, closing: str) -> None:
    inner = "1" if opening != "[" else ""
    deepest = nested(MAX_DEPTH, opening, closing).replace(b":}", b":1}") if inner else nested(MAX_DEPTH)
    parse_object(deepest)
    with pytest.raises(NotStrictJson, match="deep"):
        parse_object(nested(MAX_DEPTH + 1, opening, closing))
    parse_object(b'{"x":"' + b"[{" * 500 + b'\\"[[","y":["]]","[["]}')


def test_hostile_depth_does_not_reach_the_recursive_parser() -> None:
    for raw in (b"[" * 100_000, b'{"a":' * 100_000, b'{"a":"' + b"\\" * 100_001 + b"[" * 1000):
        with pytest.raises(NotStrictJson):
            parse_object(raw)


def test_judging_an_unfinished_string_takes_time_in_proportion_to_its_length() -> None:
    # Whoever may send a token may send this as its header: a scan from every quote to the end took 0.4 s.
    raw = b"[" * (MAX_DEPTH + 1) + b'"' + b'\\"' * 6000
    started = time.thread_time()
    with pytest.raises(NotStrictJson):
        parse_object(raw)
    assert time.thread_time() - started < 0.05
