"""The rules on user ids, namespaces and insecure mode, with keys and values that are new in every run.

The published vectors are one set of cases for these rules; here are as many others as one likes.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from fuzz.issuer import Issuer, verdict
from fuzz.json_texts import Members, Raw

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


# ---- user ids -------------------------------------------------------------------------------------------------------

#: User ids; {} stands for one that is good.
NOBODY = (
    *("", " ", "\u00a0", "\u3000", "\u2003\u2009", "\u1680", "\t", "\n", "\r\n", "\v\f", "\x85", "\u2028"),
    *("{}\0{}", "\0", "{}\0", "\0{}"),
)
ONLY_LEGACY = (
    *("\u200b", "\ufeff", "\u2060\u200d", "\u00ad", "\ufe0f", "\u3164", "\U000e0020", "\u202e", "\u180e", "\u034f"),
    *(" {}", "\t{}", "\u00a0{}", "\u3000{}", "\u2029{}", "\u202f{}", "{} ", "{}\n", "{}\u205f", "{}\u2000", "{}\x85"),
    *("{}\x01{}", "{}\n{}", "{}\t{}", "{}\x1b[0m", "{}\x1f{}", "\x7f{}", "{}\x80{}", "{}\x9f"),
    *("x" * 1025, "é" * 513, "\U0001f600" * 257),
)
SOMEBODY = (
    *(
        "x" * 1024,
        "é" * 512,
        "\U0001f600" * 256,
        "{} {}",
        "{}\u00a0{}",
        "{}\u200b{}",
        "\u200b{}",
        "{}\u202e{}",
        "\u2800",
    ),
    *(
        "0",
        "1",
        "null",
        "true",
        "undefined",
        "NaN",
        "[]",
        "-",
        "аdmin",
        "admin",
        "ADMIN",
        "１",
        "e\u0301",
        "é",
        "ﬁ",
        "ß",
    ),
    *("'; DROP", '"', "\\", "%00", "../x", "https://a/b?c", "a@b", "\U0010ffff", "\ufffe", "\ue000", "\u0378"),
)


@pytest.mark.parametrize(
    ("shape", "strict", "legacy"),
    [
        *((shape, False, False) for shape in NOBODY),
        *((shape, False, True) for shape in ONLY_LEGACY),
        *((shape, True, True) for shape in SOMEBODY),
    ],
)
def test_which_texts_are_user_ids(shape: str, strict: bool, legacy: bool, issuer: Issuer, rng: Random) -> None:
    user = shape.replace("{}", issuer.user)
    name = rng.choice(["sub", "user_id"])
    top = issuer.claims(**{"sub": ..., name: user})
    inner = issuer.claims(**{issuer.namespace: {name: user}})
    for claims, env in ((top, {}), (inner, {"AUTH_JWT_NAMESPACE": issuer.namespace})):
        assert judged(issuer, claims, **env) == (f"accept {user}" if strict else "user_invalid")
        expected = f"accept {user}" if legacy else "user_invalid"
        assert judged(issuer, claims, AUTH_USER_ID_POLICY="legacy", **env) == expected


@pytest.mark.parametrize("value", [0, 1, -1, 1.5, True, [], ["u"], {}, {"sub": "u"}, Raw("1e3"), "", " "])
def test_no_other_value_is_a_user_id_and_nothing_falls_through(value: Any, issuer: Issuer) -> None:
    for policy in ("strict", "legacy"):
        for claims in (issuer.claims(sub=value, user_id="other"), issuer.claims(sub=..., user_id=value)):
            assert judged(issuer, claims, AUTH_USER_ID_POLICY=policy) == "user_invalid"


@pytest.mark.parametrize("absent", [..., None, False])
def test_user_id_is_read_when_sub_is_absent_null_or_false(absent: Any, issuer: Issuer) -> None:
    assert judged(issuer, issuer.claims(sub=absent, user_id=issuer.user)) == accepted(issuer)
    for also in (..., None, False):
        assert judged(issuer, issuer.claims(sub=absent, user_id=also)) == "user_missing"
    for other in ("SUB", "Sub", "userId", "user-id", "uid", "subject", "user_id "):
        assert judged(issuer, issuer.claims(**{"sub": absent, other: "x"})) == "user_missing"
    assert judged(issuer, issuer.claims(user_id="other")) == accepted(issuer)


@pytest.mark.parametrize("inner", [..., None, {}, [], "u", "", 1, 0, True, False, ["sub"], {"SUB": "u"}, {"sub": None}])
def test_a_namespace_without_a_user_never_falls_back_to_the_top(inner: Any, issuer: Issuer) -> None:
    claims = issuer.claims(**{issuer.namespace: inner}, user_id="top")
    assert judged(issuer, claims, AUTH_JWT_NAMESPACE=issuer.namespace) == "user_missing"
    for unset in ("", " ", "\t"):
        assert judged(issuer, claims, AUTH_JWT_NAMESPACE=unset) == accepted(issuer)


def test_the_namespace_is_one_literal_name(issuer: Issuer) -> None:
    space, inner = issuer.namespace, {"sub": issuer.user}
    claims = issuer.claims(**{space: inner, "sub": "top", "user_id": "top"})
    assert judged(issuer, claims, AUTH_JWT_NAMESPACE=space) == accepted(issuer)
    in_another_case = {space.upper(), space.lower()} - {space}
    for other in (space + "/", f" {space}", space[:-1], *in_another_case):
        assert judged(issuer, claims, AUTH_JWT_NAMESPACE=other) == "user_missing"
    path = issuer.claims(a={"b": inner}, sub="top")
    assert judged(issuer, path, AUTH_JWT_NAMESPACE="a.b") == "user_missing"
    assert judged(issuer, issuer.claims(**{"a.b": inner}, sub=1), AUTH_JWT_NAMESPACE="a.b") == accepted(issuer)
    for own in ("__proto__", "constructor", "sub", "exp.x", "é", "$.a", "*"):
        assert judged(issuer, issuer.claims(**{own: inner, "iat": 0}), AUTH_JWT_NAMESPACE=own) == accepted(issuer)


def test_only_the_user_id_is_looked_for_in_the_namespace(issuer: Issuer) -> None:
    env = {"AUTH_JWT_NAMESPACE": issuer.namespace}
    inner = {"sub": issuer.user, "exp": 1, "iat": "x", "nbf": 10**11, "iss": "x", "aud": []}
    assert judged(issuer, issuer.claims(**{issuer.namespace: inner}), **env) == accepted(issuer)
    inner = {"sub": issuer.user, "exp": issuer.now + 100}
    assert judged(issuer, issuer.claims(**{issuer.namespace: inner}, exp=...), **env) == "claim_missing"
    inner = {"sub": issuer.user, "iss": issuer.name}
    claims = issuer.claims(**{issuer.namespace: inner})
    assert judged(issuer, claims, **env, AUTH_JWT_ISS=issuer.name) == "claim_missing"


# ---- insecure mode --------------------------------------------------------------------------------------------------


def test_insecure_mode_looks_at_the_payload_alone(issuer: Issuer, rng: Random) -> None:
    def insecure(token: str, **env: str) -> str:
        return verdict({"AUTH_MODE": "insecure"} | env, token, issuer.now)

    token = issuer.token(claims=json.dumps(dict(issuer.claims())))
    header, payload, _ = token.split(".")
    for same in (
        token,
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f".{payload}.",
        f"é.{payload}.%%%",
        f"\0.{payload}",
    ):
        assert insecure(same) == accepted(issuer)
    assert insecure(f"{header}.{payload}{'=' * (-len(payload) % 4)}.") == accepted(issuer)
    assert insecure(f"{header}.{payload.replace('-', '+').replace('_', '/')}.") == accepted(issuer)
    for malformed in (payload, f"{token}.x", "x", f"{header}..", f"{header}. {payload}.", f"{header}.{payload}====.x"):
        assert insecure(malformed) == "token_malformed"
    assert insecure("") == "token_missing"

    def unsigned(claims: Members | str) -> str:
        return issuer.token(issuer.header(alg="none"), claims).rpartition(".")[0] + "."

    now = issuer.now
    for changes, expected in [
        ({"exp": ..., "iat": ...}, accepted(issuer)),
        ({"exp": now - 2}, accepted(issuer)),
        ({"exp": now - 3}, "expired"),
        ({"nbf": now + 3}, "not_yet_valid"),
        ({"iat": now + 3}, "issued_in_future"),
        ({"exp": "x"}, "claim_invalid"),
        ({"iat": None}, "claim_invalid"),
        ({"nbf": True}, "claim_invalid"),
        ({"iss": 1, "aud": {}}, accepted(issuer)),
        ({"sub": ...}, "user_missing"),
        ({"sub": 1}, "user_invalid"),
        ({"sub": ..., "user_id": issuer.user}, accepted(issuer)),
    ]:
        assert insecure(unsigned(issuer.claims(**changes))) == expected
    for text in ("[]", "null", '{"sub":"a","sub":"a"}', '{"sub":"a"}x', '"a"', '{"sub":NaN}'):
        assert insecure(unsigned(text)) == "payload_invalid"
    inner = issuer.claims(**{issuer.namespace: {"sub": issuer.user}}, sub="top")
    assert insecure(unsigned(inner), AUTH_JWT_NAMESPACE=issuer.namespace) == accepted(issuer)
    assert insecure(unsigned(issuer.claims()), AUTH_JWT_NAMESPACE=issuer.namespace) == "user_missing"
