"""The writing for one connection: in whose name, until when, and at what pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from leyden.auth import Identity, Revocation, RevocationList
from leyden.edge.access.authors import Authors, RolePolicy
from leyden.edge.access.sessions import Sessions
from leyden.edge.core import Core
from leyden.edge.writing import LONGEST_PAUSE, Writing
from leyden.model import Author, Upload
from leyden.postgres.writing.writer import Outcome
from virtual_time import VirtualTime

IDENTITY = Identity("alice", {"sub": "alice"}, 1_000_100.0, None, None, "jti-1", None, None, None, 0)


class Stage:
    """A connection's writing, with a writer whose outcomes the test chooses."""

    def __init__(self) -> None:
        self.time = VirtualTime()
        self.outcomes: list[Outcome] = []
        #: The numbers of the uploads written, when, and in whose name.
        self.written: list[int] = []
        self.moments: list[float] = []
        self.echoes_missed: list[bool] = []
        self.authors: list[Author] = []
        self.revocations = RevocationList()
        #: Whether the next attempt fails, and another one follows.
        self.fails_once = False
        self.may_write = asyncio.Event()
        self.may_write.set()
        core = SimpleNamespace(
            writer=self,
            sessions=Sessions(clock=self.time.now),
            clock=self.time.now,
            authenticator=self,
            authors=Authors(RolePolicy()),
            writes=set(),
        )
        self.core = core
        self.writing = Writing(cast(Core, core), sleep=self.time.sleep)
        connection = SimpleNamespace(client_id="c", end_session=lambda cause: self.writing.stop())
        self.session = core.sessions.enter(cast(Any, connection), "c", IDENTITY)
        self.writing.start(self.session, self._guard)

    @staticmethod
    async def _guard(job: Callable[[], Any]) -> None:
        await job()

    async def apply(self, upload: Upload, author: Callable[[], Author]) -> Outcome:
        self.authors.append(author())
        await self.may_write.wait()
        if self.fails_once:
            self.fails_once = False
            author()
        self.written.append(int.from_bytes(upload.lsn, "big"))
        self.echoes_missed.append(upload.echo_missed)
        self.moments.append(self.time.now())
        return self.outcomes.pop(0) if self.outcomes else Outcome.APPLIED

    async def upload(self, *numbers: int) -> None:
        for number in numbers:
            await self.writing.put(Upload("c", "alice", number.to_bytes(4, "big"), 0, ()))


@pytest.fixture
async def stage() -> Stage:
    return Stage()


async def test_uploads_are_written_in_the_name_of_the_session(stage: Stage) -> None:
    await stage.upload(1, 2)
    await stage.time.advance()
    assert stage.written == [1, 2]
    assert stage.authors == [Author("alice", '{"sub":"alice"}')] * 2


async def test_who_is_refused_again_and_again_waits_a_little_longer_each_time(stage: Stage) -> None:
    stage.outcomes = [Outcome.REFUSED] * 15
    await stage.upload(*range(1, 17))
    await stage.time.advance(60)
    assert stage.written == list(range(1, 17))
    pauses = [later - earlier for earlier, later in zip(stage.moments, stage.moments[1:], strict=False)]
    assert pauses[:3] == pytest.approx([0, 0.01, 0.02])
    assert pauses[-4:] == pytest.approx([LONGEST_PAUSE] * 4)


async def test_a_write_that_is_applied_ends_the_waiting(stage: Stage) -> None:
    stage.outcomes = [Outcome.REFUSED] * 5 + [Outcome.APPLIED, Outcome.REFUSED]
    await stage.upload(*range(1, 9))
    await stage.time.advance(60)
    assert stage.moments[6] == stage.moments[5]
    assert stage.moments[7] == stage.moments[6]


async def test_what_is_left_when_the_connection_is_gone_is_written_without_pauses(stage: Stage) -> None:
    stage.outcomes = [Outcome.REFUSED] * 100
    stage.may_write.clear()
    await stage.upload(*range(1, 101))
    stage.writing.finish()
    stage.may_write.set()
    await stage.time.advance()
    assert stage.written == list(range(1, 101))
    await asyncio.wait_for(asyncio.gather(*stage.core.writes), 5)


async def test_nothing_is_written_from_the_moment_the_token_ends(stage: Stage) -> None:
    stage.outcomes = [Outcome.REFUSED] * 100
    await stage.upload(*range(1, 101))
    await stage.time.advance(0.5)
    written = len(stage.written)
    assert 0 < written < 20
    stage.time._now = 1_000_101.0  # the clock is set
    await stage.time.advance(60)
    assert len(stage.written) == written
    assert stage.writing.abandoned


async def test_nothing_is_written_once_the_token_is_revoked_though_the_connection_is_gone(stage: Stage) -> None:
    stage.may_write.clear()
    await stage.upload(1, 2)
    await stage.time.advance()
    stage.core.sessions.leave(stage.session)
    stage.writing.finish()
    revoked = Revocation(1, "jti", "jti-1", None, 0.0, 2_000_000)
    stage.revocations = RevocationList([revoked])
    stage.may_write.set()
    await stage.time.advance()
    assert stage.written == [1]  # it was under way


@pytest.mark.parametrize("fails_once", [False, True])
async def test_what_is_written_after_the_end_proves_nothing_of_what_its_author_has_heard(
    stage: Stage, fails_once: bool
) -> None:
    stage.may_write.clear()
    for number in (1, 2):
        await stage.writing.put(Upload("c", "alice", number.to_bytes(4, "big"), 0, (), echo_missed=True))
    await stage.time.advance()
    stage.fails_once = fails_once
    stage.writing.finish()
    stage.may_write.set()
    await stage.time.advance()
    assert stage.written == [1, 2]
    assert stage.echoes_missed == [not fails_once, False]  # the first was under way


async def test_a_replaced_connection_leaves_what_is_not_under_way_to_its_successor(stage: Stage) -> None:
    stage.may_write.clear()
    await stage.upload(1, 2, 3)
    await stage.time.advance()
    stage.writing.give_up()
    stage.writing.finish()
    stage.may_write.set()
    await stage.time.advance()
    assert stage.written == [1]


async def test_nothing_runs_while_nothing_is_to_be_written(stage: Stage) -> None:
    assert not stage.core.writes
    for number in (1, 2):
        await stage.upload(number)
        assert stage.core.writes
        await stage.time.advance()
        assert not stage.core.writes
    assert stage.written == [1, 2]
    stage.writing.finish()
    assert not stage.core.writes
