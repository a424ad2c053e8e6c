"""The rules on keys, key sets and modes as an operator configures them, with keys that are new in every run.

The published vectors are one set of cases for these rules; here are as many others as one likes.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fuzz.issuer import Issuer, verdict
from fuzz.material import new_pair, segment, unsegment
from fuzz.octets import element, rsa_public_key
from leyden.auth import ALGORITHMS, Family
from leyden.auth.algorithms import P256, P384

PUBLIC_KEY_ALGORITHMS = [name for name, algorithm in ALGORITHMS.items() if algorithm.family is not Family.HMAC]


@pytest.fixture(params=range(2))
def rng(request: pytest.FixtureRequest) -> Random:
    seed = f"{request.node.name} {Random().getrandbits(64)}"
    print("seed:", seed)  # shown when the test fails
    return Random(seed)


def accepted(issuer: Issuer) -> str:
    return f"accept {issuer.user}"


def judged(issuer: Issuer, **env: str) -> str:
    """What comes of a good token of `issuer` when the environment has been changed."""
    return verdict(issuer.env(**env), issuer.token(), issuer.now)


# ---- modes ----------------------------------------------------------------------------------------------------------


def test_the_mode_is_secure_unless_it_says_exactly_insecure(rng: Random) -> None:
    issuer = Issuer.of(rng.choice(list(ALGORITHMS)), rng)
    assert judged(issuer) == judged(issuer, AUTH_MODE="secure") == accepted(issuer)
    for mode in (
        "",
        " ",
        "Secure",
        "SECURE",
        "secure ",
        " insecure",
        "Insecure",
        "none",
        "0",
        "false",
        "off",
        "secure\n",
    ):
        assert judged(issuer, AUTH_MODE=mode) == "config_error"
    assert judged(issuer, AUTH_MODE="insecure") == "config_error"
    assert verdict({}, issuer.token(), issuer.now) == "config_error"
    for name, value in issuer.env(AUTH_JWT_ISS="x", AUTH_JWT_AUD="y", AUTH_JWT_TYP="any", AUTH_JWT_LEEWAY="1").items():
        assert verdict({"AUTH_MODE": "insecure", name: value}, issuer.token(), issuer.now) == "config_error"
        assert verdict({"AUTH_MODE": "insecure", name: " "}, issuer.token(), issuer.now) == accepted(issuer)


def test_an_algorithm_is_one_known_name_to_the_letter(rng: Random) -> None:
    issuer = Issuer.of(rng.choice(list(ALGORITHMS)), rng)
    for alg in ("", " ", "none", "ES256K", "HS1", "RS1", "Ed448", "RSA", "*", issuer.alg.lower(), f" {issuer.alg}"):
        assert judged(issuer, AUTH_JWT_ALG=alg) == "config_error"
    for alg in (f"{issuer.alg} ", f"{issuer.alg},", f"{issuer.alg},HS256,RS256", f"{issuer.alg}\n"):
        assert judged(issuer, AUTH_JWT_ALG=alg) == "config_error"


def test_the_other_spelling_of_eddsa_is_another_algorithm(rng: Random) -> None:
    for name, other in (("EdDSA", "Ed25519"), ("Ed25519", "EdDSA")):
        issuer = Issuer.of(name, rng)
        assert judged(issuer) == accepted(issuer)
        assert judged(issuer, AUTH_JWT_ALG=other) == "alg_mismatch"


# ---- shared secrets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "least"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_secrets_are_as_long_as_the_hash_counted_in_bytes_after_decoding(name: str, least: int, rng: Random) -> None:
    issuer = Issuer.of(name, rng)
    for raw, fits in ((rng.randbytes(least), True), (rng.randbytes(least - 1), False)):
        encoded = base64.b64encode(raw).decode()
        expected = "signature_invalid" if fits else "config_error"  # the token is signed with another secret
        for text in (encoded, encoded.rstrip("=")):
            assert judged(issuer, AUTH_JWT_KEY=text, AUTH_JWT_KEY_IS_BASE64_ENCODED="true") == expected
    characters = "éß" * (least // 4)
    assert len(characters) == least // 2
    assert judged(issuer, AUTH_JWT_KEY=characters) == "signature_invalid"
    assert judged(issuer, AUTH_JWT_KEY=characters[1:]) == "config_error"
    assert judged(issuer, AUTH_JWT_KEY=" " + "k7!" * 10 + "\n" * (least - 31)) == "signature_invalid"


def test_the_flag_decides_whether_a_secret_is_decoded(rng: Random) -> None:
    issuer = Issuer.of("HS256", rng)
    secret = issuer.pair.private
    assert isinstance(secret, bytes)
    encoded = base64.b64encode(secret).decode()
    for word in ("true", "TRUE", "yes", "on", "1", "t"):
        assert judged(issuer, AUTH_JWT_KEY=encoded, AUTH_JWT_KEY_IS_BASE64_ENCODED=word) == accepted(issuer)
    for word in ("false", "False", "no", "off", "0", "", " "):
        assert judged(issuer, AUTH_JWT_KEY_IS_BASE64_ENCODED=word) == accepted(issuer)
        assert judged(issuer, AUTH_JWT_KEY=encoded, AUTH_JWT_KEY_IS_BASE64_ENCODED=word) == "signature_invalid"
    for word in ("maybe", "2", "truе", "yes please"):
        assert judged(issuer, AUTH_JWT_KEY=encoded, AUTH_JWT_KEY_IS_BASE64_ENCODED=word) == "config_error"
    for damaged in (
        encoded + "\n",
        encoded[:9] + "\n" + encoded[9:],
        "-_" + encoded[2:],
        encoded + "=",
        "%" + encoded[1:],
    ):
        assert judged(issuer, AUTH_JWT_KEY=damaged, AUTH_JWT_KEY_IS_BASE64_ENCODED="true") == "config_error"


def test_no_key_document_is_a_secret(rng: Random) -> None:
    issuer = Issuer.of("HS256", rng)
    pair = new_pair(rng.choice(["ES256", "EdDSA", "ES512"]))
    private: Any = pair.private
    der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ssh = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    documents = [
        pair.verification_text(),
        pair.private_pem(),
        json.dumps(pair.jwk()),
        json.dumps({"keys": [pair.jwk()]}),
        ssh,
    ]
    documents += [json.dumps(issuer.pair.jwk()), f"prefix {pair.verification_text()}", base64.b64encode(der).decode()]
    for document in documents:
        assert judged(issuer, AUTH_JWT_KEY=document) == "config_error"
        encoded = base64.b64encode(document.encode()).decode()
        assert judged(issuer, AUTH_JWT_KEY=encoded, AUTH_JWT_KEY_IS_BASE64_ENCODED="true") == "config_error"


# ---- PEM ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC_KEY_ALGORITHMS)
def test_a_public_key_is_read_in_every_form_that_files_and_environments_give_it(name: str, rng: Random) -> None:
    issuer = Issuer.of(name, rng)
    pem = issuer.pair.verification_text()
    lines = pem.strip().split("\n")
    encoded = base64.b64encode(pem.encode()).decode()
    for text in (
        pem,
        pem.strip(),
        f"\n\n{pem}\n\n",
        pem.replace("\n", "\r\n"),
        pem.replace("\n", "\\n"),
        pem.replace("\n", "\\r\\n"),
        pem.replace("\n", " "),
        "".join(f"    {line}\n" for line in lines),
        f"{lines[0]}\n{''.join(lines[1:-1])}\n{lines[-1]}",
        f"# a comment\n{pem}# another",
        issuer.other().verification_text() + pem,
        pem + issuer.other().verification_text(),
    ):
        assert judged(issuer, AUTH_JWT_KEY=text) == accepted(issuer)
        assert judged(issuer, AUTH_JWT_KEY=text, AUTH_JWT_KEY_IS_BASE64_ENCODED="true") == accepted(issuer)
    assert judged(issuer, AUTH_JWT_KEY=encoded, AUTH_JWT_KEY_IS_BASE64_ENCODED="true") == accepted(issuer)
    for text in (encoded, "".join(lines[1:-1]), lines[0], pem[:-20], pem.replace("PUBLIC", "PUBLISHED"), "x", "\\n"):
        assert judged(issuer, AUTH_JWT_KEY=text) == "config_error"


@pytest.mark.parametrize("name", PUBLIC_KEY_ALGORITHMS)
def test_private_keys_stop_the_start_alone_or_in_company(name: str, rng: Random) -> None:
    issuer = Issuer.of(name, rng)
    native: Any = issuer.pair.private
    private = [issuer.pair.private_pem()]
    private += [native.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()]
    private += [native.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()]
    if name not in ("EdDSA", "Ed25519"):
        private += [issuer.pair.private_pem(PrivateFormat.TraditionalOpenSSL)]
    for pem in private:
        for text in (pem, pem.strip(), issuer.pair.verification_text() + pem, pem.replace("\n", "\\n"), pem[:80]):
            assert judged(issuer, AUTH_JWT_KEY=text) == "config_error"


@pytest.mark.parametrize("name", PUBLIC_KEY_ALGORITHMS)
def test_keys_of_another_kind_or_curve_stop_the_start(name: str, rng: Random) -> None:
    issuer = Issuer.of(name, rng)
    algorithm = ALGORITHMS[name]
    strangers: list[Any] = [
        ec.generate_private_key(ec.SECP256K1()),
        ec.generate_private_key(ec.SECP224R1()),
        ec.generate_private_key(ec.BrainpoolP256R1()),
        ed448.Ed448PrivateKey.generate(),
        x25519.X25519PrivateKey.generate(),
        *(new_pair(other).private for other in ("ES256", "ES384", "ES512", "EdDSA") if not _alike(other, name)),
        *([Issuer.of("RS256", rng).pair.private] if algorithm.family is not Family.RSA else []),
    ]
    for stranger in strangers:
        pem = stranger.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        assert judged(issuer, AUTH_JWT_KEY=pem) == "config_error"
        assert judged(issuer, AUTH_JWT_KEY=issuer.pair.verification_text() + pem) == "config_error"


def _alike(one: str, other: str) -> bool:
    return (ALGORITHMS[one].family, ALGORITHMS[one].curve) == (ALGORITHMS[other].family, ALGORITHMS[other].curve)


def test_weak_rsa_keys_stop_the_start(rng: Random) -> None:
    issuer = Issuer.of(rng.choice(["RS256", "RS512", "PS256"]), rng)
    good = issuer.pair.private
    assert isinstance(good, rsa.RSAPrivateKey)
    n = good.public_key().public_numbers().n
    small = rsa.generate_private_key(65537, 1024).public_key().public_numbers().n
    for modulus, exponent, fits in [
        (n, 65537, True),
        (small, 65537, False),
        *((n, exponent, False) for exponent in (0, 1, 2, 3, 5, 17, 257, 65535, 65536, 65538, 2**256 + 1, n - 2)),
        (n - 1, 65537, False),
        (n * 3 >> 2 << 1 | 1, 65536, False),
        (3 * ((n // 3) | 1), 65537, False),
        (-n, 65537, False),
        (2**16384 + 1, 65537, False),
    ]:
        body = base64.b64encode(rsa_public_key(modulus, exponent)).decode()
        pem = f"-----BEGIN RSA PUBLIC KEY-----\n{body}\n-----END RSA PUBLIC KEY-----"
        assert judged(issuer, AUTH_JWT_KEY=pem) == (accepted(issuer) if fits else "config_error")


@pytest.mark.parametrize("name", ["ES256", "ES384", "ES512"])
def test_points_are_on_the_named_curve_and_may_be_compressed(name: str, rng: Random) -> None:
    issuer = Issuer.of(name, rng)
    curve, public = ALGORITHMS[name].curve, issuer.pair.private
    assert curve is not None
    assert isinstance(public, ec.EllipticCurvePrivateKey)
    point = public.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    compressed = public.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    kind = element(0x30, bytes.fromhex("06072a8648ce3d0201") + curve.object_identifier)
    other = element(0x30, bytes.fromhex("06072a8648ce3d0201") + (P384 if name == "ES256" else P256).object_identifier)
    for first, second, fits in [
        (kind, point, True),
        (kind, compressed, True),
        (kind, point[:-1] + bytes([point[-1] ^ 1]), False),
        (kind, point[:-1], False),
        (kind, b"\x05" + point[1:], False),
        (kind, b"\0", False),
        (kind, b"", False),
        (other, point, False),
        (element(0x30, bytes.fromhex("06072a8648ce3d0201")), point, False),
    ]:
        body = base64.b64encode(element(0x30, first + element(3, b"\0" + second))).decode()
        pem = f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----"
        assert judged(issuer, AUTH_JWT_KEY=pem) == (accepted(issuer) if fits else "config_error")


def test_a_previous_key_keeps_its_tokens_good_and_follows_the_same_rules(rng: Random) -> None:
    issuer = Issuer.of(rng.choice(["HS256", "ES256", "EdDSA", "PS256"]), rng)
    fresh, old = issuer.other().verification_text(), issuer.pair.verification_text()
    assert judged(issuer, AUTH_JWT_KEY=fresh) == "signature_invalid"
    assert judged(issuer, AUTH_JWT_KEY=fresh, AUTH_JWT_KEY_PREVIOUS=old) == accepted(issuer)
    assert judged(issuer, AUTH_JWT_KEY_PREVIOUS=fresh) == accepted(issuer)
    for bad in ("short", new_pair("ES384").private_pem()):
        assert judged(issuer, AUTH_JWT_KEY_PREVIOUS=bad) == "config_error"
    assert judged(issuer, AUTH_JWT_KEY="", AUTH_JWT_KEY_PREVIOUS=old) == "config_error"


# ---- key sets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC_KEY_ALGORITHMS)
def test_a_token_is_judged_by_the_key_it_names(name: str, rng: Random, tmp_path: Path) -> None:
    issuer = Issuer.of(name, rng)
    kid = f"{rng.getrandbits(32):x}"
    own, twin = issuer.pair.jwk(kid=kid), issuer.other().jwk(kid="twin")
    stranger = new_pair("ES256" if name != "ES256" else "EdDSA").jwk(kid="stranger")
    leftover = {"kty": "AKP", "kid": "new", "alg": "ML-DSA-44", "pub": "AA"}

    def with_set(*keys: Any, alg: str = f"{name},ES256" if name != "ES256" else "ES256,EdDSA", **header: Any) -> str:
        shuffled = rng.sample(keys, len(keys))
        path = tmp_path / "jwks.json"
        path.write_text(json.dumps({"keys": shuffled}), "utf-8")
        env = {"AUTH_JWT_ALG": alg, "AUTH_JWT_JWKS_FILE": str(path)}
        return verdict(env, issuer.token(issuer.header(**header)), issuer.now)

    everything = (own, twin, stranger, leftover)
    assert with_set(*everything, kid=kid) == accepted(issuer)
    assert with_set(*everything) == accepted(issuer)
    assert with_set(*everything, kid="twin") == "signature_invalid"
    for unknown in ("stranger", "new", "", kid.upper() + "x", f"{kid} ", "TWIN"):
        assert with_set(*everything, kid=unknown) == "key_unknown"
    assert with_set(*everything, kid=1) == "header_invalid"
    assert with_set(twin, stranger) == "signature_invalid"
    assert with_set(stranger) == "key_unknown"
    assert with_set(own, twin, alg="ES384" if name != "ES384" else "ES512") == "config_error"
    assert with_set(own, stranger, own | {"kid": "again"}, kid=kid) == accepted(issuer)
    assert with_set(own, own, stranger, kid=kid) == "key_unknown"
    for bad in ({"use": "enc"}, {"key_ops": ["encrypt"]}, {"alg": "RSA-OAEP"}, {"kty": "oct2"}, {"kid": 7}):
        assert with_set(own | bad, stranger, kid=kid) == "key_unknown"
    for secret in ({"d": "AA"}, {"k": "AA"}):
        assert with_set(own, stranger | secret, kid=kid) == "config_error"
    assert with_set(own, issuer.other().jwk(private=True), kid=kid) == "config_error"
    assert with_set(own, new_pair("HS256").jwk(), kid=kid) == "config_error"
    assert with_set(own, alg=f"{name},HS256", kid=kid) == "config_error"


def test_a_key_nobody_could_use_is_skipped_and_the_others_stay(rng: Random, tmp_path: Path) -> None:
    issuer = Issuer.of("ES256", rng)
    good = issuer.pair.jwk(kid="good")
    numbers = new_pair("ES256").jwk()
    small = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
    for bad in (
        numbers | {"y": numbers["x"]},
        numbers | {"x": segment(unsegment(numbers["x"])[1:])},
        numbers | {"x": numbers["x"] + "="},
        numbers | {"crv": "P-384"},
        numbers | {"crv": "secp256k1"},
        {"kty": "RSA", "e": "AQAB", "n": segment(small.n.to_bytes(128, "big"))},
        Issuer.of("RS256", rng).pair.jwk() | {"e": "Aw"},
        Issuer.of("RS256", rng).pair.jwk() | {"e": "AQ"},
        new_pair("EdDSA").jwk() | {"x": segment(bytes(32))},
        {"kty": "OKP", "crv": "X25519", "x": segment(rng.randbytes(32))},
    ):
        path = tmp_path / "jwks.json"
        path.write_text(json.dumps({"keys": rng.sample([good, bad | {"kid": "bad"}], 2)}), "utf-8")
        env = {"AUTH_JWT_ALG": "ES256,RS256,EdDSA", "AUTH_JWT_JWKS_FILE": str(path)}
        assert verdict(env, issuer.token(issuer.header(kid="good")), issuer.now) == accepted(issuer)
        for alg in ("ES256", "RS256", "EdDSA"):
            forged = Issuer.of(alg, rng)
            assert verdict(env, forged.token(forged.header(kid="bad")), forged.now) == "key_unknown"
        path.write_text(json.dumps({"keys": [bad]}), "utf-8")
        assert verdict(env, issuer.token(), issuer.now) == "config_error"


def test_without_a_name_at_most_five_keys_are_tried(rng: Random, tmp_path: Path) -> None:
    issuer = Issuer.of(rng.choice(["ES256", "EdDSA"]), rng)
    path = tmp_path / "jwks.json"
    for others, expected in ((4, accepted(issuer)), (5, "key_unknown")):
        keys = [issuer.pair.jwk(), *(new_pair(issuer.alg).jwk(kid=str(number)) for number in range(others))]
        path.write_text(json.dumps({"keys": rng.sample(keys, len(keys))}), "utf-8")
        env = {"AUTH_JWT_ALG": issuer.alg, "AUTH_JWT_JWKS_FILE": str(path)}
        assert verdict(env, issuer.token(), issuer.now) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"keys":[]}',
        '{"keys":{}}',
        '{"keys":[{}]}',
        '{"Keys":[]}',
        '{"keys":[],"keys":[]}',
        "keys",
    ],
)
def test_a_file_without_a_usable_key_stops_the_start(text: str, rng: Random, tmp_path: Path) -> None:
    issuer = Issuer.of("ES256", rng)
    path = tmp_path / "jwks.json"
    path.write_text(text, "utf-8")
    env = {"AUTH_JWT_ALG": "ES256", "AUTH_JWT_JWKS_FILE": str(path)}
    assert verdict(env, issuer.token(), issuer.now) == "config_error"
    assert verdict(env | {"AUTH_JWT_JWKS_FILE": str(path) + "x"}, issuer.token(), issuer.now) == "config_error"
    assert verdict(issuer.env(AUTH_JWT_JWKS_FILE=str(path)), issuer.token(), issuer.now) == "config_error"
