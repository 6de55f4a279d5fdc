"""NumPy's statistics: reductions that leave NaN out, order statistics, averages, covariances.

Composed of public ops. An element that is NaN has the derivative 0 in the functions that leave
it out, and in a slice whose result is NaN on account of it so have all. Narrow floats keep
their dtype throughout, also where NumPy widens them (`cov`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

from autodiff.core import is_complex
from autodiff.kinds import general
from autodiff.ops.creation import diag, full_like, zeros_like
from autodiff.ops.elementwise import (
    ceil,
    clip,
    conjugated,
    floor,
    imag,
    isfinite,
    isnan,
    logical_not,
    multiply,
    real,
    round,
    sqrt,
    where,
)
from autodiff.ops.extras import floating
from autodiff.ops.linalg import matmul
from autodiff.ops.manipulation import (
    Axis,
    an_array,
    astype,
    broadcast_to,
    concat,
    count,
    expand_dims,
    inverse,
    matrix_transpose,
    moveaxis,
    normalize_axis,
    one_axis,
    permute_dims,
    reshape,
    slice_axis,
    squeeze,
)
from autodiff.ops.ordering import count_nonzero, sort, take_along_axis
from autodiff.ops.reductions import (
    _extreme_vjp,
    all_equal,
    max,
    mean,
    min,
    prod,
    root_of_variance,
    sum,
    widened,
)
from autodiff.ops.scans import cumulative_prod, cumulative_sum
from backends.base import is_inexact

__all__ = [
    "average",
    "corrcoef",
    "cov",
    "median",
    "nancumprod",
    "nancumsum",
    "nanmax",
    "nanmean",
    "nanmedian",
    "nanmin",
    "nanpercentile",
    "nanprod",
    "nanquantile",
    "nanstd",
    "nansum",
    "nanvar",
    "percentile",
    "ptp",
    "quantile",
]


def ptp(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The largest element over `axis` less the smallest; ties share the derivative equally."""
    axes = normalize_axis("ptp", a, axis)
    return max(a, axis=axes, keepdims=keepdims) - min(a, axis=axes, keepdims=keepdims)


# -- reductions that leave NaN out ---------------------------------------------------------------


def without_nan(a: Any, value: float) -> Any:
    """a with `value` in place of NaN, by which the derivative is 0."""
    return where(isnan(a), value, a) if is_inexact(a.dtype) else a


def nansum(a: Any, axis: Axis = None, *, dtype: Any = None, keepdims: bool = False) -> Any:
    """The sum over `axis` of the elements that are not NaN."""
    return sum(without_nan(an_array("nansum", a), 0), axis=axis, dtype=dtype, keepdims=keepdims)


def nanprod(a: Any, axis: Axis = None, *, dtype: Any = None, keepdims: bool = False) -> Any:
    """The product over `axis` of the elements that are not NaN."""
    return prod(without_nan(an_array("nanprod", a), 1), axis=axis, dtype=dtype, keepdims=keepdims)


def nancumsum(a: Any, axis: int | None = None, *, dtype: Any = None) -> Any:
    """Sums of the first elements along `axis` (None: of the flattened array), NaN as 0."""
    a, place = along("nancumsum", a, axis)
    return cumulative_sum(without_nan(a, 0), axis=place, dtype=dtype)


def nancumprod(a: Any, axis: int | None = None, *, dtype: Any = None) -> Any:
    """Products of the first elements along `axis` (None: of the flattened array), NaN as 1."""
    a, place = along("nancumprod", a, axis)
    return cumulative_prod(without_nan(a, 1), axis=place, dtype=dtype)


def along(name: str, a: Any, axis: int | None) -> tuple[Any, int]:
    """An array and the axis of it to go along: its elements in a row for None."""
    a = an_array(name, a)
    return (reshape(a, (-1,)), 0) if axis is None else (a, one_axis(name, a, axis))


def _nan_extreme(name: str, worst: float) -> Callable:
    """The body of nanmax and nanmin. Ties are shared among elements, none of them NaN."""

    def impl(xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        lost = xp.isnan(x)
        y = getattr(xp, name)(xp.where(lost, worst, x), axis=axis, keepdims=keepdims)
        return xp.where(xp.all(lost, axis=axis, keepdims=keepdims), math.nan, y)

    return impl


_nanmax = general("nanmax", impl=_nan_extreme("max", -math.inf), vjp=_extreme_vjp)
_nanmin = general("nanmin", impl=_nan_extreme("min", math.inf), vjp=_extreme_vjp)


def nanmax(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The largest over `axis` of the elements that are not NaN, NaN if there is none; ties
    share the derivative equally."""
    if not is_inexact(an_array("nanmax", a).dtype):
        return max(a, axis=axis, keepdims=keepdims)
    return _nanmax(a, axis=normalize_axis("nanmax", a, axis), keepdims=keepdims)


def nanmin(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The smallest over `axis` of the elements that are not NaN, NaN if there is none; ties
    share the derivative equally."""
    if not is_inexact(an_array("nanmin", a).dtype):
        return min(a, axis=axis, keepdims=keepdims)
    return _nanmin(a, axis=normalize_axis("nanmin", a, axis), keepdims=keepdims)


def numbers(a: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """How many elements over `axis` are not NaN, in the real dtype of a."""
    there = count_nonzero(logical_not(isnan(a)), axis=axis, keepdims=keepdims)
    return astype(there, real(a).dtype)


def share(total: Any, weight: Any) -> Any:
    """total / weight, NaN where the weight is not positive."""
    lacking = weight <= 0
    return where(lacking, math.nan, total / where(lacking, 1, weight))


def nanmean(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The mean over `axis` of the elements that are not NaN, NaN if there is none."""
    axes = normalize_axis("nanmean", a, axis)
    x = floating(a)
    wide = widened(x)
    y = share(nansum(wide, axes, keepdims=keepdims), numbers(wide, axes, keepdims))
    return astype(y, x.dtype, copy=False)


def nanvar(
    a: Any,
    axis: Axis = None,
    *,
    ddof: float = 0,
    keepdims: bool = False,
    correction: float | None = None,
) -> Any:
    """The variance over `axis` of the n elements that are not NaN, divided by n - ddof; NaN if
    that is not positive. `correction` is another name of `ddof`."""
    axes = normalize_axis("nanvar", a, axis)
    x = floating(a)
    y = _variance(widened(x), axes, ddof if correction is None else correction, keepdims)
    return astype(y, real(x).dtype, copy=False)


def _variance(x: Any, axes: tuple[int, ...], ddof: float, keepdims: bool) -> Any:
    apart = where(isnan(x), 0, x - nanmean(x, axes, keepdims=True))
    total = sum(real(apart * conjugated(apart)), axis=axes, keepdims=keepdims)
    return share(total, numbers(x, axes, keepdims) - ddof)


def nanstd(
    a: Any,
    axis: Axis = None,
    *,
    ddof: float = 0,
    keepdims: bool = False,
    correction: float | None = None,
) -> Any:
    """The square root of `nanvar`. The derivative at a constant is 0."""
    axes = normalize_axis("nanstd", a, axis)
    x = floating(a)
    wide = widened(x)
    v = _variance(wide, axes, ddof if correction is None else correction, keepdims)
    y = root_of_variance(v, all_equal(wide, axes, keepdims, logical_not(isnan(wide))))
    return astype(y, real(x).dtype, copy=False)


# -- order statistics ----------------------------------------------------------------------------


def rows(name: str, a: Any, axis: Axis) -> tuple[Any, tuple[int, ...]]:
    """a with the axes that are reduced joined into one, the last; and these axes."""
    axes = normalize_axis(name, an_array(name, a), axis)
    rest = [i for i in range(a.ndim) if i not in axes]
    moved = permute_dims(a, (*rest, *axes)) if axes != (a.ndim - 1,) else a
    return reshape(moved, (*[a.shape[i] for i in rest], count(a, axes))), axes


def median(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The middle element over `axis`, of an even count the mean of the two middle ones; NaN
    where one is NaN."""
    x, axes = rows("median", a, axis)
    x = floating(x)
    length = x.shape[-1]
    if length == 0:
        y = mean(x, axis=-1)
    else:
        x = sort(x, axis=-1, stable=False)
        middle = slice_axis(x, x.ndim - 1, (length - 1) // 2, length // 2 + 1)
        last = squeeze(slice_axis(x, x.ndim - 1, length - 1, None), axis=-1)
        y = where(isnan(last), math.nan, mean(middle, axis=-1))
    return expand_dims(y, axis=axes) if keepdims else y


def nanmedian(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The median over `axis` of the elements that are not NaN, NaN if there is none."""
    x, axes = rows("nanmedian", a, axis)
    x = floating(x)
    if x.shape[-1] == 0:
        y = mean(x, axis=-1)
    else:
        half, _ = _shares("nanmedian", x, 0.5, 1)
        half = reshape(half, (1,) * x.ndim)
        y = squeeze(_at_shares(sort(x, axis=-1, stable=False), half, "midpoint", True), axis=-1)
    return expand_dims(y, axis=axes) if keepdims else y


# The (alpha, beta) of Hyndman and Fan (1996), whose sample quantiles interpolate linearly
# between the order statistics at q (n + 1 - alpha - beta) + alpha - 1, counted from 0.
LINEAR = {
    "linear": (1, 1),
    "hazen": (0.5, 0.5),
    "weibull": (0, 0),
    "median_unbiased": (1 / 3, 1 / 3),
    "normal_unbiased": (3 / 8, 3 / 8),
    "interpolated_inverted_cdf": (0, 1),
}
# Methods that take one order statistic, or the mean of two: q and n to their numbers.
STEPS = {
    "inverted_cdf": (lambda q, n: ceil(q * n) - 1,),
    "closest_observation": (lambda q, n: round(q * n) - 1,),
    "averaged_inverted_cdf": (lambda q, n: ceil(q * n) - 1, lambda q, n: floor(q * n)),
    "lower": (lambda q, n: floor(q * (n - 1)),),
    "higher": (lambda q, n: ceil(q * (n - 1)),),
    "nearest": (lambda q, n: round(q * (n - 1)),),
    "midpoint": (lambda q, n: floor(q * (n - 1)), lambda q, n: ceil(q * (n - 1))),
}


def quantile(
    a: Any, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False
) -> Any:
    """The value over `axis` below which a share q, from 0 to 1, of the elements lies; NaN where
    one is NaN. A sequence or an array of shares adds its axes in front. `method` is one of
    NumPy's thirteen; those that interpolate are differentiable by q too."""
    return _quantile("quantile", a, q, axis, method, keepdims)


def percentile(
    a: Any, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False
) -> Any:
    """The `quantile` for q / 100."""
    return _quantile("percentile", a, q, axis, method, keepdims, scale=100)


def nanquantile(
    a: Any, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False
) -> Any:
    """The `quantile` of the elements that are not NaN, NaN if there is none."""
    return _quantile("nanquantile", a, q, axis, method, keepdims, nan=True)


def nanpercentile(
    a: Any, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False
) -> Any:
    """The `nanquantile` for q / 100."""
    return _quantile("nanpercentile", a, q, axis, method, keepdims, nan=True, scale=100)


def _quantile(
    name: str,
    a: Any,
    q: Any,
    axis: Axis,
    method: str,
    keepdims: bool,
    nan: bool = False,
    scale: int = 1,
) -> Any:
    if method not in LINEAR and method not in STEPS:
        raise ValueError(f"{name}: no method {method!r}; there are {sorted([*LINEAR, *STEPS])}")
    if is_complex(a):
        raise TypeError(f"{name}: a must be real; complex numbers have no order")
    x, axes = rows(name, a, axis)
    if x.shape[-1] == 0:
        raise ValueError(f"{name}: no elements over axis {axis} of shape {tuple(a.shape)}")
    shares, shape = _shares(name, x, q, scale)
    shares = reshape(shares, (*(1,) * (x.ndim - 1), -1))
    y = _at_shares(sort(x, axis=-1, stable=False), shares, method, nan)
    if method in LINEAR and not hasattr(q, "dtype"):  # numbers are weak
        y = astype(y, floating(x).dtype, copy=False)
    y = moveaxis(y, -1, 0)
    y = reshape(y, (*shape, *y.shape[1:]))
    return expand_dims(y, axis=tuple(len(shape) + i for i in axes)) if keepdims else y


def _shares(name: str, x: Any, q: Any, scale: int) -> tuple[Any, tuple[int, ...]]:
    """The shares in a row, where x is, and the shape in which they came. Numbers are checked."""
    if hasattr(q, "dtype"):
        return reshape(floating(q) / scale, (-1,)), tuple(q.shape)
    zero = sum(zeros_like(slice_axis(x, x.ndim - 1, 0, 0), dtype="float64"))  # where x is
    if isinstance(q, Sequence) and not isinstance(q, str):
        parts = [_shares(name, x, each, scale) for each in q]
        return concat([part for part, _ in parts]), (len(parts), *parts[0][1])
    if not isinstance(q, Real):
        raise TypeError(f"{name}: q must be a number, an array or a sequence of these; got {q!r}")
    if not 0 <= q <= scale:
        raise ValueError(f"{name}: q must be from 0 to {scale}; got {q}")
    return reshape(zero + q / scale, (1,)), ()


def _at_shares(x: Any, q: Any, method: str, nan: bool) -> Any:
    """The quantiles of sorted rows, along a new last axis."""
    length = x.shape[-1]
    if not is_inexact(x.dtype):
        bad, n = None, length
    elif nan:
        n = sum(astype(logical_not(isnan(x)), q.dtype), axis=-1, keepdims=True)
        bad = n == 0
    else:
        bad, n = isnan(slice_axis(x, x.ndim - 1, length - 1, None)), length
    x = x if bad is None else where(bad, 0, x)
    y = _interpolated(x, q, n, *LINEAR[method]) if method in LINEAR else _steps(x, q, n, method)
    return y if bad is None else where(bad, math.nan, y)


def _interpolated(x: Any, q: Any, n: Any, alpha: float, beta: float) -> Any:
    """Between the order statistics on either side of a place. Where that hits one, an infinite
    neighbour does not matter (in NumPy it makes NaN)."""
    x = floating(x)
    place = clip(q * (n + 1 - alpha - beta) + (alpha - 1), 0, n - 1)
    below = clip(clip(floor(place), None, n - 2), 0)  # so that the last has one below it
    part = place - below
    low, high = _taken(x, below, n), _taken(x, below + 1, n)
    step = high - low
    between = where(part < 0.5, low + step * part, high - step * (1 - part))
    exact = where((part == 0) | (low == high), low, where(part == 1, high, between))
    return where(isfinite(step), between, exact)


def _steps(x: Any, q: Any, n: Any, method: str) -> Any:
    """One order statistic, or the mean of two."""
    found = [_taken(x, place(q, n), n) for place in STEPS[method]]
    return found[0] if len(found) == 1 else (floating(found[0]) + floating(found[1])) / 2


def _taken(x: Any, place: Any, n: Any) -> Any:
    """The elements of rows at places along the last axis, those beyond the ends at the ends."""
    return take_along_axis(x, astype(clip(place, 0, n - 1), "int64"), axis=-1)


# -- averages and covariances --------------------------------------------------------------------


def average(
    a: Any,
    axis: Axis = None,
    weights: Any = None,
    returned: bool = False,
    *,
    keepdims: bool = False,
) -> Any:
    """The mean over `axis`, weighted if `weights` are given: of the shape of a, or of the
    lengths of its axes `axis`. With `returned` also the sums of the weights. Where these are 0
    the result is not finite (in NumPy an error)."""
    axes = normalize_axis("average", a, axis)
    a = floating(a)
    if weights is None:
        y = mean(a, axis=axes, keepdims=keepdims)
        return (y, full_like(y, count(a, axes))) if returned else y
    w = _aligned_weights(a, floating(weights), axis, axes)
    weighted = multiply(a, w)
    total = sum(astype(w, weighted.dtype, copy=False), axis=axes, keepdims=keepdims)
    y = sum(weighted, axis=axes, keepdims=keepdims) / total
    if not returned:
        return y
    return y, broadcast_to(astype(total, y.dtype, copy=False), tuple(y.shape))


def _aligned_weights(a: Any, w: Any, axis: Axis, axes: tuple[int, ...]) -> Any:
    """Weights with the axes of a, of length 1 where they do not vary."""
    if tuple(w.shape) == tuple(a.shape):
        return w
    if axis is None:
        raise TypeError(
            f"average: a has shape {tuple(a.shape)} and weights {tuple(w.shape)}; say along "
            "which axis they go"
        )
    if tuple(w.shape) != tuple(a.shape[i] for i in axes):
        raise ValueError(
            f"average: weights have shape {tuple(w.shape)}; axis {axis} of shape "
            f"{tuple(a.shape)} needs {tuple(a.shape[i] for i in axes)}"
        )
    w = permute_dims(w, inverse(axes))
    return reshape(w, tuple(n if i in axes else 1 for i, n in enumerate(a.shape)))


def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    """The covariances of variables: the rows of m (and of y), or the columns without `rowvar`.
    Divided by n - ddof; ddof is 1 if not given, 0 with `bias`. `fweights` says how often each
    observation occurs, `aweights` how much it weighs; a scalar for one variable."""
    return _covariance("cov", m, y, rowvar, bias, ddof, fweights, aweights, dtype)


def _covariance(
    name: str,
    m: Any,
    y: Any,
    rowvar: bool,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    dtype: Any = None,
) -> Any:
    x = _variables(name, m, 1, rowvar)
    if y is not None:
        x = concat([x, _variables(name, y, 2, rowvar)], axis=0)
    x = x if dtype is None else astype(x, dtype, copy=False)
    less = (0 if bias else 1) if ddof is None else ddof
    w = _observation_weights(x, fweights, aweights)
    if w is None:
        freedom = x.shape[1] - less
        scale = 1 / freedom if freedom > 0 else math.inf
        apart = x - mean(x, axis=1, keepdims=True)
        weighted = apart
    else:
        total = sum(w)
        lost = less if aweights is None else less * sum(multiply(w, aweights)) / total
        freedom = total - lost
        scale = 1 / where(freedom > 0, freedom, 0)
        apart = x - sum(multiply(x, w), axis=1, keepdims=True) / total
        weighted = multiply(apart, w)
    c = matmul(apart, conjugated(matrix_transpose(weighted))) * scale
    return reshape(c, ()) if x.shape[0] == 1 else c


def _variables(name: str, m: Any, position: int, rowvar: bool) -> Any:
    """Variables as rows."""
    if an_array(name, m, position).ndim > 2:
        raise ValueError(f"{name}: needs 2 axes or fewer; got shape {tuple(m.shape)}")
    m = floating(m)
    if m.ndim < 2:
        return reshape(m, (1, -1))
    return m if rowvar else matrix_transpose(m)


def _observation_weights(x: Any, fweights: Any, aweights: Any) -> Any:
    """The product of both weights, in the real dtype of x if theirs is not wider; None if there
    are none."""
    if fweights is None and aweights is None:
        return None
    parts = real(x)
    w = 1 + sum(slice_axis(parts, 0, 0, 0), axis=0)  # a one for each observation
    for name, each in (("fweights", fweights), ("aweights", aweights)):
        if each is None:
            continue
        if tuple(each.shape) != (x.shape[1],):
            raise ValueError(
                f"cov: {name} have shape {tuple(each.shape)}; {x.shape[1]} observations need "
                f"({x.shape[1]},)"
            )
        if not is_inexact(each.dtype):
            each = astype(each, parts.dtype)
        w = multiply(w, each)
    return w


def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    """Pearson's correlations of variables, as `cov` takes them; 1 for one variable."""
    c = _covariance("corrcoef", x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    spread = sqrt(real(diag(c)))
    c = c / expand_dims(spread, axis=1) / expand_dims(spread, axis=0)
    if is_complex(c):
        return clip(real(c), -1, 1) + clip(imag(c), -1, 1) * 1j
    return clip(c, -1, 1)
