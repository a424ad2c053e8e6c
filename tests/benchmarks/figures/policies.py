"""What it costs that row-level security decides who reads what, on the live stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

from psycopg import sql

from benchmarks.child import Child
from benchmarks.figure import Figure, Goal, Row, Spread
from benchmarks.stage import Service, Session, Stage

#: Readers besides the one whose rows come, each with claims of his own.
READERS = (1, 10, 100)

ROUNDS = 5
WINDOW = 2.0
QUIET = 1.0

OWN = [["items", "this.user_id = auth.sub"]]

SUBJECT = "current_setting('request.jwt.claims', true)::jsonb ->> 'sub'"


@dataclass(frozen=True)
class Way:
    """How it is decided that a reader sees his own rows."""

    name: str
    policy: str = ""
    goal: Goal | None = None
    #: Transactions a second.
    rate: int = 150


NO_POLICY = Way("no policy")

WAYS = (
    Way("a policy that compares a claim", f"user_id = {SUBJECT}", Goal(1.2)),
    Way(
        "a policy that looks at another table",
        f"EXISTS (SELECT FROM members m WHERE m.team = items.user_id AND m.person = {SUBJECT})",
    ),
    Way("a policy that is asked of Postgres", "mine(user_id)", rate=30),
)

ABOUT = (
    "Every reader subscribes to `this.user_id = auth.sub`; every transaction is one row of one of them. CPU of the"
    f" service for one transaction: of a window of {WINDOW:.0f} s with 150 of them a second, or 30 where Postgres is"
    " asked, less that of one without. The floor is another service without a policy, in turns with it. Spreads are"
    " from the commit to the reader. A policy that is asked of Postgres is asked once for each reader and transaction."
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
    for way in WAYS:
        async with _side(stage, NO_POLICY) as floor, _side(stage, way) as ours:
            there = 0
            for readers in READERS:
                for side in (floor, ours):
                    await side.add_readers(there, readers)
                there = readers
                await asyncio.sleep(1)
                rounds = [(await floor.round(way.rate), await ours.round(way.rate)) for _ in range(ROUNDS)]
                (floor_cost, floor_spread), (cost, spread) = map(_together, zip(*rounds, strict=True))
                figure.rows.append(
                    Row(
                        f"{way.name}, {readers + 1} readers",
                        "µs of CPU a transaction",
                        cost,
                        floor=floor_cost,
                        goal=way.goal,
                        ours_spread=spread,
                        floor_spread=floor_spread,
                        spread_unit="ms",
                    )
                )
    return figure


def _together(rounds: Sequence[tuple[float, list[float]]]) -> tuple[float, Spread]:
    """The cost of a transaction, and the delays of all."""
    return median(cost for cost, _ in rounds), Spread.of([delay for _, delays in rounds for delay in delays])


class _Side:
    """A service with its readers, and somebody who writes."""

    def __init__(self, service: Service, observer: Child, others: Child, commits: Child) -> None:
        self._service = service
        self._observer = observer
        self._others = others
        self._commits = commits

    async def add_readers(self, there: int, readers: int) -> None:
        names = [f"reader-{number}" for number in range(there + 1, readers + 1)]
        await self._service.connect(self._others, names, [OWN] * len(names))

    async def round(self, rate: int) -> tuple[float, list[float]]:
        """The CPU of one transaction (µs), and the delays from the commits to the reader (ms)."""
        service, observer = self._service, self._observer
        before = service.cpu()
        await asyncio.sleep(QUIET)
        quiet = (service.cpu() - before) / QUIET
        await observer.ask("count")
        before, started = service.cpu(), asyncio.get_running_loop().time()
        committed = await self._commits.ask("run", dsn=service.dsn, rate=rate, seconds=WINDOW)
        arrived = (await observer.ask("arrived", transactions=len(committed) + 1, seconds=60))[1:]
        seconds = asyncio.get_running_loop().time() - started
        cost = (service.cpu() - before - quiet * seconds) / (len(committed) + 1) * 1e6
        return cost, [(arrival - commit) * 1e3 for commit, arrival in zip(committed, arrived, strict=True)]


@asynccontextmanager
async def _side(stage: Stage, way: Way) -> AsyncIterator[_Side]:
    with stage.database() as dsn:
        async with (
            Session.open(dsn) as session,
            _role(session) as role,
            stage.service(dsn, "policies", AUTH_DB_ROLE=role) as service,
            Child.running("benchmarks.load") as observer,
            Child.running("benchmarks.load") as others,
            Child.running("benchmarks.commits") as commits,
        ):
            await _prepare(session, way, role)
            await service.connect(observer, ["all"], [OWN])
            yield _Side(service, observer, others, commits)


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
