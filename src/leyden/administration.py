"""The running service as its administrators see and touch it: what the admin API asks, answered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version

from leyden.auth import Revocation, revocation_lifetime
from leyden.edge.admin.administered import (
    DISCONNECTED,
    NewRevocation,
    RevocationInfo,
    Revocations,
    ServiceStatus,
    SessionInfo,
    session_info,
)
from leyden.events import Emit
from leyden.postgres.revocations import RevocationStore
from leyden.service import Service


class Administration:
    """Implements :class:`leyden.edge.admin.administered.Administered` for one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @property
    def emit(self) -> Emit:
        return self._service.emit

    @property
    def status(self) -> ServiceStatus:
        service = self._service
        return ServiceStatus(
            version=version("leyden"),
            instance_id=service.settings.instance_id,
            mode=service.auth.mode,
            ready=service.ready,
            waiting_for=None if service.ready else service.reason,
            position=service.position,
            connections=service.open_connections,
            sessions=len(service.access.sessions),
        )

    @property
    def sessions(self) -> Sequence[SessionInfo]:
        return sorted(
            (
                session_info(connection, session.deadline)
                for connection in self._service.connections
                if (session := connection.session) is not None
            ),
            key=lambda told: told.connection,
        )

    def disconnect(self, user_id: str) -> int:
        theirs = [connection for connection in self._service.connections if connection.user_id == user_id]
        for connection in theirs:
            connection.end(1008, detail=DISCONNECTED)
        return len(theirs)

    @property
    def revocations(self) -> Revocations | None:
        pool = self._service.pool
        if pool is None:
            return None
        lifetime = revocation_lifetime(self._service.auth.max_lifetime)
        return _Stored(RevocationStore(pool.connection, lifetime=lifetime))

    def metrics_text(self) -> bytes:
        return self._service.metrics.text()


class _Stored:
    """Revocations in the database, in the words of the admin API."""

    def __init__(self, store: RevocationStore) -> None:
        self._store = store

    async def add(self, revocation: NewRevocation) -> RevocationInfo:
        expires_at = revocation.expires_at
        added = await self._store.add(
            revocation.kind,
            revocation.value,
            issued_before=revocation.issued_before,
            lifetime=None if expires_at is None else max(1, expires_at - int(time.time())),
        )
        return _info(added)

    async def remove(self, id: int) -> bool:
        return await self._store.remove(id) is not None

    async def list(self) -> Sequence[RevocationInfo]:
        return [_info(entry) for entry in await self._store.list()]


def _info(entry: Revocation) -> RevocationInfo:
    return RevocationInfo(entry.id, entry.kind, entry.value, entry.issued_before, entry.expires_at)
