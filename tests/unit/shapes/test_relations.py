"""Policies that look at other tables: rows come and go with rows elsewhere, and nobody else is asked about it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leyden.model import (
    Change,
    Column,
    Delete,
    ForeignKey,
    Function,
    Gone,
    Insert,
    Locale,
    Policy,
    ReadingRights,
    Row,
    Table,
    Transaction,
    Update,
)
from leyden.shapes.index import PartIndex
from leyden.shapes.request import Include, Select, planned, resumed
from leyden.shapes.rights import Rules, rules_for
from leyden.shapes.sight import Sight
from leyden.shapes.tree import Tree
from leyden.shapes.versions import VersionedTables, version_of
from leyden.shapes.view import View
from leyden.shapes.where import Claims

BYTES = Locale(order_is_bytes=True)
DOCUMENTS = Select("docs")


def table(number: int, name: str, *columns: str, keys: tuple[ForeignKey, ...] = ()) -> Table:
    described = tuple(Column(one, "int4", one == "id") for one in ("id", *columns))
    return Table(number, name, described, ("id",), f"{name}_pkey", keys)


#: A document belongs to a project, of which somebody is a member; a team has projects.
DOCS = table(1, "docs", "project", "author")
PROJECTS = table(2, "projects", "team")
MEMBERS = table(3, "members", "project", "person")
NOTES = table(4, "notes", "doc", keys=(ForeignKey("notes_doc_fkey", ("doc",), "docs", ("id",)),))
TABLES = {one.name: one for one in (DOCS, PROJECTS, MEMBERS, NOTES)}

USER = "(((current_setting('request.jwt.claims'::text))::jsonb ->> 'n'::text))::integer"
MEMBER = f"(EXISTS ( SELECT 1 FROM public.members m WHERE ((m.project = docs.project) AND (m.person = {USER}))))"
POLICIES = {
    "member": MEMBER,
    "in": f"(project IN ( SELECT members.project FROM public.members WHERE (members.person = {USER})))",
    "not a member": f"(NOT {MEMBER})",
    "member or author": f"((author = {USER}) OR {MEMBER})",
    "joined": (
        "(EXISTS ( SELECT 1 FROM (public.projects p JOIN public.members m ON ((m.project = p.id)))"
        f" WHERE ((p.team = 1) AND (p.id = docs.project) AND (m.person = {USER}))))"
    ),
    "nested": (
        "(EXISTS ( SELECT p.id FROM public.projects p WHERE ((p.id = docs.project) AND (EXISTS ( SELECT FROM"
        f" public.members m WHERE ((m.project = p.id) AND ((m.person = docs.author) OR (m.person = {USER}))))))))"
    ),
    "anywhere": f"(EXISTS ( SELECT 1 FROM public.members WHERE (members.person = {USER})))",
    "smaller": "(EXISTS ( SELECT 1 FROM public.members m WHERE (m.project < docs.project)))",
    "two": (
        f"({MEMBER} AND"
        " (NOT (EXISTS ( SELECT 1 FROM public.projects p WHERE ((p.id = docs.project) AND (p.team = 2))))))"
    ),
    "function": "public.is_member(project)",
    "not the function": "(NOT public.is_member_too(project))",
    "joined in a function": "public.runs_joined(project)",
    "in in a function": "((id < 0) OR public.is_in(project))",
}


def function(name: str, body: str, **more: Any) -> Function:
    callers = frozenset({"reader", "owner"})
    return Function(f"public.{name}", body, "bool", (("project", "int4"),), callers, finds_public=True, **more)


BODY = f"SELECT EXISTS (SELECT 1 FROM members WHERE members.project = $1 AND person = {USER})"
FUNCTIONS = (
    function("is_member", BODY),
    function("is_member_too", "SELECT public.is_member(project)", owner="owner", bypasses=frozenset({MEMBERS.id})),
    function(
        "runs_joined",
        f"SELECT EXISTS (SELECT FROM projects p JOIN members m ON m.project = p.id AND team = 1"
        f" WHERE p.id = runs_joined.project AND person = {USER})",
    ),
    function("is_in", f"SELECT $1 IN (SELECT m.project FROM public.members m WHERE person = {USER})"),
    function("of_owner", BODY, owner="owner"),
)


def rules(using: str, **others: str) -> Rules:
    rights = {one.id: ReadingRights() for one in TABLES.values()}
    for name, condition in {"docs": using, **others}.items():
        rights[TABLES[name].id] = ReadingRights(policies=(Policy("p", True, condition, FUNCTIONS),))
    return rules_for({"reader": rights}, "reader", None, BYTES, TABLES)


def part_of(rules: Rules, user: int, select: Select = DOCUMENTS) -> Tree:
    part = planned("r", select, TABLES, Claims("ann", {"n": user}), BYTES, rules).part
    assert isinstance(part, Tree)
    return part


# ---- what is right, told otherwise ----------------------------------------------------------------------------------

Rows = dict[str, dict[int, tuple[int | None, ...]]]


def visible(name: str, rows: Rows, user: int) -> set[int]:
    """The documents that the policy called ``name`` lets through."""
    members, projects = rows["members"].values(), rows["projects"]

    def is_member(project: int | None, person: int | None = user) -> bool:
        return project is not None and person is not None and (project, person) in members

    def passes(project: int | None, author: int | None) -> bool:
        match name:
            case "member" | "in" | "function" | "in in a function":
                return is_member(project)
            case "not a member" | "not the function":
                return not is_member(project)
            case "member or author":
                return author == user or is_member(project)
            case "joined" | "joined in a function":
                return project in projects and projects[project] == (1,) and is_member(project)
            case "nested":
                return project in projects and (is_member(project, author) or is_member(project))
            case "anywhere":
                return any(person == user for _, person in members)
            case "smaller":
                return project is not None and any(one is not None and one < project for one, _ in members)
            case "two":
                return is_member(project) and projects.get(project) != (2,)  # type: ignore[arg-type]
        raise AssertionError(name)

    return {key for key, (project, author) in rows["docs"].items() if passes(project, author)}


def row_of(key: int, values: tuple[int | None, ...]) -> Row:
    return tuple(None if one is None else b"%d" % one for one in (key, *values))


small = st.one_of(st.none(), st.integers(1, 3))
step = st.one_of(
    st.tuples(st.just("docs"), st.integers(1, 4), st.one_of(st.none(), st.tuples(small, small))),
    st.tuples(st.just("projects"), st.integers(1, 3), st.one_of(st.none(), st.tuples(small))),
    st.tuples(st.just("members"), st.integers(1, 3), st.one_of(st.none(), st.tuples(small, small))),
)


def applied(rows: Rows, steps: list[tuple[str, int, Any]]) -> tuple[Change, ...]:
    """What ``steps`` change, each of which puts a row into a table or takes it out."""
    changes: list[Change] = []
    for name, key, values in steps:
        table, old = TABLES[name], rows[name].get(key)
        if values is None:
            if old is not None:
                changes.append(Delete(table, row_of(key, rows[name].pop(key))))
            continue
        rows[name][key] = values
        new = row_of(key, values)
        changes.append(Insert(table, new, ("t",)) if old is None else Update(table, row_of(key, old), new, ("t",)))
    return tuple(changes)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(step, min_size=1, max_size=4), min_size=1, max_size=6))
@pytest.mark.parametrize("name", POLICIES)
def test_what_a_client_holds_follows_every_table_that_decides(name: str, history: list[list[Any]]) -> None:
    parts = {user: part_of(rules(POLICIES[name]), user) for user in (1, 2)}
    versions, rows = VersionedTables(), {one: {} for one in TABLES}
    index = PartIndex()
    for part in parts.values():
        index.add(part)
    for one in TABLES.values():
        versions.begin(one)
        versions.complete(one)
    held: dict[int, set[int]] = {user: visible(name, rows, user) for user in parts}
    for position, steps in enumerate(history, 1):
        transaction = Transaction(position, position, 1, None, applied(rows, steps))
        versions.apply(transaction)
        sight = Sight(transaction, versions)
        told = set(index.concerned(sight))
        assert index.looks_at(transaction) or not told
        for user, part in parts.items():
            before = set(held[user])
            operations = View([part]).changes(sight)
            for one in operations:
                assert one.table is DOCS
                if isinstance(one, Delete | Gone):
                    held[user].discard(int(one.old[0] or b""))
                else:
                    held[user].add(int((one.row if isinstance(one, Insert) else one.new)[0] or b""))
            assert held[user] == visible(name, rows, user)
            assert not any(
                isinstance(one, Gone | Delete) and int(one.old[0] or b"") not in before for one in operations
            )
            assert part in told or not operations
    for part in parts.values():
        index.remove(part)
    assert index.is_empty
    assert not index._consulting


# ---- the rest -------------------------------------------------------------------------------------------------------


def test_the_tables_that_decide_are_kept_and_not_held() -> None:
    part = part_of(rules(POLICIES["joined"]), 1)
    assert set(part.tables) == {DOCS.id}
    assert set(part.needed) == {DOCS.id, PROJECTS.id, MEMBERS.id}
    assert View([part]).tables == {DOCS.id}
    assert View([part]).tables_needed == {DOCS.id, PROJECTS.id, MEMBERS.id}


def test_equal_policies_are_one_shape_and_others_are_not() -> None:
    names: dict[Tree, set[str]] = {}
    for name, user in product(POLICIES, (1, 2)):
        names.setdefault(part_of(rules(POLICIES[name]), user), set()).add(f"{name} {user}")
    alike = sorted(sorted(some) for some in names.values() if len(some) > 1)
    assert alike == [
        ["function 1", "in 1", "member 1"],
        ["function 2", "in 2", "member 2"],
        ["not a member 1", "not the function 1"],
        ["not a member 2", "not the function 2"],
        ["smaller 1", "smaller 2"],
    ]


def test_the_policies_of_the_table_that_is_looked_at_hold_too() -> None:
    hidden = rules(POLICIES["member"], members="(id <> 1)")
    part = part_of(hidden, 1)
    versions = VersionedTables()
    for one in TABLES.values():
        versions.begin(one)
        versions.complete(one)
    changes = (
        Insert(DOCS, (b"1", b"1", None), ()),
        Insert(DOCS, (b"2", b"2", None), ()),
        Insert(MEMBERS, (b"1", b"1", b"1"), ()),
        Insert(MEMBERS, (b"2", b"2", b"1"), ()),
    )
    versions.apply(Transaction(1, 1, 1, None, changes))
    at = versions.as_of(1)
    rows = [(b"1", b"1", None), (b"2", b"2", None)]
    assert [View([part]).holds(DOCS, row, at) for row in rows] == [False, True]


def test_the_rows_below_and_above_come_and_go_with_the_row_that_is_decided_about() -> None:
    select = Select("docs", includes=(Include(("doc",), Select("notes")),))
    above, below = part_of(rules(POLICIES["member"]), 1, Select("notes")), part_of(rules(POLICIES["member"]), 1, select)
    versions = VersionedTables()
    for one in TABLES.values():
        versions.begin(one)
        versions.complete(one)
    doc, note, member = (b"1", b"1", None), (b"7", b"1"), (b"1", b"1", b"1")
    versions.apply(Transaction(1, 1, 1, None, (Insert(DOCS, doc, ("t",)), Insert(NOTES, note, ("t",)))))
    joining, leaving = (
        Transaction(2, 2, 1, None, (Insert(MEMBERS, member, ("t",)),)),
        Transaction(3, 3, 1, None, (Delete(MEMBERS, member),)),
    )
    versions.apply(joining)
    versions.apply(leaving)
    assert View([below]).changes(Sight(joining, versions)) == [Insert(DOCS, doc, ("t",)), Insert(NOTES, note, ("t",))]
    assert View([below]).changes(Sight(leaving, versions)) == [Gone(NOTES, note), Gone(DOCS, doc)]
    assert View([above]).changes(Sight(joining, versions)) == [Insert(DOCS, doc, ("t",))]
    assert View([above]).changes(Sight(leaving, versions)) == [Gone(DOCS, doc)]


def changed_rights() -> list[Rules]:
    rights = {one.id: ReadingRights() for one in (DOCS, PROJECTS, NOTES)}
    rights[DOCS.id] = ReadingRights(policies=(Policy("p", True, POLICIES["member"]),))
    return [
        rules(POLICIES["member"], members="(id <> 1)"),
        rules(POLICIES["anywhere"]),
        rules_for({"reader": rights}, "reader", None, BYTES, TABLES),
    ]


@pytest.mark.parametrize("now", changed_rights())
def test_who_comes_back_is_asked_about_the_tables_that_decide(now: Rules) -> None:
    claims = Claims("ann", {"n": 1})
    shape = planned("r", Select("docs"), TABLES, claims, BYTES, rules(POLICIES["member"]))
    assert resumed(shape.record, TABLES, claims, BYTES, rules(POLICIES["member"])) == shape.part
    assert resumed(shape.record, TABLES, claims, BYTES, now) is None
    assert resumed(shape.record, TABLES, Claims("ann", {"n": 2}), BYTES, rules(POLICIES["member"])) is None


def why_asked(rules: Rules) -> str:
    """Why the policies of the documents have to be asked of Postgres."""
    (question,) = part_of(rules, 1).questions
    assert question.table == DOCS
    return question.why


@pytest.mark.parametrize(
    ("using", "reason"),
    [
        ("(EXISTS ( SELECT 1 FROM public.secrets))", "the table secrets is not electrified"),
        ("(EXISTS ( SELECT 1 FROM private.members))", "not in schema public"),
        ("(EXISTS ( SELECT 1 FROM ONLY public.members))", "not in schema public"),
        ("(NOT (project IN ( SELECT members.project FROM public.members)))", "not within NOT"),
        ("((project IN ( SELECT members.project FROM public.members)) IS NULL)", "not within NOT"),
        ("(project <> ALL ( SELECT members.project FROM public.members))", "after EXISTS and IN only"),
        ("(project > ANY ( SELECT members.project FROM public.members))", "after EXISTS and IN only"),
        ("(project IN ( SELECT max(members.project) AS max FROM public.members))", "function max"),
        ("(EXISTS ( SELECT 1 FROM public.members GROUP BY members.project))", "group clause"),
        ("(EXISTS ( SELECT 1 FROM public.members LIMIT 0))", "limit count"),
        ("(EXISTS ( SELECT 1 FROM (public.members m LEFT JOIN public.projects p ON ((p.id = m.id)))))", "inner joins"),
        ("(EXISTS ( SELECT 1 FROM ( SELECT 1) x))", "inner joins"),
        ("(NOT public.is_in(project))", "not within NOT"),
        ("public.of_owner(project)", "the owner of the function public.of_owner does not read all of table members"),
        ("(EXISTS ( SELECT 1 FROM public.docs d))", "docs look at themselves"),
        ("(EXISTS ( SELECT 1 FROM public.members WHERE (members.nowhere = 1)))", "nowhere is no column"),
        ("(EXISTS ( SELECT 1 FROM public.members WHERE (person = 1)))", "person is no column"),
    ],
)
def test_what_is_not_understood_of_another_table_is_asked_of_postgres_and_says_why(using: str, reason: str) -> None:
    assert reason in why_asked(rules(using))


def test_a_function_that_runs_as_its_owner_is_free_of_the_readers_policies_and_privileges() -> None:
    hidden = rules("(NOT public.is_member_too(project))", members="false")
    assert part_of(hidden, 1) == part_of(rules("(NOT public.is_member_too(project))"), 1)
    assert part_of(rules("public.is_member(project)", members="false"), 1) != part_of(rules(POLICIES["member"]), 1)


def test_a_function_whose_tables_may_be_found_elsewhere_is_asked_of_postgres() -> None:
    elsewhere = Policy("p", True, "public.is_member(project)", (replace(FUNCTIONS[0], finds_public=False),))
    rights = {DOCS.id: ReadingRights(policies=(elsewhere,)), MEMBERS.id: ReadingRights()}
    asked = rules_for({"reader": rights}, "reader", None, BYTES, TABLES)
    assert "the table members is not in schema public" in why_asked(asked)


def test_policies_in_a_circle_are_asked_of_postgres() -> None:
    circle = rules(POLICIES["member"], members="(EXISTS ( SELECT 1 FROM public.docs d))")
    assert "The policies of table docs look at themselves" in why_asked(circle)


def test_of_a_table_that_is_looked_at_the_columns_must_be_readable() -> None:
    rights = {one.id: ReadingRights() for one in TABLES.values()}
    rights[DOCS.id] = ReadingRights(policies=(Policy("p", True, POLICIES["member"]),))
    for columns, may in (({"project", "person"}, True), ({"id", "project"}, False)):
        rights[MEMBERS.id] = ReadingRights(frozenset(columns))
        asked = rules_for({"reader": rights}, "reader", None, BYTES, TABLES)
        assert (part_of(asked, 1).questions == frozenset()) == may
        if not may:  # Postgres refuses it then, if the policy comes to look at it at all
            assert "permission denied for column person of table members" in why_asked(asked)


def test_a_row_of_an_older_description_is_judged_as_if_its_new_columns_were_null() -> None:
    part = part_of(rules(POLICIES["not a member"]), 1)
    versions = VersionedTables()
    for one in TABLES.values():
        versions.begin(one)
        versions.complete(one)
    assert View([part]).holds(DOCS, version_of(DOCS, (b"1",)).row, versions.as_of(0))
