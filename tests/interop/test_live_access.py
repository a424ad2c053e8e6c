"""A connection of the stock client while what let it in changes: tokens are renewed, revoked, their keys replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from interop.client import Driver, DriverError
from interop.conftest import Factory, ServiceFactory
from interop.service import Leyden, database_url
from interop.slow_link import slow_link
from interop.tables import ITEMS, complaints, connected, create_items, id_of
from interop.test_authentication import Issuer


@asynccontextmanager
async def writing(dsn: str, pause: float = 0.02) -> AsyncIterator[list[tuple[int, float]]]:
    """Rows inserted all the while; (n, time of commit) of each."""
    written: list[tuple[int, float]] = []
    over = False

    async def write() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
            while not over:
                n = 1000 + len(written)
                await conn.execute("INSERT INTO items VALUES (%s, 'live', %s)", [id_of(n), n])
                written.append((n, time.time()))
                await asyncio.sleep(pause)

    task = asyncio.create_task(write())
    try:
        yield written
    finally:
        over = True
        await task


async def received(driver: Driver, client: str) -> Counter[int]:
    """How many times each row was sent to the client as an insert."""
    counted: Counter[int] = Counter()
    for frame in await driver("wire", client=client, type="SatOpLog", dir="recv", limit=5000):
        for operation in frame["value"]["ops"]:
            if (insert := operation.get("insert")) is not None:
                counted[int(insert["rowData"]["$row"][2])] += 1
    return counted


async def revoke(service: Leyden, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "leyden", "revoke", *arguments),
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database_url(service.dsn)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    return out.decode()


# ---- renewal --------------------------------------------------------------------------------------------------------


async def test_a_renewal_on_the_connection_leaves_no_gap(leyden: ServiceFactory, driver: Factory) -> None:
    issuer = Issuer("ES256")
    service = await leyden(**issuer.env, AUTH_JWT_LEEWAY="0")
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 2)
    first = issuer.token("alice", lifetime=4)
    await connected(client, service, "a", "items", token=first)
    async with writing(service.dsn) as written:
        await asyncio.sleep(1.0)
        await client("call", client="a", path="satellite.authenticate", args=[issuer.token("alice", lifetime=60)])
        await asyncio.sleep(5.0)  # past the end of the first token
    last = written[-1][0]
    await client("waitRow", client="a", sql=f"SELECT * FROM items WHERE n = {last}")
    counted = await received(client, "a")
    assert [counted[n] for n, _ in written] == [1] * len(written)
    assert len([e for e in client.events if e["event"] == "socketOpen"]) == 1
    assert complaints(client) == []


# ---- revocation -----------------------------------------------------------------------------------------------------


async def test_a_user_revoked_in_mid_stream_gets_nothing_more(leyden: ServiceFactory, driver: Factory) -> None:
    issuer = Issuer("ES256")
    service = await leyden(**issuer.env)
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 2)
    await connected(client, service, "m", "items", token=issuer.token("mallory"))
    await connected(client, service, "a", "items", token=issuer.token("alice"))
    async with writing(service.dsn) as written:
        await asyncio.sleep(0.5)
        await revoke(service, "user", "mallory")
        revoked_at = time.time()
        closed = await client.wait_for_event(event="socketClose", client="m", timeout=5)
        assert closed["reason"] == "JWT-expired"
        gone = await client.wait_for_event(event="connectivity", client="m", status="disconnected")
        assert gone["reason"]["codeName"] == "AUTH_EXPIRED"
        await asyncio.sleep(max(0, revoked_at + 1.3 - time.time()))
    last = written[-1][0]
    await client("waitRow", client="a", sql=f"SELECT * FROM items WHERE n = {last}")
    # in force within a second: what was committed later than that never reached the revoked client
    got = await received(client, "m")
    assert max(got) < next(n for n, at in written if at > revoked_at + 1.0)
    assert (await received(client, "a"))[last] == 1
    with pytest.raises(DriverError) as caught:
        await client("connect", client="m", token=issuer.token("mallory"), timeoutMs=5000)
    assert caught.value.details["message"] == "revoked"
    assert [e for e in complaints(client) if e.get("client") == "a"] == []


async def test_after_tokens_were_revoked_by_time_a_newer_one_goes_on_without_loss(
    leyden: ServiceFactory, driver: Factory
) -> None:
    issuer = Issuer("HS256")
    service = await leyden(**issuer.env)
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 2)
        await connected(client, service, "a", "items", token=issuer.token("alice"))
        await revoke(service, "user", "alice", "--issued-before", "now")
        await client.wait_for_event(event="socketClose", client="a", timeout=5)
        conn.execute("INSERT INTO items VALUES (%s, 'meanwhile', 3)", [id_of(3)])
        await asyncio.sleep(1.1)  # iat counts whole seconds
        await client("connect", client="a", token=issuer.token("alice"), timeoutMs=5000)
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE n = 3")
    assert (await received(client, "a"))[3] == 1
    assert len(await client("wire", client="a", type="SatSubsReq", dir="sent")) == 1


@pytest.mark.parametrize(("delay", "after"), [(0.3, 0.45), (0.7, 1.8)])
async def test_a_client_that_is_revoked_while_it_starts_is_told_in_a_way_it_survives(
    delay: float, after: float, leyden: ServiceFactory, driver: Factory
) -> None:
    """Until the calls of its start are answered the stock client takes JWT-expired for a crash. If its start is not
    taken yet when the revocation comes, that call is refused, or it is cut off and refused when it comes back."""
    issuer = Issuer("ES256")
    service = await leyden(**issuer.env)
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 100_000)
    async with slow_link(int(service.url.rpartition(":")[2]), delay) as url:
        config = {"auth": {"clientId": "device-a"}}
        await client("open", client="a", url=url, schema=ITEMS, config=config)
        await client("connect", client="a", token=issuer.token("alice"), timeoutMs=10000)
        await client("sync", client="a", table="items", wait=False)
        await client("dropSocket", client="a")  # it comes back by itself, and asks again for what it has not got

        async def starts() -> int:
            return len(await client("wire", client="a", type="SatRpcRequest", dir="sent", limit=5000))

        async with asyncio.timeout(15):
            while len([e for e in client.events if e["event"] == "socketOpen"]) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            before = await starts()
            while await starts() < before + 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.sleep(after)
        seen = len(client.events)
        await revoke(service, "user", "alice")
        gone = await client.wait_for_event(
            after=seen, event="connectivity", client="a", status="disconnected", timeout=15
        )
        await asyncio.sleep(1.0)
        told = gone["reason"].get("codeName") or gone["reason"]["message"]
        assert told in ("AUTH_EXPIRED", "INTERNAL", "revoked")
    assert [e for e in client.events if e["event"] == "uncaughtException"] == []


# ---- keys -----------------------------------------------------------------------------------------------------------


async def test_a_client_goes_on_over_a_change_of_keys_when_it_renews_in_time(
    leyden: ServiceFactory, driver: Factory, tmp_path: Path
) -> None:
    old, new = Issuer("ES256"), Issuer("ES256")
    current, previous = tmp_path / "current.pem", tmp_path / "previous.pem"
    current.write_text(new.setting)
    previous.write_text(old.setting)
    service = await leyden(
        AUTH_JWT_ALG="ES256", AUTH_JWT_KEY_FILE=str(current), AUTH_JWT_KEY_PREVIOUS_FILE=str(previous)
    )
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 2)
        await connected(client, service, "a", "items", token=old.token("alice"))
        await client("call", client="a", path="satellite.authenticate", args=[new.token("alice")])
        previous.write_text(new.setting)  # the old key is withdrawn
        service.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(1.0)
        assert '"event": "key.removed"' in service.log
        conn.execute("INSERT INTO items VALUES (%s, 'new', 3)", [id_of(3)])
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE n = 3")
    assert len([e for e in client.events if e["event"] == "socketOpen"]) == 1
    assert complaints(client) == []
