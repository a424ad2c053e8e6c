"""Sessions of clients that read as a database role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import pytest

from leyden.model import (
    ForeignKey,
    Policy,
    ReadingRights,
)
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite import subscriptions
from leyden.satellite.actions import (
    Close,
    Deliver,
    LookAgain,
    Send,
)
from unit.satellite.conversation import (
    ITEMS,
    NOTES,
    RECORD,
    S1,
    Client,
    FakeWorld,
    answer,
    shape,
)
from views import group

OWN = ReadingRights(policies=(Policy("own", True, "(id = current_setting('request.jwt.claim.sub'::text))"),))


def reading(
    rights: ReadingRights, *subscribed: str, claims: Mapping[str, Any] | None = None, **world: Any
) -> tuple[Client, FakeWorld]:
    """A client that reads as the role ``reader`` and has subscriptions."""
    client = Client(rights={ITEMS.id: rights, NOTES.id: ReadingRights()}, **world)
    client.authenticate()
    client.session.authenticated(RECORD, claims or {}, role="reader")
    client.start()
    for number, table in enumerate(subscribed):
        send, *_ = client.subscribe(str(UUID(int=100 + number)), shape(table))
        assert not answer(send, pb.SatSubsResp).HasField("err")
    return client, client.world


def test_what_is_delivered_is_what_the_role_may_read() -> None:
    client, _ = reading(OWN)
    _, deliver = client.subscribe(S1, shape("items"))
    assert isinstance(deliver, Deliver)
    (one,) = deliver.shapes
    assert one.part == group(ITEMS, "this.id = 'user-1'")


def test_a_table_that_the_role_may_not_read_is_refused() -> None:
    client, world = reading(OWN)
    world.rights = {}
    assert client.subscribe(S1, shape("items")) == [LookAgain(tables=False, rights=True)]
    (send,) = client.session.looked_again()
    (error,) = answer(send, pb.SatSubsResp).err.shape_request_error
    assert error.message == "Permission denied for table items"


def test_what_was_granted_a_moment_ago_may_be_read() -> None:
    client, world = reading(OWN)
    world.rights = {}
    assert client.subscribe(S1, shape("items")) == [LookAgain(tables=False, rights=True)]
    world.rights = {ITEMS.id: OWN}
    send, deliver = client.session.looked_again()
    assert not answer(send, pb.SatSubsResp).HasField("err")
    assert isinstance(deliver, Deliver)
    assert client.session.looked_again() == []  # asked for once


def test_a_look_after_the_end_is_of_no_use() -> None:
    client, world = reading(OWN)
    world.rights = {}
    client.subscribe(S1, shape("items"))
    client.send(pb.SatErrorResp())
    assert client.session.looked_again() == []


def test_when_rights_change_those_who_read_the_same_stay() -> None:
    client, world = reading(OWN, "notes")
    world.rights = {NOTES.id: ReadingRights()}
    assert client.session.rights_changed() == []
    assert client.session.streaming


@pytest.mark.parametrize("rights", [{}, {ITEMS.id: ReadingRights()}, {ITEMS.id: ReadingRights(policies=())}])
def test_when_rights_change_those_who_read_other_rows_are_closed(rights: dict[int, ReadingRights]) -> None:
    client, world = reading(OWN, "items")
    world.rights = rights
    (close,) = client.session.rights_changed()
    assert close == Close(1012, detail="what its database role may read has changed")
    assert client.session.rights_changed() == []
    assert client.send(pb.SatOpLogAck()) == []


def test_row_level_security_switched_on_is_noticed_though_no_claims_were_used() -> None:
    client, world = reading(ReadingRights(), "items")
    world.rights = {ITEMS.id: OWN}
    assert len(client.session.rights_changed()) == 1


@pytest.mark.parametrize(("role", "closes"), [("reader", False), ("other", True)])
def test_a_renewed_token_with_another_role_is_judged_anew(role: str, closes: bool) -> None:
    client, _ = reading(ReadingRights(), "items")
    client.authenticate()
    outputs = client.session.authenticated(RECORD, {}, role=role)
    assert (Close(1012, detail="the claims that a subscription depends on have changed") in outputs) is closes


ADMIN = "(((current_setting('request.jwt.claims'::text, true))::jsonb ->> 'level'::text) = 'admin'::text)"
OWN_OR_ALL = replace(OWN, policies=(*(OWN.policies or ()), Policy("admin", True, ADMIN)))
REFERRING = replace(NOTES, foreign_keys=(ForeignKey("notes_id_fkey", ("id",), "items", ("id",)),))


@pytest.mark.parametrize("table", ["items", "notes"])
@pytest.mark.parametrize(
    ("before", "after", "closes"),
    [
        ({"level": "admin"}, {"level": "user"}, True),
        ({"level": "admin"}, {}, True),
        ({"level": "admin"}, {"level": "admin", "other": 1}, False),
        ({"level": "user"}, {"level": "admin"}, True),
        ({"level": "user"}, {"level": "guest"}, False),
    ],
)
def test_a_renewed_token_is_judged_anew_though_policies_let_all_rows_through(
    table: str, before: dict[str, Any], after: dict[str, Any], closes: bool
) -> None:
    tables = {"items": ITEMS, "notes": REFERRING}  # notes bring items along
    client, _ = reading(OWN_OR_ALL, table, claims=before, tables=tables)
    client.authenticate()
    outputs = client.session.authenticated(RECORD, after, role="reader")
    assert [type(output) for output in outputs] == ([Send, Close] if closes else [Send])


@pytest.mark.parametrize(("rights", "times"), [(ReadingRights(), 0), (OWN_OR_ALL, 1)])
def test_a_renewed_token_costs_nothing_where_there_are_no_policies(
    rights: ReadingRights, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = reading(rights, "items", "notes", claims={"level": "admin"})
    understood = Mock(wraps=subscriptions.resumed)
    monkeypatch.setattr(subscriptions, "resumed", understood)
    client.authenticate()
    client.session.authenticated(RECORD, {"level": "admin", "other": 1}, role="reader")
    assert understood.call_count == times
