"""What metrics ask at the scrape instead of counting along: the state of things as of that moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

#: Remaining lifetime of a session below so many seconds, and how that is called.
_REMAINING: Final = (
    (60.0, "under_1m"),
    (300.0, "under_5m"),
    (900.0, "under_15m"),
    (3_600.0, "under_1h"),
    (86_400.0, "under_1d"),
    (math.inf, "longer"),
)
_UNLIMITED: Final = "unlimited"


@dataclass(frozen=True, slots=True)
class Live:
    """Questions to the running service; without one to ask, as before anything has started."""

    #: Unix seconds at which each live session ends, None for never.
    deadlines: Callable[[], Iterable[float | None]] = lambda: ()
    #: Open connections, authenticated or not.
    connections: Callable[[], int] = lambda: 0
    #: WAL position that replication has reached.
    position: Callable[[], int] = lambda: 0
    ready: Callable[[], bool] = lambda: False
    #: Tables of which nothing is delivered or written.
    suspended: Callable[[], int] = lambda: 0


class LiveState(Collector):
    """Asks :class:`Live`, and tells how long ago keys and revocations were read (Unix seconds; None: never)."""

    def __init__(self, live: Live, now: Callable[[], float]) -> None:
        self._live = live
        self._now = now
        self.keys_read_at: float | None = None
        self.revocations_read_at: float | None = None

    def collect(self) -> Iterator[Metric]:
        live, now = self._live, self._now()
        yield InfoMetricFamily("leyden_build", "The release", value={"version": version("leyden")})
        yield GaugeMetricFamily("leyden_ready", "1 when clients can connect", value=float(live.ready()))
        yield GaugeMetricFamily("leyden_connections", "Open connections", value=live.connections())
        yield GaugeMetricFamily("leyden_replication_position", "WAL position reached (bytes)", value=live.position())
        yield GaugeMetricFamily("leyden_suspended_tables", "Tables that are suspended", value=live.suspended())
        yield _sessions(live.deadlines(), now)
        for name, text, since in (
            ("leyden_jwks_age_seconds", "Since the key set was last read", self.keys_read_at),
            ("leyden_revocations_age_seconds", "Since revocations were last read", self.revocations_read_at),
        ):
            if since is not None:
                yield GaugeMetricFamily(name, text, value=max(0.0, now - since))


def _sessions(deadlines: Iterable[float | None], now: float) -> Metric:
    numbers = {name: 0 for _, name in _REMAINING} | {_UNLIMITED: 0}
    for deadline in deadlines:
        name = _UNLIMITED
        if deadline is not None:
            name = next((name for limit, name in _REMAINING if deadline - now < limit), _UNLIMITED)
        numbers[name] += 1
    family = GaugeMetricFamily("leyden_sessions_by_deadline", "Live sessions by remaining time", labels=["remaining"])
    for name, number in numbers.items():
        family.add_metric([name], number)
    return family


class WithoutCreationTimes(Collector):
    """Another collector's metrics without the time at which each series began, which would double their number."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterator[Metric]:
        for metric in self._collector.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
