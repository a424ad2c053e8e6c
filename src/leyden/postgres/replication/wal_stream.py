"""A walsender session: START_REPLICATION, the frames it sends, the status updates it wants.

Source: PostgreSQL documentation, "Streaming Replication Protocol". Owns the socket's readiness and the
frames; it does not look into the pgoutput payload and decides nothing about which position may be confirmed.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg import generators, sql
from psycopg.pq import ExecStatus

from leyden.postgres.replication.publication import PUBLICATION
from leyden.postgres.sessions import connect

_KEEPALIVE = struct.Struct("!qqB")
_STATUS = struct.Struct("!cqqqqB")

#: Bytes before the payload of an XLogData frame: its kind, start, end and the server's clock.
_XLOG_HEADER = 25
_XLOG_DATA = ord("w")
_PRIMARY_KEEPALIVE = ord("k")

#: Microseconds from the Unix epoch to Postgres' own, 2000-01-01 UTC.
_POSTGRES_EPOCH_US = 946_684_800_000_000


class Keepalive(NamedTuple):
    """Everything up to ``position`` has been sent."""

    position: int
    reply_requested: bool


@dataclass(frozen=True, slots=True)
class System:
    """Which database this is. A restored copy or a failover shows in ``identifier`` or ``timeline``."""

    identifier: str
    timeline: int
    database: str


class WalStream:
    """One replication session. Every method raises :class:`psycopg.Error` when the connection is lost."""

    def __init__(self, conn: psycopg.AsyncConnection[Any]) -> None:
        self._conn = conn
        self._pgconn = conn.pgconn
        self._socket: int | None = None
        #: Whether there may be something to drain, and what :meth:`wait` waits for while there is nothing.
        self._is_readable = False
        self._waiter: asyncio.Future[bool] | None = None
        #: Monotonic time of the last bytes received.
        self.heard_at = time.monotonic()

    @classmethod
    async def open(cls, dsn: str) -> WalStream:
        # The text form of the values in the stream follows the settings of the walsender's own session.
        return cls(await connect(dsn, replication="database", autocommit=True))

    async def identify(self) -> System:
        cursor = await self._conn.execute("IDENTIFY_SYSTEM")
        row = await cursor.fetchone()
        if row is None:
            raise psycopg.OperationalError("IDENTIFY_SYSTEM returned nothing")
        return System(identifier=str(row[0]), timeline=int(row[1]), database=str(row[3]))

    async def start(self, slot: str, position: int) -> None:
        """Begin to stream what commits above ``position``, or above the slot's own position if that is
        higher.

        Raises :class:`psycopg.errors.ObjectInUse` while another process streams from the slot.
        """
        options = f"(proto_version '1', publication_names '\"{PUBLICATION}\"', messages 'true')"
        command = b"START_REPLICATION SLOT %s LOGICAL %s %s" % (
            sql.Identifier(slot).as_bytes(self._conn),
            f"{position >> 32:X}/{position & 0xFFFF_FFFF:X}".encode(),
            options.encode(),
        )
        self._pgconn.send_query(command)
        results = await self._conn.wait(generators.execute(self._pgconn))
        if results[-1].status != ExecStatus.COPY_BOTH:
            raise psycopg.errors.error_from_result(results[-1])
        self._socket = self._pgconn.socket
        asyncio.get_running_loop().add_reader(self._socket, self._note_readable)

    def _note_readable(self) -> None:
        self._is_readable = True
        _resolve(self._waiter, True)

    def drain(self) -> Iterator[bytes | Keepalive]:
        """What can be had without waiting: pgoutput messages and keepalives, in order."""
        pgconn = self._pgconn
        pgconn.consume_input()
        get_copy_data = pgconn.get_copy_data
        length, frame = get_copy_data(1)
        if length > 0:
            self.heard_at = time.monotonic()
        while length > 0:
            kind = frame[0]
            if kind == _XLOG_DATA:
                yield frame[_XLOG_HEADER:].tobytes()
            elif kind == _PRIMARY_KEEPALIVE:
                position, _clock, reply_requested = _KEEPALIVE.unpack_from(frame, 1)
                yield Keepalive(position, bool(reply_requested))
            length, frame = get_copy_data(1)
        if length < 0:
            result = pgconn.get_result()
            if result is not None and result.status == ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result)
            raise psycopg.OperationalError("the server ended the replication stream")

    async def wait(self, seconds: float) -> bool:
        """Until there may be something to :meth:`drain`. False when so many seconds passed without. One at a time may
        wait."""
        # Waited for after every few transactions: asyncio.timeout would cost several times as much.
        if not self._is_readable:
            loop = asyncio.get_running_loop()
            self._waiter = waiter = loop.create_future()
            timer = loop.call_later(seconds, _resolve, waiter, False)
            try:
                if not await waiter:
                    return False
            finally:
                timer.cancel()
                self._waiter = None
        self._is_readable = False
        return True

    def report(self, received: int, *, ask: bool = False) -> None:
        """A status update that confirms nothing; with ``ask`` the server must answer.

        The flush position is left out on purpose. A walsender told a flush position that stays behind would
        keep Postgres from shutting down until it catches up (``WalSndDone``); told none, it goes by
        ``received``.
        """
        self._send_status(received, 0, ask)

    def confirm(self, received: int, confirmed: int) -> None:
        """Let the slot move: what committed at or below ``confirmed`` is never sent again."""
        self._send_status(received, confirmed, False)
        self._send_status(received, 0, False)

    def _send_status(self, received: int, flushed: int, ask: bool) -> None:
        clock = int(time.time() * 1_000_000) - _POSTGRES_EPOCH_US
        self._pgconn.put_copy_data(_STATUS.pack(b"r", received, flushed, flushed, clock, ask))
        self._pgconn.flush()

    async def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket = None
        await self._conn.close()


def _resolve(waiter: asyncio.Future[bool] | None, is_readable: bool) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(is_readable)
