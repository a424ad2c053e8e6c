"""What else can happen in a :class:`policies_world.PoliciesWorld`."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import model_steps
import random_policies
import random_shapes
from model_steps import Step
from model_world import World
from policies_world import PoliciesWorld


def draw_weights(random: Random) -> Mapping[Step, int]:
    """How often what happens in a world; no two worlds are alike."""
    return {
        **model_steps.draw_weights(random),
        model_steps.use_an_app: random.choice((4, 8, 12)),
        change_members: random.choice((1, 2, 3)),
        change_rights: random.choice((0, 1, 3)),
        change_who_is_who: random.choice((0, 1, 1)),
    }


async def change_members(world: World, random: Random) -> None:
    """Somebody becomes a member, or is none any more."""
    number = random.randrange(len(world.sessions))
    session = world.sessions[number]
    for _ in range(random.choice((1, 1, 2))):
        statement = random_policies.draw_membership(random)
        outcome = await session.execute(statement)
        world.note(f"session {number}: {statement} -> {outcome}")
        world.counts["changes of members"] += outcome.endswith(" rows") and outcome != "0 rows"


async def change_rights(world: World, random: Random) -> None:
    """Policies and privileges change in one transaction, perhaps with rows before and after."""
    assert isinstance(world, PoliciesWorld)
    session = world.free_session
    if session is None:
        return
    number = world.sessions.index(session)
    statement = random_policies.draw_change_of_rights(random, world.roles, world.schema)
    before, after = (
        [random_shapes.draw_statement(random, world.schema) for _ in range(random.choice((0, 0, 1)))] for _ in range(2)
    )
    outcome = await session.execute_together([*before, statement, *after], commit=random.random() < 0.85)
    world.note(f"session {number}: {'; '.join([*before, statement, *after])} -> {outcome}")
    if outcome == "committed":
        world.counts["changes of rights"] += 1
        world.rights_changed()


async def change_who_is_who(world: World, random: Random) -> None:
    """A client has a token with other claims, or a role other rights than before."""
    assert isinstance(world, PoliciesWorld)
    if random.random() < 0.8:
        client = random.choice(world.clients)
        world.note(f"{client.id}: reads as {world.renew(client)}")
        world.counts["renewals"] += 1
    else:
        statement = random_policies.draw_change_of_roles(random, world.roles)
        world.note(f"{statement} -> {await world.change_roles(statement)}")
        world.counts["changes of roles"] += 1
