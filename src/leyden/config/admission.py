"""AUTH_TRUSTED_PROXIES and AUTH_ALLOWED_ORIGINS: who may open a connection, before any token is looked at.

Owns how the two lists are written. What is done with them is `leyden.edge.admission`'s. No entry is quoted: problems
name its place in the list.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Final

from leyden.auth import AuthSettings
from leyden.edge.admission import (
    AdmissionPolicy,
    InvalidOrigin,
    Network,
    is_application_origin,
    is_loopback_origin,
    normal_origin,
)

from .problems import ConfigurationError, Unusable
from .variables import Variables

PROXIES: Final = "AUTH_TRUSTED_PROXIES"
ORIGINS: Final = "AUTH_ALLOWED_ORIGINS"

_MAX_ENTRIES: Final = 256
_REQUIRE: Final = "require"
_NETWORK: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}(?:/[0-9]{1,3})?")
_WITH_PATH: Final = re.compile(r"[^/\s]+://[^/\s]+/.*")
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
# The largest private networks (RFC 1918, RFC 4193). Whoever trusts more than that trusts strangers.
_SHORTEST_PREFIX: Final = {4: 8, 6: 7}

_PROXIES_REMEDY: Final = "list addresses and networks, like 127.0.0.1,10.0.0.0/8,fd00::/8"
_ORIGINS_REMEDY: Final = "list origins as browsers send them, like https://app.example,http://localhost:3000"


def load_admission_policy(env: Mapping[str, str], auth: AuthSettings | None) -> AdmissionPolicy:
    """The policy on connections; `auth` is None when AUTH_* was found faulty.

    Raises `ConfigurationError` with every problem there is.
    """
    variables = Variables(env)
    loopback_only = auth is None or (auth.insecure and not auth.insecure_public)
    nobody: tuple[Network, ...] = ()
    proxies = variables.read(PROXIES, _networks, nobody)
    origins = variables.read(ORIGINS, _origins, None)
    require = origins is not None and _REQUIRE in origins
    allowed = None if origins is None else origins - {_REQUIRE}
    if auth is not None and loopback_only and allowed is not None:
        _refuse_strangers(variables, allowed)
    if variables.problems:
        raise ConfigurationError(tuple(variables.problems))
    return AdmissionPolicy(proxies, allowed, require_origin=require, loopback_only=loopback_only)


def _refuse_strangers(variables: Variables, allowed: frozenset[str]) -> None:
    """Insecure mode is for this machine. The list may narrow that, or add an application's own scheme, which no web
    page can claim; it must not be the way to open the mode to pages from elsewhere."""
    if all(is_loopback_origin(origin) or is_application_origin(origin) for origin in allowed):
        return
    variables.problem(
        ORIGINS,
        "lets pages from elsewhere into insecure mode, where anyone may claim to be any user",
        "list origins of this machine only, or set AUTH_MODE=secure; AUTH_INSECURE_PUBLIC=yes allows it knowingly",
    )


def _entries(text: str, remedy: str) -> Iterator[tuple[int, str]]:
    """The entries of a comma list with their places in it, from 1."""
    entries = [entry.strip() for entry in text.split(",")]
    if len(entries) > _MAX_ENTRIES:
        raise Unusable(f"has more than {_MAX_ENTRIES} entries", remedy)
    for place, entry in enumerate(entries, 1):
        if not entry:
            raise Unusable(f"has nothing in place {place} of its list", remedy)
        yield place, entry


# ---- AUTH_TRUSTED_PROXIES -------------------------------------------------------------------------------------------


def _networks(text: str) -> tuple[Network, ...]:
    networks = [_network(place, entry) for place, entry in _entries(text, _PROXIES_REMEDY)]
    return (
        *ipaddress.collapse_addresses(network for network in networks if isinstance(network, ipaddress.IPv4Network)),
        *ipaddress.collapse_addresses(network for network in networks if isinstance(network, ipaddress.IPv6Network)),
    )


def _network(place: int, entry: str) -> Network:
    where = f"(entry {place})"
    try:
        if not _NETWORK.fullmatch(entry):  # more is an address to the library: netmasks, the zone of a link
            raise ValueError("not an address")
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        raise Unusable(f"has an entry that is no address and no network {where}", _PROXIES_REMEDY) from None
    if network.prefixlen < _SHORTEST_PREFIX[network.version]:
        raise Unusable(
            f"trusts so large a network {where} that strangers in it could choose the address they are known by",
            "name the proxies' own addresses or networks",
        )
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        raise Unusable(f"writes IPv4 as IPv6 {where}", "write it as IPv4: addresses are compared so")
    try:
        return ipaddress.ip_network(entry)
    except ValueError:
        raise Unusable(
            f"has a network with bits set behind its prefix {where}", "set them to 0, or leave out the prefix"
        ) from None


# ---- AUTH_ALLOWED_ORIGINS -------------------------------------------------------------------------------------------


def _origins(text: str) -> frozenset[str]:
    """The serialised origins, and perhaps the word `require`."""
    origins = frozenset(_origin(place, entry) for place, entry in _entries(text, _ORIGINS_REMEDY))
    if origins == {_REQUIRE}:
        raise Unusable("requires an origin and lists none, so that nobody could connect", _ORIGINS_REMEDY)
    return origins


def _origin(place: int, entry: str) -> str:
    where = f"(entry {place})"
    if entry.lower() in (_REQUIRE, "null"):
        return entry.lower()
    if "*" in entry:
        raise Unusable(
            f"has a wildcard {where}", "list each origin; unset the variable to let the pages of every origin connect"
        )
    if entry.lower().startswith(("ws:", "wss:")):
        raise Unusable(
            f"names a WebSocket {where}", "name the pages that may connect: their scheme is http, https or an app's own"
        )
    try:
        return normal_origin(entry)
    except InvalidOrigin:
        pass
    if not entry.isascii():
        raise Unusable(f"has an entry beyond ASCII {where}", "write its host in the form xn--…, as browsers send it")
    if _WITH_PATH.fullmatch(entry):
        raise Unusable(f"has an origin with a path {where}", "end it after host or port, without a slash")
    raise Unusable(f"has an entry that is no origin {where}", _ORIGINS_REMEDY)
