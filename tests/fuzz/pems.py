"""Keys as they are configured: PEM texts, shared secrets, and private keys to sign with, all damaged.

What must never happen: anything but keys or `KeyRejected`; a private or weak key taken for a good one; a key that other
libraries read otherwise; a text that quotes the key.
"""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import dataclass
from functools import cache
from random import Random

from cryptography.hazmat.primitives.serialization import PrivateFormat

from leyden.auth import ALGORITHMS, Algorithm, Family, KeyRejected

from .elsewhere import pem_elsewhere
from .loop import Breach, Product, Target
from .material import VECTORS, good_jwks, pair
from .octets import bulk, damaged_der, damaged_text, element, odd_modulus, rsa_public_key
from .rules import weakness

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
        if self.algorithm.family is Family.HMAC:
            if self.text in repr(outcome):
                raise Breach("the representation shows the secret")
            return "HMAC accepted"
        for (label, der), key in zip(blocks(self._pem()), outcome, strict=True):
            pem_elsewhere(label, der, key)
        return f"{self.algorithm.family.name} accepted"

    def _pem(self) -> str:
        text = self.text
        if self.is_base64 and "-----BEGIN" not in text:
            text = base64.b64decode("".join(text.split()) + "==").decode("utf-8", "replace")
        return text.replace("\\r\\n", "\n").replace("\\n", "\n")


def blocks(text: str) -> list[tuple[str, bytes]]:
    """(label, DER) of every block of a PEM text; those that are no base64 are left out."""
    found = []
    for part in text.split("-----BEGIN ")[1:]:
        label, _, rest = part.partition("-----")
        body = "".join(rest.partition("-----END")[0].split())
        with contextlib.suppress(ValueError):
            found.append((label, base64.b64decode(body + "=" * (-len(body) % 4), validate=True)))
    return found


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
    return tuple(block for text in pem_texts() for block in blocks(text))


def armoured(label: str, der: bytes, rng: Random) -> str:
    body = base64.b64encode(der).decode()
    width = rng.choice([64, 64, 76, 1, len(body) + 1])
    lines = [body[start : start + width] for start in range(0, len(body), width)]
    newline = rng.choice(["\n", "\n", "\r\n", "\\n", " ", ""])
    return newline.join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"])


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


def near(text: str, rng: Random) -> str:
    """The first block of a good PEM text with a little damage, or none, in one of its spellings."""
    label, der = blocks(text)[0]
    if rng.random() < 0.5:
        der = damaged_der(der, rng, [other for _, other in ders()])
    spelled = armoured(label, der, rng)
    return damaged_text(spelled, rng, [text], 70_000) if rng.random() < 0.3 else spelled


def pem_case(rng: Random) -> PemCase:
    name = rng.choice([*PEM_ALGORITHMS, "RS512", "HS256", "HS512"])
    is_base64 = rng.random() < 0.2
    text = odd_pem(rng)
    if rng.random() < 0.5 and name in PEM_ALGORITHMS:
        text = "".join(
            near(pair(name, rng.randrange(2)).verification_text(), rng) for _ in range(rng.choice([1, 1, 2]))
        )
    if is_base64 and rng.random() < 0.7:
        text = base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()
    return PemCase(text, ALGORITHMS[name], is_base64)


def secret_case(rng: Random) -> PemCase:
    kind = rng.random()
    if kind < 0.3:
        text = odd_pem(rng)
    elif kind < 0.6:
        text = base64.b64encode(damaged_der(rng.choice(ders())[1], rng, [der for _, der in ders()])).decode()
    elif kind < 0.8:
        text = json.dumps(rng.choice(good_jwks()) if rng.random() < 0.5 else {"keys": [rng.choice(good_jwks())]})
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
    text, name = rng.choice(private), rng.choice(PEM_ALGORITHMS)
    if rng.random() < 0.4:
        text = near(pair(name, rng.randrange(2)).private_pem(), rng)
    elif rng.random() < 0.5:
        label, der = rng.choice([one for one in ders() if "PRIVATE" in one[0]])
        for _ in range(rng.choice([0, 1, 1, 2])):
            der = damaged_der(der, rng, [other for _, other in ders()])
        text = armoured(label, der, rng)
    elif rng.random() < 0.8:
        text = damaged_text(text, rng, private, 20_000)
    return PrivateCase(text.encode("utf-8", "surrogatepass"), ALGORITHMS[name])


TARGETS = (
    Target("pem", pem_case, 0.05),
    Target("secrets", secret_case, 0.05),
    # Checking the numbers of a private RSA key takes time; only whoever runs the command gives one.
    Target("private-keys", private_case, 5.0),
)
