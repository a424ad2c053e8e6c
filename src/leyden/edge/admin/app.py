"""The admin API as an ASGI application, and the server it is meant for (docs/observing.md)."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import psycopg
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from leyden.edge.admin.administered import Administered, Revocations
from leyden.edge.admin.answers import HEADERS, ApiError, error_response, json_response
from leyden.edge.admin.credentials import Credential, Scope
from leyden.edge.admin.guard import CALLER, Guard, address_of
from leyden.edge.admin.requests import object_in, revocation_in, user_in
from leyden.edge.websocket.server import BoundedHttpProtocol
from leyden.events import AdminActed, AdminDenied, Emit, UnexpectedError
from leyden.observe.metrics import CONTENT_TYPE

#: Time for the database to answer (seconds).
DATABASE_DEADLINE = 10.0

#: Connections at once; whoever comes then is answered 503.
CONNECTIONS: Final = 100

_LARGEST_ID: Final = 2**63 - 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done:
    """A call that did what it should; ``target`` is whom it concerned."""

    response: Response
    target: str | None = None


Run = Callable[[Request], Awaitable[Done]]


class AdminApi:
    """What the paths do. Each method answers one call that is allowed already."""

    def __init__(self, administered: Administered) -> None:
        self._administered = administered

    def routes(self) -> list[Route]:
        emit = self._administered.emit

        def route(path: str, method: str, scope: Scope, action: str, run: Run) -> Route:
            return Route(path, _audited(emit, scope, action, run), methods=[method])

        return [
            route("/metrics", "GET", "metrics", "metrics.read", self.metrics),
            route("/api/admin/status", "GET", "status", "status.read", self.status),
            route("/api/admin/sessions", "GET", "sessions", "sessions.list", self.sessions),
            route("/api/admin/sessions/disconnect", "POST", "sessions", "sessions.disconnect", self.disconnect),
            route("/api/admin/revocations", "GET", "revoke", "revocations.list", self.revocations),
            route("/api/admin/revocations", "POST", "revoke", "revocations.add", self.revoke),
            route("/api/admin/revocations/{id:int}", "DELETE", "revoke", "revocations.remove", self.restore),
        ]

    async def metrics(self, request: Request) -> Done:
        text = self._administered.metrics_text()
        return Done(Response(text, headers={**HEADERS, "content-type": CONTENT_TYPE}))

    async def status(self, request: Request) -> Done:
        return Done(json_response(dataclasses.asdict(self._administered.status)))

    async def sessions(self, request: Request) -> Done:
        sessions = [dataclasses.asdict(session) for session in self._administered.sessions]
        return Done(json_response({"sessions": sessions}))

    async def disconnect(self, request: Request) -> Done:
        user = user_in(await object_in(request, {"user"}))
        return Done(json_response({"disconnected": self._administered.disconnect(user)}), user)

    async def revocations(self, request: Request) -> Done:
        found = await _in_time(self._store().list())
        return Done(json_response({"revocations": [dataclasses.asdict(revocation) for revocation in found]}))

    async def revoke(self, request: Request) -> Done:
        members = {"kind", "value", "issued_before", "expires_at"}
        wanted = revocation_in(await object_in(request, members))
        added = await _in_time(self._store().add(wanted))
        return Done(json_response(dataclasses.asdict(added), 201), f"{wanted.kind} {wanted.value or ''}".strip())

    async def restore(self, request: Request) -> Done:
        number = request.path_params["id"]
        if number > _LARGEST_ID or not await _in_time(self._store().remove(number)):
            raise ApiError(404, "revocation_unknown", "There is no such revocation.")
        return Done(Response(status_code=204, headers=HEADERS), str(number))

    def _store(self) -> Revocations:
        store = self._administered.revocations
        if store is None:
            raise _unavailable()
        return store


async def _in_time(answer: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(DATABASE_DEADLINE):
            return await answer
    except (psycopg.Error, TimeoutError):
        raise _unavailable() from None


def _unavailable() -> ApiError:
    return ApiError(503, "unavailable", "The database cannot be asked right now.", denial="unavailable")


def _audited(emit: Emit, scope: Scope, action: str, run: Run) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that looks at the caller's scopes, and tells what became of the call."""

    async def endpoint(request: Request) -> Response:
        caller: Credential = request.scope[CALLER]
        address = address_of(request.scope)
        try:
            if scope not in caller.scopes:
                message = f"The credential lacks the scope {scope}."
                raise ApiError(403, "scope_missing", message, denial="scope")
            done = await run(request)
        except ApiError as error:
            emit(AdminDenied(address, error.denial, caller.name))
            return error_response(error)
        except Exception as error:
            emit(UnexpectedError("admin", "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__))
            emit(AdminDenied(address, "internal", caller.name))
            return error_response(ApiError(500, "internal", "The call failed; the service's log says where."))
        emit(AdminActed(caller.name, address, action, done.target))
        return done.response

    return endpoint


def create_admin_app(
    administered: Administered,
    credentials: Sequence[Credential],
    *,
    loopback_only: bool,
    clock: Callable[[], float] = time.monotonic,
) -> Starlette:
    """The application. ``loopback_only`` says that it listens on a loopback address; ``clock`` gives seconds that
    never go back."""
    emit = administered.emit

    async def no_such_call(request: Request, error: Exception) -> Response:
        emit(AdminDenied(address_of(request.scope), "request", request.scope[CALLER].name))
        if isinstance(error, HTTPException) and error.status_code == 405:
            allowed = dict(error.headers or {})
            return error_response(ApiError(405, "method_not_allowed", "Not with this method.", headers=allowed))
        return error_response(ApiError(404, "not_found", "There is no such call."))

    guard = Middleware(Guard, credentials=credentials, emit=emit, loopback_only=loopback_only, clock=clock)
    app = Starlette(
        routes=AdminApi(administered).routes(), middleware=[guard], exception_handlers={HTTPException: no_such_call}
    )
    # its answer would name the caller's idea of our host
    app.router.redirect_slashes = False
    return app


def admin_server_config(app: Starlette, host: str, port: int) -> uvicorn.Config:
    """Plain HTTP without WebSockets; addresses are those of sockets, whatever a header says of another one."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=BoundedHttpProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="off",
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=5,
    )
