"""NumPy's functions of choice and order: where, select, clip, sort, unique; and of single
elements where they are no ufuncs.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.core import is_complex
from autodiff.dtypes import finfo
from autodiff.numpy_face.lifting import (
    array,
    arrays,
    as_array,
    converted,
    given,
    implements,
    into,
    sequence,
    tensors,
)
from autodiff.ops import creation, indexing, ordering, scans, special
from autodiff.ops import elementwise as e
from autodiff.ops import manipulation as m
from autodiff.ops import reductions as r
from autodiff.ops.extras import floating
from backends.base import is_inexact

NO = np._NoValue


@implements("where")
def where(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    if x is None and y is None:
        return ordering.nonzero(condition)
    condition, x, y = arrays(condition, x, y)
    return e.where(e.not_equal(condition, False), x, y)


@implements("select")
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    count = len(condlist)
    parts = arrays(*condlist, *choicelist, default)
    return ordering.select(parts[:count], parts[count:-1], parts[-1])


@implements("choose")
def choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    parts = sequence(choices) if isinstance(choices, (list, tuple)) else list(m.unstack(choices))
    a, *parts = arrays(a, *parts)
    a = as_array(a, parts[0])
    if mode != "raise":
        a = a % len(parts) if mode == "wrap" else e.clip(a, 0, len(parts) - 1)
    elif bool(e.logical_or(e.less(a, 0), e.greater_equal(a, len(parts))).any()):
        raise ValueError(f"choose: a must be in 0 ... {len(parts) - 1}")
    y = parts[0]
    for number, part in enumerate(parts[1:], 1):
        y = e.where(e.equal(a, number), part, y)
    shape = m.broadcast_shapes(tuple(a.shape), tuple(y.shape))
    return into("choose", out, m.broadcast_to(y, shape))


@implements("piecewise")
def piecewise(x: Any, condlist: Any, funclist: list, *args: Any, **kw: Any) -> Any:
    single = not isinstance(condlist, (list, tuple)) and np.ndim(condlist) == x.ndim
    conditions = [as_array(c, x) for c in ([condlist] if single else condlist)]
    if len(funclist) == len(conditions) + 1:
        none = conditions[0]
        for condition in conditions[1:]:
            none = e.logical_or(none, condition)
        conditions.append(e.logical_not(none))
    elif len(funclist) != len(conditions):
        raise ValueError(f"piecewise: {len(funclist)} functions for {len(conditions)} conditions")
    y = creation.zeros_like(x)
    for condition, function in zip(conditions, funclist, strict=True):
        place = condition if x.ndim else ...
        value = function(x[place], *args, **kw) if isinstance(function, Callable) else function
        y = e.where(condition, value, y) if not x.ndim else indexing.index_update(y, place, value)
    return y


@implements("clip")
def clip(
    a: Any, a_min: Any = NO, a_max: Any = NO, out: Any = None, *, min: Any = NO, max: Any = NO,
    **kwargs: Any,
) -> Any:  # fmt: skip
    """Limited to [min, max]."""
    if kwargs:
        raise TypeError(f"numpy.clip: {', '.join(kwargs)}= is not supported by autodiff")
    low, high = (v if given(v) else w for v, w in ((min, a_min), (max, a_max)))
    a, low, high = arrays(a, *[v if given(v) else None for v in (low, high)])
    return into("clip", out, e.clip(a, low, high))


@implements("round", "around")
def round(a: Any, decimals: int = 0, out: Any = None) -> Any:
    """To the nearest multiple of 10**-decimals; without a derivative."""
    scale = 10.0 ** builtins.abs(decimals)
    if decimals == 0 or (decimals > 0 and not is_inexact(a.dtype)):
        y = e.round(a)
    else:
        y = e.round(a * scale) / scale if decimals > 0 else e.round(a / scale) * scale
    return into("round", out, converted(y, a.dtype))


@implements("angle")
def angle(z: Any, deg: bool = False) -> Any:
    y = e.atan2(e.imag(z), e.real(z))
    return y * (180 / math.pi) if deg else y


@implements("real_if_close")
def real_if_close(a: Any, tol: float = 100) -> Any:
    if not is_complex(a):
        return a
    limit = finfo(a.dtype).eps * tol if tol > 1 else tol
    close = bool(r.all(e.less(e.abs(e.imag(a)), limit)))
    return e.real(a) if close else a


@implements("i0")
def i0(x: Any) -> Any:
    """In half precision, too, which SciPy's widens."""
    x = floating(x)
    return converted(special.i0(x), x.dtype)


@implements("isposinf")
def isposinf(x: Any, out: Any = None) -> Any:
    return into("isposinf", out, e.equal(x, math.inf))


@implements("isneginf")
def isneginf(x: Any, out: Any = None) -> Any:
    return into("isneginf", out, e.equal(x, -math.inf))


# -- order ---------------------------------------------------------------------------------------


def stable_only(name: str, order: Any) -> None:
    if order is not None:
        raise TypeError(f"numpy.{name}: order= is for arrays with fields, which autodiff has not")


@implements("sort")
def sort(
    a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Any:
    stable_only("sort", order)
    return ordering.sort(m.ravel(a), axis=0) if axis is None else ordering.sort(a, axis=axis)


@implements("argsort")
def argsort(
    a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Any:
    """The indices that sort along `axis`, or those of the flattened array."""
    stable_only("argsort", order)
    flat = axis is None or a.ndim == 0
    return ordering.argsort(m.ravel(a), axis=0) if flat else ordering.argsort(a, axis=axis)


@implements("partition")
def partition(
    a: Any, kth: Any, axis: int | None = -1, kind: str = "introselect", order: Any = None
) -> Any:
    """A sorted array is partitioned everywhere."""
    return sort(a, axis, order=order)


@implements("argpartition")
def argpartition(
    a: Any, kth: Any, axis: int | None = -1, kind: str = "introselect", order: Any = None
) -> Any:
    return argsort(a, axis, order=order)


@implements("unique")
def unique(
    ar: Any, return_index: bool = False, return_inverse: bool = False,
    return_counts: bool = False, axis: Any = None, *, equal_nan: bool = True, sorted: bool = True,
) -> Any:  # fmt: skip
    if axis is not None and ar.ndim != 1:
        raise TypeError("numpy.unique: axis= is supported by autodiff for 1-D arrays only")
    wanted = (return_index, return_inverse, return_counts)
    if not builtins.any(wanted):
        values = ordering.unique_values(ar)
        return values[: numbers_among(values) + 1] if equal_nan else values
    values, index, inverse, counts = ordering.unique_all(ar)
    numbers = numbers_among(values)
    if equal_nan and numbers < values.shape[0]:
        values, index = values[: numbers + 1], index[: numbers + 1]
        inverse = e.minimum(inverse, numbers)
        counts = m.concat([counts[:numbers], m.expand_dims(r.sum(counts[numbers:]), 0)])
    extra = [x for x, want in zip((index, inverse, counts), wanted, strict=True) if want]
    return (values, *extra)


def numbers_among(values: Any) -> int:
    """How many of sorted values are numbers: NaN are the last, each a value of its own."""
    return int(ordering.count_nonzero(e.equal(values, values)))


@implements("diff")
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = NO, append: Any = NO) -> Any:
    ends = [end if given(end) else None for end in (prepend, append)]
    a, before, after = arrays(array(a), *ends)
    return scans.diff(a, axis=axis, n=n, prepend=before, append=after)


@implements("union1d")
def union1d(ar1: Any, ar2: Any) -> Any:
    return unique(m.concat(sequence((ar1, ar2)), axis=None))


@implements("ediff1d")
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    """The differences of the flattened array, whose dtype also what stands at their ends has."""
    like = next(tensors((ary, to_begin, to_end)))
    ary = m.ravel(as_array(ary, like))
    before, after = (
        [] if end is None else [m.ravel(as_array(end, like))] for end in (to_begin, to_end)
    )
    for end in (*before, *after):
        if not np.can_cast(end.dtype, ary.dtype, casting="same_kind"):
            raise TypeError(
                f"numpy.ediff1d: to_begin or to_end is {end.dtype}, ary {ary.dtype}; "
                "casting='same_kind' does not allow that"
            )
    parts = (*before, scans.diff(ary), *after)
    return m.concat([converted(part, ary.dtype) for part in parts])
