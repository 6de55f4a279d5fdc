"""Sorting for NumPy, whose sorts that keep the order of equal elements take up to twenty times as
long as its others: those sort here, too, and what they did to equal elements is mended.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LONG = 1024  # elements along the axis, from which it is worth the calls


def sort(x: Any, axis: int = -1, stable: bool = True) -> np.ndarray:
    """x sorted along an axis. Of equal elements only zeros of two signs can be told apart."""
    if not stable or x.dtype.kind not in "iuf" or x.shape[axis] < LONG:
        return in_order(x, axis, stable)
    y = in_order(x, axis, False)
    if x.dtype.kind == "f" and np.count_nonzero(y) < y.size - 1:
        signs = np.signbit(y[y == 0])
        if signs.any() and not signs.all():
            return in_order(x, axis, True)
    return y


def in_order(x: Any, axis: int, stable: bool) -> np.ndarray:
    """np.sort, but that the result lies in C order whatever x does, as what is gathered by
    `argsort` does: sums over the two are rounded alike."""
    y = np.array(x, order="C")
    y.sort(axis=axis, stable=stable)
    return y


def argsort(x: Any, axis: int = -1, stable: bool = True) -> np.ndarray:
    """The indices that sort x along an axis."""
    quick = x.dtype.kind in "iuf" and x.dtype.itemsize >= 4 and x.shape[axis] >= LONG
    if not stable or not quick:
        return np.argsort(x, axis=axis, stable=stable)
    rows = np.moveaxis(x, axis, -1)
    order = np.argsort(rows, axis=-1)
    y = np.take_along_axis(rows, order, axis=-1)
    if (y[..., -1] != y[..., -1]).any():  # NaN, which do not equal one another
        return np.argsort(x, axis=axis, stable=True)
    new = y[..., 1:] != y[..., :-1]
    if not new.all():
        sort_runs(order, new)
    return np.ascontiguousarray(np.moveaxis(order, -1, axis))


def sort_runs(order: np.ndarray, new: np.ndarray) -> None:
    """Sort the numbers of each run of a row among themselves. `new` says which but the first begin
    a run."""
    run = np.zeros_like(order)
    np.cumsum(new, axis=-1, out=run[..., 1:])
    run *= order.shape[-1]
    order += run
    order.sort(axis=-1)
    order -= run
