"""Archives of migrations: made once, however often they are asked for."""

from __future__ import annotations

import pytest

from leyden.edge import http
from leyden.edge.http import Archives
from leyden.model import Migration
from leyden.satellite.migrations import Dialect


def migration(version: str) -> Migration:
    return Migration(version, 1, 0, ())


def test_an_archive_is_made_once_for_each_dialect_and_first_version(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, Dialect]] = []

    def archive(migrations: list[Migration], dialect: Dialect) -> bytes:
        made.append((migrations[0].version, dialect))
        return f"{migrations[0].version}-{migrations[-1].version} {dialect}".encode()

    monkeypatch.setattr(http, "archive", archive)
    archives, first, second = Archives(), [migration("1"), migration("2")], [migration("2")]
    for _ in range(3):
        assert archives.of(first, Dialect.SQLITE).startswith(b"1-2")
        assert archives.of(second, Dialect.SQLITE).startswith(b"2-2")
        archives.of(first, Dialect.POSTGRESQL)
    assert made == [("1", Dialect.SQLITE), ("2", Dialect.SQLITE), ("1", Dialect.POSTGRESQL)]


def test_a_new_migration_makes_new_archives() -> None:
    archives = Archives()
    before = archives.of([migration("1")], Dialect.SQLITE)
    assert archives.of([migration("1"), migration("2")], Dialect.SQLITE) != before
