"""The fuzzer's share in every run, and the proof that it finds what is broken.

`make fuzz` goes on for longer, from a random seed; here the seed is fixed, so that a run can be had again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.jwk import ECKey

from fuzz import TARGETS
from fuzz.loop import Product, explore
from leyden.auth import (
    ALGORITHMS,
    Authentic,
    Explanation,
    Identity,
    InvalidJwkSet,
    JwkSet,
    KeyRejected,
    Refusal,
    TokenVerifier,
    VerificationKey,
    explain,
    load_keys,
    load_private_key,
    parse_jwk_set,
)
from leyden.auth.strict_json import NotStrictJson, parse_object

SHARE_SECONDS = float(os.environ.get("FUZZ_SHARE_SECONDS", "14"))
LEAST_CASES = 50
SEED = 8725
BY_NAME = {target.name: target for target in TARGETS}

Verify = Callable[[TokenVerifier, str, float], Identity]


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    """What libraries say of odd keys on the side is of no interest here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("name", BY_NAME)
def test_hostile_input_gets_a_verdict_that_the_rules_and_two_other_libraries_share(name: str) -> None:
    target = BY_NAME[name]
    report = explore(target, Product(), SEED, seconds=SHARE_SECONDS / len(TARGETS))
    # A busy machine may have come to very few by then.
    explore(target, Product(), SEED, cases=max(0, LEAST_CASES - report.cases), report=report)
    for finding in report.findings:
        pytest.fail(f"{finding.why}\nagain: make fuzz FUZZ_CASE={finding.name}\n{finding.case!a}")
    # Cases that never get past the first check, or always do, would try nothing.
    assert len(report.outcomes) > 1


# ---- the fuzzer itself ----------------------------------------------------------------------------------------------


def explained(verify: Verify) -> Callable[[str, float, TokenVerifier], Explanation]:
    """An explanation with the verdict of `verify`, so that the two do not differ."""

    def explanation(token: str, now: float, verifier: TokenVerifier) -> Explanation:
        try:
            identity = verify(verifier, token, now)
        except Refusal as refusal:
            return Explanation(False, None, refusal.code, ())
        return Explanation(True, identity.user_id, None, ())

    return explanation


def findings(name: str, product: Product, cases: int) -> str:
    """What the fuzzer says of `product`, having tried at most so many cases."""
    report = explore(BY_NAME[name], product, SEED, cases=cases)
    return " ".join(finding.why for finding in report.findings)


def found_in_tokens(verify: Verify, name: str = "tokens", cases: int = 3000) -> str:
    return findings(name, Product(verify=verify, explain=explained(verify)), cases)


def test_a_verifier_that_believes_every_signature_is_found() -> None:
    def verify(verifier: TokenVerifier, token: str, now: float) -> Identity:
        seen = verifier.read(token)
        assert seen.parts is not None
        try:
            claims = parse_object(seen.parts.payload)
        except NotStrictJson:
            raise Refusal("signature_invalid", "no") from None
        return verifier.judge(Authentic(claims, seen.candidates[0]), now)

    assert "forged" in found_in_tokens(verify)


def test_a_verifier_that_reads_the_payload_before_the_signature_is_good_is_found() -> None:
    def verify(verifier: TokenVerifier, token: str, now: float) -> Identity:
        seen = verifier.read(token)
        assert seen.parts is not None
        if b"user-1" not in seen.parts.payload:
            raise Refusal("payload_invalid", "there is no user")
        return verifier.judge(verifier.authenticate(seen), now)

    assert "payload of a forged token was judged" in found_in_tokens(verify)


@pytest.mark.parametrize(
    ("policy", "found"),
    [
        ({"leeway": 10**6}, "expired"),
        ({"leeway": 10**6, "max_lifetime": 10**6, "max_age": 10**6}, "expired"),
        ({"issuer": None}, "another issuer"),
        ({"audience": None}, "another audience"),
        ({"namespace": None}, "namespace"),
        ({"types": None}, "another type"),
        ({"max_characters": 10**6}, "too long"),
        ({"user_id_policy": "legacy"}, "the user id"),
    ],
)
def test_a_verifier_that_forgets_a_rule_is_found(policy: dict[str, Any], found: str) -> None:
    def verify(verifier: TokenVerifier, token: str, now: float) -> Identity:
        settings = verifier.settings
        lax = TokenVerifier(dataclasses.replace(settings, **policy))
        return dataclasses.replace(lax.verify(token, now), leeway=settings.leeway)

    assert found in found_in_tokens(verify, cases=6000)


def test_a_verifier_that_parses_leniently_is_found() -> None:
    def verify(verifier: TokenVerifier, token: str, now: float) -> Identity:
        seen = verifier.read(token)
        try:
            authentic = verifier.authenticate(seen)
        except Refusal as refusal:
            if refusal.code != "payload_invalid" or seen.parts is None:
                raise
            try:
                claims = json.loads(seen.parts.payload)
            except ValueError:
                raise refusal from None
            authentic = Authentic(claims if isinstance(claims, dict) else {}, seen.candidates[0])
        return verifier.judge(authentic, now)

    assert "strict JSON" in found_in_tokens(verify)


def test_a_verifier_that_mixes_up_users_is_found() -> None:
    def verify(verifier: TokenVerifier, token: str, now: float) -> Identity:
        identity = verifier.verify(token, now)
        return dataclasses.replace(identity, user_id=identity.user_id.casefold().strip())

    assert "another user" in found_in_tokens(verify)


def test_a_verifier_that_raises_something_else_is_found() -> None:
    def verify(verifier: TokenVerifier, token: str, now: float) -> Identity:
        if ".." in token:
            raise KeyError(token)
        return verifier.verify(token, now)

    assert "KeyError" in found_in_tokens(verify)


def test_a_verifier_that_hides_its_defects_behind_internal_is_found() -> None:
    def verify(verifier: TokenVerifier, token: str, now: float) -> Identity:
        try:
            return verifier.verify(token, now)
        except Refusal as refusal:
            raise Refusal("internal", "somehow") if refusal.code == "claim_invalid" else refusal from None

    assert "internal" in found_in_tokens(verify)


def test_a_verifier_that_refuses_good_tokens_is_found() -> None:
    def verify(verifier: TokenVerifier, token: str, now: float) -> Identity:
        raise Refusal("signature_invalid", "no")

    assert "refused" in found_in_tokens(verify)


def test_a_verifier_that_takes_any_key_of_a_set_is_found() -> None:
    def verify(verifier: TokenVerifier, token: str, now: float) -> Identity:
        seen = verifier.read(token)
        assert seen.algorithm is not None
        seen.candidates = tuple(key for key in verifier.ring.keys if key.algorithm == seen.algorithm)
        return verifier.judge(verifier.authenticate(seen), now)

    assert "another key than the named one" in found_in_tokens(verify, "tokens-of-a-set")


def test_a_verifier_that_takes_its_time_is_found() -> None:
    def verify(verifier: TokenVerifier, token: str, now: float) -> Identity:
        started = time.thread_time()
        while len(token) > 2000 and time.thread_time() - started < 0.06:
            pass
        return verifier.verify(token, now)

    assert " ms" in found_in_tokens(verify)


def test_an_explanation_that_differs_from_the_verdict_is_found() -> None:
    def other(token: str, now: float, verifier: TokenVerifier) -> Explanation:
        found = explain(token, now, verifier)
        return dataclasses.replace(found, code="user_missing") if found.code == "user_invalid" else found

    assert "verifier and explanation differ" in findings("tokens", Product(explain=other), 3000)


def some_key(**kind: Any) -> VerificationKey:
    (key,) = load_keys(ECKey.generate_key("P-256").as_pem(private=False).decode(), ALGORITHMS["ES256"])
    return dataclasses.replace(key, **kind)


def test_key_loading_that_takes_private_keys_is_found() -> None:
    def load(text: str, algorithm: Any, *, is_base64: bool = False) -> Any:
        try:
            return load_keys(text, algorithm, is_base64=is_base64)
        except KeyRejected as rejected:
            try:
                native = cast(Any, load_pem_private_key(text.encode(), None))
                material = some_key().material.import_key(native.public_key())
            except Exception:
                raise rejected from None
            return (some_key(algorithm=algorithm, material=material),)

    assert "accepted" in findings("pem", Product(load_keys=load), 5000)


def test_key_loading_that_raises_something_else_or_quotes_the_key_is_found() -> None:
    def careless(text: str, algorithm: Any, *, is_base64: bool = False) -> Any:
        if "\0" in text:
            raise ValueError("embedded null byte")
        return load_keys(text, algorithm, is_base64=is_base64)

    def talkative(text: str, algorithm: Any, *, is_base64: bool = False) -> Any:
        try:
            return load_keys(text, algorithm, is_base64=is_base64)
        except KeyRejected as rejected:
            raise KeyRejected(f"is no key: {text}", rejected.remedy) from None

    assert "ValueError" in findings("pem", Product(load_keys=careless), 5000)
    assert "quotes the key" in findings("secrets", Product(load_keys=talkative), 500)


def test_loading_of_private_keys_that_raises_something_else_is_found() -> None:
    def load(pem: bytes, algorithm: Any) -> Any:
        load_pem_private_key(pem, None)
        return load_private_key(pem, algorithm)

    assert "Could not deserialize" in findings("private-keys", Product(load_private_key=load), 200)


def lenient_set(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Product:
    """A product whose key sets are read as if each key were what `change` makes of it."""

    def parse(raw: bytes, algorithms: Any) -> JwkSet:
        found = parse_jwk_set(raw, algorithms)
        document = json.loads(raw)
        entries = [change(entry) if isinstance(entry, dict) else entry for entry in document["keys"]]
        again = parse_jwk_set(json.dumps({"keys": entries}).encode(), algorithms)
        return JwkSet(again.keys, found.skipped)

    return Product(parse_jwk_set=parse)


@pytest.mark.parametrize(
    "forgotten", ["use", "key_ops", "alg", "d"], ids=["another use", "other operations", "another algorithm", "private"]
)
def test_an_import_that_forgets_a_rule_is_found(forgotten: str) -> None:
    product = lenient_set(lambda entry: {name: value for name, value in entry.items() if name != forgotten})
    assert "accepted" in findings("jwk", product, 12_000)


def test_an_import_that_loses_good_keys_beside_bad_ones_is_found() -> None:
    def parse(raw: bytes, algorithms: Any) -> JwkSet:
        found = parse_jwk_set(raw, algorithms)
        return JwkSet((), found.skipped) if found.skipped else found

    assert "a good key is missing" in findings("jwk-sets", Product(parse_jwk_set=parse), 1000)


def test_an_import_that_reads_another_key_is_found() -> None:
    def parse(raw: bytes, algorithms: Any) -> JwkSet:
        found = parse_jwk_set(raw, algorithms)
        return JwkSet(tuple(some_key(kid=key.kid, algorithm=key.algorithm) for key in found.keys), found.skipped)

    assert "nowhere in the set" in findings("jwk", Product(parse_jwk_set=parse), 500)


def test_an_import_that_parses_leniently_or_chokes_is_found() -> None:
    def lenient(raw: bytes, algorithms: Any) -> JwkSet:
        try:
            return parse_jwk_set(raw, algorithms)
        except InvalidJwkSet as invalid:
            try:
                return parse_jwk_set(json.dumps(json.loads(raw)).encode(), algorithms)
            except (ValueError, RecursionError):
                raise invalid from None

    def choking(raw: bytes, algorithms: Any) -> JwkSet:
        json.loads(raw)["keys"]
        return parse_jwk_set(raw, algorithms)

    assert "accepted: no strict JSON" in findings("jwk-sets", Product(parse_jwk_set=lenient), 1000)
    assert "Error" in findings("jwk-sets", Product(parse_jwk_set=choking), 1000)


def test_a_case_can_be_had_again_from_its_name() -> None:
    for target in TARGETS:
        for number in range(50):
            name = f"{target.name}:{SEED}:{number}"
            assert _text(target.make(Random(name))) == _text(target.make(Random(name)))


def _text(case: object) -> object:
    """The input of the case, but for a signature, which may be salted."""
    if (token := getattr(case, "token", None)) is not None:
        return token.rpartition(".")[0]
    return next(getattr(case, name) for name in ("text", "pem", "raw") if hasattr(case, name))


def test_the_broken_ones_are_broken_in_nothing_else() -> None:
    """The real product, handed in by the same ways, is found to be sound."""

    def verify(verifier: TokenVerifier, token: str, now: float) -> Identity:
        seen = verifier.read(token)
        return verifier.judge(verifier.authenticate(seen), now)

    assert found_in_tokens(verify, cases=500) == ""
    assert findings("jwk", lenient_set(lambda entry: entry), 300) == ""
