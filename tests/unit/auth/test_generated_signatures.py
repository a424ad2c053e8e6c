"""The rules on algorithms and signatures, with keys, times and spellings that are new in every run.

The published vectors are one set of cases for these rules; here are as many others as one likes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fuzz.issuer import Issuer, verdict
from fuzz.material import Pair, segment, unsegment
from leyden.auth import ALGORITHMS, Family

ROUNDS = 4
SOME_ALGORITHMS = ["HS256", "HS512", "RS256", "PS384", "ES256", "ES512", "EdDSA", "Ed25519"]


@pytest.fixture(params=range(ROUNDS))
def rng(request: pytest.FixtureRequest) -> Random:
    seed = f"{request.node.name} {Random().getrandbits(64)}"
    print("seed:", seed)  # shown when the test fails
    return Random(seed)


@pytest.fixture
def issuer(rng: Random) -> Issuer:
    return Issuer.of(rng.choice(SOME_ALGORITHMS), rng)


def accepted(issuer: Issuer) -> str:
    return f"accept {issuer.user}"


# ---- algorithms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_accepts_its_own_in_any_spelling_of_json(name: str, rng: Random) -> None:
    issuer = Issuer.of(name, rng)
    assert verdict(issuer.env(), issuer.token(), issuer.now) == accepted(issuer)


def test_unsigned_tokens_are_refused_however_none_is_spelled(issuer: Issuer, rng: Random) -> None:
    none = "".join(rng.choice([c, c.upper()]) for c in "none")
    message = issuer.token(issuer.header(alg=none)).rpartition(".")[0]
    leftover = issuer.token().rpartition(".")[2]
    for token in (f"{message}.", f"{message}.{leftover}", issuer.token(issuer.header(alg=none))):
        assert verdict(issuer.env(), token, issuer.now) == "alg_mismatch"
    assert verdict(issuer.env(), message, issuer.now) == "token_malformed"
    right = issuer.token().rpartition(".")[0]
    assert verdict(issuer.env(), f"{right}.", issuer.now) == "signature_invalid"


@pytest.mark.parametrize(
    "change",
    [
        *(
            lambda alg, other=other: other
            for other in ("", None, 256, True, [], {}, ..., "none", "RS1", "HS1", "HS128")
        ),
        *(
            lambda alg, other=other: other
            for other in ("dir", "RSA-OAEP", "A256GCM", "A128KW", "ES256K", "Ed448", "ML-DSA-44")
        ),
        *(lambda alg, other=other: other for other in ("PBES2-HS256+A128KW", "ECDH-ES", "RSA1_5", "ESB256")),
        str.lower,
        lambda alg: f" {alg}",
        lambda alg: f"{alg} ",
        lambda alg: f"{alg}\0",
        lambda alg: f"{alg}\n",
        lambda alg: [alg],
        lambda alg: {"alg": alg},
        lambda alg: alg.translate({ord(digit): 0xFEE0 + ord(digit) for digit in "0123456789"}),
        lambda alg: alg.replace("S", "Ѕ").replace("E", "Е").replace("H", "Н"),
        lambda alg: alg[:-1],
        lambda alg: f"{alg}{alg}",
    ],
)
def test_any_other_value_of_alg_is_a_mismatch_though_the_signature_is_good(
    change: Callable[[str], Any], issuer: Issuer
) -> None:
    alg = change(issuer.alg)
    expected = accepted(issuer) if alg == issuer.alg else "alg_mismatch"  # a name without digits, for one
    assert verdict(issuer.env(), issuer.token(issuer.header(alg=alg)), issuer.now) == expected


@pytest.mark.parametrize(
    "name", [name for name, algorithm in ALGORITHMS.items() if algorithm.family is not Family.HMAC]
)
def test_a_public_key_is_no_secret_whatever_its_spelling(name: str, rng: Random) -> None:
    issuer = Issuer.of(name, rng)
    pem = issuer.pair.verification_text()
    native: Any = issuer.pair.private
    der = native.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    jwk = issuer.pair.jwk()
    spellings: list[bytes] = [pem.encode(), pem.strip().encode(), pem.replace("\n", "\r\n").encode(), der]
    spellings += [
        "".join(pem.split("\n")[1:-2]).encode(),
        json.dumps(jwk).encode(),
        unsegment(jwk.get("n", jwk.get("x"))),
    ]
    for secret in spellings:
        for alg in ("HS256", "HS384", "HS512"):
            forger = Pair(ALGORITHMS[alg], secret)
            assert (
                verdict(issuer.env(), issuer.token(issuer.header(alg=alg), signer=forger), issuer.now) == "alg_mismatch"
            )
            assert verdict(issuer.env(), issuer.token(signer=forger), issuer.now) == "signature_invalid"


def test_keys_of_other_algorithms_and_other_holders_sign_nothing(issuer: Issuer, rng: Random) -> None:
    assert verdict(issuer.env(), issuer.token(signer=issuer.other()), issuer.now) == "signature_invalid"
    for name in rng.sample([name for name in ALGORITHMS if name not in (issuer.alg, "EdDSA", "Ed25519")], 3):
        if ALGORITHMS[name].family is not ALGORITHMS[issuer.alg].family:
            stranger = Issuer.of(name, rng)
            assert verdict(issuer.env(), issuer.token(signer=stranger.pair), issuer.now) == "signature_invalid"
            assert verdict(issuer.env(), stranger.token(), stranger.now) == "alg_mismatch"


def test_hashes_and_paddings_of_one_rsa_key_are_kept_apart(rng: Random) -> None:
    issuer = Issuer.of(rng.choice(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]), rng)
    for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"):
        twin = Pair(ALGORITHMS[name], issuer.pair.private)
        honest = issuer.token(issuer.header(alg=name), signer=twin)
        assert verdict(issuer.env(), honest, issuer.now) == (accepted(issuer) if name == issuer.alg else "alg_mismatch")
        if name != issuer.alg:
            assert verdict(issuer.env(), issuer.token(signer=twin), issuer.now) == "signature_invalid"


@pytest.mark.parametrize(
    "secret", [b"", b"\0", b"\0" * 32, b"secret", b"null", b"undefined", b"HS256", b"None", b"false"]
)
def test_nothing_is_signed_with_a_guess(secret: bytes, rng: Random) -> None:
    issuer = Issuer.of(rng.choice(["HS256", "HS384", "HS512"]), rng)
    assert (
        verdict(issuer.env(), issuer.token(signer=Pair(issuer.pair.algorithm, secret)), issuer.now)
        == "signature_invalid"
    )


# ---- signatures -----------------------------------------------------------------------------------------------------


def with_signature(issuer: Issuer, change: Callable[[bytes, bytes], bytes]) -> str:
    """A token whose signature is what `change` makes of (good signature, signed content)."""
    message, _, signature = issuer.token().rpartition(".")
    return f"{message}.{segment(change(unsegment(signature), message.encode()))}"


@pytest.mark.parametrize("name", ["ES256", "ES384", "ES512"])
def test_ecdsa_signatures_have_one_form_and_numbers_in_range(name: str, rng: Random) -> None:
    issuer = Issuer.of(name, rng)
    curve = ALGORITHMS[name].curve
    assert curve is not None
    n, width = curve.order, curve.width

    def rewritten(change: Callable[[int, int], tuple[int, int]]) -> str:
        def both(signature: bytes, _: bytes) -> bytes:
            r, s = int.from_bytes(signature[:width], "big"), int.from_bytes(signature[width:], "big")
            return b"".join(number.to_bytes(width, "big") for number in change(r, s))

        return with_signature(issuer, both)

    assert verdict(issuer.env(), rewritten(lambda r, s: (r, n - s)), issuer.now) == accepted(issuer)
    top = 2 ** (8 * width) - 1
    for change in (
        *(
            lambda r, s, pair=pair: pair
            for pair in [(0, 0), (1, 1), (n, n), (top, top), (n - 1, n - 1), (1, 0), (0, 1)]
        ),
        *[lambda r, s: (0, s), lambda r, s: (r, 0), lambda r, s: (n, s), lambda r, s: (r, n), lambda r, s: (s, r)],
        *[lambda r, s: (r, s - 1), lambda r, s: (r, s + 1), lambda r, s: (n - r, s), lambda r, s: (r, top)],
        *[lambda r, s: (min(r + n, top), s), lambda r, s: (r, min(s + n, top))],
    ):
        assert verdict(issuer.env(), rewritten(change), issuer.now) == "signature_invalid"
    private = issuer.pair.private
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    digest = {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}[ALGORITHMS[name].digest_bytes]
    for reshape in (
        lambda good, message: private.sign(message, ec.ECDSA(digest)),
        lambda good, message: good[:-1],
        lambda good, message: good[:width],
        lambda good, message: good + b"\0",
        lambda good, message: good + good,
        lambda good, message: b"\0\0" + good,
        lambda good, message: b"\0" + good[:width] + b"\0" + good[width:],
        lambda good, message: good.hex().encode(),
        lambda good, message: b"",
    ):
        assert verdict(issuer.env(), with_signature(issuer, reshape), issuer.now) == "signature_invalid"


def test_ecdsa_signatures_are_of_the_hash_and_the_curve(rng: Random) -> None:
    issuer = Issuer.of("ES256", rng)
    private = issuer.pair.private
    assert isinstance(private, ec.EllipticCurvePrivateKey)

    def sign(key: ec.EllipticCurvePrivateKey, message: bytes, digest: hashes.HashAlgorithm) -> bytes:
        return b"".join(n.to_bytes(32, "big") for n in decode_dss_signature(key.sign(message, ec.ECDSA(digest))))

    for digest in (hashes.SHA1(), hashes.SHA224(), hashes.SHA384(), hashes.SHA512()):
        token = with_signature(issuer, lambda _, message, digest=digest: sign(private, message, digest))
        assert verdict(issuer.env(), token, issuer.now) == "signature_invalid"
    koblitz = ec.generate_private_key(ec.SECP256K1())
    token = with_signature(issuer, lambda _, message: sign(koblitz, message, hashes.SHA256()))
    assert verdict(issuer.env(), token, issuer.now) == "signature_invalid"


def emsa(prefix: bytes, digest: bytes, size: int, fill: bytes = b"\xff", kind: int = 1) -> int:
    """A PKCS#1 v1.5 block as a number, well formed or not."""
    tail = b"\0" + prefix + digest
    return int.from_bytes(bytes([0, kind]) + fill * (size - 2 - len(tail)) + tail, "big")


def test_pkcs1_signatures_have_one_padding(rng: Random) -> None:
    issuer = Issuer.of("RS256", rng)
    private = issuer.pair.private
    assert isinstance(private, RSAPrivateKey)
    numbers = private.private_numbers()
    n, size = numbers.public_numbers.n, private.key_size // 8
    info = bytes.fromhex("3031300d060960864801650304020105000420")
    without_null = bytes.fromhex("302f300b0609608648016503040201" + "0420")

    def raw(block: int) -> bytes:
        return pow(block, numbers.d, n).to_bytes(size, "big")

    def digest(message: bytes) -> bytes:
        return hashlib.sha256(message).digest()

    right = with_signature(issuer, lambda _, message: raw(emsa(info, digest(message), size)))
    assert verdict(issuer.env(), right, issuer.now) == accepted(issuer)
    for change in (
        lambda good, message: b"\0" + good,
        lambda good, message: good[:-1],
        lambda good, message: good[1:],
        lambda good, message: bytes(size),
        lambda good, message: bytes(size - 1) + b"\1",
        lambda good, message: (n - 1).to_bytes(size, "big"),
        lambda good, message: (n - int.from_bytes(good, "big")).to_bytes(size, "big"),
        lambda good, message: (int.from_bytes(good, "big") + n).to_bytes(size + 1, "big"),
        lambda good, message: b"",
        lambda good, message: raw(emsa(without_null, digest(message), size)),
        lambda good, message: raw(emsa(b"", digest(message), size)),
        lambda good, message: raw(emsa(info, digest(message), size, kind=2)),
        lambda good, message: raw(emsa(info, digest(message), size, fill=b"\xfe")),
        lambda good, message: raw(emsa(info, digest(message) + b"\0" * 8, size)),
        lambda good, message: raw(emsa(info, digest(message), 64) << 8 * (size - 64)),
        lambda good, message: raw(int.from_bytes(digest(message), "big")),
        lambda good, message: private.sign(message, padding.PKCS1v15(), hashes.SHA384()),
        lambda good, message: private.sign(digest(message), padding.PKCS1v15(), Prehashed(hashes.SHA256()))[::-1],
    ):
        assert verdict(issuer.env(), with_signature(issuer, change), issuer.now) == "signature_invalid"


@pytest.mark.parametrize(
    ("name", "digest"), [("PS256", hashes.SHA256()), ("PS384", hashes.SHA384()), ("PS512", hashes.SHA512())]
)
def test_pss_signatures_have_the_parameters_of_rfc_7518(name: str, digest: hashes.HashAlgorithm, rng: Random) -> None:
    issuer = Issuer.of(name, rng)
    private = issuer.pair.private
    assert isinstance(private, RSAPrivateKey)
    right = padding.PSS(padding.MGF1(digest), digest.digest_size)
    token = with_signature(issuer, lambda _, message: private.sign(message, right, digest))
    assert verdict(issuer.env(), token, issuer.now) == accepted(issuer)
    wrong = [(padding.PSS(padding.MGF1(digest), salt), digest) for salt in (0, 1, 20, digest.digest_size - 1)]
    wrong += [(padding.PSS(padding.MGF1(digest), padding.PSS.MAX_LENGTH), digest)]
    wrong += [(padding.PSS(padding.MGF1(hashes.SHA1()), digest.digest_size), digest)]
    wrong += [(padding.PSS(padding.MGF1(hashes.SHA224()), digest.digest_size), digest), (right, hashes.SHA224())]
    for parameters, hashed in wrong:
        token = with_signature(issuer, lambda _, message, p=parameters, h=hashed: private.sign(message, p, h))
        assert verdict(issuer.env(), token, issuer.now) == "signature_invalid"


def test_ed25519_signatures_have_64_bytes_and_a_small_scalar(rng: Random) -> None:
    issuer = Issuer.of(rng.choice(["EdDSA", "Ed25519"]), rng)
    order = 2**252 + 27742317777372353535851937790883648493
    for change in (
        lambda good, message: good[:32] + (int.from_bytes(good[32:], "little") + order).to_bytes(32, "little"),
        lambda good, message: bytes(64),
        lambda good, message: b"\1" + bytes(63),
        lambda good, message: good[:-1],
        lambda good, message: good + b"\0",
        lambda good, message: good + good[:50],
        lambda good, message: bytes([good[0] ^ 1]) + good[1:],
        lambda good, message: good[32:] + good[:32],
        lambda good, message: b"",
    ):
        assert verdict(issuer.env(), with_signature(issuer, change), issuer.now) == "signature_invalid"


def test_hmac_values_are_whole_and_over_the_content_as_it_stands(rng: Random) -> None:
    issuer = Issuer.of(rng.choice(["HS256", "HS384", "HS512"]), rng)
    secret, hashed = issuer.pair.private, f"sha{issuer.alg[2:]}"
    assert isinstance(secret, bytes)

    def mac(content: bytes, key: bytes = secret, name: str = hashed) -> bytes:
        return hmac.new(key, content, name).digest()

    for change in (
        lambda good, message: good[:16],
        lambda good, message: good[:-1],
        lambda good, message: good[:1],
        lambda good, message: good + b"\0",
        lambda good, message: bytes(len(good)),
        lambda good, message: good.hex().encode(),
        lambda good, message: good[:-1] + bytes([good[-1] ^ 1]),
        lambda good, message: mac(message.split(b".")[1]),
        lambda good, message: mac(message.replace(b".", b"")),
        lambda good, message: mac(message + b"."),
        lambda good, message: mac(b".".join(base64.urlsafe_b64decode(part + b"==") for part in message.split(b"."))),
        lambda good, message: hashlib.new(hashed, secret + message).digest(),
        lambda good, message: mac(message, base64.b64encode(secret)),
        lambda good, message: mac(message, secret[:-1]),
        lambda good, message: mac(message, name="sha1"),
        lambda good, message: b"",
    ):
        assert verdict(issuer.env(), with_signature(issuer, change), issuer.now) == "signature_invalid"


def test_parts_of_two_good_tokens_make_no_third(issuer: Issuer) -> None:
    first, second = (issuer.token(issuer.header(kid=kid), issuer.claims(jti=kid)).split(".") for kid in ("one", "two"))
    for token in ((first[0], first[1], second[2]), (first[0], second[1], second[2]), (second[0], first[1], first[2])):
        assert verdict(issuer.env(), ".".join(token), issuer.now) == "signature_invalid"


@pytest.mark.parametrize("member", ["jwk", "jku", "x5u", "x5c", "x5t", "kid"])
def test_a_key_the_token_brings_along_is_not_looked_at(member: str, issuer: Issuer) -> None:
    forger = issuer.other()
    url = "https://attacker.example/keys"
    values = {"jwk": forger.jwk(kid="k"), "jku": url, "x5u": url, "x5c": ["MIIB"], "x5t": "AAAA", "kid": url}
    header = issuer.header(**{member: values[member]})
    assert verdict(issuer.env(), issuer.token(header, signer=forger), issuer.now) == "signature_invalid"
    assert verdict(issuer.env(), issuer.token(header), issuer.now) == accepted(issuer)
