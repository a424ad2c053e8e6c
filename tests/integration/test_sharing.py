"""What many clients have in common is done once: counted, over real WebSockets and a real database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest

from interop.service import database_url
from leyden.config import load_settings
from leyden.model import Row
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.encoding import Encoder
from leyden.shapes import sight
from leyden.shapes.groups import Group
from leyden.shapes.standing import effect
from leyden.shapes.versions import AsOf
from speaker import SECRET, Running, Speaker, serving, token

CLIENTS = 1_000

#: Of how many it is waited for at a time while they connect.
AT_ONCE = 20

TABLES = """
CREATE TABLE users (id text PRIMARY KEY, name text);
CREATE TABLE items (id text PRIMARY KEY, owner text);
CREATE TABLE notes (id text PRIMARY KEY, user_id text REFERENCES users);
CALL electric.electrify('users');
CALL electric.electrify('items');
CALL electric.electrify('notes');
INSERT INTO users VALUES ('u', 'ann'), ('v', 'bob');
INSERT INTO items VALUES ('1', 'u'), ('2', 'v');
INSERT INTO notes VALUES ('1', 'u'), ('2', 'v');
"""


@pytest.fixture
async def running(database: str) -> AsyncIterator[tuple[Running, psycopg.Connection[Any]]]:
    settings = load_settings(
        {
            "DATABASE_URL": database_url(database),
            "AUTH_JWT_ALG": "HS256",
            "AUTH_JWT_KEY": SECRET,
            "AUTH_MAX_CONNECTIONS_PER_USER": "0",
            "DATABASE_REQUIRE_SSL": "false",
        }
    )
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(TABLES)
        async with serving(settings) as service:
            yield service, conn


#: What one transaction of each kind costs, whoever gets it: each is one encoding besides.
STATEMENTS = {
    "INSERT INTO items VALUES ('3', 'u')": {"evaluations": 1},
    "INSERT INTO notes VALUES ('3', 'u')": {"effects": 1},
    # a row that is there because others refer to it
    "UPDATE users SET name = name || '!' WHERE id = 'u'": {"effects": 1},
}


async def test_a_thousand_connections_with_the_same_shapes_cost_one_evaluation_and_one_encoding(
    running: tuple[Running, psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, conn = running
    turns = asyncio.Semaphore(AT_ONCE)
    done: Counter[str] = Counter()
    async with AsyncExitStack() as stack:

        async def connected(number: int) -> Speaker:
            async with turns:
                speaker = await stack.enter_async_context(service.speaker())
                await speaker.authenticate(token(f"user-{number}"), f"device-{number}")
                await speaker.start()
                assert await speaker.subscribe("items", "this.owner = 'u'") == ["1"]
                assert await speaker.subscribe("notes", "this.user_id = 'u'", number=2) == ["u", "1"]
                return speaker

        async def told(statement: str) -> set[bytes]:
            conn.execute(statement)  # type: ignore[arg-type]
            received = await asyncio.gather(*(speaker.until(pb.SatOpLog) for speaker in speakers))
            return {message.SerializeToString() for messages in received for message in messages}

        speakers = await asyncio.gather(*map(connected, range(CLIENTS)))
        await told("INSERT INTO items VALUES ('0', 'u')")  # after it, everybody stands at the head
        _count(monkeypatch, done)
        for statement, costs in STATEMENTS.items():
            done.clear()
            assert len(await told(statement)) == 1
            assert done["encodings"] == 1
            assert {name: done[name] for name in costs} == costs


def _count(monkeypatch: pytest.MonkeyPatch, done: Counter[str]) -> None:
    transaction, holds = Encoder.transaction, Group.holds

    def counted_transaction(self: Encoder, *args: Any, **named: Any) -> list[bytes]:
        done["encodings"] += 1
        return transaction(self, *args, **named)

    def counted_holds(self: Group, row: Row, at: AsOf | None = None) -> bool:
        done["evaluations"] += 1
        return holds(self, row, at)

    def counted_effect(*args: Any) -> Any:
        done["effects"] += 1
        return effect(*args)

    monkeypatch.setattr(Encoder, "transaction", counted_transaction)
    monkeypatch.setattr(Group, "holds", counted_holds)
    monkeypatch.setattr(sight, "effect", counted_effect)
