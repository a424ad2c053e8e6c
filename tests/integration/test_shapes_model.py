"""Whatever happens, every client comes to have exactly the rows of its shapes.

Random tables, filters and SQL from several sessions; clients that connect, are cut off, stop reading, die, are put back
to an earlier state; restarts of the service. MODEL_STEPS and MODEL_SEED choose how long and with which seed
(``make model``).
"""

from __future__ import annotations

import os

import model_machine
import model_steps
from leyden.postgres.embedded import EmbeddedPostgres
from model_machine import Model
from model_world import World

STEPS = int(os.environ.get("MODEL_STEPS", "2000"))
SEED = int(os.environ.get("MODEL_SEED", model_machine.random_seed()))


def test_every_client_comes_to_have_the_rows_of_its_shapes(cluster: EmbeddedPostgres, template: str) -> None:
    model_machine.play(Model("MODEL", World, model_steps.draw_weights, STEPS, SEED), cluster, template)
