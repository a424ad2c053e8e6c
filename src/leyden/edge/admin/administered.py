"""What the admin API asks of the service, and what it answers: plain values, ready to be written as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from leyden.edge.core import OpenConnection
from leyden.events import Emit

#: Shown as the reason in the log; the client sees 1008 without one, and comes back.
DISCONNECTED = "disconnected by an administrator"

RevocationKind = Literal["user", "jti", "key", "all"]


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """``waiting_for`` says why the service is not ready, ``position`` is the WAL position reached (bytes);
    ``sessions`` are the authenticated ones of the ``connections``."""

    version: str
    instance_id: str
    mode: str
    ready: bool
    waiting_for: str | None
    position: int
    connections: int
    sessions: int


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One authenticated connection. Times are Unix seconds; ``ends_at`` is when it will be closed unless its token
    is renewed."""

    connection: int
    user_id: str
    client_id: str
    address: str
    origin: str | None
    user_agent: str | None
    connected_at: float
    issuer: str | None
    algorithm: str | None
    kid: str | None
    key_thumbprint: str | None
    jti: str | None
    expires_at: float | None
    ends_at: float | None


@dataclass(frozen=True, slots=True)
class NewRevocation:
    """Tokens that are to be refused: those of a ``user``, the one named by ``jti``, those signed by a ``key`` (its
    thumbprint), or ``all``; where ``issued_before`` is given only those whose ``iat`` is not after it. ``expires_at``
    None leaves it to the service how long that has to be remembered. Times are Unix seconds."""

    kind: RevocationKind
    value: str | None
    issued_before: int | None
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class RevocationInfo:
    """A revocation in force."""

    id: int
    kind: str
    value: str | None
    issued_before: int | None
    expires_at: int


class Revocations(Protocol):
    """Where revocations are kept."""

    async def add(self, revocation: NewRevocation) -> RevocationInfo: ...

    async def remove(self, id: int) -> bool:
        """Whether there was one."""

    async def list(self) -> Sequence[RevocationInfo]: ...


class Administered(Protocol):
    """The running service, as an administrator may see and touch it."""

    @property
    def status(self) -> ServiceStatus: ...

    @property
    def sessions(self) -> Sequence[SessionInfo]: ...

    def disconnect(self, user_id: str) -> int:
        """Ends the connections of a user at once; returns how many. Whoever holds a good token may come back."""

    @property
    def revocations(self) -> Revocations | None:
        """None while there is no database to keep them in."""

    def metrics_text(self) -> bytes:
        """In the format of :data:`leyden.observe.metrics.CONTENT_TYPE`."""

    @property
    def emit(self) -> Emit: ...


def session_info(connection: OpenConnection, ends_at: float) -> SessionInfo:
    """What may be told of an authenticated connection that will be closed at ``ends_at`` (infinite for never)."""
    identity, client_id, peer = connection.identity, connection.client_id, connection.peer
    if identity is None or client_id is None:
        raise ValueError("the connection is not authenticated")
    return SessionInfo(
        connection=connection.number,
        user_id=identity.user_id,
        client_id=client_id,
        address=peer.address,
        origin=peer.origin,
        user_agent=peer.user_agent,
        connected_at=connection.connected_at,
        issuer=identity.issuer,
        algorithm=identity.algorithm,
        kid=identity.kid,
        key_thumbprint=identity.key_thumbprint,
        jti=identity.jti,
        expires_at=identity.expires_at,
        ends_at=ends_at if math.isfinite(ends_at) else None,
    )
