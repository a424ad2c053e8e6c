"""The rules on segments and headers, with keys, times and spellings that are new in every run.

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


# ---- spelling of segments -------------------------------------------------------------------------------------------


def respelled(issuer: Issuer, place: int, change: Callable[[str], str]) -> str:
    """A token with one segment changed, and signed as it then stands unless that segment is the signature."""
    segments = issuer.token().split(".")
    segments[place] = change(segments[place])
    return ".".join(segments) if place == 2 else issuer.sealed(".".join(segments[:2]))


def with_unused_bits(text: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) + 1] if len(text) % 4 else text + "A"


@pytest.mark.parametrize("place", [0, 1, 2], ids=["header", "payload", "signature"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "=" * (-len(text) % 4 or 4),
        lambda text: text + "=",
        with_unused_bits,
        lambda text: text + "A" * ((1 - len(text)) % 4),
        lambda text: text[:5] + "+" + text[6:],
        lambda text: text[:5] + "/" + text[6:],
        lambda text: text[:5] + "\n" + text[5:],
        lambda text: text[:5] + " " + text[5:],
        lambda text: text[:5] + "\r\n" + text[5:],
        lambda text: text[:5] + "\t" + text[5:],
        lambda text: text[:5] + "~" + text[6:],
        lambda text: text[:5] + "%2D" + text[5:],
        lambda text: text + " ",
        lambda text: " " + text,
        lambda text: text + ".",
    ],
    ids=range(15),
)
def test_a_segment_has_one_spelling_though_it_be_signed_in_another(
    place: int, change: Callable[[str], str], issuer: Issuer
) -> None:
    assert verdict(issuer.env(), respelled(issuer, place, change), issuer.now) == "token_malformed"


@pytest.mark.parametrize(
    "change",
    [
        *(
            lambda token, mark=mark: token + mark
            for mark in ("\n", "\r\n", " ", "\0", "\u200b", "=", "\ufeff", "/", "#", "?")
        ),
        *(
            lambda token, mark=mark: mark + token
            for mark in (" ", "\ufeff", "Bearer ", "bearer ", "JWT ", "\n", "token=")
        ),
        lambda token: f'"{token}"',
        lambda token: f"'{token}'",
        lambda token: token.replace(".", "%2E"),
        lambda token: token.replace(".", "．"),
        lambda token: token.replace("e", "е", 1),
        lambda token: token.replace(".", "\u3002"),
        lambda token: "{" + token + "}",
        lambda token: token.split(".")[0],
        lambda token: token.rpartition(".")[0],
        lambda token: token + ".",
        lambda token: token + ".AAAA",
        lambda token: "." + token,
        lambda token: ".." + token.split(".")[2],
        lambda token: "..",
        lambda token: "....."[:2] + "e30",
    ],
)
def test_a_token_stands_alone(change: Callable[[str], str], issuer: Issuer) -> None:
    assert verdict(issuer.env(), change(issuer.token()), issuer.now) == "token_malformed"


def test_empty_segments_are_malformed_though_signed(issuer: Issuer) -> None:
    header, payload, _ = issuer.token().split(".")
    for message in (f".{payload}", f"{header}.", "."):
        assert verdict(issuer.env(), issuer.sealed(message), issuer.now) == "token_malformed"


def test_other_serialisations_and_encrypted_tokens_are_told_apart(issuer: Issuer, rng: Random) -> None:
    header, payload, signature = issuer.token().split(".")
    flat = {"protected": header, "payload": payload, "signature": signature}
    general = {"payload": payload, "signatures": [{"protected": header, "signature": signature}]}
    for document in (flat, general, {"payload": payload, "header": {"alg": issuer.alg}, "signature": signature}):
        assert verdict(issuer.env(), json.dumps(document), issuer.now) == "token_malformed"
    for token in (f"{header}.{payload}.{signature}.AAAA.AAAA", f"{header}....{signature}", "...."):
        assert verdict(issuer.env(), token, issuer.now) == "token_encrypted"


@pytest.mark.parametrize("limit", [None, 300, 1000, 20_000])
def test_a_token_may_be_as_long_as_the_limit(limit: int | None, rng: Random) -> None:
    issuer = Issuer.of("HS256", rng)
    env = issuer.env(**({} if limit is None else {"AUTH_JWT_MAX_BYTES": str(limit)}))
    limit = limit or 16_384
    lengths = set()
    for pad in range((limit - 400) * 3 // 4 if limit > 400 else 0, limit):
        token = issuer.token(json.dumps({"alg": "HS256"}), json.dumps(dict(issuer.claims(pad="x" * pad))))
        if limit - 1 <= len(token) <= limit + 2:
            lengths.add(len(token) - limit)
            assert verdict(env, token, issuer.now) == (accepted(issuer) if len(token) <= limit else "token_too_large")
        if len(token) > limit + 2:
            break
    assert min(lengths) <= 0 < max(lengths)


# ---- headers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda alg: f'{{"alg":"none","alg":"{alg}"}}',
        lambda alg: f'{{"alg":"{alg}","alg":"none"}}',
        lambda alg: f'{{"alg":"{alg}","alg":"{alg}"}}',
        lambda alg: f'{{"alg":"{alg}","\\u0061lg":"{alg}"}}',
        lambda alg: f'{{"alg":"{alg}","kid":"a","kid":"b"}}',
        lambda alg: f'{{"alg":"{alg}","x":{{"a":1,"a":1}}}}',
        lambda alg: f'{{"alg":"{alg}","x":[{{"a":1,"\\u0061":2}}]}}',
        lambda alg: f'{{"alg":"{alg}","":1,"":1}}',
        lambda alg: f'{{"alg":"{alg}","x":"'.encode() + b"\xff" + b'"}',
        lambda alg: f'{{"alg":"{alg}","x":"'.encode() + b"\xc0\xae" + b'"}',
        lambda alg: f'{{"alg":"{alg}","x":"'.encode() + b"\xed\xa0\x80" + b'"}',
        lambda alg: b"\xef\xbb\xbf" + f'{{"alg":"{alg}"}}'.encode(),
        lambda alg: f'{{"alg":"{alg}"}}'.encode("utf-16"),
        lambda alg: f'{{"alg":"{alg}"}}'.encode("utf-16-be"),
        lambda alg: f'{{"alg":"{alg}"}}'.encode("utf-32-le"),
        lambda alg: f'{{"alg":"{alg}"}}x',
        lambda alg: f'{{"alg":"{alg}"}}{{}}',
        lambda alg: f'{{"alg":"{alg}"}}\0',
        lambda alg: f'{{"alg":"{alg}",}}',
        lambda alg: f"{{'alg':'{alg}'}}",
        lambda alg: f'{{alg:"{alg}"}}',
        lambda alg: f'/**/{{"alg":"{alg}"}}',
        lambda alg: f'{{"alg":"{alg}","x":NaN}}',
        lambda alg: f'{{"alg":"{alg}","x":-Infinity}}',
        lambda alg: f'{{"alg":"{alg}","x":1e999}}',
        lambda alg: f'{{"alg":"{alg}","x":01}}',
        lambda alg: f'{{"alg":"{alg}","x":{"7" * 65}}}',
        lambda alg: f'{{"alg":"{alg}","x":"\t"}}',
        lambda alg: f'{{"alg":"{alg}","x":"\\ud800"}}',
        lambda alg: f'{{"alg":"{alg}","\\udc00":1}}',
        lambda alg: f'{{"alg":"{alg}","x":"\\u12"}}',
        lambda alg: f'{{"alg":"{alg}","x":{"[" * 32}{"]" * 32}}}',
        lambda alg: f'{{"alg":"{alg}","x":{"[" * 3000}}}',
        lambda alg: f'["alg","{alg}"]',
        lambda alg: f'"{alg}"',
        lambda alg: f"alg={alg}",
        lambda alg: "null",
        lambda alg: "true",
        lambda alg: "1",
        lambda alg: " ",
        lambda alg: f'[{{"alg":"{alg}"}}]',
        *(lambda alg, kid=kid: f'{{"alg":"{alg}","kid":{kid}}}' for kid in ("1", "null", "true", "[]", "{}", '["a"]')),
    ],
    ids=range(47),
)
def test_a_header_is_one_strict_object(write: Callable[[str], bytes | str], issuer: Issuer) -> None:
    assert verdict(issuer.env(), issuer.token(write(issuer.alg)), issuer.now) == "header_invalid"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        *(
            ({"crit": value}, "crit_unsupported")
            for value in ([], ["exp"], ["b64"], ["alg"], "exp", None, True, {}, [1])
        ),
        ({"crit": ["b64"], "b64": True}, "crit_unsupported"),
        ({"crit": ["http://example.org/x"], "http://example.org/x": 1}, "crit_unsupported"),
        *(({"b64": value}, "b64_unsupported") for value in (False, None, 0, 1, "true", [], "false")),
        ({"b64": True}, None),
        *(({"enc": value}, "header_unsupported") for value in ("A256GCM", None, "")),
        *(({"zip": value}, "header_unsupported") for value in ("DEF", None, "")),
        *(
            ({"typ": value}, "typ_rejected")
            for value in ("dpop+jwt", "logout+jwt", "secevent+jwt", "token-introspection+jwt")
        ),
        *(
            ({"typ": value}, "typ_rejected")
            for value in ("", "JWS", "JOSE", "JOSE+JSON", "JWE", "id_token", "bearer", "jwt2")
        ),
        *(
            ({"typ": value}, "typ_rejected")
            for value in (" JWT", "JWT ", "JWT;v=1", "text/jwt", "application/", "JWΤ", "ＪＷＴ")
        ),
        *(
            ({"typ": value}, "typ_rejected")
            for value in (None, 1, True, [], ["JWT"], {}, "application/application/jwt")
        ),
        *(({"typ": value}, None) for value in (..., "JWT", "jwt", "JwT", "at+jwt", "AT+JWT", "application/jwt")),
        *(({"typ": value}, None) for value in ("application/at+jwt", "APPLICATION/JWT", "Application/At+Jwt")),
        *(
            ({"kid": value}, None)
            for value in ("", "a", "../../../etc/passwd", "' OR 1=1 --", "x" * 2000, "\0", "\U0001f600")
        ),
        *(({"cty": value}, None) for value in ("JWT", "json", 1, None)),
        ({"nonce": "n", "foo": [1, {"bar": None}], "x5t#S256": 7, "iss": "x", "exp": 1, "": ""}, None),
        ({"jwk": {"kty": "oct", "k": "AAAA"}, "jku": "http://169.254.169.254/", "x5u": 1, "x5c": {}}, None),
        ({"x": Raw("1" * 64)}, None),
        ({"ALG": "none", "Crit": ["x"], "ENC": "x"}, None),
    ],
)
def test_what_a_header_may_ask_for(change: dict[str, Any], expected: str | None, issuer: Issuer) -> None:
    header = issuer.header(**change)
    assert verdict(issuer.env(), issuer.token(header), issuer.now) == (expected or accepted(issuer))


def test_a_header_may_be_nested_32_levels_deep(issuer: Issuer, rng: Random) -> None:
    for depth, expected in ((31, accepted(issuer)), (32, "header_invalid")):
        header = issuer.header(x=nested("v", depth, rng))
        assert verdict(issuer.env(), issuer.token(header), issuer.now) == expected


@pytest.mark.parametrize(
    ("setting", "typ", "good"),
    [
        ("any", "dpop+jwt", True),
        ("any", 7, True),
        ("ACME+jwt", "acme+JWT", True),
        ("ACME+jwt", "application/acme+jwt", True),
        ("acme+jwt", "JWT", False),
        ("JWT, acme+jwt", "acme+jwt", True),
        ("application/acme+jwt", "acme+jwt", True),
        ("acme+jwt", "acme", False),
    ],
)
def test_configured_types_replace_the_usual_ones(setting: str, typ: Any, good: bool, issuer: Issuer) -> None:
    expected = accepted(issuer) if good else "typ_rejected"
    env = issuer.env(AUTH_JWT_TYP=setting)
    assert verdict(env, issuer.token(issuer.header(typ=typ)), issuer.now) == expected


def test_the_first_fault_in_the_order_of_checks_is_the_one_reported(issuer: Issuer) -> None:
    bad = Members([("exp", 1)])
    forger = issuer.other()
    faulty = {"alg": "none", "crit": [], "b64": False, "enc": "x", "typ": "x"}
    for fixed, expected in [
        ((), "alg_mismatch"),
        (("alg",), "crit_unsupported"),
        (("alg", "crit"), "b64_unsupported"),
        (("alg", "crit", "b64"), "header_unsupported"),
        (("alg", "crit", "b64", "enc"), "typ_rejected"),
        (("alg", "crit", "b64", "enc", "typ"), "signature_invalid"),
    ]:
        header = issuer.header(**{name: value for name, value in faulty.items() if name not in fixed})
        assert verdict(issuer.env(), issuer.token(header, bad, forger), issuer.now) == expected
    assert verdict(issuer.env(), issuer.token(issuer.header(), b"\xff", forger), issuer.now) == "signature_invalid"
    assert verdict(issuer.env(), issuer.token(issuer.header(), b"\xff"), issuer.now) == "payload_invalid"
