"""The closed list of facts that can be noticed while the service runs.

Business code emits; ``observe/`` decides what becomes a log line, a metric or an audit record. No fact holds a
token, a key, a signature or a row's values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceReady:
    url: str


@dataclass(frozen=True, slots=True)
class InsecureModeActive:
    pass


@dataclass(frozen=True, slots=True)
class AuthenticationConfigured:
    """What tokens must look like; ``keys`` are RFC 7638 thumbprints."""

    mode: str
    algorithm: str | None
    keys: tuple[str, ...]
    issuer: str | None
    audience: str | None
    namespace: str | None


@dataclass(frozen=True, slots=True)
class AuthenticationWarning:
    """Something about how tokens are judged that an operator should change; ``message`` is a sentence."""

    message: str


@dataclass(frozen=True, slots=True)
class DatabaseUnavailable:
    """Postgres cannot be used right now; ``reason`` names the remedy, ``retry_in`` is in seconds."""

    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class ReplicationStarted:
    slot: str
    position: int


@dataclass(frozen=True, slots=True)
class ReplicationCaughtUp:
    position: int
    transactions: int


@dataclass(frozen=True, slots=True)
class ReplicationInterrupted:
    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class TableChangedOutside:
    """A table no longer matches its stored description (DDL that no event trigger saw)."""

    table: str
    reason: str


@dataclass(frozen=True, slots=True)
class MigrationSeen:
    version: str


@dataclass(frozen=True, slots=True)
class HandshakeDenied:
    """A WebSocket upgrade was refused with the HTTP status ``status``."""

    address: str
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class ClientConnected:
    connection: int
    address: str
    subprotocol: str


@dataclass(frozen=True, slots=True)
class ClientAuthenticated:
    connection: int
    client_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class TokenRenewed:
    connection: int


@dataclass(frozen=True, slots=True)
class ClientRefused:
    """``code`` is a refusal code of docs/authentication-rules.md or of the connection rules."""

    connection: int
    code: str


@dataclass(frozen=True, slots=True)
class ClientDisconnected:
    connection: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class ProtocolViolated:
    """A client broke the protocol; ``detail`` describes what, without quoting row values."""

    connection: int
    detail: str


@dataclass(frozen=True, slots=True)
class ReplicationResumed:
    connection: int
    position: int
    subscriptions: int


@dataclass(frozen=True, slots=True)
class SubscriptionDelivered:
    connection: int
    subscription: str
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SubscriptionProgress:
    connection: int
    subscription: str
    rows: int


@dataclass(frozen=True, slots=True)
class UploadApplied:
    client_id: str
    changes: int


@dataclass(frozen=True, slots=True)
class UploadRefused:
    """Postgres refused a client's transaction for good; it is kept in ``leyden.rejected``."""

    client_id: str
    sqlstate: str


@dataclass(frozen=True, slots=True)
class UnexpectedError:
    """A defect: something raised that should not have. ``trace`` is a stack trace without values."""

    where: str
    trace: str


Event = (
    ServiceReady
    | InsecureModeActive
    | AuthenticationConfigured
    | AuthenticationWarning
    | DatabaseUnavailable
    | ReplicationStarted
    | ReplicationCaughtUp
    | ReplicationInterrupted
    | TableChangedOutside
    | MigrationSeen
    | HandshakeDenied
    | ClientConnected
    | ClientAuthenticated
    | TokenRenewed
    | ClientRefused
    | ClientDisconnected
    | ProtocolViolated
    | ReplicationResumed
    | SubscriptionDelivered
    | SubscriptionProgress
    | UploadApplied
    | UploadRefused
    | UnexpectedError
)

Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An :data:`Emit` for callers that do not care."""
