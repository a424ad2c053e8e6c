"""An issuer nobody has met before: fresh keys, names, times and spellings, for tests of the rules one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from leyden.auth import ALGORITHMS, Family, Refusal, verifier_from
from leyden.config import ConfigurationError, load_auth_settings

from .json_texts import Members, model, write
from .material import Pair, new_pair, segment

Part = bytes | str | Members
"""A header or payload: as bytes, as text, or as members in any spelling."""

NAMES = ("a", "Anna", "usér", "用户", "x-1", "00000000-0000-4000-8000-000000000000", "u@example.org", "\U0001f600", "1")


@cache
def _fresh(name: str, number: int) -> Pair:
    algorithm = ALGORITHMS[name]
    if algorithm.family is Family.RSA and name != "RS256":  # RSA keys take long to make, and fit all its algorithms
        return Pair(algorithm, _fresh("RS256", number).private)
    return new_pair(name)


@dataclass(frozen=True, slots=True)
class Issuer:
    """Signs tokens for one service with one key."""

    pair: Pair
    rng: Random
    now: int
    user: str
    name: str
    audience: str
    namespace: str

    @classmethod
    def of(cls, algorithm: str, rng: Random) -> Issuer:
        word = f"{rng.getrandbits(40):x}"
        return cls(
            pair=_fresh(algorithm, rng.randrange(2)),
            rng=rng,
            now=rng.randint(10**9, 4 * 10**9),
            user=rng.choice(NAMES) + word,
            name=rng.choice(["https://issuer.example/", "issuer-", "urn:x:"]) + word,
            audience=rng.choice(["https://api.example/", "service-", ""]) + word,
            namespace=rng.choice(["https://app.example/claims/", "ns.", "__"]) + word,
        )

    @property
    def alg(self) -> str:
        return self.pair.algorithm.name

    def other(self) -> Pair:
        """A key of the same algorithm that is not this issuer's."""
        return next(pair for pair in (_fresh(self.alg, 0), _fresh(self.alg, 1)) if pair is not self.pair)

    def env(self, **more: str) -> dict[str, str]:
        """The environment of a service that trusts this issuer."""
        return {"AUTH_JWT_ALG": self.alg, "AUTH_JWT_KEY": self.pair.verification_text()} | more

    def header(self, **changes: Any) -> Members:
        """A good header with `changes`; a member set to `...` is left out."""
        return _merged({"alg": self.alg, "typ": "JWT"}, changes, self.rng)

    def claims(self, **changes: Any) -> Members:
        """Good claims with `changes`; a claim set to `...` is left out."""
        lifetime = self.rng.randint(1, 10**6)
        good = {"sub": self.user, "iat": self.now - self.rng.randint(0, 10**6), "exp": self.now + lifetime}
        return _merged(good, changes, self.rng)

    def token(self, header: Part | None = None, claims: Part | None = None, signer: Pair | None = None) -> str:
        """A token that is signed exactly as it stands, by this issuer unless by `signer`."""
        parts = (self.header() if header is None else header, self.claims() if claims is None else claims)
        message = ".".join(segment(self._bytes(part)) for part in parts)
        return self.sealed(message, signer)

    def sealed(self, message: str, signer: Pair | None = None) -> str:
        """`message`, two segments however spelled, with its signature."""
        return f"{message}.{segment((signer or self.pair).sign(message.encode()))}"

    def _bytes(self, part: Part) -> bytes:
        if isinstance(part, Members):
            part = write(part, self.rng)
        return part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part


def _merged(good: Mapping[str, Any], changes: Mapping[str, Any], rng: Random) -> Members:
    members: Members = model({name: value for name, value in {**good, **changes}.items() if value is not ...})
    rng.shuffle(members)
    return members


def verdict(env: Mapping[str, str], token: str, now: float) -> str:
    """`accept USER`, the code of the refusal, or `config_error`."""
    try:
        verifier = verifier_from(load_auth_settings(env))
    except ConfigurationError:
        return "config_error"
    try:
        return f"accept {verifier.verify(token, now).user_id}"
    except Refusal as refusal:
        return refusal.code
