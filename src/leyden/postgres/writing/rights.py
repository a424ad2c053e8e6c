"""What the author of an upload may write, and what Postgres is told of him.

Two ways, one at a time. With a database role, Postgres decides: statements on users' tables run as that role, so that
grants and row-level security hold as for anybody. Without one, rows have owners, and a row that names another user
is not touched.

Our own tables are never written as that role. It needs no right in schema ``leyden`` and gets none.
"""

from __future__ import annotations

from collections.abc import Callable

from leyden.conflict.operations import Values
from leyden.model import Author, Row, Table
from leyden.postgres.writing.rows import Connection, RowWrite

#: For a table and a user id: whether a row of the table is his or everybody's. ``None`` when its rows have no owners.
OwnerRule = Callable[[Table, str], Callable[[Row], bool] | None]


async def tell_author(conn: Connection, author: Author, client_id: str) -> None:
    """Set, until the end of the transaction, what policies and triggers may ask about the author: the settings that
    PostgREST and its kin set (``request.jwt.claims``, ``request.jwt.claim.sub``) and those of our own."""
    settings = {
        "request.jwt.claims": author.claims,
        "request.jwt.claim.sub": author.user_id,
        "leyden.user_id": author.user_id,
        "leyden.client_id": client_id,
    }
    if author.scoped_claims is not None:
        settings["leyden.claims"] = author.scoped_claims
    calls = ", ".join(["pg_catalog.set_config(%s, %s, true)"] * len(settings))
    await conn.execute(f"SELECT {calls}", [part for setting in settings.items() for part in setting])


class Rights:
    """What one author may write by the owners of rows: everything when he has a role, which Postgres judges."""

    def __init__(self, author: Author, owner_rule: OwnerRule) -> None:
        self._author = author
        self._owner_rule = owner_rule
        self._rules: dict[int, Callable[[Row], bool] | None] = {}

    def allow(self, write: RowWrite) -> bool:
        """Whether the row belongs to the author, or to everybody, both before and after ``write``.

        A row that comes back is judged by what it was when it died: its columns may be part of what it becomes.
        """
        if self._author.role is not None:
            return True
        table = write.before.table
        if table.id not in self._rules:
            self._rules[table.id] = self._owner_rule(table, self._author.user_id)
        rule = self._rules[table.id]
        if rule is None:
            return True
        before, after = write.before.state, write.after.state
        versions = [before.main if before.main is not None or after.main is None else before.dead, after.main]
        return all(rule(_row(table, version)) for version in versions if version is not None)


def _row(table: Table, values: Values) -> Row:
    return tuple(values.get(column.name) for column in table.columns)
