"""Rows of cumulative sums, products and log-sum-exps, differences, powers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import autodiff as ad
from specs.samples import COMPLEX, CUBE, REAL, S, Sample, constants, shapes

RNG = np.random.default_rng(14)

LONG = RNG.standard_normal(11)
ZEROS = {
    "one zero": [1.5, 0.0, 2.0, -3.0, 0.5],
    "two zeros": [0.0, 2.0, 0.0, 3.0, 4.0],
    "all zeros": [0.0, 0.0, 0.0],
    "a zero at the end": [2.0, 3.0, 0.0],
}


def scans(f: Callable, reference: Callable) -> list[Sample]:
    kwargs = [{"axis": 0}, {"axis": -1}, {"axis": 1, "include_initial": True}, {"axis": -3, "include_initial": True}]
    rows = [S(f"{k}", lambda x, k=k: f(x, **k), (CUBE,), lambda x, k=k: reference(x, **k)) for k in kwargs]
    rows += [
        S(k, lambda x: f(x, axis=1), (v,), lambda x: reference(x, axis=1)) for k, v in shapes(REAL).items() if k != "0-d"
    ]
    return rows + [
        S("1-D", f, (LONG,), reference),
        S("1-D from the empty one", lambda x: f(x, include_initial=True), (LONG,), lambda x: reference(x, include_initial=True)),
        S("nothing from the empty one", lambda x: f(x, include_initial=True), (LONG[:0],), lambda x: reference(x, include_initial=True)),
        S("complex", lambda x: f(x, axis=0), (COMPLEX,), lambda x: reference(x, axis=0)),
        *constants([
            S("small integers", f, (np.array([1, 2, 3], "int16"),), reference),
            S("small natural numbers", f, (np.array([1, 2, 3], "uint8"),), reference),
            S("as integers", lambda x: f(x, dtype="int32"), (np.array([1.0, 2.0]),), lambda x: reference(x, dtype="int32")),
            S("in double precision", lambda x: f(x, dtype="float64"), (np.array([1.0, 2.0], "float32"),), lambda x: reference(x, dtype="float64")),
            S("integers as floats", lambda x: f(x, dtype="float32"), (np.array([1, 2]),), lambda x: reference(x, dtype="float32")),
        ]),
    ]  # fmt: skip


def logcumsumexp(x: np.ndarray, axis: int | None = None) -> np.ndarray:
    return np.logaddexp.accumulate(x, axis=axis or 0)


def diff(x: np.ndarray, **kw: object) -> np.ndarray:
    return np.diff(x, **{k: v for k, v in kw.items() if v is not None})


SPECS: dict[str, list[Sample]] = {
    "cumulative_sum": scans(ad.cumulative_sum, np.cumulative_sum),
    "cumulative_prod": scans(ad.cumulative_prod, np.cumulative_prod) + [
        S(k, ad.cumulative_prod, (np.array(v),), np.cumulative_prod) for k, v in ZEROS.items()] + [
        S("complex with a zero", ad.cumulative_prod, (np.array([1 + 2j, 0j, 2 - 1j, 0.5j]),), np.cumulative_prod)],
    "logcumsumexp": [
        S("1-D", ad.logcumsumexp, (LONG,), logcumsumexp), S("one", ad.logcumsumexp, (LONG[:1],), logcumsumexp),
        S("axis", lambda x: ad.logcumsumexp(x, axis=1), (CUBE,), lambda x: logcumsumexp(x, 1)),
        S("negative axis", lambda x: ad.logcumsumexp(x, axis=-3), (CUBE,), lambda x: logcumsumexp(x, 0)),
        S("empty", lambda x: ad.logcumsumexp(x, axis=0), (REAL[:0],), lambda x: logcumsumexp(x, 0)),
        S("large", ad.logcumsumexp, (LONG + 1000,), lambda x: logcumsumexp(x - 1000) + 1000, order=1)],
    "vander": [S(f"{n} {up}", lambda x, n=n, up=up: ad.vander(x, n, increasing=up), (LONG[:4],), lambda x, n=n, up=up: np.vander(x, n, increasing=up))
               for n in (None, 3, 1) for up in (False, True)]
    + [S("at 0", ad.vander, (np.array([0.0, 2.0, -1.0]),), np.vander)]
    + constants([S("no columns", lambda x: ad.vander(x, 0), (LONG[:4],), lambda x: np.vander(x, 0))]),
    "diff": [S(f"{k}", lambda x, k=k: ad.diff(x, **k), (CUBE,), lambda x, k=k: diff(x, **k))
             for k in ({}, {"axis": 1}, {"axis": 1, "n": 2}, {"axis": -2, "n": 0}, {"n": 2}, {"n": 3, "axis": 0})]
    + [S("ends", lambda x, a, b: ad.diff(x, axis=0, prepend=a, append=b), (REAL, REAL[:1] * 2, REAL[::-1]), lambda x, a, b: np.diff(x, axis=0, prepend=a, append=b)),
       S("0-d ends", lambda x, a: ad.diff(x, prepend=a), (REAL, np.array(0.3)), lambda x, a: np.diff(x, prepend=a)),
       S("numbers", lambda x: ad.diff(x, prepend=0, append=1.5, n=2), (REAL,), lambda x: np.diff(x, prepend=0, append=1.5, n=2)),
       S("none of them", lambda x: ad.diff(x, n=0, prepend=0.0), (REAL,), lambda x: np.diff(x, n=0, prepend=0.0)),
       S("complex", lambda x: ad.diff(x, axis=0), (COMPLEX,), lambda x: np.diff(x, axis=0))]
    + constants([S("integers", lambda x: ad.diff(x, append=9), (np.array([1, 4, 2]),), lambda x: np.diff(x, append=9))]),
}  # fmt: skip
