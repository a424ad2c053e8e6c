"""What the headers of an answer say about keeping it: freshness and version.

Owns the reading of Cache-Control, Age and ETag (RFC 9111, RFC 9110 §8.8.3). A header that is not understood counts
as absent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""

_MAX_AGE: Final = re.compile(rb'max-age\s*=\s*"?([0-9]{1,10})"?', re.IGNORECASE)
_SECONDS: Final = re.compile(rb"[0-9]{1,10}")
_ETAG: Final = re.compile(rb'(?:W/)?"[!#-~]{0,256}"')


def values(headers: Headers, name: bytes) -> list[bytes]:
    """The values of every header called `name` (lower case), in order."""
    return [value.strip() for given, value in headers if given == name]


def max_age(headers: Headers) -> int | None:
    """Seconds for which the answer stays fresh, counted from now: the time it lay in caches on the way is taken off.

    None when it does not say. Of several lifetimes the shortest counts.
    """
    directives = [part.strip() for value in values(headers, b"cache-control") for part in value.split(b",")]
    lifetimes = [int(match[1]) for part in directives if (match := _MAX_AGE.fullmatch(part))]
    if not lifetimes:
        return None
    ages = [int(value) for value in values(headers, b"age") if _SECONDS.fullmatch(value)]
    return max(0, min(lifetimes) - max(ages, default=0))


def etag(headers: Headers) -> bytes | None:
    """The version of the answer, fit to be sent back; None when there is none, or a malformed or overlong one."""
    match values(headers, b"etag"):
        case [tag] if _ETAG.fullmatch(tag):
            return tag
        case _:
            return None
