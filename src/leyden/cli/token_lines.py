"""Tokens as they come on standard input, one a line."""

from __future__ import annotations

import json


def token_of(line: bytes) -> str:
    """The token on one line. Nothing is trimmed but the line's end: white space is part of what is judged."""
    text = line.removesuffix(b"\n").decode("utf-8", "surrogateescape")
    if text.startswith('"'):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return value if isinstance(value, str) else text
    return text


def joined(lines: list[str]) -> list[str]:
    """For a person: lines that make one token only together are one token with line breaks in it."""
    if len(lines) > 1 and all(line.count(".") < 2 for line in lines) and sum(line.count(".") for line in lines) == 2:
        return ["\n".join(lines)]
    return lines
