"""Who may call the admin API at all: decided before anything is looked for behind the path.

Owns the order: no browsers, no foreign names for this machine, no guessing, and a known secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from leyden.edge.admin.answers import ApiError, error_response
from leyden.edge.admin.credentials import Credential, identify
from leyden.edge.admission import FAILURES, Buckets, is_loopback_host, network_of
from leyden.events import AdminDenied, Emit, RateLimited

#: Where the scope of a request that passed holds its :class:`Credential`.
CALLER: Final = "leyden.admin.caller"

_BEARER: Final = re.compile(r"bearer +([^ ]+) *", re.IGNORECASE)


class Guard:
    """ASGI middleware. ``loopback_only`` says that the listener is reached from this machine alone, where every
    program has a name of this machine to call it by."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        credentials: Sequence[Credential],
        emit: Emit,
        loopback_only: bool,
        clock: Callable[[], float],
    ) -> None:
        self._app = app
        self._credentials = credentials
        self._emit = emit
        self._loopback_only = loopback_only
        self._failures = Buckets(clock, FAILURES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        address = address_of(scope)
        try:
            scope[CALLER] = self._admit(_Headers(scope), address)
        except ApiError as error:
            if error.status == 429:
                self._emit(RateLimited(address, "admin"))
            else:
                self._emit(AdminDenied(address, error.denial))
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admit(self, headers: _Headers, address: str) -> Credential:
        # browsers say of each request for which page they make it, and no page has any business here (the second
        # header comes with requests that carry no Origin: pictures, frames, links)
        if headers["origin"] or headers["sec-fetch-site"]:
            raise ApiError(403, "browser_refused", "The admin API is not for web pages.", denial="origin")
        hosts = headers["host"]
        if self._loopback_only and not (len(hosts) == 1 and is_loopback_host(hosts[0])):
            raise ApiError(403, "host_refused", "Call this machine by a loopback name.", denial="host")
        wait = self._failures.wait(network_of(address))
        if wait > 0:
            raise ApiError(
                429,
                "rate_limited",
                "Too many wrong secrets came from this address.",
                headers={"retry-after": str(math.ceil(wait))},
            )
        given = headers["authorization"]
        match = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
        caller = identify(self._credentials, match[1]) if match is not None else None
        if caller is None:
            if given:  # nothing was guessed without one, and any page can make a browser ask without one
                self._failures.take(network_of(address))
            raise ApiError(
                401,
                "unauthorized",
                "Send the secret of a credential in ADMIN_TOKENS_FILE as a bearer token.",
                headers={"www-authenticate": "Bearer"},
                denial="credential",
            )
        return caller


def address_of(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


class _Headers:
    """All values of a header by its name in lower case."""

    def __init__(self, scope: Scope) -> None:
        self._headers = [(name.lower(), value) for name, value in scope["headers"]]

    def __getitem__(self, name: str) -> list[str]:
        wanted = name.encode("ascii")
        return [value.decode("latin-1") for header, value in self._headers if header == wanted]
