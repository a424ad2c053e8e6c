"""The edge over a real service: raw protocol speakers against our server, a foreign one, and a host application."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import uvicorn
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from interop.service import database_url
from leyden.config import Settings, load_settings
from leyden.edge import connection as edge_connection
from leyden.edge import heartbeat
from leyden.edge.websocket import server as edge_server
from leyden.events import (
    AuthenticationConfigured,
    AuthenticationWarning,
    ClientDisconnected,
    ReplicationResumed,
    SessionEnded,
    TokenRenewed,
)
from leyden.postgres.clients import ClientStore
from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from speaker import SECRET, SUBSCRIPTION, Configure, Running, ours, serving, token, until


def _foreign(app: Any, port: int) -> uvicorn.Config:
    return uvicorn.Config(app, ws="websockets-sansio", log_config=None, lifespan="on", timeout_graceful_shutdown=5)


@pytest.fixture
def settings(database: str) -> Settings:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("CREATE TABLE items (id text PRIMARY KEY, content text)")
        conn.execute("CALL electric.electrify('items')")
        conn.execute("INSERT INTO items VALUES ('1', 'one'), ('2', 'two')")
    return load_settings(
        {
            "DATABASE_URL": database_url(database),
            "AUTH_JWT_ALG": "HS256",
            "AUTH_JWT_KEY": SECRET,
            "AUTH_JWT_LEEWAY": "0",
            "DATABASE_REQUIRE_SSL": "false",
        }
    )


@pytest.fixture
async def running(settings: Settings) -> AsyncIterator[Running]:
    async with serving(settings) as running:
        yield running


# ---- everywhere -----------------------------------------------------------------------------------------------------


def _mounted(app: Starlette) -> Starlette:
    return Starlette(routes=[Mount("/sync", app)], lifespan=lambda _: app.router.lifespan_context(app))


@pytest.mark.parametrize(
    ("configure", "wrap", "path"),
    [(ours, None, "/ws"), (_foreign, None, "/ws"), (_foreign, _mounted, "/sync/ws"), (ours, _mounted, "/sync/ws")],
    ids=["our server", "a foreign server", "mounted, foreign server", "mounted, our server"],
)
async def test_rows_reach_a_client(settings: Settings, configure: Configure, wrap: Any, path: str) -> None:
    async with serving(settings, configure, wrap or (lambda app: app)) as running, running.speaker(path) as speaker:
        assert (await speaker.authenticate(token())).WhichOneof("result") == "message"
        await speaker.start()
        assert sorted(await speaker.subscribe("items")) == ["1", "2"]
        with psycopg.connect(running.service.dsn, autocommit=True) as conn:
            conn.execute("INSERT INTO items VALUES ('3', 'three')")
        log = (await speaker.until(pb.SatOpLog))[-1]
        assert [op.insert.row_data.values[0] for op in log.ops if op.HasField("insert")] == [b"3"]


# ---- before authentication ------------------------------------------------------------------------------------------


async def test_a_silent_client_is_dropped_at_the_deadline(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_connection, "AUTHENTICATION_DEADLINE", 0.1)
    async with running.speaker() as speaker:
        assert await speaker.closed() == (1008, "")
    assert running.of(ClientDisconnected)[-1].reason == "did not authenticate in time"


@pytest.mark.parametrize("message", [pb.SatOpLog(), pb.SatRelation(), pb.SatOpLogAck(), pb.SatRpcResponse()])
async def test_nothing_but_a_call_is_looked_at_before_authentication(running: Running, message: Message) -> None:
    async with running.speaker() as speaker:
        await speaker.send(message)
        assert (await speaker.receive()).error_type == pb.SatErrorResp.AUTH_REQUIRED  # type: ignore[attr-defined]
        assert await speaker.closed() == (1007, "")


@pytest.mark.parametrize("fragments", [1, 4])
async def test_a_large_message_before_authentication_is_refused_by_length(running: Running, fragments: int) -> None:
    async with running.speaker() as speaker:
        await speaker.websocket.send([bytes(40_000 // fragments)] * fragments)
        assert (await speaker.closed())[0] == 1009


async def test_endless_empty_fragments_are_refused(running: Running) -> None:
    async with running.speaker() as speaker:
        with contextlib.suppress(ConnectionClosed):
            await speaker.websocket.send([b""] * 5_000)
        assert (await speaker.closed())[0] == 1009


async def test_a_text_message_is_refused(running: Running) -> None:
    async with running.speaker() as speaker:
        await speaker.websocket.send("hello")
        assert (await speaker.closed())[0] == 1003


@pytest.mark.parametrize(
    "head",
    [b"GET / HTTP/1.1\r\nX: " + bytes(100) * 1_000, b"GET /" + b"a" * 100_000, b"\0\0\0\0\r\n\r\n"],
    ids=["a header", "a path", "no HTTP"],
)
async def test_an_endless_or_broken_request_is_refused(running: Running, head: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(head)
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 400")
    writer.close()


async def test_an_upgrade_with_too_many_headers_is_answered(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(b"GET /ws HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" + b"A: b\r\n" * 500 + b"\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 431")
    writer.close()


async def test_a_request_that_never_ends_is_dropped(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_server, "REQUEST_HEAD_DEADLINE", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(b"GET / HTTP/1.1\r\n")
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


# ---- tokens ---------------------------------------------------------------------------------------------------------


async def test_a_running_client_is_told_that_its_token_expired(running: Running) -> None:
    async with running.speaker() as speaker:
        await speaker.authenticate(token(lifetime=1))
        await speaker.start()
        assert await speaker.closed() == (4000, "JWT-expired")


async def test_a_client_that_has_not_started_is_not_told(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_connection, "EXPIRED_GRACE", 0.5)
    async with running.speaker() as speaker:
        await speaker.authenticate(token(lifetime=1))
        assert await speaker.closed() == (1008, "")


async def test_a_token_that_expires_while_replication_starts_lets_nothing_out(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = running.service.core
    assert core is not None
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def forget(*_: object) -> None:
        reached.set()
        await go_on.wait()

    monkeypatch.setattr(core.clients, "forget", forget)
    async with running.speaker() as speaker:
        await speaker.authenticate(token(lifetime=1))
        start = pb.SatInStartReplicationReq().SerializeToString()
        await speaker.send(pb.SatRpcRequest(method=rpc.START_REPLICATION, request_id=9, message=start))
        await reached.wait()
        await until(lambda: running.of(SessionEnded) != [])
        go_on.set()
        # not told JWT-expired, which it would take for a crash before its call is answered
        assert await speaker.closed() == (1008, "")
    assert running.of(ReplicationResumed) == []


async def test_a_client_that_stops_replication_when_its_token_is_over_is_closed_all_the_same(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_connection, "SETTLING", 5.0)  # longer than the token lives
    async with running.speaker() as speaker:
        await speaker.authenticate(token(lifetime=1))
        await speaker.start()
        await until(lambda: running.of(SessionEnded) != [])
        stop = pb.SatInStopReplicationReq().SerializeToString()
        await speaker.send(pb.SatRpcRequest(method=rpc.STOP_REPLICATION, request_id=9, message=stop))
        assert await speaker.closed() == (1008, "")


async def test_a_renewed_token_replaces_the_deadline(running: Running) -> None:
    async with running.speaker() as speaker:
        await speaker.authenticate(token(lifetime=1))
        await speaker.start()
        assert (await speaker.authenticate(token())).WhichOneof("result") == "message"
        with pytest.raises(TimeoutError):
            await speaker.closed(3)
    assert len(running.of(TokenRenewed)) == 1


@pytest.mark.parametrize(
    "renewed", [token("bob"), token(iss="elsewhere"), token(lifetime=-5)], ids=["user", "issuer", "expired"]
)
async def test_a_renewal_that_changes_who_speaks_ends_the_connection(running: Running, renewed: str) -> None:
    async with running.speaker() as speaker:
        await speaker.authenticate(token())
        await speaker.start()
        answer = await speaker.authenticate(renewed)
        assert answer.error.error_type == pb.SatErrorResp.INVALID_REQUEST
        assert await speaker.closed() == (1007, "")


async def test_renewals_are_limited_in_number(running: Running) -> None:
    async with running.speaker() as speaker:
        await speaker.authenticate(token())
        assert (await speaker.authenticate(token())).WhichOneof("result") == "message"
        answer = await speaker.authenticate(token())
        assert answer.error.message == "renewal_too_frequent"
        assert await speaker.closed() == (1007, "")


async def test_no_event_holds_a_token_or_the_key(running: Running) -> None:
    good, bad = token(), token()[:-4] + "AAAA"
    for text in (good, bad):
        async with running.speaker() as speaker:
            await speaker.authenticate(text)
    shown = repr(running.events)
    assert SECRET not in shown
    assert not any(segment in shown for segment in (*good.split(".")[1:], *bad.split(".")[1:]))
    (configured,) = running.of(AuthenticationConfigured)
    assert (configured.mode, configured.algorithms, len(configured.keys)) == ("secure", ("HS256",), 1)


async def test_insecure_mode_warns_at_start_and_refuses_foreign_pages(database: str) -> None:
    settings = load_settings({"DATABASE_URL": database_url(database), "AUTH_MODE": "insecure"})
    async with serving(settings) as running:
        assert any("AUTH_MODE=insecure" in warning.message for warning in running.of(AuthenticationWarning))
        async with running.speaker():
            pass
        with pytest.raises(InvalidStatus) as caught:
            async with connect(running.url, subprotocols=["electric.0.12"], origin="https://evil.example"):  # type: ignore[arg-type]
                pass
        assert caught.value.response.status_code == 403


# ---- lives of connections -------------------------------------------------------------------------------------------


async def test_the_newer_connection_of_a_client_wins(running: Running) -> None:
    async with running.speaker() as older, running.speaker() as newer:
        await older.authenticate(token())
        await older.start()
        await newer.authenticate(token())
        assert await older.closed() == (1008, "")
        await newer.start()
        assert [connection.client_id for connection in running.service.connections] == ["device-a"]


async def test_a_client_that_did_not_hear_which_rows_to_drop_is_told_once_more(running: Running) -> None:
    async with running.speaker() as speaker:
        await speaker.authenticate(token())
        await speaker.start()
        await speaker.subscribe("items")
        subscribed_at = speaker.lsn
        assert await speaker.unsubscribe() == {"1", "2"}
    # as if the last message had not arrived
    async with running.speaker() as speaker:
        await speaker.authenticate(token())
        await speaker.start(lsn=subscribed_at, subscription_ids=[SUBSCRIPTION])
        assert await speaker.unsubscribe() == {"1", "2"}


async def test_a_connection_comes_after_all_that_the_one_before_it_had_under_way(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel_at_once = ClientStore.cancel_subscriptions
    asked_for, cancelled = asyncio.Event(), asyncio.Event()

    async def cancel_when_it_is_too_late(store: ClientStore, *arguments: Any) -> int:
        asked_for.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.2)
            await cancel_at_once(store, *arguments)  # it had reached Postgres before
            cancelled.set()
            raise
        return 0

    monkeypatch.setattr(ClientStore, "cancel_subscriptions", cancel_when_it_is_too_late)
    async with running.speaker() as first, running.speaker() as second:
        await first.authenticate(token())
        await first.start()
        await first.subscribe("items")
        await first.call(rpc.UNSUBSCRIBE, pb.SatUnsubsReq(subscription_ids=[SUBSCRIPTION]))
        await asked_for.wait()
        monkeypatch.undo()
        await second.authenticate(token())
        await second.start(lsn=first.lsn, subscription_ids=[SUBSCRIPTION])
        with psycopg.connect(running.service.dsn, autocommit=True) as conn:
            conn.execute("UPDATE items SET content = 'three' WHERE id = '1'")
        (*_, log) = await second.until(pb.SatOpLog)
    await cancelled.wait()
    async with running.speaker() as third:
        await third.authenticate(token())
        await third.start(lsn=log.ops[0].begin.lsn, subscription_ids=[SUBSCRIPTION])
        assert await third.unsubscribe() == {"1", "2"}


@pytest.mark.parametrize("and_more", [False, True], ids=["at once", "with other rows since"])
async def test_a_client_that_heard_which_rows_to_drop_holds_none_of_them(running: Running, *, and_more: bool) -> None:
    ids = [SUBSCRIPTION, f"{SUBSCRIPTION[:-1]}2"]
    async with running.speaker() as speaker:
        await speaker.authenticate(token())
        await speaker.start()
        assert await speaker.subscribe("items", "this.content = 'two'", number=2) == ["2"]
        assert await speaker.subscribe("items", "this.content = 'one'") == ["1"]
        assert await speaker.unsubscribe() == {"1"}
        if and_more:
            assert await speaker.subscribe("items", "this.id = '3'", number=3) == []
        position = speaker.lsn
    with psycopg.connect(running.service.dsn, autocommit=True) as conn:
        conn.execute("UPDATE items SET content = 'two' WHERE id = '1'")
    async with running.speaker() as speaker:
        await speaker.authenticate(token())
        await speaker.start(lsn=position, subscription_ids=ids)
        *_, log = await speaker.until(pb.SatOpLog)
        assert [op.insert.row_data.values[0] for op in log.ops if op.HasField("insert")] == [b"1"]


async def test_a_stopped_stream_delivers_nothing_more_and_leaves_no_job(running: Running) -> None:
    async with running.speaker() as speaker:
        await speaker.authenticate(token())
        before = len(asyncio.all_tasks())
        for _ in range(5):
            await speaker.start()
            await speaker.call(rpc.STOP_REPLICATION, pb.SatInStopReplicationReq())
        await until(lambda: len(asyncio.all_tasks()) == before)


async def test_a_client_that_has_gone_leaves_nothing_for_the_garbage_collector(running: Running) -> None:
    """It comes by rarely. And the register of sessions looks at one when its token expires."""
    gc.collect()
    gc.disable()
    try:
        async with running.speaker() as speaker:
            await speaker.authenticate(token())
            await speaker.start()
            await speaker.subscribe("items")
            await speaker.upload("a")
            left = [
                weakref.ref(one) for one in (*running.service.connections, *running.server.server_state.connections)
            ]
            assert len(left) == 2
        await until(lambda: not any(one() for one in left))
    finally:
        gc.enable()


async def test_a_client_that_asks_for_more_deliveries_than_may_wait_is_dropped(
    running: Running, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_connection, "WAITING_DELIVERIES", 3)
    async with running.speaker() as speaker, await psycopg.AsyncConnection.connect(database) as blocking:
        await speaker.authenticate(token())
        await speaker.start()
        # the first withdrawal waits for the table, the others for the first
        await blocking.execute("LOCK TABLE leyden.client_subscriptions")
        request = pb.SatUnsubsReq(subscription_ids=[SUBSCRIPTION]).SerializeToString()
        for number in range(100, 106):
            await speaker.send(pb.SatRpcRequest(method=rpc.UNSUBSCRIBE, request_id=number, message=request))
        assert await speaker.closed() == (1008, "")


async def test_a_client_that_answers_no_ping_is_dropped(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "PING_INTERVAL", 0.1)
    monkeypatch.setattr(heartbeat, "TICK", 0.05)
    async with running.speaker() as healthy, running.speaker() as dead:
        await healthy.authenticate(token(), "device-a")
        await dead.authenticate(token(), "device-b")
        dead.websocket.transport.pause_reading()
        await until(lambda: [c.client_id for c in running.service.connections] == ["device-a"])
        dead.websocket.transport.resume_reading()
        assert await dead.closed() == (1011, "Client not responding to pings")
        await healthy.start()


async def test_neither_does_one_that_answers_no_ping(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "PING_INTERVAL", 0.1)
    monkeypatch.setattr(heartbeat, "TICK", 0.05)
    gc.collect()
    gc.disable()
    try:
        async with running.speaker() as dead:
            await dead.authenticate(token())
            left = [weakref.ref(one) for one in running.service.connections]
            dead.websocket.transport.pause_reading()
            await until(lambda: running.service.connections == ())
            dead.websocket.transport.resume_reading()
        assert len(left) == 1
        await until(lambda: not any(one() for one in left))
    finally:
        gc.enable()


async def test_stopping_closes_with_1001(settings: Settings) -> None:
    async with serving(settings) as running, running.speaker() as speaker:
        await speaker.authenticate(token())
        await speaker.start()
        running.server.should_exit = True
        assert (await speaker.closed())[0] == 1001


async def test_stopping_finishes_the_uploads_received(settings: Settings) -> None:
    async with serving(settings) as running, running.speaker() as speaker:
        dsn = running.service.dsn
        await speaker.authenticate(token())
        await speaker.start()
        await speaker.start_uploading()
        async with await psycopg.AsyncConnection.connect(dsn) as blocker:
            await blocker.execute("LOCK TABLE items IN SHARE MODE")
            await speaker.upload("u1", "u2", "u3")
            core = running.service.core
            assert core is not None
            await until(lambda: any(not connection._uploads.empty for connection in core.open))
            running.server.should_exit = True
            assert (await speaker.closed())[0] == 1001
        await until(lambda: not core.writes)
        with psycopg.connect(dsn) as conn:
            assert conn.execute("SELECT id FROM items WHERE id LIKE 'u%' ORDER BY id").fetchall() == [
                ("u1",),
                ("u2",),
                ("u3",),
            ]


async def test_a_new_history_ends_every_connection_authenticated_or_not(running: Running) -> None:
    async with running.speaker() as started, running.speaker() as waiting:
        await started.authenticate(token())
        await started.start()
        pool = running.service._pool
        assert pool is not None
        running.service._assemble(pool)
        assert (await started.closed())[0] == 1012
        assert (await waiting.closed())[0] == 1012
        async with running.speaker() as next_one:
            await next_one.authenticate(token())
            await next_one.start()


async def test_postgres_going_away_is_seen_and_its_return_too(running: Running) -> None:
    service = running.service
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database()"
        )
    await until(lambda: not service.ready)
    assert service.reason == "replication interrupted"
    with pytest.raises(InvalidStatus) as caught:
        async with running.speaker():
            pass
    assert caught.value.response.status_code == 503
    await until(lambda: service.ready)
    async with running.speaker() as speaker:
        await speaker.authenticate(token())
        await speaker.start()
