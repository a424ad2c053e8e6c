"""The gate: the limits of this process, and the people who stand before and behind them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from leyden.events import Emit, Peer, ProxyNotTrusted, RateLimited

from .address import client_address, counted_as, is_handed_on, peer_address
from .arrivals import Arrivals
from .buckets import FAILURES, Buckets
from .headers import Headers, values_of
from .lobby import Lobby, Place
from .origin import names_loopback
from .policy import AdmissionPolicy
from .refusal import HandshakeRefused
from .signatures import SIGNATURES_PER_SECOND, SignatureBudget

#: Of the signatures checked in a second, those of addresses that failed lately; and how many of them at once.
SUSPECTS_PER_SECOND = 100
SUSPECTS_AT_ONCE = 5

#: Longest text of a header that events carry (characters).
SHOWN_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks to be let in. ``network`` is what the limits count him under; they leave him out when he is not
    ``limited``, because he stands for an unknown number of others."""

    peer: Peer
    network: str
    limited: bool


class Admission:
    """What ``/ws`` asks before it lets somebody in. One for the process, because the limits are the process's."""

    def __init__(
        self,
        policy: AdmissionPolicy,
        emit: Emit,
        *,
        clock: Callable[[], float] = time.monotonic,
        lobby: Lobby | None = None,
    ) -> None:
        self.policy = policy
        self.lobby = lobby or Lobby()
        self.failures = Buckets(clock, FAILURES)
        self.arrivals = Arrivals(policy, self.failures, emit, clock=clock)
        # two budgets, so that a flood of bad tokens from however many addresses soon leaves the greater one to others
        self.signatures = SignatureBudget(clock, per_second=SIGNATURES_PER_SECOND - SUSPECTS_PER_SECOND)
        self.suspects = SignatureBudget(clock, per_second=SUSPECTS_PER_SECOND, at_once=SUSPECTS_AT_ONCE)
        self._emit = emit
        self._told = False

    def caller(self, peer: str, headers: Headers) -> Caller:
        """Who sent ``headers``; ``peer`` is the address of the socket's other end, empty for one of this machine
        that has none."""
        address = peer_address(peer)
        if address is None:
            # a Unix socket, or a name that some server or test client made up
            shown = network = peer[:SHOWN_CHARACTERS]
            is_local = not peer
        else:
            client = client_address(address, headers, self.policy.trusts)
            shown, network = str(client), counted_as(client)
            is_local = address.is_loopback and not self.policy.trusts(address)
        return Caller(
            peer=Peer(shown, _shown(headers, b"origin"), _shown(headers, b"user-agent")),
            network=network,
            # The limits would hit everybody behind a proxy. One that nobody named is recognised on this machine only:
            # elsewhere whoever liked could pretend to be one.
            limited=not (is_local and (is_handed_on(headers) or not names_loopback(headers))),
        )

    def require_permitted(self, peer: str, headers: Headers) -> None:
        """Judges where a request comes from, its ``Host`` and its ``Origin``.

        Raises:
            HandshakeRefused: with status 403.
        """
        self.policy.require_permitted(headers)
        if self.policy.loopback_only:
            # headers are the sender's word; an application that is mounted elsewhere may listen to other machines
            address = peer_address(peer)
            is_local = address is not None and address.is_loopback if peer else True
            trusted = address is not None and self.policy.trusts(address)
            if not is_local or (is_handed_on(headers) and not trusted):
                raise HandshakeRefused(403, "Insecure mode serves programs of this machine only")

    def require_room(self, caller: Caller) -> None:
        """Asks the limits for each address; nobody is let in yet.

        Raises:
            HandshakeRefused: with status 429.
        """
        if not caller.limited:
            return
        wait = self.failures.wait(caller.network)
        if wait > 0:
            raise HandshakeRefused(429, "Too many requests", retry_after=math.ceil(wait), limit="failures")
        self.lobby.require_room(caller.network)

    def enter(self, caller: Caller) -> Guest:
        """Lets ``caller`` into the lobby, which he leaves at the end of the ``with`` block at the latest.

        Raises:
            HandshakeRefused: with status 429.
        """
        self.require_room(caller)
        if not caller.limited and not self._told:
            self._told = True
            self._emit(ProxyNotTrusted(caller.peer.address))
        place = self.lobby.enter(caller.network, limited=caller.limited)
        return Guest(self, caller, place, self._emit)


class Guest:
    """Somebody who was let in. He authenticates within the deadline, or leaves."""

    def __init__(self, admission: Admission, caller: Caller, place: Place, emit: Emit) -> None:
        self.peer = caller.peer
        self.is_authenticated = False
        self._admission = admission
        self._caller = caller
        self._place = place
        self._emit = emit

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._place.give_up()

    def when_evicted(self, callback: Callable[[], None]) -> None:
        """``callback`` is to end the connection, because others need the place. It may be called at once."""

        def evicted() -> None:
            self.failed()
            self._emit(RateLimited(self.peer.address, "unauthenticated"))
            callback()

        self._place.when_evicted(evicted)

    def authenticated(self) -> None:
        """He proved who he is, and is not counted any more."""
        self.is_authenticated = True
        self._place.give_up()
        self._admission.arrivals.authenticated(self._caller.network)

    def failed(self) -> None:
        """A token of his was refused, whether before or after he had been let in with another one."""
        if self._caller.limited:
            self._admission.failures.take(self._caller.network)

    async def may_be_verified(self) -> bool:
        """Returns True when the signature of a stranger's token may be checked, after up to a second; False means
        that the service is too busy for it: the connection is to be closed with 1013."""
        admission = self._admission
        suspect = self._caller.limited and not admission.failures.is_full(self._caller.network)
        if await (admission.suspects if suspect else admission.signatures).take():
            return True
        if suspect:
            # one failure more: to be turned away here costs us much more than to be refused at the door
            self.failed()
        self._emit(RateLimited(self.peer.address, "signatures"))
        return False


def _shown(headers: Headers, name: bytes) -> str | None:
    values = values_of(headers, name)
    return values[0][:SHOWN_CHARACTERS] if values else None
