"""Writes pgoutput messages, layout by layout: what the reader makes of them can be tested without Postgres."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

#: 2024-01-01T00:00:00Z, in microseconds since 2000-01-01 and in Unix milliseconds.
COMMIT_US = 757_382_400_000_000
COMMIT_MS = 1_704_067_200_000

UNSENT = "unsent"


class Wire:
    """``None`` is NULL, :data:`UNSENT` an unchanged TOASTed value."""

    unsent = UNSENT
    commit_ms = COMMIT_MS

    def begin(self, final_lsn: int, xid: int, committed_us: int = COMMIT_US) -> bytes:
        return b"B" + struct.pack("!qqI", final_lsn, committed_us, xid)

    def commit(self, lsn: int, end_lsn: int) -> bytes:
        return b"C" + struct.pack("!Bqqq", 0, lsn, end_lsn, COMMIT_US)

    def relation(
        self,
        oid: int,
        name: str,
        columns: Sequence[tuple[str, int]],
        namespace: str = "public",
        identity: str = "f",
    ) -> bytes:
        head = b"R" + struct.pack("!I", oid) + text(namespace) + text(name) + identity.encode()
        body = b"".join(b"\1" + text(column) + struct.pack("!Ii", kind, -1) for column, kind in columns)
        return head + struct.pack("!H", len(columns)) + body

    def type(self, oid: int, name: str) -> bytes:
        return b"Y" + struct.pack("!I", oid) + text("public") + text(name)

    def origin(self, lsn: int, name: str) -> bytes:
        return b"O" + struct.pack("!q", lsn) + text(name)

    def insert(self, oid: int, *new: str | None) -> bytes:
        return b"I" + struct.pack("!I", oid) + b"N" + values(new)

    def update(self, oid: int, old: Sequence[str | None] | None, new: Sequence[str | None], kind: str = "O") -> bytes:
        before = b"" if old is None else kind.encode() + values(old)
        return b"U" + struct.pack("!I", oid) + before + b"N" + values(new)

    def delete(self, oid: int, *old: str | None, kind: str = "O") -> bytes:
        return b"D" + struct.pack("!I", oid) + kind.encode() + values(old)

    def truncate(self, *oids: int) -> bytes:
        return b"T" + struct.pack(f"!IB{len(oids)}I", len(oids), 0, *oids)

    def message(self, prefix: str, content: str, *, lsn: int = 5, transactional: bool = True) -> bytes:
        body = content.encode()
        return b"M" + struct.pack("!Bq", transactional, lsn) + text(prefix) + struct.pack("!I", len(body)) + body


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def values(row: Sequence[str | None]) -> bytes:
    out = struct.pack("!H", len(row))
    for value in row:
        if value is None:
            out += b"n"
        elif value == UNSENT:
            out += b"u"
        else:
            out += b"t" + struct.pack("!I", len(value.encode())) + value.encode()
    return out


@pytest.fixture
def wire() -> Wire:
    return Wire()
