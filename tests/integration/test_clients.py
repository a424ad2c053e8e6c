"""What the database remembers of a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool

from leyden.model import Author, ClientRecord, ShapeRecord, SubscriptionRecord, Upload
from leyden.postgres.clients import ClientBelongsToOther, ClientStore
from leyden.postgres.pools import Pool
from leyden.postgres.sessions import session_conninfo
from leyden.postgres.writing.writer import Writer
from leyden.shapes.where import ownership
from round_trips import Counter

A = SubscriptionRecord("a", (ShapeRecord("items", "this.a = '\u00e9%s'", "digest"), ShapeRecord("Other")))
B = SubscriptionRecord("b", ())


@pytest.fixture
async def pool(database: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(session_conninfo(database), min_size=1, max_size=4, open=False)
    async with pool:
        yield pool


@pytest.fixture
def store(pool: AsyncConnectionPool[Any]) -> ClientStore:
    return ClientStore(pool)


async def test_a_new_client_is_bound_with_nothing_remembered(store: ClientStore) -> None:
    assert await store.bind("c", "u") == ClientRecord("c", "u", b"", ())


async def test_a_client_id_stays_with_its_user(store: ClientStore) -> None:
    await store.bind("c", "u")
    with pytest.raises(ClientBelongsToOther) as refusal:
        await store.bind("c", "v")
    assert refusal.value.code == "client_belongs_to_other"
    assert (await store.bind("c", "u")).user_id == "u"


async def test_of_two_users_racing_for_a_client_id_one_gets_it(store: ClientStore) -> None:
    results = await asyncio.gather(*(store.bind("c", user) for user in "uvwx"), return_exceptions=True)
    assert sum(isinstance(result, ClientRecord) for result in results) == 1
    assert sum(isinstance(result, ClientBelongsToOther) for result in results) == 3


async def test_the_last_upload_is_remembered(store: ClientStore, pool: AsyncConnectionPool[Any]) -> None:
    await store.bind("c", "u")
    upload = Upload("c", "u", b"\0\0\1\0", 5, ())
    await Writer(pool, ownership).apply(upload, lambda: Author("u"))
    assert (await store.bind("c", "u")).upload_lsn == b"\0\0\1\0"
    await store.forget("c")
    assert (await store.bind("c", "u")).upload_lsn == b"\0\0\1\0"


async def test_subscriptions_are_remembered_in_their_order(store: ClientStore) -> None:
    await store.bind("c", "u")
    await store.save_subscription("c", B)
    await store.save_subscription("c", A)
    await store.save_subscription("other", SubscriptionRecord("x", (ShapeRecord("t"),)))
    assert (await store.bind("c", "u")).subscriptions == (B, A)


async def test_saving_a_subscription_again_replaces_it(store: ClientStore) -> None:
    await store.save_subscription("c", A)
    await store.save_subscription("c", SubscriptionRecord("a", (ShapeRecord("one"),)))
    assert (await store.bind("c", "u")).subscriptions == (SubscriptionRecord("a", (ShapeRecord("one"),)),)


async def test_subscriptions_can_be_dropped_kept_and_forgotten(store: ClientStore) -> None:
    for subscription in (A, B, SubscriptionRecord("d", (ShapeRecord("t"),))):
        await store.save_subscription("c", subscription)
        await store.save_subscription("other", subscription)
    await store.drop_subscriptions("c", ["d", "unknown"])
    assert (await store.bind("c", "u")).subscriptions == (A, B)
    await store.keep_only("c", {"b", "unknown"}, 1, 0)
    assert (await store.bind("c", "u")).subscriptions == (B,)
    await store.forget("c")
    assert (await store.bind("c", "u")).subscriptions == ()
    await store.keep_only("other", [], 1, 0)
    assert (await store.bind("other", "u")).subscriptions == ()


async def test_ids_that_nothing_can_be_called_name_nothing(store: ClientStore) -> None:
    await store.save_subscription("c", A)
    await store.drop_subscriptions("c", ["a\0", "\0"])
    assert await store.cancel_subscriptions("c", ["\0a"], 1) > 0
    assert (await store.bind("c", "u")).subscriptions == (A,)


async def test_subscriptions_to_be_rescued_from_are_kept_until_they_are_dropped(store: ClientStore) -> None:
    awaited = replace(B, asked_by=7)
    for subscription in (A, awaited):
        await store.save_subscription("c", subscription)
    await store.forget("c", ["b"])
    assert (await store.bind("c", "u")).subscriptions == (awaited,)
    await store.keep_only("c", ["a"], 1, 0, ["b"])
    assert (await store.bind("c", "u")).subscriptions == (awaited,)
    await store.drop_subscriptions("c", ["b"])
    assert (await store.bind("c", "u")).subscriptions == ()


async def test_who_lists_a_subscription_or_answers_after_its_end_has_all_of_it(store: ClientStore) -> None:
    for subscription in (A, B):
        await store.save_subscription("c", replace(subscription, asked_by=7))
        await store.save_subscription("other", replace(subscription, asked_by=7))
    await store.confirm_delivery("c", ["a", "unknown"])
    assert (await store.bind("c", "u")).subscriptions == (A, replace(B, asked_by=7))
    number = await store.cancel_subscriptions("other", ["a"], 10)
    await store.keep_only("other", ["a"], 10, number, ["b"])
    cancelled = replace(A, cancelled_at=10, cancellation=number)
    assert (await store.bind("other", "u")).subscriptions == (cancelled, replace(B, asked_by=7))


async def test_a_cancellation_holds_unless_the_client_comes_back_from_before_it(store: ClientStore) -> None:
    for subscription in (A, B):
        await store.save_subscription("c", subscription)
    first = await store.cancel_subscriptions("c", ["a", "unknown"], 10)
    second = await store.cancel_subscriptions("c", ["a"], 20)
    assert second > first > 0
    cancelled = (replace(A, cancelled_at=10, cancellation=first), B)
    assert (await store.bind("c", "u")).subscriptions == cancelled
    for position, told in ((11, 0), (10, first), (10, second)):
        await store.keep_only("c", ["a", "b"], position, told)
        assert (await store.bind("c", "u")).subscriptions == cancelled
    await store.keep_only("c", ["a", "b"], 10, first - 1)
    assert (await store.bind("c", "u")).subscriptions == (A, B)


async def test_whatever_is_done_for_a_client_waits_for_postgres_once(database: str) -> None:
    async with Counter().to(database) as (counter, conninfo), Pool(conninfo, min_size=1, max_size=1) as pool:
        await pool.wait()
        store = ClientStore(pool)
        waits = []
        for _ in range(2):  # the client is a new one, then a known one
            for step in (
                lambda: store.bind("c", "u"),
                lambda: store.forget("c"),
                lambda: store.save_subscription("c", A),
                lambda: store.confirm_delivery("c", [A.id]),
                lambda: store.keep_only("c", [A.id], 1, 0),
            ):
                before = counter.round_trips
                await step()
                waits.append(counter.round_trips - before)
        assert waits == [1] * 10
