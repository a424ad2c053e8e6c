"""Tokens verified, for each algorithm."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jwt
from joserfc.jwk import OctKey

from benchmarks.figure import Figure, Goal, Row
from benchmarks.stage import Stage
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

ROUNDS = 5
ROUND_SECONDS = 0.05
GOAL = Goal(0.8, at_least=True)

ABOUT = (
    "Tokens a second of CPU, beside PyJWT, which gets its key ready made, as we do, and checks `exp` and `iat`; of"
    " our other checks it makes none. It does not know the name Ed25519, which stands beside its EdDSA."
)


async def measure(stage: Stage) -> Figure:
    figure = Figure("Verifying tokens", ABOUT)
    for name in ALGORITHMS:
        row, parts = _measured(name)
        figure.rows.append(row)
        figure.notes.append(f"{name}: {parts}")
    return figure


def _measured(name: str) -> tuple[Row, str]:
    algorithm = ALGORITHMS[name]
    pair = generate_key(name)
    (key,) = load_keys(pair.public_pem or pair.secret or "", algorithm)
    signing = load_private_key(pair.private_pem.encode(), algorithm) if pair.private_pem else key.material
    now = int(time.time())
    claims = {"sub": "u", "iat": now, "exp": now + 3600}
    token = mint_token(claims, algorithm=algorithm, key=signing)
    verifier = verifier_from(AuthSettings("secure", (algorithm,), KeyRing((key,))))

    their_name = "EdDSA" if name == "Ed25519" else name
    their_token = mint_token(claims, algorithm=ALGORITHMS[their_name], key=signing)
    their_key: Any = key.secret() if isinstance(key.material, OctKey) else key.material.public_key
    theirs = jwt.PyJWT()

    seen = verifier.read(token)
    authentic = verifier.authenticate(seen)
    assert verifier.judge(authentic, now) == verifier.verify(token, now)
    assert theirs.decode(their_token, their_key, algorithms=[their_name]) == claims
    ours, their_rate, read, authenticate, judge = _rates(
        lambda: verifier.verify(token, now),
        lambda: theirs.decode(their_token, their_key, algorithms=[their_name]),
        lambda: verifier.read(token),
        lambda: verifier.authenticate(seen),
        lambda: verifier.judge(authentic, now),
    )
    parts = f"read {1e6 / read:.1f} µs, authenticate {1e6 / authenticate:.1f} µs, judge {1e6 / judge:.1f} µs"
    return Row(
        name, "per second of CPU", ours, their_rate, GOAL, ours_cpu=1e6 / ours, floor_cpu=1e6 / their_rate
    ), parts


def _rates(*works: Callable[[], object]) -> list[float]:
    """Median calls per second of CPU time, measured by turns so that a slower moment strikes all alike."""
    measured: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for found, work in zip(measured, works, strict=True):
            calls, started = 0, time.process_time()
            while (spent := time.process_time() - started) < ROUND_SECONDS:
                for _ in range(10):
                    work()
                calls += 10
            found.append(calls / spent)
    return [median(found) for found in measured]
