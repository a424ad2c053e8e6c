"""The lobby: few places for each address, and for a newcomer there always is one."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.edge.admission import HandshakeRefused, Lobby, Place
from leyden.edge.admission.lobby import UNAUTHENTICATED, UNAUTHENTICATED_PER_ADDRESS


def fill(lobby: Lobby, network: str, number: int) -> list[Place]:
    return [lobby.enter(network) for _ in range(number)]


def test_an_address_has_so_many_places() -> None:
    lobby = Lobby()
    fill(lobby, "203.0.113.7", UNAUTHENTICATED_PER_ADDRESS)
    with pytest.raises(HandshakeRefused) as caught:
        lobby.enter("203.0.113.7")
    assert (caught.value.status, caught.value.limit) == (429, "unauthenticated")
    assert caught.value.retry_after is not None
    lobby.enter("203.0.113.8")
    assert lobby.waiting == UNAUTHENTICATED_PER_ADDRESS + 1


def test_who_stands_for_many_has_more() -> None:
    lobby = Lobby(per_address=1)
    for _ in range(5):
        lobby.enter("127.0.0.1", limited=False)
    assert lobby.waiting == 5


def test_a_place_is_given_up_once_and_for_good() -> None:
    lobby = Lobby(per_address=1)
    place = lobby.enter("203.0.113.7")
    place.give_up()
    assert lobby.waiting == 0
    lobby.enter("203.0.113.7")
    place.give_up()
    assert lobby.waiting == 1


def test_whoever_fills_the_lobby_pays_for_the_newcomer() -> None:
    lobby = Lobby(in_all=5)
    few = fill(lobby, "203.0.113.1", 2)
    many = fill(lobby, "203.0.113.2", 3)
    ended: list[Place] = []
    for place in (*few, *many):
        place.when_evicted(lambda place=place: ended.append(place))  # type: ignore[misc]
    newcomer = lobby.enter("203.0.113.3")
    assert ended == many[:1]
    assert many[0].evicted
    assert not newcomer.evicted
    assert lobby.waiting == 5


def test_a_thousand_silent_addresses_do_not_shut_out_a_newcomer() -> None:
    lobby = Lobby()
    silent = [lobby.enter(f"10.{number // 256}.{number % 256}.1") for number in range(UNAUTHENTICATED)]
    newcomer = lobby.enter("203.0.113.7")
    assert [place.evicted for place in silent] == [True] + [False] * (UNAUTHENTICATED - 1)
    # one address after the other pays, the newcomer's last of all
    for number in range(UNAUTHENTICATED - 1):
        lobby.enter(f"11.{number // 256}.{number % 256}.1")
    assert all(place.evicted for place in silent)
    assert not newcomer.evicted


def test_an_address_that_fills_the_lobby_evicts_its_own() -> None:
    lobby = Lobby(in_all=3)
    other = lobby.enter("203.0.113.1")
    own = fill(lobby, "203.0.113.2", 2)
    lobby.enter("203.0.113.2")
    assert [place.evicted for place in (other, *own)] == [False, True, False]


def test_an_eviction_before_anybody_asked_is_told_as_soon_as_somebody_does() -> None:
    lobby = Lobby(in_all=1)
    place = lobby.enter("203.0.113.1")
    lobby.enter("203.0.113.2")
    told: list[str] = []
    place.when_evicted(lambda: told.append("evicted"))
    assert told == ["evicted"]


def test_an_authenticated_connection_is_not_evicted() -> None:
    lobby = Lobby(in_all=1)
    place = lobby.enter("203.0.113.1")
    place.give_up()
    lobby.enter("203.0.113.2")
    lobby.enter("203.0.113.3")
    assert not place.evicted


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.integers(0, 7)), max_size=60))
def test_the_lobby_counts_right_and_evicts_the_oldest_of_the_most(steps: list[tuple[str, bool, int]]) -> None:
    """Against a list that is searched from one end to the other at every step."""
    lobby, waiting = Lobby(per_address=4, in_all=6), list[Place]()
    for network, enters, index in steps:
        if not enters:
            if index < len(waiting):
                waiting.pop(index).give_up()
        elif sum(place.network == network for place in waiting) >= 4:
            with pytest.raises(HandshakeRefused):
                lobby.enter(network)
        else:
            waiting.append(lobby.enter(network))
            counts = Counter(place.network for place in waiting)
            evicted = [place for place in waiting if place.evicted]
            assert len(evicted) == (len(waiting) > 6)
            for place in evicted:
                assert counts[place.network] == max(counts.values())
                assert place is next(other for other in waiting if other.network == place.network)
                assert place is not waiting[-1]
                waiting.remove(place)
        assert lobby.waiting == len(waiting)
