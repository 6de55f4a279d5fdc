"""Rows of repetition, unstacking, turning, and NumPy's names for joining and splitting."""

from __future__ import annotations

import numpy as np

import autodiff as ad
from specs.samples import COMPLEX, CUBE, REAL, S, Sample, functions, index_like, shapes

LINES = (REAL[0], REAL[1])
JOINED = {"1-D": LINES, "2-D": (REAL, REAL[::-1] + 1), "3-D": (CUBE, CUBE * 2)}


def unstack(x: np.ndarray, axis: int = 0) -> tuple:
    return tuple(np.moveaxis(x, axis, 0))


def at_least(name: str) -> list[Sample]:
    f, reference = functions(name)
    return [S(f"{x.ndim}-d", f, (x,), reference) for x in (np.array(0.3), REAL[0], REAL, CUBE)] + [
        S("several", f, (np.array(0.3), REAL), reference)
    ]


def joins(name: str, rows: tuple = ("1-D", "2-D", "3-D")) -> list[Sample]:
    f, reference = functions(name)
    return [S(k, lambda *x: f(x), JOINED[k], lambda *x: reference(x)) for k in rows]


def splits(name: str, cases: tuple) -> list[Sample]:
    f, reference = functions(name)
    return [S(f"{x.shape} {at}", lambda x, at=at: tuple(f(x, at)), (x,), lambda x, at=at: tuple(reference(x, at))) for x, at in cases]


SPECS: dict[str, list[Sample]] = {
    "repeat": [
        *[S(f"{n} {a}", lambda x, n=n, a=a: ad.repeat(x, n, axis=a), (CUBE,), lambda x, n=n, a=a: np.repeat(x, n, a)) for n, a in ((2, None), (3, 0), (2, -1), (0, 1), (1, 1))],
        *[S(f"{n} {a}", lambda x, n=n, a=a: ad.repeat(x, index_like(x, n), axis=a), (CUBE,), lambda x, n=n, a=a: np.repeat(x, n, a)) for n, a in (([2, 0, 3], 1), ([1, 2], -1), ([2], 0), ([0, 0], 0))],
        S("array over all", lambda x: ad.repeat(x, index_like(x, [1, 0, 2, 1, 1, 3])), (REAL,), lambda x: np.repeat(x, [1, 0, 2, 1, 1, 3])),
        S("0-d", lambda x: ad.repeat(x, 3), (np.array(0.3),), lambda x: np.repeat(x, 3)),
        S("complex", lambda x: ad.repeat(x, 2, axis=0), (COMPLEX,), lambda x: np.repeat(x, 2, 0))],
    "tile": [S(f"{n}", lambda x, n=n: ad.tile(x, n), (REAL,), lambda x, n=n: np.tile(x, n)) for n in ((2,), (2, 3), (2, 1, 2), (0, 1), ())]
    + [S("0-d", lambda x: ad.tile(x, (2,)), (np.array(0.3),), lambda x: np.tile(x, 2)), S("complex", lambda x: ad.tile(x, (2, 1)), (COMPLEX,), lambda x: np.tile(x, (2, 1))),
       S("negative stride", lambda x: ad.tile(x, (2, 2)), (REAL[:, ::-1],), lambda x: np.tile(x, (2, 2)))],
    "unstack": [S(f"{a}", lambda x, a=a: ad.unstack(x, axis=a), (CUBE,), lambda x, a=a: unstack(x, a)) for a in (0, 1, -1)]
    + [S("1-D", ad.unstack, (REAL[0],), unstack), S("one used", lambda x: ad.unstack(x)[1] ** 2, (CUBE,), lambda x: x[1] ** 2)],
    "swapaxes": [S(f"{a} {b}", lambda x, a=a, b=b: ad.swapaxes(x, a, b), (CUBE,), lambda x, a=a, b=b: np.swapaxes(x, a, b)) for a, b in ((0, 1), (-1, 0), (1, 1))],
    "ravel": [S(k, ad.ravel, (v,), np.ravel) for k, v in shapes(REAL).items()],
    **{name: at_least(name) for name in ("atleast_1d", "atleast_2d", "atleast_3d")},
    "rot90": [S(f"{k} {a}", lambda x, k=k, a=a: ad.rot90(x, k, a), (CUBE,), lambda x, k=k, a=a: np.rot90(x, k, a)) for k, a in ((0, (0, 1)), (1, (0, 1)), (2, (1, 2)), (3, (0, -1)), (-1, (1, 0)), (5, (2, 1)))],
    **{name: joins(name) for name in ("hstack", "vstack", "dstack")},
    "column_stack": joins("column_stack") + [S("mixed", lambda a, b: ad.column_stack([a, b]), (REAL[:, 0], REAL), lambda a, b: np.column_stack([a, b]))],
    "array_split": splits("array_split", ((REAL[0], 2), (CUBE, 3), (CUBE, [1])))
    + [S("axis", lambda x: tuple(ad.array_split(x, 2, axis=-2)), (CUBE,), lambda x: tuple(np.array_split(x, 2, 1)))],
    "hsplit": splits("hsplit", ((REAL[0], 3), (CUBE, [1, 2]))),
    "vsplit": splits("vsplit", ((REAL, 2), (CUBE, [1]))),
    "dsplit": splits("dsplit", ((CUBE, 2),)),
}  # fmt: skip
