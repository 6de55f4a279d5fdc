"""NumPy's reductions and scans, with `dtype`, `out`, `initial`, `where` and `ddof`."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff import errors
from autodiff.core import bottom
from autodiff.numpy_face.lifting import array, arrays, converted, given, implements, into
from autodiff.ops import elementwise as e
from autodiff.ops import reductions as r
from autodiff.ops import scans, statistics
from autodiff.ops.creation import full_like, ones_like
from autodiff.ops.extras import floating, fmax, fmin
from autodiff.ops.manipulation import (
    atleast_1d,
    broadcast_to,
    concat,
    count,
    expand_dims,
    normalize_axis,
    one_axis,
    reshape,
    slice_axis,
)

NO = np._NoValue


def begun(y: Any, initial: Any, join: Callable) -> Any:
    """A reduction joined with its initial value, if there is one; the dtype stays."""
    return converted(join(y, initial), y.dtype) if given(initial) else y


def flag(keepdims: Any) -> bool:
    return bool(keepdims) if given(keepdims) else False


def chosen(a: Any, where: Any, other: Any) -> Any:
    """a with `other` in place of what a reduction leaves out."""
    if where is NO or where is True:
        return a
    a, where = arrays(a, where)
    return e.where(e.not_equal(where, False), a, other)


@implements("sum")
def sum(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = NO,
    initial: Any = NO, where: Any = NO,
) -> Any:  # fmt: skip
    """The sum over `axis`, of the elements `where`, plus `initial`."""
    a = chosen(array(a), where, 0)
    y = r.sum(a, axis=axis, dtype=dtype, keepdims=flag(keepdims))
    return into("sum", out, begun(y, initial, e.add))


@implements("prod")
def prod(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = NO,
    initial: Any = NO, where: Any = NO,
) -> Any:  # fmt: skip
    """The product over `axis`, of the elements `where`, times `initial`."""
    a = chosen(array(a), where, 1)
    y = r.prod(a, axis=axis, dtype=dtype, keepdims=flag(keepdims))
    return into("prod", out, begun(y, initial, e.multiply))


def extreme(name: str, reduce: Callable, join: Callable) -> Callable:
    def function(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO, initial: Any = NO,
        where: Any = NO,
    ) -> Any:  # fmt: skip
        a = array(a)
        if where is not NO and where is not True and not given(initial):
            raise ValueError(f"numpy.{name}: where needs an initial value")
        a = converted(chosen(a, where, initial), a.dtype)
        if given(initial) and count(a, normalize_axis(name, a, axis)) == 0:
            y = full_like(r.sum(a, axis=axis, keepdims=flag(keepdims)), initial)
            return into(name, out, y)
        y = reduce(a, axis=axis, keepdims=flag(keepdims))
        return into(name, out, begun(y, initial, join))

    function.__name__, function.__doc__ = name, f"The {name}imum over `axis`; ties share."
    return function


max = implements("max", "amax")(extreme("max", r.max, e.maximum))
min = implements("min", "amin")(extreme("min", r.min, e.minimum))


@implements("all")
def all(a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO, *, where: Any = NO) -> Any:
    """Whether every element over `axis` is true."""
    return into("all", out, r.all(chosen(array(a), where, 1), axis=axis, keepdims=flag(keepdims)))


@implements("any")
def any(a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO, *, where: Any = NO) -> Any:
    """Whether some element over `axis` is true."""
    return into("any", out, r.any(chosen(array(a), where, 0), axis=axis, keepdims=flag(keepdims)))


@implements("argmax")
def argmax(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = NO) -> Any:
    """The index of the first largest element; of the flattened array without an axis."""
    return into("argmax", out, r.argmax(array(a), axis=axis, keepdims=flag(keepdims)))


@implements("argmin")
def argmin(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = NO) -> Any:
    """The index of the first smallest element; of the flattened array without an axis."""
    return into("argmin", out, r.argmin(array(a), axis=axis, keepdims=flag(keepdims)))


# -- moments -------------------------------------------------------------------------------------


def taking_part(a: Any, where: Any, axis: Any) -> Any:
    """How many elements a reduction with `where` counts."""
    ones = broadcast_to(e.where(e.not_equal(where, False), ones_like(a), 0), a.shape)
    return r.sum(ones, axis=axis, keepdims=True)


@implements("mean")
def mean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = NO, *,
    where: Any = NO,
) -> Any:  # fmt: skip
    """The arithmetic mean over `axis`, of the elements `where`."""
    a = floating(converted(array(a), dtype))
    if where is NO or where is True:
        y = r.mean(a, axis=axis, keepdims=flag(keepdims))
        return into("mean", out, converted(y, dtype))
    a, where = arrays(a, where)
    y = r.sum(chosen(a, where, 0), axis=axis, keepdims=True) / taking_part(a, where, axis)
    return into("mean", out, converted(dropped(y, a, axis, keepdims), dtype))


def dropped(y: Any, a: Any, axis: Any, keepdims: Any) -> Any:
    """A reduction of a that has kept its axes, without them."""
    if flag(keepdims):
        return y
    axes = normalize_axis("mean", a, axis)
    return reshape(y, tuple(n for i, n in enumerate(a.shape) if i not in axes))


def moment(name: str, reduce: Callable, root: bool) -> Callable:
    def function(
        a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0,
        keepdims: Any = NO, *, where: Any = NO, mean: Any = NO, correction: Any = NO,
    ) -> Any:  # fmt: skip
        a = floating(converted(array(a), dtype))
        ddof = correction if given(correction) else ddof
        if (where is NO or where is True) and not given(mean):
            y = reduce(a, axis=axis, correction=ddof, keepdims=flag(keepdims))
            return into(name, out, y)
        return into(name, out, spread(a, axis, ddof, keepdims, where, mean, root))

    kind = "standard deviation" if root else "variance"
    function.__name__ = name
    function.__doc__ = f"The {kind} over `axis`, divided by n - ddof."
    return function


def spread(
    a: Any, axis: Any, ddof: float, keepdims: Any, where: Any, mean_: Any, root: bool
) -> Any:
    """Variance or standard deviation of some elements, or about a given mean."""
    a, where = arrays(a, True if where is NO else where)
    centre = mean_ if given(mean_) else mean(a, axis, keepdims=True, where=where)
    squares = e.real((a - centre) * e.conjugated(a - centre))
    axes = normalize_axis("var", a, axis)
    if where is True:
        among, freedom = None, builtins.max(count(a, axes) - ddof, 0)
    else:
        among = e.not_equal(where, False)
        squares = e.where(among, squares, 0)
        freedom = e.clip(e.real(taking_part(a, where, axis)) - ddof, 0)
    y = r.sum(squares, axis=axes, keepdims=True) / freedom
    if root:
        y = r.root_of_variance(y, not given(mean_) and r.all_equal(a, axes, True, among))
    return dropped(y, a, axis, keepdims)


std = implements("std")(moment("std", r.std, root=True))
var = implements("var")(moment("var", r.var, root=False))


@implements("average")
def average(
    a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = NO
) -> Any:
    a, weights = arrays(a, weights)
    return statistics.average(a, axis, weights, returned, keepdims=flag(keepdims))


@implements("cov")
def cov(
    m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None,
    fweights: Any = None, aweights: Any = None, *, dtype: Any = None,
) -> Any:  # fmt: skip
    m, y, fweights, aweights = arrays(m, y, fweights, aweights)
    return statistics.cov(m, y, rowvar, bias, ddof, fweights, aweights, dtype=dtype)


# -- scans ---------------------------------------------------------------------------------------


def scan(name: str, find: Callable, what: str) -> Callable:
    def function(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        a = array(a)
        if axis is None:
            a, axis = reshape(a, (-1,)), 0
        return into(name, out, find(a, axis=axis, dtype=dtype))

    function.__name__ = name
    function.__doc__ = f"{what} of the first elements along `axis`, or of the flattened array."
    return function


cumsum = implements("cumsum")(scan("cumsum", scans.cumulative_sum, "Sums"))
cumprod = implements("cumprod")(scan("cumprod", scans.cumulative_prod, "Products"))


def cumulative(name: str, find: Callable) -> Callable:
    def function(
        x: Any, /, *, axis: int | None = None, dtype: Any = None, out: Any = None,
        include_initial: bool = False,
    ) -> Any:  # fmt: skip
        x = atleast_1d(array(x))
        return into(name, out, find(x, axis=axis, dtype=dtype, include_initial=include_initial))

    function.__name__, function.__doc__ = name, find.__doc__
    return function


implements("cumulative_sum")(cumulative("cumulative_sum", scans.cumulative_sum))
implements("cumulative_prod")(cumulative("cumulative_prod", scans.cumulative_prod))


def running(name: str, join: Callable) -> Callable:
    """The scan of an associative function of two arrays in doubling steps (Hillis and Steele
    1986)."""

    def function(a: Any, axis: int = 0) -> Any:
        place, step = one_axis(name, a, axis), 1
        while step < a.shape[place]:
            later = join(slice_axis(a, place, step, None), slice_axis(a, place, 0, -step))
            a = concat([slice_axis(a, place, 0, step), later], axis=place)
            step *= 2
        return a

    return function


# -- without NaN ---------------------------------------------------------------------------------
# What `where` leaves out becomes NaN, which these leave out.


def without_nan(name: str, join: Callable | None) -> Callable:
    """A reduction that passes over NaN, and takes an initial value to `join`."""

    def function(
        a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = NO,
        initial: Any = NO, where: Any = NO, **kwargs: Any,
    ) -> Any:  # fmt: skip
        a = chosen(converted(array(a), dtype), where, math.nan)
        y = getattr(statistics, name)(a, axis=axis, keepdims=flag(keepdims), **kwargs)
        return into(name, out, join(y, initial) if join and given(initial) else y)

    function.__name__ = name
    return function


implements("nansum")(without_nan("nansum", e.add))
implements("nanprod")(without_nan("nanprod", e.multiply))


def nan_extreme(name: str, join: Callable) -> None:
    reduce = without_nan(name, join)

    def function(a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO, **rest: Any) -> Any:
        return reduce(a, axis, None, out, keepdims, **rest)

    implements(name)(function)


nan_extreme("nanmax", fmax)
nan_extreme("nanmin", fmin)
implements("nanmean")(without_nan("nanmean", None))


def nan_moment(name: str) -> None:
    reduce = without_nan(name, None)

    def function(
        a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0,
        keepdims: Any = NO, *, where: Any = NO, correction: Any = NO,
    ) -> Any:  # fmt: skip
        ddof = correction if given(correction) else ddof
        return reduce(a, axis, dtype, out, keepdims, where=where, ddof=ddof)

    implements(name)(function)


nan_moment("nanstd")
nan_moment("nanvar")


def nan_place(name: str, find: Callable, worst: float) -> None:
    def function(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = NO) -> Any:
        lost = e.isnan(a)
        nothing = bottom(all(lost, axis))
        if isinstance(nothing, (np.ndarray, np.generic)) and nothing.any():  # known at once
            raise ValueError(f"numpy.{name}: {errors.describe(a)} has a slice of NaN only")
        return find(e.where(lost, worst, a), axis, out, keepdims=keepdims)

    implements(name)(function)


nan_place("nanargmax", argmax, -math.inf)
nan_place("nanargmin", argmin, math.inf)


@implements("apply_over_axes")
def apply_over_axes(func: Callable, a: Any, axes: Any) -> Any:
    for axis in axes if isinstance(axes, (tuple, list)) else (axes,):
        place = one_axis("apply_over_axes", a, axis)
        y = func(a, place)
        a = y if y.ndim == a.ndim else expand_dims(y, place)
    return a
