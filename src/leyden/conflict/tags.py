"""Tags: who wrote, and when. Owns their order and their spellings; knows nothing of rows, SQL or the wire.

A tag is spelt three ways: ``origin@ms`` on the wire and in ``leyden.row_state.tags``, ``[ms, origin|null]``
in ``leyden.row_state.col_tags``, and :class:`Tag` in the program. Postgres itself is the origin ``None``, on
the wire ``postgres_1``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import total_ordering

from leyden.model import POSTGRES_ORIGIN


@total_ordering
@dataclass(frozen=True, slots=True)
class Tag:
    """One write: ``ms`` is the author's clock in Unix milliseconds, ``origin`` its client id, ``None`` =
    Postgres.

    Tags are ordered by time; at the same millisecond Postgres is greatest, and clients compare by id in
    UTF-16 order, because that is how the client's JavaScript breaks the same tie.
    """

    ms: int
    origin: str | None

    def __lt__(self, other: Tag) -> bool:
        return self._order() < other._order()

    def __str__(self) -> str:
        return f"{POSTGRES_ORIGIN if self.origin is None else self.origin}@{self.ms}"

    def _order(self) -> tuple[int, bool, bytes]:
        origin = self.origin
        return self.ms, origin is None, b"" if origin is None else origin.encode("utf-16-be", "surrogatepass")


#: What stands for the tags of a row that was never written since its table was electrified.
EPOCH = Tag(0, None)


def parse_tag(text: str) -> Tag:
    """The tag spelt ``origin@ms``, split at the first ``@``.

    Raises :class:`ValueError` (which does not quote ``text``) when there is no origin or no decimal integer.
    """
    origin, separator, digits = text.partition("@")
    unsigned = digits.removeprefix("-")
    # 20 characters hold every 64-bit integer; the bound keeps a hostile tag from becoming a huge number.
    if not (origin and separator and unsigned.isascii() and unsigned.isdigit() and len(unsigned) <= 20):
        raise ValueError("a tag must read origin@milliseconds")
    return Tag(int(digits), None if origin == POSTGRES_ORIGIN else origin)


def parse_observed(texts: Iterable[str]) -> frozenset[Tag]:
    """The tags an operation says it has seen. A malformed one can equal no live tag, so it is left out."""
    seen = set()
    for text in texts:
        try:
            seen.add(parse_tag(text))
        except ValueError:
            continue
    return frozenset(seen)


def format_tags(tags: Iterable[Tag]) -> list[str]:
    """Wire spellings, oldest first. The order carries no meaning; it is fixed so that equal sets print
    equally."""
    return [str(tag) for tag in sorted(tags)]


def column_tags_to_json(column_tags: Mapping[str, Tag]) -> dict[str, list[int | str | None]]:
    """The form stored in ``leyden.row_state.col_tags``: ``{column: [ms, origin|null]}``."""
    return {column: [tag.ms, tag.origin] for column, tag in column_tags.items()}


def column_tags_from_json(
    stored: Mapping[str, tuple[int, str | None] | list[int | str | None]],
) -> dict[str, Tag]:
    """The inverse of :func:`column_tags_to_json`. Raises :class:`ValueError` when the stored form is
    broken."""
    column_tags = {}
    for column, pair in stored.items():
        ms, origin = pair
        if not isinstance(ms, int) or not (origin is None or isinstance(origin, str)):
            raise ValueError("a stored column tag must read [milliseconds, origin or null]")
        column_tags[column] = Tag(ms, origin)
    return column_tags
