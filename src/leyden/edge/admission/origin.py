"""``Origin`` and ``Host``: which pages may connect, and under which name of this machine.

An origin is compared as RFC 6454 §5 says, by scheme, host and port: scheme and host in lower case, a default port the
same as none. Both sides are brought into the serialised form of §6.2 and then compared as texts.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from .headers import Headers, values_of
from .refusal import HandshakeRefused

#: What browsers send for a page without an origin: a sandboxed frame, a local file, some redirects (RFC 6454 §7.3).
NULL: Final = "null"

#: Some embedded browsers send this for pages out of an application's package: an origin without a host.
_FILE: Final = "file://"

_ORIGIN: Final = re.compile(
    r"([a-z][a-z0-9+.-]{0,63})://(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9._~-]{1,253}))(?::([0-9]{1,5}))?"
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class InvalidOrigin(ValueError):
    """A text is no origin."""


def normal_origin(text: str) -> str:
    """The serialised origin that ``text`` writes: ``null``, or ``scheme://host[:port]`` without a default port.

    Raises:
        InvalidOrigin: it is none; a path, even ``/``, is no part of an origin.
    """
    if text in (NULL, _FILE):
        return text
    # before lower-casing, which turns some letters beyond ASCII into ASCII ones
    match = _ORIGIN.fullmatch(text.lower()) if text.isascii() else None
    if match is None:
        raise InvalidOrigin("not an origin")
    scheme, numeric, name, digits = match.groups()
    if numeric is not None:
        try:
            host = f"[{ipaddress.IPv6Address(numeric)}]"
        except ValueError:
            raise InvalidOrigin("not an IPv6 address") from None
    else:
        host = name
    if digits is None:
        return f"{scheme}://{host}"
    port = int(digits)
    if port > 65_535:
        raise InvalidOrigin("not a port")
    return f"{scheme}://{host}" if port == _DEFAULT_PORTS.get(scheme) else f"{scheme}://{host}:{port}"


def is_application_origin(origin: str) -> bool:
    """Whether the serialised ``origin`` has a scheme of an application's own, which no web page and no file has."""
    return origin not in (NULL, _FILE) and origin.partition("://")[0] not in (*_DEFAULT_PORTS, "file")


def is_loopback_origin(origin: str) -> bool:
    """Whether the serialised ``origin`` is that of web pages which this machine serves."""
    scheme, _, host = origin.partition("://")
    return scheme in ("http", "https") and is_loopback_host(host)


def is_loopback_host(host: str) -> bool:
    """Whether ``host``, as in a ``Host`` header (``name[:port]``), is localhost or a loopback address."""
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if name is None or parts.netloc != host or "@" in host:
        return False
    if name in ("localhost", "localhost.") or name.endswith((".localhost", ".localhost.")):
        return True  # RFC 6761 §6.3: resolves to this machine, whatever stands before the dot
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def names_loopback(headers: Headers) -> bool:
    """Whether there is exactly one ``Host``, and it is a loopback name."""
    hosts = values_of(headers, b"host")
    return len(hosts) == 1 and is_loopback_host(hosts[0])


def require_loopback_host(headers: Headers) -> None:
    """Refuses foreign names for this machine: a page under such a name is no page of ours (DNS rebinding).

    Raises:
        HandshakeRefused: ``Host`` names something else than a loopback name.
    """
    if not names_loopback(headers):
        raise HandshakeRefused(403, "Host is not a loopback name")


def require_loopback(headers: Headers) -> None:
    """Lets only this machine's own pages and programs through (docs/authentication-rules.md).

    Without it any web page that a developer visits could talk to a service on his machine that does not check tokens:
    directly, or under a name of its own that resolves to 127.0.0.1. Programs outside browsers send no ``Origin``.

    Raises:
        HandshakeRefused: ``Host`` names something else than a loopback name, or ``Origin`` is none.
    """
    require_loopback_host(headers)
    origin = _origin(headers)
    if origin is not None and not is_loopback_origin(origin):
        raise HandshakeRefused(403, "Origin is not a loopback origin")


def require_origin_among(headers: Headers, allowed: frozenset[str], *, required: bool) -> None:
    """Lets the pages of ``allowed`` origins through, and requests without an ``Origin`` unless one is ``required``.

    Raises:
        HandshakeRefused: it is another one, or missing.
    """
    origin = _origin(headers)
    if origin is None:
        if required:
            raise HandshakeRefused(403, "Origin is required")
    elif origin not in allowed:
        raise HandshakeRefused(403, "Origin is not allowed")


def _origin(headers: Headers) -> str | None:
    """The origin of the request, ``None`` without one. No browser sends two, or a list of them."""
    given = values_of(headers, b"origin")
    if not given:
        return None
    if len(given) > 1:
        raise HandshakeRefused(403, "Origin is given more than once")
    try:
        return normal_origin(given[0])
    except InvalidOrigin:
        raise HandshakeRefused(403, "Origin is not an origin") from None
