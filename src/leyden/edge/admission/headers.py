"""The headers of an upgrade request, as ASGI hands them over."""

from __future__ import annotations

from collections.abc import Iterable

#: Names and values, in the order of the request.
Headers = Iterable[tuple[bytes, bytes]]


def values_of(headers: Headers, name: bytes) -> list[str]:
    """The value of each header line ``name`` (lower case), in the order of the request."""
    return [value.decode("latin-1") for given, value in headers if given == name or given.lower() == name]
