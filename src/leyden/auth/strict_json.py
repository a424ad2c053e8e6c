"""JSON as a security boundary wants it: one text, one meaning.

Owns the parsing of token headers and payloads. The standard module guesses UTF-16, keeps the last of two
equal members, turns `1e400` into infinity, reads `NaN`, and recurses as deep as the sender likes; each of
these lets two parsers disagree about one signed text, or lets a sender choose our exception. All are off
here.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 32
"""Deepest nesting of objects and arrays, the outermost counting as one."""

MAX_NUMBER_CHARACTERS: Final = 64
"""Longest text of one number."""

# The closing quote may be missing: were it asked for, an unfinished string would be scanned once from each quote in it.
_STRING: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKET: Final = re.compile(r"[\[\]{}]")


class NotStrictJson(ValueError):
    """The bytes are not one strictly written JSON object. The text names the rule, never the content."""


def parse_object(raw: bytes) -> dict[str, Any]:
    """Parse `raw` as UTF-8 JSON holding exactly one object.

    Raises `NotStrictJson` for invalid UTF-8, a byte order mark, anything but one object, a duplicate
    member at any level (RFC 7515 §4, RFC 7519 §4), nesting deeper than `MAX_DEPTH`, NaN and infinities,
    overlong numbers, and lone surrogates, even written as an escape.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise NotStrictJson("is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise NotStrictJson("starts with a byte order mark")
    _check_depth(text)
    try:
        value = _decoder.decode(text)
    except NotStrictJson:
        raise
    except (ValueError, RecursionError):
        raise NotStrictJson("is not JSON") from None
    if not isinstance(value, dict):
        raise NotStrictJson("is not a JSON object")
    # UTF-8 cannot spell a surrogate, so only an escape can have brought one in.
    if "\\u" in text:
        _check_surrogates(value)
    return value


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    outside_strings = _STRING.sub("", text)
    depth = 0
    for bracket in _BRACKET.findall(outside_strings):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise NotStrictJson(f"is nested more than {MAX_DEPTH} levels deep")


def _check_surrogates(value: object) -> None:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise NotStrictJson("contains half of a surrogate pair") from None
    elif isinstance(value, dict):
        for name, member in value.items():
            _check_surrogates(name)
            _check_surrogates(member)
    elif isinstance(value, list):
        for member in value:
            _check_surrogates(member)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotStrictJson("names one member twice")
    return members


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise NotStrictJson(f"holds a number longer than {MAX_NUMBER_CHARACTERS} characters")
    return int(text)


def _real(text: str) -> float:
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise NotStrictJson(f"holds a number longer than {MAX_NUMBER_CHARACTERS} characters")
    number = float(text)
    if not math.isfinite(number):
        raise NotStrictJson("holds a number out of range")
    return number


def _constant(_: str) -> NoReturn:
    raise NotStrictJson("holds NaN or Infinity, which JSON does not know")


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_real, parse_constant=_constant
)
