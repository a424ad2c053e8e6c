"""What it costs to let a client in."""

from __future__ import annotations

import time

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from benchmarks.child import Child
from benchmarks.figure import Figure, Goal, Row, Spread
from benchmarks.stage import Session, Stage

CLIENTS = 50
FLEETS = 8
GOAL = Goal(0.25, at_least=True)

VERIFICATIONS = 2_000

ABOUT = (
    "Clients that connect, authenticate with an ES256 token of their own and start replication, for each second of"
    " CPU of the service, beside signatures of ES256 that cryptography verifies in a second of CPU. Not for each"
    " second of the clock: the service checks at most 400 signatures of strangers a second and lets others wait."
    f" Spreads are CPU for one client in {FLEETS} fleets of {CLIENTS}, and for one signature."
)


async def measure(stage: Stage) -> Figure:
    figure = Figure("Connecting, authenticating, starting", ABOUT)
    ours: list[float] = []
    subscribed: list[float] = []
    seconds: list[float] = []
    with stage.database() as dsn:
        async with stage.service(dsn, "connecting") as service, Session.open(dsn) as session:
            await session.create_items()
            for number in range(-1, FLEETS):  # the first one warms up
                for filters, costs in (([], ours), ([["items"]], subscribed)):
                    async with Child.running("benchmarks.load") as load:
                        names = [f"client-{number}-{len(filters)}-{at}" for at in range(CLIENTS)]
                        before = service.cpu()
                        took = await service.connect(load, names, [filters] * CLIENTS)
                        if number >= 0:
                            costs.append((service.cpu() - before) / CLIENTS * 1e6)
                            if not filters:
                                seconds.append(took)
    floor = _verifications()
    cpu, floor_cpu, with_one = Spread.of(ours), Spread.of(floor), Spread.of(subscribed)
    figure.rows += [
        Row(
            "without a subscription",
            "clients per second of CPU",
            1e6 / cpu.median,
            1e6 / floor_cpu.median,
            GOAL,
            cpu,
            floor_cpu,
            "µs",
            cpu.median,
            floor_cpu.median,
        ),
        Row("and with one", "µs of CPU each", with_one.median, ours_spread=with_one, spread_unit="µs"),
        Row("without a subscription", "clients/s, by the clock", CLIENTS / Spread.of(seconds).median),
    ]
    return figure


def _verifications() -> list[float]:
    """The CPU time of each (µs)."""
    key = ec.generate_private_key(ec.SECP256R1())
    content = b"x" * 200
    signature = key.sign(content, ec.ECDSA(SHA256()))
    public = key.public_key()
    spent = []
    for _ in range(VERIFICATIONS):
        started = time.thread_time()
        public.verify(signature, content, ec.ECDSA(SHA256()))
        spent.append((time.thread_time() - started) * 1e6)
    return spent
