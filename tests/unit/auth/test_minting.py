"""Tokens made here: accepted here, and readable by the stock client."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from leyden.auth import (
    ALGORITHMS,
    AuthSettings,
    GeneratedKey,
    KeyRejected,
    KeyRing,
    RemoteKeys,
    TokenVerifier,
    claims_for,
    load_keys,
    load_private_key,
    mint_token,
    parse_jwk_set,
    public_jwk,
    signer_for,
)

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


def test_no_group_of_characters_needs_them_wherever_it_stands() -> None:
    """Base64 works on three bytes at a time: every pair of ASCII characters is tried at each of the three places."""
    pairs = [chr(first) + chr(second) for first in range(128) for second in range(128)]
    for before in ("", "a", "aa"):
        payload = mint_token({"x": before + "aaa".join(pairs), "~?>": before}).split(".")[1]
        assert "-" not in payload
        assert "_" not in payload


def test_random_payloads_never_need_them() -> None:
    random = Random(20_000)
    alphabet = '>?~\x7f\\"aé€🙂\n'
    for _ in range(20_000):
        text = "".join(random.choices(alphabet, k=random.randrange(24)))
        payload = mint_token({text: [text, {"sub": text}]}).split(".")[1]
        assert not {"-", "_"} & set(payload)


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
        ("-----BEGIN PRIVATE KEY-----\nMA8CAQAwBQYDK2VxBAMEAQE=\n-----END PRIVATE KEY-----", "EdDSA"),
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


def test_the_name_of_a_key_stands_in_the_header() -> None:
    header = mint_token({}, kid="k>?~").partition(".")[0]
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "none", "typ": "JWT", "kid": "k>?~"}


def _algorithms(*names: str) -> tuple[Any, ...]:
    return tuple(ALGORITHMS[name] for name in names)


def _pem(pair: GeneratedKey) -> bytes:
    return str(pair.private_pem).encode()


class TestSigner:
    @pytest.mark.parametrize(
        ("key", "configured", "expected"),
        [
            ("ES384", ("RS256", "ES256", "ES384"), "ES384"),
            ("RS256", ("ES256", "PS256", "RS256"), "PS256"),
            ("EdDSA", ("ES256", "RS256", "EdDSA"), "EdDSA"),
        ],
    )
    def test_the_algorithm_that_fits_the_key_is_chosen(
        self, key: str, configured: tuple[str, ...], expected: str, pairs: dict[str, GeneratedKey]
    ) -> None:
        signer = signer_for(_pem(pairs[key]), _algorithms(*configured), KeyRing())
        assert signer.algorithm.name == expected
        assert signer.public.thumbprint == load_keys(str(pairs[key].public_pem), ALGORITHMS[expected])[0].thumbprint
        assert str(signer.public.thumbprint) in repr(signer)
        assert "key=" not in repr(signer)

    def test_a_key_set_decides_algorithm_and_name(self, pairs: dict[str, GeneratedKey]) -> None:
        known = load_keys(str(pairs["RS256"].public_pem), ALGORITHMS["PS384"])[0]
        document = json.dumps({"keys": [public_jwk(known, "mine")]}).encode()
        algorithms = _algorithms("RS256", "PS384")
        ring = KeyRing(parse_jwk_set(document, algorithms).keys, kids_select=True)
        signer = signer_for(_pem(pairs["RS256"]), algorithms, ring)
        assert (signer.algorithm.name, signer.public.kid) == ("PS384", "mine")
        stranger = signer_for(_pem(pairs["PS256"]), algorithms, ring)
        assert (stranger.algorithm.name, stranger.public.kid) == ("RS256", None)

    def test_a_key_that_fits_nothing_is_refused_without_quoting_it(self, pairs: dict[str, GeneratedKey]) -> None:
        with pytest.raises(KeyRejected, match=r"fits none of the .*; give .* ES256 or ES384"):
            signer_for(_pem(pairs["ES512"]), _algorithms("ES256", "ES384"), KeyRing())
        with pytest.raises(KeyRejected, match="needs secp256r1"):
            signer_for(_pem(pairs["ES512"]), _algorithms("ES256"), KeyRing())
        with pytest.raises(KeyRejected, match="cannot be read"):
            signer_for(b"nothing of the kind", _algorithms("ES256", "RS256"), KeyRing())

    def test_a_weak_key_is_named_as_such_among_several_algorithms(self) -> None:
        pem = rsa.generate_private_key(65_537, 1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with pytest.raises(KeyRejected, match="1024 bits"):
            signer_for(pem, _algorithms("ES256", "RS256"), KeyRing())

    def test_keys_of_other_kinds_are_refused(self) -> None:
        pem = ed448.Ed448PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for names in (("ES256",), ("ES256", "EdDSA")):
            with pytest.raises(KeyRejected):
                signer_for(pem, _algorithms(*names), KeyRing())


class TestClaims:
    NAMESPACED = AuthSettings("insecure", namespace="n")

    def test_times_issuer_and_audience_are_written_as_the_service_wants_them(self) -> None:
        settings = AuthSettings(
            "secure", _algorithms("ES256"), remote=RemoteKeys(issuer="https://i"), issuer="https://i", audience="a"
        )
        made = claims_for("u", settings, now=1000, ttl=60, extra={"role": "x"})
        expected = {"role": "x", "sub": "u", "iat": 1000, "nbf": 1000, "exp": 1060, "iss": "https://i", "aud": "a"}
        assert made == expected

    def test_the_user_id_joins_other_claims_of_the_namespace(self) -> None:
        made = claims_for("u", self.NAMESPACED, now=1, ttl=1, extra={"n": {"role": "x"}})
        assert made["n"] == {"role": "x", "sub": "u"}
        assert "sub" not in made

    @pytest.mark.parametrize(
        "extra", [{"exp": 1}, {"user_id": "eve"}, {"n": "text"}, {"n": {"sub": "eve"}}, {"n": {"user_id": "eve"}}]
    )
    def test_claims_that_would_contradict_are_refused(self, extra: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="claim"):
            claims_for("u", self.NAMESPACED, now=1, ttl=1, extra=extra)

    def test_a_namespace_named_like_a_needed_claim_is_refused(self) -> None:
        with pytest.raises(ValueError, match="AUTH_JWT_NAMESPACE"):
            claims_for("u", AuthSettings("insecure", namespace="exp"), now=1, ttl=1)

    def test_a_service_of_these_settings_accepts_them(self, pairs: dict[str, GeneratedKey]) -> None:
        algorithm = ALGORITHMS["ES256"]
        ring = KeyRing(load_keys(str(pairs["ES256"].public_pem), algorithm))
        settings = AuthSettings("secure", (algorithm,), ring, namespace="n", issuer="i", audience="a", max_lifetime=60)
        signer = signer_for(_pem(pairs["ES256"]), (algorithm,), ring)
        made = claims_for("u", settings, now=1_760_000_000, ttl=60)
        token = mint_token(made, algorithm=signer.algorithm, key=signer.key)
        assert TokenVerifier(settings).verify(token, 1_760_000_000).user_id == "u"
