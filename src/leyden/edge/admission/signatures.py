"""The budget of signature checks for peers that have not authenticated: so many a second in this process.

Checking a signature is the most expensive thing that a stranger can make us do, and it stops everybody else's traffic
meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

#: Checks in any one second; and how many of them may come at once, so that others' traffic gets in between.
SIGNATURES_PER_SECOND: Final = 500
AT_ONCE: Final = 25

#: How long a check may have to wait (seconds).
LONGEST_WAIT: Final = 1.0


class SignatureBudget:
    """``clock`` gives seconds that never go back; ``sleep`` waits for so many of them."""

    def __init__(
        self,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        per_second: int = SIGNATURES_PER_SECOND,
        at_once: int = AT_ONCE,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        # not more than `at_once` in any window of this length (seconds), hence not more than `per_second` in a second
        self._window = at_once / per_second
        #: When the latest checks were or will be made, in that order.
        self._moments: deque[float] = deque(maxlen=at_once)

    async def take(self) -> bool:
        """Returns True when one check may be made; False at once when it would have to wait for too long.

        Whoever comes gets the next moment that is free, so there is no queue: nobody is overtaken, and no more wait
        than checks fit into :data:`LONGEST_WAIT`. A moment is used up even when its taker goes away meanwhile.
        """
        now = self._clock()
        moment = now
        if len(self._moments) == self._moments.maxlen:
            moment = max(now, self._moments[0] + self._window)
        wait = moment - now
        if wait > LONGEST_WAIT:
            return False
        self._moments.append(moment)
        if wait > 0:
            await self._sleep(wait)
        return True
