"""Whatever happens, every client comes to have exactly the rows of its shapes.

Random tables, filters and SQL from several sessions; clients that connect, are cut off, stop reading, die, are put back
to an earlier state; restarts of the service. MODEL_STEPS and MODEL_SEED choose how long and with which seed
(``make model``).
"""

from __future__ import annotations

import asyncio
import math
import os
import secrets
from collections import Counter
from collections.abc import Awaitable, Mapping
from random import Random
from typing import ClassVar

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import model_steps
from databases import fresh_database
from leyden.postgres.embedded import EmbeddedPostgres
from model_world import COUNTED, World

STEPS_OF_A_RUN = 80
STEPS = int(os.environ.get("MODEL_STEPS", "2000"))
SEED = int(os.environ.get("MODEL_SEED", secrets.randbelow(1_000_000)))

PROGRESS_STEPS = 5_000

#: Longest time for one step (seconds).
STEP_TIMEOUT = 60.0

#: Steps after a quiet moment before there is another. Whatever a client waits for comes then.
BUSY_STEPS = 12

#: What must have happened in a run that is worth something.
EXPECTED = (
    *(event.__name__ for event in COUNTED),
    "delete",
    "deliveries",
    "gone batches",
    "gone",
    "gone rows",
    "initial rows",
    "insert",
    "put back",
    "rescues",
    "restarts",
    "rows compared",
    "update",
)

#: Of more than 24 bits hypothesis prefers small ones.
SEEDS = st.integers(0, (1 << 24) - 1)


class ShapesMachine(RuleBasedStateMachine):
    """Each rule draws all it needs from one number: what is drawn in detail is the business of other modules."""

    cluster: ClassVar[EmbeddedPostgres]
    template: ClassVar[str]
    #: Of all runs together.
    counts: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._databases = fresh_database(self.cluster, self.template)
        self._world: World | None = None
        self._weights: Mapping[model_steps.Step, int] = {}
        self._busy_for = 0

    @initialize(seed=SEEDS)
    def begin(self, seed: int) -> None:
        random = Random(seed)
        self._weights = model_steps.draw_weights(random)
        self._world = world = World(next(self._databases), random)
        self._run(world, world.start())

    def teardown(self) -> None:
        world = self._world
        try:
            if world is not None:
                try:
                    self._run(world, world.settle())
                finally:
                    self._runner.run(world.stop())
                    self.counts.update(world.counts)
        finally:
            self._runner.close()
            self._databases.close()

    def _play_something(self, seed: int) -> None:
        random = Random(seed)
        self._play(model_steps.draw_step(random, self._weights), random)

    def _play(self, step: model_steps.Step, random: Random) -> None:
        """Performs ``step``, and lets what it sets off go on for a random while."""
        world = self._world
        assert world is not None

        async def play() -> None:
            await step(world, random)
            await asyncio.sleep(random.choice((0, 0, 0, 0.001, 0.003)))
            world.raise_failures()

        self._run(world, play())
        self._busy_for += 1
        self.counts["steps"] += 1
        if self.counts["steps"] % PROGRESS_STEPS == 0:
            print(f"MODEL_SEED={SEED}: {self.counts['steps']:,} of {STEPS:,} steps", flush=True)

    def _run(self, world: World, work: Awaitable[None]) -> None:
        async def run() -> None:
            async with asyncio.timeout(STEP_TIMEOUT):
                await work

        try:
            self._runner.run(run())
        except BaseException as error:
            error.add_note("\n".join([f"MODEL_SEED={SEED}", *world.happened]))
            raise

    @rule(seed=SEEDS)
    def step(self, seed: int) -> None:
        self._play_something(seed)

    @rule(seed=SEEDS)
    def become_quiet(self, seed: int) -> None:
        if self._busy_for < BUSY_STEPS:
            self._play_something(seed)
        else:
            self._busy_for = 0
            self._play(model_steps.become_quiet, Random(seed))


def test_every_client_comes_to_have_the_rows_of_its_shapes(cluster: EmbeddedPostgres, template: str) -> None:
    counts: Counter[str] = Counter()
    machine = type("Machine", (ShapesMachine,), {"cluster": cluster, "template": template, "counts": counts})
    print(f"\nMODEL_SEED={SEED} MODEL_STEPS={STEPS}")
    run_state_machine_as_test(
        hypothesis.seed(SEED)(machine),
        settings=settings(
            max_examples=max(1, math.ceil(STEPS * 1.1 / STEPS_OF_A_RUN)),  # some are shorter
            stateful_step_count=STEPS_OF_A_RUN,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            # What happens at the same time does not repeat exactly: a smaller case would seldom be one.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    for what, times in sorted(counts.items()):
        print(f"{what}: {times:,}")
    assert counts["steps"] >= STEPS
    if STEPS >= 2_000:
        assert [what for what in EXPECTED if not counts[what]] == []
