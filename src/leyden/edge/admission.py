"""Who may open a WebSocket at all, judged by the upgrade request alone; and how many may be unauthenticated at once.

Knows addresses and headers, no tokens and no sessions.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

#: Connections that have not authenticated yet (docs/authentication-rules.md).
UNAUTHENTICATED_PER_ADDRESS = 20
UNAUTHENTICATED = 1_000

#: What a refused client is told to wait (seconds).
RETRY_AFTER = 5


class HandshakeRefused(Exception):
    """The upgrade is refused with this status and body."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(body)
        self.status = status
        self.body = body


def require_loopback(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Lets only this machine's own pages and programs through (docs/authentication-rules.md).

    Without it any web page that a developer visits could talk to a service on his machine that does not check tokens:
    directly, or under a name of its own that resolves to 127.0.0.1. Programs outside browsers send no ``Origin``.

    Raises:
        HandshakeRefused: ``Host`` names something else than a loopback name, or ``Origin`` is none.
    """
    hosts = [value for name, value in headers if name.lower() == b"host"]
    origins = [value for name, value in headers if name.lower() == b"origin"]
    if len(hosts) != 1 or not is_loopback_host(hosts[0].decode("latin-1")):
        raise HandshakeRefused(403, "Host is not a loopback name")
    if not all(_is_loopback_origin(origin.decode("latin-1")) for origin in origins):
        raise HandshakeRefused(403, "Origin is not a loopback origin")


def is_loopback_host(host: str) -> bool:
    """Whether ``host``, as in a ``Host`` header (``name[:port]``), is localhost or a loopback address."""
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if name is None or parts.netloc != host or "@" in host:
        return False
    return _is_loopback_name(name)


def _is_loopback_origin(origin: str) -> bool:
    scheme, separator, host = origin.partition("://")
    return scheme in ("http", "https") and bool(separator) and is_loopback_host(host)


def _is_loopback_name(name: str) -> bool:
    if name in ("localhost", "localhost.") or name.endswith((".localhost", ".localhost.")):
        return True  # RFC 6761 §6.3: resolves to this machine, whatever stands before the dot
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Lobby:
    """Counts connections until they are authenticated, in all and for each address (IPv6: each /64).

    Peers on this machine are counted in all only: they are a reverse proxy, which stands for everybody, or a
    developer.
    """

    def __init__(self, per_address: int = UNAUTHENTICATED_PER_ADDRESS, in_all: int = UNAUTHENTICATED) -> None:
        self._per_address = per_address
        self._in_all = in_all
        self._waiting: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        return self._waiting.total()

    @contextmanager
    def place(self, address: str) -> Iterator[Place]:
        """A place for one connection, given up at the end of the block at the latest.

        Raises:
            HandshakeRefused: there is none.
        """
        network, is_local = _network(address)
        if not is_local and self._waiting[network] >= self._per_address:
            raise HandshakeRefused(429, "Too many connections are not authenticated yet")
        if self.waiting >= self._in_all:
            raise HandshakeRefused(503, "Too many connections are not authenticated yet")
        self._waiting[network] += 1
        place = Place(self, network)
        try:
            yield place
        finally:
            place.give_up()

    def leave(self, network: str) -> None:
        self._waiting[network] -= 1
        if self._waiting[network] <= 0:
            del self._waiting[network]


class Place:
    """One connection's place in the lobby."""

    def __init__(self, lobby: Lobby, network: str) -> None:
        self._lobby: Lobby | None = lobby
        self._network = network

    def give_up(self) -> None:
        """The connection is authenticated, or gone. Further calls do nothing."""
        lobby, self._lobby = self._lobby, None
        if lobby is not None:
            lobby.leave(self._network)


def _network(address: str) -> tuple[str, bool]:
    """What ``address`` is counted under, and whether it is of this machine."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address, address == ""  # a Unix socket has no address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        else:
            return str(ipaddress.ip_network((parsed, 64), strict=False)), parsed.is_loopback
    return str(parsed), parsed.is_loopback
