"""What it costs to send one small transaction to many clients of one shape, and how that grows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks.child import Child
from benchmarks.figure import Curve, Figure, Goal, Row, Spread
from benchmarks.stage import Service, Session, Stage
from leyden.edge.websocket.socket import server_frame

CLIENTS = (100, 1_000, 2_500, 5_000)
WITH_A_GOAL = (100, 1_000, 5_000)
GOAL = Goal(1.3)

#: As many as a client may have before it has to acknowledge one, less some that it gets when it starts.
TRANSACTIONS = 20
BATCHES = 3

#: Clients for which a second more of measuring is enough.
SEND_RATE = 2_000

ABOUT = (
    "CPU of the service for each client and transaction of one row of 200 bytes: that of a window of time with"
    f" {TRANSACTIONS} transactions, one after the other, less that of as much time just before without. What"
    " connections cost while nothing happens, and what an acknowledgement costs, stands below. The floor is a bare"
    " uvloop loop that writes the same bytes to as many sockets. Spreads are from the commit, or the first write,"
    " to the last client."
)


async def measure(stage: Stage) -> Figure:
    figure = Figure("Sending to many clients of one shape", ABOUT)
    costs: dict[int, _Costs] = {}
    connecting: dict[int, float] = {}
    with stage.database() as dsn:
        async with (
            stage.service(dsn, "sending") as service,
            Child.running("benchmarks.load") as load,
            Session.open(dsn) as session,
        ):
            await session.create_items()
            there = 0
            for clients in CLIENTS:
                before = service.cpu()
                names = [f"client-{number}" for number in range(there, clients)]
                await service.connect(load, names, [[["items"]]] * len(names))
                connecting[clients] = (service.cpu() - before) / len(names) * 1e6
                there = clients
                await asyncio.sleep(2)  # deliveries are confirmed
                costs[clients] = await _costs(service, load, session, clients)
            if lost := await load.ask("lost"):
                figure.notes.append(f"{len(lost)} clients were lost: {lost[0]}")
            frame = bytes.fromhex(await load.ask("frame"))
    bare = await _bare(server_frame(frame).hex())
    for clients in CLIENTS:
        ours, floor = costs[clients], bare[clients]
        figure.rows.append(
            Row(
                f"{clients:,} clients",
                "µs of CPU each",
                ours.transaction,
                floor.cpu,
                GOAL if clients in WITH_A_GOAL else None,
                ours_spread=ours.delays,
                floor_spread=floor.delays,
                spread_unit="ms",
                ours_cpu=ours.transaction,
                floor_cpu=floor.cpu,
            )
        )
    for clients in WITH_A_GOAL:
        figure.rows += [
            Row(f"{clients:,} clients, an acknowledgement", "µs of CPU each", costs[clients].acknowledgement),
            Row(f"{clients:,} clients, a quiet second", "µs of CPU each", costs[clients].quiet),
            Row(f"{clients:,} clients, connecting the last", "µs of CPU each", connecting[clients]),
        ]
    figure.curves += [
        Curve(
            "sending",
            "A transaction to many clients of one shape",
            "clients",
            "µs of CPU each",
            {
                "Leyden": [(clients, costs[clients].transaction) for clients in CLIENTS],
                "bare loop": [(clients, bare[clients].cpu) for clients in CLIENTS],
            },
        ),
        Curve(
            "connections",
            "What connections cost besides",
            "clients",
            "µs of CPU each",
            {
                "an acknowledgement": [(clients, costs[clients].acknowledgement) for clients in CLIENTS],
                "a quiet second": [(clients, costs[clients].quiet) for clients in CLIENTS],
            },
        ),
        Curve("connecting", "Connecting one more client", "clients", "µs of CPU", {"Leyden": list(connecting.items())}),
    ]
    return figure


@dataclass(frozen=True, slots=True)
class _Costs:
    """For each client (µs of CPU): of a transaction, of an acknowledgement, and of a second in which nothing happens.
    ``delays`` are from commits to the last client (ms)."""

    transaction: float
    acknowledgement: float
    quiet: float
    delays: Spread


async def _costs(service: Service, load: Child, session: Session, clients: int) -> _Costs:
    await load.ask("acknowledge_later")
    window = 1.0 + clients / SEND_RATE
    delays: list[float] = []

    async def transactions() -> None:
        await load.ask("count")
        commits = [await session.commit()]
        for number in range(1, TRANSACTIONS):
            await load.ask("arrived", transactions=number, seconds=60)
            commits.append(await session.commit())
        arrivals = await load.ask("arrived", transactions=TRANSACTIONS, seconds=60)
        delays.extend((arrival - commit) * 1e3 for arrival, commit in zip(arrivals, commits, strict=True))

    async def in_a_window(work: Callable[[], Awaitable[object]], quiet: float = 0.0) -> float:
        """CPU for each client in a window, or as long as it takes, in which ``work`` is done (µs). What a ``quiet``
        second costs is taken off."""
        before, started = service.cpu(), time.monotonic()
        await work()
        await asyncio.sleep(max(0.0, started + window - time.monotonic()))
        return (service.cpu() - before) / clients * 1e6 - quiet * (time.monotonic() - started)

    quiet, sending, acknowledging = [], [], []
    for _ in range(BATCHES):
        quiet.append(await in_a_window(partial(asyncio.sleep, 0)) / window)
        sending.append(await in_a_window(transactions, quiet[-1]))
        acknowledging.append(await in_a_window(partial(load.ask, "acknowledge"), quiet[-1]))
    return _Costs(median(sending) / TRANSACTIONS, median(acknowledging), median(quiet), Spread.of(delays))


@dataclass(frozen=True, slots=True)
class _Bare:
    cpu: float
    delays: Spread


async def _bare(wire: str) -> dict[int, _Bare]:
    found = {}
    async with Child.running("benchmarks.load") as load, Child.running("benchmarks.bare") as bare:
        port = await bare.ask("listen")
        there, rounds = 0, BATCHES * TRANSACTIONS
        for clients in CLIENTS:
            await load.ask("connect_bare", port=port, count=clients - there)
            there = clients
            await bare.ask("accepted", count=clients)
            await load.ask("count")
            sent = await bare.ask("send", wire=wire, rounds=rounds, pause=0.01 + clients / 50_000)
            arrivals = await load.ask("arrived", transactions=rounds, seconds=60)
            found[clients] = _Bare(
                median(spent for _, spent in sent) / clients * 1e6,
                Spread.of([(arrival - started) * 1e3 for (started, _), arrival in zip(sent, arrivals, strict=True)]),
            )
    return found
