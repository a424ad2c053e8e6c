"""The world of the model in which clients read and write as database roles, with policies and privileges that change.

When all is quiet, each client must have what Postgres answers to its role and claims. And whatever it was sent, its
role must have been able to select at some moment since the position that the client had acknowledged.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import psycopg
from psycopg import sql

import random_policies
from leyden.satellite import satellite_pb2 as pb
from memory_socket import MemorySocket
from model_world import LOG_SIZES, VISIBLE_AFTER, Difference, Session, World, token
from random_policies import Roles
from random_shapes import Reader, Schema, Table
from rights_history import RightsHistory, RoleReader, SeenTable
from simulated_client import Refusal, SimulatedClient
from wire_log import RecordingSocket, SentRow, WireLog

_START_ERROR = pb.SatInStartReplicationResp.ReplicationError

#: "What concerns roles, or has no event triggers, is in force within 2 s" (docs/row-level-security.md).
ROLES_IN_FORCE_AFTER = 2.0

#: Statements that keep others from reading a table until their transaction ends.
_LOCKING = ("ALTER TABLE", "TRUNCATE", "CREATE POLICY", "ALTER POLICY", "DROP POLICY")

#: A client that was away for longer than the log reaches back, with a subscription that policies filter, starts afresh.
_FORGETFUL_LOG = LOG_SIZES[0]

#: Rows sent are shown with so many of the moments at which they could not be selected.
_SHOWN = 5


class RecordedSession(Session):
    """Each of its transactions is looked at before it is committed. One that keeps others from reading a table, and so
    from looking at what they commit, ends at once."""

    async def execute(self, statement: str) -> str:
        is_alone, is_locking = not self.is_open, statement.startswith(_LOCKING)
        if is_alone:
            await self.begin()
        outcome = await super().execute("SELECT history.go_first()") if is_locking else ""
        if not is_locking or outcome.endswith(" rows"):
            outcome = await super().execute(statement)
        if is_alone or is_locking:
            ended = await self.end(commit=outcome.endswith(" rows"))
            return outcome if ended == "committed" else f"{outcome}, {ended}"
        return outcome

    async def execute_together(self, statements: Sequence[str], *, commit: bool) -> str:
        """In one transaction, which is committed only if all of them succeed."""
        await self.begin()
        outcome = await super().execute("SELECT history.go_first()")
        for statement in statements:
            if outcome.endswith(" rows"):
                outcome = await super().execute(statement)
        ended = await self.end(commit=commit and outcome.endswith(" rows"))
        return ended if outcome.endswith(" rows") else f"{outcome}, {ended}"

    async def end(self, *, commit: bool) -> str:
        if commit:
            looked = await super().execute("SELECT history.commit()")
            if not looked.endswith(" rows"):
                return f"{looked}, {await super().end(commit=False)}"
        return await super().end(commit=commit)


class PoliciesWorld(World):
    """What is sent is judged by ``history``."""

    def __init__(self, dsn: str, random: Random) -> None:
        self.roles = Roles.of(str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]))
        self._tokens: dict[str, RoleReader] = {}
        self._readers: list[RoleReader] = []
        self._wire: WireLog[RoleReader] = WireLog(self._tokens)
        #: Tokens that a client may have, by its id.
        self._tokens_of: dict[str, list[str]] = defaultdict(list)
        self._token_of: dict[str, str] = {}
        #: Clients that may see other rows than before.
        self._concerned: set[str] = set()
        #: Until when it is not certain that a role's new rights are in force, by role: from when, and to when.
        self._changing: dict[str, list[tuple[float, float]]] = defaultdict(list)
        super().__init__(dsn, random)
        self.history = RightsHistory(self._readers)

    # ---- who is who ----------------------------------------------------------------------------------------------

    def _draw_schema(self) -> Schema:
        return random_policies.draw_schema(self._random)

    def draw_table(self, random: Random) -> Table:
        return random_policies.draw_table(random, self.schema)

    def _first_rows(self) -> Iterator[str]:
        return random_policies.first_rows(self._random, self.schema)

    def _draw_token(self, client_id: str, user: str) -> str:
        claims = random_policies.draw_claims(self._random, self.roles, user)
        for each in (claims, random_policies.draw_other_claims(self._random, self.roles, claims)):
            self._tokens_of[client_id].append(self._add_reader(each))
        self._token_of[client_id] = self._tokens_of[client_id][0]
        return self._token_of[client_id]

    def _add_reader(self, claims: dict[str, Any]) -> str:
        text = token(claims)
        if text not in self._tokens:
            self._tokens[text] = RoleReader(len(self._readers), claims["role"], claims)
            self._readers.append(self._tokens[text])
        return text

    def renew(self, client: SimulatedClient) -> RoleReader:
        """Gives ``client`` the other one of its tokens."""
        others = [one for one in self._tokens_of[client.id] if one != self._token_of[client.id]]
        if others:
            self._token_of[client.id] = others[0]
            self._concerned.add(client.id)
            client.renew(others[0])
        return self._tokens[self._token_of[client.id]]

    def _first_rights(self, table: Table) -> Iterator[str]:
        return random_policies.first_rights(self._random, self.roles, self.schema, table)

    def _reader(self, client: SimulatedClient) -> Reader:
        return self._tokens[self._token_of[client.id]]

    def _settings(self) -> dict[str, str]:
        return super()._settings() | {"AUTH_DB_ROLE_CLAIM": "role", "AUTH_DB_ROLES": ",".join(self.roles.readers)}

    async def _new_session(self) -> RecordedSession:
        return await RecordedSession.connected(self._dsn)

    def _new_socket(self, client: SimulatedClient) -> MemorySocket:
        return RecordingSocket(client.id, client, self._wire)

    # ---- life ----------------------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        for role in self.roles.all:
            await self._control.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
        await self._control.execute(random_policies.FUNCTIONS.encode())
        await self.history.install(self._control)
        self._disturbances.enter_context(self.history.looking_at_uploads())

    async def _complete(self, table: Table) -> None:
        if table.name == random_policies.MEMBERS.name:
            await self._control.execute(random_policies.membership().encode())
        await self.history.watch(self._control, table)
        for statement in self._first_rights(table):
            self.note(f"  {statement}")
            await self._control.execute(statement.encode())
        await self._control.execute("SELECT history.commit()")

    async def _clear_away(self) -> None:
        for role in self.roles.all:
            name = sql.Identifier(role)
            await self._control.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(name))
            await self._control.execute(sql.SQL("DROP ROLE {}").format(name))

    # ---- changes of rights -----------------------------------------------------------------------------------------

    @property
    def free_session(self) -> RecordedSession | None:
        """One without an open transaction."""
        free = (one for one in self.sessions if isinstance(one, RecordedSession) and not one.is_open)
        return next(free, None)

    def rights_changed(self) -> None:
        self._concerned.update(client.id for client in self.clients)

    async def change_roles(self, statement: str) -> str:
        """Commits ``statement``, which gives or takes a role, and returns when that is in force."""
        session = self.free_session
        if session is None:
            return "no session is free"
        begun = time.time()
        outcome = await session.execute(statement)
        committed = time.time()
        await self.service._read_rights()
        # Until then, rights of before may still have been in force.
        ended = min(time.time(), committed + ROLES_IN_FORCE_AFTER)
        for role in self.roles.readers:
            self._changing[role].append((begun, ended))
        self.rights_changed()
        return outcome

    # ---- what must hold ------------------------------------------------------------------------------------------

    async def examine(self) -> None:
        sent = [row for row in self._wire.taken() if not self._is_changing(row)]
        await self.history.read(self._control)
        doubtful = [row for row in sent if not self._was_seen(row)]
        if doubtful:
            # The stream may be a moment ahead of what Postgres lets others see.
            await asyncio.sleep(VISIBLE_AFTER)
            await self.history.read(self._control)
        for row in sent:
            self.counts["rows judged"] += 1
            self.counts["rows with columns that are NULL for their reader"] += bool(self._hidden(row))
            self.counts["rows that came by a change of members"] += self._came_by_members(row)
        for row in doubtful:
            if not self._was_seen(row):
                self._failures.append(Difference("\n".join(self._complaint(row))))
        await super().examine()

    def _is_changing(self, row: SentRow[RoleReader]) -> bool:
        """Whether it was sent while it was not certain which roles its reader's role had."""
        is_changing = any(begun <= row.at <= ended for begun, ended in self._changing[row.reader.role])
        self.counts["rows sent while roles changed"] += is_changing
        return is_changing

    def _since(self, row: SentRow[RoleReader]) -> int:
        if row.acknowledged is None:
            return self.history.at_time(row.connected_at)
        return self.history.at_position(row.acknowledged, self._wire.transactions.get(row.acknowledged))

    def _moments(self, row: SentRow[RoleReader]) -> list[SeenTable]:
        """What the reader of ``row`` could see of its table from the position acknowledged until it was sent."""
        return list(self.history.seen(row.reader.number, row.table, self._since(row), row.at))

    def _hidden(self, row: SentRow[RoleReader]) -> frozenset[str]:
        return frozenset[str]().union(*(row.image.keys() - one.columns for one in self._moments(row)))

    def _was_seen(self, row: SentRow[RoleReader]) -> bool:
        hidden = self._hidden(row)
        return any(one.has(row.key, row.image, hidden) for one in self._moments(row))

    def _came_by_members(self, row: SentRow[RoleReader]) -> bool:
        if row.xid is None:
            return False
        changed = self.history.changed_in(row.xid)
        return random_policies.MEMBERS.name in changed and row.table not in changed

    def _complaint(self, row: SentRow[RoleReader]) -> Iterator[str]:
        yield (
            f"{row.client_id} as {row.reader.role} with {row.reader.claims} was sent {row.table} {dict(row.image)} at"
            f" {row.at:.3f} ({row.occasion}), which it could not select since {row.acknowledged}: at"
        )
        for commit in self.history.commits[self._since(row) :][-_SHOWN:]:
            yield f"  {commit}"
        yield "but:"
        for moment in self._moments(row)[-_SHOWN:]:
            yield f"  {sorted(moment.columns)} {moment.failure or moment.rows.get(str(row.key), '')}"

    def _unexpected_refusals(self) -> Iterator[Difference]:
        """A subscription is refused for want of a privilege, or because what a policy needs is not readable."""
        for client in self.clients:
            refusals, client.refusals = client.refusals, []
            for refusal in refusals:
                self.counts["subscriptions refused"] += 1
                if not self._is_due(self._tokens_of[client.id], refusal):
                    asked_for = "; ".join(map(str, refusal.shapes))
                    yield Difference(f"{client.id} may not subscribe to {asked_for}: {refusal}")

    def _is_due(self, tokens: list[str], refusal: Refusal) -> bool:
        named = set(re.findall(r"ermission denied for (?:.* of )?table (\w+)", str(refusal)))
        since = self.history.at_time(refusal.asked_at)
        moments = (
            moment
            for text in tokens
            for table in named
            for moment in self.history.seen(self._tokens[text].number, table, since, refusal.answered_at)
        )
        return any(not moment.is_whole or moment.failure is not None for moment in moments)

    def _may_begin_afresh(self, client: SimulatedClient, code: int) -> bool:
        if code == _START_ERROR.SUBSCRIPTION_NOT_FOUND and client.id in self._concerned:
            return True
        if code == _START_ERROR.BEHIND_WINDOW and self._log_size == _FORGETFUL_LOG:
            return True
        claims = (self._tokens[text].claims for text in self._tokens_of[client.id])
        is_asked = any(map(random_policies.is_asked, self.happened))
        fails = any(one["level"] == random_policies.NO_LEVEL for one in claims)
        if code == _START_ERROR.SUBSCRIPTION_NOT_FOUND and (is_asked or fails):
            # What Postgres said is not kept for longer than somebody needs it, nor over a restart.
            return True
        return super()._may_begin_afresh(client, code)

    async def _learn_schema(self) -> None:
        known = dict(self.schema.tables)
        await super()._learn_schema()
        if any(table != self.schema.tables[name] for name, table in known.items()):
            # What policies ask of other tables is known by the places of columns, so it seems to be something else.
            self.rights_changed()

    async def settle(self) -> None:
        await super().settle()
        self._concerned.clear()

    async def _catch_up(self) -> None:
        await super()._catch_up()
        # What the stream has told of is being looked up now.
        watch = self.service._rights_watch
        assert watch is not None
        while not watch.is_certain:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        # And what only Postgres can say is being asked.
        questions, asking = self.core.fanout.questions, self.service.asking
        assert asking is not None
        while asking.is_to_look or questions.has_doubts or questions.first_unanswered(questions.known) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
