"""A whole service on a real Postgres, simulated clients, and sessions of SQL: what the model-based test plays with.

Everything is the service's own but for the sockets (``memory_socket``) and the clients (``simulated_client``). When all
is quiet, each client must have exactly the rows that Postgres answers for its shapes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, Self

import psycopg

import random_shapes
from interop.service import database_url
from leyden.config import load_settings
from leyden.edge.connection import Connection
from leyden.edge.core import Core
from leyden.events import (
    ClientRepaired,
    Event,
    Peer,
    QuestionAnswered,
    TablesLoaded,
    UnexpectedError,
    UploadApplied,
    UploadRefused,
)
from leyden.model import EPOCH_TAG
from leyden.postgres import sessions
from leyden.satellite import satellite_pb2 as pb
from leyden.service import Service
from memory_socket import MemorySocket
from random_shapes import USERS, Column, Reader, Schema, Table
from simulated_client import Copy, SimulatedClient
from slow_database import slow_database

#: Time for everything to become quiet (seconds).
QUIET_AFTER = 20.0

#: Time after which something that is not quiet is taken to wait for a transaction of SQL (seconds).
WAITING_AFTER = 0.1

#: Time in which what the stream has brought becomes visible to others (seconds).
VISIBLE_AFTER = 0.2

#: Sizes of the log, in bytes: one that forgets soon, and one that never does.
LOG_SIZES = (6_000, 1 << 26)

#: How late the database may be (seconds).
DELAYS = (0.0, 0.002, 0.01)

CLIENTS, SESSIONS = 3, 3

#: What comes of a table that was made.
ELECTRIFIED = "electrified"

#: Codes with which a connection may end: the client went away, the service stops, and the client has to come back.
ENDS = (1000, 1001, 1008, 1012)

#: What the service tells that should have happened in a run that is worth something.
COUNTED = (ClientRepaired, QuestionAnswered, TablesLoaded, UploadApplied, UploadRefused)

_START_ERROR = pb.SatInStartReplicationResp.ReplicationError


class Difference(AssertionError):
    """A client is not as it must be."""


class _Gate:
    """Limits nobody."""

    async def may_be_verified(self) -> bool:
        return True

    def authenticated(self) -> None: ...

    def failed(self) -> None: ...


def token(claims: Mapping[str, object]) -> str:
    """One that insecure mode takes."""

    def part(content: Mapping[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part(claims)}."


#: Statements that take a lock with which nobody can read their table.
_LOCKING = ("ALTER", "TRUNCATE")


class Session:
    """A session of SQL, with or without an open transaction."""

    def __init__(self, conn: psycopg.AsyncConnection[Any]) -> None:
        self._conn = conn
        self.is_open = False
        #: Whether nobody can read some table before its transaction ends.
        self.locks = False

    @classmethod
    async def connected(cls, dsn: str) -> Self:
        conn = await sessions.connect(dsn, autocommit=True)
        # what would wait for another session's transaction fails instead
        await conn.execute("SET lock_timeout = '20ms'")
        return cls(conn)

    async def begin(self) -> None:
        await self._conn.execute("BEGIN")
        self.is_open = True

    async def undo(self, statement: str) -> str:
        """Runs it in a subtransaction of the transaction that is open, and takes it back."""
        await self._conn.execute("SAVEPOINT taken_back")
        outcome = await Session.execute(self, statement)
        await self._conn.execute("ROLLBACK TO taken_back")
        return f"{outcome}, taken back"

    async def execute(self, statement: str) -> str:
        """Runs it, in a subtransaction if a transaction is open. Returns what came of it."""
        if self.is_open:
            await self._conn.execute("SAVEPOINT here")
        try:
            rows = (await self._conn.execute(statement.encode())).rowcount
        except psycopg.Error as error:
            if self.is_open:
                await self._conn.execute("ROLLBACK TO here")
            return type(error).__name__
        if self.is_open:
            await self._conn.execute("RELEASE here")
            self.locks |= statement.startswith(_LOCKING)
        return f"{max(rows, 0)} rows"

    async def end(self, *, commit: bool) -> str:
        self.is_open = self.locks = False
        try:
            await self._conn.execute("COMMIT" if commit else "ROLLBACK")
        except psycopg.Error as error:
            return type(error).__name__
        return "committed" if commit else "rolled back"

    async def close(self) -> None:
        await self._conn.close()


class World:
    """One database, the service on it, the clients and the sessions. ``happened`` tells what happened, for reports."""

    def __init__(self, dsn: str, random: Random) -> None:
        self._dsn = dsn
        self._random = random
        self.schema: Schema = self._draw_schema()
        self._log_size = random.choice(LOG_SIZES)
        self.events: list[Event] = []
        self.happened: list[str] = []
        self.counts: Counter[str] = Counter()
        self.clients = [
            SimulatedClient(f"device-{number}", user, self._draw_token(f"device-{number}", user), self.schema)
            for number, user in zip(range(CLIENTS), (*USERS, USERS[0]), strict=True)
        ]
        self.sockets: dict[str, MemorySocket] = {}
        self._copies: dict[str, Copy] = {}
        #: Clients that were put back to an earlier state: they may list subscriptions that are gone.
        self._put_back: set[str] = set()
        self.sessions: list[Session] = []
        self._running = contextlib.AsyncExitStack()
        self._disturbances = contextlib.ExitStack()
        self._added: list[Table] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []

    # ---- what other worlds may have otherwise ----------------------------------------------------------------------

    def _draw_schema(self) -> Schema:
        return random_shapes.draw_schema(self._random)

    def draw_table(self, random: Random) -> Table:
        """One more."""
        return random_shapes.draw_table(random, self.schema)

    def _first_rows(self) -> Iterator[str]:
        return random_shapes.first_rows(self._random, self.schema)

    def _draw_token(self, client_id: str, user: str) -> str:
        return token({"sub": user})

    def _settings(self) -> dict[str, str]:
        """The service's, but for the database."""
        return {"AUTH_MODE": "insecure", "ELECTRIC_TXN_CACHE_SIZE": str(self._log_size)}

    async def _new_session(self) -> Session:
        return await Session.connected(self._dsn)

    def _new_socket(self, client: SimulatedClient) -> MemorySocket:
        return MemorySocket(client)

    async def _prepare(self) -> None:
        """Before there are tables."""

    async def _complete(self, table: Table) -> None:
        """In the transaction that makes ``table``, once it is electrified."""

    async def _clear_away(self) -> None:
        """After the service has stopped."""

    async def examine(self) -> None:
        """Looks at what has happened since. Called between steps, and when all is quiet."""
        self._failures += self._unexpected_refusals()
        self.raise_failures()

    def _reader(self, client: SimulatedClient) -> Reader | None:
        """As whom ``client`` reads; ``None`` for one who may read everything."""
        return None

    def _may_begin_afresh(self, client: SimulatedClient, code: int) -> bool:
        return code == _START_ERROR.SUBSCRIPTION_NOT_FOUND and client.id in self._put_back

    # ---- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._disturbances.enter_context(slow_database(self._random, self._random.choice(DELAYS)))
        self._control = await sessions.connect(self._dsn, autocommit=True)
        self.sessions = [await self._new_session() for _ in range(SESSIONS)]
        await self._prepare()
        for table in self.schema.tables.values():
            outcome = await self.add_table(table)
            self.note(f"{table.definition} -> {outcome}")
            if outcome != ELECTRIFIED:
                raise Difference(f"a table that is needed could not be made: {outcome}")
        self._added.clear()
        for statement in self._first_rows():
            self.note(statement)
            await self.sessions[0].execute(statement)
        await self.start_service()

    async def stop(self) -> None:
        await self.stop_service()
        self._disturbances.close()
        for session in self.sessions:
            await session.close()
        await self._clear_away()
        await self._control.close()
        for client in self.clients:
            client.store.close()
        for copy in self._copies.values():
            copy.store.close()

    async def start_service(self) -> None:
        settings = load_settings({"DATABASE_URL": database_url(self._dsn)} | self._settings())
        self.service = Service(settings, self._notice)
        await self._running.enter_async_context(self.service.running())
        async with asyncio.timeout(QUIET_AFTER):
            await self.service.ready_event.wait()

    async def stop_service(self) -> None:
        await self._running.aclose()
        for socket in self.sockets.values():
            socket.cut()
        await asyncio.gather(*self._serving)
        self.counts.update({what: times for client in self.clients for what, times in client.counts.items()})
        for client in self.clients:
            client.counts.clear()

    @property
    def core(self) -> Core:
        core = self.service.core
        if core is None:
            raise Difference(f"the service is not ready: {self.service.reason}")
        return core

    def note(self, what: str) -> None:
        self.happened.append(what)

    def _notice(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, COUNTED):
            self.counts[type(event).__name__] += 1
        if isinstance(event, UnexpectedError):
            self._failures.append(Difference(f"an unexpected error: {event}"))

    # ---- connections ---------------------------------------------------------------------------------------------

    def connect(self, client: SimulatedClient) -> None:
        socket = self._new_socket(client)
        self.sockets[client.id] = socket
        connection = Connection(self.core, socket, Peer("::1"), _Gate())
        task = asyncio.create_task(self._serve(client, connection, socket))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        client.connect(socket)
        self.counts["connections"] += 1

    async def _serve(self, client: SimulatedClient, connection: Connection, socket: MemorySocket) -> None:
        ended = await connection.serve(socket.receive)
        self.note(f"  {client.id}: connection {connection.number} ended: {ended.code} {ended.detail or ended.reason}")
        self.counts[f"closed {ended.code}"] += 1
        if ended.code not in ENDS and not ended.detail.startswith("startReplication: "):  # of which the client tells
            self._failures.append(Difference(f"{client.id} was sent away: {ended.code} {ended.detail or ended.reason}"))
        socket.close()

    def back_up(self, client: SimulatedClient) -> None:
        earlier = self._copies.pop(client.id, None)
        if earlier is not None:
            earlier.store.close()
        self._copies[client.id] = client.copied()

    def has_copy(self, client: SimulatedClient) -> bool:
        return client.id in self._copies

    def put_back(self, client: SimulatedClient) -> None:
        self._put_back.add(client.id)
        client.put_back(self._copies[client.id])

    # ---- schema --------------------------------------------------------------------------------------------------

    @property
    def is_altered(self) -> bool:
        """Whether there is a table that the app does not know yet."""
        return bool(self._added)

    async def add_table(self, table: Table) -> str:
        try:
            async with self._control.transaction():
                await self._control.execute("SET LOCAL lock_timeout = '20ms'")
                await self._control.execute(table.definition.encode())
                await self._control.execute(f"CALL electric.electrify('{table.name}')".encode())
                await self._complete(table)
        except psycopg.Error as error:
            return f"{type(error).__name__}: {error}"
        self._added.append(table)
        return ELECTRIFIED

    async def _learn_schema(self) -> None:
        """The app comes to know the tables and columns that were added."""
        self.schema.tables |= {table.name: table for table in self._added}
        self._added.clear()
        cursor = await self._control.execute(
            "SELECT table_name, column_name, udt_name FROM information_schema.columns"
            " WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
        )
        for table, column, type_name in await cursor.fetchall():
            described = self.schema.tables[table]
            if column not in [one.name for one in (*described.key, *described.columns)]:
                self.schema.add_column(table, Column(column, type_name))

    # ---- quiet ---------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Lets everything that is under way come to its end, and then looks at every client.

        Transactions of SQL may stay open, as nobody sees what they do, unless somebody has to wait for their end.
        """
        for session in self.sessions:
            if session.locks:
                await session.end(commit=True)
        try:
            async with asyncio.timeout(QUIET_AFTER):
                await self._catch_up()
                while not await self._becomes_quiet():
                    # a client's write may wait for a row that another transaction has changed
                    for session in [one for one in self.sessions if one.is_open][:1]:
                        await session.end(commit=True)
                        await self._catch_up()
        except TimeoutError:
            raise Difference("\n".join(["not quiet:", *self._unrest(), *await self._waiting()])) from None
        await self._learn_schema()
        await self.examine()
        for client in self.clients:
            await self._check(client)

    async def _catch_up(self) -> None:
        """Returns when the service has heard of all that was committed before."""
        await self.core.catch_up()

    async def _waiting(self) -> list[str]:
        """What every task waits for, and what Postgres does."""
        stacks = io.StringIO()
        for task in asyncio.all_tasks():
            task.print_stack(limit=6, file=stacks)
        activity = (
            "SELECT pid, state, wait_event_type, wait_event, query FROM pg_stat_activity WHERE datname IS NOT NULL"
        )
        sessions = await (await self._control.execute(activity)).fetchall()
        return [stacks.getvalue(), *map(str, sessions)]

    async def _becomes_quiet(self) -> bool:
        until = asyncio.get_running_loop().time() + WAITING_AFTER
        while not self._is_quiet():
            if asyncio.get_running_loop().time() > until:
                return False
            self.core.fanout.tick()
            await asyncio.sleep(0.001)
        return True

    def _is_quiet(self) -> bool:
        self.raise_failures()
        quiet = True
        for client in self.clients:
            if not client.connected:
                self.connect(client)
            self.sockets[client.id].stall(False)
            quiet &= not self._unrest_of(client)
        return quiet

    def _unrest(self) -> list[str]:
        return [f"{client.id}: {self._unrest_of(client)}" for client in self.clients]

    def _unrest_of(self, client: SimulatedClient) -> str:
        if client.unsettled:
            return client.unsettled
        if not self.sockets[client.id].is_empty:
            return "messages on their way"
        subscriber = self.core.fanout._by_client.get(client.id)
        if subscriber is None:
            return "not in the stream"
        if subscriber.held or (not subscriber.live and subscriber.position < self.core.fanout.head):
            return f"behind: {subscriber.position} of {self.core.fanout.head}, held: {subscriber.held}"
        return ""

    def _unexpected_refusals(self) -> Iterator[Difference]:
        """No subscription is refused."""
        for client in self.clients:
            for refusal in client.refusals:
                yield Difference(f"{client.id} may not subscribe to {'; '.join(map(str, refusal.shapes))}: {refusal}")

    def raise_failures(self) -> None:
        self._failures += [failure for client in self.clients for failure in client.failures]
        if self._failures:
            raise self._failures[0]

    async def _check(self, client: SimulatedClient) -> None:
        self.counts["checks"] += 1
        for code in client.resets:
            if not self._may_begin_afresh(client, code):
                raise Difference(f"{client.id} had to begin afresh without need: {_START_ERROR.Code.Name(code)}")
        client.resets.clear()
        if await self._differences(client):
            # The stream may be a moment ahead of what Postgres lets others see.
            await asyncio.sleep(VISIBLE_AFTER)
            differences = await self._differences(client)
            if differences:
                asked = "; ".join(map(str, client.shapes))
                raise Difference("\n".join([f"{client.id} ({client.user}) has for: {asked}", *differences]))

    async def _differences(self, client: SimulatedClient) -> list[str]:
        expected = await random_shapes.expected_rows(
            self._control, self.schema, client.shapes, client.user, self._reader(client)
        )
        tags = await random_shapes.current_tags(self._control)
        self.counts["rows compared"] += sum(map(len, expected.values()))
        held = client.store.rows(self.schema)
        differences: list[str] = []
        for table, rows in expected.items():
            present = held.get(table, {})
            for key in sorted(present.keys() | rows.keys(), key=str):
                has, should = present.get(key), rows.get(key)
                tagged = sorted(client.store.tags(table, key)) if key in rows else []
                current = sorted(tags.get((table, tuple(map(str, key))), (EPOCH_TAG,))) if key in rows else []
                if (has, tagged) != (should, current):
                    differences.append(
                        f"  {table} {key}: has {has} {tagged}, should have {should} {current}; received:"
                    )
                    differences += (f"    {what}" for what in client.received[table, key])
        return differences
