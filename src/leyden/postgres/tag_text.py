"""Postgres' text forms of the two things kept per row in ``leyden.row_state``: the tags and the key. Pure.

The stream and the snapshots read them alike, so both come here.
"""

from __future__ import annotations

import json
import re

from leyden.model import Row

#: One element of a one-dimensional array's text form: quoted with backslash escapes, or bare.
_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^",{}]+)')
_BACKSLASH = ord("\\")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def parse_tags(text: bytes) -> tuple[str, ...]:
    """``{a,"b c"}``, the text form of a ``text[]``, as its elements. NULL elements do not occur in tags."""
    body = text.decode()[1:-1]
    if not body:
        return ()
    if '"' not in body:
        return tuple(body.split(","))
    return tuple(
        _ESCAPE.sub(r"\1", match[1]) if match[1] is not None else match[2] for match in _ELEMENT.finditer(body)
    )


def parse_key(text: bytes) -> Row:
    """``["1", "x"]``, the JSON array of a row's key values, as their text forms. Raises ``ValueError``."""
    if text.count(b'"') == 2 and _BACKSLASH not in text:
        # One column and nothing escaped, nearly every key there is: five times faster than the JSON parser.
        return (text[2:-2],)
    return tuple(value.encode() for value in json.loads(text))
