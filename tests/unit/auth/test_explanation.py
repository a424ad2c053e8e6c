"""Explanations: the verifier's own verdict, each check, and hints at the usual mistakes."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from leyden.auth import ALGORITHMS, AuthSettings, KeyRing, TokenVerifier, explain, load_keys, verifier_from

Verifiers = Callable[..., TokenVerifier]
Writer = Callable[..., str]
Claims = Callable[..., dict[str, Any]]


def test_an_accepted_token_passes_every_check(hs256: Verifiers, write_token: Writer, now: int) -> None:
    explanation = explain(write_token(), now, hs256())
    assert (explanation.accepted, explanation.user_id, explanation.code) == (True, "user-1", None)
    assert {check.outcome for check in explanation.checks} == {"pass"}
    assert explanation.hints == ()


def test_checks_after_the_failed_one_are_skipped(
    hs256: Verifiers, write_token: Writer, claims: Claims, now: int
) -> None:
    explanation = explain(write_token(claims(exp=now - 100)), now, hs256())
    outcomes = [check.outcome for check in explanation.checks]
    failed = outcomes.index("fail")
    assert set(outcomes[:failed]) == {"pass"}
    assert set(outcomes[failed + 1 :]) == {"skipped"}
    assert explanation.checks[failed].setting == "AUTH_JWT_LEEWAY"
    assert "2025-10-09T08:51:40Z" in str(explanation.checks[failed].detail)
    assert explanation.code == "expired"


def test_claims_of_a_forged_token_are_shown_but_not_believed(hs256: Verifiers, write_token: Writer, now: int) -> None:
    explanation = explain(write_token(secret="another-secret" * 4), now, hs256())
    assert explanation.user_id is None
    assert explanation.claims["sub"] == "user-1"


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda token: f"Bearer {token}", "Bearer"),
        (lambda token: f"{token}\n", "white space"),
        (lambda token: f"'{token}'", "quotation marks"),
        (lambda token: f"{token}=", "padding"),
        (lambda token: token.rpartition(".")[0], "unsigned"),
    ],
)
def test_damage_by_copying_is_recognised(
    change: Callable[[str], str], hint: str, hs256: Verifiers, write_token: Writer, now: int
) -> None:
    explanation = explain(change(write_token()), now, hs256())
    assert hint in " ".join(explanation.hints)


@pytest.mark.parametrize(
    ("changes", "policy", "hint"),
    [
        ({"exp": 1_760_000_600_000}, {}, "exp looks like milliseconds"),
        ({"exp": "1760000600"}, {}, "written as text"),
        ({"iat": 1_760_000_100}, {}, "clock"),
        ({"iss": "https://i.example/"}, {"issuer": "https://i.example"}, "slash"),
        ({"aud": ["x", "API"]}, {"audience": "api"}, "upper and lower case"),
        ({"aud": "client", "nonce": "n"}, {"audience": "api"}, "ID token"),
        ({}, {"namespace": "https://n.example"}, "AUTH_JWT_NAMESPACE is set"),
        ({"sub": ..., "n": {"sub": "u"}}, {}, "AUTH_JWT_NAMESPACE can name"),
        ({"sub": 7}, {}, "number"),
    ],
)
def test_mistakes_of_issuers_are_recognised(
    changes: dict[str, Any],
    policy: dict[str, Any],
    hint: str,
    hs256: Verifiers,
    write_token: Writer,
    claims: Claims,
    now: int,
) -> None:
    explanation = explain(write_token(claims(**changes)), now, hs256(**policy))
    assert not explanation.accepted
    assert hint in " ".join(explanation.hints)


def test_other_algorithms_are_explained(
    signed: dict[str, tuple[TokenVerifier, str]], hs256: Verifiers, now: int
) -> None:
    assert "private key" in explain(signed["ES256"][1], now, hs256()).hints[0]
    assert "shared secret" in explain(signed["HS256"][1], now, signed["ES256"][0]).hints[0]
    assert "one algorithm" in explain(signed["EdDSA"][1], now, signed["Ed25519"][0]).hints[0]


def test_der_signatures_are_recognised(signed: dict[str, tuple[TokenVerifier, str]], now: int) -> None:
    verifier, token = signed["ES256"]
    body, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    rewritten = f"{body}.{base64.urlsafe_b64encode(der).rstrip(b'=').decode()}"
    explanation = explain(rewritten, now, verifier)
    assert explanation.code == "signature_invalid"
    assert "DER" in explanation.hints[0]


@pytest.mark.parametrize("configured_decoded", [True, False])
def test_base64_mixups_of_secrets_are_recognised(configured_decoded: bool, write_token: Writer, now: int) -> None:
    raw = hashlib.sha512(b"a secret of no importance").digest()
    text = base64.b64encode(raw).decode()
    algorithm = ALGORITHMS["HS256"]
    keys = load_keys(text, algorithm, is_base64=configured_decoded)
    body = write_token().rpartition(".")[0]
    used = text.encode() if configured_decoded else raw
    signature = hmac.new(used, body.encode(), "sha256").digest()
    token = f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    explanation = explain(token, now, verifier_from(AuthSettings("secure", (algorithm,), KeyRing(keys))))
    assert explanation.code == "signature_invalid"
    assert ("base64 text" if configured_decoded else "IS_BASE64_ENCODED") in explanation.hints[0]


def test_payloads_the_stock_client_cannot_decode_are_pointed_out(
    hs256: Verifiers, write_token: Writer, claims: Claims, now: int
) -> None:
    explanation = explain(write_token(claims(x="???>>>~~~")), now, hs256())
    assert explanation.accepted
    assert "stock client" in explanation.hints[0]


def test_insecure_mode_has_its_own_shorter_list(write_token: Writer, now: int) -> None:
    explanation = explain(write_token(), now, verifier_from(AuthSettings("insecure")))
    assert explanation.accepted
    assert not any("signature" in check.name for check in explanation.checks)
