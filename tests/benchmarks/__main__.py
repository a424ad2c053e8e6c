"""``python -m benchmarks``: measures the figures, prints them, and writes ``docs/benchmarks.md``."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import sys
import time
import traceback
from pathlib import Path

import psycopg

from benchmarks.figure import Figure
from benchmarks.plots import NoPlots, draw
from benchmarks.processes import raise_file_limit
from benchmarks.report import ROOT, page, printed
from benchmarks.stage import Stage

#: In the order of the page.
FIGURES = (
    "sending",
    "groups",
    "latency",
    "throughput",
    "replication",
    "connecting",
    "verification",
    "uploads",
    "initial_sync",
    "memory",
    "neighbours",
    "policies",
)

PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "figures", nargs="*", metavar="FIGURE", help=f"all of them if none is named: {', '.join(FIGURES)}"
    )
    parser.add_argument("--page", type=Path, help="write the page here (docs/benchmarks.md if all are measured)")
    parser.add_argument("--profiles", type=Path, help="profile the services, into this folder")
    wanted = parser.parse_args()
    if unknown := set(wanted.figures) - set(FIGURES):
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    if wanted.profiles is not None:
        wanted.profiles.mkdir(parents=True, exist_ok=True)
    raise_file_limit()
    destination = wanted.page or (None if wanted.figures or wanted.profiles else PAGE)
    measured: dict[str, Figure] = {}
    with Stage.built(wanted.profiles) as stage:
        with psycopg.connect(stage.cluster.dsn("postgres")) as conn:
            postgres = conn.info.parameter_status("server_version") or "unknown"
        for name in wanted.figures or FIGURES:
            measured[name] = asyncio.run(_measured(name, stage))
            if destination is not None:  # each time anew: who interrupts it has what there is
                figures = [measured[each] for each in FIGURES if each in measured]
                destination.write_text(page(figures, postgres, _pictures(figures, destination.parent)), "utf-8")
    sys.exit(any(figure.failed for figure in measured.values()))


async def _measured(name: str, stage: Stage) -> Figure:
    started = time.monotonic()
    module = importlib.import_module(f"benchmarks.figures.{name}")
    try:
        figure: Figure = await module.measure(stage)
    except Exception as error:  # the others are measured all the same
        traceback.print_exc()
        figure = Figure(name, module.ABOUT, failed=f"not measured: {type(error).__name__}: {error}")
    print(printed(figure))
    load = os.getloadavg()[0]
    print(f"{name}: {time.monotonic() - started:.0f} s; load average {load:.1f}\n", flush=True)
    return figure


def _pictures(figures: list[Figure], folder: Path) -> dict[str, str]:
    """The curves as files beside the page."""
    try:
        drawn = draw((curve for figure in figures for curve in figure.curves), folder / "benchmarks")
    except NoPlots:
        print("no pictures: matplotlib is not installed\n")
        return {}
    return {name: path.relative_to(folder).as_posix() for name, path in drawn.items()}


if __name__ == "__main__":
    main()
