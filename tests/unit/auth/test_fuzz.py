"""Hostile input: a verdict or a refusal, nothing else; and nobody more lenient than two other libraries."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import joserfc.jws
import jwt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from joserfc.jwk import OctKey

from leyden.auth import AuthSettings, Refusal, TokenVerifier, explain, verifier_from

NOW = 1_760_000_000
INSECURE = verifier_from(AuthSettings("insecure"))

SHARED_FIXTURES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([NOW, NOW - 60, NOW + 600, "JWT", "at+jwt", "HS256", "none", "user-1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
MEMBERS = ["sub", "user_id", "exp", "iat", "nbf", "iss", "aud", "jti", "x"]
HEADERS = ["typ", "kid", "crit", "b64", "enc", "zip", "jwk", "jku", "cty", "x5c"]


def judge(verifier: TokenVerifier, token: str, now: float = NOW) -> str | None:
    """The user id, or None when refused; anything else raised fails the test."""
    user_id = code = None
    try:
        user_id = verifier.verify(token, now).user_id
    except Refusal as refusal:
        code = refusal.code
    if code == "internal":
        pytest.fail("an unexpected error had to be caught")
    explanation = explain(token, now, verifier)
    assert (explanation.accepted, explanation.user_id, explanation.code) == (code is None, user_id, code)
    return user_id


@SHARED_FIXTURES
@given(token=st.text() | st.text("abcXYZ019-_.=", max_size=80))
@example(token="..")
@example(token="\ud800")
@example(token="." * 1000)
def test_any_text_is_judged(token: str, hs256: Callable[..., TokenVerifier]) -> None:
    assert judge(hs256(issuer="i", audience="a"), token) is None
    judge(INSECURE, token)


@SHARED_FIXTURES
@given(
    changes=st.dictionaries(st.sampled_from(MEMBERS) | st.text(), VALUES),
    header=st.dictionaries(st.sampled_from(HEADERS), VALUES, max_size=2),
    policy=st.fixed_dictionaries(
        {},
        optional={
            "issuer": st.just("user-1"),
            "audience": st.just("user-1"),
            "namespace": st.sampled_from(["x", "sub"]),
            "user_id_policy": st.just("legacy"),
            "types": st.none(),
            "max_age": st.just(30),
        },
    ),
)
def test_any_signed_claims_are_judged_no_more_leniently_than_elsewhere(
    changes: dict[str, Any],
    header: dict[str, Any],
    policy: dict[str, Any],
    hs256: Callable[..., TokenVerifier],
    write_token: Callable[..., str],
    claims: Callable[..., dict[str, Any]],
    secret: str,
) -> None:
    token = write_token(claims() | changes, {"alg": "HS256", **header})
    accepted = judge(hs256(**policy), token)
    judge(INSECURE, token)
    if accepted is not None:
        assert_accepted_elsewhere(token, secret)


@SHARED_FIXTURES
@given(payload=st.binary(max_size=200), header=st.binary(max_size=100) | st.none())
def test_any_signed_bytes_are_judged(
    payload: bytes,
    header: bytes | None,
    hs256: Callable[..., TokenVerifier],
    write_token: Callable[..., str],
    secret: str,
) -> None:
    token = write_token(payload, header)
    if judge(hs256(), token) is not None:
        assert_accepted_elsewhere(token, secret)
    judge(INSECURE, token)


@SHARED_FIXTURES
@given(algorithm=st.sampled_from(["HS256", "RS256", "PS256", "ES256", "ES512", "EdDSA"]), data=st.data())
def test_a_changed_character_is_never_accepted(
    algorithm: str, data: st.DataObject, signed: dict[str, tuple[TokenVerifier, str]]
) -> None:
    verifier, token = signed[algorithm]
    place = data.draw(st.integers(0, len(token)))
    insert = data.draw(st.sampled_from("ABgw09-_.= \n"))
    drop = data.draw(st.integers(0, 2))
    changed = token[:place] + insert + token[place + drop :]
    if changed != token:
        assert judge(verifier, changed) is None


def assert_accepted_elsewhere(token: str, secret: str) -> None:
    """PyJWT and joserfc find the signature good as well. Claims are ours alone to judge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unchecked = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False}
        unchecked |= {"verify_sub": False, "verify_jti": False, "verify_iss": False}
        jwt.decode(token, secret, algorithms=["HS256"], options=unchecked)  # type: ignore[arg-type]
        registry = joserfc.jws.JWSRegistry(algorithms=["HS256"], strict_check_header=False)
        registry.max_header_length = 20_000
        registry.header_registry = {}  # it judges the form of jwk, jku and others, which we never read
        joserfc.jws.deserialize_compact(token, OctKey.import_key(secret), registry=registry)


@pytest.mark.parametrize("algorithm", ["HS512", "RS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"])
def test_tokens_accepted_here_are_accepted_elsewhere(
    algorithm: str, signed: dict[str, tuple[TokenVerifier, str]], pairs: dict[str, Any]
) -> None:
    verifier, token = signed[algorithm]
    assert judge(verifier, token) == "user-1"
    key = pairs[algorithm].secret or pairs[algorithm].public_pem
    assert jwt.decode(token, key, algorithms=[algorithm], options={"verify_exp": False})["sub"] == "user-1"
