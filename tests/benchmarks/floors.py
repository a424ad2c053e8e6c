"""The bare loop with clients of its own, as figures need it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from benchmarks.child import Child

SLOT = "floor"


@asynccontextmanager
async def following(dsn: str, clients: int, wire: str) -> AsyncIterator[tuple[Child, Child]]:
    """The load program with so many clients, and the bare loop, which writes ``wire`` to all of them whenever a
    transaction commits: it reads a slot of its own. No service may run meanwhile."""
    async with Child.running("benchmarks.load") as load, Child.running("benchmarks.bare") as bare:
        await load.ask("connect_bare", port=await bare.ask("listen"), count=clients)
        await bare.ask("accepted", count=clients)
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
            await conn.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [SLOT])
        await bare.ask("follow", dsn=dsn, slot=SLOT, wire=wire)
        yield load, bare
