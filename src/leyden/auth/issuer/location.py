"""URLs that keys may be fetched from, taken apart once.

Owns the accepted spelling of a URL: far narrower than RFC 3986, so that no two parsers can disagree about its
host. Must not know what stands behind a host name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from .failure import FetchFailed

MAX_URL_CHARACTERS: Final = 2_048

#: No user info, no zone, no fragment, no backslash. Applied to printable ASCII only.
_LABEL: Final = r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?"
_URL: Final = re.compile(
    rf"""(?P<scheme>https?)://
        (?P<host>{_LABEL}(\.{_LABEL})*|\[[0-9a-f:.]+\])
        (:(?P<port>[0-9]{{1,5}}))?
        (?P<path>/[^ ?#\\]*)?
        (?P<query>\?[^ #\\]*)?""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Location:
    """A URL whose every part is known."""

    scheme: str
    host: str
    """Lower case; an IPv6 address without its brackets."""
    port: int
    target: str
    """Path and query, as they stand in a request line."""

    @property
    def encrypted(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The value of the Host header (RFC 9110 §7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def locate(url: str, *, allow_http: bool) -> Location:
    """Take `url` apart; raises `FetchFailed` when it is not https, or http where that is allowed, or oddly spelt.

    That http leads to a loopback address can only be seen when the host name is resolved.
    """
    readable = len(url) <= MAX_URL_CHARACTERS and url.isascii() and url.isprintable()
    match = _URL.fullmatch(url) if readable else None
    if match is None:
        raise FetchFailed("the URL is not of the form https://HOST/PATH")
    scheme, host = match["scheme"].lower(), match["host"].lower()
    if scheme == "http" and not allow_http:
        raise FetchFailed("the URL is not an HTTPS URL")
    if host.startswith("["):
        host = host[1:-1]
        try:
            IPv6Address(host)
        except ValueError:
            raise FetchFailed("the URL holds a malformed IPv6 address") from None
    port = int(match["port"]) if match["port"] is not None else _DEFAULT_PORTS[scheme]
    if not 0 < port < 65_536:
        raise FetchFailed("the URL names an impossible port")
    return Location(scheme, host, port, (match["path"] or "/") + (match["query"] or ""))
