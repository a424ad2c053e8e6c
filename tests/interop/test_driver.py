"""The programs the interop tests lean on work: stock client, bare protocol speaker, browser."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from interop.client import DriverDied, DriverError

SCHEMA = {
    "tables": {"todos": {"columns": {"id": "uuid", "title": "text"}, "pk": ["id"]}},
    "migrations": [
        {"statements": ["CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT) WITHOUT ROWID"], "version": "1"}
    ],
}


async def test_driver_runs_the_pinned_client(driver):
    client = await driver()
    hello = await client("hello")
    assert hello["electric"] == "0.12.1"
    assert hello["subprotocol"] == "electric.0.12"


async def test_local_database_opens_and_keeps_its_rows(driver, tmp_path: Path):
    client = await driver()
    path = str(tmp_path / "local.db")
    opened = await client("open", engine="node:sqlite", dbPath=path, schema=SCHEMA)
    assert opened["tables"] == ["todos"]
    await client("dal", table="todos", op="create", args={"data": {"id": "a", "title": "héllo"}})
    await client("close")

    await client("open", engine="node:sqlite", dbPath=path, schema=SCHEMA)
    assert await client("query", sql="SELECT id, title FROM todos") == [{"id": "a", "title": "héllo"}]


async def test_overlapping_commands_get_their_own_answers(driver):
    client = await driver()
    tokens = await asyncio.gather(*(client("token", claims={"sub": f"user-{n}"}) for n in range(5)))
    assert len({token["token"] for token in tokens}) == 5


async def test_failed_command_raises_with_the_javascript_error(driver):
    client = await driver()
    with pytest.raises(DriverError, match='status: Error: no open client "nobody"'):
        await client("status", client="nobody")


async def test_command_outstanding_when_the_program_ends_raises(driver):
    client = await driver()
    waiting = asyncio.create_task(client("waitEvent", match={"event": "never"}, timeoutMs=60_000))
    await asyncio.sleep(0)
    await client.stop()
    with pytest.raises(DriverDied, match="waitEvent"):
        await waiting


async def test_bare_speaker_encodes_and_decodes_frames(raw):
    speaker = await raw()
    encoded = await speaker("encode", type="SatErrorResp", value={"errorType": 1, "message": "no"})
    decoded = await speaker("decode", hex=encoded["hex"])
    assert decoded["type"] == "SatErrorResp"
    assert decoded["errorName"] == "AUTH_REQUIRED"


async def test_browser_starts_and_evaluates(browser, chromium_directory: Path):
    chromium = await browser()
    await chromium("goto", url="data:text/html,<title>hello</title>")
    assert await chromium("eval", js="document.title") == "hello"
    assert (chromium_directory / "chromium").exists()
