"""The model of policies notices what it is there for: with a defect put into the service it reports a difference."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from databases import fresh_database
from leyden.model import Change, Gone
from leyden.postgres.embedded import EmbeddedPostgres
from leyden.postgres.reading import rights as reading_rights
from leyden.satellite.subscriptions import Subscriptions
from leyden.service import Service
from leyden.shapes import standing
from leyden.shapes.groups import Group
from leyden.shapes.rights import Rule
from leyden.shapes.sight import Sight
from leyden.shapes.view import View
from model_world import Difference
from policies_world import PoliciesWorld
from random_policies import MEMBERS
from random_shapes import Column, Schema, Shape, Table

DOCS = Table(
    "docs",
    (Column("id", "int4"),),
    (Column("topic", "int4"), Column("team", "text"), Column("secret", "text")),
    (),
)
NOTES = Table("notes", (Column("id", "int4"),), (Column("team", "text"), Column("secret", "text")), ())

RIGHTS = {
    MEMBERS.name: ("GRANT SELECT ON members TO {role}",),
    DOCS.name: (
        "GRANT SELECT ON docs TO {role}",
        "ALTER TABLE docs ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p1 ON docs USING (EXISTS ("
        "SELECT FROM members m WHERE m.topic = docs.topic AND m.person = auth.uid()))",
    ),
    NOTES.name: (
        "GRANT SELECT (id, team) ON notes TO {role}",
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p1 ON notes USING (true)",
        "CREATE POLICY p2 ON notes AS RESTRICTIVE USING (team = auth.jwt() -> 'app' ->> 'team')",
    ),
}


class ScriptedWorld(PoliciesWorld):
    """A world in which nothing is left to chance but how late the database is."""

    def _draw_schema(self) -> Schema:
        return Schema({table.name: table for table in (MEMBERS, DOCS, NOTES)})

    def _draw_token(self, client_id: str, user: str) -> str:
        claims = {"sub": user, "role": self.roles.readers[0], "app": {"team": "a"}, "level": 1}
        self._tokens_of[client_id] = [self._add_reader(claims), self._add_reader(claims | {"app": {"team": "b"}})]
        self._token_of[client_id] = self._tokens_of[client_id][0]
        return self._token_of[client_id]

    def _first_rows(self) -> Iterator[str]:
        yield "INSERT INTO members VALUES (1, 'ann', 1, 'a'), (2, 'bob', 2, 'a')"
        yield "INSERT INTO docs VALUES (1, 1, 'a', 'x'), (2, 2, 'a', 'x')"
        yield "INSERT INTO notes VALUES (1, 'a', 'x'), (2, 'b', 'x')"

    def _first_rights(self, table: Table) -> Iterator[str]:
        return (statement.format(role=self.roles.readers[0]) for statement in RIGHTS[table.name])

    async def play(self) -> None:
        await self.settle()
        ann = self.clients[0]
        ann.subscribe([Shape("docs")])
        ann.subscribe([Shape("notes")])
        await self.settle()
        for statement in (
            "UPDATE notes SET team = 'b' WHERE id = 1",
            "UPDATE notes SET team = 'a'",
            "INSERT INTO members VALUES (3, 'ann', 2, 'a')",
            "DELETE FROM members WHERE id = 1",
        ):
            assert (await self.sessions[0].execute(statement)).endswith(" rows")
            await self.settle()
        for number in range(5):
            statements = [
                f"ALTER POLICY p1 ON notes USING (id < {10 + number})",
                f"INSERT INTO notes VALUES ({10 + number}, 'a', 'new')",
            ]
            session = self.free_session
            assert session is not None
            assert await session.execute_together(statements, commit=True) == "committed"
            self.rights_changed()
            await self.settle()
            ann.subscribe([Shape("notes")])
            await self.settle()
        self.renew(ann)
        await self.settle()


def play(cluster: EmbeddedPostgres, template: str) -> None:
    async def played(dsn: str) -> None:
        world = ScriptedWorld(dsn, Random(1))
        async with asyncio.timeout(60):
            await world.start()
            try:
                await world.play()
            finally:
                await world.stop()

    for dsn in fresh_database(cluster, template):
        asyncio.run(played(dsn))


def test_without_a_defect_there_is_no_difference(cluster: EmbeddedPostgres, template: str) -> None:
    play(cluster, template)


Patch = Callable[[pytest.MonkeyPatch], None]


def _restrictive_policies_are_ignored(patch: pytest.MonkeyPatch) -> None:
    policies = reading_rights._policies

    def permissive(*arguments: Any) -> Any:
        found = policies(*arguments)
        return found and tuple(one for one in found if one.permissive)

    patch.setattr(reading_rights, "_policies", permissive)


def _the_stream_goes_on_when_policies_change(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Service, "_doubt_rights", lambda service, xid: None)


def _changes_of_members_are_not_followed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing, "decided_by", lambda *arguments: ())


def _rows_that_leave_are_not_told_of(patch: pytest.MonkeyPatch) -> None:
    changes = View.changes

    def without_gone(view: View, sight: Sight) -> list[Change | Gone]:
        return [one for one in changes(view, sight) if not isinstance(one, Gone)]

    patch.setattr(View, "changes", without_gone)


def _hidden_columns_are_shown(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(View, "hides", lambda view, table: False)


def _other_claims_change_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Subscriptions, "_is_unchanged", lambda *arguments, **more: True)


def _first_rows_are_not_filtered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Group, "condition", None)


def _policies_let_everything_through(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Rule, "bind", lambda rule, claims: None)


@pytest.mark.parametrize(
    "defect",
    [
        _restrictive_policies_are_ignored,
        _the_stream_goes_on_when_policies_change,
        _changes_of_members_are_not_followed,
        _rows_that_leave_are_not_told_of,
        _hidden_columns_are_shown,
        _other_claims_change_nothing,
        _first_rows_are_not_filtered,
        _policies_let_everything_through,
    ],
)
def test_a_defect_is_noticed(
    cluster: EmbeddedPostgres, template: str, monkeypatch: pytest.MonkeyPatch, defect: Patch
) -> None:
    defect(monkeypatch)
    with pytest.raises(Difference) as noticed:
        play(cluster, template)
    print(noticed.value)
