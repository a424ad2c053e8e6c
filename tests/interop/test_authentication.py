"""Secure mode with the stock client: who gets in, how a refusal reaches the app, and what happens at expiry."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest
from joserfc.jwk import OctKey

from interop.client import Driver, DriverError
from interop.conftest import Factory, ServiceFactory
from interop.service import Leyden
from interop.tables import complaints, connected, create_items, id_of, open_client
from leyden.auth import ALGORITHMS, generate_key, load_private_key, mint_token

NINE = ("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512")

#: Seconds. A refusal is told at once: with a retry or a client-side time limit it would take longer.
AT_ONCE = 1.0


class Issuer:
    """Whoever signs an app's tokens: a new key for ``algorithm``, and tokens made with it."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        generated = generate_key(algorithm)
        if generated.secret is not None:
            self._key: Any = OctKey.import_key(generated.secret.encode())
            self.setting = generated.secret
        else:
            assert generated.private_pem is not None
            assert generated.public_pem is not None
            self._key = load_private_key(generated.private_pem.encode(), ALGORITHMS[algorithm])
            self.setting = generated.public_pem

    @property
    def env(self) -> Mapping[str, str]:
        return {"AUTH_JWT_ALG": self.algorithm, "AUTH_JWT_KEY": self.setting}

    def token(self, user: str, *, lifetime: float = 600, **claims: object) -> str:
        now = int(time.time())
        content = {"sub": user, "iat": min(now, now + int(lifetime) - 1), "exp": now + int(lifetime), **claims}
        return mint_token(content, algorithm=ALGORITHMS[self.algorithm], key=self._key)


def leaks(service: Leyden, *secrets: str) -> list[str]:
    """Which pieces of ``secrets`` (lines of keys, segments of tokens) the service has logged."""
    pieces = [piece for secret in secrets for piece in secret.replace(".", "\n").splitlines() if len(piece) >= 16]
    return [piece for piece in pieces if "-----" not in piece and piece in service.log]


@pytest.mark.parametrize("algorithm", NINE)
async def test_a_token_of_each_algorithm_connects(algorithm: str, leyden: ServiceFactory, driver: Factory) -> None:
    issuer = Issuer(algorithm)
    service = await leyden(**issuer.env)
    token = issuer.token("alice")
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 2)
        await connected(client, service, "a", "items", token=token)
        await client("run", client="a", sql=f"INSERT INTO items VALUES ('{id_of(3)}', 'mine', 3)")
        await client("waitOplogEmpty", client="a")
        assert conn.execute("SELECT n FROM items ORDER BY n").fetchall() == [(1,), (2,), (3,)]
    assert len(await client("query", client="a", sql="SELECT * FROM items")) == 3
    assert leaks(service, token, issuer.setting) == []
    assert complaints(client) == []


# ---- refusals ---------------------------------------------------------------------------------------


async def refused(driver: Driver, client: str, token: str) -> DriverError:
    """Connects in vain; the refusal must come at once, after one attempt, and nothing may have flowed."""
    started = time.monotonic()
    with pytest.raises(DriverError) as caught:
        await driver("connect", client=client, token=token, timeoutMs=5000)
    assert time.monotonic() - started < AT_ONCE
    await driver.wait_for_event(event="socketClose", client=client)
    frames = await driver("wire", client=client)
    assert [f.get("inner") or f["type"] for f in frames if f["dir"] == "sent"] == ["SatAuthReq"]
    assert [f["type"] for f in frames if f["dir"] == "recv"] == ["SatRpcResponse"]
    return caught.value


async def assert_nothing_flowed(driver: Driver, service: Leyden, client: str) -> None:
    """Changes on both sides after a refusal stay where they are."""
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        await driver("run", client="good", sql="UPDATE items SET content = 'through' WHERE n = 1")
        await driver("waitOplogEmpty", client="good")
        assert conn.execute("SELECT content FROM items WHERE n = 1").fetchone() == ("through",)
        assert conn.execute("SELECT count(*) FROM items").fetchone() == (2,)
    # no retry either: a second attempt would have opened a second socket
    assert len([e for e in driver.events if e["event"] == "socketOpen" and e.get("client") == client]) == 1
    assert not (await driver("status", client=client))["isConnected"]


@pytest.mark.parametrize(
    ("flaw", "reason"),
    [
        ("expired", "expired"),
        ("forged", "invalid token"),
        ("wrong algorithm", "invalid token"),
        ("unsigned", "invalid token"),
    ],
)
async def test_a_bad_token_is_refused_at_once_and_leaves_a_good_client_alone(
    flaw: str, reason: str, leyden: ServiceFactory, driver: Factory
) -> None:
    issuer = Issuer("ES256")
    service = await leyden(**issuer.env)
    tokens = {
        "expired": lambda: issuer.token("mallory", lifetime=-3600),
        "forged": lambda: Issuer("ES256").token("mallory"),
        "wrong algorithm": lambda: Issuer("HS256").token("mallory"),
        "unsigned": lambda: mint_token({"sub": "mallory", "exp": int(time.time()) + 600}),
    }
    bad = tokens[flaw]()
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 2)
    await connected(client, service, "good", "items", token=issuer.token("alice"))
    await open_client(client, service, "bad")
    error = await refused(client, "bad", bad)
    assert error.details["message"] == reason
    await assert_nothing_flowed(client, service, "bad")
    assert leaks(service, bad, issuer.setting) == []
    assert '"event": "auth.refused"' in service.log
    assert [e for e in complaints(client) if e.get("client") == "good"] == []


async def test_a_client_id_belongs_to_its_first_user(leyden: ServiceFactory, driver: Factory) -> None:
    issuer = Issuer("HS256")
    service = await leyden(**issuer.env)
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 2)
    await connected(client, service, "good", "items", token=issuer.token("alice"))
    await open_client(client, service, "thief", client_id="device-good")
    error = await refused(client, "thief", issuer.token("mallory"))
    assert error.details["message"] == "client_id_taken"
    await assert_nothing_flowed(client, service, "thief")
    assert len(await client("wire", client="good", type="SatAuthReq", dir="sent")) == 1


async def test_an_empty_token_is_refused(leyden: ServiceFactory, driver: Factory, raw: Factory) -> None:
    service = await leyden(**Issuer("HS256").env)
    client, speaker = await driver(), await raw()
    await open_client(client, service, "a")
    with pytest.raises(DriverError):
        await client("connect", client="a", token="", timeoutMs=5000)
    # the stock client does not even ask with an empty token, so this is asked without it
    await speaker("open", url=f"{service.url.replace('http', 'ws')}/ws")
    answer = await speaker("rpc", method="authenticate", value={"id": "device-a", "token": ""})
    assert answer["error"]["errorType"] == 4  # INVALID_REQUEST
    assert (await speaker("waitClosed"))["code"] == 1007


# ---- expiry -----------------------------------------------------------------------------------------


async def test_expiry_ends_the_connection_and_a_new_token_goes_on_without_loss(
    leyden: ServiceFactory, driver: Factory
) -> None:
    issuer = Issuer("ES256")
    service = await leyden(**issuer.env, AUTH_JWT_LEEWAY="0")
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn, 2)
        await connected(client, service, "a", "items", token=issuer.token("alice", lifetime=3))
        gone = await client.wait_for_event(event="connectivity", status="disconnected", timeout=8)
        assert gone["reason"]["codeName"] == "AUTH_EXPIRED"
        closed = await client.wait_for_event(event="socketClose")
        assert closed["reason"] == "JWT-expired"
        conn.execute("INSERT INTO items VALUES (%s, 'meanwhile', 3)", [id_of(3)])
        await client("run", client="a", sql=f"INSERT INTO items VALUES ('{id_of(4)}', 'offline', 4)")
        assert not (await client("status", client="a"))["isConnected"]
        assert len(await client("wire", client="a", type="SatAuthReq", dir="sent")) == 1

        await client("connect", client="a", token=issuer.token("alice"), timeoutMs=5000)
        await client("waitRow", client="a", sql="SELECT * FROM items WHERE n = 3")
        await client("waitOplogEmpty", client="a")
        assert conn.execute("SELECT n FROM items ORDER BY n").fetchall() == [(1,), (2,), (3,), (4,)]
    rows = await client("query", client="a", sql="SELECT n FROM items ORDER BY n")
    assert [row["n"] for row in rows] == [1, 2, 3, 4]
    # resumed, not started afresh
    assert len(await client("wire", client="a", type="SatSubsReq", dir="sent")) == 1
    # what the client tells its error listeners; nothing was thrown
    assert [(e["event"], e["error"].get("codeName")) for e in complaints(client)] == [("clientError", "AUTH_EXPIRED")]
