"""Schema changes as SQL text for a client's local database.

Owns the choice of dialect. Must not know how the text reaches a client. The text is printed from
descriptions, never cut out of what somebody typed, so equal schemas give equal text.
"""

from __future__ import annotations

from typing import Literal

from leyden.model import SchemaChange
from leyden.postgres.dialects import postgresql, sqlite
from leyden.postgres.dialects.statement import Kind, Statement

__all__ = ["Dialect", "Kind", "Statement", "statements"]

Dialect = Literal["sqlite", "postgresql"]


def statements(change: SchemaChange, dialect: Dialect) -> list[Statement]:
    """The statements that bring a client's schema from before ``change`` to after it, in order.

    Each is exactly one SQL statement (the client refuses two in one string). May be empty: SQLite has no
    enums, and a table that clients know from an earlier time is announced as
    :class:`~leyden.model.AddColumns` without columns.
    """
    printer = {"sqlite": sqlite.statements, "postgresql": postgresql.statements}[dialect]
    return printer(change)
