"""Making cases, trying them, and saying what was found.

A case is named `target:seed:number` and can be had again from that name. Time is the thread's own: a busy machine makes
nothing slow.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Protocol

from leyden.auth import explain, load_keys, load_private_key, parse_jwk_set
from leyden.auth.verifier import TokenVerifier


@dataclass(frozen=True, slots=True)
class Product:
    """What is tried. A test of the fuzzer itself puts something broken in a place."""

    verify: Callable[..., object] = TokenVerifier.verify
    explain: Callable[..., object] = explain
    parse_jwk_set: Callable[..., object] = parse_jwk_set
    load_keys: Callable[..., object] = load_keys
    load_private_key: Callable[..., object] = load_private_key


class Breach(AssertionError):
    """Something happened that never may. The text says what."""


class Case(Protocol):
    """One input. `act` is timed, and raises nothing the product does not promise; `judge` names what came of it, or
    raises `Breach`."""

    def act(self, product: Product) -> object: ...

    def judge(self, outcome: object) -> str: ...


@dataclass(frozen=True, slots=True)
class Target:
    """One entrance of the product. No case may take longer than `limit`, in seconds."""

    name: str
    make: Callable[[Random], Case]
    limit: float


@dataclass(frozen=True, slots=True)
class Finding:
    """`name` is the case's, for trying it again."""

    name: str
    why: str
    case: Case


@dataclass(slots=True)
class Report:
    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    slowest_name: str = ""
    findings: list[Finding] = field(default_factory=list)

    def __str__(self) -> str:
        common = ", ".join(f"{name} {number}" for name, number in self.outcomes.most_common(6))
        return f"{self.cases} cases, slowest {self.slowest * 1000:.1f} ms ({self.slowest_name}): {common}"


def explore(
    target: Target,
    product: Product,
    seed: int,
    *,
    seconds: float = float("inf"),
    cases: int | None = None,
    most_findings: int = 1,
    report: Report | None = None,
) -> Report:
    """Try cases of `target` until time, number or findings are used up; goes on with `report` if one is given."""
    report = report or Report()
    deadline = time.monotonic() + seconds
    numbers = count(report.cases) if cases is None else range(report.cases, report.cases + cases)
    for number in numbers:
        if time.monotonic() > deadline or len(report.findings) >= most_findings:
            break
        attempt(target, product, f"{target.name}:{seed}:{number}", report)
    return report


def attempt(target: Target, product: Product, name: str, report: Report) -> None:
    """Make the case of that name, try it, and note in `report` what came of it."""
    case = target.make(Random(name))
    report.cases += 1
    try:
        started = time.thread_time()
        outcome = case.act(product)
        spent = time.thread_time() - started
        if spent > target.limit:  # a collection of garbage may have fallen into it
            spent = min(spent, *(_again(case, product) for _ in range(3)))
        if spent > report.slowest:
            report.slowest, report.slowest_name = spent, name
        if spent > target.limit:
            raise Breach(f"took {spent * 1000:.0f} ms")
        report.outcomes[case.judge(outcome)] += 1
    except Exception as error:
        report.findings.append(Finding(name, f"{type(error).__name__}: {error}", case))


def _again(case: Case, product: Product) -> float:
    started = time.thread_time()
    case.act(product)
    return time.thread_time() - started
