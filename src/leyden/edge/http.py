"""The HTTP endpoints beside ``/ws``: status, migrations, health (docs/protocol.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from leyden.model import Migration
from leyden.satellite.migrations import Dialect, archive


class Status(Protocol):
    """What the endpoints may ask of the service."""

    @property
    def ready(self) -> bool: ...

    @property
    def reason(self) -> str:
        """Why the service is not ready, in words that anybody may read; empty when it is."""

    @property
    def remarks(self) -> Sequence[str]:
        """What its owner should see to though it is ready, in sentences that anybody may read."""

    @property
    def migrations(self) -> Sequence[Migration]: ...


def not_found(*_: object) -> Response:
    return Response("Not found", 404)


class Archives:
    """Archives of migrations, made once: anybody may ask for them, and making one takes a while."""

    def __init__(self) -> None:
        self._newest = ""
        self._made: dict[tuple[Dialect, str], bytes] = {}

    def of(self, migrations: Sequence[Migration], dialect: Dialect) -> bytes:
        """The archive of ``migrations``, which are all from some version on."""
        newest = migrations[-1].version
        if newest != self._newest:
            self._newest = newest
            self._made.clear()
        key = dialect, migrations[0].version
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = archive(migrations, dialect)
        return made


@dataclass(frozen=True, slots=True)
class Endpoints:
    status: Status
    archives: Archives = field(default_factory=Archives)

    def routes(self) -> list[BaseRoute]:
        return [
            _get("/api/status", self.api_status),
            _get("/api/status/", self.api_status),
            _get("/api/migrations", self.api_migrations),
            _get("/api/migrations/", self.api_migrations),
            _get("/health/live", self.health_live),
            _get("/health/ready", self.health_ready),
        ]

    def api_status(self, request: Request) -> Response:
        if self.status.ready:
            return Response("\n".join(["Connection to Postgres is up!", *self.status.remarks]))
        return Response("Initializing connection to Postgres...", 503)

    def api_migrations(self, request: Request) -> Response:
        name = request.query_params.get("dialect")
        if name is None:
            return _refusal("missing required parameter 'dialect'")
        try:
            dialect = Dialect(name)
        except ValueError:
            return _refusal(f"unsupported dialect {json.dumps(name[:64], ensure_ascii=False)}")
        if not self.status.ready:
            return Response("Initializing connection to Postgres...", 503)
        migrations = list(self.status.migrations)
        version = request.query_params.get("version")
        if version:
            known = [migration.version for migration in migrations]
            migrations = migrations[known.index(version) + 1 :] if version in known else []
        if not migrations:
            return Response(status_code=204)
        return Response(self.archives.of(migrations, dialect), media_type="application/zip")

    def health_live(self, request: Request) -> Response:
        return JSONResponse({"status": "live"})

    def health_ready(self, request: Request) -> Response:
        if self.status.ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": self.status.reason}, 503)


def _refusal(message: str) -> Response:
    body = json.dumps({"error": message}, ensure_ascii=False, separators=(",", ":"))
    return Response(body, 403, media_type="application/json; charset=utf-8")


def _get(path: str, endpoint: Callable[[Request], Response]) -> Route:
    async def run(request: Request) -> Response:
        # other methods, HEAD included, are unknown paths as they were in the old service
        return endpoint(request) if request.method == "GET" else not_found()

    return Route(path, run, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
