"""Rights that change, become doubtful and certain again, and whom that concerns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from leyden.edge.access.reading import SLICE, Reading
from leyden.events import Event, UnexpectedError
from leyden.model import Column, Locale, ReadingRights, Table
from leyden.shapes.rights import Forbidden

ITEMS = Table(1, "items", (Column("id", "text", True),), ("id",), "items_pkey")
BYTES = Locale(order_is_bytes=True)


class Stage:
    """Stands for what connections share, and notes what is done to it."""

    def __init__(self, connections: int = 0) -> None:
        self.done: list[str] = []
        self.events: list[Event] = []
        self.emit = self.events.append
        note = self.done.append
        self.fanout = SimpleNamespace(pause=lambda: note("pause"), resume=lambda: note("resume"))
        self.open = [SimpleNamespace(rights_changed=lambda: note("changed")) for _ in range(connections)]
        self.reading = Reading(None, lambda: cast(Any, self))

    def may_read(self) -> bool:
        try:
            self.reading.rules("reader", BYTES, {"items": ITEMS}).of(ITEMS)
        except Forbidden:
            return False
        return True


def test_before_rights_are_known_nothing_is_read() -> None:
    assert not Stage().may_read()


async def test_nothing_is_sent_while_connections_are_looked_at() -> None:
    stage = Stage(connections=2 * SLICE + 1)
    await stage.reading.change({"reader": {1: ReadingRights()}})
    assert stage.done == ["pause", *["changed"] * (2 * SLICE + 1), "resume"]
    assert stage.may_read()
    await stage.reading.change({})
    assert not stage.may_read()


async def test_a_connection_that_cannot_be_judged_is_cut_off_and_the_others_go_on() -> None:
    stage = Stage(connections=2)

    def fail() -> None:
        raise RecursionError

    failing = SimpleNamespace(rights_changed=fail, cut_off=lambda *ended: stage.done.append(f"cut off {ended}"))
    stage.open.insert(1, failing)
    await stage.reading.change({"reader": {1: ReadingRights()}})
    end = "cut off (1011, 'Internal server error while sending data', 'RecursionError')"
    assert stage.done == ["pause", "changed", end, "changed", "resume"]
    assert [type(event) for event in stage.events] == [UnexpectedError]


async def test_a_change_in_doubt_does_not_end_the_doubt() -> None:
    stage = Stage(connections=1)
    stage.reading.doubt()
    await stage.reading.change({"reader": {1: ReadingRights()}})
    assert stage.done == ["pause", "pause", "changed"]
    stage.reading.certainty()
    assert stage.done[-1] == "resume"


@pytest.mark.parametrize("doubtful", [True, False])
def test_a_new_history_begins_as_the_old_one_ended(doubtful: bool) -> None:
    stage = Stage()
    if doubtful:
        stage.reading.doubt()
    stage.done.clear()
    stage.reading.begin(cast(Any, stage))
    assert stage.done == (["pause"] if doubtful else [])
