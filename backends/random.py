"""Seeded random numbers, the same on every backend.

A stream is a key and a counter, both plain integers: the raw bits are those of the
counter-based generator Philox4x64-10 (Salmon et al. 2011), of which NumPy has one for the host;
a backend whose device has its own overrides `Backend.random_unit`. Everything else follows
in array-API calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import backends
from backends.base import BLOCK, Array, Backend, dtype_name


class Generator:
    """A stream of random numbers.

    Parameters
    ----------
    seed : an integer from 0 to 2**64 - 1, the key of the stream.

    Example
    -------
    >>> stream = Generator(0)
    >>> noise = stream.normal((2, 3), dtype="float32", backend="numpy")

    `state` is (seed, counter); set it to go back to that point.
    """

    def __init__(self, seed: int) -> None:
        if not 0 <= seed < 2**64:
            raise ValueError(f"Generator: the seed must be from 0 to 2**64 - 1; got {seed}")
        self.state: tuple[int, int] = (seed, 0)

    def draw(
        self,
        transform: Callable[[Array], Array],
        shape: tuple[int, ...],
        dtype: Any,
        home: Backend,
        rows: int = 1,
    ) -> Array:
        """What `transform` makes of the next numbers in [0, 1), see `Backend.random_array`."""
        seed, counter = self.state
        columns = math.ceil(math.prod(shape) / rows)
        self.state = (seed, counter + math.ceil(rows * columns / BLOCK))
        return home.random_array(transform, rows, shape, dtype, seed, counter)

    def unit(self, count: int, home: Backend) -> Array:
        """The next `count` numbers in [0, 1)."""
        return self.draw(lambda unit: unit, (count,), "float64", home)

    def uniform(
        self,
        shape: tuple[int, ...],
        low: float = 0.0,
        high: float = 1.0,
        dtype: Any = "float64",
        *,
        backend: str | Backend,
    ) -> Array:
        """Numbers in [low, high)."""
        home = backends.get(backend)
        kind = np.dtype(dtype_name(dtype)).type
        last = float(np.nextafter(kind(high), kind(low)))  # never `high`, not by rounding either
        scaled = lambda unit: home.minimum(unit * (high - low) + low, last)  # noqa: E731
        return self.draw(scaled, shape, dtype, home)

    def normal(
        self, shape: tuple[int, ...], dtype: Any = "float64", *, backend: str | Backend
    ) -> Array:
        """Standard normal numbers, by the transform of Box and Muller (1958)."""
        home = backends.get(backend)

        def polar(unit: Array) -> Array:
            radius = home.sqrt(-2 * home.log1p(-unit[0, :]))
            angle = 2 * math.pi * unit[1, :]
            return home.stack([radius * home.cos(angle), radius * home.sin(angle)])

        return self.draw(polar, shape, dtype, home, rows=2)

    def bernoulli(self, p: float, shape: tuple[int, ...], backend: str | Backend) -> Array:
        """True with probability p."""
        if not 0 <= p <= 1:
            raise ValueError(f"bernoulli: p must be from 0 to 1; got {p}")
        return self.draw(lambda unit: unit < p, shape, "bool", backends.get(backend))

    def integers(
        self,
        low: int,
        high: int,
        shape: tuple[int, ...],
        dtype: Any = "int64",
        *,
        backend: str | Backend,
    ) -> Array:
        """Whole numbers from low to high - 1; at most 2**53 different ones."""
        home = backends.get(backend)
        whole = lambda unit: home.astype(home.floor(unit * (high - low)), "int64") + low  # noqa: E731
        return self.draw(whole, shape, dtype, home)

    def permutation(self, count: int, backend: str | Backend) -> Array:
        """The numbers from 0 to count - 1 in random order, int64."""
        home = backends.get(backend)
        return home.astype(home.argsort(self.unit(count, home), stable=True), "int64")
