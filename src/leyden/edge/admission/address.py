"""Addresses: of the peer, and of the client behind trusted proxies.

A proxy adds the address it was called from on the right of what it received, so the list is read from the right, and
only as far as trusted proxies wrote it: whatever stands left of that was written by whoever called. Where an entry
cannot be read, the last address that is certain is taken, which is the proxy's that handed the entry on.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from .headers import Headers, values_of

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Proxies in a row that are followed. Requests pass two or three; a longer list is somebody's game.
MAX_HOPS: Final = 32

#: The end of a list that is looked at (characters); more than honest entries of :data:`MAX_HOPS` proxies take.
_MAX_CHARACTERS: Final = 4_096

#: Stands where a list was cut off, and makes the entry unreadable that it is in: no entry may hold it unquoted.
_CUT: Final = "?"

#: Bits of an IPv6 address that name a subscriber's network; he may choose the others as he likes (RFC 6177).
_IPV6_PREFIX: Final = 64

_HANDED_ON: Final = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-real-ip", b"via"})


def parse_address(text: str) -> Address | None:
    """The address that ``text`` writes, an IPv4-mapped one as IPv4; ``None`` when it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def peer_address(text: str) -> Address | None:
    """The address of a socket's other end; it may carry the zone of a link (``fe80::1%eth0``)."""
    return parse_address(text.partition("%")[0])


def counted_as(address: Address) -> str:
    """What the limits count ``address`` under: itself, or its /64."""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Address(int(address) >> _IPV6_PREFIX << _IPV6_PREFIX)) + f"/{_IPV6_PREFIX}"


def network_of(text: str) -> str:
    """What the limits count the other end of a socket under, whatever its server calls it."""
    address = peer_address(text)
    return text if address is None else counted_as(address)


def is_handed_on(headers: Headers) -> bool:
    """Whether some proxy says that it stands between."""
    return any(name.lower() in _HANDED_ON for name, _ in headers)


def client_address(peer: Address, headers: Headers, is_trusted: Callable[[Address], bool]) -> Address:
    """Where a request comes from that ``peer`` handed over.

    That is ``peer`` itself unless it is trusted; else the right-most address of ``X-Forwarded-For`` or ``Forwarded``
    (RFC 7239) that is not trusted in its turn. When both headers are there they must agree: most proxies write one
    and hand the other on as the client sent it.
    """
    if not is_trusted(peer):
        return peer
    lists = [
        _last_certain(peer, entries(_end(",".join(lines))), is_trusted)
        for name, entries in ((b"x-forwarded-for", _x_forwarded_for), (b"forwarded", _forwarded))
        if (lines := values_of(headers, name))
    ]
    if not lists or any(address != lists[0] for address in lists):
        return peer
    return lists[0]


def _end(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else _CUT + text[-_MAX_CHARACTERS:]


def _last_certain(
    peer: Address, from_right: Iterator[Address | None], is_trusted: Callable[[Address], bool]
) -> Address:
    certain = peer
    for address in islice(from_right, MAX_HOPS):
        if address is None:
            return certain
        if not is_trusted(address):
            return address
        certain = address
    return certain


# ---- X-Forwarded-For ------------------------------------------------------------------------------------------------

_PORT = r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]{1,64}))?"
_NODE: Final = re.compile(rf"(?:\[([0-9A-Fa-f:.]{{2,45}})\]|([0-9.]{{7,15}})){_PORT}")
_BARE_IPV6: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}")


def _x_forwarded_for(text: str) -> Iterator[Address | None]:
    """Its addresses from right to left: bare, or with a port (IPv6 then in brackets). ``None`` for anything else."""
    separator = ","
    while separator:
        text, separator, entry = text.rpartition(",")
        entry = entry.strip(" \t")
        yield _node(entry) or (parse_address(entry) if _BARE_IPV6.fullmatch(entry) else None)


def _node(text: str) -> Address | None:
    """The address of a node (RFC 7239 §6); ``None`` for ``unknown``, for a made-up name and for anything else."""
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    in_brackets, ipv4 = match.groups()
    if in_brackets is None:
        return parse_address(ipv4)
    return parse_address(in_brackets) if ":" in in_brackets else None


# ---- Forwarded ------------------------------------------------------------------------------------------------------

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR: Final = re.compile(rf'({_WORD})=(?:({_WORD})|"((?:[^"\\]|\\.)*)")')

# Of the text read backwards: up to the next comma outside a quoted text. Read so, a quotation mark opens one exactly
# when "=" comes next, and stands inside one when "\" does. What a client left open on the left changes nothing.
_ELEMENT_BACKWARDS: Final = re.compile(r'(?:[^",]+|"[^"]*(?:"\\[^"]*)*"(?==))*')


def _forwarded(text: str) -> Iterator[Address | None]:
    """The addresses of ``for`` from right to left (RFC 7239 §4); ``None`` where an element has none."""
    backwards, at = text[::-1], 0
    while True:
        match = _ELEMENT_BACKWARDS.match(backwards, at)
        at = at if match is None else match.end()
        if match is None or (at < len(backwards) and backwards[at] != ","):
            yield None  # a quotation mark out of place
            return
        yield _for(match[0][::-1].strip(" \t"))
        if at == len(backwards):
            return
        at += 1


def _for(element: str) -> Address | None:
    """The address in ``for`` of one forwarded-element, each of whose parameters may be there once (RFC 7239 §4)."""
    values: dict[str, str] = {}
    at = 0
    while at < len(element):
        match = _PAIR.match(element, at)
        if match is None or match[1].lower() in values:
            return None
        values[match[1].lower()] = match[2] if match[2] is not None else re.sub(r"\\(.)", r"\1", match[3])
        at = match.end()
        if at < len(element) and element[at] != ";":
            return None
        at += 1
    return _node(values.get("for", ""))
