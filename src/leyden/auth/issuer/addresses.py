"""How far a network address reaches, and which addresses keys may be fetched from.

Owns the guard against being sent to fetch from inside our own network (CWE-918): the URL is configured, but where its
host name leads is up to whoever answers for that name. Everything that is not known to be harmless is forbidden.
Must not know names or connections.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address


class Reach(Enum):
    """Who may stand behind an address."""

    GLOBAL = "anybody on the internet"
    PRIVATE = "somebody in a network of ours"
    LOOPBACK = "this machine"
    FORBIDDEN = "nobody that publishes keys"


_PRIVATE_V4: Final = tuple(
    IPv4Network(network)
    # RFC 1918; and RFC 6598, which clusters use for their pods
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)
_PRIVATE_V6: Final = IPv6Network("fc00::/7")
#: RFC 4291 §2.4 and the IANA registry: nothing else has been given out.
_GLOBAL_V6: Final = IPv6Network("2000::/3")
#: Special purposes (RFC 6890 and its registries) that `is_global` does not know in every release of Python.
_SPECIAL_V4: Final = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
_SPECIAL_V6: Final = tuple(
    IPv6Network(network)
    # protocol assignments with Teredo, documentation, 6to4, documentation again
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
_NAT64: Final = IPv6Network("64:ff9b::/96")
_ISATAP: Final = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")
#: Where clouds hand out credentials to whoever asks, as far as these are not link-local anyway.
_METADATA: Final = frozenset(
    ip_address(text)
    for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::23", "fd00:ec2::254", "fd20:ce::254")
)


def reach_of(address: Address) -> Reach:
    """Who may stand behind `address`, taking into account that IPv6 addresses can lead to IPv4 ones."""
    if address in _METADATA:
        return Reach.FORBIDDEN
    return _reach_v4(address) if isinstance(address, IPv4Address) else _reach_v6(address)


def may_fetch_from(address: Address, *, encrypted: bool, allow_private: bool) -> bool:
    """Whether keys may come from there: unencrypted only from this machine, encrypted from the internet, and from
    networks of ours when those are allowed."""
    reach = reach_of(address)
    if not encrypted:
        return reach is Reach.LOOPBACK
    return reach is Reach.GLOBAL or (allow_private and reach in (Reach.PRIVATE, Reach.LOOPBACK))


def _reach_v4(address: IPv4Address) -> Reach:
    if address.is_loopback:
        return Reach.LOOPBACK
    if any(address in network for network in _PRIVATE_V4):
        return Reach.PRIVATE
    if address.is_multicast or address.is_reserved or not address.is_global:
        return Reach.FORBIDDEN
    return Reach.FORBIDDEN if any(address in network for network in _SPECIAL_V4) else Reach.GLOBAL


def _reach_v6(address: IPv6Address) -> Reach:
    if address.scope_id is not None:
        # a zone names a network card of ours (RFC 4007 §11), and no public name can mean that
        return Reach.FORBIDDEN
    if address.ipv4_mapped is not None:
        return reach_of(address.ipv4_mapped)
    if address in _NAT64:
        # networks without IPv4 reach it so; RFC 6052 §3.1 lets only global addresses be written in this way
        embedded = reach_of(IPv4Address(address.packed[12:]))
        return Reach.GLOBAL if embedded is Reach.GLOBAL else Reach.FORBIDDEN
    if address.is_loopback:
        return Reach.LOOPBACK
    if address in _PRIVATE_V6:
        return Reach.PRIVATE
    if address not in _GLOBAL_V6 or not address.is_global or address.packed[8:12] in _ISATAP:
        return Reach.FORBIDDEN
    return Reach.FORBIDDEN if any(address in network for network in _SPECIAL_V6) else Reach.GLOBAL
