"""Keys: PEM texts and secrets, private keys, JSON Web Keys and sets of them, all damaged.

What must never happen: anything but keys, `KeyRejected` or `InvalidJwkSet`; a private or weak key taken for a good one;
a key that other libraries read otherwise; a sound key lost, or an unsound one let in, because of its neighbours; a text
that quotes the key.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import PrivateFormat

from leyden.auth import ALGORITHMS, Algorithm, Family, InvalidJwkSet, JwkSet, KeyRejected, VerificationKey

from .elsewhere import key_elsewhere
from .json_texts import FRAGMENTS, Members, changed, model, write
from .loop import Breach, Product, Target
from .material import VECTORS, pair, segment, unsegment
from .octets import bulk, damaged_bytes, damaged_der, damaged_text, element, rsa_public_key
from .rules import looseness
from .tokens import SET_ALGORITHMS

SMALL_ORDER = [
    *(bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f", b"\xed" + b"\xff" * 30 + b"\x7f"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
]


def weakness(key: VerificationKey) -> str | None:
    """Why `key` should not have been accepted for its algorithm, judged from the library's key object alone."""
    native: Any = key.material.raw_value
    match key.algorithm.family, native:
        case Family.HMAC, bytes():
            return None if len(native) >= key.algorithm.digest_bytes else "a short secret"
        case Family.RSA, RSAPublicKey():
            numbers = native.public_numbers()
            sound = 2048 <= numbers.n.bit_length() <= 16384 and numbers.e % 2 and 65537 <= numbers.e < 2**256
            return None if sound and numbers.n % 2 else "a weak RSA key"
        case Family.EC, EllipticCurvePublicKey():
            wanted = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}[key.algorithm.name]
            return None if native.curve.name == wanted else "a key on another curve"
        case Family.ED25519, Ed25519PublicKey():
            return "a point of small order" if native.public_bytes_raw() in SMALL_ORDER else None
    return "a key of another kind, or a private one"


# ---- PEM and secrets ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PemCase:
    text: str
    algorithm: Algorithm
    is_base64: bool

    def act(self, product: Product) -> object:
        try:
            return product.load_keys(self.text, self.algorithm, is_base64=self.is_base64)
        except KeyRejected as rejected:
            return rejected

    def judge(self, outcome: object) -> str:
        if isinstance(outcome, KeyRejected):
            said = "".join(f"{outcome} {outcome.message} {outcome.remedy}".split())
            body = "".join(self.text.split())
            pieces = {body[start : start + 24] for start in range(0, len(body), 24)}
            if any(len(piece) == 24 and piece in said for piece in pieces - {"-----BEGINPUBLICKEY-----"}):
                raise Breach("the rejection quotes the key")
            return f"{self.algorithm.family.name} {outcome.message[:24]}"
        if not isinstance(outcome, tuple) or not outcome:
            raise Breach("neither keys nor a rejection")
        for key in outcome:
            if key.algorithm != self.algorithm or (weak := weakness(key)):
                raise Breach(f"accepted: {weak}")
        if self.algorithm.family is not Family.HMAC and "PRIVATE" in self.text and "-----BEGIN" in self.text:
            labels = [part.partition("-----")[0] for part in self.text.split("-----BEGIN ")[1:]]
            if any("PRIVATE" in label for label in labels):
                raise Breach("accepted: a text with a private key")
        if self.algorithm.family is Family.HMAC and self.text in repr(outcome):
            raise Breach("the representation shows the secret")
        return f"{self.algorithm.family.name} accepted"


@cache
def pem_texts() -> tuple[str, ...]:
    """Texts of keys of every kind, public and private, ours and not."""
    texts = [pair(name, number).verification_text() for name in PEM_ALGORITHMS for number in (0, 1)]
    for name in ("RS256", "ES256", "ES384", "ES512", "EdDSA"):
        texts.append(pair(name).private_pem())
        if name != "EdDSA":
            texts.append(pair(name).private_pem(PrivateFormat.TraditionalOpenSSL))
    folders = [VECTORS / "PublicKey" / folder for folder in ("ECC", "RSA")]
    paths = sorted(path for folder in folders for path in folder.iterdir() if path.suffix in (".pem", ".txt"))
    texts += [path.read_bytes().decode("utf-8", "replace") for path in paths if path.stat().st_size < 8000]
    return tuple(texts)


PEM_ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")


@cache
def ders() -> tuple[tuple[str, bytes], ...]:
    """(label, DER) of every block of `pem_texts`."""
    found = []
    for text in pem_texts():
        for part in text.split("-----BEGIN ")[1:]:
            label, _, rest = part.partition("-----")
            body = "".join(rest.partition("-----END")[0].split())
            try:
                found.append((label, base64.b64decode(body, validate=True)))
            except ValueError:
                continue
    return tuple(found)


def armoured(label: str, der: bytes, rng: Random) -> str:
    body = base64.b64encode(der).decode()
    width = rng.choice([64, 64, 76, 1, len(body) + 1])
    lines = [body[start : start + width] for start in range(0, len(body), width)]
    newline = rng.choice(["\n", "\n", "\r\n", "\\n", " ", ""])
    return newline.join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"])


def odd_modulus(bits: int, rng: Random) -> int:
    return rng.getrandbits(bits) | 1 << (bits - 1) | (rng.random() < 0.95)


def odd_rsa_pem(rng: Random) -> str:
    """An RSA public key with numbers no generator would choose."""
    bits = rng.choice([512, 2047, 2048, 2048, 2049, 3072, 3073, 4096, 8192, 16384, 16385, 40_000])
    exponent = rng.choice(
        [0, 1, 2, 3, -1, 65535, 65537, 65537, 65539, 2**32, 2**64 + 1, 2**256 - 1, 2**256 + 1, 2**2047 + 1]
    )
    key = rsa_public_key(odd_modulus(bits, rng) * rng.choice([1, 1, 1, -1]), exponent)
    if rng.random() < 0.5:
        return armoured("RSA PUBLIC KEY", key, rng)
    oid = rng.choice([b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a"])
    kind = element(0x30, element(6, oid) + rng.choice([b"\x05\x00", b"", b"\x30\x00"]))
    return armoured("PUBLIC KEY", element(0x30, kind + element(3, b"\0" + key)), rng)


def odd_pem(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.35:
        label, der = rng.choice(ders())
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            der = damaged_der(der, rng, [other for _, other in ders()])
        return armoured(label if rng.random() < 0.9 else rng.choice(ders())[0], der, rng)
    if kind < 0.5:
        return odd_rsa_pem(rng)
    if kind < 0.53:
        fragments = [
            "-----BEGIN ",
            "PUBLIC KEY-----",
            "-----BEGIN A-----",
            "-----END A-----",
            "-----END ",
            "\n",
            "A",
            "\\n",
        ]
        return bulk(fragments, rng, 70_000)
    text = rng.choice(pem_texts())
    if kind < 0.6:
        text += rng.choice(pem_texts())
    for _ in range(rng.choice([1, 1, 2, 4])):
        text = damaged_text(text, rng, list(pem_texts()), 70_000)
    return text


def pem_case(rng: Random) -> PemCase:
    text, is_base64 = odd_pem(rng), rng.random() < 0.2
    if is_base64 and rng.random() < 0.7:
        text = base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()
    return PemCase(text, ALGORITHMS[rng.choice([*PEM_ALGORITHMS, "RS512", "HS256", "HS512"])], is_base64)


def secret_case(rng: Random) -> PemCase:
    kind = rng.random()
    if kind < 0.3:
        text = odd_pem(rng)
    elif kind < 0.6:
        text = base64.b64encode(damaged_der(rng.choice(ders())[1], rng, [der for _, der in ders()])).decode()
    elif kind < 0.8:
        text = json.dumps(rng.choice(jwks()) if rng.random() < 0.5 else {"keys": [rng.choice(jwks())]})
        text = damaged_text(text, rng, [text], 70_000) if rng.random() < 0.5 else text
    else:
        text = damaged_text(pair("HS512").verification_text(), rng, list(pem_texts()), 70_000)
    return PemCase(text, ALGORITHMS[rng.choice(["HS256", "HS384", "HS512"])], rng.random() < 0.5)


# ---- private keys ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PrivateCase:
    pem: bytes
    algorithm: Algorithm

    def act(self, product: Product) -> object:
        try:
            return product.load_private_key(self.pem, self.algorithm)
        except KeyRejected as rejected:
            return rejected

    def judge(self, outcome: object) -> str:
        if isinstance(outcome, KeyRejected):
            return outcome.message[:40]
        message = b"signed by whatever was loaded"
        signature = self.algorithm.sign(message, outcome)
        if not self.algorithm.verify(message, signature, outcome):
            raise Breach("accepted: a private key whose signatures do not verify")
        return "accepted"


def private_case(rng: Random) -> PrivateCase:
    private = [text for text in pem_texts() if "PRIVATE" in text]
    text = rng.choice(private)
    if rng.random() < 0.5:
        label, der = rng.choice([one for one in ders() if "PRIVATE" in one[0]])
        for _ in range(rng.choice([0, 1, 1, 2])):
            der = damaged_der(der, rng, [other for _, other in ders()])
        text = armoured(label, der, rng)
    elif rng.random() < 0.8:
        text = damaged_text(text, rng, private, 20_000)
    return PrivateCase(text.encode("utf-8", "surrogatepass"), ALGORITHMS[rng.choice(PEM_ALGORITHMS)])


# ---- JSON Web Keys --------------------------------------------------------------------------------------------------


@cache
def jwks() -> tuple[dict[str, Any], ...]:
    """Good keys of every kind that signs tokens here."""
    return tuple(
        pair(name, number).jwk(kid=f"{name}-{number}", use="sig", alg=name)
        for name in ("RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
        for number in (0, 1)
    )


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
    entry = dict(rng.choice(jwks()))
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
    other = rng.choice(jwks()).get(name, value)
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
    good = rng.sample(jwks(), rng.randint(0, 5))
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
    Target("pem", pem_case, 0.05),
    Target("secrets", secret_case, 0.05),
    # Checking the numbers of a private RSA key takes time; only whoever runs the command gives one.
    Target("private-keys", private_case, 5.0),
    Target("jwk", jwk_case, 0.05),
    Target("jwk-sets", set_case, 0.1),
)
