"""Seeded random numbers, the same on every backend.

A stream is a key and a counter, both plain integers: the raw bits are those of the
counter-based generator Philox4x64-10 (Salmon et al. 2011), of which NumPy has one for the host;
a backend whose device has its own overrides `Backend.random_unit`. Everything else follows
in array-API calls.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import backends
from backends.base import Array, Backend, dtype_name

BLOCK = 4  # numbers for each step of the counter


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

    def unit(self, count: int, home: Backend) -> Array:
        """The next `count` numbers in [0, 1)."""
        seed, counter = self.state
        self.state = (seed, counter + math.ceil(count / BLOCK))
        return home.random_unit(count, seed, counter)

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
        unit = self.unit(math.prod(shape), home)
        drawn = home.astype(home.reshape(unit * (high - low) + low, shape), dtype)
        kind = np.dtype(dtype_name(dtype)).type
        return home.minimum(drawn, float(np.nextafter(kind(high), kind(low))))  # never `high`

    def normal(
        self, shape: tuple[int, ...], dtype: Any = "float64", *, backend: str | Backend
    ) -> Array:
        """Standard normal numbers, by the transform of Box and Muller (1958)."""
        home = backends.get(backend)
        count = math.prod(shape)
        half = (count + 1) // 2
        draws = self.unit(2 * half, home)
        radius = home.sqrt(-2 * home.log1p(-draws[:half]))
        angle = 2 * math.pi * draws[half:]
        both = home.concat([radius * home.cos(angle), radius * home.sin(angle)])
        return home.astype(home.reshape(both[:count], shape), dtype)

    def bernoulli(self, p: float, shape: tuple[int, ...], backend: str | Backend) -> Array:
        """True with probability p."""
        if not 0 <= p <= 1:
            raise ValueError(f"bernoulli: p must be from 0 to 1; got {p}")
        return self.uniform(shape, backend=backend) < p

    def permutation(self, count: int, backend: str | Backend) -> Array:
        """The numbers from 0 to count - 1 in random order, int64."""
        home = backends.get(backend)
        return home.astype(home.argsort(self.unit(count, home), stable=True), "int64")
