"""Thousands of clients for half an hour, that come and go and write, beside a session that writes: ``make soak``.

It held if at the end the service takes no more memory than after it had warmed up, nobody waits for anything, and every
client has the rows that Postgres has. The exit status says so.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from dataclasses import dataclass
from statistics import median

from benchmarks.child import Child, ChildError
from benchmarks.stage import Service, Session, Stage

CLIENTS = int(os.environ.get("SOAK_CLIENTS", 2_000))
SECONDS = float(os.environ.get("SOAK_SECONDS", 1_800))

#: Clients that see the same rows.
COMPANY = 20

#: Rows of each user, about: the session that writes deletes what is more.
ROWS = 20

#: In a second: transactions of the session, uploads of all clients, and clients that are cut off.
SESSION_RATE, UPLOAD_RATE, DROP_RATE = 15.0, 15.0, 3.0

PROGRESS = 10.0

#: The service's log has come to its size, and its caches are warm (a part of all the time).
WARM_UP = 0.3
LOG_BYTES = "4M"

#: By how much memory may be more at the end than after the warm-up.
GROWTH_FACTOR, GROWTH_BYTES = 1.05, 8 << 20

#: Seconds in which the last client must have everything once nobody writes any more.
PATIENCE = 30.0


@dataclass
class Soak:
    service: Service
    clients: Child
    session: Session
    users: list[str]
    transactions: int = 0

    async def run(self) -> list[str]:
        """What did not hold."""
        took = await self.clients.ask(
            "connect", port=self.service.port, private_pem=self.service.private_pem, users=self.users
        )
        print(f"{len(self.users):,} clients are there after {took:.0f} s", flush=True)
        await self.clients.ask("start", upload_rate=UPLOAD_RATE, drop_rate=DROP_RATE)
        writing = asyncio.create_task(self._write())
        memory = await self._watch()
        writing.cancel()
        await asyncio.wait([writing])
        return [*self._memory(memory), *await self._end()]

    async def _watch(self) -> list[int]:
        """The memory of the service each :data:`PROGRESS` seconds after the warm-up."""
        started = time.monotonic()
        memory = []
        while (elapsed := time.monotonic() - started) < SECONDS:
            await asyncio.sleep(min(PROGRESS, SECONDS - elapsed))
            elapsed = time.monotonic() - started
            cpu, transactions = self.service.cpu(), self.transactions
            state = await self.clients.ask("state")
            resident = self.service.resident_bytes
            if elapsed >= SECONDS * WARM_UP:
                memory.append(resident)
            print(
                f"{elapsed:6.0f} s  {state['online']:,} online, {state['drops']:,} drops, {state['failures']} attempts"
                f" failed, {state['resets']} started afresh; {transactions:,} transactions, {state['writes']:,}"
                f" uploads, {state['waiting']} wait for an echo; {resident / 2**20:.1f} MiB, {cpu:.0f} s of CPU",
                flush=True,
            )
        return memory

    @staticmethod
    def _memory(memory: list[int]) -> list[str]:
        third = max(1, len(memory) // 3)
        before, after = median(memory[:third]), median(memory[-third:])
        print(f"memory: {before / 2**20:.1f} MiB after the warm-up, {after / 2**20:.1f} MiB at the end")
        return ["memory grew"] if after > before * GROWTH_FACTOR + GROWTH_BYTES else []

    async def _write(self) -> None:
        """A row more of somebody's, one changed, and those gone that are too many."""
        while True:
            await asyncio.sleep(1 / SESSION_RATE)
            user = random.choice(self.users)
            async with self.session.conn.transaction():
                await self.session.conn.execute(
                    "INSERT INTO items VALUES (gen_random_uuid(), %s, 'by the session, ' || random())", [user]
                )
                await self.session.conn.execute(
                    "UPDATE items SET content = 'changed, ' || random()"
                    " WHERE id = (SELECT id FROM items WHERE user_id = %s ORDER BY random() LIMIT 1)",
                    [user],
                )
                await self.session.conn.execute(
                    "DELETE FROM items"
                    " WHERE id IN (SELECT id FROM items WHERE user_id = %s ORDER BY random() OFFSET %s)",
                    [user, ROWS],
                )
            self.transactions += 1

    async def _end(self) -> list[str]:
        """What is not as it should be once nobody writes any more."""
        await self.clients.ask("stop")
        started = time.monotonic()
        while True:
            state = await self.clients.ask("state")
            cursor = await self.session.conn.execute("SELECT id::text, user_id, content FROM items")
            rows: dict[str, list[list[str]]] = {}
            for row in await cursor.fetchall():
                rows.setdefault(row[1], []).append(list(row))
            differing = await self.clients.ask("differing", rows=rows, users=self.users)
            seconds = time.monotonic() - started
            if (not differing and not state["waiting"]) or seconds > PATIENCE:
                break
            await asyncio.sleep(0.2)
        print(f"{seconds:.1f} s after the last write {differing} clients differ and {state['waiting']} wait for echoes")
        print(f"connections that the service ended: {dict(state['losses']) or 'none'}")
        failures = [f"{differing} clients differ from Postgres"] if differing else []
        return failures + ([f"{state['waiting']} clients wait for echoes"] if state["waiting"] else [])


async def _soak() -> list[str]:
    with Stage.built() as stage, stage.database() as dsn:
        async with (
            stage.service(dsn, "soak", ELECTRIC_TXN_CACHE_SIZE=LOG_BYTES) as service,
            Session.open(dsn) as session,
            Child.running("benchmarks.load.devices") as clients,
        ):
            await session.create_items()
            users = [f"user-{at // COMPANY}" for at in range(CLIENTS)]
            try:
                return await Soak(service, clients, session, users).run()
            except ChildError as error:
                return [str(error)]


def main() -> None:
    failures = asyncio.run(_soak())
    print("it held" if not failures else f"it did not hold: {'; '.join(failures)}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
