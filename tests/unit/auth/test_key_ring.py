"""Which keys a token is tried with, by its algorithm and the name it gives."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OKPKey, RSAKey

from leyden.auth import (
    ALGORITHMS,
    AuthSettings,
    KeyRing,
    Refusal,
    VerificationKey,
    generate_key,
    load_keys,
    parse_jwk_set,
    verifier_from,
)
from leyden.auth.key_ring import MAX_CANDIDATES

NOW = 1_760_000_000
EC = [ECKey.generate_key("P-256") for _ in range(MAX_CANDIDATES + 1)]
RSA = RSAKey.generate_key(2048)
ED = OKPKey.generate_key("Ed25519")
NAMES = ("ES256", "RS256", "PS256", "EdDSA")


def ring(*entries: tuple[Any, dict[str, Any]]) -> KeyRing:
    """The ring of a set that holds these keys with these members."""
    document = {"keys": [key.as_dict(private=False) | members for key, members in entries]}
    found = parse_jwk_set(json.dumps(document).encode(), [ALGORITHMS[name] for name in NAMES])
    assert not found.skipped
    return KeyRing(found.keys, kids_select=True)


def candidates(keys: KeyRing, name: str, kid: str | None) -> list[str] | str:
    """The thumbprints of the candidates, or the code of the refusal."""
    try:
        return [key.thumbprint for key in keys.candidates(ALGORITHMS[name], kid)]
    except Refusal as refusal:
        return refusal.code


# ---- sets -----------------------------------------------------------------------------------------------------------


def test_a_named_key_is_that_key_alone() -> None:
    keys = ring((EC[0], {"kid": "a"}), (EC[1], {"kid": "b"}), (EC[2], {}))
    assert candidates(keys, "ES256", "a") == [EC[0].thumbprint()]
    assert candidates(keys, "ES256", "b") == [EC[1].thumbprint()]


@pytest.mark.parametrize(
    "kid",
    [
        *("", "A", "a ", " a", "a\0", "а", "b"),
        *(pytest.param(key.thumbprint(), id=f"thumbprint {number}") for number, key in enumerate(EC[:2])),
    ],
)
def test_an_unknown_name_falls_back_to_no_other_key(kid: str) -> None:
    keys = ring((EC[0], {"kid": "a"}), (EC[1], {}))
    assert candidates(keys, "ES256", kid) == "key_unknown"


def test_an_empty_name_matches_nothing_not_even_a_key_of_that_name() -> None:
    assert candidates(ring((EC[0], {"kid": ""})), "ES256", "") == "key_unknown"
    assert candidates(ring((EC[0], {"kid": ""})), "ES256", None) == [EC[0].thumbprint()]


def test_a_named_key_must_fit_the_algorithm_of_the_token() -> None:
    keys = ring((EC[0], {"kid": "a"}), (RSA, {"kid": "r", "alg": "PS256"}), (ED, {"kid": "e"}))
    assert candidates(keys, "RS256", "a") == "key_unknown"
    assert candidates(keys, "RS256", "r") == "key_unknown"
    assert candidates(keys, "PS256", "r") == [RSA.thumbprint()]
    assert candidates(keys, "ES256", "e") == "key_unknown"


def test_without_a_name_every_key_of_the_algorithm_is_tried() -> None:
    keys = ring((EC[0], {"kid": "a"}), (EC[1], {}), (RSA, {"kid": "r", "alg": "PS256"}), (ED, {}))
    assert set(candidates(keys, "ES256", None)) == {EC[0].thumbprint(), EC[1].thumbprint()}
    assert candidates(keys, "PS256", None) == [RSA.thumbprint()]
    assert candidates(keys, "RS256", None) == "key_unknown"
    assert candidates(keys, "EdDSA", None) == [ED.thumbprint()]


def test_without_a_name_no_more_keys_are_tried_than_the_limit() -> None:
    named = [(key, {"kid": str(number)}) for number, key in enumerate(EC)]
    assert len(candidates(ring(*named[:MAX_CANDIDATES]), "ES256", None)) == MAX_CANDIDATES
    too_many = ring(*named, (RSA, {"kid": "r", "alg": "RS256"}))
    assert candidates(too_many, "ES256", None) == "key_unknown"
    assert candidates(too_many, "ES256", "0") == [EC[0].thumbprint()]
    assert candidates(too_many, "RS256", None) == [RSA.thumbprint()]


def test_a_set_for_another_algorithm_or_none_knows_no_key() -> None:
    assert candidates(KeyRing(kids_select=True), "ES256", None) == "key_unknown"
    assert candidates(KeyRing(), "ES256", None) == "key_unknown"
    assert candidates(ring((EC[0], {})), "ES384", None) == "key_unknown"


def test_the_refusal_of_a_name_escapes_it() -> None:
    with pytest.raises(Refusal) as caught:
        ring((EC[0], {})).candidates(ALGORITHMS["ES256"], "a\n\u202eb" + "x" * 1000)
    assert "\n" not in caught.value.message
    assert "\u202e" not in caught.value.message
    assert len(caught.value.message) < 300


@given(st.permutations(range(5)))
def test_the_order_of_keys_never_matters(order: list[int]) -> None:
    entries = [(EC[0], {"kid": "a"}), (EC[1], {"kid": "b"}), (EC[2], {}), (RSA, {"kid": "r"}), (ED, {})]
    keys, shuffled = ring(*entries), ring(*(entries[index] for index in order))
    assert shuffled == keys
    assert hash(shuffled) == hash(keys)
    for name in NAMES:
        for kid in (None, "a", "b", "r", "x"):
            assert set(candidates(shuffled, name, kid)) == set(candidates(keys, name, kid))


# ---- keys configured by hand ----------------------------------------------------------------------------------------


def by_hand(*keys: Any) -> KeyRing:
    pem = "".join(key.as_pem(private=False).decode() for key in keys)
    return KeyRing(load_keys(pem, ALGORITHMS["ES256"]))


@pytest.mark.parametrize("kid", [None, "", "a", "../../key.pem", pytest.param(EC[0].thumbprint(), id="thumbprint")])
def test_among_keys_configured_by_hand_a_name_selects_nothing(kid: str | None) -> None:
    keys = by_hand(EC[0], EC[1])
    assert candidates(keys, "ES256", kid) == [EC[0].thumbprint(), EC[1].thumbprint()]


def test_all_keys_configured_by_hand_are_tried_however_many() -> None:
    assert len(candidates(by_hand(*EC), "ES256", None)) == len(EC)


# ---- rings as values ------------------------------------------------------------------------------------------------


def test_rings_are_equal_when_they_hold_the_same_keys_for_the_same_use() -> None:
    assert by_hand(EC[0], EC[1]) == by_hand(EC[1], EC[0])
    assert by_hand(EC[0]) != by_hand(EC[1])
    assert by_hand(EC[0]) != ring((EC[0], {}))
    assert ring((EC[0], {"kid": "a"})) != ring((EC[0], {"kid": "b"}))
    assert ring((EC[0], {})) != [EC[0]]


def test_a_ring_is_true_when_it_has_keys_and_shows_thumbprints_only() -> None:
    secret = generate_key("HS256").secret or ""
    keys = KeyRing(load_keys(secret, ALGORITHMS["HS256"]))
    assert keys
    assert not KeyRing()
    assert keys.thumbprints == {key.thumbprint for key in keys.keys}
    assert secret not in repr(keys)
    assert all(thumbprint in repr(keys) for thumbprint in keys.thumbprints)


# ---- with tokens ----------------------------------------------------------------------------------------------------


def verdict(keys: KeyRing, signer: Any, header: dict[str, Any]) -> str | None:
    """The kid of the key that signed, or the code of the refusal, for a token of `signer` with that header."""
    algorithms = tuple(ALGORITHMS[name] for name in NAMES)
    message = ".".join(
        segment(json.dumps(part).encode()) for part in (header, {"sub": "u", "iat": NOW, "exp": NOW + 60})
    )
    token = f"{message}.{segment(ALGORITHMS[header['alg']].sign(message.encode(), signer))}"
    try:
        return verifier_from(AuthSettings("secure", algorithms, keys)).verify(token, NOW).kid
    except Refusal as refusal:
        return refusal.code


def segment(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_the_right_key_under_the_wrong_name_is_refused() -> None:
    keys = ring((EC[0], {"kid": "a"}), (EC[1], {"kid": "b"}))
    assert verdict(keys, EC[0], {"alg": "ES256", "kid": "a"}) == "a"
    assert verdict(keys, EC[0], {"alg": "ES256", "kid": "b"}) == "signature_invalid"
    assert verdict(keys, EC[1], {"alg": "ES256"}) == "b"
    assert verdict(keys, EC[2], {"alg": "ES256"}) == "signature_invalid"
    assert verdict(keys, RSA, {"alg": "PS256", "kid": "a"}) == "key_unknown"


def test_a_key_is_the_same_whether_it_came_from_a_set_or_a_pem() -> None:
    (from_set,) = ring((EC[0], {})).keys
    (from_pem,) = by_hand(EC[0]).keys
    assert isinstance(from_set, VerificationKey)
    assert from_set == from_pem
