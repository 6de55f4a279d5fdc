"""Plots of the examples, for those who have matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def plot(path: Path, draw: Callable[[Any], None]) -> None:
    """Save what `draw(axes)` draws, on matplotlib's axes, as a picture; without matplotlib say
    so and go on."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no {path.name}: matplotlib is not installed (pip install 'autodiff-arrays[plot]')")
        return
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.add_subplot())
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"plotted: {path}")
