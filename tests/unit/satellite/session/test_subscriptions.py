"""Calls to subscribe and to unsubscribe."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leyden.model import (
    ShapeRecord,
    SubscriptionRecord,
)
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.actions import (
    Close,
    Deliver,
    LookAgain,
    Send,
    StartStream,
    Withdraw,
)
from leyden.satellite.frames import encode
from leyden.satellite.migrations import Dialect
from leyden.shapes.groups import Group
from leyden.shapes.request import Shape
from leyden.shapes.view import View
from unit.satellite.conversation import (
    ERROR,
    ITEMS,
    NOTES,
    R1,
    R2,
    RECORD,
    S1,
    S2,
    START_ERROR,
    SUBS_ERROR,
    Client,
    answer,
    authenticated,
    rpc_failure,
    shape,
    streaming,
    with_claims,
)
from views import group

# ---- subscribe ---------------------------------------------------------------------------------------------------


def test_a_subscription_is_answered_before_it_is_delivered() -> None:
    send, deliver = streaming().subscribe(S1, shape("items"), shape("notes", R2))

    assert answer(send, pb.SatSubsResp) == pb.SatSubsResp(subscription_id=S1)
    assert deliver == Deliver(
        SubscriptionRecord(S1, (ShapeRecord("items"), ShapeRecord("notes")), asked_by=3),
        (Shape(R1, Group(ITEMS), ShapeRecord("items")), Shape(R2, Group(NOTES), ShapeRecord("notes"))),
    )


@pytest.mark.parametrize(
    ("subscription_id", "shapes", "message"),
    [
        ("x" * 129, [shape("items")], "ID too long"),
        (S2, [], "Subscription must include at least one shape request"),
        (S2.upper().replace("0", "A"), [shape("items")], "Subscription ID should be a valid UUID"),
        (S2, [shape("items"), shape("notes")], "Duplicated request ids are not allowed"),
        (S2, [shape("items", str(n)) for n in range(101)], "A subscription has at most 100 shape requests"),
    ],
)
def test_a_subscription_that_is_refused_leaves_the_connection_open(
    subscription_id: str, shapes: list[pb.SatShapeReq], message: str
) -> None:
    client = streaming()
    (send,) = client.subscribe(subscription_id, *shapes)
    response = answer(send, pb.SatSubsResp)

    assert (response.err.code, response.err.message) == (SUBS_ERROR.SHAPE_REQUEST_ERROR, message)
    assert response.subscription_id == subscription_id[:128]
    assert len(client.subscribe(S2, shape("items"))) == 2


def test_the_filters_of_a_client_are_bounded_in_all() -> None:
    client = streaming()
    long = "this.n = 1 OR " * 2_000 + "this.n = 2"
    half = f"this.n = 1 -- {'x' * 40_000}"
    for subscription_id, where, accepted in (
        (S2, half, True),
        (S1, half, False),
        (S1, long, False),
        (S1, "this.n = 3", True),
    ):
        response = answer(client.subscribe(subscription_id, shape("items", where=where))[0], pb.SatSubsResp)
        assert response.HasField("err") != accepted
        if where is half and not accepted:
            assert response.err.message == "The filters of a client have at most 65536 bytes in all"
    client.unsubscribe(S2)
    assert len(client.subscribe(S2, shape("items", where=half))) == 2


def test_an_id_in_use_is_refused() -> None:
    client = streaming()
    client.subscribe(S1, shape("items"))
    (send,) = client.subscribe(S1, shape("notes"))
    error = answer(send, pb.SatSubsResp).err

    assert error.code == SUBS_ERROR.SUBSCRIPTION_ID_ALREADY_EXISTS
    assert error.message.startswith("Cannot establish multiple subscriptions with the same ID.")


def test_every_bad_shape_is_named() -> None:
    empty = pb.SatShapeReq(request_id="r3")
    filtered = shape("notes", R2, where="this.m = 1")
    client = streaming()
    assert client.subscribe(S1, shape("secrets"), filtered, empty, shape("items", "r4")) == [
        LookAgain(tables=True, rights=False)
    ]
    (send,) = client.session.looked_again()
    error = answer(send, pb.SatSubsResp).err

    assert error.message == "Could not establish a subscription due to errors on requests"
    codes = SUBS_ERROR.ShapeReqError
    assert [(one.request_id, one.code) for one in error.shape_request_error] == [
        (R1, codes.TABLE_NOT_FOUND),
        (R2, codes.INVALID_WHERE_CLAUSE),
        ("r3", codes.EMPTY_SHAPE_DEFINITION),
    ]


def test_subscriptions_need_a_stream() -> None:
    assert rpc_failure(authenticated().subscribe(S1, shape("items"))) == (ERROR.INVALID_REQUEST, 1007)
    assert rpc_failure(authenticated().unsubscribe(S1)) == (ERROR.INVALID_REQUEST, 1007)


# ---- unsubscribe -------------------------------------------------------------------------------------------------


def test_unsubscribing_withdraws_the_tables_that_nothing_holds() -> None:
    client = streaming(lsn=b"e-60", subscription_ids=[S1])
    client.subscribe(S2, shape("items"), shape("notes", R2))

    send, withdraw = client.unsubscribe(S2)
    assert isinstance(send, Send)
    assert encode(send.message)[-2:] == b"\x1a\x00"  # an empty answer is there all the same
    assert withdraw == Withdraw((S2,), frozenset({Group(NOTES)}))
    assert client.unsubscribe(S1)[1] == Withdraw((S1,), frozenset({Group(ITEMS)}))


def test_unknown_ids_are_withdrawn_all_the_same() -> None:
    client = streaming()
    client.subscribe(S1, shape("items"))

    assert client.unsubscribe(S2)[1] == Withdraw((S2,), frozenset())
    assert client.unsubscribe(S1)[1] == Withdraw((S1,), frozenset({Group(ITEMS)}))
    assert client.unsubscribe(S1)[1] == Withdraw((S1,), frozenset())


def test_a_filter_is_a_group_of_its_own_for_the_claims_of_the_client() -> None:
    client = with_claims(n=7)
    where = "this.n::text = auth.claims ->> 'n'"
    _, deliver = client.subscribe(S1, shape("items", where=where), shape("items", R2))

    assert isinstance(deliver, Deliver)
    assert [one.part for one in deliver.shapes] == [group(ITEMS, "this.n::text = '7'"), Group(ITEMS)]
    assert deliver.subscription.shapes[0].where == where
    assert client.unsubscribe(S1)[1] == Withdraw((S1,), frozenset(one.part for one in deliver.shapes))


def test_a_renewal_with_other_claims_ends_a_connection_whose_filters_use_them() -> None:
    for where, renewed, outputs in (
        ("this.n::text = auth.claims ->> 'n'", {"n": 7, "other": 1}, [Send]),
        ("this.n::text = auth.claims ->> 'n'", {"n": 8}, [Send, Close]),
        ("this.n::text = auth.claims ->> 'n'", {}, [Send, Close]),
        ("this.n = 7", {"n": 8}, [Send]),
    ):
        client = with_claims(n=7)
        client.subscribe(S1, shape("items", where=where))
        client.authenticate()
        assert [type(output) for output in client.session.authenticated(RECORD, renewed)] == outputs


def test_a_client_that_comes_back_with_other_claims_is_told_that_its_subscription_is_unknown() -> None:
    first = with_claims(n=7)
    where = "this.n::text = auth.claims ->> 'n'"
    _, deliver = first.subscribe(S1, shape("items", where=where))
    assert isinstance(deliver, Deliver)
    for claims, view in (({"n": 7}, View([deliver.shapes[0].part])), ({"n": 8}, None)):
        client = Client(replace(RECORD, subscriptions=(deliver.subscription,)))
        client.authenticate()
        client.session.authenticated(client.record, claims)
        outputs = client.start(lsn=b"e-60", subscription_ids=[S1])
        if view is None:
            assert answer(outputs[-2], pb.SatInStartReplicationResp).err.code == START_ERROR.SUBSCRIPTION_NOT_FOUND
        else:
            assert outputs[-1] == StartStream(60, view, Dialect.SQLITE)


def test_an_id_that_was_withdrawn_can_be_used_again() -> None:
    client = streaming()
    client.subscribe(S1, shape("items"))
    client.unsubscribe(S1)

    assert len(client.subscribe(S1, shape("items"))) == 2
