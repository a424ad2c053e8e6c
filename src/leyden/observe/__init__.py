"""Observation: subscribers to ``events.py``. Nothing else in the service formats a log line, counts or audits."""

from __future__ import annotations

import traceback
from logging import getLogger  # `logging` is a module of this package
from typing import Final, Protocol, runtime_checkable

from leyden.events import Emit, Event
from leyden.observe.audit import AuditTrail
from leyden.observe.logging import LogWriter
from leyden.observe.metrics import Metrics
from leyden.observe.scrape import Live

__all__ = ["AuditTrail", "Live", "LogWriter", "Metrics", "Observers", "Timed", "log_and_audit"]

_log: Final = getLogger("leyden.observe")


@runtime_checkable
class Timed(Protocol):
    """An observer that has something to do as time passes, though no fact comes."""

    def tick(self) -> None:
        """Called every second or so."""

    def close(self) -> None:
        """No tick comes any more."""


class Observers:
    """One :data:`leyden.events.Emit` for several observers.

    One that fails stops neither the others nor whoever noticed the fact. Its first failure of each kind is told
    through the logger ``leyden.observe``, by its place alone: an exception's text might quote what was observed.
    """

    def __init__(self, *observers: Emit) -> None:
        self._observers = observers
        candidates: tuple[object, ...] = observers
        self._timed = [observer for observer in candidates if isinstance(observer, Timed)]
        self._told: set[tuple[int, type[Exception]]] = set()

    def __call__(self, event: Event) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except Exception as error:
                self._failed(observer, error)

    def tick(self) -> None:
        """To be called every second or so."""
        for observer in self._timed:
            try:
                observer.tick()
            except Exception as error:
                self._failed(observer, error)

    def close(self) -> None:
        """No tick comes any more; facts may."""
        for observer in self._timed:
            try:
                observer.close()
            except Exception as error:
                self._failed(observer, error)

    def _failed(self, observer: object, error: Exception) -> None:
        if (id(observer), type(error)) in self._told:
            return
        self._told.add((id(observer), type(error)))
        frame = traceback.extract_tb(error.__traceback__)[-1]
        name, kind = type(observer).__name__, type(error).__name__
        _log.error("observer %s failed with %s at %s:%s", name, kind, frame.filename, frame.lineno)


def log_and_audit(level: str, output_format: str) -> Observers:
    """The log and the audit trail. What the trail tells is left out of the log, so that no fact is told twice."""
    trail = AuditTrail()
    return Observers(LogWriter(level, output_format, told_elsewhere=trail.tells), trail)
