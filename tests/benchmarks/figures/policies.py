"""What it costs that row-level security decides who reads what, on the live stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

from psycopg import sql

from benchmarks.child import Child
from benchmarks.figure import Figure, Goal, Row, Spread
from benchmarks.stage import Service, Session, Stage

#: Readers besides the one whose rows come, each with claims of his own.
READERS = (1, 10, 100)

TRANSACTIONS = 60
ROUNDS = 3
WINDOW = 3.0

SUBJECT = "current_setting('request.jwt.claims', true)::jsonb ->> 'sub'"


@dataclass(frozen=True)
class Way:
    """How it is decided that a reader sees his own rows."""

    name: str
    policy: str = ""
    goal: Goal | None = None


WAYS = (
    Way("no policy"),
    Way("a policy that compares a claim", f"user_id = {SUBJECT}", Goal(1.2)),
    Way(
        "a policy that looks at another table",
        f"EXISTS (SELECT FROM members m WHERE m.team = items.user_id AND m.person = {SUBJECT})",
    ),
    Way("a policy that is asked of Postgres", "mine(user_id)"),
)

ABOUT = (
    "Every reader subscribes to `this.user_id = auth.sub`; every transaction is one row of one of them. CPU of the"
    f" service for one transaction: of a window of time with {TRANSACTIONS} of them less that of one without. The floor"
    " is the same service without a policy, a moment before. Spreads are from the commit to the reader. A policy that"
    " is asked of Postgres is asked once for each reader and transaction."
)

TABLES = f"""
CREATE TABLE members (id uuid PRIMARY KEY, team text, person text);
INSERT INTO members SELECT gen_random_uuid(), name, name
FROM (SELECT 'all' AS name UNION ALL SELECT 'reader-' || n FROM generate_series(1, 1000) n) AS names;
CREATE INDEX ON members (team);
CALL electric.electrify('members');
CREATE FUNCTION mine(owner text) RETURNS boolean LANGUAGE plpgsql STABLE AS
$$ BEGIN RETURN owner = {SUBJECT}; END $$;
"""


async def measure(stage: Stage) -> Figure:
    figure = Figure("Row-level security", ABOUT)
    floors: dict[int, tuple[float, Spread]] = {}
    for way in WAYS:
        with stage.database() as dsn:
            async with (
                Session.open(dsn) as session,
                _role(session) as role,
                stage.service(dsn, "policies", AUTH_DB_ROLE=role) as service,
            ):
                await _prepare(session, way, role)
                await _measure(service, dsn, way, figure, floors)
    return figure


@asynccontextmanager
async def _role(session: Session) -> AsyncIterator[str]:
    """The database role of all readers."""
    name = f"readers_{session.conn.info.dbname}"
    await session.conn.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    try:
        yield name
    finally:
        await session.conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        await session.conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


async def _prepare(session: Session, way: Way, role: str) -> None:
    conn = session.conn
    await session.create_items()
    await conn.execute(TABLES.encode())
    await conn.execute(sql.SQL("GRANT SELECT ON items, members TO {}").format(sql.Identifier(role)))
    if way.policy:
        await conn.execute("ALTER TABLE items ENABLE ROW LEVEL SECURITY")
        await conn.execute(f"CREATE POLICY own ON items USING ({way.policy})".encode())


async def _measure(
    service: Service, dsn: str, way: Way, figure: Figure, floors: dict[int, tuple[float, Spread]]
) -> None:
    async with (
        Child.running("benchmarks.load") as observer,
        Child.running("benchmarks.load") as others,
        Child.running("benchmarks.commits") as commits,
    ):
        own = [["items", "this.user_id = auth.sub"]]
        await service.connect(observer, ["all"], [own])
        there = 0
        for readers in READERS:
            names = [f"reader-{number}" for number in range(there + 1, readers + 1)]
            await service.connect(others, names, [own] * len(names))
            there = readers
            await asyncio.sleep(1)
            costs: list[float] = []
            delays: list[float] = []
            for _ in range(ROUNDS):
                before = service.cpu()
                await asyncio.sleep(WINDOW)
                quiet = (service.cpu() - before) / WINDOW
                await observer.ask("count")
                before, started = service.cpu(), asyncio.get_running_loop().time()
                committed = await commits.ask("run", dsn=dsn, rate=TRANSACTIONS / WINDOW, seconds=WINDOW)
                arrived = (await observer.ask("arrived", transactions=len(committed) + 1, seconds=60))[1:]
                seconds = asyncio.get_running_loop().time() - started
                costs.append((service.cpu() - before - quiet * seconds) / (len(committed) + 1) * 1e6)
                delays += [(arrival - commit) * 1e3 for commit, arrival in zip(committed, arrived, strict=True)]
            cost, spread = median(costs), Spread.of(delays)
            floor, floor_spread = floors.setdefault(readers, (cost, spread))
            figure.rows.append(
                Row(
                    f"{way.name}, {readers + 1} readers",
                    "µs of CPU a transaction",
                    cost,
                    floor=floor if way.policy else None,
                    goal=way.goal,
                    ours_spread=spread,
                    floor_spread=floor_spread if way.policy else None,
                    spread_unit="ms",
                )
            )
        if lost := await others.ask("lost"):
            figure.notes.append(f"{way.name}: {len(lost)} clients were lost: {lost[0]}")
