"""Clients that were cut off in the midst of a subscription's initial data.

The stock client does not notice: it takes what comes on its next connection for a part of that delivery, gives up all
its subscriptions and rows, and does not connect again. It lets go of a delivery when a call to subscribe is answered
with an error *and the old subscription's id*; then it connects anew and asks again for what it lacks
(docs/protocol.md). Until it has heard that, it must be sent nothing but answers.

To a client that does not know the old id, the same answer would do what it is to prevent. So it is told only if its
process is the one that asked: a process numbers its calls from 1, on all of its connections.

When the client also has to give up other subscriptions, it does so first, and thereby forgets what it lacks until that
has been granted once: what it is told on goes missing, until the app asks for it. So it is told then only if there is
hardly a doubt that it got a part of the data.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from leyden.model import SubscriptionRecord
from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.actions import Close, DropSubscriptions, Output, Send, StartStream, Withdraw

#: How long the client may take to subscribe again (seconds). It does so after its call to start and one to give up
#: what it no longer wants; each of its calls fails after 3 s.
HELD_FOR = 10.0

#: Outputs that may be held back for one client.
HELD_OUTPUTS = 1_000

_SUBS_ERROR = pb.SatSubsResp.SatSubsError


def cut_off(
    subscriptions: Sequence[SubscriptionRecord], listed: Collection[str], first_call: int
) -> tuple[SubscriptionRecord, ...]:
    """Of the stored ``subscriptions``, in their order, those whose delivery the client may be in the midst of, or wait
    for: it does not list them when it starts, and its process asked for them before ``first_call``, the first call
    since its connection was lost.
    """
    return tuple(
        one
        for one in subscriptions
        if one.asked_by is not None and one.asked_by < first_call and one.cancelled_at is None and one.id not in listed
    )


class Rescue:
    """The part of a conversation in which the client is told to let go of a delivery, and its stream is held back."""

    def __init__(self, subscriptions: Sequence[SubscriptionRecord], start: StartStream) -> None:
        #: Of the deliveries that it may be in the midst of, the earliest first; empty once it has been told.
        self.ids = tuple(one.id for one in subscriptions)
        self._in_parts = any(one.in_parts for one in subscriptions)
        self._held: list[Output] = [start]
        self._has_granted = False

    @property
    def is_full(self) -> bool:
        return len(self._held) >= HELD_OUTPUTS

    @property
    def holds_request(self) -> bool:
        """Whether the client is still to be asked for its uploads."""
        return any(isinstance(one, Send) for one in self._held)

    @property
    def _gives_up_others(self) -> bool:
        return any(isinstance(one, Withdraw) for one in self._held)

    @property
    def does_harm(self) -> bool:
        """Whether telling it would cost it more than it is likely to save."""
        return bool(self.ids) and self._gives_up_others and not self._in_parts

    def hold(self, output: Output) -> None:
        """Keeps back what is to be done once the stream has started, if it ever does on this connection."""
        self._held.append(output)

    def answer(self, request: pb.SatRpcRequest, call: pb.SatSubsReq) -> list[Output]:
        """Answers a call to subscribe: refuses the first one in the name of the delivery that was cut off.

        Deliveries follow each other: of several that the client waits for, it can be in the midst of the first only.
        To the others nothing happens when they never begin.
        """
        told, self.ids = self.ids, ()
        if not told and self._gives_up_others:
            # Granted, though it comes anew: what it lacks is remembered with this one.
            self._has_granted = True
            return [Send(rpc.success(request, pb.SatSubsResp(subscription_id=call.subscription_id)))]
        error = _SUBS_ERROR(
            # one of those at which the client connects anew
            code=_SUBS_ERROR.SUBSCRIPTION_ID_ALREADY_EXISTS,
            message="The connection was lost while the data came: connect again and ask again",
        )
        answer = pb.SatSubsResp(subscription_id=told[0] if told else call.subscription_id, err=error)
        # Forgotten before the client hears of it: told a second time, it would not know the id.
        before: list[Output] = [DropSubscriptions(told)] if told else []
        return [*before, Send(rpc.success(request, answer))]

    def give_up(self) -> list[Output]:
        """The client has not come anew in time: the stream starts."""
        if self._has_granted:
            return [Close(1012, detail="it was to come anew")]
        before: list[Output] = [DropSubscriptions(self.ids)] if self.ids else []
        return [*before, *self._held]
