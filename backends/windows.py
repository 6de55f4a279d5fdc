"""Windows that slide over the last two axes of images (..., channels, height, width), in
array-API calls: convolution as products of matrices, with its two adjoints, and pooling.

The columns of an image are its windows as the columns of a matrix ("im2col", Chellapilla, Puri
and Simard 2006); a convolution is the matrix of the weights times that of the columns.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

Array = Any
Pair = tuple[int, int]


class Window(NamedTuple):
    """A window of `kernel` elements, `dilation` apart, that moves in steps of `stride` over an
    image with so many zeros ((top, bottom), (left, right)) around it."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: tuple[Pair, Pair]

    def reach(self, axis: int) -> int:
        """How many elements of the image a window extends over."""
        return (self.kernel[axis] - 1) * self.dilation[axis] + 1

    def padded(self, size: Pair) -> Pair:
        height, width = (n + sum(p) for n, p in zip(size, self.padding, strict=True))
        return height, width

    def places(self, size: Pair) -> Pair:
        """How many windows there are in an image of this size."""
        height, width = (
            max((n - self.reach(axis)) // self.stride[axis] + 1, 0)
            for axis, n in enumerate(self.padded(size))
        )
        return height, width

    def taps(self, places: Pair) -> Iterator[tuple]:
        """For each element of the kernel, the key of where it lies in all windows."""
        for offsets in itertools.product(*map(range, self.kernel)):
            slices = []
            for axis, offset in enumerate(offsets):
                start, step = offset * self.dilation[axis], self.stride[axis]
                slices.append(slice(start, start + step * (places[axis] - 1) + 1, step))
            yield (..., *slices)


# -- convolution ---------------------------------------------------------------------------------


def padded(xp: Any, x: Array, window: Window) -> Array:
    """Images (n, c, h, w) with their zeros around them."""
    (top, bottom), (left, right) = window.padding
    if not any((top, bottom, left, right)):
        return x
    wide = xp.zeros(
        (*x.shape[:2], *window.padded(x.shape[2:])), dtype=x.dtype, device=xp.device_of(x)
    )
    wide[inner(x.shape[2:], window)] = x
    return wide


def inner(size: Pair, window: Window) -> tuple:
    """The key of an image in its padded self."""
    starts = [before for before, _ in window.padding]
    return (..., *[slice(at, at + n) for at, n in zip(starts, size, strict=True)])


def columns(xp: Any, x: Array, window: Window, groups: int) -> Array:
    """The windows of images (n, c, h, w) as matrices (n, groups, c/groups * kernel, places)."""
    places = window.places(x.shape[2:])
    wide = padded(xp, x, window)
    taps = xp.stack([wide[key] for key in window.taps(places)], axis=2)
    rows = x.shape[1] // groups * math.prod(window.kernel)
    return xp.reshape(taps, (x.shape[0], groups, rows, math.prod(places)))


def convolve(xp: Any, x: Array, w: Array, window: Window, groups: int) -> Array:
    """Images (n, c, h, w) by weights (o, c/groups, *kernel): (n, o, *places)."""
    filters = w.shape[0]
    matrix = xp.reshape(w, (groups, filters // groups, -1))
    product = xp.matmul(matrix, columns(xp, x, window, groups))
    return xp.reshape(product, (x.shape[0], filters, *window.places(x.shape[2:])))


def convolve_input(xp: Any, g: Array, w: Array, size: Pair, window: Window, groups: int) -> Array:
    """The adjoint of `convolve` by images of this size: (n, o, *places) to (n, c, *size)."""
    count, filters = g.shape[:2]
    channels = w.shape[1] * groups
    matrix = xp.matrix_transpose(xp.reshape(w, (groups, filters // groups, -1)))
    spread = xp.matmul(
        matrix, xp.reshape(g, (count, groups, filters // groups, math.prod(g.shape[2:])))
    )
    spread = xp.reshape(spread, (count, channels, math.prod(window.kernel), *g.shape[2:]))
    wide = xp.zeros(
        (count, channels, *window.padded(size)), dtype=spread.dtype, device=xp.device_of(g)
    )
    for tap, key in enumerate(window.taps(g.shape[2:])):
        wide[key] = wide[key] + spread[:, :, tap, ...]
    return wide[inner(size, window)]


def convolve_weight(xp: Any, x: Array, g: Array, window: Window, groups: int) -> Array:
    """The adjoint of `convolve` by the weights: (n, c, h, w), (n, o, *places) to
    (o, c/groups, *kernel)."""
    filters = g.shape[1]
    rows = xp.reshape(g, (g.shape[0], groups, filters // groups, math.prod(g.shape[2:])))
    products = xp.matmul(rows, xp.matrix_transpose(columns(xp, x, window, groups)))
    shape = (filters, x.shape[1] // groups, *window.kernel)
    return xp.reshape(xp.sum(products, axis=0), shape)


# -- pooling -------------------------------------------------------------------------------------


def pool_sum(xp: Any, x: Array, window: Window) -> Array:
    """The sum of each window of (..., h, w)."""
    taps = (x[key] for key in window.taps(window.places(x.shape[-2:])))
    return functools.reduce(xp.add, taps)


def pool_repeat(xp: Any, g: Array, size: Pair, window: Window) -> Array:
    """The adjoint of `pool_sum`: each element of `g` (..., *places) to all of its window."""
    out = xp.zeros((*g.shape[:-2], *size), dtype=g.dtype, device=xp.device_of(g))
    for key in window.taps(g.shape[-2:]):
        out[key] = out[key] + g
    return out


def pool_max(xp: Any, x: Array, window: Window) -> Array:
    """The greatest element of each window of (..., h, w)."""
    taps = (x[key] for key in window.taps(window.places(x.shape[-2:])))
    return functools.reduce(xp.maximum, taps)


def pool_spread(xp: Any, g: Array, x: Array, y: Array, window: Window) -> Array:
    """`g` (..., *places) to where the greatest elements of (..., h, w) are, in equal shares."""
    keys = list(window.taps(y.shape[-2:]))
    out = xp.zeros(x.shape, dtype=g.dtype, device=xp.device_of(g))
    share = g / ties(xp, x, y, keys, g.dtype)
    for key in keys:
        out[key] = out[key] + xp.where(x[key] == y, share, xp.zeros_like(share))
    return out


def pool_gather(xp: Any, t: Array, x: Array, y: Array, window: Window) -> Array:
    """The mean of `t` (..., h, w) over the greatest elements of each window of x."""
    keys = list(window.taps(y.shape[-2:]))
    chosen = (xp.where(x[key] == y, t[key], xp.zeros_like(t[key])) for key in keys)
    return functools.reduce(xp.add, chosen) / ties(xp, x, y, keys, t.dtype)


def ties(xp: Any, x: Array, y: Array, keys: list, dtype: Any) -> Array:
    """How many elements of each window are its greatest; 1 where NaN equals none."""
    counts = functools.reduce(xp.add, (xp.astype(x[key] == y, dtype) for key in keys))
    return xp.maximum(counts, xp.ones_like(counts))
