"""The compact form: one spelling per token."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.auth import Refusal
from leyden.auth.compact import decode_signed, split_signed, unsigned_payload


def encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@given(st.binary(min_size=1), st.binary(min_size=1), st.binary())
def test_what_was_encoded_comes_back(header: bytes, payload: bytes, signature: bytes) -> None:
    token = ".".join(map(encode, (header, payload, signature)))
    parts = decode_signed(split_signed(token))
    assert (parts.header, parts.payload, parts.signature) == (header, payload, signature)
    assert parts.signing_input == token.rpartition(".")[0].encode()
    assert unsigned_payload(token) == payload


@given(st.text("AQgw_-09", min_size=1, max_size=9))
def test_no_two_texts_decode_to_the_same_bytes(segment: str) -> None:
    with contextlib.suppress(Refusal):
        decoded = decode_signed(("e30", "e30", segment)).signature
        assert encode(decoded) == segment


@pytest.mark.parametrize("damage", [" ", "\n", "\r", "\t", "\0", "=", "+", "/", "é", "．", '"', "%2E", "\ud800"])
@pytest.mark.parametrize("place", [0, 2, 5, 11])
def test_foreign_characters_are_malformed_wherever_they_stand(damage: str, place: int) -> None:
    token = "e30.e30.AAAA"
    with pytest.raises(Refusal) as caught:
        split_signed(token[:place] + damage + token[place:])
    assert caught.value.code == "token_malformed"
    assert str(place) in caught.value.message


@pytest.mark.parametrize("payload", ["YWI_", "YWI/", "YWJj", "YWI=", "YWI"])
def test_unsigned_payloads_may_use_either_alphabet_and_padding(payload: str) -> None:
    bare = payload.rstrip("=").replace("/", "_")
    assert unsigned_payload(f"x.{payload}") == base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
