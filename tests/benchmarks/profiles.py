"""Where a service spends its CPU time: of its event loop's thread alone, as cProfile sees it.

``python -m benchmarks.profiles FILE ARGUMENTS`` runs ``leyden ARGUMENTS``, and leaves the profile in FILE.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import time
from pathlib import Path
from typing import Any

from leyden.cli import main

SHOWN = 25


def top(path: Path) -> str:
    """The functions that took most time themselves, and those of ours that took most with all that they called; with
    their part of all."""
    stats: Any = pstats.Stats(str(path))
    functions: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = stats.stats
    total = sum(own for _, _, own, _, _ in functions.values())
    lines = [f"{path.name}: {total:.1f} s of CPU"]
    by_own_time = sorted(functions.items(), key=lambda function: -function[1][2])
    ours = [function for function in functions.items() if "/leyden/" in function[0][0]]
    with_callees = sorted(ours, key=lambda function: -function[1][3])
    for (file, line, name), (_, calls, own, cumulative, _) in by_own_time[:SHOWN] + with_callees[:SHOWN]:
        where = f"{Path(file).parent.name}/{Path(file).name}:{line} " if line else ""
        parts = f"{own / total:6.1%} own, {cumulative / total:6.1%} with callees"
        lines.append(f"{parts}, {calls:>9,} calls  {where}{name}")
    return "\n".join(lines)


def _profiled(path: str) -> None:
    # by the clock a process that waits for a processor would seem busy
    profile = cProfile.Profile(time.thread_time)
    try:
        profile.runcall(main)
    finally:
        profile.dump_stats(path)


if __name__ == "__main__":
    destination = sys.argv.pop(1)
    _profiled(destination)
