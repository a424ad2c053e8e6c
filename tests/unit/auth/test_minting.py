"""Tokens made here: accepted here, and readable by the stock client."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.auth import ALGORITHMS, GeneratedKey, KeyRejected, load_private_key, mint_token

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON))
def test_payloads_never_need_the_characters_the_stock_client_cannot_decode(claims: dict[str, Any]) -> None:
    payload = mint_token(claims).split(".")[1]
    assert "-" not in payload
    assert "_" not in payload
    text = base64.b64decode(payload + "=" * (-len(payload) % 4), validate=True).decode("ascii")
    assert json.loads(text) == claims


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "ES256", "ES512", "EdDSA"])
def test_signed_tokens_verify_with_another_library(algorithm: str, pairs: dict[str, GeneratedKey]) -> None:
    pair = pairs[algorithm]
    key = load_private_key(str(pair.private_pem).encode(), ALGORITHMS[algorithm])
    token = mint_token({"sub": "~>?\x7f"}, algorithm=ALGORITHMS[algorithm], key=key)
    assert jwt.decode(token, str(pair.public_pem), algorithms=[algorithm]) == {"sub": "~>?\x7f"}


def test_unsigned_tokens_say_so() -> None:
    header, _, signature = mint_token({"sub": "u"}).split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "none", "typ": "JWT"}
    assert signature == ""


def test_a_private_key_is_held_to_the_rules_of_its_public_half(pairs: dict[str, GeneratedKey]) -> None:
    for pem, algorithm in [
        (pairs["ES256"].private_pem, "ES384"),
        (pairs["RS256"].private_pem, "ES256"),
        (pairs["ES256"].public_pem, "ES256"),
        ("nothing", "ES256"),
    ]:
        with pytest.raises(KeyRejected):
            load_private_key(str(pem).encode(), ALGORITHMS[algorithm])


def test_a_curve_block_before_the_key_is_skipped(pairs: dict[str, GeneratedKey]) -> None:
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    pem = str(pairs["ES256"].private_pem).encode()
    assert load_private_key(parameters + pem, ALGORITHMS["ES256"])


def test_half_a_signature_request_is_refused() -> None:
    with pytest.raises(ValueError, match="both"):
        mint_token({}, algorithm=ALGORITHMS["HS256"])
