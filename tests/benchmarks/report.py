"""The table of all figures: printed, and written as a page with the circumstances of the run."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.figure import Curve, Figure, Row, Spread

ROOT = Path(__file__).parents[2]

_HEADER = (
    "case",
    "unit",
    "Leyden",
    "floor",
    "ratio",
    "goal",
    "",
    "median / p95 / p99",
    "of the floor",
    "CPU",
    "floor's",
)

_LIBRARIES = ("uvicorn", "uvloop", "websockets", "psycopg", "protobuf", "cryptography")


def number(value: float) -> str:
    """Three digits that count."""
    if value == 0:
        return "0"
    digits = max(0, 2 - _magnitude(value))
    return f"{value:,.{digits}f}"


def _magnitude(value: float) -> int:
    return int(f"{abs(value):e}".partition("e")[2])


def _spread(spread: Spread | None, unit: str) -> str:
    if spread is None:
        return ""
    return " / ".join(map(number, (spread.median, spread.p95, spread.p99))) + f" {unit}"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.case,
        row.unit,
        number(row.ours),
        "" if row.floor is None else number(row.floor),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        "" if row.goal is None else str(row.goal),
        {True: "met", False: "missed", None: ""}[row.met],
        _spread(row.ours_spread, row.spread_unit),
        _spread(row.floor_spread, row.spread_unit),
        "" if row.ours_cpu is None else f"{number(row.ours_cpu)} µs",
        "" if row.floor_cpu is None else f"{number(row.floor_cpu)} µs",
    )


def printed(figure: Figure) -> str:
    rows = [_HEADER, *map(_cells, figure.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = [
        figure.title,
        *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows),
        *figure.notes,
        figure.failed,
    ]
    return "\n".join(lines) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def _curve(curve: Curve, picture: str | None) -> list[str]:
    xs = sorted({x for points in curve.series.values() for x, _ in points})
    known = {name: dict(points) for name, points in curve.series.items()}
    rows = [[f"{x:,.0f}", *(number(points[x]) if x in points else "" for points in known.values())] for x in xs]
    image = [f"![{curve.title}]({picture})", ""] if picture is not None else []
    return ["", f"**{curve.title}** ({curve.y})", "", *image, *_table([curve.x, *known], rows)]


def circumstances(postgres: str) -> list[str]:
    """When, on what, with what."""
    memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit or 'unknown'}",
        f"- a virtual machine with {os.cpu_count()} processors and {memory} GiB of memory, {platform.system()};"
        f" load averages (1, 5, 15 min) at the end of the run: {load}",
        f"- Python {platform.python_version()}, Postgres {postgres}, Leyden {version('leyden')}, {libraries}",
    ]


_INTRODUCTION = """\
# Benchmarks

`make bench` measures all of this in one run and writes this page. Figures of ours stand beside a floor measured
moments before or after on the same machine; what counts is the ratio. Nothing here is asserted in a test.
Why some goals are missed is told in [where the time goes](performance.md).
`FIGURES=NAME` measures one figure alone, `PROFILES=DIR` runs each service under cProfile as well, which slows it
down.

Service, Postgres, load program and floor are processes of their own that share the processors, so absolute figures
are lower than with machines of their own. CPU is the time that the service, or the program of the floor, spent on a
processor for one unit of work, counted by the system. Clients are sockets of one load program that behave like the
stock client on the wire: ES256 tokens, one subscription, acknowledgements from the 21st transaction on. Postgres does
not wait for its disk (`fsync = off`), neither for us nor for the floors.
"""


def page(figures: Sequence[Figure], postgres: str, pictures: dict[str, str]) -> str:
    """``pictures`` are the files of curves, by the names of the curves."""
    lines = [_INTRODUCTION, *circumstances(postgres)]
    for figure in figures:
        lines += ["", f"## {figure.title}", "", figure.about]
        if figure.rows:
            lines += ["", *_table(_HEADER, map(_cells, figure.rows))]
        for curve in figure.curves:
            lines += _curve(curve, pictures.get(curve.name))
        if figure.failed:
            lines += ["", figure.failed]
        if figure.notes:
            lines += ["", *(f"- {note}" for note in figure.notes)]
    return "\n".join(lines) + "\n"
