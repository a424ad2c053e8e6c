"""Bodies of requests: read within bounds, parsed strictly, every member accounted for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Set
from typing import Any, Final, cast, get_args

from starlette.requests import ClientDisconnect, Request

from leyden.auth.strict_json import NotStrictJson, parse_object
from leyden.edge.admin.administered import NewRevocation, RevocationKind
from leyden.edge.admin.answers import ApiError

#: Largest body.
BODY_BYTES: Final = 64 * 1024

#: Time for a body to arrive (seconds).
BODY_DEADLINE = 10.0

_LAST_SECOND: Final = 253_402_300_799
_KINDS: Final = get_args(RevocationKind)
_LONGEST_VALUE: Final = 1_024


async def object_in(request: Request, members: Set[str]) -> Mapping[str, Any]:
    """The JSON object in the body of ``request``; it has no other members than these.

    Raises:
        ApiError: it is none, or too large, or does not arrive.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiError(415, "content_type", "Send JSON, with Content-Type: application/json.")
    try:
        found = parse_object(await _body(request))
    except NotStrictJson as reason:
        raise ApiError(400, "body_invalid", f"The body {reason}.") from None
    if not found.keys() <= members:
        raise ApiError(400, "body_invalid", f"The body may have these members: {', '.join(sorted(members))}.")
    return found


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_DEADLINE):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_BYTES:
                    raise ApiError(413, "body_too_large", f"A body has at most {BODY_BYTES} bytes.")
    except (TimeoutError, ClientDisconnect):
        raise ApiError(408, "body_timeout", "The body did not arrive in time.") from None
    return bytes(body)


def user_in(body: Mapping[str, Any]) -> str:
    """
    Raises:
        ApiError: ``user`` is not a text, or empty.
    """
    user = body.get("user")
    if not isinstance(user, str) or not user:
        raise ApiError(400, "user_invalid", "Give the user's id in the member user, as the tokens name it.")
    return user


def revocation_in(body: Mapping[str, Any]) -> NewRevocation:
    """
    Raises:
        ApiError: a member is missing or unusable, or two do not go together.
    """
    kind, value = body.get("kind"), body.get("value")
    if kind not in _KINDS:
        raise ApiError(400, "kind_invalid", f"kind is one of {', '.join(_KINDS)}.")
    issued_before, expires_at = _moment(body, "issued_before"), _moment(body, "expires_at")
    if kind == "all":
        if value is not None:
            raise ApiError(400, "value_invalid", "all takes no value.")
        if issued_before is None:
            raise ApiError(400, "issued_before_invalid", "all needs issued_before, or nobody could come back.")
    elif not isinstance(value, str) or not 0 < len(value) <= _LONGEST_VALUE or "\0" in value:
        raise ApiError(400, "value_invalid", f"value is a text of 1 to {_LONGEST_VALUE} characters.")
    if kind == "jti" and issued_before is not None:
        raise ApiError(400, "issued_before_invalid", "A single token needs no issued_before.")
    return NewRevocation(cast("RevocationKind", kind), value, issued_before, expires_at)


def _moment(body: Mapping[str, Any], name: str) -> int | None:
    moment = body.get(name)
    if moment is None:
        return None
    if not isinstance(moment, int) or isinstance(moment, bool) or not 0 <= moment <= _LAST_SECOND:
        raise ApiError(400, f"{name}_invalid", f"{name} is a whole number of Unix seconds.")
    return moment
