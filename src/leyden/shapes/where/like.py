"""LIKE: patterns as Postgres reads them, matched in time that a hostile pattern cannot blow up.

``%`` stands for any characters, ``_`` for one, newlines included; a backslash takes the next character as it is.
A pattern is cut at its ``%`` into segments of fixed length, and each segment is taken where it first fits: no
backtracking, so no regular expressions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: Characters of a pattern. The time for a text of n characters is at most this times n.
MAX_PATTERN = 1000


class BadPattern(ValueError):
    """A pattern that Postgres refuses when it gets that far, or that is too long."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """A piece of ``length`` characters: the texts in it with their offsets, anything between them."""

    length: int
    texts: tuple[tuple[int, str], ...]

    def fits(self, text: str, place: int) -> bool:
        return place + self.length <= len(text) and all(
            text.startswith(piece, place + offset) for offset, piece in self.texts
        )

    def first(self, text: str, start: int, end: int) -> int:
        """First place from ``start`` on at which the segment fits and ends before ``end``; -1 if there is none."""
        if not self.texts:
            return start if start + self.length <= end else -1
        offset, piece = self.texts[0]
        place = text.find(piece, start + offset, end)
        while place >= 0 and place - offset + self.length <= end:
            if self.fits(text, place - offset):
                return place - offset
            place = text.find(piece, place + 1, end)
        return -1


def matcher(pattern: str) -> Callable[[str], bool]:
    """Function that tells whether a text is LIKE ``pattern``. Raises :class:`BadPattern`."""
    first, *others = _segments(pattern)
    if not others:
        if not any(offset for offset, _ in first.texts) and first.length == sum(len(piece) for _, piece in first.texts):
            only = first.texts[0][1] if first.texts else ""
            return lambda text: text == only
        return lambda text: len(text) == first.length and first.fits(text, 0)
    *middle, last = others

    def matches(text: str) -> bool:
        end = len(text) - last.length
        if first.length > end or not first.fits(text, 0) or not last.fits(text, end):
            return False
        place = first.length
        for segment in middle:
            place = segment.first(text, place, end)
            if place < 0:
                return False
            place += segment.length
        return True

    return matches


def _segments(pattern: str) -> list[_Segment]:
    if len(pattern) > MAX_PATTERN:
        raise BadPattern(f"the pattern has more than {MAX_PATTERN} characters")
    segments: list[_Segment] = []
    texts: list[tuple[int, str]] = []
    length = 0
    joined = False  # whether the next character continues the last text
    characters = iter(pattern)
    for character in characters:
        if character == "%":
            segments.append(_Segment(length, tuple(texts)))
            texts, length, joined = [], 0, False
            continue
        if character == "_":
            joined = False
        else:
            if character == "\\" and (character := next(characters, "")) == "":
                raise BadPattern("the pattern ends with the escape character \\")
            if joined:
                offset, piece = texts.pop()
                texts.append((offset, piece + character))
            else:
                texts.append((length, character))
            joined = True
        length += 1
    segments.append(_Segment(length, tuple(texts)))
    return segments
