"""The audit trail: who was let in, who was not, and what was done to keys, revocations and sessions.

One line of JSON for each such fact, through the standard logger ``leyden.audit``. Whoever configures a handler for it
(or for one of its parents) decides where the lines go; until then they go to standard error. The fields of each
kind are an explicit list: a fact that learns to carry more does not tell it here by itself.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from leyden import auth, events
from leyden.events import Event
from leyden.observe.fields import fields_of
from leyden.observe.labels import DENIALS, LIMITS, REASONS, bounded

LOGGER: Final = "leyden.audit"

#: Refusals written one by one in each second; those above are summed.
REFUSALS_PER_SECOND: Final = 20

#: Pairs of credential and address that are remembered as seen before.
_KNOWN_ADMINS: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one kind of fact is told. ``fields`` are names of :func:`_values`."""

    event: str
    level: int
    fields: tuple[str, ...] = ()


_PEER: Final = ("address", "origin", "user_agent", "connection")
_IDENTITY: Final = ("user_id", "client_id", "issuer", "alg", "kid", "key_thumbprint", "jti", "exp", "remaining", *_PEER)
_KEY: Final = ("source", "alg", "kid", "key_thumbprint")

_KINDS: Final[Mapping[type[Any], _Kind]] = {
    events.ClientAuthenticated: _Kind("auth.accepted", logging.INFO, _IDENTITY),
    events.ClientRefused: _Kind("auth.refused", logging.WARNING, ("reason", "renewal", "client_id", "kid", *_PEER)),
    events.TokenRenewed: _Kind("auth.renewed", logging.INFO, _IDENTITY),
    events.SessionEnded: _Kind("auth.expired", logging.INFO, ("reason", *_IDENTITY)),
    events.RateLimited: _Kind("auth.rate_limited", logging.WARNING, ("reason", "address")),
    auth.KeyAdded: _Kind("key.loaded", logging.INFO, _KEY),
    auth.KeyWithdrawn: _Kind("key.removed", logging.WARNING, _KEY),
    auth.KeySkipped: _Kind("key.rejected", logging.WARNING, ("reason", "leaked", "source", "kid")),
    auth.KeySetRefreshed: _Kind("jwks.refreshed", logging.INFO, ("source", "keys", "changed", "fresh_for")),
    auth.KeySetFailed: _Kind("jwks.failed", logging.WARNING, ("reason", "source", "retry_in")),
    auth.KeySetStale: _Kind("jwks.stale", logging.ERROR, ("source", "age")),
    events.RevocationAdded: _Kind("revocation.added", logging.INFO, ("id", "kind", "value", "issued_before", "exp")),
    events.RevocationRemoved: _Kind("revocation.removed", logging.INFO, ("id", "kind", "value")),
    events.AdminDenied: _Kind("admin.denied", logging.WARNING, ("reason", "name", "address")),
    events.AdminActed: _Kind("admin.action", logging.INFO, ("action", "target", "name", "address")),
    events.InsecureModeActive: _Kind("mode.insecure", logging.WARNING),
}
_REVOKED: Final = _Kind("auth.revoked", logging.WARNING, ("reason", *_IDENTITY))
_LEAKED: Final = _Kind("key.rejected", logging.CRITICAL, _KINDS[auth.KeySkipped].fields)
_INSECURE: Final = _KINDS[events.InsecureModeActive]
_LOGIN: Final = _Kind("admin.login", logging.INFO, ("name", "address"))
_SUMMED: Final = "auth.summed"

#: Fields of events that are called differently in the trail.
_RENAMED: Final = {
    "algorithm": "alg",
    "thumbprint": "key_thumbprint",
    "expires_at": "exp",
    "code": "reason",
    "cause": "reason",
    "limit": "reason",
}


class AuditTrail:
    """An :data:`leyden.events.Emit` that writes the trail.

    More than :data:`REFUSALS_PER_SECOND` refusals in one second become one line with their numbers by reason. It is
    written before the next line of a later second, by :meth:`tick`, or by :meth:`close`, whichever comes first.
    ``now`` gives Unix seconds.
    """

    def __init__(
        self,
        logger: logging.Logger | None = None,
        *,
        now: Callable[[], float] = time.time,
        unrouted: logging.Handler | None = None,
        process: int | None = None,
    ) -> None:
        self._logger = logging.getLogger(LOGGER) if logger is None else logger
        if self._logger.level == logging.NOTSET:
            # a program that wants only warnings in its log does not mean that nobody shall know who was let in
            self._logger.setLevel(logging.INFO)
        self._unrouted = logging.StreamHandler(sys.stderr) if unrouted is None else unrouted
        self._now = now
        self._process = os.getpid() if process is None else process
        self._admins: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._second = -math.inf
        self._written = 0
        self._sum: Counter[tuple[str, str]] = Counter()
        self._closed = False

    @property
    def routed(self) -> bool:
        """Whether somebody configured where the lines go."""
        return self._logger.hasHandlers()

    def tells(self, event: Event) -> bool:
        """Whether this trail tells ``event``, so that no other log has to. Not if somebody silenced the logger."""
        kind = _KINDS.get(type(event))
        return kind is not None and self._logger.isEnabledFor(kind.level)

    def __call__(self, event: Event) -> None:
        kind = _kind(event)
        if kind is None:
            return
        now = self._now()
        self._turn(now)
        if self._summed(event, kind):
            return
        if isinstance(event, events.AdminActed) and self._first_call(event):
            self._write(_LOGIN, event, now)
        self._write(kind, event, now)

    def tick(self) -> None:
        """To be called every second or so: writes the sum of a second that is over."""
        self._turn(self._now())

    def close(self) -> None:
        """Nothing is summed from now on, because no tick may come any more."""
        self._closed = True
        self._tell_sum(self._now())

    # ---- summing -------------------------------------------------------------------------------------------------

    def _turn(self, now: float) -> None:
        """Begins a new second when the present one is over, or when the clock was set back."""
        if not self._second <= now < self._second + 1:
            self._tell_sum(now)
            self._second = math.floor(now)
            self._written = 0

    def _summed(self, event: Event, kind: _Kind) -> bool:
        """Whether ``event`` is a refusal above the limit, which was counted."""
        match event:
            case events.ClientRefused(code=code):
                reason = bounded(code, REASONS)
            case events.RateLimited(limit=limit):
                reason = bounded(limit, LIMITS)
            case events.AdminDenied(reason=why):
                reason = bounded(why, DENIALS)
            case _:
                return False
        if self._closed or self._written < REFUSALS_PER_SECOND:
            self._written += 1
            return False
        self._sum[kind.event, reason] += 1
        return True

    def _tell_sum(self, now: float) -> None:
        if not self._sum:
            return
        counts: dict[str, dict[str, int]] = {}
        for (event, reason), number in sorted(self._sum.items()):
            counts.setdefault(event, {})[reason] = number
        fields = {"since": _iso(self._second), "total": self._sum.total(), "counts": counts}
        self._sum.clear()
        self._log(_SUMMED, logging.WARNING, fields, now)

    # ---- writing -------------------------------------------------------------------------------------------------

    def _first_call(self, call: events.AdminActed) -> bool:
        """Whether this credential was not seen from this address before, as far as is remembered."""
        admin = call.name, call.address
        known = admin in self._admins
        self._admins[admin] = None
        self._admins.move_to_end(admin)
        if len(self._admins) > _KNOWN_ADMINS:
            self._admins.popitem(last=False)
        return not known

    def _write(self, kind: _Kind, event: Event, now: float) -> None:
        values = _values(event, now)
        self._log(kind.event, kind.level, {name: values.get(name) for name in kind.fields}, now)

    def _log(self, event: str, level: int, fields: Mapping[str, object], now: float) -> None:
        logger = self._logger
        if not logger.isEnabledFor(level):
            return
        told = {
            "time": _iso(now),
            "logger": LOGGER,
            "level": logging.getLevelName(level).lower(),
            "event": event,
            **fields,
            "process": self._process,
        }
        # the line is the message, so that it is whole under any formatter; one that wants the fields finds them too
        record = logger.makeRecord(logger.name, level, "", 0, json.dumps(told), (), None, extra={"audit": told})
        if self.routed:
            logger.handle(record)
        else:
            self._unrouted.handle(record)


def _kind(event: Event) -> _Kind | None:
    match event:
        case events.SessionEnded(cause="revoked" | "key_withdrawn"):
            return _REVOKED
        case auth.KeySkipped(leaked=True):
            return _LEAKED
        case events.AuthenticationConfigured(mode="insecure"):
            return _INSECURE
        case _:
            return _KINDS.get(type(event))


def _values(event: Event, now: float) -> Mapping[str, object]:
    values = {_RENAMED.get(name, name): value for name, value in fields_of(event).items()}
    expires_at = values.get("exp")
    if isinstance(expires_at, float | int):
        values["exp"] = int(expires_at) if float(expires_at).is_integer() else expires_at
        values["remaining"] = math.floor(expires_at - now)
    return values


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
