"""The replication slot, and what ``leyden.meta`` remembers of it between runs: the epoch and the log's floor.

Owns the rule that decides whether positions given out by an earlier run still mean the same. It streams
nothing.

An *epoch* is one unbroken history of one slot in one database cluster. Positions of one epoch say nothing in
another: what was written between two slots was never seen.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg.types.json import Jsonb

from leyden.postgres import checkpoints
from leyden.postgres.replication.wal_stream import System

Connection = psycopg.AsyncConnection[Any]

#: A slot can fall back in a crash of Postgres, by no more than what was written since the last checkpoint.
REMEMBERED_VERSIONS = 100

_EPOCH_KEY = "epoch"
_FLOOR_KEY = "log_floor"


class SlotUnusable(Exception):
    """The slot's name is taken by something that is not ours; the text names the remedy."""


class PassedVersion(NamedTuple):
    """A version of the clients' schema, and the position of its transaction."""

    position: int
    version: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The history that a reader of the slot may go on from.

    No published transaction lies in ``(floor, confirmed]``, and every one above ``confirmed`` will be sent.
    ``fresh`` tells that the epoch has just begun: nothing of before may be resumed. ``passed`` are the newest versions
    of the clients' schema that the stream has brought, or that were there before it began.
    """

    slot: str
    epoch: str
    floor: int
    confirmed: int
    fresh: bool
    passed: tuple[PassedVersion, ...] = ()

    @property
    def version(self) -> str:
        """The newest version of the clients' schema that the stream does not bring any more from ``floor`` on; empty
        where that is not known."""
        return max((one.version for one in self.passed if one.position <= self.floor), default="")


async def claim(conn: Connection, slot: str, system: System) -> Claim:
    """Find the slot and the epoch it belongs to, or begin a new epoch with a new slot. ``conn`` is
    autocommit.

    Creating a slot waits for every transaction that is running and has written. Raises :class:`SlotUnusable`.
    """
    confirmed = await _usable_position(conn, slot)
    remembered = await _read(conn, _EPOCH_KEY)
    checkpoint = await _read(conn, _FLOOR_KEY)
    if confirmed is not None and remembered is not None and checkpoint is not None:
        same_history = (
            remembered.get("system") == system.identifier
            and remembered.get("timeline") == system.timeline
            and remembered.get("slot") == slot
            # Every step of the slot was written down before it was taken: further on means that it is another
            # slot of the same name, or that somebody else moved it. Back is possible, after a crash.
            and confirmed <= checkpoint["confirmed"]
        )
        if same_history:
            floor = min(checkpoint["floor"], confirmed)
            passed = tuple(PassedVersion(*one) for one in checkpoint.get("passed", ()))
            return Claim(slot, remembered["id"], floor, confirmed, fresh=False, passed=passed)
    if confirmed is not None:
        await conn.execute("SELECT pg_drop_replication_slot(%s)", [slot])
    # Before the slot: what has ended by now, the slot will not bring.
    oldest_running = await checkpoints.oldest_running(conn)
    newest = await (await conn.execute("SELECT coalesce(max(version), '') FROM leyden.versions")).fetchone()
    cursor = await conn.execute(
        "SELECT lsn - '0/0'::pg_lsn FROM pg_create_logical_replication_slot(%s, 'pgoutput')", [slot]
    )
    row = await cursor.fetchone()
    if row is None:
        raise psycopg.OperationalError("pg_create_logical_replication_slot returned nothing")
    created_at = int(row[0])
    passed = (PassedVersion(created_at, "" if newest is None else newest[0]),)
    # Drawn, not derived: what is done again from a backup can come to the very same position by other changes.
    epoch = secrets.token_hex(4)
    async with conn.transaction():
        await remember(conn, floor=created_at, confirmed=created_at, passed=passed)
        await checkpoints.begin_history(conn, created_at, oldest_running)
        await _write(
            conn,
            _EPOCH_KEY,
            {"id": epoch, "system": system.identifier, "timeline": system.timeline, "slot": slot},
        )
    return Claim(slot, epoch, created_at, created_at, fresh=True, passed=passed)


async def remember(conn: Connection, *, floor: int, confirmed: int, passed: Sequence[PassedVersion]) -> None:
    """Write down the log's floor and the position about to be confirmed, with the versions of the clients' schema up to
    there. To be done *before* confirming it."""
    behind = [one for one in passed if one.position <= floor]
    ahead = [one for one in passed if one.position > floor]
    value = {"floor": floor, "confirmed": confirmed, "passed": behind[-REMEMBERED_VERSIONS:] + ahead}
    await _write(conn, _FLOOR_KEY, value)


async def _usable_position(conn: Connection, slot: str) -> int | None:
    """What the slot was last confirmed up to; ``None`` if there is none. A slot that lost its WAL is
    dropped."""
    cursor = await conn.execute(
        "SELECT plugin, database = current_database(), coalesce(wal_status, 'lost') = 'lost',"
        " confirmed_flush_lsn - '0/0'::pg_lsn FROM pg_replication_slots WHERE slot_name = %s",
        [slot],
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    plugin, of_this_database, lost, confirmed = row
    if plugin != "pgoutput" or not of_this_database:
        raise SlotUnusable(f"replication slot {slot} belongs to something else: drop or rename it")
    if lost or confirmed is None:
        await conn.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        return None
    return int(confirmed)


async def _read(conn: Connection, key: str) -> dict[str, Any] | None:
    cursor = await conn.execute("SELECT value FROM leyden.meta WHERE key = %s", [key])
    row = await cursor.fetchone()
    return None if row is None or not isinstance(row[0], dict) else row[0]


async def _write(conn: Connection, key: str, value: dict[str, Any]) -> None:
    await conn.execute(
        "INSERT INTO leyden.meta (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [key, Jsonb(value)],
    )
