"""Plays with a :class:`model_world.World` as hypothesis draws: steps, and quiet moments in which every client is looked
at."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import model_steps
from databases import fresh_database
from leyden.postgres.embedded import EmbeddedPostgres
from model_steps import Step
from model_world import World

STEPS_OF_A_RUN = 80

PROGRESS_STEPS = 5_000

#: Longest time for one step (seconds).
STEP_TIMEOUT = 60.0

#: Steps after a quiet moment before there is another. Whatever a client waits for comes then.
BUSY_STEPS = 12

#: Steps from which on a run must have been worth something.
WORTHWHILE = 2_000

#: What must have happened in a run that is worth something.
EXPECTED = (
    *("ClientRepaired", "TablesLoaded", "UploadApplied", "UploadRefused"),
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


@dataclass(frozen=True)
class Model:
    """What is played. ``name`` is what reports begin with, such as MODEL for MODEL_SEED."""

    name: str
    make: Callable[[str, Random], World]
    draw_weights: Callable[[Random], Mapping[Step, int]]
    steps: int
    seed: int


class Machine(RuleBasedStateMachine):
    """Each rule draws all it needs from one number: what is drawn in detail is the business of other modules."""

    model: ClassVar[Model]
    cluster: ClassVar[EmbeddedPostgres]
    template: ClassVar[str]
    #: Of all runs together.
    counts: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._databases = fresh_database(self.cluster, self.template)
        self._world: World | None = None
        self._weights: Mapping[Step, int] = {}
        self._busy_for = 0
        self._drawn = 0

    @initialize(seed=SEEDS)
    def begin(self, seed: int) -> None:
        self.counts["worlds"] += 1
        random = self._random(seed)
        self._weights = self.model.draw_weights(random)
        self._world = world = self.model.make(next(self._databases), random)
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

    def _random(self, seed: int) -> Random:
        """Another one each time: hypothesis draws few seeds, and those again and again."""
        self._drawn += 1
        return Random(f"{self.model.seed} {self.counts['worlds']} {self._drawn} {seed}")

    def _play_something(self, seed: int) -> None:
        random = self._random(seed)
        self._play(model_steps.draw_step(random, self._weights), random)

    def _play(self, step: Step, random: Random) -> None:
        """Performs ``step``, and lets what it sets off go on for a random while."""
        world = self._world
        assert world is not None

        async def play() -> None:
            await step(world, random)
            await asyncio.sleep(random.choice((0, 0, 0, 0.001, 0.003)))
            await world.examine()

        self._run(world, play())
        self._busy_for += 1
        self.counts["steps"] += 1
        if self.counts["steps"] % PROGRESS_STEPS == 0:
            print(f"{self._seed}: {self.counts['steps']:,} of {self.model.steps:,} steps", flush=True)

    @property
    def _seed(self) -> str:
        return f"{self.model.name}_SEED={self.model.seed}"

    def _run(self, world: World, work: Awaitable[None]) -> None:
        async def run() -> None:
            async with asyncio.timeout(STEP_TIMEOUT):
                await work

        try:
            self._runner.run(run())
        except BaseException as error:
            error.add_note("\n".join([self._seed, *world.happened]))
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
            self._play(model_steps.become_quiet, self._random(seed))


def random_seed() -> int:
    return secrets.randbelow(1_000_000)


def play(model: Model, cluster: EmbeddedPostgres, template: str, expected: Collection[str] = EXPECTED) -> None:
    """Plays ``model`` for as many steps as it says. Of a run that is long enough, all that is ``expected`` must have
    happened."""
    counts: Counter[str] = Counter()
    machine = type(
        "PlayedMachine", (Machine,), {"model": model, "cluster": cluster, "template": template, "counts": counts}
    )
    print(f"\n{model.name}_SEED={model.seed} {model.name}_STEPS={model.steps}")
    run_state_machine_as_test(
        hypothesis.seed(model.seed)(machine),
        settings=settings(
            max_examples=max(1, math.ceil(model.steps * 1.2 / STEPS_OF_A_RUN)),  # some are shorter
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
    assert counts["steps"] >= model.steps
    if model.steps >= WORTHWHILE:
        assert [what for what in expected if not counts[what]] == []
