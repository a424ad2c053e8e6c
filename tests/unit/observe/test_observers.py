"""One fact, several observers."""

from __future__ import annotations

import logging

import pytest

from leyden import events
from leyden.events import Event
from leyden.observe import Observers, log_and_audit
from unit.observe.facts import EXAMPLES

FACT = events.InsecureModeActive()


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, event: Event) -> None:
        raise self.error

    def tick(self) -> None:
        raise self.error

    def close(self) -> None:
        raise self.error


class Seen:
    def __init__(self) -> None:
        self.seen: list[object] = []

    def __call__(self, event: Event) -> None:
        self.seen.append(event)

    def tick(self) -> None:
        self.seen.append("tick")

    def close(self) -> None:
        self.seen.append("close")


def test_an_observer_that_fails_stops_neither_the_others_nor_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    before, after, simple = Seen(), Seen(), list[Event]()
    observers = Observers(before, Failing(ValueError("s3cret")), simple.append, after)
    for _ in range(3):
        observers(FACT)
    observers.tick()
    observers.close()
    assert before.seen == after.seen == [FACT, FACT, FACT, "tick", "close"]
    assert simple == [FACT, FACT, FACT]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "Failing failed with ValueError" in caplog.text
    assert "s3cret" not in caplog.text


def test_every_fact_is_told_exactly_once(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    observers = log_and_audit("debug", "json")
    for event in EXAMPLES:
        capsys.readouterr()
        caplog.clear()
        observers(event)
        logged, audited = capsys.readouterr().err.splitlines(), [r for r in caplog.records if r.name == "leyden.audit"]
        told = len(logged) + len([r for r in audited if '"admin.login"' not in r.message])
        assert (event, told) == (event, 1)
