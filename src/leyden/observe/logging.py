"""Events as log lines: which level each fact has and how it reads."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from typing import Any

import structlog

from leyden import auth, events
from leyden.events import Event
from leyden.observe.fields import fields_of

_LEVELS: dict[type[Any], int] = {
    events.ServiceReady: logging.INFO,
    events.InsecureModeActive: logging.WARNING,
    events.AuthenticationConfigured: logging.INFO,
    events.AuthenticationWarning: logging.WARNING,
    events.DatabaseUnavailable: logging.WARNING,
    events.ReplicationStarted: logging.INFO,
    events.ReplicationCaughtUp: logging.INFO,
    events.ReplicationInterrupted: logging.WARNING,
    events.DdlUnguarded: logging.WARNING,
    events.TableSuspended: logging.ERROR,
    events.TableTakenUp: logging.INFO,
    events.MigrationSeen: logging.INFO,
    events.TombstonesForgotten: logging.INFO,
    auth.KeyAdded: logging.INFO,
    auth.KeyWithdrawn: logging.WARNING,
    auth.KeySkipped: logging.WARNING,
    auth.KeySetRefreshed: logging.DEBUG,
    auth.KeySetFailed: logging.WARNING,
    auth.KeySetStale: logging.ERROR,
    events.HandshakeDenied: logging.INFO,
    events.RateLimited: logging.DEBUG,
    events.ProxyNotTrusted: logging.WARNING,
    events.ClientConnected: logging.DEBUG,
    events.ClientAuthenticated: logging.INFO,
    events.TokenRenewed: logging.INFO,
    events.ClientRefused: logging.WARNING,
    events.SessionEnded: logging.INFO,
    events.RevocationAdded: logging.INFO,
    events.RevocationRemoved: logging.INFO,
    events.RevocationsRead: logging.DEBUG,
    events.RevocationsUnavailable: logging.WARNING,
    events.ReadingRightsRead: logging.INFO,
    events.ReadingRightsUnavailable: logging.WARNING,
    events.AdminListening: logging.INFO,
    events.AdminDenied: logging.WARNING,
    events.AdminActed: logging.INFO,
    events.ClientDisconnected: logging.INFO,
    events.ProtocolViolated: logging.WARNING,
    events.ReplicationResumed: logging.DEBUG,
    events.ClientRepaired: logging.INFO,
    events.ClientHeld: logging.INFO,
    events.SubscriptionDelivered: logging.INFO,
    events.SubscriptionProgress: logging.INFO,
    events.TablesLoaded: logging.INFO,
    events.QuestionAnswered: logging.DEBUG,
    events.QuestionFailed: logging.WARNING,
    events.UploadApplied: logging.DEBUG,
    events.UploadRefused: logging.WARNING,
    events.UnexpectedError: logging.ERROR,
}

_INSECURE = "insecure mode: tokens are not verified, anybody who reaches this port can read and write everything"


def _words(name: str) -> str:
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


class LogWriter:
    """An :data:`leyden.events.Emit` that writes each event as one line on standard error, but for those that are
    ``told_elsewhere``."""

    def __init__(
        self,
        level: str = "info",
        output_format: str = "text",
        told_elsewhere: Callable[[Event], bool] = lambda event: False,
    ) -> None:
        renderer: Any = (
            structlog.processors.JSONRenderer(ensure_ascii=False)
            if output_format == "json"
            else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
        )
        self._level = logging.getLevelName(level.upper())
        self._told_elsewhere = told_elsewhere
        self._logger = structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                renderer,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(self._level),
        )

    def __call__(self, event: Event) -> None:
        level = _LEVELS[type(event)]
        if level < self._level or self._told_elsewhere(event):
            return
        text = _INSECURE if isinstance(event, events.InsecureModeActive) else _words(type(event).__name__)
        # a log that cannot be written must not stop what it was to tell of
        with contextlib.suppress(OSError, ValueError):
            self._logger.log(level, text, **fields_of(event))
