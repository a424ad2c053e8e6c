"""Who speaks: tokens, their renewal, and their end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf.message import Message

from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.actions import (
    Authenticate,
    Close,
    Refused,
    Send,
)
from unit.satellite.conversation import (
    ERROR,
    RECORD,
    Client,
    answer,
    authenticated,
    failure,
    rpc_failure,
    streaming,
)


def test_authentication_asks_for_a_verdict_and_answers() -> None:
    client = Client()
    assert client.authenticate() == [Authenticate("client-1", "token", 1)]
    assert client.session.client is None

    (output,) = client.session.authenticated(RECORD, {})
    assert answer(output, pb.SatAuthResp).id == "leyden-1"
    assert client.session.client == RECORD


def test_an_answer_repeats_method_and_request_id() -> None:
    client = Client()
    client.calls = 40
    client.authenticate()
    (output,) = client.session.authenticated(RECORD, {})

    assert isinstance(output, Send)
    assert isinstance(output.message, pb.SatRpcResponse)
    assert (output.message.method, output.message.request_id) == ("authenticate", 41)


@pytest.mark.parametrize(
    ("client_id", "token"),
    [
        ("", "token"),
        ("c", ""),
        ("a@b", "token"),
        ("x" * 65, "token"),
        ("ä" * 33, "token"),
        ("a\nb", "token"),
        ("postgres_1", "token"),
    ],
)
def test_an_unusable_id_or_an_empty_token_is_refused(client_id: str, token: str) -> None:
    refused, *outputs = Client().authenticate(client_id, token)
    assert isinstance(refused, Refused)
    assert (refused.client_id, refused.code.startswith("token_" if not token else "client_id_")) == (client_id, True)
    assert rpc_failure(outputs) == (ERROR.INVALID_REQUEST, 1007)


def test_a_bad_token_is_refused_inside_the_answer() -> None:
    client = Client()
    client.authenticate()
    outputs = client.session.refused("bad_signature", None)

    assert rpc_failure(outputs) == (ERROR.AUTH_REQUIRED, 1007)
    assert isinstance(outputs[0], Send)
    assert isinstance(outputs[0].message, pb.SatRpcResponse)
    assert outputs[0].message.error.SerializeToString() == b"\x08\x01"
    assert client.authenticate() == []  # the conversation is over


@pytest.mark.parametrize("method", ["startReplication", "stopReplication", "subscribe", "unsubscribe", "nonsense"])
def test_nothing_can_be_called_before_authentication(method: str) -> None:
    assert rpc_failure(Client().call(method, b"")) == (ERROR.AUTH_REQUIRED, 1007)


@pytest.mark.parametrize(
    "message",
    [
        pb.SatRelation(schema_name="public", table_name="items"),
        pb.SatOpLog(),
        pb.SatOpLogAck(lsn=b"e-60"),
        pb.SatRpcResponse(method="startReplication", message=b""),
        pb.SatSubsDataEnd(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_nothing_is_looked_at_before_authentication(message: Message) -> None:
    assert failure(Client().send(message)) == (ERROR.AUTH_REQUIRED, 1007)


def test_a_verdict_after_the_end_changes_nothing() -> None:
    client = Client()
    client.authenticate()
    assert rpc_failure(client.authenticate()) == (ERROR.INVALID_REQUEST, 1007)

    assert client.session.authenticated(RECORD, {}) == []
    assert client.session.refused("x", None) == []
    assert client.session.client is None


# ---- renewal and expiry ------------------------------------------------------------------------------------------


def test_a_renewal_of_the_same_user_continues() -> None:
    client = streaming()
    assert client.authenticate(token="new") == [Authenticate("client-1", "new", 3)]

    (output,) = client.session.authenticated(RECORD, {})
    answer(output, pb.SatAuthResp)
    assert client.session.streaming


def test_a_renewal_for_another_user_client_or_with_a_bad_token_ends_the_conversation() -> None:
    other_user = streaming()
    other_user.authenticate()
    outputs = other_user.session.authenticated(replace(RECORD, user_id="user-2"), {})
    assert rpc_failure(outputs) == (ERROR.INVALID_REQUEST, 1007)

    assert rpc_failure(streaming().authenticate("client-2")[1:]) == (ERROR.INVALID_REQUEST, 1007)
    assert rpc_failure(streaming().authenticate(token="")[1:]) == (ERROR.INVALID_REQUEST, 1007)

    bad_token = streaming()
    bad_token.authenticate()
    assert rpc_failure(bad_token.session.refused("expired", None)) == (ERROR.INVALID_REQUEST, 1007)


def test_expiry_while_streaming_closes_with_the_reason_that_the_client_knows() -> None:
    client = streaming()
    (close,) = client.session.expired()

    assert isinstance(close, Close)
    assert (close.code, close.reason) == (4000, "JWT-expired")
    assert client.start() == []


def test_expiry_before_replication_is_told_at_the_next_call() -> None:
    client = authenticated()
    assert client.session.expired() == []

    assert rpc_failure(client.start()) == (ERROR.AUTH_REQUIRED, 1007)


def test_expiry_after_replication_was_stopped_ends_uploads() -> None:
    client = streaming(uploading=True)
    client.call("stopReplication", b"")
    assert client.session.expired() == []

    assert failure(client.send(pb.SatOpLog())) == (ERROR.AUTH_REQUIRED, 1007)


def test_a_renewal_after_expiry_makes_calls_possible_again() -> None:
    client = authenticated()
    client.session.expired()
    client.authenticate()
    client.session.authenticated(RECORD, {})
    client.start()

    assert client.session.streaming
