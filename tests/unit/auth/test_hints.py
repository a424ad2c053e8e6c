"""Hints: the usual mistakes of people who make tokens and of those who copy them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from leyden.auth import (
    ALGORITHMS,
    AuthSettings,
    Explanation,
    GeneratedKey,
    KeyRing,
    TokenVerifier,
    explain,
    generate_key,
    load_keys,
    load_private_key,
    mint_token,
    parse_jwk_set,
    public_jwk,
    verifier_from,
)

Verifiers = Callable[..., TokenVerifier]
Writer = Callable[..., str]
Claims = Callable[..., dict[str, Any]]
Signed = dict[str, tuple[TokenVerifier, str]]
Pairs = dict[str, GeneratedKey]

AT = 1_760_000_000
INSECURE = verifier_from(AuthSettings("insecure"))


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def resigned(token: str, signature: bytes) -> str:
    return f"{token.rpartition('.')[0]}.{encoded(signature)}"


def hints_of(explanation: Explanation) -> str:
    assert not explanation.accepted
    return " | ".join(explanation.hints)


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


class TestDamagedText:
    @pytest.mark.parametrize(
        ("change", "hint"),
        [
            (lambda token: f"Bearer {token}", 'begins with "Bearer "'),
            (lambda token: f"authorization: bearer {token}", 'begins with "Bearer "'),
            (lambda token: f"{token}\n", "white space in the token, first a line break at position 159"),
            (lambda token: token[:20] + "\r\n" + token[20:], "first a line break at position 20;"),
            (lambda token: token[:5] + "\u200b" + token[5:], "first U+200B at position 5;"),
            (lambda token: f"Bearer {token[:9]} {token[9:]}", "first U+0020 at position 16;"),
            (lambda token: f"'{token}'", "quotation marks"),
            (lambda token: f"“{token}”", "quotation marks"),
            (lambda token: f"{token}=", 'padding ("=") at position 159'),
            (lambda token: token.replace(".", "%2E"), "written for a URL, with % at position 40"),
            (lambda token: token[:40] + "…", "shortened by whatever displayed it"),
            (lambda token: token.rpartition(".")[0], "unsigned"),
            (lambda token: token[:-1], "characters are missing"),
            (lambda token: token + "." + token, "several tokens"),
            (lambda token: "0f8fad5b-d9cb-469f-a165-70867728950e", "opaque token"),
            (lambda token: encoded(token.encode()), "encoded in base64 once more"),
            (lambda token: "", "empty"),
        ],
    )
    def test_damage_by_copying_is_recognised(
        self, change: Callable[[str], str], hint: str, hs256: Verifiers, write_token: Writer, now: int
    ) -> None:
        assert hint in hints_of(explain(change(write_token()), now, hs256()))

    def test_the_standard_alphabet_is_pointed_at(self, hs256: Verifiers, write_token: Writer, now: int) -> None:
        token = write_token({"sub": "ÿ?>", "iat": now, "exp": now + 9, "x": "~~~???>>>ÿÿÿ"})
        standard = token.replace("-", "+").replace("_", "/")
        assert standard != token
        explanation = explain(standard, now, hs256())
        position = next(i for i, c in enumerate(standard) if c in "+/")
        assert f'standard base64 alphabet ("{standard[position]}" at position {position})' in hints_of(explanation)
        assert "without that damage it would be accepted" in explanation.hints

    def test_json_serialisation_is_recognised(self, hs256: Verifiers, write_token: Writer, now: int) -> None:
        header, payload, signature = write_token().split(".")
        text = json.dumps({"protected": header, "payload": payload, "signature": signature})
        assert "JSON serialisation of JWS" in hints_of(explain(text, now, hs256()))

    def test_encrypted_tokens_are_recognised(self, hs256: Verifiers, now: int) -> None:
        explanation = explain("eyJh.a.b.c.d", now, hs256())
        assert explanation.code == "token_encrypted"
        assert "ask the issuer for a signed one" in hints_of(explanation)

    def test_a_repaired_token_is_judged_and_shown_but_not_let_in(
        self, hs256: Verifiers, write_token: Writer, claims: Claims, now: int
    ) -> None:
        good = explain(f" Bearer {write_token()}\n", now, hs256())
        assert (good.accepted, good.user_id, good.code) == (False, None, "token_malformed")
        assert good.claims["sub"] == "user-1"
        assert good.hints[-1] == "without that damage it would be accepted"
        late = explain(f'"{write_token(claims(exp=now - 9999))}"', now, hs256())
        assert "without that damage it would still be refused: expired" in late.hints

    def test_percent_signs_without_end_are_no_problem(self, hs256: Verifiers, now: int) -> None:
        assert explain("%25" * 5000, now, hs256()).code == "token_malformed"

    def test_insecure_mode_does_not_complain_about_padding(self, write_token: Writer, now: int) -> None:
        token = write_token({"sub": "u", "x": "a"}).replace(".", "=.", 1)
        assert "padding" not in " ".join(explain(token + "\n\n.", now, INSECURE).hints)


class TestKind:
    @pytest.mark.parametrize(
        ("typ", "hint"),
        [
            ("dpop+jwt", "proof of possession"),
            ("application/logout+jwt", "logout token"),
            ("secevent+jwt", "security event"),
            ("RT+JWT", "refresh token"),
            ("acme+jwt", 'marks its access tokens with "acme+jwt", list that in AUTH_JWT_TYP'),
        ],
    )
    def test_other_kinds_of_token_are_named(
        self, typ: str, hint: str, hs256: Verifiers, write_token: Writer, now: int
    ) -> None:
        explanation = explain(write_token(header={"alg": "HS256", "typ": typ}), now, hs256())
        assert explanation.code == "typ_rejected"
        assert hint in hints_of(explanation)

    def test_marks_of_encryption_are_explained(self, hs256: Verifiers, write_token: Writer, now: int) -> None:
        explanation = explain(write_token(header={"alg": "HS256", "enc": "A128GCM"}), now, hs256())
        assert "ask the issuer for a signed one" in hints_of(explanation)


class TestAlgorithm:
    def test_other_families_are_explained(self, signed: Signed, hs256: Verifiers, now: int) -> None:
        assert "private key" in explain(signed["ES256"][1], now, hs256()).hints[0]
        assert "shared secret" in explain(signed["HS256"][1], now, signed["ES256"][0]).hints[0]

    @pytest.mark.parametrize(("written", "configured"), [("EdDSA", "Ed25519"), ("Ed25519", "EdDSA")])
    def test_the_two_spellings_of_ed25519_are_explained(
        self, written: str, configured: str, signed: Signed, now: int
    ) -> None:
        assert "one algorithm" in explain(signed[written][1], now, signed[configured][0]).hints[0]

    @pytest.mark.parametrize(
        ("written", "configured", "hint"),
        [
            ("RS512", "RS256", "set AUTH_JWT_ALG=RS512"),
            ("PS256", "RS256", "the same RSA key serves PS256"),
            ("HS512", "HS256", "the secret must be long enough"),
            ("ES384", "ES256", "set AUTH_JWT_ALG=ES384, and its key"),
        ],
    )
    def test_a_neighbouring_algorithm_is_offered(
        self, written: str, configured: str, hint: str, signed: Signed, now: int
    ) -> None:
        assert hint in hints_of(explain(signed[written][1], now, signed[configured][0]))

    @pytest.mark.parametrize(
        ("alg", "hint"),
        [
            ("none", "unsigned"),
            ("NONE", "unsigned"),
            ("hs256", 'HS256, not "hs256"'),
            ("HS-256", 'HS256, not "HS-256"'),
            ("ES256K", "is not supported; have the issuer sign with HS256"),
        ],
    )
    def test_odd_names_are_explained(
        self, alg: str, hint: str, hs256: Verifiers, write_token: Writer, now: int
    ) -> None:
        assert hint in hints_of(explain(write_token(header={"alg": alg}), now, hs256()))

    @pytest.mark.parametrize("ending", ["", "\n"])
    def test_a_public_key_used_as_secret_is_recognised(
        self, ending: str, pairs: Pairs, signed: Signed, write_token: Writer, now: int
    ) -> None:
        body = write_token().rpartition(".")[0]
        secret = str(pairs["ES256"].public_pem).strip() + ending
        forged = f"{body}.{encoded(hmac.digest(secret.encode(), body.encode(), 'sha256'))}"
        hints = hints_of(explain(forged, now, signed["ES256"][0]))
        assert "the text of the public key" in hints
        assert "the text of the public key" not in hints_of(explain(write_token(), now, signed["ES256"][0]))


class TestKeys:
    def test_an_unknown_kid_lists_names_and_thumbprints(self, pairs: Pairs, now: int) -> None:
        verifier = key_set(pairs, "ES256", "ES384")
        token = mint_token({}, algorithm=ALGORITHMS["ES256"], key=private_key(pairs, "ES256"), kid="2019")
        explanation = explain(token, now, verifier)
        assert explanation.code == "key_unknown"
        for key in verifier.ring.keys:
            assert f'{key.algorithm.name} "{key.kid}" (thumbprint {key.thumbprint})' in hints_of(explanation)
        assert "has changed its keys" in hints_of(explanation)

    @pytest.mark.parametrize(
        ("kid", "hint"),
        [
            ("ES256", 'kid differs from "es256" in upper and lower case'),
            ("es384", 'the key "es384" is in the set, but'),
        ],
    )
    def test_near_misses_of_kid_are_recognised(self, kid: str, hint: str, pairs: Pairs, now: int) -> None:
        token = mint_token({}, algorithm=ALGORITHMS["ES256"], key=private_key(pairs, "ES256"), kid=kid)
        assert hint in hints_of(explain(token, now, key_set(pairs, "ES256", "ES384")))

    @pytest.mark.parametrize(("name", "hint"), [("k", 'is called "k" there'), (None, "has no kid there")])
    def test_a_thumbprint_in_place_of_a_kid_is_recognised(
        self, name: str | None, hint: str, pairs: Pairs, now: int
    ) -> None:
        verifier = key_set(pairs, "ES256", kids={"ES256": name})
        kid = verifier.ring.keys[0].thumbprint
        token = mint_token({}, algorithm=ALGORITHMS["ES256"], key=private_key(pairs, "ES256"), kid=kid)
        assert hint in hints_of(explain(token, now, verifier))

    def test_a_token_that_names_no_key_among_many_is_explained(self, pairs: Pairs, now: int) -> None:
        made = {f"{number}": generate_key("ES256") for number in range(6)}
        jwks = [public_jwk(load_keys(str(key.public_pem), ALGORITHMS["ES256"])[0], kid) for kid, key in made.items()]
        ring = KeyRing(parse_jwk_set(json.dumps({"keys": jwks}).encode(), [ALGORITHMS["ES256"]]).keys, kids_select=True)
        token = mint_token({}, algorithm=ALGORITHMS["ES256"], key=private_key(pairs, "ES256"))
        verifier = verifier_from(AuthSettings("secure", (ALGORITHMS["ES256"],), ring))
        assert "names no key (kid)" in hints_of(explain(token, now, verifier))

    def test_another_key_of_the_set_is_recognised(self, pairs: Pairs, now: int) -> None:
        other = generate_key("ES256")
        jwks = [
            public_jwk(load_keys(str(pair.public_pem), ALGORITHMS["ES256"])[0], kid)
            for kid, pair in (("old", pairs["ES256"]), ("new", other))
        ]
        ring = KeyRing(parse_jwk_set(json.dumps({"keys": jwks}).encode(), [ALGORITHMS["ES256"]]).keys, kids_select=True)
        token = mint_token({}, algorithm=ALGORITHMS["ES256"], key=private_key(pairs, "ES256"), kid="new")
        explanation = explain(token, now, verifier_from(AuthSettings("secure", (ALGORITHMS["ES256"],), ring)))
        assert explanation.code == "signature_invalid"
        assert 'good under another key of the set, ES256 "old"' in hints_of(explanation)
        assert "wrong kid" in hints_of(explanation)

    def test_the_wrong_key_of_a_pair_gets_the_thumbprint_to_compare(
        self, pairs: Pairs, signed: Signed, now: int
    ) -> None:
        other = {"ES256": generate_key("ES256")}
        token = mint_token({}, algorithm=ALGORITHMS["ES256"], key=private_key(other, "ES256"), kid="theirs")
        hints = hints_of(explain(token, now, signed["ES256"][0]))
        assert signed["ES256"][0].ring.keys[0].thumbprint in hints
        assert 'the token says "theirs"' in hints
        assert "leyden keys check" in hints

    def test_an_rsa_key_of_another_size_is_recognised(self, signed: Signed, now: int) -> None:
        verifier, token = signed["RS256"]
        assert "RSA key of 2048 bits" in hints_of(explain(resigned(token, b"\1" * 256), now, verifier))


class TestSignature:
    def test_der_signatures_are_recognised(self, signed: Signed, now: int) -> None:
        verifier, token = signed["ES256"]
        raw = base64.urlsafe_b64decode(token.rpartition(".")[2] + "==")
        der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        explanation = explain(resigned(token, der), now, verifier)
        assert explanation.code == "signature_invalid"
        assert "DER" in explanation.hints[0]
        assert "but for that it is good" in explanation.hints[0]
        stranger = explain(resigned(token, encode_dss_signature(7, 9)), now, verifier)
        assert "not made with the configured key either" in stranger.hints[0]

    @pytest.mark.parametrize(
        ("secret", "is_base64", "used", "hint"),
        [
            ("text", True, "text", "base64 text"),
            ("text", False, "raw", "IS_BASE64_ENCODED"),
            ("raw hex", False, "hex decoded", "spells in hexadecimal"),
            ("text", False, "hex of text", "hexadecimal text"),
            ("text", False, "with newline", "line break at the end"),
            ("text with newline", False, "text", "line break at the end"),
        ],
    )
    def test_mixups_of_secrets_are_recognised(
        self, secret: str, is_base64: bool, used: str, hint: str, write_token: Writer, now: int
    ) -> None:
        raw = hashlib.sha512(b"a secret of no importance").digest()
        text = base64.b64encode(raw).decode()
        configured = {"text": text, "raw hex": raw.hex(), "text with newline": text + "\n"}[secret]
        key = {
            "text": text.encode(),
            "raw": raw,
            "hex decoded": raw,
            "hex of text": text.encode().hex().encode(),
            "with newline": text.encode() + b"\n",
        }[used]
        algorithm = ALGORITHMS["HS256"]
        body = write_token().rpartition(".")[0]
        token = f"{body}.{encoded(hmac.digest(key, body.encode(), 'sha256'))}"
        ring = KeyRing(load_keys(configured, algorithm, is_base64=is_base64))
        explanation = explain(token, now, verifier_from(AuthSettings("secure", (algorithm,), ring)))
        assert explanation.code == "signature_invalid"
        assert hint in explanation.hints[0]
        assert text not in hints_of(explanation)

    def test_another_secret_is_said_to_be_one(self, hs256: Verifiers, write_token: Writer, now: int) -> None:
        assert "another secret" in hints_of(explain(write_token(secret="another secret" * 3), now, hs256()))

    def test_a_hexadecimal_signature_is_recognised(self, hs256: Verifiers, write_token: Writer, now: int) -> None:
        token = write_token()
        raw = base64.urlsafe_b64decode(token.rpartition(".")[2] + "=")
        assert "hexadecimal text" in hints_of(explain(resigned(token, binascii.hexlify(raw)), now, hs256()))

    @pytest.mark.parametrize(("used", "named"), [("PS256", "RS256"), ("RS512", "RS256"), ("RS256", "PS256")])
    def test_a_signature_by_another_algorithm_of_the_key_is_recognised(
        self, used: str, named: str, pairs: Pairs, signed: Signed, now: int
    ) -> None:
        verifier, token = signed[named]
        body = token.rpartition(".")[0]
        signature = ALGORITHMS[used].sign(body.encode(), private_key(pairs, named))
        assert f"made by {used}, and the header says {named}" in hints_of(
            explain(resigned(token, signature), now, verifier)
        )

    def test_a_digest_of_another_size_is_recognised(
        self, hs256: Verifiers, write_token: Writer, secret: str, now: int
    ) -> None:
        token = write_token()
        signature = hmac.digest(secret.encode(), token.rpartition(".")[0].encode(), "sha512")
        assert "made by HS512" in hints_of(explain(resigned(token, signature), now, hs256()))

    def test_an_empty_signature_is_an_unsigned_token(self, hs256: Verifiers, write_token: Writer, now: int) -> None:
        assert "unsigned" in hints_of(explain(resigned(write_token(), b""), now, hs256()))

    def test_no_signature_or_secret_gets_into_an_explanation(
        self, hs256: Verifiers, write_token: Writer, secret: str, now: int
    ) -> None:
        for token in (write_token(), write_token(secret="another secret" * 3), write_token() + "="):
            explanation = repr(explain(token, now, hs256()))
            assert hs256().ring.keys[0].thumbprint not in explanation
            assert token.rpartition(".")[2].strip("=") not in explanation
            assert secret not in explanation


class TestClaims:
    @pytest.mark.parametrize(
        ("changes", "policy", "hint"),
        [
            ({"exp": 1_760_000_600_000}, {}, "exp looks like milliseconds"),
            ({"iat": 1_760_000_600_000_000}, {}, "iat looks like microseconds"),
            ({"nbf": 1_760_000_600_000_000_000}, {}, "nbf looks like nanoseconds"),
            ({"exp": "1760000600"}, {}, "written as text"),
            ({"exp": "2026-01-01T00:00:00Z"}, {}, "date written as text"),
            ({"exp": 3600}, {}, "looks like a lifetime"),
            ({"exp": AT - 100, "iat": AT - 100}, {}, "never good"),
            ({"exp": AT - 10}, {}, "clock"),
            ({"exp": AT - 5000, "iat": AT - 6000}, {}, "fresh token"),
            ({"iat": AT + 100}, {}, "clock"),
            ({"iat": AT + 7200}, {}, "iat is 2 h ahead: the issuer writes local time"),
            ({"nbf": AT + 100}, {}, "clock"),
            ({"nbf": AT + 3601}, {}, "nbf is 1 h ahead: the issuer writes local time"),
            ({"exp": AT + 9000}, {"max_lifetime": 60}, "shorter time"),
            ({"iat": AT - 9000}, {"max_age": 60}, "shorter time"),
            ({"exp": ...}, {}, "a token without an end"),
            ({"exp": ..., "expires_at": AT + 60}, {}, 'the token has "expires_at"; the name of the claim is exp'),
            ({"exp": ..., "Exp": AT + 60}, {}, 'the token has "Exp"; the name of the claim is exp'),
            ({"exp": ..., "n": {"exp": AT, "sub": "u"}}, {"namespace": "n"}, "at the top level only"),
            ({"iat": ...}, {}, "only when asked to"),
            ({}, {"issuer": "https://i.example"}, "have the issuer write iss"),
            ({}, {"audience": "api"}, "have the issuer write aud"),
            ({"iss": "https://i.example/"}, {"issuer": "https://i.example"}, "slash"),
            ({"iss": "https://I.example"}, {"issuer": "https://i.example"}, "upper and lower case"),
            ({"iss": "http://i.example"}, {"issuer": "https://i.example"}, "scheme"),
            ({"iss": "i.example"}, {"issuer": "https://i.example"}, "scheme"),
            ({"iss": "HTTP://i.example/"}, {"issuer": "https://i.example"}, "scheme, case and slashes"),
            ({"iss": "https://i.example "}, {"issuer": "https://i.example"}, "white space"),
            ({"iss": "https://other.example"}, {"issuer": "https://i.example"}, "another issuer"),
            ({"aud": ["x", "API"]}, {"audience": "api"}, "upper and lower case"),
            ({"aud": "https://api.example/"}, {"audience": "https://api.example"}, "slash"),
            ({"aud": "client", "nonce": "n"}, {"audience": "api"}, "ID token"),
            ({"aud": "client", "at_hash": "n"}, {"audience": "api"}, "ID token"),
            ({"aud": "client", "azp": "client"}, {"audience": "api"}, "aud is the client itself"),
            ({"aud": "api"}, {"audience": "api,web"}, "one audience, not a list"),
            ({"aud": "other"}, {"audience": "api"}, "with this service as audience"),
            ({}, {"namespace": "https://n.example"}, "AUTH_JWT_NAMESPACE is set"),
            ({"sub": ..., "n": {"sub": "u"}}, {}, "AUTH_JWT_NAMESPACE can name"),
            ({"sub": ..., "a": {"b": {"sub": "u"}}}, {"namespace": "a.b"}, "not a path"),
            ({"sub": ..., "https://n.example/": {"sub": "u"}}, {"namespace": "https://n.example"}, "slash"),
            ({"sub": ..., "n": '{"sub":"u"}'}, {"namespace": "n"}, "text that holds JSON"),
            ({"sub": ..., "n": {"userId": "u"}}, {"namespace": "n"}, 'the token has "userId"'),
            ({"sub": ..., "email": "u@example.org"}, {}, 'the token has "email"; the user id has to be in sub'),
            ({"sub": ..., "Sub": "u"}, {}, 'the token has "Sub"'),
            ({"sub": 7}, {}, "number"),
            ({"sub": "", "user_id": "u"}, {}, "read only when sub is absent"),
            ({"sub": " u"}, {}, "AUTH_USER_ID_POLICY=legacy"),
        ],
    )
    def test_mistakes_of_issuers_are_recognised(
        self,
        changes: dict[str, Any],
        policy: dict[str, Any],
        hint: str,
        hs256: Verifiers,
        write_token: Writer,
        claims: Claims,
        now: int,
    ) -> None:
        assert hint in hints_of(explain(write_token(claims(**changes)), now, hs256(**policy)))

    def test_an_empty_user_id_is_not_offered_as_a_name_for_itself(
        self, hs256: Verifiers, write_token: Writer, claims: Claims, now: int
    ) -> None:
        assert explain(write_token(claims(sub=None, user_id=None)), now, hs256()).hints == ()

    @pytest.mark.parametrize(
        ("payload", "hint"),
        [
            (lambda token: token, "nested JWT"),
            (lambda token: json.dumps(token), "nested JWT"),
            (lambda token: base64.b64encode(b'{"sub":"u"}').decode(), "encoded in base64 twice"),
            (lambda token: json.dumps('{"sub":"u"}'), "JSON twice"),
        ],
    )
    def test_payloads_packed_twice_are_recognised(
        self, payload: Callable[[str], str], hint: str, hs256: Verifiers, write_token: Writer, now: int
    ) -> None:
        explanation = explain(write_token(payload(write_token())), now, hs256())
        assert explanation.code == "payload_invalid"
        assert hint in hints_of(explanation)

    def test_a_good_token_with_two_different_user_ids_says_which_counts(
        self, hs256: Verifiers, write_token: Writer, claims: Claims, now: int
    ) -> None:
        explanation = explain(write_token(claims(user_id="other")), now, hs256())
        assert explanation.user_id == "user-1"
        assert "sub counts" in " ".join(explanation.hints)
        assert explain(write_token(claims(user_id="user-1")), now, hs256()).hints == ()

    def test_payloads_the_stock_client_cannot_decode_are_pointed_out(
        self, hs256: Verifiers, write_token: Writer, claims: Claims, now: int
    ) -> None:
        token = write_token(claims(x="???>>>~~~"))
        explanation = explain(token, now, hs256())
        assert explanation.accepted
        assert "stock client" in explanation.hints[0]
        start = token.index(".")
        position = next(i for i, c in enumerate(token) if i > start and c in "-_")
        assert f"(position {position})" in explanation.hints[0]
        late = explain(token, now + 99_999, hs256())
        assert "stock client" in late.hints[-1]


NAMES = ("exp", "iat", "nbf", "iss", "aud", "sub", "user_id", "n", "n.m", "nonce", "azp", "kid", "typ", "alg")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.dictionaries(st.sampled_from(NAMES) | st.text(), JSON, max_size=6)


@given(MEMBERS, MEMBERS, st.booleans())
def test_no_token_makes_the_words_about_it_fail(
    hs256: Verifiers,
    write_token: Writer,
    claims: Claims,
    now: int,
    odd: dict[str, Any],
    header: dict[str, Any],
    good: bool,
) -> None:
    token = write_token(claims(**odd) if good else odd, {"alg": "HS256"} | header)
    with patch("leyden.auth.explanation._log.error", side_effect=AssertionError):
        for verifier in (hs256(), hs256(issuer="i", audience="a", namespace="n.m", max_age=9), INSECURE):
            explain(token, now, verifier)
            explain(f"'{token}'", now, verifier)
