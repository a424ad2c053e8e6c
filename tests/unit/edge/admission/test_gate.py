"""The gate: whom the limits hold for, and what is told of it."""

from __future__ import annotations

import ipaddress

import pytest

from leyden.edge.admission import Admission, AdmissionPolicy, Caller, HandshakeRefused, Lobby
from leyden.edge.admission.arrivals import ANSWERS
from leyden.edge.admission.buckets import ARRIVALS, FAILURES
from leyden.edge.admission.gate import SUSPECTS_AT_ONCE
from leyden.edge.admission.lobby import UNAUTHENTICATED_PER_ADDRESS
from leyden.edge.admission.signatures import LONGEST_WAIT, SIGNATURES_PER_SECOND
from leyden.events import Event, ProxyNotTrusted, RateLimited

CLIENT = "203.0.113.7"
NAMED = ("host", "sync.example")
LOCAL = ("host", "localhost:5133")
AT_ONCE, SECONDS_FOR_EACH = FAILURES.at_once, FAILURES.seconds_for_each
ANYBODY = AdmissionPolicy()
BEHIND_PROXY = AdmissionPolicy(trusted_proxies=(ipaddress.ip_network("127.0.0.1"),))


class Gate:
    def __init__(self, policy: AdmissionPolicy = ANYBODY, lobby: Lobby | None = None) -> None:
        self.events: list[Event] = []
        self.now = 0.0
        self.admission = Admission(policy, self.events.append, clock=lambda: self.now, lobby=lobby)

    def caller(self, peer: str, *headers: tuple[str, str]) -> Caller:
        return self.admission.caller(peer, [(name.encode(), value.encode("latin-1")) for name, value in headers])

    def fail(self, caller: Caller, number: int = AT_ONCE) -> None:
        for _ in range(number):
            with self.admission.enter(caller) as guest:
                guest.failed()

    def refusal(self, caller: Caller) -> HandshakeRefused:
        with pytest.raises(HandshakeRefused) as caught, self.admission.enter(caller):
            pass
        return caught.value


# ---- who ------------------------------------------------------------------------------------------------------------


def test_events_show_the_address_behind_the_proxy_and_texts_of_bounded_length() -> None:
    gate = Gate(BEHIND_PROXY)
    peer = gate.caller(
        "127.0.0.1",
        NAMED,
        ("x-forwarded-for", f"198.51.100.1, {CLIENT}"),
        ("origin", "https://" + "o" * 1_000),
        ("user-agent", "\xe9" * 1_000),
    ).peer
    assert peer.address == CLIENT
    assert peer.origin == "https://" + "o" * 248
    assert peer.user_agent == "\xe9" * 256


def test_a_request_without_headers_has_neither_origin_nor_user_agent() -> None:
    peer = Gate().caller(CLIENT).peer
    assert (peer.address, peer.origin, peer.user_agent) == (CLIENT, None, None)


def test_an_ipv6_network_is_one_caller_to_the_limits_and_shown_by_its_address() -> None:
    gate = Gate()
    one, other = gate.caller("2001:db8::1", NAMED), gate.caller("2001:db8::2", NAMED)
    assert one.network == other.network
    assert one.peer.address == "2001:db8::1"


# ---- peers on this machine ------------------------------------------------------------------------------------------


def test_programs_on_this_machine_are_limited_like_everybody_else() -> None:
    gate = Gate()
    for caller in (gate.caller("127.0.0.1", LOCAL), gate.caller("::1", LOCAL), gate.caller("", LOCAL)):
        assert caller.limited
        gate.fail(caller)
        assert gate.refusal(caller).limit == "failures"
    assert gate.events == []


@pytest.mark.parametrize(
    "headers",
    [
        [NAMED],
        [LOCAL, ("x-forwarded-for", CLIENT)],
        [LOCAL, ("forwarded", "for=unknown")],
        [LOCAL, ("x-real-ip", CLIENT)],
        [LOCAL, ("via", "1.1 cache")],
        [],
    ],
)
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1", ""])
def test_a_proxy_on_this_machine_that_nobody_named_is_told_of_once_and_not_limited(
    peer: str, headers: list[tuple[str, str]]
) -> None:
    gate = Gate()
    caller = gate.caller(peer, *headers)
    gate.fail(caller, 100)
    for _ in range(3 * UNAUTHENTICATED_PER_ADDRESS):
        gate.admission.lobby.enter(caller.network, limited=caller.limited)
    with gate.admission.enter(caller):
        pass
    (told,) = gate.events
    assert isinstance(told, ProxyNotTrusted)
    assert told.address == caller.peer.address


@pytest.mark.parametrize("peer", [CLIENT, "10.0.0.1", "2001:db8::1"])
def test_nobody_elsewhere_gets_out_of_the_limits_by_pretending_to_be_a_proxy(peer: str) -> None:
    gate = Gate()
    caller = gate.caller(peer, NAMED, ("x-forwarded-for", "198.51.100.1"))
    assert caller.limited
    assert caller.peer.address == peer
    gate.fail(caller)
    assert gate.refusal(caller).status == 429
    assert gate.events == []


def test_behind_a_trusted_proxy_each_client_has_limits_of_his_own() -> None:
    gate = Gate(BEHIND_PROXY)
    bad = gate.caller("127.0.0.1", NAMED, ("x-forwarded-for", CLIENT))
    good = gate.caller("127.0.0.1", NAMED, ("x-forwarded-for", "203.0.113.8"))
    gate.fail(bad)
    assert gate.refusal(bad).status == 429
    with gate.admission.enter(good):
        pass
    assert gate.events == []


def test_requests_that_cannot_be_told_apart_share_the_limits_of_the_trusted_proxy() -> None:
    gate = Gate(BEHIND_PROXY)
    caller = gate.caller("127.0.0.1", NAMED, ("x-forwarded-for", "unknown"))
    gate.fail(caller)
    assert gate.refusal(gate.caller("127.0.0.1", NAMED)).status == 429


# ---- limits ---------------------------------------------------------------------------------------------------------


def test_failures_are_told_how_long_to_wait_in_whole_seconds_and_nothing_else() -> None:
    gate = Gate()
    caller = gate.caller(CLIENT, NAMED)
    gate.fail(caller)
    gate.now = 0.5
    refusal = gate.refusal(caller)
    assert (refusal.status, refusal.body, refusal.retry_after) == (429, "Too many requests", 6)
    gate.now = 6.0
    with gate.admission.enter(caller):
        pass


def test_successes_cost_nothing() -> None:
    gate = Gate()
    caller = gate.caller(CLIENT, NAMED)
    for _ in range(1_000):
        with gate.admission.enter(caller) as guest:
            guest.authenticated()
    assert gate.admission.lobby.waiting == 0


def test_a_guest_leaves_the_lobby_when_he_authenticates_or_goes() -> None:
    gate = Gate()
    caller = gate.caller(CLIENT, NAMED)
    with gate.admission.enter(caller) as guest:
        assert gate.admission.lobby.waiting == 1
        guest.authenticated()
        assert gate.admission.lobby.waiting == 0
    with gate.admission.enter(caller):
        assert gate.admission.lobby.waiting == 1
    assert gate.admission.lobby.waiting == 0


def test_asking_for_room_takes_none() -> None:
    gate = Gate(lobby=Lobby(per_address=1))
    caller = gate.caller(CLIENT, NAMED)
    for _ in range(3):
        gate.admission.require_room(caller)
    with gate.admission.enter(caller), pytest.raises(HandshakeRefused):
        gate.admission.require_room(caller)


def test_an_evicted_guest_is_told_of_under_his_own_address() -> None:
    gate = Gate(lobby=Lobby(in_all=1))
    ended: list[str] = []
    with gate.admission.enter(gate.caller("203.0.113.1", NAMED)) as guest:
        guest.when_evicted(lambda: ended.append("first"))
        with gate.admission.enter(gate.caller("203.0.113.2", NAMED)):
            pass
    assert ended == ["first"]
    assert gate.events == [RateLimited("203.0.113.1", "unauthenticated")]


async def test_a_guest_whose_token_cannot_be_verified_in_time_is_told_of() -> None:
    gate = Gate()
    with gate.admission.enter(gate.caller(CLIENT, NAMED)) as guest:
        assert await guest.may_be_verified()
        gate.admission.signatures._moments.extend([LONGEST_WAIT + 1] * SIGNATURES_PER_SECOND)
        assert not await guest.may_be_verified()
    assert gate.events == [RateLimited(CLIENT, "signatures")]


async def test_addresses_that_failed_lately_share_a_budget_of_their_own() -> None:
    gate = Gate()
    with gate.admission.enter(gate.caller("203.0.113.1", NAMED)) as suspect:
        suspect.failed()
        gate.admission.suspects._moments.extend([LONGEST_WAIT + 1] * SUSPECTS_AT_ONCE)
        assert not await suspect.may_be_verified()
    with gate.admission.enter(gate.caller("203.0.113.2", NAMED)) as other:
        assert await other.may_be_verified()
    with gate.admission.enter(gate.caller("203.0.113.1", NAMED)) as again:
        gate.now += 3 * SECONDS_FOR_EACH
        assert await again.may_be_verified()


def test_an_eviction_counts_as_a_failure() -> None:
    gate = Gate(lobby=Lobby(in_all=1))
    caller = gate.caller("203.0.113.1", NAMED)
    for _ in range(AT_ONCE):
        with gate.admission.enter(caller) as guest:
            guest.when_evicted(lambda: None)
            with gate.admission.enter(gate.caller("203.0.113.2", NAMED)):
                pass
    with pytest.raises(HandshakeRefused), gate.admission.enter(caller):
        pass


LOCAL_ONLY = AdmissionPolicy(loopback_only=True)
LOCAL_BEHIND_PROXY = AdmissionPolicy(loopback_only=True, trusted_proxies=BEHIND_PROXY.trusted_proxies)
HERE = (b"host", b"localhost:5133")
HANDED_ON = (b"x-forwarded-for", b"203.0.113.5")


@pytest.mark.parametrize(
    ("policy", "peer", "headers", "permitted"),
    [
        (LOCAL_ONLY, "127.0.0.1", [HERE], True),
        (LOCAL_ONLY, "::1", [HERE], True),
        (LOCAL_ONLY, "", [HERE], True),
        (LOCAL_ONLY, "203.0.113.5", [HERE], False),
        (LOCAL_ONLY, "127.0.0.1", [HERE, HANDED_ON], False),
        (LOCAL_BEHIND_PROXY, "127.0.0.1", [HERE, HANDED_ON], True),
        (LOCAL_BEHIND_PROXY, "203.0.113.5", [HERE], False),
        (ANYBODY, "203.0.113.5", [HERE, HANDED_ON], True),
    ],
)
def test_insecure_mode_takes_nobodys_word_for_being_on_this_machine(
    policy: AdmissionPolicy, peer: str, headers: list[tuple[bytes, bytes]], permitted: bool
) -> None:
    admission = Gate(policy).admission
    if permitted:
        admission.require_permitted(peer, headers)
    else:
        with pytest.raises(HandshakeRefused) as caught:
            admission.require_permitted(peer, headers)
        assert caught.value.status == 403


# ---- new connections ------------------------------------------------------------------------------------------------


def test_connections_beyond_so_many_are_not_read() -> None:
    gate = Gate()
    read = [gate.admission.arrivals.may_be_read(CLIENT) for _ in range(ARRIVALS.at_once + 50)]
    assert read == [True] * ARRIVALS.at_once + [False] * 50
    assert gate.events == [RateLimited(CLIENT, "arrivals")] * 50
    assert gate.admission.arrivals.may_be_read("203.0.113.8")
    gate.now += 10 * ARRIVALS.seconds_for_each
    assert [gate.admission.arrivals.may_be_read(CLIENT) for _ in range(11)] == [True] * 10 + [False]


def test_connections_that_authenticate_do_not_count() -> None:
    gate = Gate()
    caller = gate.caller(CLIENT, NAMED)
    for _ in range(10 * ARRIVALS.at_once):
        assert gate.admission.arrivals.may_be_read(CLIENT)
        with gate.admission.enter(caller) as guest:
            guest.authenticated()


def test_an_ipv6_network_has_the_connections_of_one_address() -> None:
    gate = Gate()
    read = [gate.admission.arrivals.may_be_read(f"2001:db8::{number:x}") for number in range(ARRIVALS.at_once + 1)]
    assert read[-2:] == [True, False]


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1", ""])
def test_who_may_stand_for_others_is_always_read(peer: str) -> None:
    gate = Gate()
    assert all(gate.admission.arrivals.may_be_read(peer) for _ in range(10 * ARRIVALS.at_once))


def test_a_trusted_proxy_is_always_read() -> None:
    gate = Gate(AdmissionPolicy(trusted_proxies=(ipaddress.ip_network("203.0.113.0/24"),)))
    assert all(gate.admission.arrivals.may_be_read(CLIENT) for _ in range(10 * ARRIVALS.at_once))


def test_of_those_who_failed_too_often_so_many_get_an_answer() -> None:
    gate = Gate()
    networks = [f"203.0.113.{last}" for last in range(20)]
    for network in networks:
        gate.fail(gate.caller(network, NAMED))
    read = [gate.admission.arrivals.may_be_read(network) for network in networks for _ in range(ARRIVALS.at_once)]
    assert read == [True] * ANSWERS.at_once + [False] * (len(read) - ANSWERS.at_once)
    assert gate.admission.arrivals.may_be_read("198.51.100.1")
