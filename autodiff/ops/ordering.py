"""Order and search: sorting, gathering by index, sets, counting, choosing by condition.

Sorted values are a gather through the stable permutation, so ties have the derivative of the
order in which they stood. What depends on values only through their order (indices, counts)
is constant.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

from autodiff.core import NUMBERS, is_complex, is_constant
from autodiff.kinds import is_operand, linear, nondiff
from autodiff.ops.creation import full_like, ones_like
from autodiff.ops.elementwise import equal, greater, imag, minimum, not_equal, real, where
from autodiff.ops.indexing import HOLE, _getitem
from autodiff.ops.manipulation import (
    Axis,
    an_array,
    an_operand,
    astype,
    concat,
    flip,
    normalize_axis,
    one_axis,
    reshape,
    stack,
)
from autodiff.ops.reductions import all, any, max, min
from autodiff.ops.scans import cumulative_sum, diff
from backends.base import dtype_name, is_inexact, same_dtype

__all__ = [
    "argsort",
    "argwhere",
    "bincount",
    "compress",
    "count_nonzero",
    "digitize",
    "extract",
    "flatnonzero",
    "isin",
    "nonzero",
    "searchsorted",
    "select",
    "sort",
    "take",
    "take_along_axis",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
]


# -- sorting -------------------------------------------------------------------------------------


def _argsort_impl(xp: Any, x: Any, *, axis: int, descending: bool, stable: bool) -> Any:
    if not descending:
        return xp.argsort(x, axis=axis, stable=stable)
    order = xp.argsort(xp.flip(x, axis=axis), axis=axis, stable=stable)
    return x.shape[axis] - 1 - xp.flip(order, axis=axis)


def _sort_impl(xp: Any, x: Any, *, axis: int, descending: bool, stable: bool) -> Any:
    y = xp.sort(x, axis=axis, stable=stable)
    return xp.flip(y, axis=axis) if descending else y


_argsort = nondiff("argsort", impl=_argsort_impl)
_sort = nondiff("sort", impl=_sort_impl)


def argsort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """The indices that sort x along `axis`; equal elements keep their order if `stable`."""
    place = one_axis("argsort", x, axis)
    return _argsort(x, axis=place, descending=descending, stable=stable)


def sort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """x sorted along `axis`, NaN last (first if `descending`). The derivative follows the
    elements to where they go, equal ones in the order in which they stood."""
    place = one_axis("sort", x, axis)
    if is_constant(x) or not is_operand(x):
        return _sort(x, axis=place, descending=descending, stable=stable)
    # One argsort serves the value and the derivative; to sort alone is faster by a third.
    order = _argsort(x, axis=place, descending=descending, stable=True)
    return _take_along_axis(x, order, axis=place)


# -- gathering -----------------------------------------------------------------------------------


def take(x: Any, indices: Any, /, *, axis: int | None = None) -> Any:
    """The elements of x at `indices` along `axis`, which a 1-D x may leave out: axis `axis` of
    x is replaced by the axes of `indices`. Indices that repeat sum in the derivative.

    Raises ValueError for no axis where x is not 1-D, and TypeError for indices that are no
    array of integers.
    """
    if axis is None and an_array("take", x).ndim != 1:
        raise ValueError(
            f"take: x has shape {tuple(x.shape)}; say along which axis (axis=None is for 1-D)"
        )
    check_indices("take", indices)
    place = one_axis("take", x, 0 if axis is None else axis)
    return _getitem(x, indices, key=(*[slice(None)] * place, HOLE))


def check_indices(name: str, indices: Any) -> None:
    dtype = getattr(indices, "dtype", None)
    if dtype is None or is_inexact(dtype) or same_dtype(dtype, bool):
        kind = type(indices).__name__ if dtype is None else dtype
        raise TypeError(f"{name}: indices must be an array of integers; got {kind}")


_take_along_axis = linear(
    "take_along_axis",
    impl=lambda xp, x, indices, *, axis: xp.take_along_axis(x, indices, axis=axis),
    adjoint=lambda g, x, indices, *, axis: _scatter_along_axis(
        g, indices, axis=axis, shape=tuple(x.shape)
    ),
)
_scatter_along_axis = linear(
    "scatter_along_axis",
    adjoint=lambda g, _values, indices, *, axis, **_: _take_along_axis(g, indices, axis=axis),
)


def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Any:
    """Elements of x at `indices` along `axis`; off that axis x and `indices`, of as many axes,
    broadcast together. Indices that repeat sum in the derivative."""
    check_indices("take_along_axis", indices)
    if an_array("take_along_axis", x).ndim != indices.ndim:
        raise ValueError(
            f"take_along_axis: x has shape {tuple(x.shape)} and indices {tuple(indices.shape)}; "
            "they must have the same number of axes"
        )
    return _take_along_axis(x, indices, axis=one_axis("take_along_axis", x, axis))


# -- searching -----------------------------------------------------------------------------------


def _nonzero_impl(xp: Any, x: Any) -> tuple:
    return tuple(xp.nonzero(x))


def _searchsorted_impl(xp: Any, x1: Any, x2: Any, *sorter: Any, side: str) -> Any:
    if type(x2) in NUMBERS:
        exact = isinstance(x2, int) or is_inexact(x1.dtype)
        dtype = x1.dtype if exact else xp.native("float64")
        x2 = xp.asarray(x2, dtype=dtype, device=xp.device_of(x1))
    return xp.searchsorted(x1, x2, side=side, sorter=sorter[0] if sorter else None)


_nonzero = nondiff("nonzero", impl=_nonzero_impl)
_count_nonzero = nondiff("count_nonzero")
_searchsorted = nondiff("searchsorted", impl=_searchsorted_impl)


def nonzero(x: Any, /) -> tuple[Any, ...]:
    """The indices of the elements that are not zero: one array for each axis of x."""
    if an_array("nonzero", x).ndim == 0:
        raise ValueError("nonzero: a 0-d array has no axes to give indices for")
    return _nonzero(x)


def argwhere(x: Any, /) -> Any:
    """The indices of the elements that are not zero, one row for each: (count, x.ndim)."""
    x = an_array("argwhere", x)
    return stack(nonzero(x), axis=1) if x.ndim else argwhere(reshape(x, (1,)))[:, :0]


def flatnonzero(x: Any, /) -> Any:
    """The indices, in the flattened array, of the elements that are not zero."""
    return nonzero(reshape(an_array("flatnonzero", x), (-1,)))[0]


def count_nonzero(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """How many elements over `axis` are not zero."""
    return _count_nonzero(x, axis=normalize_axis("count_nonzero", x, axis), keepdims=keepdims)


def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Any:
    """Where in the ascending 1-D x1 the elements of x2 belong: i with x1[i-1] < x2 <= x1[i],
    or x1[i-1] <= x2 < x1[i] for side "right". `sorter` holds the indices that sort x1.

    Raises ValueError for another side, or an x1 that is not 1-D.
    """
    if side not in ("left", "right"):
        raise ValueError(f'searchsorted: side must be "left" or "right"; got {side!r}')
    if an_array("searchsorted", x1).ndim != 1:
        raise ValueError(f"searchsorted: x1 must be 1-D; got shape {tuple(x1.shape)}")
    return _searchsorted(x1, x2, *(() if sorter is None else (sorter,)), side=side)


def digitize(x: Any, bins: Any, right: bool = False) -> Any:
    """The number i of the bin of each element. Ascending `bins`: bins[i-1] <= x < bins[i], with
    `right` bins[i-1] < x <= bins[i]. Descending: bins[i-1] > x >= bins[i], with `right`
    bins[i-1] >= x > bins[i]."""
    if an_array("digitize", bins, 2).ndim != 1:
        raise ValueError(f"digitize: bins must be 1-D; got shape {tuple(bins.shape)}")
    x, side = an_operand("digitize", x), "left" if right else "right"
    up = searchsorted(bins, x, side=side)
    count = bins.shape[0]
    if count < 2:
        return up
    down = count - searchsorted(flip(bins), x, side=side)
    return where(greater(bins[0], bins[count - 1]), down, up)


def isin(x1: Any, x2: Any, /, *, invert: bool = False) -> Any:
    """Whether each element of x1 is (with `invert`, is not) among those of x2."""
    x1, x2 = an_operand("isin", x1), an_operand("isin", x2, 2)
    if type(x2) in NUMBERS:
        return not_equal(x1, x2) if invert else equal(x1, x2)
    if type(x1) in NUMBERS:
        return all(not_equal(x2, x1)) if invert else any(equal(x2, x1))
    if math.prod(x2.shape) == 0:
        return full_like(x1, invert, dtype="bool")
    known = _sort(reshape(x2, (-1,)), axis=0, descending=False, stable=False)
    place = minimum(searchsorted(known, x1), known.shape[0] - 1)
    return (not_equal if invert else equal)(take(known, place, axis=0), x1)


# -- sets ----------------------------------------------------------------------------------------


class UniqueAll(NamedTuple):
    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class UniqueCounts(NamedTuple):
    values: Any
    counts: Any


class UniqueInverse(NamedTuple):
    values: Any
    inverse_indices: Any


def _ascending(flat: Any) -> Any:
    """The stable order that sorts elements of any dtype: argsort itself need only know real
    numbers. Complex ones go by their real parts, then by their imaginary ones."""
    if is_complex(flat):
        order = argsort(imag(flat))
        return take(order, argsort(take(real(flat), order)))
    return argsort(astype(flat, "uint8") if dtype_name(flat.dtype) == "bool" else flat)


def _starts(ascending: Any) -> Any:
    """Whether each of sorted elements is the first of its value. NaN differ from one another."""
    first = ones_like(ascending[:1], dtype="bool")
    return concat([first, not_equal(ascending[1:], ascending[:-1])])


def _distinct(name: str, x: Any) -> tuple[Any, Any]:
    """The elements of x in ascending order, and where among them each value begins."""
    flat = reshape(an_array(name, x), (-1,))
    plain = not is_complex(flat) and dtype_name(flat.dtype) != "bool"
    ascending = sort(flat) if plain else take(flat, _ascending(flat))
    return ascending, nonzero(_starts(ascending))[0]


def unique_all(x: Any, /) -> UniqueAll:
    """The different elements of x in ascending order, the index of the first of each in the
    flattened x, for each element of x the place of its value among them, and how often each
    occurs. The values are differentiable: a gather of the first occurrences."""
    flat = reshape(an_array("unique_all", x), (-1,))
    order = _ascending(flat)
    first = _starts(take(flat, order))
    starts = nonzero(first)[0]
    indices = take(order, starts)
    rank = cumulative_sum(astype(first, "int64")) - 1
    inverse = _scatter_along_axis(rank, order, axis=0, shape=tuple(flat.shape))
    counts = diff(starts, append=flat.shape[0])
    return UniqueAll(take(flat, indices), indices, reshape(inverse, tuple(x.shape)), counts)


def unique_counts(x: Any, /) -> UniqueCounts:
    """The different elements of x in ascending order, and how often each occurs."""
    ascending, starts = _distinct("unique_counts", x)
    return UniqueCounts(take(ascending, starts), diff(starts, append=ascending.shape[0]))


def unique_inverse(x: Any, /) -> UniqueInverse:
    """The different elements of x in ascending order, and for each element of x the place of
    its value among them."""
    found = unique_all(an_array("unique_inverse", x))
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Any, /) -> Any:
    """The different elements of x in ascending order."""
    return take(*_distinct("unique_values", x))


# -- choosing and counting -----------------------------------------------------------------------


def select(condlist: Sequence, choicelist: Sequence, default: Any = 0) -> Any:
    """Of the choices the one whose condition is the first that is true, else `default`."""
    if len(condlist) != len(choicelist) or not condlist:
        raise ValueError(
            f"select: needs as many choices as conditions, one at least; got {len(condlist)} "
            f"conditions and {len(choicelist)} choices"
        )
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = where(condition, choice, result)
    return result


def extract(condition: Any, arr: Any) -> Any:
    """The elements of the flattened `arr` where the flattened `condition` is not zero."""
    return compress(an_array("extract", condition), an_array("extract", arr, 2))


def compress(condition: Any, a: Any, axis: int | None = None) -> Any:
    """The slices of `a` along `axis` (None: elements of the flattened array) where the
    flattened `condition`, which may be shorter, is not zero."""
    condition, a = an_array("compress", condition), an_array("compress", a, 2)
    place = 0 if axis is None else one_axis("compress", a, axis)
    source = reshape(a, (-1,)) if axis is None else a
    return take(source, flatnonzero(condition), axis=place)


def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    """How often each of 0, 1, 2 ... occurs in the 1-D x of integers, or the sum of `weights`
    over where it does, by which the result is differentiable. The length, the largest element
    and one, is read from the device.

    Raises ValueError for an x that is not 1-D or has a negative element, and TypeError for one
    that is not of integers.
    """
    check_indices("bincount", x)
    if x.ndim != 1:
        raise ValueError(f"bincount: x must be 1-D; got shape {tuple(x.shape)}")
    if x.shape[0] and int(min(x)) < 0:
        raise ValueError(f"bincount: x must not be negative; its least element is {int(min(x))}")
    largest = int(max(x)) if x.shape[0] else -1
    length = builtins.max(largest + 1, operator.index(minlength))
    values = ones_like(x, dtype="int64") if weights is None else weights
    return _scatter_along_axis(values, x, axis=0, shape=(length,))
