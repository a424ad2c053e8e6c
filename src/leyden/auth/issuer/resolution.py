"""From a host name to its addresses.

Owns the question to the system's resolver, and that at most one such question for a name is open at any time: a
resolver that hangs holds a thread, and a fetch that gives up does not free it. Must not judge the answer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from .failure import FetchFailed

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host for a port, best first, as text; raises `FetchFailed`."""


class SystemResolver:
    """Asks the system's resolver. Belongs to one event loop."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        question = (host, port)
        task = self._open.get(question)
        if task is None:
            task = self._open[question] = asyncio.create_task(_look_up(host, port))
            task.add_done_callback(lambda done: self._answered(question, done))
        try:
            return await asyncio.shield(task)
        except (OSError, UnicodeError):
            raise FetchFailed("the host name cannot be resolved") from None

    def _answered(self, question: tuple[str, int], task: asyncio.Task[list[str]]) -> None:
        del self._open[question]
        if not task.cancelled():
            task.exception()  # whoever asked may have left


async def _look_up(host: str, port: int) -> list[str]:
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in answers))
