"""A slow second opinion on resolution: replays a whole history from the text of the rules, keeping every
event.

Written apart from the product on purpose: no state is carried from step to step; tag set, column clocks
and values are recomputed from the list of all events each time.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    kind: str  # insert | update | delete | compensate | postgres
    values: dict[str, bytes | None]
    mask: frozenset[str]
    observed: frozenset[tuple[int, str | None]]
    stamp: tuple[int, str | None]


def later_or_equal(left: tuple[int, str | None], right: tuple[int, str | None]) -> bool:
    if left[0] != right[0]:
        return left[0] > right[0]
    if left[1] is None or right[1] is None:
        return left[1] is None
    return left[1] >= right[1]


def live_tags(events: list[Event]) -> set[tuple[int, str | None]]:
    """A write's tag lives unless a later event observed it, or wrote the same tag again."""
    alive = set()
    for position, event in enumerate(events):
        if event.kind == "delete":
            continue
        after = events[position + 1 :]
        if not any(event.stamp in later.observed for later in after):
            alive.add(event.stamp)
        elif any(later.stamp == event.stamp and later.kind != "delete" for later in after):
            last = max(i for i, e in enumerate(events) if e.stamp == event.stamp and e.kind != "delete")
            if not any(event.stamp in later.observed for later in events[last + 1 :]):
                alive.add(event.stamp)
    return alive


def clock(events: list[Event], column: str) -> tuple[int, str | None] | None:
    best = None
    for event in events:
        if event.kind != "delete" and column in event.mask and (best is None or later_or_equal(event.stamp, best)):
            best = event.stamp
    return best


def wins(events: list[Event], column: str) -> bool:
    """Whether the last event's value of the column stands."""
    event = events[-1]
    return event.kind != "delete" and column in event.mask and clock(events, column) == event.stamp


def rows(events: list[Event], columns: list[str]) -> tuple[dict | None, dict | None]:
    """The row and its last dead version after the events."""
    if not events:
        return None, None
    main, dead = rows(events[:-1], columns)
    event = events[-1]
    if not live_tags(events):
        return None, (dead if main is None else main)
    source = main if main is not None else dead if dead is not None else event.values
    return {c: event.values[c] if wins(events, c) else source[c] for c in columns}, dead
