"""The stock client with filtered shapes: it has exactly the rows that pass, whatever happens to them meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from interop.client import Driver
from interop.conftest import Factory, ServiceFactory
from interop.service import Leyden
from interop.tables import complaints, connected, create_items, id_of
from interop.test_authentication import Issuer

BIG = "this.n > 10"
ODD = "this.n % 2 = 1"


async def settled(driver: Driver, conn: psycopg.Connection[Any], where: Sequence[str], client: str = "a") -> None:
    """Waits for a row that every filter here lets pass, then compares the client's rows with Postgres' own."""
    marker = id_of(conn.execute("INSERT INTO markers DEFAULT VALUES RETURNING n").fetchone()[0])  # type: ignore[index]
    conn.execute("INSERT INTO items VALUES (%s, 'marker', 1001)", [marker])
    await driver("waitRow", client=client, sql=f"SELECT * FROM items WHERE id = '{marker}'", timeoutMs=20000)
    either = " OR ".join(f"({one})" for one in where)
    expected = conn.execute(f"SELECT id::text, content, n FROM items AS this WHERE {either} ORDER BY id").fetchall()  # type: ignore[arg-type]
    rows = await driver("query", client=client, sql="SELECT id, content, n FROM items ORDER BY id")
    assert [tuple(row.values()) for row in rows] == expected
    assert complaints(driver) == []


async def has_let_go(driver: Driver, count: int) -> None:
    await driver("waitRow", client="a", sql="SELECT count(*) AS n FROM items", expect={"n": count}, timeoutMs=20000)


def filled(conn: psycopg.Connection[Any]) -> None:
    create_items(conn, 20)
    conn.execute("CREATE TABLE markers (n int4 GENERATED ALWAYS AS IDENTITY (START 1000) PRIMARY KEY)")


@pytest.fixture
async def service(leyden: ServiceFactory) -> Leyden:
    return await leyden(AUTH_MODE="insecure")


async def test_rows_come_stay_and_go_as_they_pass(service: Leyden, driver: Factory) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        filled(conn)
        await connected(client, service, "a")
        await client("sync", client="a", table="items", where=BIG, wait=True)
        assert len(await client("query", client="a", sql="SELECT * FROM items")) == 10
        conn.execute("UPDATE items SET n = n + 5")  # five come, ten stay
        await settled(client, conn, [BIG])
        conn.execute("UPDATE items SET n = 0 WHERE n < 20")
        conn.execute("DELETE FROM items WHERE n = 20")
        await settled(client, conn, [BIG])
        with conn.transaction():  # goes and comes back; comes and goes; changes and goes
            conn.execute("UPDATE items SET n = 0 WHERE n = 21")
            conn.execute("UPDATE items SET n = 50, content = 'back' WHERE id = %s", [id_of(16)])
            conn.execute("UPDATE items SET n = 60 WHERE id = %s", [id_of(1)])
            conn.execute("UPDATE items SET n = 1 WHERE id = %s", [id_of(1)])
            conn.execute("UPDATE items SET content = 'last words' WHERE n = 22")
            conn.execute("UPDATE items SET n = 2 WHERE n = 22")
        await settled(client, conn, [BIG])
        conn.execute("TRUNCATE items")
        await settled(client, conn, [BIG])


async def test_a_row_stays_until_the_last_filter_lets_go(service: Leyden, driver: Factory) -> None:
    client = await driver()
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        filled(conn)
        await connected(client, service, "a")
        await client("sync", client="a", table="items", where=BIG, key="big", wait=True)
        await client("sync", client="a", table="items", where=ODD, key="odd", wait=True)
        await settled(client, conn, [BIG, ODD])
        conn.execute("UPDATE items SET n = n - 6 WHERE n < 1000")
        await settled(client, conn, [BIG, ODD])
        await client("unsubscribe", client="a", key="big")
        held = conn.execute(f"SELECT count(*) FROM items AS this WHERE {ODD}").fetchone()  # type: ignore[arg-type]
        assert held is not None
        await has_let_go(client, held[0])
        conn.execute("UPDATE items SET n = n + 1 WHERE n < 1000")
        await settled(client, conn, [ODD])
        await client("sync", client="a", table="items", wait=True)
        await settled(client, conn, ["true"])


@pytest.mark.parametrize("restart", [False, True], ids=["same process", "after a restart"])
async def test_a_client_that_was_away_has_what_passes_now(
    leyden: ServiceFactory, driver: Factory, *, restart: bool
) -> None:
    client = await driver()
    service = await leyden(AUTH_MODE="insecure")
    port = int(service.url.rpartition(":")[2])
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        filled(conn)
        await connected(client, service, "a")
        await client("sync", client="a", table="items", where=BIG, wait=True)
        await settled(client, conn, [BIG])
        await client("disconnect", client="a")
        conn.execute("UPDATE items SET n = 20 - n WHERE n < 1000")
        conn.execute("DELETE FROM items WHERE n = 3")
        if restart:
            assert await service.stop() == 0
            conn.execute("UPDATE items SET content = 'while nobody listened' WHERE n IN (11, 12)")
            await leyden(AUTH_MODE="insecure", port=port)
        await client("connect", client="a", timeoutMs=10000)
        await settled(client, conn, [BIG])


DOCS = {
    "tables": {"docs": {"columns": {"id": "uuid", "org": "text", "electric_user_id": "text"}, "pk": ["id"]}},
    "migrations": [],
}
ORG = "this.org = auth.claims ->> 'org'"


def create_docs(conn: psycopg.Connection[Any]) -> None:
    """Documents 1 to 6 of two organisations; 3 and 6 belong to no user."""
    conn.execute("CREATE TABLE docs (id uuid PRIMARY KEY, org text, electric_user_id text)")
    conn.execute("CALL electric.electrify('docs')")
    conn.execute(
        "INSERT INTO docs SELECT ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, o, u"
        " FROM unnest(ARRAY['x', 'x', 'x', 'y', 'y', 'x'], ARRAY['alice', 'bob', NULL, 'alice', 'bob', ''])"
        " WITH ORDINALITY AS rows (o, u, i)"
    )


async def docs_of(driver: Driver, client: str) -> str:
    rows = await driver("query", client=client, sql="SELECT id FROM docs ORDER BY id")
    return "".join(row["id"][-1] for row in rows)


async def test_a_client_gets_the_rows_of_its_claims_and_of_its_user(leyden: ServiceFactory, driver: Factory) -> None:
    client, issuer = await driver(), Issuer("HS256")
    service = await leyden(**issuer.env)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_docs(conn)
        for name, user, org in (("a", "alice", "x"), ("b", "bob", "y")):
            await connected(client, service, name, schema=DOCS, token=issuer.token(user, org=org))
            await client("sync", client=name, table="docs", where=ORG, wait=True)
        assert (await docs_of(client, "a"), await docs_of(client, "b")) == ("136", "5")
        with conn.transaction():
            conn.execute("UPDATE docs SET electric_user_id = 'bob', org = 'y' WHERE id = %s", [id_of(1)])
            conn.execute("UPDATE docs SET electric_user_id = 'alice', org = 'x' WHERE id = %s", [id_of(5)])
        for name, arrived in (("a", 5), ("b", 1)):
            await client("waitRow", client=name, sql=f"SELECT * FROM docs WHERE id = '{id_of(arrived)}'")
        assert (await docs_of(client, "a"), await docs_of(client, "b")) == ("356", "1")
        assert complaints(client) == []


async def test_a_client_whose_claims_change_lets_go_of_the_rows_and_gets_those_of_the_new_ones(
    leyden: ServiceFactory, driver: Factory
) -> None:
    client, issuer = await driver(), Issuer("HS256")
    service = await leyden(**issuer.env)
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_docs(conn)
        await connected(client, service, "a", schema=DOCS, token=issuer.token("alice", org="x"))
        await client("sync", client="a", table="docs", where=ORG, wait=True)
        assert await docs_of(client, "a") == "136"
        await client("disconnect", client="a")
        await client("connect", client="a", token=issuer.token("alice", org="y"), timeoutMs=10000)
        await client("waitRow", client="a", sql="SELECT count(*) AS n FROM docs", expect={"n": 0}, timeoutMs=20000)
        await client("sync", client="a", table="docs", where=ORG, key="again", wait=True)
        assert await docs_of(client, "a") == "4"
