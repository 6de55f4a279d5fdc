"""Scans along an axis: cumulative sums, products and log-sum-exps, and differences.

Derivatives of products come from a linear recurrence that multiplies and adds only, so they
are exact where factors are zero.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from autodiff.kinds import general, linear
from autodiff.ops.creation import ones_like, zeros_like
from autodiff.ops.elementwise import conjugated, exp, not_equal, subtract, where
from autodiff.ops.manipulation import (
    an_array,
    astype,
    broadcast_to,
    concat,
    flip,
    one_axis,
    reshape,
    slice_axis,
)
from backends.base import is_inexact, same_dtype

__all__ = ["cumulative_prod", "cumulative_sum", "diff", "logcumsumexp", "vander"]


def scan_axis(name: str, x: Any, axis: int | None) -> int:
    """The axis of a scan as a number from 0; only a 1-D array may leave it out."""
    if axis is None and an_array(name, x).ndim > 1:
        raise ValueError(
            f"{name}: x has shape {tuple(x.shape)}; say along which axis (axis=None is for 1-D)"
        )
    return one_axis(name, x, 0 if axis is None else axis)


def cast_first(x: Any, dtype: Any) -> Any:
    """The argument of a sum that gives `dtype`: floats that become integers do so before."""
    return x if dtype is None or is_inexact(dtype) else astype(x, dtype)


# -- a linear recurrence -------------------------------------------------------------------------


def shifted(c: Any, first: Any, axis: int) -> Any:
    """`first`, then c without its last element."""
    return concat([first, slice_axis(c, axis, 0, -1)], axis=axis)


def backwards(a: Any, b: Any, axis: int) -> Any:
    """c with c[i] = b[i] + a[i+1] c[i+1]: the transpose of the recurrence in b."""
    turned = flip(a, axis=axis)
    after = shifted(turned, slice_axis(turned, axis, 0, 1), axis)
    return flip(recurrence(after, flip(b, axis=axis), axis=axis), axis=axis)


def _before(c: Any, axis: int) -> Any:
    """c[i-1], 0 for the first."""
    return shifted(c, zeros_like(slice_axis(c, axis, 0, 1)), axis)


def _recurrence_vjp(g: Any, c: Any, a: Any, _b: Any, *, axis: int) -> tuple:
    g = backwards(conjugated(a), g, axis)
    return g * conjugated(_before(c, axis)), g


def _recurrence_jvp(tangents: list, c: Any, a: Any, _b: Any, *, axis: int) -> Any:
    ta, tb = tangents
    if ta is not None:
        moved = ta * _before(c, axis)
        tb = moved if tb is None else tb + moved
    return recurrence(a, tb, axis=axis)


# c[i] = a[i] c[i-1] + b[i] along an axis, c[-1] = 0.
recurrence = general(
    "recurrence",
    impl=lambda xp, a, b, *, axis: xp.affine_scan(a, b, axis),
    vjp=_recurrence_vjp,
    jvp=_recurrence_jvp,
)


# -- sums ----------------------------------------------------------------------------------------


def _sum_adjoint(g: Any, _x: Any, *, axis: int, include_initial: bool, **_: Any) -> Any:
    g = slice_axis(g, axis, 1, None) if include_initial else g
    turned = flip(g, axis=axis)
    return flip(_cumulative_sum(turned, axis=axis, dtype=None, include_initial=False), axis=axis)


_cumulative_sum = linear(
    "cumulative_sum",
    impl=lambda xp, x, *, axis, dtype, include_initial: xp.cumulative_sum(
        x, axis=axis, dtype=xp.native(dtype), include_initial=include_initial
    ),
    adjoint=_sum_adjoint,
)


def cumulative_sum(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Any:
    """Sums of the first elements along `axis`, which a 1-D array may leave out; with
    `include_initial` the empty sum comes first."""
    place = scan_axis("cumulative_sum", x, axis)
    return _cumulative_sum(
        cast_first(x, dtype), axis=place, dtype=dtype, include_initial=include_initial
    )


# -- products ------------------------------------------------------------------------------------


def _products_before(y: Any, axis: int, include_initial: bool) -> Any:
    """For each factor the product of those before it, out of the cumulative products."""
    if include_initial:
        return slice_axis(y, axis, 0, -1)
    return shifted(y, ones_like(slice_axis(y, axis, 0, 1)), axis)


def _prod_vjp(g: Any, y: Any, x: Any, *, axis: int, include_initial: bool, **_: Any) -> Any:
    """The derivative of y[i] by x[j] is the product before j times that from j+1 to i. The
    second, weighted with g and summed over i, satisfies c[j] = g[j] + x[j+1] c[j+1]."""
    before = _products_before(y, axis, include_initial)
    g = slice_axis(g, axis, 1, None) if include_initial else g
    return conjugated(before) * backwards(conjugated(x), g, axis)


def _prod_jvp(tangents: list, y: Any, x: Any, *, axis: int, include_initial: bool, **_: Any) -> Any:
    t = recurrence(x, tangents[0] * _products_before(y, axis, include_initial), axis=axis)
    if not include_initial:
        return t
    return concat([zeros_like(slice_axis(y, axis, 0, 1)), t], axis=axis)


_cumulative_prod = general(
    "cumulative_prod",
    impl=lambda xp, x, *, axis, dtype, include_initial: xp.cumulative_prod(
        x, axis=axis, dtype=xp.native(dtype), include_initial=include_initial
    ),
    vjp=_prod_vjp,
    jvp=_prod_jvp,
)


def cumulative_prod(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Any:
    """Products of the first elements along `axis`, which a 1-D array may leave out; with
    `include_initial` the empty product comes first. The derivative is exact, however many
    factors are zero."""
    place = scan_axis("cumulative_prod", x, axis)
    return _cumulative_prod(
        cast_first(x, dtype), axis=place, dtype=dtype, include_initial=include_initial
    )


def vander(x: Any, /, N: int | None = None, increasing: bool = False) -> Any:
    """The matrix of powers of a 1-D x, shape (len(x), N), the highest first unless
    `increasing`; N is len(x) if not given."""
    if an_array("vander", x).ndim != 1:
        raise ValueError(f"vander: x must be 1-D; got shape {tuple(x.shape)}")
    rows = x.shape[0]
    columns = rows if N is None else operator.index(N)
    factors = broadcast_to(reshape(x, (rows, 1)), (rows, max(columns - 1, 0)))
    powers = cumulative_prod(factors, axis=1, include_initial=True)
    powers = slice_axis(powers, 1, 0, columns)
    return powers if increasing else flip(powers, axis=1)


# -- exponential sums ----------------------------------------------------------------------------


def _log_weights(y: Any, x: Any, axis: int) -> tuple[Any, Any]:
    """exp(y[i-1] - y[i]) and exp(x[i] - y[i]), both at most 1 since y grows; 0 where all
    elements so far are -inf."""
    safe = where(y == -math.inf, 0, y)
    before = shifted(y, slice_axis(y, axis, 0, 1), axis)
    return exp(before - safe), exp(x - safe)


def _logcumsumexp_vjp(g: Any, y: Any, x: Any, *, axis: int) -> Any:
    decay, share = _log_weights(y, x, axis)
    return share * backwards(decay, g, axis)


def _logcumsumexp_jvp(tangents: list, y: Any, x: Any, *, axis: int) -> Any:
    decay, share = _log_weights(y, x, axis)
    return recurrence(decay, share * tangents[0], axis=axis)


_logcumsumexp = general(
    "logcumsumexp",
    impl=lambda xp, x, *, axis: xp.logcumsumexp(x, axis),
    vjp=_logcumsumexp_vjp,
    jvp=_logcumsumexp_jvp,
)


def logcumsumexp(x: Any, /, *, axis: int | None = None) -> Any:
    """log(cumulative_sum(exp(x))) along `axis`, without overflow; -inf, with derivative 0,
    where all elements so far are -inf."""
    return _logcumsumexp(x, axis=scan_axis("logcumsumexp", x, axis))


# -- differences ---------------------------------------------------------------------------------


def diff(x: Any, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Any:
    """Each element less the one before it along `axis`, n times over; of truths, whether it is
    another. `prepend` and `append` are joined to x first, unless n is 0; a number stands for one
    such element.

    Raises ValueError for a negative n.
    """
    place = one_axis("diff", x, axis)
    if n < 0:
        raise ValueError(f"diff: n must not be negative; got {n}")
    if n == 0:
        return x
    ends = [_end(x, part, place) for part in (prepend, append)]
    parts = [part for part in (ends[0], x, ends[1]) if part is not None]
    y = concat(parts, axis=place) if len(parts) > 1 else x
    less = not_equal if same_dtype(y.dtype, bool) else subtract
    for _ in range(n):
        y = less(slice_axis(y, place, 1, None), slice_axis(y, place, 0, -1))
    return y


def _end(x: Any, part: Any, axis: int) -> Any:
    """What stands before or after x along an axis: an array of as many axes."""
    if part is None:
        return None
    shape = tuple(1 if i == axis else n for i, n in enumerate(x.shape))
    if not hasattr(part, "shape"):
        nothing = cumulative_sum(reshape(x, (-1,))[:0], include_initial=True)
        part = reshape(part + nothing, ())  # where x is, of the dtype that both promote to
    return broadcast_to(part, shape) if part.ndim == 0 else part
