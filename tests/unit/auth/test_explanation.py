"""Explanations: the verifier's own verdict, and each check with what it looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.auth import (
    ALGORITHMS,
    AuthSettings,
    GeneratedKey,
    KeyRing,
    RemoteKeys,
    TokenVerifier,
    explain,
    load_keys,
    load_private_key,
    mint_token,
    parse_jwk_set,
    public_jwk,
    verifier_from,
)
from leyden.auth.findings import finding, not_asked, span
from leyden.auth.verifier import INSECURE_STEPS, SECURE_STEPS, Examination

Verifiers = Callable[..., TokenVerifier]
Writer = Callable[..., str]
Claims = Callable[..., dict[str, Any]]
Signed = dict[str, tuple[TokenVerifier, str]]
Pairs = dict[str, GeneratedKey]

AT = 1_760_000_000
INSECURE = verifier_from(AuthSettings("insecure"))


def private_key(pairs: Pairs, name: str) -> Any:
    return load_private_key(str(pairs[name].private_pem).encode(), ALGORITHMS[name])


def key_set(pairs: Pairs, *names: str, kids: dict[str, str | None] | None = None) -> TokenVerifier:
    """A verifier for a JWK Set of these pairs; without `kids` each is named after its algorithm, in small letters."""
    entries = []
    for name in names:
        jwk = public_jwk(load_keys(str(pairs[name].public_pem), ALGORITHMS[name])[0])
        kid = (kids or {}).get(name, name.lower())
        entries.append({member: value for member, value in (jwk | {"kid": kid}).items() if value is not None})
    algorithms = tuple(ALGORITHMS[name] for name in names)
    ring = KeyRing(parse_jwk_set(json.dumps({"keys": entries}).encode(), algorithms).keys, kids_select=True)
    return verifier_from(AuthSettings("secure", algorithms, ring))


class TestChecks:
    def test_an_accepted_token_passes_every_check_that_applies(
        self, hs256: Verifiers, write_token: Writer, now: int
    ) -> None:
        explanation = explain(write_token(), now, hs256())
        assert (explanation.accepted, explanation.user_id, explanation.code) == (True, "user-1", None)
        skipped = {check.name: check.detail for check in explanation.checks if check.outcome == "skipped"}
        assert {check.outcome for check in explanation.checks} == {"pass", "skipped"}
        assert skipped == {
            "lifetime and age are within limits": "no limit is set",
            "issuer is the configured one": "not looked at, because AUTH_JWT_ISS is not set",
            "audience includes the configured one": "not looked at, because AUTH_JWT_AUD names no audience",
            "token is not revoked": "not checked here: only the service can ask its database",
            "client id is free or this user's": "not checked here: only the service can ask its database",
        }
        assert explanation.hints == ()

    def test_checks_that_are_configured_are_not_skipped(
        self, hs256: Verifiers, write_token: Writer, claims: Claims, now: int
    ) -> None:
        verifier = hs256(issuer="i", audience="a", max_lifetime=660, max_age=60)
        explanation = explain(write_token(claims(iss="i", aud=["b", "a"])), now, verifier)
        details = {check.name: check.detail for check in explanation.checks if check.outcome == "pass"}
        assert len(details) == len(SECURE_STEPS.all)
        assert details["issuer is the configured one"] == '"i"'
        assert details["audience includes the configured one"] == '"b", "a"'
        assert details["lifetime and age are within limits"] == "lifetime 660 s of at most 660, age 60 s of at most 60"
        assert details["user id is usable"] == '"user-1" from sub'

    def test_checks_after_the_failed_one_are_skipped(
        self, hs256: Verifiers, write_token: Writer, claims: Claims, now: int
    ) -> None:
        explanation = explain(write_token(claims(exp=now - 7300)), now, hs256())
        outcomes = [check.outcome for check in explanation.checks]
        failed = outcomes.index("fail")
        assert set(outcomes[:failed]) == {"pass"}
        assert set(outcomes[failed + 1 :]) == {"skipped"}
        assert explanation.checks[failed].setting == "AUTH_JWT_LEEWAY"
        assert explanation.checks[failed].detail == "the token expired at 2025-10-09T06:51:40Z (2 h ago)"
        assert explanation.code == "expired"

    @pytest.mark.parametrize("steps", [SECURE_STEPS, INSECURE_STEPS])
    def test_every_check_says_what_it_looked_at(
        self, steps: Any, hs256: Verifiers, write_token: Writer, claims: Claims, now: int
    ) -> None:
        secure = hs256(issuer="i", audience="a", max_lifetime=10_000)
        verifier = secure if steps is SECURE_STEPS else INSECURE
        explanation = explain(write_token(claims(iss="i", aud="a", nbf=now)), now, verifier)
        details = {check.name: check.detail for check in explanation.checks}
        assert all(details[step.name] for step in steps.all)

    def test_claims_of_a_forged_token_are_shown_but_not_believed(
        self, hs256: Verifiers, write_token: Writer, now: int
    ) -> None:
        explanation = explain(write_token(secret="another-secret" * 4), now, hs256())
        assert explanation.user_id is None
        assert explanation.claims["sub"] == "user-1"
        assert explanation.header["alg"] == "HS256"

    def test_insecure_mode_has_its_own_shorter_list(self, write_token: Writer, now: int) -> None:
        explanation = explain(write_token(), now, INSECURE)
        assert explanation.accepted
        assert not any("signature" in check.name for check in explanation.checks)

    def test_the_setting_is_the_one_that_keys_come_from(self, pairs: Pairs, signed: Signed, now: int) -> None:
        ring = key_set(pairs, "ES256").ring
        remote = (RemoteKeys(jwks_url="https://i.example/k"), RemoteKeys(issuer="https://i.example"))
        for settings, expected in [
            (AuthSettings("secure", (ALGORITHMS["ES256"],), ring), "AUTH_JWT_JWKS_FILE"),
            (AuthSettings("secure", (ALGORITHMS["ES256"],), remote=remote[0]), "AUTH_JWT_JWKS_URL"),
            (AuthSettings("secure", (ALGORITHMS["ES256"],), remote=remote[1]), "AUTH_JWT_OIDC_ISSUER"),
            (signed["ES256"][0].settings, "AUTH_JWT_KEY"),
        ]:
            checks = explain(signed["ES256"][1], now, verifier_from(settings, settings.ring or ring)).checks
            found = {check.setting for check in checks if check.name in ("key is known", "signature is good")}
            assert found == {expected}

    def test_a_name_of_another_key_is_told_apart_from_the_key(self, pairs: Pairs, now: int) -> None:
        token = mint_token(
            {"sub": "u", "iat": now, "exp": now + 60},
            algorithm=ALGORITHMS["ES256"],
            key=private_key(pairs, "ES256"),
            kid="es256",
        )
        explanation = explain(token, now, key_set(pairs, "ES256", "ES384"))
        details = {check.name: str(check.detail) for check in explanation.checks}
        thumbprint = load_keys(str(pairs["ES256"].public_pem), ALGORITHMS["ES256"])[0].thumbprint
        assert details["signature is good"] == f'made with ES256 "es256" (thumbprint {thumbprint})'

    def test_unknown_checks_have_no_words(self) -> None:
        settings = AuthSettings("insecure")
        assert finding("a check of the future", Examination(""), settings) is None
        assert not_asked("a check of the future", settings) is None

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [(0, "now"), (1, "in 1 s"), (-59, "59 s ago"), (60, "in 1 min"), (-7199, "1 h ago"), (200_000, "in 2 d")],
    )
    def test_distances_in_time_use_the_largest_fitting_unit(self, seconds: float, words: str) -> None:
        assert span(seconds) == words

    @given(st.text(), st.sampled_from([INSECURE, None]))
    def test_no_text_raises(self, hs256: Verifiers, token: str, verifier: TokenVerifier | None) -> None:
        assert not explain(token, AT, verifier or hs256()).accepted

    @pytest.mark.parametrize(
        ("changes", "policy", "shown"),
        [
            ({"iss": "them"}, {"issuer": "us"}, '(the token has "them")'),
            ({"iss": None}, {"issuer": "us"}, "(the token has null)"),
            ({"aud": ["a", "b"]}, {"audience": "c"}, '(the token has "a", "b")'),
            ({"aud": [str(n) for n in range(9)]}, {"audience": "c"}, '"4" and 4 more)'),
            ({"aud": {"x": 1}}, {"audience": "c"}, "(the token has an object)"),
            ({"aud": [1]}, {"audience": "c"}, "(the token has a list)"),
            ({"aud": []}, {"audience": "c"}, "(the token has an empty list)"),
            ({"sub": 7}, {}, "(the token has 7)"),
            ({"sub": True}, {}, "(the token has true)"),
            ({"sub": None, "user_id": "\u202eu "}, {}, r'(the token has "\u202eu ")'),
        ],
    )
    def test_the_value_judged_is_shown_escaped(
        self,
        changes: dict[str, Any],
        policy: dict[str, Any],
        shown: str,
        hs256: Verifiers,
        write_token: Writer,
        claims: Claims,
        now: int,
    ) -> None:
        explanation = explain(write_token(claims(**changes)), now, hs256(**policy))
        failed = next(check for check in explanation.checks if check.outcome == "fail")
        assert shown in str(failed.detail)
