"""Events as log lines: which level each fact has and how it reads."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
from typing import Any

import structlog

from leyden import events
from leyden.events import Event

_LEVELS: dict[type[Any], int] = {
    events.ServiceReady: logging.INFO,
    events.InsecureModeActive: logging.WARNING,
    events.AuthenticationConfigured: logging.INFO,
    events.AuthenticationWarning: logging.WARNING,
    events.DatabaseUnavailable: logging.WARNING,
    events.ReplicationStarted: logging.INFO,
    events.ReplicationCaughtUp: logging.INFO,
    events.ReplicationInterrupted: logging.WARNING,
    events.TableChangedOutside: logging.ERROR,
    events.MigrationSeen: logging.INFO,
    events.HandshakeDenied: logging.INFO,
    events.ClientConnected: logging.DEBUG,
    events.ClientAuthenticated: logging.INFO,
    events.TokenRenewed: logging.INFO,
    events.ClientRefused: logging.WARNING,
    events.ClientDisconnected: logging.INFO,
    events.ProtocolViolated: logging.WARNING,
    events.ReplicationResumed: logging.DEBUG,
    events.SubscriptionDelivered: logging.INFO,
    events.SubscriptionProgress: logging.INFO,
    events.UploadApplied: logging.DEBUG,
    events.UploadRefused: logging.WARNING,
    events.UnexpectedError: logging.ERROR,
}

_MAX_TEXT = 256
#: What Postgres says, and how to satisfy it, must be readable whole.
_MAX_REASON = 4096
_INSECURE = "insecure mode: tokens are not verified, anybody who reaches this port can read and write everything"


def _words(name: str) -> str:
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def _shown(key: str, value: object, limit: int) -> object:
    """Text as it may be shown: cut, and with control and bidirectional characters escaped."""
    if not isinstance(value, str) or key == "trace":
        return value
    text = value[:limit] + ("…" if len(value) > limit else "")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class LogWriter:
    """An :data:`leyden.events.Emit` that writes each event as one line on standard error."""

    def __init__(self, level: str = "info", output_format: str = "text") -> None:
        renderer: Any = (
            structlog.processors.JSONRenderer(ensure_ascii=False)
            if output_format == "json"
            else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
        )
        self._logger = structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                renderer,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        )

    def __call__(self, event: Event) -> None:
        level = _LEVELS[type(event)]
        limit = _MAX_REASON if isinstance(event, events.DatabaseUnavailable) else _MAX_TEXT
        names = [field.name for field in dataclasses.fields(event)]
        fields = {name: _shown(name, getattr(event, name), limit) for name in names}
        text = _INSECURE if isinstance(event, events.InsecureModeActive) else _words(type(event).__name__)
        # a log that cannot be written must not stop what it was to tell of
        with contextlib.suppress(OSError, ValueError):
            self._logger.log(level, text, **fields)
