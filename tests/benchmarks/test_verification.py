"""Verifications per second for each algorithm, beside PyJWT's in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import jwt
import pytest

from leyden.auth import (
    ALGORITHMS,
    AuthSettings,
    KeyRing,
    generate_key,
    load_keys,
    load_private_key,
    mint_token,
    verifier_from,
)

NOW = 1_800_000_000
ROUNDS = 5
ROUND_SECONDS = 0.15


def rate(work: Callable[[], object]) -> float:
    """Median calls per second of CPU time over a few short rounds."""
    rates = []
    for _ in range(ROUNDS):
        calls, started = 0, time.process_time()
        while (spent := time.process_time() - started) < ROUND_SECONDS:
            work()
            calls += 1
        rates.append(calls / spent)
    return median(rates)


@pytest.mark.parametrize("name", ["HS256", "HS512", "RS256", "RS512", "ES256", "ES384", "ES512", "PS256", "EdDSA"])
def test_verification(name: str) -> None:
    algorithm = ALGORITHMS[name]
    pair = generate_key(name)
    public = pair.public_pem or pair.secret
    assert public is not None
    claims = {"sub": "u", "iat": NOW, "exp": NOW + 3600}
    if pair.private_pem is None:
        token = jwt.encode(claims, public, name)
    else:
        key = load_private_key(pair.private_pem.encode(), algorithm)
        token = mint_token(claims, algorithm=algorithm, key=key)
    verifier = verifier_from(AuthSettings("secure", (algorithm,), KeyRing(load_keys(public, algorithm))))
    options = {"verify_exp": False, "verify_iat": False}
    verify = jwt.PyJWT(options)
    ours = rate(lambda: verifier.verify(token, NOW))
    theirs = rate(lambda: verify.decode(token, public, algorithms=[name], options=options))
    print(f"\n{name:>6}: {ours / theirs:5.2f} of PyJWT's rate")
    assert ours > 0
