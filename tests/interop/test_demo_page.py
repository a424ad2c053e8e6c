"""The demo page in a real browser: two tabs and Postgres stay in step.

Fixture ``demo`` is a running ``leyden demo``: ``demo.base_url`` is its page, ``demo.dsn`` its database.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from interop.client import Driver


@dataclass(frozen=True, slots=True)
class Tab:
    """One tab of the demo, as its user sees and touches it."""

    name: str
    chromium: Driver

    async def wait(self, js: str, *, seconds: float = 15) -> Any:
        """The page's value of ``js`` once it is truthy."""
        return await self.chromium("waitFor", page=self.name, js=js, timeoutMs=int(seconds * 1000))

    async def until_connected(self) -> None:
        await self.wait("window.probe?.state === 'connected' && probe.synced")

    async def add(self, title: str) -> None:
        await self.chromium("type", page=self.name, selector="[data-testid=new-todo]", text=title)
        await self.chromium("press", page=self.name, key="Enter")

    async def shows(self, title: str, *, done: bool = False) -> None:
        """Wait until the list on the screen (not just the local database) has such an entry."""
        finished = "" if done else "!"
        await self.wait(
            "[...document.querySelectorAll('[data-testid=todo]')].some((li) =>"
            f" li.querySelector('[data-testid=todo-title]')?.textContent === {json.dumps(title)}"
            f" && {finished}li.querySelector('[data-testid=todo-done]').checked)"
        )

    async def shows_no(self, title: str) -> None:
        await self.wait(
            "[...document.querySelectorAll('[data-testid=todo-title]')]"
            f".every((e) => e.textContent !== {json.dumps(title)})"
        )

    async def toggle_online(self, *, then: str) -> None:
        await self.chromium("click", page=self.name, selector="[data-testid=online-switch]")
        await self.wait(f"probe.state === '{then}'")


@pytest.fixture
async def tabs(demo: Any, browser: Any) -> tuple[Tab, Tab]:
    """The demo opened in two tabs of one browser, both connected and holding the list."""
    chromium = await browser()
    opened = Tab("a", chromium), Tab("b", chromium)
    for tab in opened:
        response = await chromium("goto", page=tab.name, url=demo.base_url)
        assert response["status"] in (200, 304)
    for tab in opened:
        await tab.until_connected()
    return opened


async def rows(dsn: str, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        cursor = await connection.execute(query, arguments)  # type: ignore[arg-type]
        return await cursor.fetchall() if cursor.description else []


async def test_todo_added_in_one_tab_reaches_the_other_and_postgres(demo: Any, tabs: tuple[Tab, Tab]) -> None:
    a, b = tabs
    await a.add("Water the plants")
    await b.shows("Water the plants")
    found = await rows(demo.dsn, "SELECT done, author FROM todos WHERE title = %s", "Water the plants")
    assert found == [(False, await a.wait("document.querySelector('[data-testid=user]').textContent"))]


async def test_sql_update_shows_in_both_tabs(demo: Any, tabs: tuple[Tab, Tab]) -> None:
    a, b = tabs
    await a.add("Ring the dentist")
    await b.shows("Ring the dentist")
    await rows(demo.dsn, "UPDATE todos SET done = true WHERE title = %s", "Ring the dentist")
    await a.shows("Ring the dentist", done=True)
    await b.shows("Ring the dentist", done=True)


async def test_sql_delete_removes_the_row_from_both_tabs(demo: Any, tabs: tuple[Tab, Tab]) -> None:
    a, b = tabs
    await a.add("Sell the bicycle")
    await b.shows("Sell the bicycle")
    await rows(demo.dsn, "DELETE FROM todos WHERE title = %s", "Sell the bicycle")
    await a.shows_no("Sell the bicycle")
    await b.shows_no("Sell the bicycle")


async def test_offline_work_survives_a_reload_and_arrives_once_online(demo: Any, tabs: tuple[Tab, Tab]) -> None:
    a, b = tabs
    await a.toggle_online(then="offline")
    await a.add("Written on a train")
    await a.shows("Written on a train")
    assert await rows(demo.dsn, "SELECT 1 FROM todos WHERE title = %s", "Written on a train") == []

    await a.chromium("reload", page=a.name)
    await a.shows("Written on a train")
    await a.toggle_online(then="connected")
    await b.shows("Written on a train")


async def test_tabs_are_two_users_and_see_each_other(tabs: tuple[Tab, Tab]) -> None:
    names = [await tab.wait("document.querySelector('[data-testid=user]').textContent") for tab in tabs]
    assert names[0] != names[1]
    for tab in tabs:
        await tab.wait(f"{json.dumps(names)}.every((name) => probe.people.some((p) => p.user === name))")


async def test_page_runs_without_errors_under_its_own_content_security_policy(tabs: tuple[Tab, Tab]) -> None:
    for tab in tabs:
        assert await tab.chromium("eval", page=tab.name, js="probe.errors") == []
        observed = await tab.chromium("observed", page=tab.name)
        assert [line for line in observed["console"] if line["type"] in ("error", "pageerror")] == []
        assert [r for r in observed["requests"] if r.get("failed") or r["status"] >= 400] == []
