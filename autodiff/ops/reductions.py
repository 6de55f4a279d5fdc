"""Reductions: sums, products, moments, extremes, and the normalizations built on them.

`axis` is None (all), an integer or a tuple; negative axes count from the end. A reduction
over ties gives each an equal share of the derivative.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from autodiff.core import Aval, is_complex
from autodiff.dtypes import isdtype
from autodiff.kinds import KindOp, general, linear, nondiff, total
from autodiff.ops.creation import ones_like
from autodiff.ops.elementwise import (
    conjugated,
    exp,
    imag,
    isfinite,
    real,
    sqrt,
    stop_gradient,
    where,
)
from autodiff.ops.manipulation import (
    Axis,
    an_array,
    astype,
    broadcast_to,
    count,
    expand_dims,
    flip,
    inverse,
    normalize_axis,
    one_axis,
    permute_dims,
    reshape,
    slice_axis,
)
from autodiff.ops.scans import cast_first, cumulative_prod
from backends.base import HALVES, dtype_name

__all__ = [
    "all",
    "any",
    "argmax",
    "argmin",
    "log_softmax",
    "logsumexp",
    "max",
    "mean",
    "min",
    "prod",
    "softmax",
    "standardize",
    "std",
    "sum",
    "var",
]


def restore(y: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """A reduced array with its axes back, so that it broadcasts against what it came from
    (which 0-d arrays do as they are)."""
    return y if keepdims or y.ndim == 0 else expand_dims(y, axis=axis)


def is_half(x: Any) -> bool:
    """Whether sums over x want a wider dtype: half precision overflows beyond 65504."""
    return getattr(x.dtype, "itemsize", 2) == 2 and dtype_name(x.dtype) in HALVES


def widened(x: Any) -> Any:
    """x in a dtype in which sums over it do not overflow; the engine casts back."""
    return astype(x, "float32") if is_half(x) else x


def summed_wide(impl: Callable) -> Callable:
    """The body of a reduction, with half precision reduced in single."""

    def wide(xp: Any, x: Any, **params: Any) -> Any:
        if is_half(x):
            return xp.astype(impl(xp, xp.astype(x, "float32"), **params), x.dtype)
        return impl(xp, x, **params)

    return wide


_sum = linear(
    "sum",
    impl=lambda xp, x, *, axis, dtype, keepdims: xp.sum(
        x, axis=axis, dtype=xp.native(dtype), keepdims=keepdims
    ),
    adjoint=lambda g, x, *, axis, keepdims, **_: broadcast_to(restore(g, axis, keepdims), x.shape),
)
_mean = linear(
    "mean",
    adjoint=lambda g, x, *, axis, keepdims: broadcast_to(
        restore(g * (1 / builtins.max(count(x, axis), 1)), axis, keepdims), x.shape
    ),
)


def sum(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """The sum over `axis`; floats keep their dtype, narrow integers widen to int64 or uint64."""
    axes = normalize_axis("sum", x, axis)
    return _sum(cast_first(x, dtype), axis=axes, dtype=dtype, keepdims=keepdims)


def mean(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """The arithmetic mean over `axis`."""
    return _mean(x, axis=normalize_axis("mean", x, axis), keepdims=keepdims)


# -- products ------------------------------------------------------------------------------------


def _others(x: Any, axis: tuple[int, ...]) -> Any:
    """For each factor the product of the others: of those before it and of those after it, so
    that derivatives of every order are exact where factors are zero."""
    order = (*axis, *[i for i in range(x.ndim) if i not in axis])
    moved = permute_dims(x, order)
    factors = reshape(moved, (count(x, axis), *moved.shape[len(axis) :]))
    others = reshape(_before(factors) * flip(_before(flip(factors, axis=0)), axis=0), moved.shape)
    return permute_dims(others, inverse(order))


def _before(x: Any) -> Any:
    """Along axis 0, the product of all that come before."""
    return cumulative_prod(slice_axis(x, 0, 0, -1), axis=0, include_initial=True)


def _prod_vjp(g: Any, _y: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, **_: Any) -> Any:
    g = restore(g, axis, keepdims)
    return g * conjugated(_others(x, axis)) if count(x, axis) else broadcast_to(g, x.shape)


def _prod_jvp(
    tangents: list, y: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, **_: Any
) -> Any:
    if not count(x, axis):
        return 0 * y
    (t,) = tangents
    others = _others(x, axis)
    others = where((t != 0) | isfinite(others), others, 0)  # a still factor adds nothing
    return sum(t * others, axis=axis, keepdims=keepdims)


_prod = general(
    "prod",
    impl=lambda xp, x, *, axis, dtype, keepdims: xp.prod(
        x, axis=axis, dtype=xp.native(dtype), keepdims=keepdims
    ),
    vjp=_prod_vjp,
    jvp=_prod_jvp,
)


def prod(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """The product over `axis`. Its derivative is the exact product of the other factors,
    however many are zero."""
    axes = normalize_axis("prod", x, axis)
    return _prod(cast_first(x, dtype), axis=axes, dtype=dtype, keepdims=keepdims)


# -- variance ------------------------------------------------------------------------------------


@summed_wide
def _var_impl(xp: Any, x: Any, *, axis: tuple[int, ...], correction: float, keepdims: bool) -> Any:
    if xp.is_complex(x.dtype):
        parts = (xp.real(x), xp.imag(x))
        return builtins.sum(
            xp.var(p, axis=axis, correction=correction, keepdims=keepdims) for p in parts
        )
    return xp.var(x, axis=axis, correction=correction, keepdims=keepdims)


def _spread(x: Any, axis: tuple[int, ...], correction: float) -> Any:
    """(x - mean) / (n - correction): half the gradient of the variance."""
    freedom = count(x, axis) - correction
    x = widened(x)
    return (x - mean(x, axis=axis, keepdims=True)) * (1 / freedom if freedom > 0 else math.nan)


@summed_wide
def _std_impl(xp: Any, x: Any, **how: Any) -> Any:
    return xp.sqrt(_var_impl(xp, x, **how))


def all_equal(x: Any, axis: tuple[int, ...], keepdims: bool, among: Any = None) -> Any:
    """Whether the elements over `axis`, or those of them that a mask says, are all equal: in each
    part the largest is the smallest. Their computed variance is seldom exactly 0: the mean is
    rounded."""
    if not count(x, axis):
        return True
    x, result = stop_gradient(x), True
    for part in (real(x), imag(x)) if is_complex(x) else (x,):
        highs, lows = part, part
        if among is not None:
            highs, lows = where(among, part, -math.inf), where(among, part, math.inf)
        largest = max(highs, axis=axis, keepdims=keepdims)
        result = (largest <= min(lows, axis=axis, keepdims=keepdims)) & result
    return result


def root_of_variance(v: Any, constant: Any = False) -> Any:
    """sqrt(v). The derivative is 0 where what varies is `constant`, or the variance is 0."""
    still = (v == 0) | constant
    return where(still, stop_gradient(sqrt(v)), sqrt(where(still, 1, v)))


def _std_vjp(
    g: Any, y: Any, x: Any, *, axis: tuple[int, ...], correction: float, keepdims: bool
) -> Any:
    still = (y == 0) | all_equal(x, axis, keepdims)
    scale = where(still, 0, widened(g) / where(still, 1, widened(y)))
    return restore(scale, axis, keepdims) * _spread(x, axis, correction)


_var = general(
    "var",
    impl=_var_impl,
    vjp=lambda g, _y, x, *, axis, correction, keepdims: (
        restore(2 * widened(g), axis, keepdims) * _spread(x, axis, correction)
    ),
)
_std = general("std", impl=_std_impl, vjp=_std_vjp)


def _aval_of_variance(op: KindOp, x: Any, **params: Any) -> Aval:
    """No correction changes shape or dtype, but NumPy warns of one for which stand-ins are too
    short."""
    return KindOp.aval(op, x, **{**params, "correction": 0.0})


for _op in (_var, _std):
    _op.aval = partial(_aval_of_variance, _op)


def var(x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """The variance over `axis`, divided by n - correction."""
    axes = normalize_axis("var", x, axis)
    return _var(x, axis=axes, correction=correction, keepdims=keepdims)


def std(x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """The standard deviation over `axis`. The derivative at a constant is 0."""
    axes = normalize_axis("std", x, axis)
    return _std(x, axis=axes, correction=correction, keepdims=keepdims)


# -- extremes ------------------------------------------------------------------------------------


def _extreme_vjp(g: Any, y: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    here = x == restore(y, axis, keepdims)
    share = where(here, widened(ones_like(x)), 0)
    ties = sum(share, axis=axis, keepdims=True)
    return where(here, restore(g, axis, keepdims) / where(ties == 0, 1, ties), 0)


_max = general("max", vjp=_extreme_vjp)
_min = general("min", vjp=_extreme_vjp)
_argmax = nondiff("argmax")
_argmin = nondiff("argmin")
_all = nondiff("all")
_any = nondiff("any")


def max(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """The largest element over `axis`; ties share the derivative equally."""
    return _max(x, axis=normalize_axis("max", x, axis), keepdims=keepdims)


def min(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """The smallest element over `axis`; ties share the derivative equally."""
    return _min(x, axis=normalize_axis("min", x, axis), keepdims=keepdims)


def argmax(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Any:
    """The index of the first largest element along `axis`, in the flattened array for None."""
    return _arg("argmax", _argmax, x, axis, keepdims)


def argmin(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Any:
    """The index of the first smallest element along `axis`, in the flattened array for None."""
    return _arg("argmin", _argmin, x, axis, keepdims)


def _arg(name: str, op: Callable, x: Any, axis: int | None, keepdims: bool) -> Any:
    """argmax or argmin; without an axis, in the flattened array."""
    if axis is not None:
        return op(x, axis=one_axis(name, x, axis), keepdims=keepdims)
    place = op(reshape(an_array(name, x), (-1,)), axis=0, keepdims=False)
    return reshape(place, (1,) * x.ndim) if keepdims else place


def all(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether every element over `axis` is true."""
    return _all(x, axis=normalize_axis("all", x, axis), keepdims=keepdims)


def any(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether some element over `axis` is true."""
    return _any(x, axis=normalize_axis("any", x, axis), keepdims=keepdims)


# -- exponential sums ----------------------------------------------------------------------------


def _largest(xp: Any, x: Any, axis: tuple[int, ...]) -> Any:
    """The largest element, of complex ones the largest real part, which the size of an exponential
    goes by; 0 if there is none. Less it, no element has an exponential that overflows."""
    x = xp.real(x) if xp.is_complex(x.dtype) else x
    return (xp.sum if 0 in x.shape else xp.max)(x, axis=axis, keepdims=True)


@summed_wide
def _logsumexp_impl(xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    shift = _largest(xp, x, axis)
    shift = xp.where(xp.isfinite(shift), shift, xp.zeros_like(shift))
    with xp.quiet():
        y = xp.log(xp.sum(xp.exp(x - shift), axis=axis, keepdims=True)) + shift
    return y if keepdims else xp.squeeze(y, axis=axis)


def _logsumexp_vjp(g: Any, y: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    y = restore(y, axis, keepdims)
    weights = exp(widened(x) - where(y == -math.inf, 0, y))
    return restore(g, axis, keepdims) * conjugated(weights)


def _softmax_vjp(g: Any, y: Any, _x: Any, *, axis: tuple[int, ...]) -> Any:
    y = conjugated(y)
    return y * (g - sum(widened(g) * y, axis=axis, keepdims=True))


def _log_softmax_vjp(g: Any, y: Any, _x: Any, *, axis: tuple[int, ...]) -> Any:
    return g - conjugated(exp(widened(y))) * sum(widened(g), axis=axis, keepdims=True)


@summed_wide
def _softmax_impl(xp: Any, x: Any, *, axis: tuple[int, ...]) -> Any:
    e = xp.exp(x - _largest(xp, x, axis))
    return e / xp.sum(e, axis=axis, keepdims=True)


@summed_wide
def _log_softmax_impl(xp: Any, x: Any, *, axis: tuple[int, ...]) -> Any:
    shifted = x - _largest(xp, x, axis)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


_logsumexp = general("logsumexp", impl=_logsumexp_impl, vjp=_logsumexp_vjp)
_softmax = general("softmax", impl=_softmax_impl, vjp=_softmax_vjp)
_log_softmax = general("log_softmax", impl=_log_softmax_impl, vjp=_log_softmax_vjp)


def logsumexp(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) over `axis`, without overflow; -inf, with derivative 0, where all
    elements are -inf."""
    return _logsumexp(x, axis=normalize_axis("logsumexp", x, axis), keepdims=keepdims)


def softmax(x: Any, /, *, axis: int | tuple[int, ...] = -1) -> Any:
    """exp(x) / sum(exp(x)) over `axis`."""
    return _softmax(x, axis=normalize_axis("softmax", x, axis))


def log_softmax(x: Any, /, *, axis: int | tuple[int, ...] = -1) -> Any:
    """x - logsumexp(x) over `axis`, without overflow."""
    return _log_softmax(x, axis=normalize_axis("log_softmax", x, axis))


# -- standard scores -----------------------------------------------------------------------------


def _standardize_impl(xp: Any, x: Any, *, axis: tuple[int, ...], eps: float) -> tuple[Any, Any]:
    """Standard scores, and what x without its mean is multiplied by."""
    wide = xp.astype(x, "float32") if is_half(x) else x
    centered = wide - xp.mean(wide, axis=axis, keepdims=True)
    variance = xp.mean(centered * centered, axis=axis, keepdims=True)
    scale = 1 / xp.sqrt(variance + eps)
    y = centered * scale
    return (xp.astype(y, x.dtype) if is_half(x) else y), scale


def _projected(v: Any, y: Any, scale: Any, axis: tuple[int, ...]) -> Any:
    """The derivative of the scores y along v: scale * (1 - 11'/n - yy'/n) is symmetric."""
    along = mean(v * y, axis=axis, keepdims=True)
    return scale * (v - mean(v, axis=axis, keepdims=True) - y * along)


def _standardize_vjp(g: Any, y: Any, _x: Any, *, axis: tuple[int, ...], **_: Any) -> Any:
    (g_y, g_scale), (y, scale) = g, y
    y = widened(y)
    share = -1 / builtins.max(count(y, axis), 1)
    terms = [
        None if g_y is None else _projected(widened(g_y), y, scale, axis),
        None if g_scale is None else g_scale * (scale * scale) * y * share,
    ]
    return total(terms)


def _standardize_jvp(tangents: list, y: Any, _x: Any, *, axis: tuple[int, ...], **_: Any) -> tuple:
    (y, scale), v = y, widened(tangents[0])
    y = widened(y)
    along = mean(v * y, axis=axis, keepdims=True)
    return _projected(v, y, scale, axis), -(scale * scale) * along


_standardize = general(
    "standardize", impl=_standardize_impl, vjp=_standardize_vjp, jvp=_standardize_jvp
)
_standardize.needs_all = False


def standardize(x: Any, /, *, axis: int | tuple[int, ...] = -1, eps: float = 1e-5) -> Any:
    """(x - mean) / sqrt(variance + eps) over `axis`: standard scores, of which a layer norm is made
    (Ba et al. 2016). Where all elements are equal, 0, with finite derivatives.

    Raises
    ------
    TypeError
        x is not an array of real floating numbers.
    ValueError
        `eps` is not positive.

    Example
    -------
    >>> ad.standardize(np.array([1.0, 3.0]), eps=1e-12)
    array([-1.,  1.])
    """
    if not eps > 0:
        raise ValueError(f"standardize: eps must be positive; got {eps}")
    dtype = getattr(x, "dtype", None)
    if dtype is None or not isdtype(dtype, "real floating"):
        raise TypeError(
            f"standardize: x must be real and floating; got {dtype or type(x).__name__} "
            "(use autodiff.astype)"
        )
    y, _ = _standardize(x, axis=normalize_axis("standardize", x, axis), eps=eps)
    return y


def _reduced(
    shape: tuple[int, ...], *, axis: tuple[int, ...], keepdims: bool, **_: Any
) -> tuple[int, ...]:
    """The shape of what is left over."""
    kept = [1 if i in axis else n for i, n in enumerate(shape)]
    return tuple(n for i, n in enumerate(kept) if keepdims or i not in axis)


for _op in (_sum, _mean, _prod, _var, _std, _max, _min, _all, _any, _logsumexp):
    _op.shape_rule = _reduced
for _op in (_softmax, _log_softmax):
    _op.shape_rule = lambda shape, **_: tuple(shape)
