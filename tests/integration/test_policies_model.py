"""Whatever happens, every client comes to have what Postgres lets its role read, and is never sent anything else.

The model of ``test_shapes_model`` with database roles: random policies, privileges, claims and memberships, which
change as time goes by. Every row on the wire is judged, not only what clients have in the end. POLICIES_MODEL_STEPS and
POLICIES_MODEL_SEED choose how long and with which seed (``make model-policies``).
"""

from __future__ import annotations

import os

import model_machine
import policies_steps
from leyden.postgres.embedded import EmbeddedPostgres
from model_machine import Model
from policies_world import PoliciesWorld

STEPS = int(os.environ.get("POLICIES_MODEL_STEPS", "2000"))
SEED = int(os.environ.get("POLICIES_MODEL_SEED", model_machine.random_seed()))

#: What must have happened in a run that is worth something.
EXPECTED = (
    "QuestionAnswered",
    "UploadApplied",
    "UploadRefused",
    "changes of members",
    "changes of rights",
    "changes of roles",
    "closed 1012",
    "delete",
    "deliveries",
    "gone",
    "gone rows",
    "insert",
    "renewals",
    "restarts",
    "rows compared",
    "rows judged",
    "statements taken back",
    "rows that came by a change of members",
    "rows with columns that are NULL for their reader",
    "subscriptions refused",
    "update",
)


def test_every_client_is_sent_what_its_role_may_read_and_nothing_else(cluster: EmbeddedPostgres, template: str) -> None:
    model = Model("POLICIES_MODEL", PoliciesWorld, policies_steps.draw_weights, STEPS, SEED)
    model_machine.play(model, cluster, template, EXPECTED)
