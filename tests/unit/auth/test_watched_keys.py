"""Keys in files that change under a running service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from issuers import key_set, published
from leyden.auth import (
    ALGORITHMS,
    KeyAdded,
    KeyNotice,
    KeyRing,
    KeySetFailed,
    KeySetRefreshed,
    KeyWithdrawn,
    WatchedKeys,
    parse_jwk_set,
)
from virtual_time import VirtualTime

SOURCE = "AUTH_JWT_JWKS_FILE"
A, B = published("a"), published("b")
ONE, TWO = key_set(A), key_set(A, B)


@dataclass
class World:
    """A file of keys, and the source over it."""

    file: Path
    time: VirtualTime = field(default_factory=VirtualTime)
    notices: list[KeyNotice] = field(default_factory=list)
    rings: list[KeyRing] = field(default_factory=list)
    loads: int = 0
    error: Exception | None = None
    """What goes wrong while reading."""

    def load(self) -> KeyRing:
        self.loads += 1
        if self.error is not None:
            raise self.error
        return KeyRing(parse_jwk_set(self.file.read_bytes(), [ALGORITHMS["ES256"]]).keys, kids_select=True)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WatchedKeys]:
        keys = WatchedKeys(
            SOURCE,
            self.load(),
            [self.file],
            self.load,
            self.notices.append,
            now=self.time.now,
            sleep=self.time.sleep,
        )
        task = asyncio.create_task(keys.run(self.rings.append))
        await self.time.advance()
        self.notices.clear()
        self.loads = 0
        try:
            yield keys
        finally:
            task.cancel()
            await asyncio.wait([task])

    def failures(self) -> list[KeyNotice]:
        return [notice for notice in self.notices if isinstance(notice, KeySetFailed)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    file = tmp_path / "keys.json"
    file.write_bytes(ONE)
    return World(file)


def kids(keys: WatchedKeys) -> set[str | None]:
    return {key.kid for key in keys.ring.keys}


async def test_files_that_stay_the_same_are_not_read_again(world: World) -> None:
    async with world.running() as keys:
        await world.time.advance(3_600)
        assert (world.loads, world.notices, world.rings) == (0, [], [])
        assert keys.available


async def test_a_changed_file_counts_within_ten_seconds(world: World) -> None:
    async with world.running() as keys:
        world.file.write_bytes(TWO)
        await world.time.advance(9)
        assert kids(keys) == {"a"}
        await world.time.advance(1)
        assert kids(keys) == {"a", "b"}
        assert world.rings == [keys.ring]
        added = next(key for key in keys.ring.keys if key.kid == "b")
        assert world.notices == [
            KeySetRefreshed(SOURCE, 2, True, None),
            KeyAdded(SOURCE, "ES256", "b", added.thumbprint),
        ]


async def test_a_change_before_the_first_look_is_not_missed(world: World) -> None:
    ring = world.load()
    world.file.write_bytes(TWO)
    keys = WatchedKeys(SOURCE, ring, [world.file], world.load, world.notices.append, sleep=world.time.sleep)
    task = asyncio.create_task(keys.run(world.rings.append))
    await world.time.advance()
    assert kids(keys) == {"a", "b"}
    task.cancel()


async def test_a_file_that_is_replaced_by_another_of_the_same_size_and_time_counts(world: World) -> None:
    before = os.stat(world.file)
    async with world.running() as keys:
        other = world.file.with_suffix(".new")
        other.write_bytes(ONE.replace(b'"a"', b'"z"'))
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert os.stat(other).st_size == before.st_size
        other.replace(world.file)
        await world.time.advance(10)
        assert kids(keys) == {"z"}
        assert [type(notice) for notice in world.notices] == [KeySetRefreshed, KeyAdded, KeyWithdrawn]


async def test_a_mounted_secret_counts_that_is_swapped_by_a_link_above_it(tmp_path: Path) -> None:
    for name, content in (("..2024", ONE), ("..2025", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys.json").write_bytes(content)
    (tmp_path / "..data").symlink_to("..2024")
    (tmp_path / "keys.json").symlink_to("..data/keys.json")
    world = World(tmp_path / "keys.json")
    async with world.running() as keys:
        (tmp_path / "..new").symlink_to("..2025")
        (tmp_path / "..new").replace(tmp_path / "..data")
        await world.time.advance(10)
        assert kids(keys) == {"a", "b"}


async def test_reload_reads_at_once(world: World) -> None:
    async with world.running() as keys:
        world.file.write_bytes(TWO)
        keys.reload()
        await world.time.advance()
        assert kids(keys) == {"a", "b"}
        keys.reload()
        await world.time.advance()
        assert world.notices[-1] == KeySetRefreshed(SOURCE, 2, False, None)
        assert len(world.rings) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not UTF-8"),
        (key_set(), "no key is left"),
        (None, "the file cannot be read (No such file or directory)"),
    ],
)
async def test_a_bad_version_is_reported_once_and_the_old_keys_stay(
    world: World, content: bytes | None, reason: str
) -> None:
    async with world.running() as keys:
        if content is None:
            world.file.unlink()
        else:
            world.file.write_bytes(content)
        await world.time.advance(120)
        assert world.failures() == [KeySetFailed(SOURCE, reason, 10)]
        assert kids(keys) == {"a"}
        assert keys.available
        assert world.rings == []

        world.file.write_bytes(TWO)
        await world.time.advance(10)
        assert kids(keys) == {"a", "b"}


async def test_a_version_is_tried_again_that_could_not_be_read_for_a_moment(world: World) -> None:
    async with world.running() as keys:
        world.file.write_bytes(TWO)
        world.error = OSError(5, "Input/output error")
        await world.time.advance(10)
        assert len(world.failures()) == 1
        world.error = None
        await world.time.advance(10)
        assert kids(keys) == {"a", "b"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnicodeDecodeError("utf-8", b"secret\xff", 6, 7, "invalid"), "the content is not text"),
        (RuntimeError("secret"), "an internal error occurred"),
    ],
)
async def test_no_error_quotes_what_is_in_the_file(
    world: World, error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.running() as keys:
        world.error = error
        keys.reload()
        await world.time.advance()
        assert world.failures() == [KeySetFailed(SOURCE, reason, 10)]
        assert "secret" not in caplog.text


async def test_a_token_under_a_new_key_finds_it_before_ten_seconds_are_over(world: World) -> None:
    async with world.running() as keys:
        await world.time.advance(5)
        assert not await keys.seek("b")
        world.file.write_bytes(TWO)
        await world.time.advance(2)
        assert await keys.seek("b")
        assert not await keys.seek("a")


async def test_invented_names_do_not_make_it_look_more_than_once_a_second(world: World) -> None:
    async with world.running() as keys:
        for number in range(250):
            world.file.write_bytes(key_set(A) + b" " * number)
            await keys.seek(f"invented-{number}")
            await world.time.advance(0.04)
        assert 8 <= world.loads <= 11
