"""Numbers for Prometheus: what of the facts can be counted or measured.

Labels come from closed lists (:mod:`leyden.observe.labels`), never from users, tokens or addresses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, assert_never

from prometheus_client import CONTENT_TYPE_PLAIN_1_0_0, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from leyden import auth, events
from leyden.events import Event
from leyden.observe.labels import ALGORITHM_NAMES, CLOSE_CODES, DENIALS, ENDS, LIMITS, NONE, REASONS, STATUSES, bounded
from leyden.observe.scrape import Live, LiveState, WithoutCreationTimes

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_1_0_0

_SIGNATURE_BUCKETS: Final = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05)
_DELIVERY_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)


class Metrics:
    """An :data:`leyden.events.Emit` that counts, and the text that Prometheus scrapes. ``now`` gives Unix seconds."""

    def __init__(self, live: Live | None = None, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._state = LiveState(live or Live(), now)
        registry = self._registry = CollectorRegistry()
        registry.register(self._state)
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, label: str | None = None, values: Iterable[str] = ()) -> Counter:
            made = Counter(name, text, () if label is None else (label,), registry=registry)
            for value in values:  # a first failure is seen as a change only if there was a zero before
                made.labels(value)
            return made

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, registry=registry)

        self._auth = Counter(
            "leyden_auth", "Verdicts on tokens, and ends of sessions", ("outcome", "reason"), registry=registry
        )
        for outcome, reasons in {"accepted": {NONE}, "renewed": {NONE}, "refused": REASONS, "ended": ENDS}.items():
            for reason in sorted(reasons):
                self._auth.labels(outcome, reason)
        self._verification = Histogram(
            "leyden_auth_verify_seconds",
            "Time to check a signature",
            ("alg",),
            registry=registry,
            buckets=_SIGNATURE_BUCKETS,
        )
        self._insecure = gauge("leyden_insecure_mode", "1 when tokens are not verified")
        self._rate_limited = counter(
            "leyden_rate_limited", "Peers turned away without being judged", "limit", sorted(LIMITS)
        )
        self._handshakes = counter("leyden_handshakes_denied", "Refused WebSocket upgrades", "status", sorted(STATUSES))
        self._key_sets = counter(
            "leyden_jwks_refresh", "Readings of the key set", "outcome", ("changed", "unchanged", "failed")
        )
        self._keys = counter(
            "leyden_key_changes",
            "Keys that came, went or were skipped",
            "change",
            ("loaded", "removed", "rejected", "leaked"),
        )
        self._revocation_changes = counter(
            "leyden_revocation_changes", "Revocations made and ended", "change", ("added", "removed")
        )
        self._revocations = gauge("leyden_revocations", "Revocations in force")
        self._revocation_lag = gauge(
            "leyden_revocation_lag_seconds", "Age of the newest revocation when it came into force here"
        )
        self._admin = counter(
            "leyden_admin_calls", "Calls of the admin API", "outcome", ("acted", *map(_denied, sorted(DENIALS)))
        )
        self._opened = counter("leyden_connections_opened", "Accepted connections")
        self._closed = counter("leyden_connections_closed", "Ended connections", "code", sorted(CLOSE_CODES))
        self._violations = counter("leyden_protocol_violations", "Connections that broke the protocol")
        self._resumed = counter("leyden_streams_started", "Streams to clients that began or went on")
        self._uploads = counter("leyden_uploads", "Transactions of clients", "outcome", ("applied", "refused"))
        self._changes = counter("leyden_uploaded_changes", "Changes in applied transactions of clients")
        self._delivered_rows = counter("leyden_subscription_rows", "Rows of initial data delivered")
        self._delivery = Histogram(
            "leyden_subscription_seconds",
            "Time to deliver a subscription's initial data",
            registry=registry,
            buckets=_DELIVERY_BUCKETS,
        )
        self._repaired_rows = counter("leyden_repair_rows", "Rows sent to clients that came back after the window")
        self._repair = Histogram(
            "leyden_repair_seconds",
            "Time to bring a client up to date that came back after the window",
            registry=registry,
            buckets=_DELIVERY_BUCKETS,
        )
        self._questions = counter(
            "leyden_policy_questions",
            "Readers' policies asked of Postgres",
            "outcome",
            ("first", "rows", "all", "look", "failed"),
        )
        self._asking = Histogram(
            "leyden_policy_question_seconds",
            "Time for Postgres to say what one reader's policies let through",
            registry=registry,
            buckets=_DELIVERY_BUCKETS,
        )
        self._interruptions = counter("leyden_replication_interruptions", "Interruptions of the stream from Postgres")
        self._outages = counter("leyden_database_outages", "Times that Postgres turned out to be unusable")
        self._errors = counter("leyden_unexpected_errors", "Defects met")

    def text(self) -> bytes:
        """All of it, in the format :data:`CONTENT_TYPE`."""
        return generate_latest(WithoutCreationTimes(self._registry))

    def __call__(self, event: Event) -> None:
        match event:
            case events.ClientAuthenticated(credentials=credentials, seconds=seconds):
                self._auth.labels("accepted", NONE).inc()
                if seconds is not None:
                    algorithm = credentials.algorithm
                    label = NONE if algorithm is None else bounded(algorithm, ALGORITHM_NAMES)
                    self._verification.labels(label).observe(seconds)
            case events.ClientRefused(code=code):
                self._auth.labels("refused", bounded(code, REASONS)).inc()
            case events.TokenRenewed():
                self._auth.labels("renewed", NONE).inc()
            case events.SessionEnded(cause=cause):
                self._auth.labels("ended", bounded(cause, ENDS)).inc()
            case events.RateLimited(limit=limit):
                self._rate_limited.labels(bounded(limit, LIMITS)).inc()
            case events.HandshakeDenied(status=status):
                self._handshakes.labels(bounded(status, STATUSES)).inc()
            case events.AuthenticationConfigured(mode=mode):
                self._insecure.set(1 if mode == "insecure" else 0)
            case events.InsecureModeActive():
                self._insecure.set(1)
            case auth.KeyAdded():
                self._keys.labels("loaded").inc()
            case auth.KeyWithdrawn():
                self._keys.labels("removed").inc()
            case auth.KeySkipped(leaked=leaked):
                self._keys.labels("leaked" if leaked else "rejected").inc()
            case auth.KeySetRefreshed(changed=changed, fresh_for=fresh_for):
                self._key_sets.labels("changed" if changed else "unchanged").inc()
                if fresh_for is not None:  # a file is read only when it changes: its age says nothing
                    self._state.keys_read_at = self._now()
            case auth.KeySetFailed():
                self._key_sets.labels("failed").inc()
            case events.RevocationAdded():
                self._revocation_changes.labels("added").inc()
            case events.RevocationRemoved():
                self._revocation_changes.labels("removed").inc()
            case events.RevocationsRead(entries=entries, lag=lag):
                self._state.revocations_read_at = self._now()
                self._revocations.set(entries)
                if lag is not None:
                    self._revocation_lag.set(lag)
            case events.AdminActed():
                self._admin.labels("acted").inc()
            case events.AdminDenied(reason=reason):
                self._admin.labels(_denied(bounded(reason, DENIALS))).inc()
            case events.ClientConnected():
                self._opened.inc()
            case events.ClientDisconnected(code=close_code):
                self._closed.labels(bounded(close_code, CLOSE_CODES)).inc()
            case events.ProtocolViolated():
                self._violations.inc()
            case events.ReplicationResumed():
                self._resumed.inc()
            case events.UploadApplied(changes=changes):
                self._uploads.labels("applied").inc()
                self._changes.inc(changes)
            case events.UploadRefused():
                self._uploads.labels("refused").inc()
            case events.ClientRepaired(rows=rows, seconds=taken):
                self._repaired_rows.inc(rows)
                self._repair.observe(taken)
            case events.SubscriptionDelivered(rows=rows, seconds=taken):
                self._delivered_rows.inc(rows)
                self._delivery.observe(taken)
            case events.QuestionAnswered(kind=kind, seconds=taken):
                self._questions.labels(kind).inc()
                self._asking.observe(taken)
            case events.QuestionFailed(times=times):
                self._questions.labels("failed").inc(times)
            case events.ReplicationInterrupted():
                self._interruptions.inc()
            case events.DatabaseUnavailable():
                self._outages.inc()
            case events.UnexpectedError():
                self._errors.inc()
            case (
                # states that are asked at the scrape, and facts that a log tells better than a number
                events.ServiceReady()
                | events.AdminListening()
                | events.AuthenticationWarning()
                | events.ReplicationStarted()
                | events.ReplicationCaughtUp()
                | events.DdlUnguarded()
                | events.TableSuspended()
                | events.TableTakenUp()
                | events.MigrationSeen()
                | events.TombstonesForgotten()
                | events.ProxyNotTrusted()
                | events.ClientHeld()
                | events.SubscriptionProgress()
                | events.TablesLoaded()
                | events.RevocationsUnavailable()
                | events.ReadingRightsRead()
                | events.ReadingRightsUnavailable()
                | auth.KeySetStale()
            ):
                pass
            case never:
                assert_never(never)


def _denied(reason: str) -> str:
    return f"denied_{reason}"
