"""NumPy's functions of sampled signals: padding, convolution, interpolation, slopes, areas.

Two ops, `pad` with zeros and `correlate_valid`, whose adjoints are made of each other; the rest
is composed of public functions.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from autodiff import errors
from autodiff.core import NUMBERS
from autodiff.kinds import linear, multilinear
from autodiff.ops.creation import full_like, ones_like
from autodiff.ops.elementwise import (
    abs,
    clip,
    conjugated,
    floor,
    isfinite,
    remainder,
    round,
    stop_gradient,
    where,
)
from autodiff.ops.extras import floating
from autodiff.ops.indexing import getitem
from autodiff.ops.manipulation import (
    an_array,
    an_operand,
    astype,
    broadcast_to,
    concat,
    flip,
    normalize_axis,
    one_axis,
    reshape,
    slice_axis,
)
from autodiff.ops.ordering import argsort, searchsorted
from autodiff.ops.reductions import max, mean, min, sum
from autodiff.ops.scans import cumulative_sum, diff
from backends.base import is_inexact

__all__ = ["convolve", "correlate", "gradient", "interp", "pad", "trapezoid", "unwrap"]

Pair = tuple[Any, Any]


def along(x: Any, axis: int, ndim: int) -> Any:
    """A 1-D x as an array of `ndim` axes that lies along one of them."""
    return reshape(x, (x.shape[0], *(1,) * (ndim - axis - 1)))


# -- padding -------------------------------------------------------------------------------------


def _pad_impl(
    xp: Any, x: Any, *, axis: tuple[int, ...], widths: tuple[tuple[int, int], ...]
) -> Any:
    for place, width in zip(axis, widths, strict=True):
        shapes = [tuple(w if i == place else n for i, n in enumerate(x.shape)) for w in width]
        device = xp.device_of(x)
        before, after = (xp.zeros(s, dtype=x.dtype, device=device) for s in shapes)
        x = xp.concat([before, x, after], axis=place)
    return x


def _crop(g: Any, x: Any, *, axis: tuple[int, ...], widths: tuple[tuple[int, int], ...]) -> Any:
    for place, (before, _) in zip(axis, widths, strict=True):
        g = slice_axis(g, place, before, before + x.shape[place])
    return g


_pad = linear("pad", impl=_pad_impl, adjoint=_crop)


def pad(
    array: Any,
    pad_width: int | Sequence | Mapping,
    mode: str = "constant",
    *,
    constant_values: Any = 0,
    end_values: Any = 0,
    stat_length: Any = None,
    reflect_type: str = "even",
) -> Any:
    """`array` with elements before and after along its axes.

    Parameters
    ----------
    pad_width : how many: one number; (before, after); one such pair for each axis; or a dict
        from axes to pairs or numbers.
    mode : what they are. "constant": `constant_values`; "empty": zeros; "edge"; "reflect",
        "symmetric" (the edge not repeated, or repeated; `reflect_type` "odd" continues the
        slope); "wrap"; "linear_ramp" from `end_values` to the edge; "maximum", "mean",
        "minimum" of the `stat_length` elements next to the edge (None: of all).

    The three values are given as `pad_width` is. Differentiable by `array`, and by
    `constant_values` and `end_values` that are Tensors.

    Raises
    ------
    ValueError
        An unknown mode, a negative width, an empty axis in a mode that takes values from it.
    """
    if mode == "empty":
        mode, constant_values = "constant", 0
    if mode not in EXTENSIONS:
        modes = ", ".join(sorted((*EXTENSIONS, "empty")))
        raise ValueError(f"pad: mode must be one of {modes}; got {mode!r}")
    if reflect_type not in ("even", "odd"):
        raise ValueError(f'pad: reflect_type must be "even" or "odd"; got {reflect_type!r}')
    widths = pad_widths(an_array("pad", array), pad_width)
    values = {"constant": constant_values, "linear_ramp": end_values}.get(mode, stat_length)
    options = pairs("pad", values, array.ndim)
    padded = [axis for axis, width in enumerate(widths) if width != (0, 0)]
    if mode == "constant" and is_zero(constant_values):
        chosen = tuple(widths[axis] for axis in padded)
        return _pad(array, axis=tuple(padded), widths=chosen)
    for axis in padded:
        if array.shape[axis] == 0 and mode != "constant":
            raise ValueError(f"pad: axis {axis} of {errors.describe(array)} has no edge to take")
        option = reflect_type if mode in ("reflect", "symmetric") else options[axis]
        before, after = EXTENSIONS[mode](array, axis, widths[axis], option)
        array = concat([*before, array, *after], axis=axis)
    return array


def is_zero(value: Any) -> bool:
    return type(value) in NUMBERS and value == 0


def pad_widths(array: Any, pad_width: Any) -> list[tuple[int, int]]:
    """(before, after) for every axis."""
    if isinstance(pad_width, Mapping):
        named = {one_axis("pad", array, a): w for a, w in pad_width.items()}
        found = [pairs("pad", named.get(a, 0), 1)[0] for a in range(array.ndim)]
    else:
        found = pairs("pad", pad_width, array.ndim)
    widths = [(operator.index(before), operator.index(after)) for before, after in found]
    if any(w < 0 for width in widths for w in width):
        raise ValueError(f"pad: pad_width must not be negative; got {pad_width!r}")
    return widths


def pairs(name: str, value: Any, ndim: int) -> list[Pair]:
    """What NumPy takes for (before, after) on every axis: one value, a pair for all axes, or
    for each axis a pair or a value in a list of its own."""
    if not isinstance(value, (tuple, list)):
        return [(value, value)] * ndim
    nested = any(isinstance(item, (tuple, list)) for item in value)
    rows = [tuple(row) for row in value] if nested else [tuple(value)]
    if len(rows) not in (1, ndim) or any(len(row) not in (1, 2) for row in rows):
        raise ValueError(
            f"{name}: {value!r} is not a value, a (before, after), or {ndim} of them, one for "
            "each axis"
        )
    full = [row * 2 if len(row) == 1 else row for row in rows]
    return full * ndim if len(full) == 1 else full


def _constant(x: Any, axis: int, width: Pair, values: Pair) -> tuple[list, list]:
    nothing = sum(slice_axis(x, axis, 0, 0), axis=axis, dtype=x.dtype, keepdims=True)
    before, after = (
        repeated(full_like(nothing, value), axis, number)
        for value, number in zip(values, width, strict=True)
    )
    return before, after


def repeated(edge: Any, axis: int, number: int) -> list:
    shape = tuple(number if i == axis else n for i, n in enumerate(edge.shape))
    return [broadcast_to(edge, shape)]


def ends(x: Any, axis: int) -> Pair:
    """The first and the last slice."""
    length = x.shape[axis]
    return slice_axis(x, axis, 0, 1), slice_axis(x, axis, length - 1, length)


def _edge(x: Any, axis: int, width: Pair, _: Any) -> tuple[list, list]:
    first, last = ends(x, axis)
    return repeated(first, axis, width[0]), repeated(last, axis, width[1])


def _wrap(x: Any, axis: int, width: Pair, _: Any) -> tuple[list, list]:
    length = x.shape[axis]

    def pieces(start: int, stop: int) -> list:
        return [slice_axis(x, axis, low, high) for _, low, high in periods(start, stop, length)]

    return pieces(-width[0], 0), pieces(length, length + width[1])


def periods(start: int, stop: int, length: int) -> list[tuple[int, int, int]]:
    """The positions start ... stop-1 cut at multiples of `length`: (which, from, to)."""
    cut = range(start // length, -(-stop // length))
    return [
        (k, builtins.max(start - k * length, 0), builtins.min(stop - k * length, length))
        for k in cut
    ]


def _mirror(x: Any, axis: int, width: Pair, kind: str, step: int) -> tuple[list, list]:
    """x continued past its ends by itself forwards and backwards in turns, `step` apart. Odd:
    a mirror image in the end's value, so that every other turn rises by twice last - first."""
    length = x.shape[axis]
    if step == 0:
        return _edge(x, axis, width, None)
    first, last = ends(x, axis)

    def turn(k: int, low: int, high: int) -> Any:
        if k % 2 == 0:
            piece = slice_axis(x, axis, low, high)
            return piece if kind == "even" else piece + k * (last - first)
        piece = flip(slice_axis(x, axis, length - high, length - low), axis=axis)
        return piece if kind == "even" else 2 * last - piece + (k - 1) * (last - first)

    def pieces(start: int, stop: int) -> list:
        return [turn(*period) for period in periods(start, stop, step)]

    return pieces(-width[0], 0), pieces(length, length + width[1])


def _reflect(x: Any, axis: int, width: Pair, kind: str) -> tuple[list, list]:
    return _mirror(x, axis, width, kind, x.shape[axis] - 1)


def _symmetric(x: Any, axis: int, width: Pair, kind: str) -> tuple[list, list]:
    return _mirror(x, axis, width, kind, x.shape[axis])


def _linear_ramp(x: Any, axis: int, width: Pair, values: Pair) -> tuple[list, list]:
    def ramp(edge: Any, number: int, value: Any) -> Any:
        edge = floating(edge)
        (ones,) = repeated(ones_like(edge), axis, number)
        steps = cumulative_sum(ones, axis=axis) - 1
        y = value + (edge - value) * (steps / builtins.max(number, 1))
        return y if is_inexact(x.dtype) else astype(floor(y), x.dtype)

    rising, falling = map(ramp, ends(x, axis), width, values)
    return [rising], [flip(falling, axis=axis)]


def _statistic(reduce: Any) -> Any:
    def extend(x: Any, axis: int, width: Pair, lengths: Pair) -> tuple[list, list]:
        size = x.shape[axis]
        first, last = (size if n is None else builtins.min(n, size) for n in lengths)
        if builtins.min(first, last) < 1:
            raise ValueError(f"pad: stat_length must be 1 or more; got {lengths}")
        parts = slice_axis(x, axis, 0, first), slice_axis(x, axis, size - last, size)
        values = [reduce(part, axis=axis, keepdims=True) for part in parts]
        before, after = (repeated(v, axis, w) for v, w in zip(values, width, strict=True))
        return before, after

    return extend


def _mean(x: Any, *, axis: int, keepdims: bool) -> Any:
    if is_inexact(x.dtype):
        return mean(x, axis=axis, keepdims=keepdims)
    return astype(round(mean(floating(x), axis=axis, keepdims=keepdims)), x.dtype)


# What goes before and after x along an axis: f(x, axis, (before, after), option).
EXTENSIONS = {
    "constant": _constant,
    "edge": _edge,
    "linear_ramp": _linear_ramp,
    "maximum": _statistic(max),
    "mean": _statistic(_mean),
    "minimum": _statistic(min),
    "reflect": _reflect,
    "symmetric": _symmetric,
    "wrap": _wrap,
}


# -- convolution ---------------------------------------------------------------------------------


def _full(g: Any, v: Any) -> Any:
    """sum_k g[k] v[i-k] for every i where there is a term: the adjoint of sliding v along."""
    reach = v.shape[-1] - 1
    wide = _pad(g, axis=(g.ndim - 1,), widths=((reach, reach),))
    return _correlate_valid(wide, flip(v, axis=-1))


_correlate_valid = multilinear(
    "correlate_valid",
    adjoints=(lambda g, _a, v: _full(g, v), lambda g, a, _v: _correlate_valid(a, g)),
)


def _correlate(name: str, a: Any, v: Any, mode: str) -> Any:
    """sum_n a[k+n] v[n] for every k that the mode has, v not longer than a."""
    size = v.shape[0]
    before = {"valid": 0, "same": size // 2, "full": size - 1}
    if mode not in before:
        raise ValueError(f'{name}: mode must be "full", "same" or "valid"; got {mode!r}')
    after = {"valid": 0, "same": size - 1 - size // 2, "full": size - 1}
    if mode != "valid":
        a = _pad(a, axis=(0,), widths=((before[mode], after[mode]),))
    return _correlate_valid(a, v)


def one_dimensional(name: str, **arrays: Any) -> list:
    """0-d and 1-D arrays with one axis."""
    for position, (label, x) in enumerate(arrays.items(), 1):
        if an_array(name, x, position).ndim > 1 or math.prod(x.shape) == 0:
            raise ValueError(
                f"{name}: {label} must be 1-D and not empty; got shape {tuple(x.shape)}"
            )
    return [reshape(x, (-1,)) for x in arrays.values()]


def convolve(a: Any, v: Any, /, mode: str = "full") -> Any:
    """sum_m a[m] v[k-m] of 1-D a and v, of lengths n and m: for all k where there is a term
    ("full": n + m - 1), where all of the shorter one lies in the longer ("valid"), or the
    middle max(n, m) of the full ones ("same"). Summed directly, not by way of transforms."""
    a, v = one_dimensional("convolve", a=a, v=v)
    a, v = (v, a) if v.shape[0] > a.shape[0] else (a, v)
    return _correlate("convolve", a, flip(v), mode)


def correlate(a: Any, v: Any, /, mode: str = "valid") -> Any:
    """sum_n a[n+k] conj(v[n]) of 1-D a and v, for the k of `convolve`'s modes."""
    a, v = one_dimensional("correlate", a=a, v=v)
    v = conjugated(v)
    if v.shape[0] > a.shape[0]:
        return flip(_correlate("correlate", v, a, mode))
    return _correlate("correlate", a, v, mode)


# -- interpolation -------------------------------------------------------------------------------


def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: float | None = None
) -> Any:
    """The values at x of the broken line through (xp, fp), xp ascending. Beyond its ends
    `left` and `right`, by default the end values; with a `period`, points that repeat, in any
    order. Differentiable by x (at a point: the slope to its right, at the last to its left),
    xp, fp, left and right.

    Raises
    ------
    ValueError
        xp and fp are not 1-D of one length, or empty; a period of 0.
    """
    x, xp, fp = an_operand("interp", x), an_array("interp", xp, 2), an_array("interp", fp, 3)
    if xp.ndim != 1 or tuple(xp.shape) != tuple(fp.shape) or xp.shape[0] == 0:
        raise ValueError(
            f"interp: xp and fp must be 1-D, of one length and not empty; got shapes "
            f"{tuple(xp.shape)} and {tuple(fp.shape)}"
        )
    xp, fp = floating(xp), floating(fp)
    x = full_like(getitem(xp, 0), x) if type(x) in NUMBERS else floating(x)
    if period is not None:
        x, xp, fp = _repeat(x, xp, fp, period)
        left = right = None
    count = xp.shape[0]
    first, last = getitem(xp, 0), getitem(xp, count - 1)
    left = getitem(fp, 0) if left is None else left
    right = getitem(fp, count - 1) if right is None else right
    below, above = x < first, x > last
    if count == 1:
        y = broadcast_to(getitem(fp, 0), tuple(x.shape))
    else:
        y = _on_line(where(below | above, first, x), xp, fp)  # nothing infinite in what is masked
    return where(below, left, where(above, right, y))


def _on_line(x: Any, xp: Any, fp: Any) -> Any:
    after = clip(searchsorted(xp, stop_gradient(x), side="right"), 1, xp.shape[0] - 1)
    start, end = getitem(xp, after - 1), getitem(xp, after)
    low, high = getitem(fp, after - 1), getitem(fp, after)
    step = start == end  # of points at one place, which are the last ones, the last counts
    share = where(step, 1, (x - start) / where(step, 1, end - start))
    at_point = (share == 0) | (share == 1)
    alone = at_point & ~(isfinite(low) & isfinite(high))  # the other end does not matter
    line = (1 - share) * where(alone, 0, low) + share * where(alone, 0, high)
    return where(alone, where(share == 0, low, high), line)


def _repeat(x: Any, xp: Any, fp: Any, period: float) -> tuple[Any, Any, Any]:
    """x within one period, and the points of that period with one more at either end."""
    if is_zero(period):
        raise ValueError("interp: period must not be 0")
    period = builtins.abs(period)
    xp = remainder(xp, period)
    order = argsort(xp)
    xp, fp = getitem(xp, order), getitem(fp, order)
    wide = [slice_axis(xp, 0, -1, None) - period, xp, slice_axis(xp, 0, 0, 1) + period]
    values = [slice_axis(fp, 0, -1, None), fp, slice_axis(fp, 0, 0, 1)]
    return remainder(x, period), concat(wide), concat(values)


# -- areas and slopes ----------------------------------------------------------------------------


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    """The area under y along `axis` by the trapezoidal rule, at the points x (1-D, or of y's
    shape) or `dx` apart. Differentiable by all three."""
    place = one_axis("trapezoid", y, axis)
    y = floating(y)
    if x is not None:
        x = floating(x)
        dx = along(diff(x), place, y.ndim) if x.ndim == 1 else diff(x, axis=place)
    heights = slice_axis(y, place, 1, None) + slice_axis(y, place, 0, -1)
    return sum(dx * heights, axis=place) / 2


def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Slopes of f along `axis` (None: all) by second-order differences inside and
    `edge_order`-th at the ends: one array, or a tuple with one for each axis.

    `varargs` is the distance of the samples, or for each axis its distance or the 1-D array of
    its points. Differentiable by f and by those. Unequal distances: the formula of Fornberg
    (1988) for three points.

    Raises
    ------
    TypeError
        A number of `varargs` that is neither 1 nor that of the axes.
    ValueError
        An axis of fewer than edge_order + 1 elements.
    """
    places = normalize_axis("gradient", f, axis)
    if edge_order not in (1, 2):
        raise ValueError(f"gradient: edge_order must be 1 or 2; got {edge_order}")
    f = floating(f)
    steps = _steps("gradient", f, varargs or (1.0,), places)
    found = [_slopes(f, place, h, edge_order) for place, h in zip(places, steps, strict=True)]
    return found[0] if len(found) == 1 else tuple(found)


def _steps(name: str, f: Any, varargs: tuple, places: tuple[int, ...]) -> list:
    """For each axis the distance of its samples, or the distances as an array along it."""
    if len(varargs) == 1 and getattr(varargs[0], "ndim", 0) == 0:
        varargs = varargs * len(places)
    if len(varargs) != len(places):
        raise TypeError(f"{name}: {len(varargs)} distances for {len(places)} axes")
    steps = []
    for place, h in zip(places, varargs, strict=True):
        if getattr(h, "ndim", 0) == 0:
            steps.append(h)
        elif tuple(h.shape) == (f.shape[place],):
            steps.append(along(diff(floating(h)), place, f.ndim))
        else:
            raise ValueError(
                f"{name}: the points along axis {place} of {errors.describe(f)} must be 1-D and "
                f"as many as its elements; got shape {tuple(h.shape)}"
            )
    return steps


def _slopes(f: Any, axis: int, h: Any, edge_order: int) -> Any:
    length = f.shape[axis]
    if length < edge_order + 1:
        raise ValueError(
            f"gradient: edge_order {edge_order} needs {edge_order + 1} elements along axis "
            f"{axis}; got shape {tuple(f.shape)}"
        )

    def at(i: int) -> Any:
        return slice_axis(f, axis, i % length, i % length + 1)

    def step(i: int) -> Any:
        if getattr(h, "ndim", 0) == 0:
            return h
        return slice_axis(h, 0, i % (length - 1), i % (length - 1) + 1)

    if edge_order == 1:
        first = (at(1) - at(0)) / step(0)
        last = (at(-1) - at(-2)) / step(-1)
    else:
        first = _one_sided(at(0), at(1), at(2), step(0), step(1))
        last = _one_sided(at(-1), at(-2), at(-3), -step(-1), -step(-2))
    before, after = slice_axis(f, axis, 0, -2), slice_axis(f, axis, 2, None)
    if getattr(h, "ndim", 0) == 0:
        inside = (after - before) / (2 * h)
    else:
        h1, h2 = slice_axis(h, 0, 0, -1), slice_axis(h, 0, 1, None)
        middle = slice_axis(f, axis, 1, -1)
        left, right = (middle - before) / h1, (after - middle) / h2
        inside = (h2 * left + h1 * right) / (h1 + h2)
    return astype(concat([first, inside, last], axis=axis), f.dtype, copy=False)


def _one_sided(f0: Any, f1: Any, f2: Any, h1: Any, h2: Any) -> Any:
    """The slope at the first of three points with distances h1 and h2."""
    near, far = (f1 - f0) / h1, (f2 - f1) / h2
    return near + h1 * (near - far) / (h1 + h2)


# -- phases --------------------------------------------------------------------------------------


def unwrap(
    p: Any, discont: float | None = None, axis: int = -1, *, period: float = 2 * math.pi
) -> Any:
    """p with multiples of `period` added along `axis` so that no step is greater than half of
    it; smaller steps than `discont` stay. The derivative is 1."""
    place = one_axis("unwrap", p, axis)
    whole = isinstance(period, int) and not is_inexact(p.dtype)
    p = p if whole else floating(p)
    steps = stop_gradient(diff(p, axis=place))
    high = period // 2 if whole else period / 2
    wrapped = remainder(steps + high, period) - high
    if not whole or period % 2 == 0:  # half a period up may be half a period down
        wrapped = where((wrapped == -high) & (steps > 0), high, wrapped)
    limit = period / 2 if discont is None else discont
    turns = where(abs(floating(steps)) < limit, 0, wrapped - steps)
    start = slice_axis(p, place, 0, 1)
    return concat(
        [start, slice_axis(p, place, 1, None) + cumulative_sum(turns, axis=place)], axis=place
    )
