"""What a database role may read, as a part of each subscription of its clients."""

from __future__ import annotations

from typing import Any

import pytest

from leyden.model import (
    Author,
    Checkpoint,
    Column,
    Delete,
    ForeignKey,
    Insert,
    Locale,
    Policy,
    ReadingRights,
    Table,
    Transaction,
    Update,
)
from leyden.shapes.aftermath import can_be_told
from leyden.shapes.groups import Group
from leyden.shapes.request import Include, Select, Shape, ShapeError, planned, resumed
from leyden.shapes.rights import Forbidden, Rules, rules_for
from leyden.shapes.sight import Sight
from leyden.shapes.tree import Tree
from leyden.shapes.view import View
from leyden.shapes.where import Claims

BYTES = Locale(order_is_bytes=True)
USERS = Table(2, "users", (Column("id", "int4", True), Column("name", "text", False)), ("id",), "users_pkey")
DOCS = Table(
    1,
    "docs",
    (Column("id", "int4", True), Column("owner", "text", False), Column("author", "int4", False)),
    ("id",),
    "docs_pkey",
    (ForeignKey("docs_author_fkey", ("author",), "users", ("id",)),),
)
TABLES = {"docs": DOCS, "users": USERS}
ANN = Claims("ann", {"org": "acme"})
OWN = Policy("own", True, "(owner = current_setting('request.jwt.claim.sub'::text))")
ORG = Policy("org", True, "(owner = ((current_setting('request.jwt.claims'::text))::jsonb ->> 'org'::text))")
NOT_DONE = Policy("not_done", False, "(id <> 9)")
OBSCURE = Policy("obscure", True, "public.visible(id)")
EVERYTHING = ReadingRights()


def rules(docs: ReadingRights | None, users: ReadingRights | None = EVERYTHING) -> Rules:
    rights = {table.id: one for table, one in ((DOCS, docs), (USERS, users)) if one is not None}
    return rules_for({"reader": rights}, "reader", None, BYTES)


def policed(*policies: Policy) -> ReadingRights:
    return ReadingRights(policies=policies)


def asked(rules: Rules, table: str = "docs", where: str = "", claims: Claims = ANN, **more: Any) -> Shape:
    return planned("r", Select(table, where, **more), TABLES, claims, BYTES, rules)


def seen(shape: Shape) -> set[int]:
    rows = [(b"%d" % key, owner, None) for key in (1, 9) for owner in (b"ann", b"acme", b"bob", None)]
    return {number for number, row in enumerate(rows) if shape.root.holds(row)}


def test_without_roles_everything_is_read() -> None:
    open_to_all = rules_for({}, None, None, BYTES)
    assert asked(open_to_all).root.predicate is None
    assert asked(open_to_all).record.claims == ""


def test_a_role_of_which_nothing_is_known_reads_nothing() -> None:
    with pytest.raises(Forbidden, match="Permission denied for table docs"):
        rules_for({}, "reader", None, BYTES).of(DOCS)


@pytest.mark.parametrize(
    ("rights", "rows"),
    [
        (EVERYTHING, {0, 1, 2, 3, 4, 5, 6, 7}),
        (policed(), set()),
        (policed(NOT_DONE), set()),
        (policed(OWN), {0, 4}),
        (policed(OWN, ORG), {0, 1, 4, 5}),
        (policed(OWN, ORG, NOT_DONE), {0, 1}),
        (policed(Policy("all", True, "true")), {0, 1, 2, 3, 4, 5, 6, 7}),
    ],
)
def test_one_permissive_policy_and_every_restrictive_one_must_be_true(rights: ReadingRights, rows: set[int]) -> None:
    assert seen(asked(rules(rights))) == rows


def test_equal_policies_are_one_group_and_others_another() -> None:
    assert asked(rules(policed(ORG))).root == asked(rules(policed(ORG)), claims=Claims("bob", {"org": "acme"})).root
    assert asked(rules(policed(ORG))).root == asked(rules(EVERYTHING), where="this.owner = 'acme'").root
    assert asked(rules(policed(OWN))).root != asked(rules(policed(OWN)), claims=Claims("bob", {})).root


@pytest.mark.parametrize(
    ("before", "after", "claims", "is_same"),
    [
        (EVERYTHING, EVERYTHING, {"org": "other"}, True),
        (policed(ORG), policed(ORG), {"org": "acme", "x": 1}, True),
        (policed(ORG), policed(ORG), {"org": "other"}, False),
        (policed(ORG), policed(OWN), {"org": "acme"}, False),
        (EVERYTHING, policed(OWN), {"org": "acme"}, False),
        (policed(OWN), EVERYTHING, {"org": "acme"}, False),
        (policed(OWN), None, {"org": "acme"}, False),
        (policed(OWN), policed(OBSCURE), {"org": "acme"}, False),
        (EVERYTHING, ReadingRights(frozenset({"id"})), {"org": "acme"}, False),
        (ReadingRights(frozenset({"id"})), EVERYTHING, {"org": "acme"}, False),
    ],
)
def test_who_comes_back_goes_on_only_if_he_may_read_the_same(
    before: ReadingRights, after: ReadingRights | None, claims: dict[str, Any], is_same: bool
) -> None:
    shape = asked(rules(before))
    resumption = resumed(shape.record, TABLES, Claims("ann", claims), BYTES, rules(after))
    assert resumption == (shape.part if is_same else None)


@pytest.mark.parametrize("of_users", [policed(), None, ReadingRights(frozenset({"id"}))])
def test_who_comes_back_is_asked_about_what_came_along_too(of_users: ReadingRights | None) -> None:
    shape = asked(rules(EVERYTHING))
    assert resumed(shape.record, TABLES, ANN, BYTES, rules(EVERYTHING)) == shape.part
    assert resumed(shape.record, TABLES, ANN, BYTES, rules(EVERYTHING, of_users)) is None


def test_what_is_referred_to_does_not_come_along_if_nothing_of_it_may_be_read() -> None:
    assert isinstance(asked(rules(EVERYTHING)).part, Tree)
    assert isinstance(asked(rules(EVERYTHING, None)).part, Group)


def test_what_is_referred_to_is_asked_about_if_its_policies_are_not_understood() -> None:
    tree = asked(rules(EVERYTHING, policed(OBSCURE))).part
    assert isinstance(tree, Tree)
    assert [question.table for question in tree.questions] == [USERS]
    assert tree.owners[USERS.id].questions == [*tree.questions]


def test_an_include_asks_for_the_rights_to_its_table() -> None:
    include = (Include(("author",), Select("docs")),)
    shape = asked(rules(policed(OWN)), "users", includes=include)
    assert isinstance(shape.part, Tree)
    assert shape.part.layers[1].group == asked(rules(policed(OWN))).root
    for of_docs, reason in (
        (None, "Permission denied for table docs"),
        (ReadingRights(frozenset({"id"})), r"Permission denied for columns \(author\) of table docs"),
    ):
        with pytest.raises(ShapeError, match=reason):
            asked(rules(of_docs), "users", includes=include)


def test_what_is_not_understood_is_asked_of_postgres_and_only_there() -> None:
    (question,) = asked(rules(policed(OWN, OBSCURE))).root.questions
    assert question.why.startswith("The policy obscure of table docs cannot be followed: At location 0: ")
    assert question.reader == Author("ann", '{"org":"acme"}', None, "reader")
    assert asked(rules(policed(OBSCURE)), "users").root.predicate is None


def test_if_a_claim_makes_a_policy_fail_postgres_is_asked() -> None:
    number = Policy(
        "n", True, "(id = (((current_setting('request.jwt.claims'::text))::jsonb ->> 'org'::text))::integer)"
    )
    with_number = Claims("ann", {"org": 9})
    assert seen(asked(rules(policed(number, OWN)), claims=with_number)) == {0, 4, 5, 6, 7}
    for policies in ((number, OWN), (OWN, number), (number, NOT_DONE)):
        (question,) = asked(rules(policed(*policies))).root.questions
        assert question.is_whole

    of_users = rules(EVERYTHING, policed(number, Policy("all", True, "(name IS NOT NULL)")))
    for claims, questions in ((with_number, 0), (ANN, 1)):
        tree = asked(of_users, claims=claims).part
        assert isinstance(tree, Tree)
        assert len(tree.questions) == questions
    assert resumed(asked(of_users, claims=with_number).record, TABLES, ANN, BYTES, of_users) is None


def test_policies_are_not_followed_where_letters_are_unusual() -> None:
    turkish = Locale(order_is_bytes=True, letters_are_usual=False)
    with pytest.raises(Forbidden, match="Turkish"):
        rules_for({"reader": {1: policed(OWN)}}, "reader", None, turkish).of(DOCS)


@pytest.mark.parametrize("of_users", [EVERYTHING, policed()])
def test_policies_can_be_required(of_users: ReadingRights) -> None:
    rights = {DOCS.id: policed(OWN), USERS.id: of_users}
    strict = rules_for({"reader": rights}, "reader", None, BYTES, require_policies=True)
    assert isinstance(asked(strict).part, Group)  # without what it refers to
    with pytest.raises(ShapeError, match=r"Table users has no .*, which LEYDEN_REQUIRE_RLS asks for"):
        asked(strict, "users")


# ---- columns --------------------------------------------------------------------------------------------------------

SOME = ReadingRights(frozenset({"id", "author"}))


def test_a_filter_on_a_column_that_may_not_be_read_is_refused_by_name() -> None:
    with pytest.raises(ShapeError, match="Permission denied for column owner of table docs"):
        asked(rules(SOME), where="this.id = 1 OR this.owner = 'ann'")
    assert asked(rules(SOME), where="this.author = 1")


def test_a_policy_may_look_at_a_column_that_its_reader_may_not_read() -> None:
    assert seen(asked(rules(ReadingRights(frozenset({"id"}), (OWN,))))) == {0, 4}


@pytest.mark.parametrize("columns", [{"owner", "author"}, {"author"}])
def test_a_key_that_may_not_be_read_refuses_the_table(columns: set[str]) -> None:
    with pytest.raises(ShapeError, match="Permission denied for column id of table docs"):
        asked(rules(ReadingRights(frozenset(columns))))


def test_what_may_not_be_read_is_null_in_every_operation() -> None:
    view = View([asked(rules(ReadingRights(frozenset({"id"})))).part])
    old, new = (b"1", b"ann", b"5"), (b"1", b"bob", b"6")
    shown = (b"1", None, None)
    changes = (Insert(DOCS, new, ("t",)), Update(DOCS, old, new, ("t",)), Delete(DOCS, old))
    for change, expected in zip(
        changes, (Insert(DOCS, shown, ("t",)), Update(DOCS, shown, shown, ("t",)), Delete(DOCS, shown)), strict=True
    ):
        assert view.changes(Sight(Transaction(1, 1, 1, None, (change,)))) == [expected]
    assert view.shown(DOCS, new) == shown
    assert view.shown(USERS, new) == new


def test_a_column_that_is_added_later_is_not_read_before_it_is_granted() -> None:
    view = View([asked(rules(ReadingRights(frozenset({"id", "owner"})))).part])
    wider = Table(1, "docs", (*DOCS.columns, Column("later", "text", False)), ("id",), "docs_pkey", DOCS.foreign_keys)
    assert view.shown(wider, (b"1", b"ann", b"5", b"secret")) == (b"1", b"ann", None, None)
    assert view.shown(wider, (b"1", b"ann")) == (b"1", b"ann")


def test_views_of_other_columns_are_not_equal() -> None:
    assert View([asked(rules(SOME)).part]) != View([asked(rules(EVERYTHING)).part])
    assert asked(rules(SOME), "users").part == asked(rules(EVERYTHING), "users").part


# ---- repair ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("docs", "users", "can"),
    [
        (EVERYTHING, EVERYTHING, True),
        (policed(Policy("all", True, "true")), EVERYTHING, True),
        (SOME, EVERYTHING, True),
        (policed(OWN), EVERYTHING, False),
        (EVERYTHING, policed(), False),
    ],
)
def test_of_rows_that_policies_let_through_it_cannot_be_told_what_happened_to_them(
    docs: ReadingRights, users: ReadingRights, can: bool
) -> None:
    view = View([asked(rules(docs, users)).part])
    assert can_be_told(view, Checkpoint(1, 1), ()) is can
