"""Loops in Python next to what replaces them: `python -m bench.loops` fills a buffer row by row,
and takes a Hessian at once and column by column. Ratios are medians of rounds in turn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import autodiff as ad
from bench.timing import interleave, local, ratio

ROUNDS = 25
ROWS, WIDTH, VARIABLES = 10_000, 100, 200


def fill(xp: Any, x: Any) -> Any:
    y = xp.zeros((ROWS, WIDTH))
    for i in range(ROWS):
        y[i] = x[i]
    return y


def function(v: Any) -> Any:
    return ad.sum(ad.sin(v) * ad.sum(v * v))


def columns(v: np.ndarray) -> list:
    return [ad.hvp(function, (v,), (unit,)) for unit in np.eye(VARIABLES)]


def taken(pair: dict[str, Callable[[], Any]], rounds: int) -> tuple[str, float]:
    """What was compared, and the ratio of the first to the second."""
    seconds = interleave({name: local(f, lambda: None) for name, f in pair.items()}, rounds)
    first, second = seconds.values()
    return " / ".join(pair), ratio(first, second)


def measure(rounds: int = ROUNDS) -> list[tuple[str, float]]:
    rows, v = np.ones((ROWS, WIDTH)), np.linspace(0, 1, VARIABLES)
    recorded = ad.Tensor(rows, requires_grad=True)
    numpy = partial(fill, np, rows)
    return [
        taken({"rows": partial(fill, ad, rows), "NumPy's": numpy}, rounds),
        taken({"recorded rows": partial(fill, ad, recorded), "NumPy's": numpy}, rounds),
        taken(
            {"columns": partial(columns, v), "the Hessian": lambda: ad.hessian(function)(v)}, rounds
        ),
    ]


if __name__ == "__main__":
    for what, found in measure():
        print(f"{what}: {found:.1f}")
