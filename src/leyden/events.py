"""The closed list of facts that can be noticed while the service runs.

Business code emits; ``observe/`` decides what becomes a log line, a metric or an audit record. No fact holds a
token, a key, a signature or a row's values. Texts that come from outside are as they came: whoever shows them escapes
and cuts them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from leyden.auth import KeyNotice


@dataclass(frozen=True, slots=True)
class Peer:
    """Who opened a connection, as far as the upgrade request tells."""

    address: str
    origin: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What may be told of an accepted token. ``expires_at`` are Unix seconds."""

    user_id: str
    issuer: str | None
    algorithm: str | None
    kid: str | None
    key_thumbprint: str | None
    jti: str | None
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class ServiceReady:
    url: str


@dataclass(frozen=True, slots=True)
class InsecureModeActive:
    pass


@dataclass(frozen=True, slots=True)
class AuthenticationConfigured:
    """What tokens must look like; ``keys`` are RFC 7638 thumbprints, ``key_source`` the URL they are fetched from."""

    mode: str
    algorithms: tuple[str, ...]
    keys: tuple[str, ...]
    key_source: str | None
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
class DdlUnguarded:
    """The event triggers that watch DDL are not there; ``remedy`` says what that asks of migrations."""

    remedy: str


@dataclass(frozen=True, slots=True)
class TableSuspended:
    """A table is not what clients were told, by DDL that no event trigger saw: it is neither delivered nor written."""

    table: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class TableTakenUp:
    """A table that was suspended is delivered and written again."""

    table: str


@dataclass(frozen=True, slots=True)
class MigrationSeen:
    version: str


@dataclass(frozen=True, slots=True)
class TombstonesForgotten:
    """The state of ``count`` rows deleted long ago was removed."""

    count: int


@dataclass(frozen=True, slots=True)
class HandshakeDenied:
    """A WebSocket upgrade was refused with the HTTP status ``status``."""

    peer: Peer
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class RateLimited:
    """Somebody was turned away without being judged: ``limit`` names the exhausted one."""

    address: str
    limit: Literal["failures", "unauthenticated", "signatures", "arrivals", "admin"]


@dataclass(frozen=True, slots=True)
class ProxyNotTrusted:
    """A peer on this machine hands on requests of others, and is not among the trusted proxies: until it is, limits
    for each address cannot hold for those behind it."""

    address: str


@dataclass(frozen=True, slots=True)
class ClientConnected:
    connection: int
    peer: Peer
    subprotocol: str


@dataclass(frozen=True, slots=True)
class ClientAuthenticated:
    """``seconds`` is what checking the signature took, None when the verdict on this token was remembered."""

    connection: int
    client_id: str
    peer: Peer
    credentials: Credentials
    seconds: float | None


@dataclass(frozen=True, slots=True)
class TokenRenewed:
    connection: int
    client_id: str
    peer: Peer
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class ClientRefused:
    """``code`` is a refusal code of docs/authentication-rules.md or of the connection rules; ``kid`` is what the
    refused token said. ``renewal`` tells that the connection had been authenticated before."""

    connection: int
    code: str
    client_id: str
    peer: Peer
    kid: str | None = None
    renewal: bool = False


SessionEnd = Literal["expired", "session_limit", "key_withdrawn", "revoked"]


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A live connection was ended because what let it in does not hold any more."""

    connection: int
    client_id: str
    peer: Peer
    credentials: Credentials
    cause: SessionEnd


@dataclass(frozen=True, slots=True)
class RevocationAdded:
    """``kind`` is user, jti, key or all; ``value`` whom it names; times are Unix seconds."""

    id: int
    kind: str
    value: str | None
    issued_before: int | None
    expires_at: int


@dataclass(frozen=True, slots=True)
class RevocationRemoved:
    """Taken back, or past its time."""

    id: int
    kind: str
    value: str | None


@dataclass(frozen=True, slots=True)
class RevocationsRead:
    """All revocations were read. ``lag`` is the age in seconds of the newest one when it came into force here, None
    when nothing is new."""

    entries: int
    lag: float | None


@dataclass(frozen=True, slots=True)
class RevocationsUnavailable:
    """Revocations cannot be read; those known stay in force. ``since`` is how long ago the last reading was
    (seconds)."""

    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class ReadingRightsRead:
    """What so many database roles may read is known, and is not what it was before."""

    roles: int


@dataclass(frozen=True, slots=True)
class ReadingRightsUnavailable:
    """What database roles may read cannot be found out; nothing is sent until it is."""

    reason: str


@dataclass(frozen=True, slots=True)
class AdminListening:
    url: str


@dataclass(frozen=True, slots=True)
class AdminDenied:
    """``reason`` is ``credential`` or ``scope``, ``origin`` or ``host`` for browsers and what they can be made to call,
    ``request`` for a call that makes no sense, ``unavailable`` or ``internal`` for one that cannot be done. ``name`` of
    the credential, if it is a known one."""

    address: str
    reason: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AdminActed:
    """``action`` is the call, such as ``sessions.disconnect``; ``target`` whom it concerned."""

    name: str
    address: str
    action: str
    target: str | None = None


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
class ClientRepaired:
    """A client that came back from ``position``, to which the log does not reach back, is up to date again: it was sent
    ``rows`` as they are now, and told of ``gone`` others that they are not for it."""

    connection: int
    position: int
    rows: int
    gone: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ClientHeld:
    """A client that was cut off in the midst of the initial data of one of these ``subscriptions`` is back, and gets
    nothing until it has been told to let go of it and ask again."""

    connection: int
    subscriptions: tuple[str, ...]


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
class TablesLoaded:
    """Tables of shapes that follow foreign keys are kept from now on."""

    tables: tuple[str, ...]
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class QuestionAnswered:
    """Postgres said which rows of a table one reader may see, whose policies are not understood: for the ``first``
    time; of the ``rows`` that transactions wrote; of ``all``, as something changed that the policies look at; or in a
    ``look`` at whether the answer is still the same."""

    table: str
    kind: Literal["first", "rows", "all", "look"]
    seconds: float


@dataclass(frozen=True, slots=True)
class QuestionFailed:
    """Postgres did not say which rows of a table one reader with this database ``role`` may see: ``sqlstate`` tells
    why, empty when it did not answer at all. The reader sees none of those in question. It is told once a minute, with
    how many ``times`` it happened."""

    table: str
    role: str
    sqlstate: str
    times: int = 1


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
    | DdlUnguarded
    | TableSuspended
    | TableTakenUp
    | MigrationSeen
    | TombstonesForgotten
    | KeyNotice
    | HandshakeDenied
    | RateLimited
    | ProxyNotTrusted
    | ClientConnected
    | ClientAuthenticated
    | TokenRenewed
    | ClientRefused
    | SessionEnded
    | RevocationAdded
    | RevocationRemoved
    | RevocationsRead
    | RevocationsUnavailable
    | ReadingRightsRead
    | ReadingRightsUnavailable
    | AdminListening
    | AdminDenied
    | AdminActed
    | ClientDisconnected
    | ProtocolViolated
    | ReplicationResumed
    | ClientRepaired
    | ClientHeld
    | SubscriptionDelivered
    | SubscriptionProgress
    | TablesLoaded
    | QuestionAnswered
    | QuestionFailed
    | UploadApplied
    | UploadRefused
    | UnexpectedError
)

Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An :data:`Emit` for callers that do not care."""
