"""Whom a request comes from, behind proxies that are trusted and in spite of people who lie."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leyden.edge.admission.address import MAX_HOPS, Address, client_address, counted_as, parse_address, peer_address

PROXY = "10.0.0.1"
CLIENT = "203.0.113.7"
Header = tuple[str, str]

_PRIVATE = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


def is_trusted(address: Address) -> bool:
    return any(address in network for network in _PRIVATE)


def resolved(*headers: Header, peer: str = PROXY) -> str:
    address = peer_address(peer)
    assert address is not None
    given_headers = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return str(client_address(address, given_headers, is_trusted))


def xff(value: str) -> Header:
    return ("x-forwarded-for", value)


def forwarded(value: str) -> Header:
    return ("forwarded", value)


# ---- which entry ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [xff("198.51.100.1"), forwarded("for=198.51.100.1")])
def test_headers_of_a_peer_that_is_not_trusted_are_ignored(header: Header) -> None:
    assert resolved(header, peer=CLIENT) == CLIENT
    assert resolved(header, peer="127.0.0.1") == "127.0.0.1"


def test_without_headers_the_peer_is_the_client() -> None:
    assert resolved() == PROXY


@pytest.mark.parametrize(
    "headers",
    [
        [xff(CLIENT)],
        [xff(f"198.51.100.1, {CLIENT}")],
        [xff(f"198.51.100.1,{CLIENT} , 10.3.3.3,\t10.2.2.2")],
        [xff("198.51.100.1"), xff(CLIENT)],
        [xff(f"198.51.100.1, {CLIENT}"), xff("10.2.2.2")],
        [xff(f"nonsense, , unknown, {CLIENT}")],
        [xff("x" * 100_000 + f", {CLIENT}")],
        [forwarded(f"for={CLIENT}")],
        [forwarded(f'for=198.51.100.1, for={CLIENT};proto=https;by="[fd00::1]:443"')],
        [forwarded(f"proto=https;FOR={CLIENT}, for=10.2.2.2")],
        [forwarded("for=198.51.100.1"), forwarded(f"for={CLIENT}")],
        [forwarded(f'for=198.51.100.1;host="a, for=198.51.100.2", for="{CLIENT}";host="b;for=1.1.1.1, for=1.1.1.1"')],
        [forwarded(rf'for="{CLIENT}";host="\", for=198.51.100.1, x=\""')],
        [forwarded(f'for=198.51.100.1;x=", for={CLIENT}')],  # a quotation mark left open by the client
        [forwarded(f'for=198.51.100.1;x=", for="{CLIENT}"')],
        [xff(CLIENT), forwarded(f"for={CLIENT}")],
    ],
)
def test_the_right_most_untrusted_address_is_the_client(headers: Sequence[Header]) -> None:
    assert resolved(*headers) == CLIENT


@pytest.mark.parametrize("header", [xff("10.9.9.9, 10.8.8.8"), forwarded("for=10.9.9.9, for=10.8.8.8")])
def test_a_client_among_the_proxies_is_the_left_most_of_them(header: Header) -> None:
    assert resolved(header) == "10.9.9.9"


UNREADABLE = """
    unknown   _hidden   localhost   1.2.3   1.2.3.4.5   010.1.1.1   1.2.3.4:   1.2.3.4:x   1.2.3.4:123456   [1.2.3.4]
    [2001:db8::1   2001:db8::1]   [2001:db8::1]x   fe80::1%eth0   "1.2.3.4"   \xb9.2.3.4   ?1.2.3.4   for=1.2.3.4
"""


@pytest.mark.parametrize("entry", ["", "1.2.3.4 5.6.7.8", *UNREADABLE.split()])
def test_behind_an_entry_that_cannot_be_read_the_last_proxy_is_the_client(entry: str) -> None:
    assert resolved(xff(entry)) == PROXY
    assert resolved(xff(f"{CLIENT}, {entry}, 10.2.2.2")) == "10.2.2.2"


UNREADABLE_ELEMENTS = """
    for=unknown   for=_hidden   for="_hidden:80"   proto=https   for   for=   1.2.3.4   for=1.2.3.4:80   for=1.2.3.4?
    for=[2001:db8::1]   for="2001:db8::1"   for="[2001:db8::1"   for=1.2.3.4;for=5.6.7.8   for=1.2.3.4;proto
    for="1.2.3.4   for=1.2.3.4"   for="1.2.3.4"x
"""


@pytest.mark.parametrize("element", ["", "for=1.2.3.4; proto=https", "for = 1.2.3.4", *UNREADABLE_ELEMENTS.split()])
def test_behind_an_element_that_cannot_be_read_the_last_proxy_is_the_client(element: str) -> None:
    assert resolved(forwarded(element)) == PROXY
    assert resolved(forwarded(f"{element}, for=10.2.2.2")) == "10.2.2.2"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (forwarded("for=198.51.100.1"), xff(CLIENT)),
        (xff("198.51.100.1"), forwarded(f"for={CLIENT}")),
        (forwarded("nonsense"), xff(CLIENT)),
        (xff(""), forwarded(f"for={CLIENT}")),
    ],
)
def test_two_headers_that_disagree_are_not_believed(theirs: Header, ours: Header) -> None:
    assert resolved(theirs, ours) == PROXY


def test_no_endless_row_of_proxies_is_followed() -> None:
    assert resolved(xff(f"{CLIENT}, " + ", ".join(["10.2.2.2"] * (MAX_HOPS - 1)))) == CLIENT
    assert resolved(xff(f"{CLIENT}, " + ", ".join(["10.2.2.2"] * MAX_HOPS))) == "10.2.2.2"


@pytest.mark.parametrize("kept", range(4_085, 4_100))
def test_an_entry_that_was_cut_off_is_not_read(kept: int) -> None:
    # somewhere in this range the cut goes through the address, of which the rest would be one too
    padding = ", " + " " * (kept - len(f"{CLIENT}, 10.2.2.2")) + "10.2.2.2"
    assert resolved(xff(CLIENT + padding)) in (CLIENT, "10.2.2.2")


# ---- how addresses are written --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("203.0.113.7:4711", "203.0.113.7"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:cb00:7107]:80", "203.0.113.7"),
    ],
)
def test_ports_brackets_and_mapped_addresses(written: str, address: str) -> None:
    assert resolved(xff(written)) == address
    if not written.startswith(("2", ":")) or written.count(":") == 1:
        assert resolved(forwarded(f'for="{written}"')) == address


def test_an_obfuscated_port_hides_no_address() -> None:
    assert resolved(forwarded(f'for="{CLIENT}:_port"')) == CLIENT


def test_a_proxy_is_recognised_however_its_address_is_written() -> None:
    assert resolved(xff(CLIENT), peer="::ffff:10.0.0.1") == CLIENT
    assert resolved(xff(f"{CLIENT}, ::ffff:10.2.2.2")) == CLIENT
    assert resolved(xff(f"{CLIENT}, [FD00::2]:80"), peer="fd00::1") == CLIENT


def test_the_zone_of_a_link_is_left_out() -> None:
    assert peer_address("fe80::1%eth0") == ipaddress.ip_address("fe80::1")
    assert parse_address("") is None
    assert parse_address("testclient") is None


def test_limits_count_ipv4_addresses_and_ipv6_networks() -> None:
    def counted(text: str) -> str:
        address = parse_address(text)
        assert address is not None
        return counted_as(address)

    assert counted("203.0.113.7") == counted("::ffff:203.0.113.7") != counted("203.0.113.8")
    assert counted("2001:db8::1") == counted("2001:db8::ffff:ffff:ffff:ffff") != counted("2001:db8:0:1::1")


# ---- attackers ------------------------------------------------------------------------------------------------------

_LIES = st.text(alphabet='",;=\\ \t[]:._?/for1268abcdxunknownh\xe9', max_size=60) | st.sampled_from(
    [
        "198.51.100.1",
        "10.6.6.6",
        "for=198.51.100.1",
        'for=198.51.100.1;x="',
        'for=198.51.100.1;x="\\',
        '", for=198.51.100.1',
        'for=198.51.100.1, for="',
        "for=10.6.6.6, for=198.51.100.1;host=",
        "198.51.100.1," * 400,
        "for=10.6.6.6," * 400,
        '\\"' * 3_000,
        '="' * 3_000,
    ]
)
_HOSTS = st.text(alphabet='",;=\\ for1.8', max_size=20)
_PROXIES = st.lists(st.sampled_from(["10.0.0.2", "10.0.0.3", "fd00::2"]), max_size=3)
_LINES = st.lists(st.tuples(st.sampled_from(["x-forwarded-for", "forwarded"]), _LIES), max_size=4)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _written(header: str, address: str, host: str) -> str:
    """What an honest proxy adds for ``address``; some also hand on a ``Host`` that the client chose."""
    bracketed = f"[{address}]:4711" if ":" in address else f"{address}:4711"
    if header == "x-forwarded-for":
        return bracketed
    return f"for={_quoted(bracketed)};host={_quoted(host)};proto=https"


def _handed_on(lines: list[Header], header: str, addresses: list[str], host: str, *, appends: bool) -> list[Header]:
    """``lines`` as they arrive here after proxies which were called from ``addresses``, in this order."""
    for address in addresses:
        entry = _written(header, address, host)
        own = [index for index, (name, _) in enumerate(lines) if name == header]
        if appends and own:
            lines = [*lines]
            lines[own[-1]] = (header, f"{lines[own[-1]][1]}, {entry}")
        else:
            lines = [*lines, (header, entry)]
    return lines


@given(_LINES, st.sampled_from(["x-forwarded-for", "forwarded"]), _PROXIES, _HOSTS, st.booleans())
@example([("forwarded", 'for=198.51.100.1;x="')], "forwarded", [], ';for=198.51.100.1;y="', True)
def test_nobody_can_choose_the_address_he_is_known_by(
    lies: list[Header], header: str, proxies: list[str], host: str, appends: bool
) -> None:
    """Whatever a client writes, he is known by the address he called from; or by a proxy's when he also wrote the
    header that the proxies do not write."""
    arrived = _handed_on(lies, header, [CLIENT, *proxies], host, appends=appends)
    address = resolved(*arrived)
    if all(name == header for name, _ in lies):
        assert address == CLIENT
    else:
        assert address in (CLIENT, PROXY)


@given(_LINES, st.sampled_from(["x-forwarded-for", "forwarded"]))
def test_whoever_calls_from_among_the_proxies_is_the_exception(lies: list[Header], header: str) -> None:
    """Still it is an address or the peer's, never a failure."""
    arrived = _handed_on(lies, header, ["10.7.7.7"], "", appends=True)
    assert parse_address(resolved(*arrived)) is not None


@given(_LINES)
def test_nobody_without_a_proxy_can_either(lies: list[Header]) -> None:
    assert resolved(*lies, peer=CLIENT) == CLIENT
