"""What programs for NumPy call beside NumPy's own functions, by names that their source has for
them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autodiff.graph import numpy_actions, numpy_blas
from backends import blas
from backends.numpy import extreme_of_rows, put_in_rows


def zeros_kept(y: np.ndarray, g: np.ndarray, out: np.ndarray, there: bool) -> None:
    """y into `out` (unless it is there), with 0 where it is NaN and g is 0."""
    least = np.minimum.reduce(y, axis=None, initial=0)  # NaN if there is one
    zeros = None if least == least else np.isnan(y) & (g == 0)
    if not there:
        np.copyto(out, y)
    if zeros is not None:
        np.copyto(out, 0, where=zeros)


def gather(x: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
    """x[index] into `out`. NumPy's take looks for indices that are out of bounds only where it
    may allocate."""
    if index.size and (index.min() < -len(x) or index.max() >= len(x)):
        x[index]  # says which
    np.take(x, index, 0, out, "wrap")


def slices(rows: tuple[int, int], height: int) -> list[tuple[int, int]]:
    """Rows in slices of a height."""
    first, last = rows
    return [(lo, min(lo + height, last)) for lo in range(first, last, height)]


def together(work: Callable[[int], None], count: int) -> None:
    with blas.products():
        numpy_actions.POOL.run(work, count)


NAMES = {
    "copyto": np.copyto,
    "empty": np.empty,
    "extreme_of_rows": extreme_of_rows,
    "gather": gather,
    "put_in_rows": put_in_rows,
    "products": blas.products,
    "slices": slices,
    "together": together,
    "zeros_kept": zeros_kept,
    **numpy_blas.NAMES,
}
