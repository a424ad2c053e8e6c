"""The lobby: connections that have not authenticated yet, few for each address and not many in all.

A client that means well stays here for milliseconds. So nobody is turned away because the lobby is full: the newcomer
comes in, and of the address with the most places the one leaves that has waited longest. Every operation takes the
same time, however many wait.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from .refusal import RETRY_AFTER, HandshakeRefused

#: Connections that have not authenticated yet (docs/authentication-rules.md).
UNAUTHENTICATED_PER_ADDRESS: Final = 20
UNAUTHENTICATED: Final = 1_000


class Lobby:
    """Counts connections until they are authenticated, in all and for each network of :func:`address.counted_as`."""

    def __init__(self, per_address: int = UNAUTHENTICATED_PER_ADDRESS, in_all: int = UNAUTHENTICATED) -> None:
        self._per_address = per_address
        self._in_all = in_all
        self._waiting = 0
        #: The places of each network, the longest waiting first.
        self._places: dict[str, OrderedDict[Place, None]] = {}
        #: The networks that have so many places, by that number. Each network is in one of them.
        self._by_number: list[OrderedDict[str, None]] = [OrderedDict()]
        self._most = 0

    @property
    def waiting(self) -> int:
        return self._waiting

    def enter(self, network: str, *, limited: bool = True) -> Place:
        """A place for one connection; :meth:`Place.give_up` must follow. May evict another one.

        ``limited`` is False for a network that stands for an unknown number of others.

        Raises:
            HandshakeRefused: the network has all the places it may have.
        """
        if limited:
            self.require_room(network)
        places = self._places.setdefault(network, OrderedDict())
        place = Place(self, network)
        places[place] = None
        self._waiting += 1
        self._moved(network, len(places) - 1, len(places))
        if self._waiting > self._in_all:
            self._evict()
        return place

    def require_room(self, network: str) -> None:
        """Whether :meth:`enter` would give ``network`` a place.

        Raises:
            HandshakeRefused: it has all it may have.
        """
        if len(self._places.get(network, ())) >= self._per_address:
            raise HandshakeRefused(
                429,
                "Too many connections are not authenticated yet",
                retry_after=RETRY_AFTER,
                limit="unauthenticated",
            )

    def leave(self, place: Place) -> None:
        """For :class:`Place` alone."""
        network = place.network
        places = self._places[network]
        del places[place]
        self._waiting -= 1
        self._moved(network, len(places) + 1, len(places))
        if not places:
            del self._places[network]

    def _evict(self) -> None:
        # never the newcomer: its network came last to its number of places, and it came last to its network
        crowded = next(iter(self._by_number[self._most]))
        next(iter(self._places[crowded])).evict()

    def _moved(self, network: str, before: int, after: int) -> None:
        if before:
            del self._by_number[before][network]
        if after:
            if after == len(self._by_number):
                self._by_number.append(OrderedDict())
            self._by_number[after][network] = None
        # one step at most: the network went from `before` to a neighbouring number
        if after > self._most or not self._by_number[self._most]:
            self._most = after


class Place:
    """One connection's place in the lobby."""

    __slots__ = ("_lobby", "_on_evict", "evicted", "network")

    def __init__(self, lobby: Lobby, network: str) -> None:
        self._lobby: Lobby | None = lobby
        self._on_evict: Callable[[], None] | None = None
        self.network = network
        #: Whether it had to go for somebody else.
        self.evicted = False

    def when_evicted(self, callback: Callable[[], None]) -> None:
        """``callback`` is to end the connection; it is called at once when the place is lost already."""
        self._on_evict = callback
        if self.evicted:
            callback()

    def give_up(self) -> None:
        """The connection is authenticated, or gone. Further calls do nothing."""
        self._on_evict = None
        lobby, self._lobby = self._lobby, None
        if lobby is not None:
            lobby.leave(self)

    def evict(self) -> None:
        """For :class:`Lobby` alone."""
        on_evict = self._on_evict
        self.give_up()
        self.evicted = True
        if on_evict is not None:
            on_evict()
