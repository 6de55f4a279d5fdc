"""Arrays that belong together: row i of one goes with row i of the others."""

from __future__ import annotations

from typing import Any

import numpy as np

import backends
from autodiff.checks import whole
from autodiff.core import Tensor
from autodiff.methods import concrete
from backends.random import Generator

OWN_STREAMS = 1 << 64  # added to a seed: streams that no random.Generator draws from


def aligned(what: str, arrays: tuple[Any, ...]) -> tuple[list[Any], int]:
    """Raw arrays, and how many rows each of them has; `what` is the caller, for errors."""
    if not arrays:
        raise TypeError(f"{what}: give at least one array")
    found = [raw(x) for x in arrays]
    for i, x in enumerate(found):
        if x.ndim == 0:
            raise ValueError(f"{what}: array {i} has no rows: its shape is ()")
    counts = [x.shape[0] for x in found]
    if len(set(counts)) > 1:
        shapes = ", ".join(f"array {i} has shape {tuple(x.shape)}" for i, x in enumerate(found))
        raise ValueError(f"{what}: the arrays must have equally many rows; {shapes}")
    if counts[0] == 0:
        raise ValueError(f"{what}: the data is empty: no rows, shape {tuple(found[0].shape)}")
    return found, counts[0]


def raw(x: Any) -> Any:
    """The array itself: of any backend; a NumPy array of nested lists."""
    if isinstance(x, Tensor):
        return concrete(x)
    return x if backends.of(x) is not None else np.asarray(x)


def on_host(name: str, x: Any) -> np.ndarray:
    """A NumPy array; one of another backend is an error, for nothing moves unasked."""
    array = raw(x)
    home = backends.of(array)
    if home.name != "numpy":
        raise TypeError(
            f"{name}: works on the host, and the array is on {home.name}; pass a NumPy array "
            "(x.numpy() of a Tensor), and move the result"
        )
    return np.asarray(array)


def picked(x: Any, rows: np.ndarray) -> Any:
    """A copy of the rows of these numbers. Of a memory-mapped file no others are read."""
    if isinstance(x, np.ndarray):
        return np.asarray(x[rows])
    home = backends.of(x)
    return home.xp.take(x, home.from_host(rows, home.device_of(x)), axis=0)


def order(count: int, seed: int, number: int) -> np.ndarray:
    """The numbers from 0 to count - 1 in the random order that is the `number`-th of a seed."""
    stream = Generator(0)
    stream.state = (seed + OWN_STREAMS, number * count)  # no two orders share a number
    return stream.permutation(count, "numpy")


def check_seed(what: str, seed: int) -> int:
    seed = whole(what, "seed", seed)
    if not 0 <= seed < OWN_STREAMS:
        raise ValueError(f"{what}: the seed must be from 0 to 2**64 - 1; got {seed}")
    return seed
