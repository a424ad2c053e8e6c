"""``leyden rejected``, driven as a shell would, on what the writer refused."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg import sql
from psycopg.conninfo import make_conninfo

from interop.service import database_url
from leyden.cli import main
from leyden.model import Author, ClientInsert
from leyden.postgres.sessions import session_conninfo
from leyden.postgres.writing.writer import Outcome

CLIENT = "11111111-1111-4111-8111-111111111111"
FUTURE = 5_000_000_000_000

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def shop(world: Any) -> Any:
    await world.electrify(
        "CREATE TABLE customer (id text PRIMARY KEY, name text NOT NULL)",
        "CREATE TABLE sale (n text PRIMARY KEY, customer_id text NOT NULL REFERENCES customer, note text)",
    )
    world.author = Author("ann", '{"sub": "ann", "secret_of_ann": "s3cr3t"}')
    return world


@pytest.fixture
def run(database: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``await run(*arguments, env=…)``: the command with the database's address alone."""
    for name in tuple(os.environ):
        if name.startswith(("AUTH_", "DATABASE_", "LEYDEN_")):
            monkeypatch.delenv(name)

    async def invoke(*arguments: str, env: dict[str, str] | None = None) -> Result:
        environment = env or {"DATABASE_URL": database_url(database), "DATABASE_REQUIRE_SSL": "false"}
        result = await asyncio.to_thread(CliRunner().invoke, main, ["rejected", *arguments], env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


async def sell(shop: Any, number: str, customer: str = "b", **more: str) -> None:
    """A sale to a customer who is not there."""
    changes = [shop.insert("customer", id=f"of {number}", name="N")]
    changes.append(shop.insert("sale", n=number, customer_id=customer, **more))
    assert await shop.apply(*changes, ms=1_700_000_000_123) is Outcome.REFUSED


async def left(shop: Any) -> list[int]:
    return [id for (id,) in await shop.sql("SELECT id FROM leyden.rejected ORDER BY id")]


async def test_what_was_refused_is_listed_and_shown(shop: Any, run: Run) -> None:
    empty = await run("list")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "Nothing was refused.\n")
    await sell(shop, "1", note="it's \u202e\x1b[31m red")
    shop.author = Author("bob\x1b[0m")
    assert await shop.apply(ClientInsert(shop.tables["sale"], {"n": b"\0", "customer_id": None}, frozenset()))
    listed = (await run("list")).stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["ID", "1", "2"]
    assert listed[1].split()[2:6] == ["user", CLIENT, "23503", "2"]
    assert "sale_customer_id_fkey" in listed[1]
    assert "\x1b" not in listed[2]
    shown = (await run("show", "1")).stdout
    assert "written  2023-11-14T22:13:20Z by the client's clock" in shown
    assert '23503 insert or update on table "sale" violates foreign key constraint' in shown
    assert "  insert sale\n    row  n='1', note='it''s \\u202e\\x1b[31m red', customer_id='b'\n" in shown
    assert "n=base64:AA==, customer_id=NULL" in (await run("show", "2")).stdout
    assert "s3cr3t" not in shown


async def test_lists_and_entries_are_there_for_programs(shop: Any, run: Run) -> None:
    await sell(shop, "1")
    await sell(shop, "2")
    first, second = map(json.loads, (await run("list", "--json")).stdout.splitlines())
    assert (first["id"], first["user_id"], first["sqlstate"], first["changes"]) == (1, "user", "23503", 2)
    assert second["at"] >= first["at"] > 1_700_000_000
    assert [json.loads(line)["id"] for line in (await run("list", "--json", "--limit", "1")).stdout.splitlines()] == [2]
    assert (await run("list", "--user", "nobody")).stdout == ""
    assert len((await run("list", "--user", "user", "--json")).stdout.splitlines()) == 2
    shown = await run("show", "2", "--json")
    entry = json.loads(shown.stdout)
    assert (entry["client_id"], entry["written_at"], entry["role"]) == (CLIENT, 1_700_000_000.123, None)
    assert entry["changes"][1]["row"] == {"n": "2", "customer_id": "b"}
    assert "s3cr3t" not in shown.stdout


async def test_a_retry_applies_it_at_its_time_and_tells_all_clients(shop: Any, run: Run) -> None:
    await sell(shop, "1", note="then")
    refused_again = await run("retry", "1")
    assert refused_again.exit_code == 1
    assert refused_again.stderr.startswith("1 is refused again: 23503 insert or update on table")
    assert await left(shop) == [1]
    await shop.sql("INSERT INTO customer VALUES ('b', 'Bob')")
    position = await shop.sql("SELECT lsn, applied_at FROM leyden.client_uploads")
    await shop.watch()
    applied = await run("retry", "1")
    assert (applied.exit_code, applied.stdout, applied.stderr) == (0, "applied 1: 2 changes of user user\n", "")
    assert await shop.rows("sale") == [("1", "b", "then")]
    assert await shop.tags("sale", "1") == [f"{CLIENT}@1700000000123"]
    begin, author, *_ = await shop.stream()
    assert (begin, author) == ("B", {"client": CLIENT, "ms": 1_700_000_000_123, "corrections": []})
    assert await left(shop) == []
    assert await shop.sql("SELECT lsn, applied_at FROM leyden.client_uploads") == position
    gone = await run("retry", "1")
    assert (gone.exit_code, gone.stderr) == (1, "there is no refused transaction 1; see leyden rejected list\n")


async def test_a_retry_does_not_undo_what_was_written_later(shop: Any, run: Run) -> None:
    await shop.sql("INSERT INTO customer VALUES ('b', 'Bob')")
    insert = shop.insert("sale", n="1", customer_id="b", note="first")
    assert await shop.apply(insert, ms=1_600_000_000_000) is Outcome.APPLIED
    old = {"n": "1", "customer_id": "b", "note": "first"}
    assert await shop.apply(shop.update("sale", old, customer_id="nobody", note="old"), ms=1_700_000_000_000) is (
        Outcome.REFUSED
    )
    assert await shop.apply(shop.update("sale", old, note="new"), ms=1_800_000_000_000) is Outcome.APPLIED
    await shop.sql("INSERT INTO customer VALUES ('nobody', 'N')")
    assert (await run("retry", "1")).exit_code == 0
    assert await shop.rows("sale") == [("1", "nobody", "new")]


async def test_a_retry_happens_once_however_many_try(shop: Any, run: Run) -> None:
    await sell(shop, "1")
    await shop.sql("INSERT INTO customer VALUES ('b', 'Bob')")
    results = await asyncio.gather(*(run("retry", "1") for _ in range(3)))
    assert sorted(result.exit_code for result in results) == [0, 1, 1]
    assert await shop.rows("sale") == [("1", "b", None)]


async def test_a_retry_has_the_rights_of_its_author(world: Any, run: Run) -> None:
    await world.electrify(
        "CREATE TABLE notes (id text PRIMARY KEY, electric_user_id text)",
        "CREATE TABLE docs (id text PRIMARY KEY, owner text)",
    )
    role = sql.Identifier(f"role of {world.conn.info.dbname}")
    await world.conn.execute(
        sql.SQL(
            "CREATE ROLE {role}; GRANT INSERT ON docs TO {role}; ALTER TABLE docs ENABLE ROW LEVEL SECURITY;"
            "CREATE POLICY own ON docs USING (owner = current_setting('request.jwt.claims')::jsonb ->> 'sub')"
        ).format(role=role)
    )
    try:
        world.author = Author("ann")
        assert await world.apply(world.insert("notes", id="n", electric_user_id="bob")) is Outcome.REFUSED
        world.author = Author("ann", '{"sub": "ann"}', None, f"role of {world.conn.info.dbname}")
        assert await world.apply(world.insert("docs", id="d", owner="bob")) is Outcome.REFUSED
        assert await world.apply(world.insert("docs", id="e", owner="eve")) is Outcome.REFUSED
        result = await run("retry", "1", "2", "3")
        assert result.exit_code == 1
        assert [line.split(":")[0] for line in result.stderr.splitlines()] == [
            f"{n} is refused again" for n in (1, 2, 3)
        ]
        await world.sql("ALTER POLICY own ON docs USING (owner IN ('eve', current_setting('leyden.user_id')))")
        assert (await run("retry", "3")).exit_code == 0
        assert await world.rows("docs") == [("e", "eve")]
        assert await left(world) == [1, 2]
    finally:
        await world.conn.execute(sql.SQL("DROP OWNED BY {role}; DROP ROLE {role}").format(role=role))


async def test_a_retry_of_what_is_not_shared_any_more_says_so(shop: Any, run: Run) -> None:
    await sell(shop, "1")
    await shop.sql("SELECT leyden.disable('sale')")
    result = await run("retry", "1")
    assert (result.exit_code, result.stderr) == (1, "1 cannot be applied: table sale is not electrified any more\n")
    assert await left(shop) == [1]


async def test_a_retry_that_loses_a_race_is_tried_again(shop: Any, run: Run, database: str) -> None:
    await sell(shop, "1")
    await shop.sql("INSERT INTO customer VALUES ('b', 'Bob')")
    async with await psycopg.AsyncConnection.connect(session_conninfo(database)) as application:
        await application.execute("UPDATE customer SET name = 'Rob'")
        await application.execute("LOCK TABLE sale IN SHARE MODE")
        retrying = asyncio.create_task(run("retry", "1"))
        stuck = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while not await shop.sql(f"{stuck} AND datname = current_database()"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await application.commit()
    assert (await retrying).exit_code == 0
    assert await shop.rows("sale") == [("1", "b", None)]


async def test_entries_are_dropped_by_id_and_by_age(shop: Any, run: Run) -> None:
    for number in "12345":
        await sell(shop, number)
    await shop.sql("UPDATE leyden.rejected SET at = now() - interval '8 days' WHERE id IN (1, 5)")
    some = await run("drop", "2", "9")
    assert (some.exit_code, some.stdout) == (1, "dropped 2\n")
    assert some.stderr == "there is no refused transaction 9; see leyden rejected list\n"
    assert (await run("drop", "--older-than", "7d")).stdout == "dropped: 2\n"
    assert await left(shop) == [3, 4]
    for senseless in ((), ("3", "--older-than", "7d"), ("0",)):
        assert (await run("drop", *senseless)).exit_code == 2
    assert (await run("retry")).exit_code == 2


async def test_a_database_that_cannot_be_used_is_told_without_its_password(shop: Any, run: Run, database: str) -> None:
    away = {"DATABASE_URL": "postgresql://leyden:pa55w0rd@127.0.0.1:1/app", "DATABASE_REQUIRE_SSL": "false"}
    for command in (("list",), ("show", "1"), ("retry", "1"), ("drop", "1")):
        result = await run(*command, env=away)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: the database cannot be used: ")
        assert "pa55w0rd" not in result.output
    role = sql.Identifier(f"stranger of {shop.conn.info.dbname}")
    await shop.conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    try:
        url = database_url(make_conninfo(database, user=f"stranger of {shop.conn.info.dbname}"))
        result = await run("list", env={"DATABASE_URL": url.replace(" ", "%20"), "DATABASE_REQUIRE_SSL": "false"})
        assert "use the service's role" in result.stderr
    finally:
        await shop.conn.execute(sql.SQL("DROP ROLE {}").format(role))


async def test_an_unprepared_database_is_told_as_such(empty_database: str, run: Run) -> None:
    result = await run("list", env={"DATABASE_URL": database_url(empty_database), "DATABASE_REQUIRE_SSL": "false"})
    assert result.exit_code == 1
    assert "start the service on it once" in result.stderr
