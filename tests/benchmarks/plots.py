"""Curves as pictures. The only module that knows matplotlib, which is needed for nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.figure import Curve


class NoPlots(Exception):
    """matplotlib is not installed."""


def draw(curves: Iterable[Curve], folder: Path) -> dict[str, Path]:
    """A PNG of each curve in ``folder``, by the curve's name.

    Raises:
        NoPlots: as described there.
    """
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        pyplot: Any = importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise NoPlots from error
    folder.mkdir(parents=True, exist_ok=True)
    return {curve.name: _draw(pyplot, curve, folder / f"{curve.name}.png") for curve in curves}


def _draw(pyplot: Any, curve: Curve, path: Path) -> Path:
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    for label, points in curve.series.items():
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=label)
    axes.set(title=curve.title, xlabel=curve.x, ylabel=curve.y, xscale="log")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    # without the date and the version in the file it changes only when the figures do
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return path
