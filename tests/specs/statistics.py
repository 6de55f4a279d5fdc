"""Rows of the statistics: each reduction with and without NaN, every method of `quantile`,
weights, covariances."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
from specs.samples import (
    COMPLEX,
    CUBE,
    POSITIVE,
    REAL,
    S,
    Sample,
    constants,
    functions,
    index_like,
    reduction,
)

RNG = np.random.default_rng(577)

NAN = np.nan
GAPS = np.where(RNG.uniform(size=(3, 4, 2)) < 0.3, NAN, RNG.standard_normal((3, 4, 2)))
GAPS[:, 0] = [[0.3, -1.2], [0.9, 0.4], [-0.7, 2.1]]  # along axis 1 two numbers at least
GAPS[:, 3] = [[1.3, 0.2], [-0.9, 1.4], [0.7, -2.0]]
LOST = np.array([[NAN, NAN], [1.0, NAN], [3.0, -1.0]])
METHODS = (
    "inverted_cdf averaged_inverted_cdf closest_observation interpolated_inverted_cdf hazen weibull "
    "linear median_unbiased normal_unbiased lower higher midpoint nearest"
).split()
SHARES = np.array([[0.13, 0.52], [0.77, 0.91]])
TABLE = RNG.standard_normal((3, 6))
INTEGERS = np.array([[5, 1, 4, 9], [2, 7, 7, 0]])


def still(f: Callable) -> Callable:
    """NumPy's function without its warnings of empty slices."""

    def quiet(*args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return f(*args, **kwargs)

    return quiet


def row(name: str, label: str, *args: np.ndarray, smooth: bool = True, **kw: Any) -> Sample:
    f, reference = functions(name)
    return S(label, lambda *x: f(*x, **kw), args, lambda *x: still(reference)(*x, **kw), smooth)


def gaps(name: str, axes: list | None = None) -> list[Sample]:
    """Reductions over an array with NaN, over one without, and over nothing else than NaN."""
    f, reference = functions(name)
    rows = reduction(f, still(reference), GAPS, axes=axes or [None, 1, -2, (0, 2), (-1, 0, 1)])
    rows += constants([row(name, "nothing but NaN", LOST, axis=1), row(name, "integers", INTEGERS, axis=0)])
    return rows + [row(name, "no NaN", CUBE, axis=0)]


def quantiles(name: str, x: np.ndarray, scale: float = 1.0) -> list[Sample]:
    f, reference = functions(name)

    def one(label: str, q: Any, **kw: Any) -> Sample:
        return S(label, lambda x: f(x, q, **kw), (x,), lambda x: reference(x, np.asarray(q), **kw))

    rows = [one(f"{m} {q}", q * scale, axis=1, method=m) for m in METHODS for q in (0.0, 0.25, 0.37, 1.0)]
    rows += [one(f"{axis} {keep}", 0.4 * scale, axis=axis, keepdims=keep) for axis in (None, -1, (0, -1)) for keep in (False, True)]
    rows += [one("several", [0.1 * scale, 0.8 * scale], axis=0, keepdims=True), one("nested", [[0.1 * scale], [0.8 * scale]])]
    rows += [S(f"{m} traced", lambda x, q, m=m: f(x, q, axis=1, method=m), (x, SHARES * scale),
               lambda x, q, m=m: reference(x, q, axis=1, method=m)) for m in ("linear", "hazen", "weibull", "nearest", "midpoint")]
    rows += [S("traced, keepdims", lambda x, q: f(x, q, keepdims=True), (x, np.array(0.33 * scale)), lambda x, q: reference(x, q, keepdims=True)),
             S("negative stride", lambda x: f(x, 0.6 * scale, axis=0), (x[::-1, ::-1],), lambda x: reference(x, 0.6 * scale, axis=0)),
             S("0-d", lambda x: f(x, 0.5 * scale), (np.array(0.7),), lambda x: reference(x, 0.5 * scale))]
    return rows + constants([S(f"integers {m}", lambda x, m=m: f(x, 0.6 * scale, axis=1, method=m), (INTEGERS,),
                               lambda x, m=m: reference(x, 0.6 * scale, axis=1, method=m)) for m in METHODS])


def weights(label: str, a: np.ndarray, w: np.ndarray, **kw: Any) -> Sample:
    return S(label, lambda a, w: ad.average(a, weights=w, **kw), (a, w), lambda a, w: np.average(a, weights=w, **kw))


def tuned(name: str, label: str, w: np.ndarray, *args: np.ndarray, **kw: Any) -> Sample:
    """A function of weights too; the integer ones are constants."""
    f, reference = functions(name)
    return S(label, lambda x, w: f(x, aweights=w, **kw), (*args, w), lambda x, w: reference(x, aweights=w, **kw))


COUNTED = np.array([1, 2, 0, 3, 1, 2])
WEIGHED = np.array([0.5, 1.0, 2.0, 0.3, 0.9, 1.1])
WAVES = TABLE + 1j * TABLE[::-1, ::-1]


def counted(label: str, weighed: bool = False, **kw: Any) -> Sample:
    """Counts of observations, made where the array is, and weights."""

    def f(x: Any, w: Any) -> Any:
        return ad.cov(x, fweights=index_like(x, COUNTED.tolist()), aweights=w if weighed else None, **kw)

    def reference(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.cov(x, fweights=COUNTED, aweights=w if weighed else None, **kw)

    return S(label, f, (TABLE, WEIGHED), reference)


SPECS: dict[str, list[Sample]] = {
    "ptp": reduction(*functions("ptp")),
    **{name: gaps(name) for name in ("nansum", "nanprod", "nanmax", "nanmin", "nanmean")},
    **{name: [s for s in gaps(name) if s.label != "0-d"] + [row(name, "ddof", GAPS, axis=1, ddof=1), row(name, "correction", GAPS, axis=1, correction=1),
              row(name, "no freedom", LOST, axis=1, ddof=2, smooth=False)] for name in ("nanvar", "nanstd")},
    "nancumsum": [row("nancumsum", f"{a}", GAPS, axis=a) for a in (None, 0, -1)],
    "nancumprod": [row("nancumprod", f"{a}", GAPS, axis=a) for a in (None, 0, -1)],
    "median": reduction(*functions("median"), axes=[None, 0, 1, -1, (0, 2), (-1, 0, 1)])
    + constants([row("median", "NaN", LOST, axis=1), row("median", "integers", INTEGERS, axis=1), row("median", "empty", REAL[:0], axis=0)]),
    "nanmedian": gaps("nanmedian"),
    "quantile": quantiles("quantile", TABLE) + constants([row("quantile", "NaN", LOST, np.array([0.2, 0.5]), axis=1)]),
    "percentile": quantiles("percentile", TABLE, 100.0),
    "nanquantile": quantiles("nanquantile", np.where(np.abs(TABLE) > 1.2, NAN, TABLE))
    + constants([row("nanquantile", "nothing but NaN", LOST, np.array([0.2, 0.5]), axis=1)]),
    "nanpercentile": quantiles("nanpercentile", GAPS[..., 0], 100.0),
    "average": reduction(*functions("average"), axes=[None, 0, (0, 2)], complex=True)
    + [weights("same shape", CUBE, np.abs(CUBE[::-1]) + 0.1), weights("same shape, axis", CUBE, np.abs(CUBE[::-1]) + 0.1, axis=(0, -1), keepdims=True),
       weights("along an axis", CUBE, POSITIVE[0], axis=1), weights("along two", CUBE, POSITIVE, axis=(0, 1)),
       weights("along two, turned", CUBE, POSITIVE.T, axis=(1, 0)), weights("returned", CUBE, POSITIVE[0], axis=-2, returned=True),
       weights("complex", COMPLEX, POSITIVE), row("average", "returned alone", CUBE, axis=0, returned=True)]
    + constants([row("average", "integers", INTEGERS, axis=0)]),
    "cov": [row("cov", "rows", TABLE), row("cov", "columns", TABLE, rowvar=False), row("cov", "biased", TABLE, bias=True),
            row("cov", "ddof", TABLE, ddof=2), row("cov", "one variable", TABLE[0]), row("cov", "two arrays", TABLE, TABLE[::-1] ** 2),
            row("cov", "columns of two", TABLE, TABLE[:, ::-1] ** 2, rowvar=False), row("cov", "vectors", TABLE[0], TABLE[1]),
            row("cov", "complex", WAVES), tuned("cov", "weights", WEIGHED, TABLE), tuned("cov", "weights, biased", WEIGHED, WAVES, bias=True),
            counted("counts"), counted("counts, ddof", ddof=0), counted("counts and weights", weighed=True)]
    + constants([row("cov", "integers", INTEGERS)]),
    "corrcoef": [row("corrcoef", "rows", TABLE), row("corrcoef", "columns", TABLE.T, rowvar=False), row("corrcoef", "two arrays", TABLE, TABLE[::-1] ** 2),
                 row("corrcoef", "one variable", TABLE[0]), row("corrcoef", "complex", WAVES)],
}  # fmt: skip
