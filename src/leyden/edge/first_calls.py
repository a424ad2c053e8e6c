"""Tells a client that comes back from one that was started anew.

The stock client numbers its calls from 1 in each process, on all of its connections. An app that was restarted may need
several attempts until it is let in: the lowest number tells.
"""

from __future__ import annotations

from collections import OrderedDict

#: Clients that are remembered. Who is forgotten while he tries is taken for what his last attempt looks like.
MOST = 10_000


class FirstCalls:
    """By client, the lowest number of a call to authenticate since replication was last started."""

    def __init__(self) -> None:
        self._lowest: OrderedDict[str, int] = OrderedDict()

    def of(self, client_id: str, call: int) -> int:
        """The lowest one, now that ``call`` has come as well. Anybody may claim to be the client."""
        lowest = self._lowest[client_id] = min(call, self._lowest.pop(client_id, call))
        if len(self._lowest) > MOST:
            self._lowest.popitem(last=False)
        return lowest

    def started(self, client_id: str) -> None:
        """What is stored of the client's subscriptions is as its process knows it."""
        self._lowest.pop(client_id, None)
