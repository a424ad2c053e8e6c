"""What can happen in a :class:`model_world.World`: each step draws what it does, and does it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from random import Random

import random_shapes
from model_world import World
from simulated_client import SimulatedClient

Step = Callable[[World, Random], Awaitable[None]]

#: Subscriptions that a client has at a time.
SUBSCRIPTIONS = 5

#: Tables of a world in the end.
TABLES = 6


def draw_weights(random: Random) -> Mapping[Step, int]:
    """How often what happens in a world; no two worlds are alike."""
    return {
        change_rows: random.choice((1, 4, 6)),
        use_an_app: random.choice((2, 4, 6)),
        disturb_a_connection: random.choice((0, 1, 3)),
        something_rare: random.choice((0, 1, 2)),
    }


def draw_step(random: Random, weights: Mapping[Step, int]) -> Step:
    (step,) = random.choices(list(weights), list(weights.values()))
    return step


async def change_rows(world: World, random: Random) -> None:
    """Statements of one session, in a transaction or by themselves."""
    number = random.randrange(len(world.sessions))
    session = world.sessions[number]
    if not session.is_open and random.random() < 0.4:
        await session.begin()
        world.note(f"session {number}: begin")
    for _ in range(random.choice((1, 1, 2, 3))):
        statement = random_shapes.draw_statement(random, world.schema)
        is_undone = session.is_open and not statement.startswith("TRUNCATE") and random.random() < 0.1
        outcome = await (session.undo(statement) if is_undone else session.execute(statement))
        world.counts["statements taken back"] += is_undone
        world.note(f"session {number}: {statement} -> {outcome}")
        world.counts["statements"] += 1
        world.counts["statements that changed rows"] += outcome.endswith(" rows") and outcome != "0 rows"
    if session.is_open and random.random() < 0.5:
        world.note(f"session {number}: {await session.end(commit=random.random() < 0.85)}")


async def use_an_app(world: World, random: Random) -> None:
    """Subscriptions, the ends of some, or writes."""
    client = random.choice(world.clients)
    if not client.connected:
        _connect(world, client)
    # what is not answered soon is perhaps not read
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.02):
            while not client.online:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.001)
    for _ in range(random.choice((1, 1, 2, 3))):
        if client.online:
            _use(world, client, random)


def _use(world: World, client: SimulatedClient, random: Random) -> None:
    held = client.store.rows(world.schema)
    choice = random.random()
    if choice < 0.3 and held:
        writes = [random_shapes.draw_write(random, world.schema, held) for _ in range(random.choice((1, 1, 2)))]
        client.write(writes)
        world.note(f"{client.id}: writes {writes}")
    elif client.subscriptions and (choice > 0.7 or len(client.subscriptions) >= SUBSCRIPTIONS):
        keys = random.sample(client.subscriptions, random.randint(1, min(2, len(client.subscriptions))))
        client.unsubscribe(keys)
        world.note(f"{client.id}: gives up {keys}")
    else:
        shapes = [random_shapes.draw_shape(random, world.schema) for _ in range(random.choice((1, 1, 1, 2)))]
        key = client.subscribe(shapes)
        world.note(f"{client.id}: {key} = {'; '.join(map(str, shapes))}")


async def disturb_a_connection(world: World, random: Random) -> None:
    """A client connects, is cut off, stops reading, or dies."""
    client = random.choice(world.clients)
    if not client.connected:
        _connect(world, client)
        if random.random() < 0.2:
            _cut(world, client, random.randint(1, 12))
        return
    socket = world.sockets[client.id]
    choice = random.random()
    if choice < 0.5:
        stalled = not socket.is_stalled
        socket.stall(stalled)
        world.note(f"{client.id}: {'stops' if stalled else 'goes on'} reading")
    elif choice < 0.8:
        _cut(world, client, random.choice((0, 1, 2, 3, 5, 8)))
    elif choice < 0.9:
        world.note(f"{client.id}: is cut off, unnoticed by the service")
        socket.cut(unnoticed=True)
    else:
        world.note(f"{client.id}: dies")
        client.kill()


def _connect(world: World, client: SimulatedClient) -> None:
    world.connect(client)
    world.note(f"{client.id}: connects")


def _cut(world: World, client: SimulatedClient, messages: int) -> None:
    world.note(f"{client.id}: is cut off after {messages} messages")
    world.sockets[client.id].cut_after(messages)


async def something_rare(world: World, random: Random) -> None:
    steps = (_restart, _back_up, _put_back, _add_column, _add_table, change_rows, use_an_app)
    await random.choice(steps)(world, random)


async def _restart(world: World, random: Random) -> None:
    world.note("the service is started anew")
    world.counts["restarts"] += 1
    if random.random() < 0.5:
        for socket in world.sockets.values():
            socket.cut()
    await world.stop_service()
    await world.start_service()


async def _back_up(world: World, random: Random) -> None:
    client = random.choice(world.clients)
    world.note(f"{client.id}: is copied")
    world.back_up(client)


async def _put_back(world: World, random: Random) -> None:
    clients = [client for client in world.clients if world.has_copy(client)]
    if clients:
        client = random.choice(clients)
        world.note(f"{client.id}: is put back to its copy")
        world.counts["put back"] += 1
        world.put_back(client)


async def _add_column(world: World, random: Random) -> None:
    number = random.randrange(len(world.sessions))
    table, column = random_shapes.draw_column(random, world.schema)
    outcome = await world.sessions[number].execute(f"ALTER TABLE {table} ADD COLUMN {column.name} {column.type}")
    world.note(f"session {number}: {table} gets {column} -> {outcome}")


async def _add_table(world: World, random: Random) -> None:
    if len(world.schema.tables) < TABLES and not world.is_altered:
        table = world.draw_table(random)
        world.note(f"{table.definition} -> {await world.add_table(table)}")


async def become_quiet(world: World, random: Random) -> None:
    """Nothing happens until all is done; then every client is looked at."""
    world.note("quiet")
    await world.settle()
