"""Which addresses keys may be fetched from."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.auth.issuer.addresses import Reach, may_fetch_from, reach_of

EXPECTED = {
    Reach.GLOBAL: [
        "1.1.1.1",
        "8.8.8.8",
        "193.0.6.139",
        "223.255.255.254",
        "2606:4700:4700::1111",
        "2a00:1450:4001:82f::200e",
        "::ffff:8.8.8.8",  # mapped (RFC 4291 §2.5.5.2)
        "64:ff9b::8.8.8.8",  # behind NAT64 (RFC 6052)
    ],
    Reach.PRIVATE: [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "100.64.0.1",  # shared between customers and carriers (RFC 6598)
        "100.127.255.255",
        "fc00::1",
        "fd12:3456:789a::1",
        "::ffff:10.0.0.1",
    ],
    Reach.LOOPBACK: ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"],
    Reach.FORBIDDEN: [
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",  # where clouds keep credentials
        "169.254.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::2",
        "::8.8.8.8",  # IPv4-compatible, given up by RFC 4291
        "::10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0.0.0.0",
        "::ffff:0:8.8.8.8",
        "64:ff9b::10.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::8.8.8.8",  # NAT64 with a prefix of ours (RFC 8215)
        "100::1",
        "2001::1",  # Teredo
        "2001:20::1",
        "2001:db8::1",
        "2002:0a00:0001::1",  # 6to4 of 10.0.0.1
        "2002:0808:0808::1",
        "3fff::1",
        "2606:4700::5efe:10.0.0.1",  # ISATAP
        "2606:4700::200:5efe:10.0.0.1",
        "5f00::1",
        "4000::1",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1%1",
        "::1%lo",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
}
CASES = [(text, reach) for reach, texts in EXPECTED.items() for text in texts]


@pytest.mark.parametrize(("text", "reach"), CASES)
def test_an_address_reaches_so_far(text: str, reach: Reach) -> None:
    assert reach_of(ip_address(text)) is reach


@pytest.mark.parametrize(("text", "reach"), CASES)
def test_only_the_public_internet_is_fetched_from_unless_private_networks_are_allowed(text: str, reach: Reach) -> None:
    address = ip_address(text)
    assert may_fetch_from(address, encrypted=True, allow_private=False) == (reach is Reach.GLOBAL)
    assert may_fetch_from(address, encrypted=True, allow_private=True) == (reach is not Reach.FORBIDDEN)


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize(("text", "reach"), CASES)
def test_nothing_unencrypted_comes_from_anywhere_but_this_machine(text: str, reach: Reach, allow_private: bool) -> None:
    allowed = may_fetch_from(ip_address(text), encrypted=False, allow_private=allow_private)
    assert allowed == (reach is Reach.LOOPBACK)


@given(st.ip_addresses(v=4).filter(lambda address: not address.is_global))
def test_no_ipv4_address_is_global_that_the_standard_library_calls_otherwise(address: IPv4Address) -> None:
    assert reach_of(address) is not Reach.GLOBAL


@given(st.ip_addresses(v=4))
def test_wrapping_an_ipv4_address_never_makes_it_reach_further(address: IPv4Address) -> None:
    plain = reach_of(address)
    assert reach_of(IPv6Address(f"::ffff:{address}")) is plain
    wrapped = reach_of(IPv6Address(f"64:ff9b::{address}"))
    assert wrapped is (Reach.GLOBAL if plain is Reach.GLOBAL else Reach.FORBIDDEN)
    for tunnel in (f"::{address}", f"2001:db8::{address}", f"64:ff9b:1::{address}", f"::ffff:0:{address}"):
        if ip_address(tunnel) != ip_address("::1"):
            assert reach_of(IPv6Address(tunnel)) is Reach.FORBIDDEN
