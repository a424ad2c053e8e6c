"""Tokens: damaged, odd, or signed by somebody else, before verifiers of every algorithm, key source and policy.

What must never happen: anything but an identity or a refusal with a code; `internal`; an explanation with another
verdict; a token accepted that was not signed as it stands, that another library refuses, or whose claims say something
else than the identity.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, get_args

from leyden.auth import (
    ALGORITHMS,
    BEFORE_SIGNATURE,
    AuthSettings,
    Code,
    Explanation,
    Family,
    Identity,
    KeyRing,
    Refusal,
    TokenVerifier,
    load_keys,
    parse_jwk_set,
    verifier_from,
)

from .elsewhere import claims_elsewhere
from .json_texts import FRAGMENTS, Members, Raw, changed, model, odd_value, write
from .loop import Breach, Product, Target
from .material import NOW, Pair, pair, segment, unsegment
from .octets import bulk, damaged_bytes, damaged_text
from .rules import token_breaches

CODES = frozenset(get_args(Code)) - {"internal"}
MOST_CHARACTERS = 17_000

POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"issuer": "issuer", "audience": "audience"},
    {"namespace": "ns"},
    {"types": None, "user_id_policy": "legacy"},
    {"leeway": 0, "max_lifetime": 660, "max_age": 60},
    {"leeway": 60, "max_characters": 900},
)


@dataclass(frozen=True, slots=True)
class TokenCase:
    token: str
    verifier: TokenVerifier
    genuine: frozenset[str]
    """The tokens that holders of trusted keys have signed; no other may be accepted."""
    well_signed: bool = False
    """Whether its header is a good one for the key it was signed with, so that nothing may be said of its signature."""
    untouched: bool = False
    """Whether nothing was changed at all, so that it must be accepted."""

    def act(self, product: Product) -> tuple[object, object]:
        try:
            verdict: object = product.verify(self.verifier, self.token, NOW)
        except Refusal as refusal:
            verdict = refusal
        return verdict, product.explain(self.token, NOW, self.verifier)

    def judge(self, outcome: object) -> str:
        assert isinstance(outcome, tuple)
        verdict, explanation = outcome
        if not isinstance(explanation, Explanation):
            raise Breach("the explanation is none")
        if isinstance(verdict, Refusal):
            self._judge_refusal(verdict, explanation)
            return verdict.code
        if not isinstance(verdict, Identity):
            raise Breach("the verdict is neither an identity nor a refusal")
        self._judge_identity(verdict, explanation)
        return "accepted"

    def _judge_refusal(self, refusal: Refusal, explanation: Explanation) -> None:
        if refusal.code not in CODES:
            raise Breach(f"refused as {refusal.code}")
        if (explanation.accepted, explanation.code) != (False, refusal.code):
            raise Breach("verifier and explanation differ")
        if self.untouched:
            raise Breach(f"a good token was refused as {refusal.code}")
        if self.genuine and self.token not in self.genuine and refusal.code not in BEFORE_SIGNATURE:
            raise Breach(f"the payload of a forged token was judged: {refusal.code}")
        if self.well_signed and refusal.code in BEFORE_SIGNATURE - {"token_too_large"}:
            raise Breach(f"a well signed token was refused as {refusal.code}")
        signature = self.token.rpartition(".")[2]
        if len(signature) > 40 and signature in f"{refusal} {refusal.message}":
            raise Breach("the refusal quotes the signature")

    def _judge_identity(self, identity: Identity, explanation: Explanation) -> None:
        if (explanation.accepted, explanation.user_id) != (True, identity.user_id):
            raise Breach("verifier and explanation differ")
        settings = self.verifier.settings
        for breach in token_breaches(self.token, identity, settings, NOW):
            raise Breach(breach)
        if settings.insecure:
            return
        if self.token not in self.genuine:
            raise Breach("a forged token was accepted")
        header = json.loads(unsegment(self.token.split(".")[0]))
        (key,) = (
            key
            for key in self.verifier.ring.keys
            if (key.thumbprint, key.algorithm.name) == (identity.key_thumbprint, header["alg"])
        )
        if self.verifier.ring.candidates(key.algorithm, header.get("kid")) != (key,) and "kid" in header:
            raise Breach("another key than the named one was used")
        claims_elsewhere(self.token, key, settings, NOW)


# ---- verifiers ------------------------------------------------------------------------------------------------------


@cache
def static_verifier(name: str, policy: int) -> TokenVerifier:
    algorithm = ALGORITHMS[name]
    ring = KeyRing(load_keys(pair(name).verification_text(), algorithm))
    return verifier_from(AuthSettings("secure", (algorithm,), ring, **POLICIES[policy]))


SET_ALGORITHMS = tuple(algorithm for algorithm in ALGORITHMS.values() if algorithm.family is not Family.HMAC)
#: (algorithm, generation, kid) of the keys in the set; keys without a kid serve tokens without one.
SET_KEYS = (
    *(("ES256", 0, "first"), ("ES256", 1, "second"), ("ES384", 0, "first-384"), ("ES512", 0, None)),
    *(("RS256", 0, "rsa"), ("PS256", 1, "pss"), ("Ed25519", 0, "ed"), ("EdDSA", 1, None)),
)


@cache
def set_verifier(policy: int) -> TokenVerifier:
    keys = []
    for name, generation, kid in SET_KEYS:
        members: dict[str, Any] = {"kid": kid} if kid else {}
        keys.append(pair(name, generation).jwk(alg=name, use="sig", **members))
    ring = KeyRing(parse_jwk_set(json.dumps({"keys": keys}).encode(), SET_ALGORITHMS).keys, kids_select=True)
    return verifier_from(AuthSettings("secure", SET_ALGORITHMS, ring, **POLICIES[policy]))


@cache
def insecure_verifier(policy: int) -> TokenVerifier:
    allowed = ("namespace", "user_id_policy")
    return verifier_from(
        AuthSettings("insecure", **{name: value for name, value in POLICIES[policy].items() if name in allowed})
    )


# ---- cases ----------------------------------------------------------------------------------------------------------

USER_ID_PIECES = (
    *(
        "u",
        "user-1",
        "é",
        "e\u0301",
        "а",
        "１",
        "\U0001f600",
        "\u202e",
        " ",
        "\t",
        "\u00a0",
        "\u2003",
        "\u3000",
        "\x85",
    ),
    *("\u200b", "\u2060", "\ufeff", "\u00ad", "\ufe0f", "\u3164", "\U000e0041", "\x00", "\x1b", "\x7f", "\x9f", "\n"),
    *("x" * 1024, "é" * 512, "\u200b" * 300),
)
CHEAP = ("HS256", "HS384", "HS512", "ES256", "EdDSA", "Ed25519")
DEAR = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES384", "ES512")


def good_claims(rng: Random) -> Members:
    """Claims that pass every policy."""
    inner = {"sub": "user-1", "roles": ["a", {"b": None}]}
    claims: dict[str, Any] = {"sub": "user-1", "iat": NOW - 60, "exp": NOW + 600, "iss": "issuer", "ns": inner}
    claims["aud"] = rng.choice(["audience", ["audience"], ["other", "audience"]])
    if rng.random() < 0.3:
        claims["nbf"] = NOW - rng.choice([0, 60, 0.5])
    if rng.random() < 0.3:
        claims["jti"] = "token-1"
    made: Members = model(claims)
    rng.shuffle(made)
    return made


def with_odd_user(claims: Members, rng: Random) -> Members:
    """`claims` with another user id, top-level and in the namespace, of pieces that some policy objects to."""
    user = "".join(rng.choice(USER_ID_PIECES) for _ in range(rng.randint(0, 3)))
    name = rng.choice(["sub", "user_id"])
    kept = [(other, value) for other, value in claims if other not in ("sub", "ns")]
    return Members([*kept, (name, user), ("ns", Members([(name, user)]))])


def good_header(alg: str, kid: str | None, rng: Random) -> Members:
    header: dict[str, Any] = {"alg": alg}
    if rng.random() < 0.6:
        header["typ"] = rng.choice(["JWT", "at+jwt"])
    if kid is not None:
        header["kid"] = kid
    made: Members = model(header)
    return made


def signed(pair: Pair, header: str, payload: str) -> str:
    message = f"{segment(header.encode('utf-8', 'surrogatepass'))}.{segment(payload.encode('utf-8', 'surrogatepass'))}"
    return f"{message}.{segment(pair.sign(message.encode()))}"


@cache
def good_tokens(name: str, generation: int, kid: str | None) -> tuple[str, ...]:
    rng = Random(f"{name} {generation} {kid}")
    signer = pair(name, generation)
    return tuple(
        signed(signer, write(good_header(name, kid, rng), rng), write(good_claims(rng), rng)) for _ in range(4)
    )


def odd_token(verifier: TokenVerifier, name: str, generation: int, kid: str | None, rng: Random) -> TokenCase:
    """A token of the trusted key, changed before or after signing, or signed by another."""
    good = good_tokens(name, generation, kid)
    if (kind := rng.random()) < 0.02:
        return TokenCase(good[0], verifier, frozenset(good), untouched=verifier.settings.max_characters > 900)
    if kind < 0.4:
        token = rng.choice(good)
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            token = damaged_text(token, rng, [*good, *other_tokens()], MOST_CHARACTERS)
        return TokenCase(token, verifier, frozenset(good))
    if kind < 0.5:
        message, _, signature = rng.choice(good).rpartition(".")
        token = f"{message}.{segment(odd_signature(unsegment(signature), name, rng))}"
        return TokenCase(token, verifier, frozenset(good))
    header, payload = good_header(name, kid, rng), good_claims(rng)
    if rng.random() < 0.1:
        payload = with_odd_user(payload, rng)
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        payload = changed(payload, rng)
    well_signed = rng.random() < 0.7
    texts = [write(header if well_signed else changed(header, rng), rng), write(payload, rng)]
    if rng.random() < 0.05:
        place = rng.randrange(2)
        texts[place] = damaged_text(texts[place], rng, texts, MOST_CHARACTERS)
        well_signed = False
    if rng.random() < 0.05:
        other = rng.choice([write(odd_value(rng), rng), texts[1], bulk(FRAGMENTS, rng, 12_000)])
        texts[rng.randrange(2)] = other
        well_signed = False
    if rng.random() < 0.1:
        return TokenCase(signed(other_signer(name, generation, rng), *texts), verifier, frozenset(good))
    token = signed(pair(name, generation), *texts)
    return TokenCase(token, verifier, frozenset([*good, token]), well_signed)


def other_signer(name: str, generation: int, rng: Random) -> Pair:
    """A key nobody trusts: another of the algorithm, of another algorithm, or the public key as secret."""
    if rng.random() < 0.3:
        return pair(name, 2)
    if rng.random() < 0.5:
        return Pair(ALGORITHMS["HS256"], pair(name, generation).verification_text().encode() + b"\n")
    other = rng.choice([one for one in CHEAP if ALGORITHMS[one].family is not ALGORITHMS[name].family])
    return pair(other)


@cache
def other_tokens() -> tuple[str, ...]:
    return tuple(good_tokens(name, 0, None)[0] for name in ("HS256", "ES256", "EdDSA"))


def odd_signature(signature: bytes, name: str, rng: Random) -> bytes:
    curve = ALGORITHMS[name].curve
    if curve is None or rng.random() < 0.4:
        return damaged_bytes(signature, rng)
    numbers = [int.from_bytes(half, "big") for half in (signature[: curve.width], signature[curve.width :])]
    edges = [0, 1, curve.order - 1, curve.order, curve.order + 1, 2 ** (8 * curve.width) - 1, *numbers]
    numbers[rng.randrange(2)] = rng.choice(edges)
    return b"".join(number.to_bytes(curve.width, "big") for number in numbers)


def static_case(rng: Random) -> TokenCase:
    name = rng.choice(CHEAP if rng.random() < 0.8 else DEAR)
    return odd_token(static_verifier(name, rng.randrange(len(POLICIES))), name, 0, None, rng)


def set_case(rng: Random) -> TokenCase:
    verifier = set_verifier(rng.randrange(len(POLICIES)))
    name, generation, kid = rng.choice(SET_KEYS[:2] if rng.random() < 0.5 else SET_KEYS)
    if rng.random() < 0.1:  # the right key under another's name, or under none
        header = good_header(name, rng.choice([None, *(other for _, _, other in SET_KEYS)]), rng)
        token = signed(pair(name, generation), write(header, rng), write(good_claims(rng), rng))
        return TokenCase(token, verifier, frozenset([token]))
    return odd_token(verifier, name, generation, kid, rng)


def insecure_case(rng: Random) -> TokenCase:
    verifier = insecure_verifier(rng.randrange(len(POLICIES)))
    if rng.random() < 0.5:
        case = odd_token(verifier, "HS256", 0, None, rng)
        return TokenCase(case.token, verifier, frozenset())
    payload = changed(good_claims(rng), rng) if rng.random() < 0.8 else Raw("null")
    token = f"{rng.choice(['', 'e30', '%'])}.{segment(write(payload, rng).encode('utf-8', 'surrogatepass'))}"
    if rng.random() < 0.5:
        token += rng.choice([".", "..", "=", ".x", "=="])
    return TokenCase(token, verifier, frozenset())


TARGETS = (
    Target("tokens", static_case, 0.05),
    Target("tokens-of-a-set", set_case, 0.05),
    Target("unsigned-tokens", insecure_case, 0.05),
)
