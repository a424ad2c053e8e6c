"""An event as named values that may be shown: flat, escaped, cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from leyden import events
from leyden.events import Event

MAX_TEXT = 256

#: What Postgres says, and how to satisfy it, must be readable whole.
MAX_REASON = 4096

#: Written by us, over several lines.
_AS_IT_IS = frozenset({"trace"})


def fields_of(event: Event) -> dict[str, object]:
    """The fields of ``event``, those of nested facts (:class:`leyden.events.Peer`) among them."""
    limit = MAX_REASON if isinstance(event, events.DatabaseUnavailable) else MAX_TEXT
    return {
        name: value if name in _AS_IT_IS or not isinstance(value, str) else shown(value, limit)
        for name, value in _flat(event)
    }


def _flat(fact: object) -> Iterator[tuple[str, object]]:
    if not dataclasses.is_dataclass(fact):
        raise TypeError(type(fact).__name__)
    for field in dataclasses.fields(fact):
        value = getattr(fact, field.name)
        if dataclasses.is_dataclass(value):
            yield from _flat(value)
        else:
            yield field.name, value


def shown(text: str, limit: int = MAX_TEXT) -> str:
    """``text`` as it may be shown: cut, and with control and bidirectional characters escaped.

    The backslash is escaped as well, so that no two texts are shown alike but by the cut.
    """
    cut = text[:limit] + ("…" if len(text) > limit else "")
    if cut.isprintable() and "\\" not in cut:  # as nearly all are
        return cut
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode("ascii") for c in cut)
