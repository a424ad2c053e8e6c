"""JSON Web Keys and sets of them, damaged one by one and as a whole.

What must never happen: anything but a set or `InvalidJwkSet`; a private, weak or unfit key taken for a good one; a key
that other libraries read otherwise; a sound key lost, or an unsound one let in, because of its neighbours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from leyden.auth import Algorithm, InvalidJwkSet, JwkSet, VerificationKey

from .elsewhere import key_elsewhere
from .json_texts import FRAGMENTS, Members, changed, model, write
from .loop import Breach, Product, Target
from .material import good_jwks, pair, segment, unsegment
from .octets import bulk, damaged_bytes, damaged_text, odd_modulus
from .rules import SMALL_ORDER, looseness, weakness
from .tokens import SET_ALGORITHMS


@dataclass(frozen=True, slots=True)
class SetCase:
    raw: bytes
    algorithms: tuple[Algorithm, ...]
    kept: tuple[str, ...] = ()
    """Names of keys that are sound, named once, and so must be kept."""

    def act(self, product: Product) -> object:
        try:
            return product.parse_jwk_set(self.raw, self.algorithms)
        except InvalidJwkSet as invalid:
            return invalid

    def judge(self, outcome: object) -> str:
        if isinstance(outcome, InvalidJwkSet):
            if self.kept:
                raise Breach(f"a set with good keys is no set: {outcome}")
            return str(outcome)[:40]
        if not isinstance(outcome, JwkSet):
            raise Breach("neither a set nor a rejection")
        if loose := looseness(self.raw):
            raise Breach(f"accepted: {loose}")
        document = json.loads(self.raw)
        if missing := set(self.kept) - {key.kid for key in outcome.keys}:
            raise Breach(f"a good key is missing: {sorted(missing)}")
        for key in outcome.keys:
            entries = [entry for entry in document["keys"] if _is_entry_of(entry, key)]
            if not entries:
                raise Breach("a key that is nowhere in the set")
            reasons = [next(unfitness(entry, key.algorithm), None) for entry in entries]
            if reason := weakness(key) or (all(reasons) and reasons[0]):
                raise Breach(f"accepted: {reason}")
            if key.kid is not None and sum(other.kid == key.kid for other in outcome.keys) != len(
                {other.algorithm for other in outcome.keys if other.kid == key.kid}
            ):
                raise Breach("two keys with one name")
            key_elsewhere(entries[reasons.index(None)], key)
        return f"{'some' if outcome.keys else 'no'} keys, {'some' if outcome.skipped else 'none'} skipped"


def _is_entry_of(entry: object, key: VerificationKey) -> bool:
    if not isinstance(entry, dict) or entry.get("kid") != key.kid:
        return False
    public: Any = key.material.as_dict(private=False)
    return all(entry.get(name) == value for name, value in public.items() if name in ("kty", "crv", "x", "y", "n", "e"))


def unfitness(entry: Mapping[str, Any], algorithm: Algorithm) -> Iterator[str]:
    """What should have kept a JSON Web Key from being used with `algorithm`."""
    if {"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} & entry.keys() or entry["kty"] == "oct":
        yield "a key with secret members"
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        yield "a key for another use"
    if entry.get("alg", algorithm.name) != algorithm.name:
        yield "a key for another algorithm"
    if any(segment(unsegment(entry[name])) != entry[name] for name in {"RSA": "ne", "EC": "xy"}.get(entry["kty"], "x")):
        yield "a key with a second spelling"
    if algorithm.curve is not None and any(len(unsegment(entry[name])) != algorithm.curve.width for name in "xy"):
        yield "a key with coordinates of another width"


def odd_jwk(rng: Random) -> Members:
    entry = dict(rng.choice(good_jwks()))
    kind = rng.random()
    if kind < 0.1:
        name = rng.choice(["RS256", "ES256", "EdDSA"])
        entry = pair(name).jwk(private=True, kid="leaked")
    elif kind < 0.15:
        entry = pair("HS256").jwk(kid="shared")
    elif kind < 0.3:
        bits = rng.choice([1024, 2047, 2048, 3072, 4096, 16384, 16392])
        exponent = rng.choice([0, 1, 3, 65537, 65537, 65536, 2**64 + 1, 2**255 + 1, 2**256 + 1])
        numbers = {"n": odd_modulus(bits, rng), "e": exponent}
        entry = {"kty": "RSA", "kid": "odd"} | {name: segment(_octets(number)) for name, number in numbers.items()}
    elif kind < 0.35:
        entry = {"kty": "OKP", "crv": "Ed25519", "x": segment(rng.choice(SMALL_ORDER)), "kid": "small"}
    made: Members = model(entry)
    for _ in range(rng.choice([0, 1, 1, 2])):
        made = _with_damaged_number(made, rng) if rng.random() < 0.4 else changed(made, rng)
    return made


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8 or 1, "big")


def _with_damaged_number(entry: Members, rng: Random) -> Members:
    places = [
        place for place, (name, value) in enumerate(entry) if name in ("n", "e", "x", "y") and isinstance(value, str)
    ]
    if not places:
        return entry
    place = rng.choice(places)
    name, value = entry[place]
    other = rng.choice(good_jwks()).get(name, value)
    try:
        damaged = segment(damaged_bytes(unsegment(value), rng))
    except ValueError:
        damaged = value + "="
    copy = Members(entry)
    copy[place] = (name, rng.choice([damaged, damaged, other, value + "=", value[:-1] + "_"]))
    return copy


def jwk_case(rng: Random) -> SetCase:
    text = write(Members([("keys", [odd_jwk(rng)])]), rng)
    return SetCase(text.encode("utf-8", "surrogatepass"), _some_algorithms(rng))


def set_case(rng: Random) -> SetCase:
    """Good keys among odd ones, in any order; or a document damaged as a whole."""
    if rng.random() < 0.02:
        return SetCase(bulk([*FRAGMENTS, '{"keys":['], rng, 262_144).encode()[:262_145], SET_ALGORITHMS)
    good = rng.sample(good_jwks(), rng.randint(0, 5))
    entries: list[Any] = [model(entry) for entry in good]
    entries += [odd_jwk(rng) for _ in range(rng.choice([0, 1, 3]))]
    if rng.random() < 0.1:
        entries += [rng.choice([None, 1, "key", [], Members()])]
    if rng.random() < 0.02:
        entries *= rng.choice([10, 40])
    rng.shuffle(entries)
    document = Members([("keys", entries)])
    text = write(document, rng)
    algorithms = _some_algorithms(rng)
    if rng.random() < 0.4:
        document = changed(document, rng) if rng.random() < 0.5 else document
        text = damaged_text(write(document, rng), rng, [text], 263_000) if rng.random() < 0.7 else write(document, rng)
        return SetCase(text.encode("utf-8", "surrogatepass"), algorithms)
    raw = text.encode("utf-8", "surrogatepass")
    return SetCase(raw, algorithms, _certainly_kept(raw, good, algorithms))


def _certainly_kept(raw: bytes, good: list[dict[str, Any]], algorithms: tuple[Algorithm, ...]) -> tuple[str, ...]:
    """The kids of good keys that no other entry bears; none where the document is no strict JSON."""
    if looseness(raw) or len(raw) > 262_144:
        return ()
    entries = json.loads(raw)["keys"]
    kids = [entry.get("kid") for entry in entries if isinstance(entry, dict)]
    names = {algorithm.name for algorithm in algorithms}
    if len(entries) > 100:
        return ()
    return tuple(entry["kid"] for entry in good if kids.count(entry["kid"]) == 1 and entry["alg"] in names)


def _some_algorithms(rng: Random) -> tuple[Algorithm, ...]:
    if rng.random() < 0.6:
        return SET_ALGORITHMS
    return tuple(rng.sample(SET_ALGORITHMS, rng.randint(1, 4)))


TARGETS = (
    Target("jwk", jwk_case, 0.05),
    Target("jwk-sets", set_case, 0.1),
)
