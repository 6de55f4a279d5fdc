"""Rows of sorting, gathering, searching, sets, counting and choosing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
from specs.samples import (
    COMPLEX,
    CUBE,
    REAL,
    S,
    Sample,
    constants,
    index_like,
    ragged,
    reduction,
    shapes,
)

RNG = np.random.default_rng(336)

LINE = RNG.permutation(np.linspace(-2.0, 2.0, 7))
GRID = RNG.permutation(np.linspace(-1.0, 1.0, 12)).reshape(2, 3, 2)
WHOLE = np.array([[3, 1, 3], [0, 1, 1]])
TIES = np.array([2.0, 1.0, 2.0, 2.0, 1.0])


def indexed(name: str, x: np.ndarray, indices: list, **kw: Any) -> Sample:
    """A function of x and integers."""
    reference = getattr(np, name)
    return S(
        f"{x.shape} {indices} {kw}", lambda x: getattr(ad, name)(x, index_like(x, indices), **kw),
        (x,), lambda x: reference(x, np.array(indices), **kw),
    )  # fmt: skip


def put_back(g: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The adjoint of take_along_axis along the last of two axes."""
    out = np.zeros_like(g)
    np.add.at(out, (np.arange(len(g))[:, None], indices), g)
    return out


def adjoint(indices: list) -> Sample:
    """That as a function of its own, whose rule is first met in the second order of the other."""
    take = lambda x, like: ad.take_along_axis(x, index_like(like, indices), axis=-1)  # noqa: E731
    return S(
        "its adjoint", lambda g: ad.vjp(lambda x: take(x, g), ad.stop_gradient(g))[1](g)[0],
        (REAL,), lambda g: put_back(g, np.array(indices)),
    )  # fmt: skip


def sorted_(x: np.ndarray, axis: int = -1, descending: bool = False, stable: bool = True) -> np.ndarray:
    y = np.sort(x, axis=axis, stable=stable)
    return np.flip(y, axis) if descending else y


def order(x: np.ndarray, axis: int = -1, descending: bool = False, stable: bool = True) -> np.ndarray:
    return np.argsort(-x if descending else x, axis=axis, stable=True)


SORTS = [{}, {"axis": 0}, {"axis": -2, "descending": True}, {"axis": 1, "stable": False}, {"descending": True, "stable": False}]


def sorts(f: Callable, reference: Callable) -> list[Sample]:
    rows = [S(f"{k}", lambda x, k=k: f(x, **k), (GRID,), lambda x, k=k: reference(x, **k)) for k in SORTS]
    rows += [S(k, f, (v,), reference) for k, v in shapes(GRID[0]).items() if k != "0-d"]
    return rows


SELECTED = ([[True, False, False], [False, True, True]], [[True, True, False], [False, True, False]])


def conditions(x: Any) -> list:
    return [ad.not_equal(index_like(x, np.array(c, int).tolist()), 0) for c in SELECTED]


SPECS: dict[str, list[Sample]] = {
    "sort": sorts(ad.sort, sorted_) + [S("ties", ad.sort, (TIES,), sorted_, order=1, smooth=False)],
    "argsort": constants(sorts(ad.argsort, order) + [
        S("ties", ad.argsort, (TIES,), order),
        S("ties, descending", lambda x: ad.argsort(x, descending=True), (TIES,), lambda x: order(x, descending=True)),
        S("integers", lambda x: ad.argsort(x, axis=0), (WHOLE,), lambda x: order(x, 0))]),
    "take": [
        indexed("take", LINE, [0, -1, 3, 3]),
        indexed("take", CUBE, [2, 0, 2, 1], axis=1),
        indexed("take", CUBE, [-1, 0], axis=-1),
        indexed("take", CUBE, [[0, 1], [1, 0]], axis=-3),
        indexed("take", CUBE.T, [1], axis=0),
        indexed("take", COMPLEX, [2, 2, 0], axis=1),
        S("none of them", lambda x: ad.take(x, index_like(x, [0])[:0], axis=0), (REAL,), lambda x: x[:0]),
        S("of a constant", lambda x: ad.take(ad.stop_gradient(x), index_like(x, [0, 0]), axis=0), (REAL,), lambda x: x[[0, 0]], smooth=False),
    ],
    "take_along_axis": [
        indexed("take_along_axis", GRID, [[[1, 0, -1]] * 3, [[0, 1, 1]] * 3], axis=-1),
        indexed("take_along_axis", REAL, [[1, 0, -1]], axis=0),
        indexed("take_along_axis", REAL, [[2, 2, 0, 1]], axis=1),
        indexed("take_along_axis", REAL[:1], [[2, 0], [1, 1]], axis=-1),
        indexed("take_along_axis", LINE, [3, 3, -2], axis=0),
        indexed("take_along_axis", COMPLEX, [[1, 1, 1]], axis=0),
        adjoint([[i, -1, *[0] * (REAL.shape[1] - 2)] for i in range(len(REAL))]),
    ],
    "searchsorted": constants([
        S(f"{side}", lambda x, v, side=side: ad.searchsorted(x, v, side=side), (np.sort(LINE), np.append(LINE, 0.1)),
          lambda x, v, side=side: np.searchsorted(x, v, side)) for side in ("left", "right")] + [
        S("sorter", lambda x, v: ad.searchsorted(x, v, sorter=ad.argsort(x)), (LINE, REAL), lambda x, v: np.searchsorted(x, v, sorter=np.argsort(x))),
        S("0-d", ad.searchsorted, (np.sort(LINE), np.array(0.3)), np.searchsorted),
        S("number", lambda x: ad.searchsorted(x, 0.3), (np.sort(LINE),), lambda x: np.searchsorted(x, 0.3)),
        S("whole number", lambda x: ad.searchsorted(x, 1, side="right"), (np.sort(WHOLE[0]),), lambda x: np.searchsorted(x, 1, "right")),
        S("number between whole numbers", lambda x: ad.searchsorted(x, 1.5), (np.sort(WHOLE[0]),), lambda x: np.searchsorted(x, 1.5)),
        S("empty", ad.searchsorted, (LINE[:0], REAL), np.searchsorted)]),
    "digitize": constants([
        S(f"{label} {right}", lambda x, bins, right=right: ad.digitize(x, bins, right=right), (np.append(LINE, bins), bins),
          lambda x, bins, right=right: np.digitize(x, bins, right=right))
        for right in (False, True)
        for label, bins in (("up", np.array([-1.0, 0.0, 0.5])), ("down", np.array([0.5, 0.0, -1.0])), ("one", np.array([0.0])))]),
    "nonzero": ragged(constants([S("2-D", ad.nonzero, (WHOLE,), np.nonzero), S("floats", ad.nonzero, (np.array([0.0, 2.0, -0.0]),), np.nonzero),
                          S("none", ad.nonzero, (np.zeros((2, 2)),), np.nonzero), S("empty", ad.nonzero, (REAL[:0],), np.nonzero)])),
    "argwhere": ragged(constants([S("2-D", ad.argwhere, (WHOLE,), np.argwhere)])),
    "flatnonzero": ragged(constants([S("2-D", ad.flatnonzero, (WHOLE,), np.flatnonzero)])),
    "count_nonzero": constants(reduction(ad.count_nonzero, np.count_nonzero, np.round(CUBE))),
    "isin": constants([
        S("arrays", ad.isin, (WHOLE, np.array([1, 7])), np.isin),
        S("invert", lambda a, b: ad.isin(a, b, invert=True), (WHOLE, np.array([[1], [7]])), lambda a, b: np.isin(a, b, invert=True)),
        S("floats", ad.isin, (TIES, np.array([2.0])), np.isin),
        S("in nothing", ad.isin, (WHOLE, np.array([1])[:0]), np.isin),
        S("in a number", lambda a: ad.isin(a, 3), (WHOLE,), lambda a: np.isin(a, 3)),
        S("a number", lambda a: ad.isin(3, a, invert=True), (WHOLE,), lambda a: np.isin(3, a, invert=True))]),
    "unique_all": ragged(constants([S(k, lambda x: tuple(ad.unique_all(x)), (v,), lambda x: tuple(np.unique_all(x)))
                             for k, v in (("2-D", WHOLE), ("0-d", np.array(2.0)), ("empty", REAL[:0]), ("NaN", np.array([np.nan, 1.0, np.nan, 1.0])),
                                          ("bool", TIES > 1), ("complex", np.array([1 + 2j, 1 - 1j, -1j, 1 + 2j, 0])))])),
    "unique_counts": ragged(constants([S("2-D", lambda x: tuple(ad.unique_counts(x)), (WHOLE,), lambda x: tuple(np.unique_counts(x)))])),
    "unique_inverse": ragged(constants([S("2-D", lambda x: tuple(ad.unique_inverse(x)), (WHOLE,), lambda x: tuple(np.unique_inverse(x)))])),
    "unique_values": [S("2-D", ad.unique_values, (GRID[0],), lambda x: np.sort(x, axis=None), ragged=True),
                      S("squared", lambda x: ad.unique_values(x) ** 2, (GRID,), lambda x: np.sort(x, axis=None) ** 2, ragged=True)]
    + ragged(constants([S("ties", ad.unique_values, (TIES,), np.unique_values)])),
    "select": [S("default", lambda a, b: ad.select(conditions(a), [a, b]), (REAL, REAL[::-1] + 1), lambda a, b: np.select([np.array(c) for c in SELECTED], [a, b])),
               S("traced default", lambda a, b, c: ad.select(conditions(a), [a, 2 * b], c), (REAL, REAL[0], REAL[:, :1] + 1),
                 lambda a, b, c: np.select([np.array(c) for c in SELECTED], np.broadcast_arrays(a, 2 * b), c))],
    "extract": [S("2-D", lambda x: ad.extract(index_like(x, [[1, 0, 1], [0, 0, 1]]), x), (REAL,), lambda x: np.extract([[1, 0, 1], [0, 0, 1]], x))],
    "compress": [S(f"{axis}", lambda x, axis=axis, n=n: ad.compress(index_like(x, [1, 0, 1][:n]), x, axis=axis), (REAL,),
                   lambda x, axis=axis, n=n: np.compress([1, 0, 1][:n], x, axis=axis)) for axis, n in ((None, 3), (1, 3), (-1, 2))],
    "bincount": [S("weights", lambda w: ad.bincount(index_like(w, [0, 3, 3, 1, 0, 0, 1]), w), (LINE,), lambda w: np.bincount([0, 3, 3, 1, 0, 0, 1], w)),
                 S("minlength", lambda w: ad.bincount(index_like(w, [0, 3, 3, 1, 0, 0, 1]), w, minlength=6), (LINE,), lambda w: np.bincount([0, 3, 3, 1, 0, 0, 1], w, 6))]
    + constants([S("counts", ad.bincount, (WHOLE[0],), np.bincount), S("empty", lambda x: ad.bincount(x, minlength=2), (WHOLE[0, :0],), lambda x: np.bincount(x, minlength=2))]),
}  # fmt: skip
