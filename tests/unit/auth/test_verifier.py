"""What a verifier lets in, beyond the vectors: policies, boundaries, and failing closed."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest

from leyden.auth import ALGORITHMS, AuthSettings, KeyRing, Refusal, TokenVerifier, load_keys, verifier_from
from leyden.auth import verifier as verifier_module

Verifiers = Callable[..., TokenVerifier]
Writer = Callable[..., str]
Claims = Callable[..., dict[str, Any]]


def refusal_code(verifier: TokenVerifier, token: str, now: float) -> str | None:
    try:
        verifier.verify(token, now)
    except Refusal as refusal:
        return refusal.code
    return None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_accepts_its_own_token(
    algorithm: str, signed: dict[str, tuple[TokenVerifier, str]], now: int
) -> None:
    verifier, token = signed[algorithm]
    assert verifier.verify(token, now).user_id == "user-1"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_algorithm_accepts_the_token_of_another(
    algorithm: str, signed: dict[str, tuple[TokenVerifier, str]], now: int
) -> None:
    verifier, _ = signed[algorithm]
    for other, (_, token) in signed.items():
        if other != algorithm:
            assert refusal_code(verifier, token, now) == "alg_mismatch"


def test_identity_carries_what_the_service_needs(
    hs256: Verifiers, write_token: Writer, claims: Claims, now: int
) -> None:
    identity = hs256(leeway=5).verify(write_token(claims(jti="t-1", team="red")), now)
    assert (identity.user_id, identity.jti, identity.leeway) == ("user-1", "t-1", 5)
    assert (identity.issued_at, identity.expires_at) == (now - 60, now + 600)
    assert identity.claims["team"] == "red"
    assert identity.deadline == now + 606
    assert len(identity.key_thumbprint or "") == 43
    with pytest.raises(TypeError):
        identity.claims["team"] = "blue"  # type: ignore[index]


def test_deadline_is_the_first_second_at_which_the_token_is_refused(
    hs256: Verifiers, write_token: Writer, claims: Claims, now: int
) -> None:
    verifier = hs256()
    for exp in (now + 10, now + 10.25, now + 10.999):
        token = write_token(claims(exp=exp))
        deadline = verifier.verify(token, now).deadline
        assert deadline is not None
        assert refusal_code(verifier, token, deadline - 1) is None
        assert refusal_code(verifier, token, deadline - 0.001) is None
        assert refusal_code(verifier, token, deadline) == "expired"


@pytest.mark.parametrize(
    ("leeway", "late", "code"), [(0, 0, None), (0, 1, "expired"), (60, 60, None), (60, 61, "expired")]
)
def test_leeway_moves_the_edge(
    leeway: int, late: int, code: str | None, hs256: Verifiers, write_token: Writer, claims: Claims, now: int
) -> None:
    token = write_token(claims(exp=now - late))
    assert refusal_code(hs256(leeway=leeway), token, now) == code


def test_maximum_lifetime_and_age_are_enforced(hs256: Verifiers, write_token: Writer, claims: Claims, now: int) -> None:
    token = write_token(claims(iat=now - 100, exp=now + 100))
    assert refusal_code(hs256(max_lifetime=200, max_age=100), token, now) is None
    assert refusal_code(hs256(max_lifetime=199), token, now) == "lifetime_too_long"
    assert refusal_code(hs256(max_age=99), token, now) == "too_old"


def test_configured_types_replace_the_usual_ones(hs256: Verifiers, write_token: Writer, now: int) -> None:
    odd = write_token(header={"alg": "HS256", "typ": "application/ACME+jwt"})
    usual = write_token()
    assert refusal_code(hs256(), odd, now) == "typ_rejected"
    assert refusal_code(hs256(types={"acme+jwt"}), odd, now) is None
    assert refusal_code(hs256(types={"acme+jwt"}), usual, now) == "typ_rejected"
    assert refusal_code(hs256(types=None), odd, now) is None


def test_encrypted_tokens_are_told_apart_by_counting_dots(hs256: Verifiers, now: int) -> None:
    assert refusal_code(hs256(), "a.b.c.d.e", now) == "token_encrypted"
    assert refusal_code(hs256(), "", now) == "token_missing"


def test_size_limit_counts_characters(hs256: Verifiers, write_token: Writer, now: int) -> None:
    token = write_token()
    assert refusal_code(hs256(max_characters=len(token)), token, now) is None
    assert refusal_code(hs256(max_characters=len(token) - 1), token, now) == "token_too_large"


def test_payload_is_not_parsed_before_the_signature_is_good(hs256: Verifiers, write_token: Writer, now: int) -> None:
    forged = write_token("not json", secret="x" * 40)
    assert refusal_code(hs256(), forged, now) == "signature_invalid"


def test_either_of_two_keys_is_tried(secret: str, write_token: Writer, now: int) -> None:
    algorithm = ALGORITHMS["HS256"]
    new = "n3w-" * 16
    verifier = verifier_from(
        AuthSettings("secure", (algorithm,), KeyRing(load_keys(new, algorithm) + load_keys(secret, algorithm)))
    )
    old_identity = verifier.verify(write_token(), now)
    new_identity = verifier.verify(write_token(secret=new), now)
    assert old_identity.key_thumbprint != new_identity.key_thumbprint
    assert refusal_code(verifier, write_token(secret="z" * 40), now) == "signature_invalid"


@pytest.mark.parametrize("error", [RuntimeError("secret text"), RecursionError(), MemoryError(), KeyError("k")])
def test_an_unexpected_error_becomes_a_refusal_and_its_text_is_not_logged(
    error: Exception,
    hs256: Verifiers,
    write_token: Writer,
    now: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(verifier_module, "check_signature", broken)
    with caplog.at_level(logging.ERROR):
        assert refusal_code(hs256(), write_token(), now) == "internal"
    assert type(error).__name__ in caplog.text
    assert "secret text" not in caplog.text


def test_secure_settings_without_a_key_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="needs algorithms, and either keys"):
        AuthSettings("secure")
    settings = AuthSettings("insecure")
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.mode = "secure"  # type: ignore[misc]


def test_the_summary_for_the_log_names_keys_by_thumbprint_only(secret: str) -> None:
    keys = load_keys(secret, ALGORITHMS["HS256"])
    summary = AuthSettings("secure", (ALGORITHMS["HS256"],), KeyRing(keys), issuer="me").summary
    assert summary["keys"] == [keys[0].thumbprint]
    assert (summary["algorithms"], summary["issuer"]) == (["HS256"], "me")
    assert secret not in repr(summary)


class TestInsecureMode:
    verifier = verifier_from(AuthSettings("insecure"))

    def test_times_are_optional_but_checked(self, write_token: Writer, claims: Claims, now: int) -> None:
        without = write_token(claims(exp=..., iat=...))
        identity = self.verifier.verify(without, now)
        assert (identity.expires_at, identity.deadline, identity.key_thumbprint) == (None, None, None)
        assert refusal_code(self.verifier, write_token(claims(exp=now - 3)), now) == "expired"
        assert refusal_code(self.verifier, write_token(claims(exp=True)), now) == "claim_invalid"

    def test_payload_rules_stay_strict(self, write_token: Writer, now: int) -> None:
        assert refusal_code(self.verifier, write_token('{"sub":"a","sub":"b"}'), now) == "payload_invalid"
        assert refusal_code(self.verifier, write_token('{"sub":1}'), now) == "user_invalid"

    @pytest.mark.parametrize("payload", ["", "e", "e30===", "e3 0", "e30\n", "e30=", "%%%%"])
    def test_a_payload_that_is_no_base64_is_malformed(self, payload: str, now: int) -> None:
        expected = "user_missing" if payload == "e30=" else "token_malformed"
        assert refusal_code(self.verifier, f"h.{payload}.", now) == expected
