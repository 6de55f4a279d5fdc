"""A training problem on the host: what every contender starts from, bit for bit the same."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Problem(NamedTuple):
    """Initial parameters (weight, bias, weight, bias ...), the arrays of one batch (inputs,
    labels, and the row numbers 0, 1, 2 ... that pick a label's entry), the learning rate."""

    parameters: list[np.ndarray]
    data: tuple[np.ndarray, ...]
    rate: float


def mlp_parameters(
    widths: tuple[int, ...], dtype: str, random: np.random.Generator
) -> list[np.ndarray]:
    """He's initialization, zero biases; drawn in float64, so that dtypes share the numbers."""
    parameters = []
    for inner, outer in pairwise(widths):
        weight = random.standard_normal((inner, outer)) * np.sqrt(2 / inner)
        parameters += [weight.astype(dtype), np.zeros(outer, dtype)]
    return parameters


def mlp_problem(widths: tuple[int, ...], batch: int, dtype: str) -> Problem:
    """Random inputs and labels of the shapes that are to be timed."""
    random = np.random.default_rng(0)
    parameters = mlp_parameters(widths, dtype, random)
    x = random.standard_normal((batch, widths[0])).astype(dtype)
    labels = random.integers(widths[-1], size=batch)
    return Problem(parameters, (x, labels, np.arange(batch)), rate=1e-3)
