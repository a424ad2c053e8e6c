"""Which keys of a JWK Set may judge tokens, and that a bad one neither gets in nor spoils the others."""

from __future__ import annotations

import base64
import json
import time
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from leyden.auth import ALGORITHMS, Family, InvalidJwkSet, JwkSet, parse_jwk_set
from leyden.auth.jwk_set import MAX_BYTES, MAX_KEYS, MAX_KID_CHARACTERS

Jwk = dict[str, Any]
PUBLIC_KEY_ALGORITHMS = [algorithm for algorithm in ALGORITHMS.values() if algorithm.family is not Family.HMAC]
RSA_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]


@cache
def _pair(kind: str, number: int) -> Any:
    match kind:
        case "RSA":
            return RSAKey.generate_key(2048)
        case "Ed25519":
            return OKPKey.generate_key("Ed25519")
        case _:
            return ECKey.generate_key(kind)


def jwk(kind: str, number: int = 0, *, private: bool = False, **members: Any) -> Jwk:
    """A key of that kind (RSA, Ed25519 or a curve); a member set to `...` is left out."""
    entry = _pair(kind, number).as_dict(private=private) | members
    return {name: value for name, value in entry.items() if value is not ...}


def parse(*entries: Any, algorithms: list[str] | None = None) -> JwkSet:
    allowed = PUBLIC_KEY_ALGORITHMS if algorithms is None else [ALGORITHMS[name] for name in algorithms]
    return parse_jwk_set(json.dumps({"keys": entries}).encode(), allowed)


def uses(found: JwkSet) -> set[tuple[str | None, str]]:
    """(kid, algorithm) of every usable key."""
    return {(key.kid, key.algorithm.name) for key in found.keys}


def why_skipped(entry: Any, algorithms: list[str] | None = None) -> str:
    """The reason for which `entry` is skipped; it must be, and alone."""
    good = jwk("P-256", kid="good")
    found = parse(good, entry, algorithms=algorithms and ["ES256", *algorithms])
    assert uses(found) == {("good", "ES256")}
    (skipped,) = found.skipped
    assert not skipped.leaked
    return skipped.reason


def encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


# ---- the document ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "JSON"),
        (b"not json", "JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"{}", "keys"),
        (b'{"Keys":[]}', "keys"),
        (b'{"keys":{}}', "keys"),
        (b'{"keys":null}', "keys"),
        (b'{"keys":[],"keys":[]}', "twice"),
        (b'{"keys":[{"kty":"RSA","kty":"EC"}]}', "twice"),
        (b'\xef\xbb\xbf{"keys":[]}', "byte order mark"),
        ('{"keys":[]}'.encode("utf-16"), "UTF-8"),
        (b'{"keys":[' + b"[" * 40 + b"]" * 40 + b"]}", "deep"),
        (b'{"keys":[]}' + b" " * MAX_BYTES, "larger"),
        (b'{"keys":[' + b",".join([b"{}"] * (MAX_KEYS + 1)) + b"]}", "more than"),
    ],
)
def test_what_is_no_set_is_refused_without_quoting_it(raw: bytes, why: str) -> None:
    with pytest.raises(InvalidJwkSet, match=why):
        parse_jwk_set(raw, PUBLIC_KEY_ALGORITHMS)


def test_a_set_may_be_as_large_as_the_limits_and_empty() -> None:
    raw = b'{"keys":[]}'
    assert parse_jwk_set(raw + b" " * (MAX_BYTES - len(raw)), PUBLIC_KEY_ALGORITHMS) == JwkSet((), ())
    full = parse(*(jwk("P-256", number, kid=str(number)) for number in range(MAX_KEYS)))
    assert len(full.keys) == MAX_KEYS


def test_judging_the_largest_set_of_the_largest_keys_takes_little_time() -> None:
    modulus = next(n for n in range(2**16383 + 1, 2**16384, 2) if all(n % p for p in range(3, 168, 2)))
    entries = [
        {"kty": "RSA", "e": "AQAB", "n": encode(modulus.to_bytes(2048, "big")), "kid": str(n)} for n in range(92)
    ]
    raw = json.dumps({"keys": entries}).encode()
    started = time.thread_time()
    assert len(parse_jwk_set(raw, PUBLIC_KEY_ALGORITHMS).keys) == 92 * len(RSA_ALGORITHMS)
    assert time.thread_time() - started < 0.1


# ---- one key --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("RSA", RSA_ALGORITHMS),
        ("P-256", ["ES256"]),
        ("P-384", ["ES384"]),
        ("P-521", ["ES512"]),
        ("Ed25519", ["EdDSA", "Ed25519"]),
    ],
)
def test_a_key_serves_every_accepted_algorithm_it_fits(kind: str, names: list[str]) -> None:
    found = parse(jwk(kind, kid="k"))
    assert uses(found) == {("k", name) for name in names}
    assert {key.thumbprint for key in found.keys} == {_pair(kind, 0).thumbprint()}
    assert uses(parse(jwk(kind, kid="k"), algorithms=[names[-1], "HS256"])) == {("k", names[-1])}
    assert parse(jwk(kind, kid="k"), algorithms=["HS256"]).keys == ()


@pytest.mark.parametrize(("kind", "name"), [("RSA", "PS384"), ("P-384", "ES384"), ("Ed25519", "Ed25519")])
def test_a_key_made_for_one_algorithm_serves_that_one_alone(kind: str, name: str) -> None:
    assert uses(parse(jwk(kind, kid="k", alg=name))) == {("k", name)}


@pytest.mark.parametrize(
    "alg", ["HS256", "none", "RS1", "RSA-OAEP", "ES256K", "rs256", "RS256 ", "", None, 256, ["RS256"]]
)
def test_a_key_made_for_anything_else_is_skipped(alg: Any) -> None:
    assert "fits none" in why_skipped(jwk("RSA", alg=alg))


def test_a_key_whose_algorithm_does_not_go_with_its_type_or_curve_is_skipped() -> None:
    for entry in (
        jwk("RSA", alg="ES256"),
        jwk("P-384", alg="ES256"),
        jwk("P-256", 1, alg="RS256"),
        jwk("P-521", alg="EdDSA"),
    ):
        assert "fits none" in why_skipped(entry)
    assert "fits none" in why_skipped(jwk("Ed25519", alg="EdDSA"), ["Ed25519"])


@pytest.mark.parametrize("use", ["enc", "SIG", "", None, ["sig"], "sig "])
def test_a_key_for_another_use_is_skipped(use: Any) -> None:
    assert "use" in why_skipped(jwk("P-256", 1, use=use))
    assert parse(jwk("P-256", 1, use="sig")).skipped == ()


@pytest.mark.parametrize(
    "operations", [["encrypt"], ["sign"], [], "verify", {"verify": 1}, None, ["Verify"], [["verify"]]]
)
def test_a_key_for_other_operations_is_skipped(operations: Any) -> None:
    assert "key_ops" in why_skipped(jwk("P-256", 1, key_ops=operations))
    for good in (["verify"], ["sign", "verify"]):
        assert parse(jwk("P-256", 1, key_ops=good)).skipped == ()


@pytest.mark.parametrize("kty", ["AKP", "DSA", "rsa", "ec", "okp", "", None, 1, ["EC"], ...])
def test_a_key_of_another_type_is_skipped(kty: Any) -> None:
    why_skipped(jwk("P-256", 1, kty=kty))


@pytest.mark.parametrize("entry", [None, True, 1, "key", [], ["EC"], {}])
def test_what_is_no_key_is_skipped(entry: Any) -> None:
    why_skipped(entry)


@pytest.mark.parametrize("crv", ["P-384", "P-521", "secp256k1", "P-256K", "p-256", "Ed25519", "", None, ...])
def test_a_key_on_another_curve_than_it_says_is_skipped(crv: Any) -> None:
    why_skipped(jwk("P-256", 1, crv=crv))


@pytest.mark.parametrize("crv", ["X25519", "Ed448", "X448", "ed25519", "P-256", None, ...])
def test_a_key_on_another_edwards_curve_is_skipped(crv: Any) -> None:
    why_skipped(jwk("Ed25519", crv=crv))


@pytest.mark.parametrize(
    ("kind", "members"), [("P-256", "xy"), ("P-384", "xy"), ("P-521", "xy"), ("Ed25519", "x"), ("RSA", "ne")]
)
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text + "=",
        lambda text: text + "A",
        lambda text: " " + text,
        lambda text: "+" + text[1:],
        lambda text: "",
        lambda text: None,
        lambda text: 1,
        lambda text: [text],
        lambda text: ...,
        lambda text: encode(b"\0" + decode(text)),
        lambda text: encode(bytes(len(decode(text)))),
    ],
    ids=["padded", "longer", "blank", "alphabet", "empty", "null", "number", "list", "missing", "leading zero", "zero"],
)
def test_numbers_have_one_spelling(kind: str, members: str, damage: Any) -> None:
    for name in members:
        why_skipped(jwk(kind, 1, **{name: damage(jwk(kind, 1)[name])}))


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521"])
def test_coordinates_are_those_of_a_point_in_the_width_of_the_curve(kind: str) -> None:
    good = jwk(kind, 1)
    x, y = decode(good["x"]), decode(good["y"])
    assert "instead of" in why_skipped(good | {"x": encode(x[:-1])})
    assert "no public key" in why_skipped(good | {"y": encode(y[:-1] + bytes([y[-1] ^ 1]))})
    assert "no public key" in why_skipped(good | {"x": encode(y), "y": encode(x)})
    assert "no public key" in why_skipped(good | {"x": encode(b"\xff" * len(x))})
    # A leading zero that belongs to the width stays: one coordinate in 256 has one.
    short = next(key for key in (ECKey.generate_key(kind).as_dict(private=False) for _ in range(9000)) if _short(key))
    assert parse(short | {"kid": "short"}).skipped == ()


def _short(key: Any) -> bool:
    return decode(key["x"])[0] == 0 if key["crv"] != "P-521" else decode(key["x"])[:2] == b"\0\0"


def test_weak_rsa_keys_are_skipped() -> None:
    numbers = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    n = numbers.n.to_bytes(256, "big")
    small = rsa.generate_private_key(65537, 1024).public_key().public_numbers().n.to_bytes(128, "big")
    for modulus, exponent, why in [
        (n, b"\x03", "exponent"),
        (n, b"\x01", "no public key"),
        (n, b"\x01\x00\x00", "no public key"),
        (n, b"\x01" + bytes(31) + b"\x01", "exponent"),
        (small, b"\x01\x00\x01", "1024 bits"),
        (n[:-1] + bytes([n[-1] ^ 1]), b"\x01\x00\x01", "factor"),
        (n + n[:-1] * 8, b"\x01\x00\x01", "usable size"),
    ]:
        assert why in why_skipped({"kty": "RSA", "n": encode(modulus), "e": encode(exponent)}), why
    assert parse({"kty": "RSA", "n": encode(n), "e": "AQAB"}).skipped == ()


def test_ed25519_points_of_small_order_or_off_the_curve_are_skipped() -> None:
    assert "small order" in why_skipped(jwk("Ed25519", x=encode(bytes(32))))
    assert "small order" in why_skipped(jwk("Ed25519", x=encode(b"\x01" + bytes(31))))
    assert "canonical" in why_skipped(jwk("Ed25519", x=encode(b"\xff" * 32)))
    why_skipped(jwk("Ed25519", x=encode(b"\x02" + bytes(31))))


@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"])
@pytest.mark.parametrize("kind", ["P-256", "RSA", "Ed25519", "unknown type"])
def test_a_key_with_secret_members_is_skipped_as_leaked(kind: str, member: str) -> None:
    entry = {"kty": "AKP", "pub": "AA"} if kind == "unknown type" else jwk(kind, 1, use="enc")
    found = parse(jwk("P-256", kid="good"), entry | {member: "AA", "kid": "leaked"})
    assert uses(found) == {("good", "ES256")}
    (skipped,) = found.skipped
    assert (skipped.kid, skipped.leaked) == ("leaked", True)
    assert member in skipped.reason


@pytest.mark.parametrize("kind", ["P-256", "RSA", "Ed25519"])
def test_private_keys_and_shared_secrets_are_leaked(kind: str) -> None:
    for entry in (jwk(kind, private=True), OctKey.generate_key(512).as_dict(private=True), {"kty": "oct"}):
        found = parse(entry)
        assert found.keys == ()
        assert [skipped.leaked for skipped in found.skipped] == [True]


def test_no_reason_quotes_the_key() -> None:
    entries = [jwk(kind, private=private) for kind in ("RSA", "P-256", "Ed25519") for private in (True, False)]
    damaged = [{name: value + "_" for name, value in entry.items()} for entry in entries]
    reasons = " ".join(skipped.reason for skipped in parse(*entries, *damaged).skipped)
    for entry in entries:
        assert not any(value in reasons for value in entry.values() if len(value) > 10)


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kid", [None, 1, True, ["k"], {}, "k" * (MAX_KID_CHARACTERS + 1)])
def test_a_key_whose_name_is_no_text_is_skipped(kid: Any) -> None:
    assert "kid" in why_skipped(jwk("P-256", 1, kid=kid))


@pytest.mark.parametrize("kid", ["", " ", "../../etc/passwd", "'; --", "é", "\u202e", "k" * MAX_KID_CHARACTERS])
def test_any_text_names_a_key(kid: str) -> None:
    assert uses(parse(jwk("P-256", 1, kid=kid))) == {(kid, "ES256")}


def test_of_usable_keys_with_one_name_none_is_used() -> None:
    found = parse(jwk("P-256", 0, kid="twin"), jwk("P-256", 1, kid="twin"), jwk("RSA", kid="other", alg="RS256"))
    assert uses(found) == {("other", "RS256")}
    assert [(skipped.kid, skipped.leaked) for skipped in found.skipped] == [("twin", False)] * 2
    # Whatever their types, and even if they are equal: which one is meant cannot be told.
    assert parse(jwk("P-256", kid="twin"), jwk("RSA", kid="twin")).keys == ()
    assert parse(jwk("P-256", kid="twin"), jwk("P-256", kid="twin")).keys == ()


def test_a_skipped_key_does_not_take_the_name_of_a_usable_one() -> None:
    for bad in (jwk("P-256", 1, use="enc"), jwk("RSA", e="Aw"), jwk("P-256", 1, private=True), {"kty": "AKP"}):
        assert uses(parse(jwk("P-256", kid="name"), bad | {"kid": "name"})) == {("name", "ES256")}


def test_names_differ_in_case_and_normal_form() -> None:
    assert len(parse(jwk("P-256", 0, kid="é"), jwk("P-256", 1, kid="e\u0301"), jwk("P-256", 2, kid="É")).keys) == 3


# ---- order and company ----------------------------------------------------------------------------------------------

GOOD = [
    jwk("P-256", 0, kid="a", use="sig"),
    jwk("P-256", 1, kid="b", alg="ES256"),
    jwk("P-384", 0, kid="c", key_ops=["verify"]),
    jwk("RSA", 0, kid="d", alg="PS256"),
    jwk("Ed25519", 0, kid="e"),
    jwk("P-521", 0),
]
BAD: list[Any] = [
    None,
    "key",
    {"kty": "AKP", "kid": "a"},
    jwk("P-256", 2, use="enc", kid="a"),
    jwk("P-256", 2, y=jwk("P-256", 2)["x"], kid="b"),
    jwk("RSA", 1, e="Aw"),
    jwk("Ed25519", 1, x=encode(bytes(32))),
    jwk("P-256", 3, kid=7),
]
MEANINGFUL = {"kty", "crv", "x", "y", "n", "e", "kid", "use", "key_ops", "alg", "keys"}
SECRET = {"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}
UNKNOWN = st.dictionaries(
    st.text().filter(lambda name: name not in MEANINGFUL | SECRET),
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text() | st.lists(st.text(), max_size=2),
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(
    good=st.lists(st.sampled_from(range(len(GOOD))), unique=True),
    bad=st.lists(st.sampled_from(range(len(BAD))), max_size=4),
    extra=UNKNOWN,
    around=UNKNOWN,
    order=st.randoms(use_true_random=False),
)
def test_order_unknown_members_and_bad_neighbours_never_matter(
    good: list[int], bad: list[int], extra: Jwk, around: Jwk, order: Any
) -> None:
    expected = set(parse(*(GOOD[index] for index in good)).keys)
    entries = [extra | dict(order.sample(list(GOOD[index].items()), len(GOOD[index]))) for index in good]
    entries += [BAD[index] for index in bad]
    order.shuffle(entries)
    document = around | {"keys": entries}
    found = parse_jwk_set(json.dumps(document).encode(), PUBLIC_KEY_ALGORITHMS)
    assert set(found.keys) == expected
    assert len(found.skipped) == len(bad)
