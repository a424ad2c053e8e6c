"""Answers of the admin API, and the errors that become some."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

#: No cache may keep an answer, no browser may take it for anything but what it says it is.
HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class ApiError(Exception):
    """A call is not answered as hoped for. ``code`` is stable, ``message`` a sentence for a person; ``denial`` is the
    reason in :class:`leyden.events.AdminDenied`."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        denial: str = "request",
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.denial = denial


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    # pure ASCII, so that a terminal shows what a stranger sent only in escaped form
    body = json.dumps(content, separators=(",", ":")) + "\n"
    return Response(body, status, {**HEADERS, **(headers or {})}, media_type="application/json")


def error_response(error: ApiError) -> Response:
    # what is left of a request that was not read to its end must not be taken for the next one
    headers = {**error.headers, "connection": "close"}
    return json_response({"code": error.code, "message": error.message}, error.status, headers)
