"""Input that no stock client sends: what the sender is told, and that nobody else notices.

Throughout, a stock client stays connected to the same service and must go on receiving rows.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from interop.client import Driver, DriverError
from interop.conftest import Factory
from interop.service import Leyden, database_url
from interop.tables import ITEMS, complaints, connected, create_items, id_of
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import encode

SUBPROTOCOL = "electric.0.12"
NOT_SATELLITE = (1007, "Message not formatted according to Electric protocol")
INTERNAL, AUTH_REQUIRED, INVALID_REQUEST = "INTERNAL", "AUTH_REQUIRED", "INVALID_REQUEST"


class Bystander:
    """A stock client that has nothing to do with any of this."""

    def __init__(self, driver: Driver, conn: psycopg.Connection) -> None:
        self.conn = conn
        self._driver = driver
        self._rows = itertools.count(1)

    async def assert_receives_rows(self) -> None:
        n = next(self._rows)
        self.conn.execute("INSERT INTO items VALUES (%s, 'as ever', %s)", [id_of(n), n])
        await self._driver("waitRow", client="bystander", sql=f"SELECT * FROM items WHERE id = '{id_of(n)}'")

    async def assert_undisturbed(self) -> None:
        await self.assert_receives_rows()
        assert len(await self._driver("wire", client="bystander", type="SatAuthReq", dir="sent")) == 1
        assert complaints(self._driver) == []


@pytest.fixture
def conn(service: Leyden) -> Iterator[psycopg.Connection]:
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        create_items(conn)
        yield conn


@pytest.fixture
async def bystander(service: Leyden, conn: psycopg.Connection, driver: Factory) -> AsyncIterator[Bystander]:
    client = await driver()
    await connected(client, service, "bystander", "items")
    bystander = Bystander(client, conn)
    yield bystander
    await bystander.assert_undisturbed()
    assert "unexpected error" not in service.log


def websocket_url(service: Leyden) -> str:
    return f"{service.url.replace('http', 'ws')}/ws"


class Speaker:
    """The bare protocol speaker with one connection after another."""

    def __init__(self, raw: Driver, service: Leyden) -> None:
        self._raw = raw
        self._service = service
        self._token = ""
        self.name = ""
        self._names = itertools.count(1)

    async def __call__(self, command: str, **arguments: Any) -> Any:
        return await self._raw(command, conn=self.name, **arguments)

    async def open(self) -> None:
        number = next(self._names)
        self.name = f"speaker-{number}"
        # from an address of its own: one that fails often has to wait
        headers = {"x-forwarded-for": f"198.51.{number // 200}.{number % 200 + 1}"}
        assert (await self("open", url=websocket_url(self._service), headers=headers))["accepted"]

    async def login(self) -> int:
        """A new connection that replicates; returns the number of its last frame."""
        await self.open()
        token = (await self._raw("token", claims={"sub": "mallory"}))["token"]
        await self("login", token=token, clientId=self.name)
        await self("wait", match={"type": "SatRpcRequest", "method": "startReplication"})
        return (await self("state"))["frames"]

    async def outcome(self, since: int) -> tuple[list[str], int, str]:
        """What came after frame ``since`` and how the connection ended."""
        closed = await self("waitClosed")
        frames = await self("frames", since=since, dir="recv")
        return [described(frame) for frame in frames], closed["code"], closed["reason"]


def described(frame: dict[str, Any]) -> str:
    if frame["type"] == "SatErrorResp":
        return f"error {frame['errorName']}"
    if frame["type"] == "SatRpcResponse" and "error" in frame:
        return f"{frame['method']} error {frame['error']['errorName']}"
    return frame["type"]


@pytest.fixture
async def speaker(service: Leyden, raw: Factory) -> Speaker:
    return Speaker(await raw(), service)


# ---- before the upgrade -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "body"),
    [
        ([], "Missing satellite websocket subprotocol"),
        (["graphql-ws"], "Missing satellite websocket subprotocol"),
        (
            ["electric.0.99"],
            "Cannot connect satellite version 0.99.0: this server requires >= 0.10.0 and <= 0.12.0",
        ),
    ],
)
async def test_a_handshake_without_a_fitting_subprotocol_is_refused(
    offered: list[str], body: str, service: Leyden, raw: Factory
) -> None:
    speaker = await raw()
    answer = await speaker("open", url=websocket_url(service), protocols=offered)
    assert (answer["accepted"], answer["status"], answer["body"]) == (False, 400, body)


async def test_other_paths_and_plain_requests_are_refused(service: Leyden, raw: Factory) -> None:
    speaker = await raw()
    unknown = await speaker("open", url=f"{service.url.replace('http', 'ws')}/socket")
    assert (unknown["accepted"], unknown["status"], unknown["body"]) == (False, 404, "Not found")
    async with httpx.AsyncClient(base_url=service.url) as http:
        plain = await http.get("/ws")
        assert (plain.status_code, plain.text) == (400, "Bad request")
        nowhere = await http.get("/nowhere")
        assert (nowhere.status_code, nowhere.text) == (404, "Not found")
    assert "unexpected error" not in service.log


# ---- single messages --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """One bad message and its consequences: messages in answer, close code and reason."""

    name: str
    command: str
    arguments: dict[str, Any]
    answers: list[str]
    code: int = 1007
    reason: str = ""


ANYTIME = [
    Case("empty message", "sendBytes", {"hex": ""}, [f"error {INTERNAL}"], *NOT_SATELLITE),
    Case("unknown type", "sendBytes", {"hex": "6300"}, [f"error {INTERNAL}"], *NOT_SATELLITE),
    Case("retired type", "sendBytes", {"hex": "01"}, [f"error {INTERNAL}"], *NOT_SATELLITE),
    Case("not protobuf", "sendBytes", {"hex": "15ffffff"}, [f"error {INTERNAL}"], *NOT_SATELLITE),
    Case("text", "sendText", {"text": "hello"}, [], 1003, "binary messages only"),
    Case("an error", "send", {"type": "SatErrorResp", "value": {"errorType": 0}}, [], 1000),
]


def call(method: str, **arguments: Any) -> dict[str, Any]:
    return {"method": method, "wait": False, "type": "SatAuthReq", **arguments}


UNAUTHENTICATED = [
    *ANYTIME,
    Case(
        "startReplication",
        "rpc",
        {"method": "startReplication", "wait": False},
        ["startReplication error AUTH_REQUIRED"],
    ),
    Case("subscribe", "rpc", {"method": "subscribe", "wait": False}, ["subscribe error AUTH_REQUIRED"]),
    Case("unknown method", "rpc", call("drop"), ["drop error AUTH_REQUIRED"]),
    Case(
        "bad authenticate", "rpc", call("authenticate", message={"$hex": "ff"}), ["authenticate error INVALID_REQUEST"]
    ),
    Case("no client id", "rpc", call("authenticate", value={"token": "x"}), ["authenticate error INVALID_REQUEST"]),
    Case(
        "client id with @",
        "rpc",
        call("authenticate", value={"id": "a@b", "token": "x"}),
        ["authenticate error INVALID_REQUEST"],
    ),
    Case("relation", "send", {"type": "SatRelation", "value": {"tableName": "items"}}, [f"error {AUTH_REQUIRED}"]),
    Case("oplog", "send", {"type": "SatOpLog", "value": {}}, [f"error {AUTH_REQUIRED}"]),
    Case("ack", "send", {"type": "SatOpLogAck", "value": {}}, [f"error {AUTH_REQUIRED}"]),
]

AUTHENTICATED = [
    *ANYTIME,
    Case("unknown method", "rpc", call("drop"), ["drop error INVALID_REQUEST"]),
    Case("bad subscribe", "rpc", call("subscribe", message={"$hex": "ff"}), ["subscribe error INVALID_REQUEST"]),
    Case(
        "second start", "rpc", {"method": "startReplication", "wait": False}, ["startReplication error INVALID_REQUEST"]
    ),
    Case("server's message", "send", {"type": "SatSubsDataBegin", "value": {}}, [f"error {INVALID_REQUEST}"]),
    Case("answer to nothing", "reply", {"method": "startReplication", "requestId": 77}, [f"error {INVALID_REQUEST}"]),
    Case(
        "bad position", "send", {"type": "SatOpLogAck", "value": {"lsn": {"$text": "x"}}}, [f"error {INVALID_REQUEST}"]
    ),
    Case(
        "unknown table",
        "send",
        {"type": "SatRelation", "value": {"schemaName": "public", "tableName": "pg_class", "relationId": 9}},
        [f"error {INVALID_REQUEST}"],
    ),
]


async def run_cases(cases: list[Case], speaker: Speaker, service: Leyden, bystander: Bystander, *, login: bool) -> None:
    for case in cases:
        since = 0
        if login:
            since = await speaker.login()
        else:
            await speaker.open()
        lines = len(service.log.splitlines())
        await speaker(case.command, **case.arguments)
        assert (case.name, *await speaker.outcome(since)) == (case.name, case.answers, case.code, case.reason)
        await bystander.assert_receives_rows()
        told = service.log.splitlines()[lines:]
        violations = [line for line in told if "protocol violated" in line]
        assert (case.name, len(violations)) == (case.name, 0 if case.command == "sendText" else 1)
        assert (case.name, len([line for line in told if "client disconnected" in line])) == (case.name, 1)


async def test_an_unauthenticated_peer_is_told_once_and_closed(
    service: Leyden, speaker: Speaker, bystander: Bystander
) -> None:
    await run_cases(UNAUTHENTICATED, speaker, service, bystander, login=False)


async def test_an_authenticated_peer_is_told_once_and_closed(
    service: Leyden, speaker: Speaker, bystander: Bystander
) -> None:
    await run_cases(AUTHENTICATED, speaker, service, bystander, login=True)


# ---- uploads ----------------------------------------------------------------------------------------


ANNOUNCED = {
    "schemaName": "public",
    "tableName": "items",
    "relationId": 1,
    "columns": [{"name": name, "type": "text", "isNullable": name != "id"} for name in ("id", "content", "n")],
}


BEGIN = {"begin": {"commitTimestamp": "1700000000000", "lsn": {"$hex": "00000001"}}}
COMMIT: dict[str, Any] = {"commit": {}}
NEW = id_of(900_000)


def insert(*row: Any, relation_id: int = 1) -> dict[str, Any]:
    return {"insert": {"relationId": relation_id, "rowData": {"$row": list(row)}, "tags": []}}


def update(old: list[Any], new: list[Any]) -> dict[str, Any]:
    return {"update": {"relationId": 1, "oldRowData": {"$row": old}, "rowData": {"$row": new}, "tags": []}}


@dataclass(frozen=True, slots=True)
class BadUpload:
    name: str
    ops: list[dict[str, Any]]
    message: str = "unexpected error"


BAD_UPLOADS = [
    BadUpload("unknown relation", [BEGIN, insert(NEW, "x", "1", relation_id=5), COMMIT]),
    BadUpload("no begin", [insert(NEW, "x", "1"), COMMIT]),
    BadUpload("commit alone", [COMMIT]),
    BadUpload("two begins", [BEGIN, BEGIN]),
    BadUpload("short lsn", [{"begin": {"commitTimestamp": "1", "lsn": {"$hex": "01"}}}]),
    BadUpload("server's operation", [BEGIN, {"gone": {"relationId": 1, "pkData": {"$row": [NEW, None, None]}}}]),
    BadUpload("too few values", [BEGIN, insert(NEW, "x"), COMMIT]),
    BadUpload("too many values", [BEGIN, insert(NEW, "x", "1", "2"), COMMIT]),
    BadUpload("no row", [BEGIN, {"insert": {"relationId": 1, "tags": []}}, COMMIT]),
    BadUpload(
        "malformed tag",
        [BEGIN, {"delete": {"relationId": 1, "oldRowData": {"$row": [NEW, "x", "1"]}, "tags": ["nobody"]}}, COMMIT],
        "Malformed tag",
    ),
]


async def test_a_bad_upload_is_refused_with_its_reason_and_writes_nothing(
    service: Leyden, speaker: Speaker, bystander: Bystander
) -> None:
    for case in BAD_UPLOADS:
        since = await speaker.login()
        await speaker("send", type="SatRelation", value=ANNOUNCED)
        await speaker("send", type="SatOpLog", value={"ops": case.ops})
        error = await speaker("wait", match={"type": "SatErrorResp"}, since=since)
        assert (case.name, error["errorName"], error["value"]["message"]) == (case.name, INVALID_REQUEST, case.message)
        assert (case.name, (await speaker("waitClosed"))["code"]) == (case.name, 1007)
        await bystander.assert_receives_rows()
    strangers = bystander.conn.execute("SELECT count(*) FROM items WHERE content IS DISTINCT FROM 'as ever'").fetchone()
    assert strangers == (0,)


#: Well formed, and yet not to be applied: name, operation, SQLSTATE and reason.
USELESS_UPLOADS = [
    ("NULL key", insert(None, "x", "1"), "23502", "no key in a row of table items"),
    ("no integer", insert(NEW, "x", "one"), "22000", "column n of table items: a value that is no int4"),
    ("large integer", insert(NEW, "x", "2147483648"), "22000", "column n of table items: a value that is no int4"),
    ("no uuid", insert("7", "x", "1"), "22000", "column id of table items: a value that is no uuid"),
    ("no UTF-8", insert(NEW, {"$hex": "c328"}, "1"), "22000", "column content of table items: a value that is no text"),
    ("changed key", update([NEW, "x", "1"], [id_of(900_001), "x", "1"]), "23000", "change of a key in table items"),
]


async def test_an_upload_that_cannot_be_applied_is_refused_alone(
    service: Leyden, speaker: Speaker, bystander: Bystander
) -> None:
    for number, (name, operation, sqlstate, reason) in enumerate(USELESS_UPLOADS):
        since = await speaker.login()
        await speaker("send", type="SatRelation", value=ANNOUNCED)
        begin = {"begin": {"commitTimestamp": "1700000000001", "lsn": {"$hex": "00000002"}}}
        good = insert(id_of(800_000 + number), "as ever", "1")
        ops = [BEGIN, insert(id_of(900_002), "x", "1"), operation, COMMIT, begin, good, COMMIT]
        await speaker("send", type="SatOpLog", value={"ops": ops})
        # both are answered by an echo
        for timestamp in ("1700000000000", "1700000000001"):
            echo = {"ops": [{"begin": {"commitTimestamp": timestamp, "origin": speaker.name}}]}
            await speaker("wait", match={"type": "SatOpLog", "value": echo}, since=since)
        assert (name, (await speaker("state"))["readyState"]) == (name, 1)
        refused = bystander.conn.execute(
            "SELECT sqlstate, message FROM leyden.rejected WHERE client_id = %s", [speaker.name]
        ).fetchall()
        assert (name, refused) == (name, [(sqlstate, reason)])
        good_row = "SELECT content FROM items WHERE id = %s"
        async with asyncio.timeout(10):  # the stream may be a moment ahead of what others see
            while not (written := bystander.conn.execute(good_row, [id_of(800_000 + number)]).fetchone()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (name, written) == (name, ("as ever",))
        await bystander.assert_receives_rows()
    strangers = bystander.conn.execute("SELECT count(*) FROM items WHERE content IS DISTINCT FROM 'as ever'").fetchone()
    assert strangers == (0,)


# ---- size, noise ------------------------------------------------------------------------------------


async def push(socket: ClientConnection, payload: bytes) -> None:
    """Sends, and waits for whatever comes of it."""
    await socket.send(payload)
    await socket.recv()


@pytest.mark.parametrize(("megabytes", "authenticated"), [(1, False), (40, True)])
async def test_a_message_too_large_is_refused_by_its_length(
    megabytes: int, authenticated: bool, service: Leyden, bystander: Bystander, raw: Factory
) -> None:
    async with connect(websocket_url(service), subprotocols=[SUBPROTOCOL], compression=None) as socket:  # type: ignore[list-item]
        if authenticated:
            token = (await (await raw())("token", claims={"sub": "mallory"}))["token"]
            request = pb.SatAuthReq(id="large", token=token).SerializeToString()
            await socket.send(encode(pb.SatRpcRequest(method="authenticate", request_id=1, message=request)))
            assert pb.SatRpcResponse.FromString(bytes(await socket.recv())[1:]).WhichOneof("result") == "message"
        started = time.monotonic()
        with pytest.raises(ConnectionClosed) as closed:
            await push(socket, b"\x09" + bytes(megabytes << 20))
        assert time.monotonic() - started < 1.0
    if closed.value.rcvd is not None:  # else the connection was cut under the sender, which is as good
        assert closed.value.rcvd.code == 1009
    await bystander.assert_receives_rows()
    assert (
        len([line for line in service.log.splitlines() if "client disconnected" in line and "code=1009" in line]) == 1
    )


async def test_noise_closes_only_its_own_connection(speaker: Speaker, bystander: Bystander) -> None:
    noise = random.Random(4711)
    types = [0, 9, 10, 14, 21, 22, 23, 24]
    for number in range(300):
        if number % 3 == 2:
            await speaker.login()
        else:
            await speaker.open()
        payload = noise.randbytes(noise.randrange(1, 200))
        if number % 2:
            payload = bytes([noise.choice(types)]) + payload
        await speaker("sendBytes", hex=payload.hex())
        if (await speaker("state"))["readyState"] == 1:
            try:
                await speaker("sendBytes", hex="")  # in case the noise made sense
            except DriverError as error:
                assert "socket is clos" in error.message  # noqa: PT017 - the close has come in between
        closed = await speaker("waitClosed")
        assert closed["code"] in (1000, 1007), (number, payload.hex(), closed)
        if number % 30 == 0:
            await bystander.assert_receives_rows()


# ---- requests that are answered and forgotten -------------------------------------------------------


async def test_a_shape_that_cannot_be_served_leaves_the_connection_open(
    service: Leyden, conn: psycopg.Connection, driver: Factory
) -> None:
    client = await driver()
    conn.execute("INSERT INTO items VALUES (%s, 'x', 1)", [id_of(1)])
    await connected(client, service, "a")
    for where in ("this.nowhere = 1", "this.n = (", "this.n = 1; DROP TABLE items"):
        with pytest.raises(DriverError) as caught:
            await client("sync", client="a", table="items", where=where, timeoutMs=5000)
        assert caught.value.code_name == "SHAPE_REQUEST_ERROR"
    await client("sync", client="a", table="items", wait=True)
    assert len(await client("query", client="a", sql="SELECT * FROM items")) == 1
    assert len(await client("wire", client="a", type="SatAuthReq", dir="sent")) == 1
    assert complaints(client) == []


# ---- writes that Postgres refuses -------------------------------------------------------------------

GUARD = """
CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(NEW.content, '') = 'forbidden' OR (TG_OP = 'DELETE' AND OLD.content = 'keep') THEN
        RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation';
    END IF;
    RETURN coalesce(NEW, OLD);
END $$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON items FOR EACH ROW EXECUTE FUNCTION guard();
"""


async def test_a_refused_write_is_put_right_at_its_author_and_blocks_nobody(
    service: Leyden, conn: psycopg.Connection, driver: Factory
) -> None:
    client = await driver()
    conn.execute("INSERT INTO items VALUES (%s, 'keep', 1), (%s, 'mine', 2)", [id_of(1), id_of(2)])
    conn.execute(GUARD)
    await connected(client, service, "a", "items")
    await connected(client, service, "b", "items")
    refused = [
        f"INSERT INTO items VALUES ('{id_of(3)}', 'forbidden', 3)",
        f"INSERT INTO items VALUES ('{id_of(4)}', 'nul ' || char(0) || ' byte', 4)",
        "UPDATE items SET content = 'forbidden' WHERE n = 2",
        "DELETE FROM items WHERE n = 1",
    ]
    for statement in refused:
        await client("run", client="a", sql=statement)
        await client("waitOplogEmpty", client="a")
        n = 100 + refused.index(statement)
        await client("run", client="b", sql=f"INSERT INTO items VALUES ('{id_of(n)}', 'fine', {n})")
        await client("waitOplogEmpty", client="b")
    await client("run", client="a", sql=f"INSERT INTO items VALUES ('{id_of(5)}', 'fine', 5)")
    await client("waitOplogEmpty", client="a")
    expected = [(1, "keep"), (2, "mine"), (5, "fine"), *((n, "fine") for n in range(100, 104))]
    assert conn.execute("SELECT n, content FROM items ORDER BY n").fetchall() == expected
    for name in ("a", "b"):
        await client("waitRow", client=name, sql="SELECT * FROM items", count=len(expected))
        rows = await client("query", client=name, sql="SELECT n, content FROM items ORDER BY n")
        assert [tuple(row.values()) for row in rows] == expected
    kept = conn.execute("SELECT client_id, sqlstate FROM leyden.rejected ORDER BY id").fetchall()
    assert kept == [("device-a", state) for state in ("23514", "22021", "23514", "23514")]
    assert service.log.count("upload refused") == len(refused)
    assert "forbidden" not in service.log
    assert complaints(client) == []


async def test_values_that_are_none_of_their_columns_type_refuse_that_write_alone(
    service: Leyden, conn: psycopg.Connection, driver: Factory
) -> None:
    """SQLite stores any value in any column, and an app makes mistakes."""
    client = await driver()
    conn.execute("INSERT INTO items VALUES (%s, 'one', 1), (%s, 'two', 2)", [id_of(1), id_of(2)])
    await connected(client, service, "a", "items")
    for statement in (
        f"INSERT INTO items VALUES ('{id_of(3)}', 'three', 'many')",
        f"INSERT INTO items VALUES ('{id_of(4)}', 'four', 4000000000)",
        "INSERT INTO items VALUES ('no uuid', 'five', 5)",
        f"UPDATE items SET n = 'two' WHERE id = '{id_of(2)}'",
    ):
        await client("run", client="a", sql=statement)
        await client("waitOplogEmpty", client="a")
    await client("run", client="a", sql=f"INSERT INTO items VALUES ('{id_of(6)}', 'six', 6)")
    await client("waitOplogEmpty", client="a")
    expected = [(1, "one"), (2, "two"), (6, "six")]
    assert conn.execute("SELECT n, content FROM items ORDER BY n").fetchall() == expected
    rows = await client("query", client="a", sql="SELECT n, content FROM items ORDER BY n")
    assert [tuple(row.values()) for row in rows] == expected
    kept = conn.execute("SELECT sqlstate, message, ops FROM leyden.rejected ORDER BY id").fetchall()
    assert [sqlstate for sqlstate, _, _ in kept] == ["22000"] * 4
    assert kept[0][1] == "column n of table items: a value that is no int4"
    assert kept[0][2][0]["row"] == {"id": id_of(3), "content": "three", "n": "many"}
    assert len(await client("wire", client="a", type="SatAuthReq", dir="sent")) == 1
    assert complaints(client) == []


async def test_writes_to_a_table_that_was_given_up_hold_nothing_up(
    service: Leyden, conn: psycopg.Connection, driver: Factory
) -> None:
    schema = {"tables": {**ITEMS["tables"], "old": {"columns": {"id": "text"}, "pk": ["id"]}}, "migrations": []}
    client = await driver()
    conn.execute("CREATE TABLE old (id text PRIMARY KEY)")
    conn.execute("CALL electric.electrify('old')")
    conn.execute("INSERT INTO old VALUES ('secret')")
    await connected(client, service, "a", "items", schema=schema)
    conn.execute("SELECT leyden.disable('old')")
    await client("run", client="a", sql="INSERT INTO old VALUES ('mine')")
    await client("run", client="a", sql="INSERT INTO old VALUES ('secret')")  # a guessed key
    await client("waitOplogEmpty", client="a")
    await client("run", client="a", sql=f"INSERT INTO items VALUES ('{id_of(1)}', 'one', 1)")
    await client("waitOplogEmpty", client="a")
    assert conn.execute("SELECT n FROM items").fetchall() == [(1,)]
    assert conn.execute("SELECT id FROM old").fetchall() == [("secret",)]
    refused = conn.execute("SELECT DISTINCT sqlstate, message FROM leyden.rejected").fetchall()
    assert refused == [("42P01", "table old is not shared with clients any more")]
    assert complaints(client) == []


async def test_a_refused_write_that_is_applied_after_all_reaches_its_author_again(
    service: Leyden, conn: psycopg.Connection, driver: Factory
) -> None:
    client = await driver()
    conn.execute("INSERT INTO items VALUES (%s, 'mine', 1)", [id_of(1)])
    conn.execute(GUARD)
    await connected(client, service, "a", "items")
    await connected(client, service, "b", "items")
    changes = [
        {"sql": f"INSERT INTO items VALUES ('{id_of(2)}', 'forbidden', 2)"},
        {"sql": "UPDATE items SET content = 'forbidden', n = 3 WHERE n = 1"},
    ]
    await client("tx", client="a", statements=changes)
    await client("waitOplogEmpty", client="a")
    await client("run", client="b", sql="UPDATE items SET content = 'of b' WHERE n = 1")  # later
    await client("waitOplogEmpty", client="b")
    await client("waitRow", client="a", sql="SELECT * FROM items WHERE content = 'of b' AND n = 1")
    assert len(await client("query", client="a", sql="SELECT * FROM items")) == 1
    conn.execute("DROP TRIGGER guard ON items")
    retry = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "leyden", "rejected", "retry", "1"),
        env={**os.environ, "DATABASE_URL": database_url(service.dsn)},
    )
    assert await retry.wait() == 0
    expected = [(1, "of b", 3), (2, "forbidden", 2)]
    for name in ("a", "b"):
        await client("waitRow", client=name, sql="SELECT * FROM items", count=2)
        rows = await client("query", client=name, sql="SELECT id, content, n FROM items ORDER BY id")
        assert [tuple(row.values()) for row in rows] == [(id_of(k), content, n) for k, content, n in expected]
    await client("run", client="a", sql="DELETE FROM items WHERE n = 3")
    await client("waitOplogEmpty", client="a")
    assert conn.execute("SELECT n, content FROM items").fetchall() == [(2, "forbidden")]
    assert complaints(client) == []
