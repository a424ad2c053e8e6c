"""The one error of this room, and who may be asked for it beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from .headers import Headers

#: What a refused client is told to wait when nothing more exact is known (seconds).
RETRY_AFTER: Final = 5

Limit = Literal["failures", "unauthenticated"]


class HandshakeRefused(Exception):
    """The upgrade is refused with this HTTP status and body.

    ``limit`` names the limit that was reached, if that is why; ``retry_after`` are seconds.
    """

    def __init__(self, status: int, body: str, *, retry_after: int | None = None, limit: Limit | None = None) -> None:
        super().__init__(body)
        self.status = status
        self.body = body
        self.retry_after = retry_after
        self.limit = limit


#: Judges an upgrade request by its path, the address of the socket's other end, and its headers.
Doorkeeper = Callable[[str, str, Headers], HandshakeRefused | None]
