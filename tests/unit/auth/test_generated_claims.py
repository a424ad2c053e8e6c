"""The rules on payloads, times, issuers and audiences, with keys and values that are new in every run.

The published vectors are one set of cases for these rules; here are as many others as one likes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from fuzz.issuer import Issuer, verdict
from fuzz.json_texts import Members, Raw, nested

ROUNDS = 4
SOME_ALGORITHMS = ["HS256", "HS512", "ES256", "EdDSA", "Ed25519"]


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


def judged(issuer: Issuer, claims: Members | str | bytes, **env: str) -> str:
    return verdict(issuer.env(**env), issuer.token(claims=claims), issuer.now)


# ---- payloads -------------------------------------------------------------------------------------------------------


def with_member(text: str) -> Callable[[str], str]:
    """Good claims with `text` as one more member."""
    return lambda good: f"{good[:-1]},{text}}}"


@pytest.mark.parametrize(
    "change",
    [
        with_member('"sub":"other"'),
        with_member('"\\u0073ub":"other"'),
        with_member('"exp":1'),
        with_member('"x":1,"x":1'),
        with_member('"x":{"y":[{"z":1,"z":2}]}'),
        with_member('"x":NaN'),
        with_member('"x":Infinity'),
        with_member('"x":[-Infinity]'),
        with_member('"x":1e400'),
        with_member('"x":-1E+999'),
        with_member('"x":007'),
        with_member('"x":+1'),
        with_member('"x":0x1F'),
        with_member('"x":1.'),
        with_member('"x":.1'),
        with_member('"x":1_000'),
        with_member('"x":' + "9" * 65),
        with_member('"x":0.' + "1" * 63),
        with_member('"x":' + "9" * 5000),
        with_member('"x":"\n"'),
        with_member('"x":"\x1f"'),
        with_member('"x":"\\x41"'),
        with_member('"x":"\\ud83d"'),
        with_member('"x":"\\ude00\\ud83d"'),
        with_member('"\\udbff":1'),
        with_member('"x":' + "[" * 32 + "]" * 32),
        with_member('"x":' + '{"a":' * 32 + "1" + "}" * 32),
        with_member('"x":' + "[" * 4000),
        with_member('"x":undefined'),
        with_member("x:1"),
        with_member("'x':1"),
        with_member(""),
        lambda good: good + "x",
        lambda good: good + "{}",
        lambda good: good + "\0",
        lambda good: good[:-1],
        lambda good: good[1:],
        lambda good: "//\n" + good,
        lambda good: f"[{good}]",
        lambda good: json.dumps(good),
        lambda good: b"\xef\xbb\xbf" + good.encode(),
        lambda good: good.encode("utf-16"),
        lambda good: good.encode("utf-16-le"),
        lambda good: good.encode("utf-32"),
        lambda good: good.encode().replace(b'"iat"', b'"i\xffat"'),
        lambda good: good.encode()[:-1] + b',"x":"\xc0\x80"}',
        lambda good: good.encode()[:-1] + b',"x":"\xed\xbf\xbf"}',
        lambda good: "sub=1&exp=2",
        lambda good: "eyJhbGciOiJub25lIn0.e30.",
        *(lambda good, text=text: text for text in ("null", "true", "0", '"u"', "[]", " ", "NaN", '"', "{", "[1,2]")),
    ],
)
def test_a_payload_is_one_strict_object(change: Callable[[str], str | bytes], issuer: Issuer) -> None:
    good = json.dumps(dict(issuer.claims()), ensure_ascii=False)
    assert judged(issuer, good) == accepted(issuer)
    assert judged(issuer, change(good)) == "payload_invalid"


@pytest.mark.parametrize(
    "extra",
    [
        {"x": Raw("1" * 64)},
        {"x": Raw("-" + "1" * 63)},
        {"x": Raw('"\\ud83d\\ude00"')},
        {"x": Raw('"\\u0000\\/\\b"')},
        {"x": "[" * 200 + '{"' * 200},
        {"x": [1.5, -2e-3, True, None, {"": ""}]},
        {f"claim {number}": number for number in range(120)},
        {"SUB": "other", "Exp": 1, "sub ": "x"},
        {"alg": "none", "crit": ["x"], "typ": "dpop+jwt"},
        {"constructor": {"prototype": 1}, "__proto__": {"sub": "other"}},
    ],
    ids=range(10),
)
def test_what_else_a_payload_holds_is_the_applications(extra: dict[str, Any], issuer: Issuer) -> None:
    assert judged(issuer, issuer.claims(**extra)) == accepted(issuer)


def test_a_payload_may_be_nested_32_levels_deep(issuer: Issuer, rng: Random) -> None:
    assert judged(issuer, issuer.claims(x=nested("v", 31, rng))) == accepted(issuer)
    assert judged(issuer, issuer.claims(x=nested("v", 32, rng))) == "payload_invalid"


# ---- times ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leeway", [None, 0, 1, 2, 59, 60])
def test_times_are_compared_in_whole_seconds_with_the_leeway(leeway: int | None, issuer: Issuer, rng: Random) -> None:
    env = {} if leeway is None else {"AUTH_JWT_LEEWAY": str(leeway)}
    allowed = 2 if leeway is None else leeway
    now = issuer.now
    for offset, ok in ((0, True), (allowed, True), (allowed + 1, False), (allowed + rng.randint(2, 10**6), False)):
        assert judged(issuer, issuer.claims(exp=now - offset), **env) == (accepted(issuer) if ok else "expired")
        assert judged(issuer, issuer.claims(iat=now + offset), **env) == (
            accepted(issuer) if ok else "issued_in_future"
        )
        assert judged(issuer, issuer.claims(nbf=now + offset), **env) == (accepted(issuer) if ok else "not_yet_valid")
    fraction = rng.choice([0.25, 0.5, 0.75])
    assert judged(issuer, issuer.claims(exp=now - allowed + fraction), **env) == accepted(issuer)
    assert judged(issuer, issuer.claims(exp=now - allowed - fraction), **env) == "expired"
    assert judged(issuer, issuer.claims(nbf=now + allowed - fraction), **env) == accepted(issuer)
    assert judged(issuer, issuer.claims(nbf=now + allowed + fraction), **env) == "not_yet_valid"
    assert judged(issuer, issuer.claims(iat=now + allowed + fraction), **env) == "issued_in_future"


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value",
    [
        *(
            "1760000000",
            "",
            "now",
            "2030-01-01T00:00:00Z",
            None,
            True,
            False,
            [],
            [4 * 10**9],
            {},
            {"value": 4 * 10**9},
        ),
        *(-1, -0.5, -(10**30), 253402300800, 253402300799.5, 10**13, 10**40, 2**63, 2**64 + 10**9, 1e30, 1.7e308),
        *map(Raw, ("-1e-3", "2.6e11", "1" * 64, "253402300799.1")),
    ],
)
def test_a_time_is_a_number_of_seconds_before_the_year_10000(claim: str, value: Any, issuer: Issuer) -> None:
    assert judged(issuer, issuer.claims(**{claim: value})) == "claim_invalid"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"exp": ...}, "claim_missing"),
        ({"iat": ...}, "claim_missing"),
        ({"exp": ..., "iat": ...}, "claim_missing"),
        ({"exp": ..., "EXP": 4 * 10**9}, "claim_missing"),
        ({"exp": ..., "Exp": 4 * 10**9, "expires": 4 * 10**9}, "claim_missing"),
        ({"exp": ..., "nested": {"exp": 4 * 10**9}}, "claim_missing"),
        ({"nbf": ...}, None),
        ({"exp": 253402300799}, None),
        ({"exp": Raw("4.1e9")}, None),
        ({"exp": Raw("41E+8")}, None),
        ({"exp": Raw("4100000000.000")}, None),
        ({"iat": 0}, None),
        ({"iat": Raw("-0")}, None),
        ({"iat": Raw("0.0"), "nbf": Raw("0e5")}, None),
        ({"exp": 0}, "expired"),
        ({"exp": 1}, "expired"),
        ({"exp": Raw("0.5")}, "expired"),
    ],
)
def test_which_times_must_be_there_and_how_they_may_be_written(
    changes: dict[str, Any], expected: str | None, issuer: Issuer
) -> None:
    assert judged(issuer, issuer.claims(**changes)) == (expected or accepted(issuer))


def test_of_several_faults_in_times_the_first_in_the_order_of_checks_is_reported(issuer: Issuer) -> None:
    past, future = issuer.now - 1000, issuer.now + 1000
    assert judged(issuer, issuer.claims(exp=past, nbf=future, iat=future)) == "expired"
    assert judged(issuer, issuer.claims(nbf=future, iat=future)) == "not_yet_valid"
    assert judged(issuer, issuer.claims(exp=..., iat="x")) == "claim_missing"
    assert judged(issuer, issuer.claims(exp=past, iat="x")) == "claim_invalid"
    assert judged(issuer, issuer.claims(exp=past, sub=1), AUTH_JWT_ISS="x") == "expired"
    assert judged(issuer, issuer.claims(sub=1, aud="y"), AUTH_JWT_ISS="x", AUTH_JWT_AUD="z") == "claim_missing"
    assert (
        judged(issuer, issuer.claims(sub=1, aud="y", iss="x"), AUTH_JWT_ISS="x", AUTH_JWT_AUD="z")
        == "audience_mismatch"
    )
    assert judged(issuer, issuer.claims(sub=1, aud="z", iss="x"), AUTH_JWT_ISS="x", AUTH_JWT_AUD="z") == "user_invalid"


def test_times_are_not_compared_with_each_other(issuer: Issuer) -> None:
    now = issuer.now
    assert judged(issuer, issuer.claims(iat=now + 2, exp=now - 2, nbf=now + 1)) == accepted(issuer)


def test_lifetime_and_age_are_limited_when_configured(issuer: Issuer, rng: Random) -> None:
    now, age, left = issuer.now, rng.randint(10, 10**6), rng.randint(10, 10**6)
    claims = issuer.claims(iat=now - age, exp=now + left)
    for setting, least, code in (
        ("AUTH_JWT_MAX_LIFETIME", age + left, "lifetime_too_long"),
        ("AUTH_JWT_MAX_AGE", age, "too_old"),
    ):
        assert judged(issuer, claims, **{setting: "0"}) == accepted(issuer)
        assert judged(issuer, claims, **{setting: str(least)}) == accepted(issuer)
        assert judged(issuer, claims, **{setting: str(least - 1)}) == code


# ---- issuers and audiences ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda name: name, None),
        (lambda name: ..., "claim_missing"),
        (lambda name: name + "/", "issuer_mismatch"),
        (lambda name: name.rstrip("/0123456789abcdef"), "issuer_mismatch"),
        (lambda name: name.upper(), "issuer_mismatch"),
        (lambda name: name + ".attacker.example", "issuer_mismatch"),
        (lambda name: name[1:], "issuer_mismatch"),
        (lambda name: f" {name}", "issuer_mismatch"),
        (lambda name: name.replace("i", "і").replace("u", "υ"), "issuer_mismatch"),
        (lambda name: f"{name}\0", "issuer_mismatch"),
        (lambda name: name + "\u200b", "issuer_mismatch"),
        (lambda name: "", "issuer_mismatch"),
        (lambda name: "*", "issuer_mismatch"),
        (lambda name: None, "issuer_mismatch"),
        (lambda name: True, "issuer_mismatch"),
        (lambda name: 0, "issuer_mismatch"),
        (lambda name: [name], "issuer_mismatch"),
        (lambda name: {"iss": name}, "issuer_mismatch"),
    ],
)
def test_the_issuer_is_the_configured_one_to_the_letter(
    change: Callable[[str], Any], code: str | None, issuer: Issuer
) -> None:
    claims = issuer.claims(iss=change(issuer.name), **{issuer.namespace: {"iss": issuer.name}})
    assert judged(issuer, claims, AUTH_JWT_ISS=issuer.name) == (code or accepted(issuer))
    for unset in ("", "  ", "\t"):
        assert judged(issuer, claims, AUTH_JWT_ISS=unset) == accepted(issuer)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda name: name, None),
        (lambda name: [name], None),
        (lambda name: ["x", name], None),
        (lambda name: [name, name, ""], None),
        (lambda name: ["x"] * 63 + [name], None),
        (lambda name: ["x"] * 64 + [name], "audience_mismatch"),
        (lambda name: [name] * 65, "audience_mismatch"),
        (lambda name: ..., "claim_missing"),
        (lambda name: [], "audience_mismatch"),
        (lambda name: ["x", "y"], "audience_mismatch"),
        (lambda name: [name, 1], "audience_mismatch"),
        (lambda name: [name, None], "audience_mismatch"),
        (lambda name: [[name]], "audience_mismatch"),
        (lambda name: [name, [name]], "audience_mismatch"),
        (lambda name: [{"aud": name}], "audience_mismatch"),
        (lambda name: {name: True}, "audience_mismatch"),
        (lambda name: None, "audience_mismatch"),
        (lambda name: True, "audience_mismatch"),
        (lambda name: 1, "audience_mismatch"),
        (lambda name: "", "audience_mismatch"),
        (lambda name: name + "x", "audience_mismatch"),
        (lambda name: f"x{name}", "audience_mismatch"),
        (lambda name: name[:-1], "audience_mismatch"),
        (lambda name: list(name), "audience_mismatch"),
        (lambda name: f"x,{name}", "audience_mismatch"),
        (lambda name: f"x {name}", "audience_mismatch"),
        (lambda name: name + "/", "audience_mismatch"),
        (lambda name: f"{name}\n", "audience_mismatch"),
        (lambda name: "*", "audience_mismatch"),
        (lambda name: ["*"], "audience_mismatch"),
        (lambda name: name.swapcase() if name.swapcase() != name else "x", "audience_mismatch"),
    ],
)
def test_the_audience_is_or_contains_the_configured_one_to_the_letter(
    change: Callable[[str], Any], code: str | None, issuer: Issuer
) -> None:
    claims = issuer.claims(aud=change(issuer.audience))
    assert judged(issuer, claims, AUTH_JWT_AUD=issuer.audience) == (code or accepted(issuer))
    assert judged(issuer, claims, AUTH_JWT_AUD="") == accepted(issuer)
