"""The life of an issuer's ring, hours of it, against an issuer that is a list of answers."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from issuers import key_set, published, signing_key
from leyden.auth import (
    ALGORITHMS,
    FetchFailed,
    IssuedKeys,
    KeyAdded,
    KeyNotice,
    KeyRing,
    KeySetFailed,
    KeySetRefreshed,
    KeySetStale,
    KeySkipped,
    KeyWithdrawn,
)
from leyden.auth.issuer.fetching import Fetched, Version
from virtual_time import VirtualTime

SOURCE = "https://issuer.example/jwks"
VERSION = Version(SOURCE, b'"1"')
MINUTE, HOUR, DAY = 60, 3_600, 86_400

A, B, C = (published(kid) for kid in "abc")
ONE, TWO = key_set(A), key_set(A, B)
DOWN = FetchFailed("the host cannot be reached")


@dataclass
class World:
    """An issuer, the source under test, and everything that was noticed."""

    time: VirtualTime = field(default_factory=VirtualTime)
    answer: Fetched | Exception | Callable[[], Fetched | Exception] = field(default_factory=lambda: Fetched(ONE))
    takes: float = 0.0
    """Seconds in which the issuer answers."""
    stalled: bool = False
    known: list[Version | None] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    notices: list[KeyNotice] = field(default_factory=list)
    rings: list[KeyRing] = field(default_factory=list)
    max_stale: float = DAY

    async def read(self, known: Version | None) -> Fetched:
        self.known.append(known)
        self.moments.append(self.time.now())
        if self.stalled:
            await asyncio.get_running_loop().create_future()
        answer = self.answer() if callable(self.answer) else self.answer
        await self.time.sleep(self.takes)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @asynccontextmanager
    async def running(self) -> AsyncIterator[IssuedKeys]:
        keys = IssuedKeys(
            SOURCE,
            self.read,
            [ALGORITHMS["ES256"]],
            self.notices.append,
            max_stale=self.max_stale,
            now=self.time.now,
            sleep=self.time.sleep,
            random=lambda: 0.5,
        )
        task = asyncio.create_task(keys.run(self.rings.append))
        await self.time.advance()
        try:
            yield keys
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

    @property
    def reads(self) -> int:
        return len(self.moments)

    def told(self, *kinds: type) -> list[KeyNotice]:
        return [notice for notice in self.notices if isinstance(notice, kinds)]

    async def sought(self, keys: IssuedKeys, kid: str) -> tuple[bool, float]:
        """What `seek` says, and after how many seconds."""
        began = self.time.now()
        task = asyncio.create_task(keys.seek(kid))
        await self.time.advance()
        while not task.done():
            await self.time.advance(0.25)
        return task.result(), self.time.now() - began


@pytest.fixture
def world() -> World:
    return World()


def kids(keys: IssuedKeys) -> set[str | None]:
    return {key.kid for key in keys.ring.keys}


# ---- start and refresh ----------------------------------------------------------------------------------------------


async def test_the_first_read_brings_the_keys_and_says_so(world: World) -> None:
    async with world.running() as keys:
        assert keys.available
        assert kids(keys) == {"a"}
        assert world.rings == [keys.ring]
        (key,) = keys.ring.keys
        assert world.notices == [
            KeySetRefreshed(SOURCE, 1, True, 600),
            KeyAdded(SOURCE, "ES256", "a", key.thumbprint),
        ]


async def test_nothing_is_read_before_it_runs(world: World) -> None:
    keys = IssuedKeys(
        SOURCE,
        world.read,
        [ALGORITHMS["ES256"]],
        world.notices.append,
        max_stale=DAY,
        now=world.time.now,
        sleep=world.time.sleep,
        random=lambda: 0.5,
    )
    assert not keys.available
    assert not await keys.seek("a")
    keys.reload()
    assert world.reads == 0


async def test_a_first_read_that_fails_is_retried_until_it_works(world: World) -> None:
    world.answer = DOWN
    async with world.running() as keys:
        await world.time.advance(10 * MINUTE)
        assert not keys.available
        assert not keys.ring
        gaps = [later - earlier for earlier, later in zip(world.moments, world.moments[1:], strict=False)]
        assert gaps[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
        assert world.notices[0] == KeySetFailed(SOURCE, "the host cannot be reached", 1)
        world.answer = Fetched(ONE)
        await world.time.advance(MINUTE)
        assert keys.available
        assert kids(keys) == {"a"}


async def test_keys_are_read_again_in_the_background_before_they_are_stale(world: World) -> None:
    async with world.running() as keys:
        world.answer = Fetched(TWO)
        await world.time.advance(479)
        assert kids(keys) == {"a"}
        await world.time.advance(2)
        assert kids(keys) == {"a", "b"}
        assert len(world.rings) == 2


async def test_freshness_follows_the_issuer(world: World) -> None:
    world.answer = Fetched(ONE, max_age=HOUR)
    async with world.running():
        await world.time.advance(DAY)
    assert world.reads == 1 + DAY // (0.8 * HOUR)


async def test_an_issuer_that_wants_to_be_asked_all_the_time_is_asked_about_once_a_minute(world: World) -> None:
    world.answer = Fetched(ONE, max_age=0)
    async with world.running():
        await world.time.advance(HOUR)
    assert world.reads <= 1 + HOUR / 48


async def test_an_unchanged_set_changes_nothing_and_is_known_to_be_fresh(world: World) -> None:
    world.answer = Fetched(ONE, VERSION, max_age=MINUTE)
    async with world.running() as keys:
        ring = keys.ring
        world.answer = Fetched(None, VERSION)
        world.notices.clear()
        await world.time.advance(2 * DAY)
        assert keys.available
        assert keys.ring is ring
        assert len(world.rings) == 1
        assert set(world.known[1:]) == {VERSION}
        # what was said about freshness with the content still stands
        assert set(world.notices) == {KeySetRefreshed(SOURCE, 1, False, 60)}


async def test_the_same_keys_in_another_order_are_no_change(world: World) -> None:
    world.answer = Fetched(TWO)
    async with world.running() as keys:
        ring = keys.ring
        world.answer = Fetched(key_set(B, A))
        await world.time.advance(HOUR)
        assert keys.ring is ring
        assert len(world.rings) == 1


async def test_a_withdrawn_key_is_gone_and_reported(world: World) -> None:
    world.answer = Fetched(TWO)
    async with world.running() as keys:
        world.answer = Fetched(key_set(B))
        await world.time.advance(10 * MINUTE)
        assert kids(keys) == {"b"}
        (withdrawn,) = world.told(KeyWithdrawn)
        assert isinstance(withdrawn, KeyWithdrawn)
        assert withdrawn.kid == "a"


async def test_reload_reads_at_once_even_behind_a_read_that_is_under_way(world: World) -> None:
    async with world.running() as keys:
        world.takes = 3
        keys.reload()
        await world.time.advance(1)
        assert world.reads == 2
        world.answer = Fetched(TWO)
        keys.reload()
        await world.time.advance(6)
        assert world.reads == 3
        assert kids(keys) == {"a", "b"}
        await world.time.advance(MINUTE)
        assert world.reads == 3


async def test_it_ends_when_it_is_cancelled_and_reads_no_more(world: World) -> None:
    world.stalled = True
    async with world.running() as keys:
        pass
    await world.time.advance(HOUR)
    assert world.reads == 1
    assert not await keys.seek("b")


async def test_whoever_waits_when_it_ends_is_let_go_without_another_read(world: World) -> None:
    async with world.running() as keys:
        world.takes = 1
        keys.reload()
        await world.time.advance(0.5)
        waiting = asyncio.create_task(keys.seek("b"))
        await world.time.advance()
    assert not await waiting
    assert world.reads == 2


# ---- bad answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>", "the key set is not JSON"),
        (b"{}", 'the key set has no list "keys"'),
        (key_set(), "the key set has no usable key"),
        (key_set({**A, "use": "enc"}), "the key set has no usable key"),
        (key_set(*[A] * 101), "the key set has more than 100 keys"),
        (b'{"keys": [' + b" " * 262_144 + b"]}", "the key set is larger than 262144 bytes"),
    ],
)
async def test_a_bad_document_is_a_failure_and_the_old_keys_stay(world: World, body: bytes, reason: str) -> None:
    async with world.running() as keys:
        world.answer = Fetched(body, Version(SOURCE, b'"bad"'))
        await world.time.advance(480.5)
        assert world.told(KeySetFailed) == [KeySetFailed(SOURCE, reason, 1)]
        assert kids(keys) == {"a"}
        assert keys.available


async def test_the_version_of_a_bad_document_is_not_remembered(world: World) -> None:
    world.answer = Fetched(ONE, VERSION)
    async with world.running():
        world.answer = Fetched(b"{}", Version(SOURCE, b'"bad"'))
        await world.time.advance(HOUR)
    assert set(world.known[1:]) == {VERSION}


async def test_nothing_has_changed_is_no_answer_while_nothing_is_known(world: World) -> None:
    world.answer = Fetched(None)
    async with world.running() as keys:
        await world.time.advance(HOUR)
        assert not keys.available
        assert not world.told(KeySetRefreshed)


async def test_an_unforeseen_error_is_a_failure_like_any_other_and_is_not_quoted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.answer = RuntimeError("secret from the wire")
    async with world.running() as keys:
        await world.time.advance(2)
        assert not keys.available
        assert world.notices[0] == KeySetFailed(SOURCE, "an internal error occurred", 1)
        assert "secret" not in caplog.text
        assert "RuntimeError" in caplog.text


async def test_a_bad_key_is_reported_once_and_again_only_when_the_set_differs(world: World) -> None:
    leaked = signing_key("leaked").as_dict(private=True)
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}
    world.answer = Fetched(key_set(A, leaked, secret, {"kty": "EC", "crv": "P-256", "kid": "broken"}))
    async with world.running() as keys:
        await world.time.advance(DAY)
        assert kids(keys) == {"a"}
        skipped = [(notice.kid, notice.leaked) for notice in world.notices if isinstance(notice, KeySkipped)]
        assert skipped == [("leaked", True), ("shared", True), ("broken", False)]
        assert str(leaked["d"]) not in repr(world.notices)
        assert "c2VjcmV0" not in repr(world.notices)

        world.answer = Fetched(key_set(A, leaked, {"kty": "new", "kid": "new"}))
        await world.time.advance(HOUR)
        world.answer = Fetched(key_set(A, leaked, secret))
        await world.time.advance(HOUR)
        later = [notice.kid for notice in world.told(KeySkipped)[3:] if isinstance(notice, KeySkipped)]
        assert later == ["new", "shared"]


async def test_a_set_of_nothing_but_bad_keys_says_why(world: World) -> None:
    world.answer = Fetched(key_set(signing_key("leaked").as_dict(private=True)))
    async with world.running() as keys:
        await world.time.advance(MINUTE)
        assert not keys.available
        assert len(world.told(KeySkipped)) == 1


# ---- an issuer that is away -----------------------------------------------------------------------------------------


async def test_old_keys_serve_while_the_issuer_is_away_and_end_after_the_allowed_time(world: World) -> None:
    async with world.running() as keys:
        world.answer = DOWN
        await world.time.advance(DAY - 1)
        assert keys.available
        assert kids(keys) == {"a"}
        assert not world.told(KeySetStale)

        await world.time.advance(1)
        assert not keys.available
        assert not keys.ring
        assert world.told(KeySetStale) == [KeySetStale(SOURCE, DAY)]
        assert len(world.told(KeyWithdrawn)) == 1
        assert world.rings[-1] is keys.ring

        world.answer = Fetched(ONE)
        await world.time.advance(MINUTE)
        assert keys.available
        assert kids(keys) == {"a"}
        assert world.rings[-1] is keys.ring


async def test_while_the_issuer_is_away_it_is_asked_about_once_a_minute(world: World) -> None:
    async with world.running():
        world.answer = DOWN
        await world.time.advance(DAY)
    assert world.reads < 10 + DAY / MINUTE


async def test_keys_that_are_too_old_end_even_while_a_read_hangs(world: World) -> None:
    world.max_stale = 5 * MINUTE
    async with world.running() as keys:
        world.stalled = True
        await world.time.advance(5 * MINUTE)
        assert not keys.available
        assert not keys.ring


async def test_an_answer_about_dropped_keys_does_not_bring_them_back(world: World) -> None:
    world.max_stale = 5 * MINUTE
    world.answer = Fetched(ONE, VERSION)
    async with world.running() as keys:
        world.answer, world.takes = Fetched(None, VERSION), 10 * MINUTE
        await world.time.advance(20 * MINUTE)
        assert not keys.available
        assert world.known[-1] is None


async def test_the_age_of_keys_counts_from_the_question_not_from_the_answer(world: World) -> None:
    world.takes, world.max_stale = 30, 5 * MINUTE
    async with world.running() as keys:
        await world.time.advance(30)
        world.answer = DOWN
        assert keys.available
        await world.time.advance(5 * MINUTE - 31)
        assert keys.available
        await world.time.advance(1)
        assert not keys.available


# ---- unknown key names ----------------------------------------------------------------------------------------------


async def test_the_first_token_under_a_new_key_finds_it(world: World) -> None:
    async with world.running() as keys:
        world.answer, world.takes = Fetched(TWO), 0.5
        assert await world.sought(keys, "b") == (True, 0.5)
        assert kids(keys) == {"a", "b"}
        assert len(world.rings) == 2


async def test_a_token_that_comes_during_the_first_read_waits_for_it(world: World) -> None:
    world.takes = 1
    async with world.running() as keys:
        assert not keys.available
        assert await world.sought(keys, "a") == (True, 1)
        assert world.reads == 1


async def test_many_tokens_under_a_new_key_share_one_read(world: World) -> None:
    async with world.running() as keys:
        world.answer, world.takes = Fetched(TWO), 0.5
        waiting = [asyncio.create_task(keys.seek("b")) for _ in range(500)]
        await world.time.advance(0.5)
        assert all([await found for found in waiting])
        assert world.reads == 2


async def test_a_known_name_is_never_a_reason_to_read(world: World) -> None:
    async with world.running() as keys:
        assert await world.sought(keys, "a") == (False, 0)
        assert world.reads == 1


@pytest.mark.parametrize("kid", ["", "x" * 1_025])
async def test_a_name_that_no_key_can_have_is_never_a_reason_to_read(world: World, kid: str) -> None:
    async with world.running() as keys:
        assert await world.sought(keys, kid) == (False, 0)
        assert world.reads == 1


async def test_a_stalling_issuer_is_waited_for_two_seconds(world: World) -> None:
    async with world.running() as keys:
        world.stalled = True
        assert await world.sought(keys, "b") == (False, 2)
        assert await world.sought(keys, "b") == (False, 2)
        assert world.reads == 2


async def test_a_name_that_the_issuer_does_not_know_is_not_asked_about_again_for_a_minute(world: World) -> None:
    async with world.running() as keys:
        assert await world.sought(keys, "b") == (False, 0)
        for _ in range(59):
            await world.time.advance(1)
            assert await world.sought(keys, "b") == (False, 0)
        assert world.reads == 2
        world.answer = Fetched(TWO)
        await world.time.advance(1)
        assert (await world.sought(keys, "b"))[0]


async def test_a_failed_read_does_not_make_a_name_absent(world: World) -> None:
    async with world.running() as keys:
        world.answer = DOWN
        assert await world.sought(keys, "b") == (False, 0)
        world.answer = Fetched(TWO)
        assert await world.sought(keys, "b") == (True, 0)


async def test_a_read_that_began_before_the_token_came_does_not_decide_against_it(world: World) -> None:
    async with world.running() as keys:
        world.takes = 1
        keys.reload()
        await world.time.advance(0.5)
        world.answer, world.takes = Fetched(TWO), 0.25
        assert await world.sought(keys, "b") == (True, 0.75)
        assert world.reads == 3


async def test_a_flood_of_invented_names_causes_two_reads_a_minute(world: World) -> None:
    async with world.running() as keys:
        for second in range(10 * MINUTE):
            await asyncio.gather(*(keys.seek(f"invented-{second}-{number}") for number in range(20)))
            await world.time.advance(1)
    sought = world.moments[1:]
    assert 18 <= len(sought) <= 20
    assert all(later - earlier >= MINUTE for earlier, later in zip(sought, sought[2:], strict=False))


async def test_a_flood_of_invented_names_holds_little_memory(world: World) -> None:
    async with world.running() as keys:
        world.takes = 1
        tracemalloc.start()
        try:
            waiting = [asyncio.create_task(keys.seek(f"{number:06}" + "x" * 1_000)) for number in range(5_000)]
            await world.time.advance(3)
            assert not any([await found for found in waiting])
            waiting.clear()
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert world.reads == 2
        assert held < 2_500_000


async def test_names_invented_while_the_issuer_is_down_cause_no_retries(world: World) -> None:
    world.answer = Fetched(ONE, max_age=DAY)
    async with world.running() as keys:
        world.answer = DOWN
        for second in range(10 * MINUTE):
            await keys.seek(f"invented-{second}")
            await world.time.advance(1)
        assert world.reads <= 1 + 2 * 10
        assert keys.available


async def test_a_read_for_an_unknown_name_counts_as_a_refresh(world: World) -> None:
    async with world.running() as keys:
        await world.time.advance(479)
        await world.sought(keys, "b")
        await world.time.advance(479)
        assert world.reads == 2


async def test_a_shorter_freshness_learned_that_way_is_heeded(world: World) -> None:
    world.answer = Fetched(ONE, max_age=DAY)
    async with world.running() as keys:
        world.answer = Fetched(ONE, max_age=MINUTE)
        await world.sought(keys, "b")
        await world.time.advance(MINUTE)
        assert world.reads == 3


async def test_a_caller_who_gives_up_does_not_stop_the_read_for_others(world: World) -> None:
    async with world.running() as keys:
        world.answer, world.takes = Fetched(TWO), 1
        impatient = asyncio.create_task(keys.seek("b"))
        patient = asyncio.create_task(keys.seek("b"))
        await world.time.advance(0.5)
        impatient.cancel()
        await world.time.advance(0.5)
        assert await patient
        assert world.reads == 2
