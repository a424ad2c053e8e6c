"""What a figure says: numbers of ours beside those of a floor, measured in the same run; curves; and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Self


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        hundredths = quantiles(values, n=100, method="inclusive")
        return cls(median(values), hundredths[94], hundredths[98])

    def times(self, factor: float) -> Spread:
        return Spread(self.median * factor, self.p95 * factor, self.p99 * factor)


@dataclass(frozen=True, slots=True)
class Goal:
    """What the ratio is to be: a bound from above or from below."""

    bound: float
    at_least: bool = False

    def is_met(self, ratio: float) -> bool:
        return ratio >= self.bound if self.at_least else ratio <= self.bound

    def __str__(self) -> str:
        return f"≥ {self.bound:.0%}" if self.at_least else f"≤ {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line: ``ours`` and ``floor`` in ``unit``. Without a floor or a goal it is there to be known."""

    case: str
    unit: str
    ours: float
    floor: float | None = None
    goal: Goal | None = None
    #: Of single units of work, in ``spread_unit``.
    ours_spread: Spread | None = None
    floor_spread: Spread | None = None
    spread_unit: str = ""
    #: CPU time of the service, and of what the floor ran in, for one unit of work (µs).
    ours_cpu: float | None = None
    floor_cpu: float | None = None

    @property
    def ratio(self) -> float | None:
        return None if not self.floor else self.ours / self.floor

    @property
    def met(self) -> bool | None:
        ratio = self.ratio
        return None if ratio is None or self.goal is None else self.goal.is_met(ratio)


@dataclass(frozen=True, slots=True)
class Curve:
    """How something grows: (x, y) points of each series. ``name`` is that of its picture."""

    name: str
    title: str
    x: str
    y: str
    series: dict[str, list[tuple[float, float]]]


@dataclass(slots=True)
class Figure:
    title: str
    #: What is compared with what, in a sentence or two.
    about: str
    rows: list[Row] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    #: What else was seen in this run.
    notes: list[str] = field(default_factory=list)
    #: Why it could not be measured.
    failed: str = ""
