"""Until when, and in whose name, a running service writes what it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg import sql

from interop.service import database_url
from leyden.config import Settings, load_settings
from leyden.events import ClientRefused
from leyden.satellite import satellite_pb2 as pb
from speaker import SECRET, Running, Speaker, serving, token, until


def configured(database: str, **more: str) -> Settings:
    env = {
        "DATABASE_URL": database_url(database),
        "AUTH_JWT_ALG": "HS256",
        "AUTH_JWT_KEY": SECRET,
        "AUTH_JWT_LEEWAY": "0",
        "DATABASE_REQUIRE_SSL": "false",
    }
    return load_settings(env | more)


@pytest.fixture
def table(database: str) -> str:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("CREATE TABLE items (id text PRIMARY KEY, content text)")
        conn.execute("CALL electric.electrify('items')")
    return database


@pytest.fixture
async def running(table: str) -> AsyncIterator[Running]:
    async with serving(configured(table)) as running:
        yield running


def stored(running: Running) -> list[str]:
    with psycopg.connect(running.service.dsn) as conn:
        return [key for (key,) in conn.execute("SELECT id FROM items ORDER BY id")]


@asynccontextmanager
async def writing(speaker: Speaker, running: Running, *, lifetime: float, **claims: object) -> AsyncIterator[None]:
    """``speaker`` has uploaded two rows, and Postgres does not take the first of them yet."""
    async with await psycopg.AsyncConnection.connect(running.service.dsn) as blocker:
        await blocker.execute("LOCK TABLE items IN SHARE MODE")
        await speaker.authenticate(token(lifetime=lifetime, **claims))
        await speaker.start()
        await speaker.start_uploading()
        await speaker.upload("u1", "u2")
        blocked = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        async with await psycopg.AsyncConnection.connect(running.service.dsn, autocommit=True) as observer:
            while await (await observer.execute(blocked)).fetchone() != (1,):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield


async def settled(running: Running) -> None:
    core = running.service.core
    assert core is not None
    await until(lambda: not core.writes)


async def test_what_was_received_is_written_though_the_client_has_gone(running: Running) -> None:
    async with running.speaker() as speaker, writing(speaker, running, lifetime=600):
        await speaker.websocket.close()
    await settled(running)
    assert stored(running) == ["u1", "u2"]


async def test_an_expired_session_writes_nothing_more(running: Running) -> None:
    async with running.speaker() as speaker:
        async with writing(speaker, running, lifetime=2):
            assert await speaker.closed() == (4000, "JWT-expired")
        await settled(running)
    assert stored(running) == []
    async with running.speaker() as speaker:  # with a fresh token it sends all of it again
        await speaker.authenticate(token())
        await speaker.start()
        await speaker.start_uploading()
        await speaker.upload("u1", "u2")
        await speaker.until(pb.SatOpLog)
    await settled(running)
    assert stored(running) == ["u1", "u2"]


async def test_a_token_that_expires_after_the_client_has_gone_ends_the_writing(running: Running) -> None:
    async with running.speaker() as speaker, writing(speaker, running, lifetime=2):
        await speaker.websocket.close()
        await settled(running)
    assert stored(running) == []


async def test_a_token_that_is_revoked_after_the_client_has_gone_ends_the_writing(running: Running) -> None:
    async with running.speaker() as speaker, writing(speaker, running, lifetime=600, jti="lost"):
        await speaker.websocket.close()
        await until(lambda: running.service.open_connections == 0)
        with psycopg.connect(running.service.dsn, autocommit=True) as conn:
            conn.execute("INSERT INTO leyden.revocations (kind, value) VALUES ('jti', 'lost')")
        await settled(running)
    assert stored(running) == []


# ---- database roles -------------------------------------------------------------------------------------------------

AUDIT = """
CREATE TABLE audit (role text, claims jsonb);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.audit VALUES (current_user, current_setting('request.jwt.claims')::jsonb);
    RETURN NEW;
END $$;
CREATE TRIGGER audit BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION audit();
"""


@pytest.fixture
async def roles(table: str) -> AsyncIterator[Mapping[str, str]]:
    """A reader and a writer; the values are their names, which are the cluster's."""
    with psycopg.connect(table, autocommit=True) as conn:
        names = {kind: f"{kind}_{conn.info.dbname}" for kind in ("reader", "writer")}
        reader, writer = map(sql.Identifier, names.values())
        conn.execute(AUDIT)
        conn.execute(sql.SQL("CREATE ROLE {} NOLOGIN; CREATE ROLE {} NOLOGIN").format(reader, writer))
        conn.execute(sql.SQL("GRANT INSERT ON audit TO {}, {}").format(reader, writer))
        conn.execute(sql.SQL("GRANT SELECT ON items TO {}").format(reader))
        conn.execute(sql.SQL("GRANT SELECT, INSERT ON items TO {}").format(writer))
        yield names
        conn.execute(sql.SQL("DROP OWNED BY {}, {}").format(reader, writer))
        conn.execute(sql.SQL("DROP ROLE {}, {}").format(reader, writer))


async def test_the_claims_of_a_renewed_token_count_for_what_is_written_then(
    table: str, roles: Mapping[str, str]
) -> None:
    settings = configured(table, AUTH_DB_ROLE_CLAIM="role", AUTH_DB_ROLES=",".join(roles.values()))
    async with serving(settings) as running, running.speaker() as speaker:
        await speaker.authenticate(token(role=roles["writer"], plan="free"))
        await speaker.start()
        await speaker.start_uploading()
        await speaker.upload("1", "2")
        await until(lambda: stored(running) == ["1", "2"])
        await speaker.authenticate(token(role=roles["writer"], plan="paid"))
        await speaker.upload("1", "2", "3")  # what was applied is not applied again
        await until(lambda: stored(running) == ["1", "2", "3"])
        with psycopg.connect(table) as conn:
            seen = conn.execute("SELECT role, claims ->> 'sub', claims ->> 'plan' FROM audit").fetchall()
        assert seen == [(roles["writer"], "alice", plan) for plan in ("free", "free", "paid")]


async def test_a_role_that_may_only_read_writes_nothing(table: str, roles: Mapping[str, str]) -> None:
    async with serving(configured(table, AUTH_DB_ROLE=roles["reader"])) as running, running.speaker() as speaker:
        await speaker.authenticate(token(role=roles["writer"]))  # nobody asked for that claim
        await speaker.start()
        await speaker.start_uploading()
        await speaker.upload("1")
        with psycopg.connect(table, autocommit=True) as conn:
            refused = "SELECT user_id, sqlstate, message FROM leyden.rejected"
            await until(lambda: conn.execute(refused).fetchone() is not None)
            assert conn.execute(refused).fetchall() == [("alice", "42501", "permission denied for table items")]
        assert stored(running) == []


async def test_whoever_claims_no_role_of_the_list_is_not_let_in(table: str, roles: Mapping[str, str]) -> None:
    settings = configured(table, AUTH_DB_ROLE_CLAIM="role", AUTH_DB_ROLES=roles["reader"])
    async with serving(settings) as running:
        for claims, code in (
            ({}, "role_missing"),
            ({"role": roles["writer"]}, "role_not_allowed"),
            ({"role": "postgres"}, "role_not_allowed"),
            ({"role": [roles["reader"]]}, "role_not_allowed"),
            ({"role": roles["reader"], "x": "\0"}, "payload_invalid"),
        ):
            async with running.speaker() as speaker:
                answer = await speaker.authenticate(token(**claims))
                assert (answer.error.error_type, answer.error.message) == (pb.SatErrorResp.AUTH_REQUIRED, code)
                assert await speaker.closed() == (1007, "")
        assert len(running.of(ClientRefused)) == 5
        async with running.speaker() as speaker:
            assert (await speaker.authenticate(token(role=roles["reader"]))).WhichOneof("result") == "message"
            answer = await speaker.authenticate(token(role=roles["writer"]))
            assert answer.error.message == "role_not_allowed"
            assert await speaker.closed() == (1007, "")


async def test_a_service_does_not_start_to_serve_with_a_role_above_policies(
    table: str, roles: Mapping[str, str]
) -> None:
    with psycopg.connect(table, autocommit=True) as conn:
        conn.execute(sql.SQL("ALTER ROLE {} BYPASSRLS").format(sql.Identifier(roles["writer"])))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3), serving(configured(table, AUTH_DB_ROLE=roles["writer"])):
                pass
        conn.execute(sql.SQL("ALTER ROLE {} NOBYPASSRLS").format(sql.Identifier(roles["writer"])))
