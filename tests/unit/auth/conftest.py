"""Keys, settings and a way to write tokens by hand, well or badly."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from leyden.auth import (
    ALGORITHMS,
    AuthSettings,
    GeneratedKey,
    KeyRing,
    TokenVerifier,
    generate_key,
    load_keys,
    load_private_key,
    mint_token,
    verifier_from,
)

NOW = 1_760_000_000
SECRET = "k7!" * 30


def _segment(content: bytes | str | dict[str, Any]) -> str:
    if isinstance(content, dict):
        content = json.dumps(content)
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _write_token(
    claims: bytes | str | dict[str, Any] | None = None,
    header: bytes | str | dict[str, Any] | None = None,
    secret: str = SECRET,
) -> str:
    """An HS256 token with exactly this header and payload, however wrong they are."""
    if claims is None:
        claims = {"sub": "user-1", "iat": NOW - 60, "exp": NOW + 600}
    if header is None:
        header = {"alg": "HS256", "typ": "JWT"}
    signing_input = f"{_segment(header)}.{_segment(claims)}"
    key = load_keys(secret, ALGORITHMS["HS256"])[0]
    return f"{signing_input}.{_segment(ALGORITHMS['HS256'].sign(signing_input.encode(), key.material))}"


def _hs256(**policy: Any) -> TokenVerifier:
    algorithm = ALGORITHMS["HS256"]
    return verifier_from(AuthSettings("secure", (algorithm,), KeyRing(load_keys(SECRET, algorithm)), **policy))


def _claims(**changes: Any) -> dict[str, Any]:
    """Good claims with `changes`; a claim set to `...` is left out."""
    merged = {"sub": "user-1", "iat": NOW - 60, "exp": NOW + 600} | changes
    return {name: value for name, value in merged.items() if value is not ...}


@pytest.fixture(scope="session")
def now() -> int:
    return NOW


@pytest.fixture(scope="session")
def secret() -> str:
    return SECRET


@pytest.fixture(scope="session")
def write_token() -> Callable[..., str]:
    """`write_token(claims, header, secret)`: see `_write_token`."""
    return _write_token


@pytest.fixture(scope="session")
def hs256() -> Callable[..., TokenVerifier]:
    """`hs256(**policy)`: a verifier for tokens of `write_token`."""
    return _hs256


@pytest.fixture(scope="session")
def claims() -> Callable[..., dict[str, Any]]:
    """`claims(**changes)`: see `_claims`."""
    return _claims


@pytest.fixture(scope="session")
def pairs() -> dict[str, GeneratedKey]:
    """One new key for each algorithm."""
    return {name: generate_key(name) for name in ALGORITHMS}


@pytest.fixture(scope="session")
def signed(pairs: dict[str, GeneratedKey]) -> dict[str, tuple[TokenVerifier, str]]:
    """For each algorithm its verifier and one token it accepts at NOW."""
    made = {}
    for name, pair in pairs.items():
        algorithm = ALGORITHMS[name]
        loaded = load_keys(pair.secret or pair.public_pem or "", algorithm)
        if pair.private_pem is None:
            signing = loaded[0].material
        else:
            signing = load_private_key(pair.private_pem.encode(), algorithm)
        token = mint_token(_claims(), algorithm=algorithm, key=signing)
        made[name] = (verifier_from(AuthSettings("secure", (algorithm,), KeyRing(loaded))), token)
    return made
